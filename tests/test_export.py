"""A model leaves as a Hugging Face folder: judged first, whole or absent, and equal to the checkpoint."""

import importlib.util
import json
import os
import shutil
import signal
import stat
from pathlib import Path

import export as tool
import numpy as np
import pytest
from conftest import PROJECT
from exports import VARIANTS, files_of, judge, judged_copy, report_on, source_of, variant

from llm60_jax import checkpoint, generate
from llm60_jax.errors import DamageError, InputError, Interrupted, MachineError
from llm60_jax.evaluate.grammar import scoring, suite
from llm60_jax.export import agreement, exporting, huggingface
from llm60_jax.export.source import Options
from llm60_jax.generate import Choice, Request
from llm60_jax.machine import unfinished
from llm60_jax.machine.progress import silent
from llm60_jax.record import checkpoints

safetensors = pytest.importorskip("safetensors.numpy")
SafetensorError = pytest.importorskip("safetensors").SafetensorError
pytest.importorskip("tokenizers")

FILES = {
    "README.md", "config.json", "generation_config.json", "model.safetensors", "special_tokens_map.json",
    "tokenizer.json", "tokenizer.model", "tokenizer_config.json",
}  # fmt: skip


@pytest.fixture(scope="module")
def run(base, tmp_path_factory) -> Path:
    return judged_copy(base, tmp_path_factory)


@pytest.fixture(scope="module", params=VARIANTS)
def written(run, tmp_path_factory, request):
    """A source of each variant, and its folder."""
    source, folder = source_of(variant(run, request.param)), tmp_path_factory.mktemp(request.param)
    huggingface.write(source, folder)
    return source, folder


def export(run: Path, out: Path, *options: str) -> int:
    return tool.main([str(run), "--to", "huggingface", "--out", str(out), *options])


def expected_tensors(model, params) -> dict[str, np.ndarray]:
    """The arrays of a file, straight from the groups of parameters: what is shared is shared, factors multiply."""
    found = {"model.embed_tokens.weight": params["embedding"] * model.embedding_scale}

    def norm(place, scale, bias):
        found[f"{place}.weight"], found[f"{place}.bias"] = scale, bias

    norm("model.norm", params["norm"]["scale"], params["norm"]["bias"])
    for name, start, stop in model.named_stacks:
        own = params[name]
        attention = params.get(name.replace("blocks", "attention"), own.get("attention"))
        mlp = params.get(name.replace("blocks", "mlp"), own.get("mlp"))
        for i in range(stop - start):
            place, a, m = f"model.layers.{start + i}", i // model.share_attention, i // model.share_mlp
            norm(f"{place}.input_layernorm", own["attention_norm"]["scale"][i], own["attention_norm"]["bias"][i])
            norm(f"{place}.post_attention_layernorm", own["mlp_norm"]["scale"][i], own["mlp_norm"]["bias"][i])
            scaled = model.residual == "scaled"
            factors = [own[f"{part}_residual"]["factor"][i] if scaled else 1 for part in ("attention", "mlp")]
            D, F = model.dim, model.mlp_width
            qkv = attention["qkv"]["kernel"][a].T
            matrices = {f"self_attn.{name}_proj": qkv[n * D : n * D + D] for n, name in enumerate("qkv")}
            matrices["self_attn.o_proj"] = (attention["out"]["kernel"][a] * factors[0]).T
            up, down = mlp["up"]["kernel"][m].T, (mlp["down"]["kernel"][m] * factors[1]).T
            if model.mlp == "gelu":
                matrices |= {"mlp.c_fc": up, "mlp.c_proj": down}
                found |= {f"{place}.{name}.bias": np.zeros(len(matrix)) for name, matrix in matrices.items()}
            else:
                matrices |= {"mlp.gate_proj": up[:F], "mlp.up_proj": up[F:], "mlp.down_proj": down}
            found |= {f"{place}.{name}.weight": matrix for name, matrix in matrices.items()}
    if model.mlp == "swiglu" or model.embedding_scale != 1:
        found["lm_head.weight"] = params["embedding"]
    return found


def test_every_parameter_is_in_the_file_transposed(written):
    source, folder = written
    stored = safetensors.load_file(folder / huggingface.NAME)
    expected = expected_tensors(source.trained.model, source.trained.params)
    assert stored.keys() == expected.keys()
    for name, array in expected.items():
        assert stored[name].dtype == np.float32
        np.testing.assert_array_equal(stored[name], array, err_msg=name)


def test_what_is_read_back_is_the_checkpoint(written):
    source, folder = written
    lines = huggingface.verify(source, folder)
    assert lines[0] == f"model.safetensors: {len(list(source.weights.arrays()))} arrays are equal bit for bit"
    difference = float(lines[1].rpartition(" ")[2])
    is_folded = source.trained.model.residual == "scaled"
    assert difference < 1e-4 if is_folded else difference == 0
    assert lines[2].startswith("tokenizer.json: the ids of ")


@pytest.mark.parametrize("name", ["gelu", "all"])
def test_bfloat16_is_the_rounding_of_the_checkpoint(run, name, tmp_path):
    source = source_of(variant(run, name), "bfloat16")
    huggingface.write(source, tmp_path)
    assert "after rounding to bfloat16" in huggingface.verify(source, tmp_path)[0]
    size = 2 * sum(array.size for _, array in huggingface.tensors(source.trained.model, source.weights))
    assert 0 < (tmp_path / huggingface.NAME).stat().st_size - size < 20_000  # the header
    with pytest.raises(DamageError, match="is bfloat16, not float32"):
        huggingface.verify(source._replace(type="float32"), tmp_path)


def test_an_embedding_that_is_not_the_scaled_head_is_found(run, tmp_path):
    source = source_of(variant(run, "scaled embedding"))
    huggingface.write(source, tmp_path)
    changed(tmp_path, flipped("lm_head.weight"))
    with pytest.raises(DamageError, match=r"is not lm_head\.weight times 8"):
        huggingface.verify(source, tmp_path)
    changed(tmp_path, lambda arrays: arrays.pop("lm_head.weight"))
    with pytest.raises(DamageError, match=r"lm_head\.weight is missing"):
        huggingface.verify(source, tmp_path)


def changed(folder: Path, change) -> None:
    """Change the arrays of a written file."""
    arrays = safetensors.load_file(folder / huggingface.NAME)
    change(arrays)
    safetensors.save_file(arrays, folder / huggingface.NAME, metadata={"format": "pt"})


def flipped(name):
    def change(arrays):
        arrays[name].view(np.uint32).ravel()[7] ^= 1

    return change


def swapped(a, b):
    def change(arrays):
        arrays[a], arrays[b] = arrays[b], arrays[a]

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (flipped("model.layers.3.mlp.c_fc.weight"), r"blocks\.3\.up_OI differs from the checkpoint"),
        (flipped("model.layers.0.self_attn.q_proj.bias"), "q_proj.bias is not an array of this model"),
        (swapped("model.layers.1.self_attn.q_proj.weight", "model.layers.1.self_attn.k_proj.weight"), "query_OI"),
        (lambda arrays: arrays.pop("model.norm.bias"), "model.norm.bias is missing"),
        (lambda arrays: arrays.update(x=np.ones(1, np.float32)), "x is not an array of this model"),
    ],
)
def test_a_file_that_differs_is_refused(run, tmp_path, change, words):
    source = source_of(variant(run, "gelu"))
    huggingface.write(source, tmp_path)
    changed(tmp_path, change)
    with pytest.raises(DamageError, match=words):
        huggingface.verify(source, tmp_path)


def test_a_fault_of_the_plain_weights_shows_in_the_logits(run, tmp_path):
    """The file is what `weights` says; only the forward pass of the checkpoint itself tells that this is wrong."""
    source = source_of(variant(run, "scaled"))
    block = source.weights.blocks[2]
    wrong = [*source.weights.blocks]
    wrong[2] = block._replace(down_OI=block.down_OI * np.float32(1.01))
    source = source._replace(weights=source.weights._replace(blocks=tuple(wrong)))
    huggingface.write(source, tmp_path)
    with pytest.raises(DamageError, match="its logits differ from the checkpoint's by"):
        huggingface.verify(source, tmp_path)


def test_config_json(written):
    source, folder = written
    model = source.trained.model
    config = json.loads((folder / "config.json").read_text())
    rope = {"rope_type": "default", "rope_theta": model.rope_base}
    common = {
        "vocab_size": 360, "hidden_size": 32, "num_hidden_layers": 6, "num_attention_heads": model.heads,
        "num_key_value_heads": model.heads, "max_position_embeddings": 64, "initializer_range": 0.02,
        "attention_dropout": 0.0, "tie_word_embeddings": model.embedding_scale == 1, "use_cache": True,
        "bos_token_id": 2, "eos_token_id": 3,
        "pad_token_id": 0, "rope_theta": model.rope_base, "torch_dtype": "float32", "dtype": "float32",
    }  # fmt: skip
    if model.mlp == "gelu":
        assert config == common | {
            "architectures": ["Starcoder2ForCausalLM"], "model_type": "starcoder2", "intermediate_size": 64,
            "hidden_act": "gelu_pytorch_tanh", "norm_epsilon": 1e-5, "use_bias": True, "sliding_window": None,
            "residual_dropout": 0.0, "embedding_dropout": 0.0, "rope_parameters": rope,
        }  # fmt: skip
    else:
        assert config == common | {
            "architectures": ["StableLmForCausalLM"], "model_type": "stablelm", "intermediate_size": 40,
            "hidden_act": "silu", "layer_norm_eps": 1e-5, "use_qkv_bias": False, "qk_layernorm": False,
            "use_parallel_residual": False, "hidden_dropout": 0.0, "partial_rotary_factor": 1.0,
            "rope_parameters": rope | {"partial_rotary_factor": 1.0},
        }  # fmt: skip
    generation = json.loads((folder / "generation_config.json").read_text())
    assert generation == {
        "do_sample": True, "temperature": 0.8, "top_k": 40, "top_p": 1.0, "repetition_penalty": 1.0,
        "max_new_tokens": 32, "bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0,
    }  # fmt: skip


# --- The whole way ---------------------------------------------------------------------------------------------------


def test_a_run_becomes_a_folder(run, tmp_path, capsys):
    out = tmp_path / "new" / "place"
    assert export(run, out, "--licence", "CC-BY-SA-4.0", "--name", "Tiny one") == 0
    output = capsys.readouterr()
    contents = files_of(out)
    assert contents.keys() == FILES
    assert "model.safetensors: 63 arrays are equal bit for bit\n" in output.out
    assert output.out.endswith(f"{out}\n")
    assert "note:" not in output.out
    assert b'\nlicense: "cc-by-sa-4.0"\n' in contents["README.md"]
    assert b"\n# Tiny one\n" in contents["README.md"]
    trained = checkpoint.open_(run)
    params = huggingface.rebuilt(trained.model, safetensors.load_file(out / huggingface.NAME))
    ids = agreement.tokens(trained)
    own = agreement.logits(trained.model, trained.params, ids)
    assert np.array_equal(agreement.logits(trained.model, params, ids), own)
    assert os.listdir(out.parent) == ["place"]


def test_json_and_an_empty_folder(run, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    assert export(run / "phases" / "grammar", tmp_path / "out", "--json", "--dtype", "bfloat16") == 0
    result = json.loads(capsys.readouterr().out)
    assert result["files"].keys() == FILES
    assert result["folder"] == str(tmp_path / "out")
    assert result["to"] == "huggingface"
    assert result["notes"] == ["the licence of the weights is not stated; give one with --licence ID"]
    assert json.loads((tmp_path / "out" / "config.json").read_text())["dtype"] == "bfloat16"


def test_a_model_that_was_not_judged_does_not_leave(run, base, tmp_path, capsys):
    copy = tmp_path / "run"
    shutil.copytree(base, copy)
    out = tmp_path / "out"
    assert export(copy, out) == 3
    assert "python tools/check_privacy.py" in capsys.readouterr().err
    judge(copy / "phases" / "grammar", memorised=2)
    assert export(copy, out) == 3
    assert "refused: it has memorised 2 of 3" in capsys.readouterr().err
    assert os.listdir(tmp_path) == ["run"]
    judge(copy / "phases" / "grammar", memorised=2, override="all of it is *public*")
    assert export(copy, out) == 0
    assert "note: the privacy check refused this model" in capsys.readouterr().out
    card = (out / "README.md").read_text()
    assert "the risk was accepted.** The reason on record: all of it is \\*public\\*\n" in card
    assert "2 learnt by heart" in card


def test_the_place_must_be_free(run, tmp_path, capsys):
    for name, words in (("full", "is not empty"), ("file", "is a file"), ("run", "lies in the run run")):
        place = tmp_path / name
        if name == "file":
            place.touch()
        elif name == "full":
            place.mkdir()
            (place / "x").touch()
        else:
            place = run / "exported" / "x"
        assert export(run, place) == 2
        assert words in capsys.readouterr().err
    assert sorted(os.listdir(tmp_path)) == ["file", "full"]
    assert not (run / "exported").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--to", "huggingface", "--type", "f16"], "--type does not belong to --to huggingface; its option is --dtype"),
        (["--to", "huggingface", "--dtype", "float16"], "--dtype: 'float16' is none of float32, bfloat16"),
        (["--to", "huggingface", "--name", "a\nb"], "--name: 'a\\nb' must be one line"),
        (["--to", "huggingface", "--name", "a/b"], "--name: 'a/b' is a name and no path"),
        (["--to", "huggingface", "--licence", ".mit"], "--licence: '.mit' is no licence id"),
        (["--to", "huggingface", "--licence", "My own: words"], "--licence: 'My own: words' is no licence id"),
    ],
)
def test_options_that_do_not_fit_are_refused(run, tmp_path, capsys, options, words):
    assert tool.main([str(run), *options, "--out", str(tmp_path / "out")]) == 2
    assert words in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_no_room_and_no_permission(run, tmp_path, capsys, monkeypatch):
    with monkeypatch.context() as patch:
        usage = shutil.disk_usage(tmp_path)
        patch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=10**6))
        assert export(run, tmp_path / "out") == 5
    assert "and 1,000,000 are free; make room" in capsys.readouterr().err

    def full(*arguments, **settings):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(huggingface, "write_small_files", full)
    assert export(run, tmp_path / "deep" / "out") == 5
    error = capsys.readouterr().err
    assert f"{tmp_path}/deep/out: cannot be written: No space left on device; free some space" in error
    assert "partial" not in error
    assert not list(tmp_path.iterdir())


def test_an_error_of_a_check_is_no_error_of_writing(run, tmp_path):
    def check(source, folder):
        raise OSError("no such file of a tokenizer")

    with pytest.raises(MachineError, match="out: cannot be read back: no such file"):
        exporting.export(run, "huggingface", tmp_path / "out", Options("float32"), silent, [check])
    assert not list(tmp_path.iterdir())


def test_safetensors_on_a_full_disk(run, tmp_path, monkeypatch, capsys):
    def full(tensors, path, metadata):
        raise SafetensorError(f"Error while serializing: {path}: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(safetensors, "save_file", full)
    assert export(run, tmp_path / "out") == 5
    error = capsys.readouterr().err
    assert "No space left on device (os error 28); free some space" in error
    assert "partial" not in error


def test_a_place_that_is_taken_meanwhile(run, tmp_path, monkeypatch, capsys):
    real = exporting._finish

    def finish(scratch):
        real(scratch)
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "x").touch()

    monkeypatch.setattr(exporting, "_finish", finish)
    assert export(run, tmp_path / "out") == 2
    assert "out is in use; name a folder that does not exist" in capsys.readouterr().err
    assert os.listdir(tmp_path) == ["out"]


def test_loops_of_links_and_disks_are_refused(run, tmp_path, monkeypatch, capsys):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert export(run, tmp_path / "loop" / "out") == 2
    assert "goes through a loop of links" in capsys.readouterr().err
    monkeypatch.setattr("os.path.ismount", lambda path: path == tmp_path / "disk")
    assert export(run, tmp_path / "disk") == 2
    assert "is the top of a disk" in capsys.readouterr().err


def test_only_a_tie_excuses_another_text(run, monkeypatch):
    trained = checkpoint.open_(run)

    def tied(logits_TV, ids, begin=2):
        monkeypatch.setattr(agreement, "logits", lambda *arguments: np.array([logits_TV], np.float32))
        return tool._is_tie(trained, ids, begin)

    rows = [[0, 0, 0], [1, 5, 4], [2, 9, 9.00005], [0, 0, 0]]  # after BOS, the prompt, and two written tokens
    assert tied(rows, [2, 0, 1, 1])
    assert not tied(rows, [2, 0, 2, 1])  # the first other token is no tie
    assert tied(rows, [2, 0, 1, 2])  # the likeliest ones by this pass, but ours may have been rounded
    rows[2][2] = 8
    assert not tied(rows, [2, 0, 1, 1])


def test_numbers_that_are_not_finite(run, tmp_path, monkeypatch, capsys):
    real = checkpoint.open_

    def poisoned(path):
        trained = real(path)
        params = {**trained.params, "embedding": np.array(trained.params["embedding"])}
        params["embedding"][5, 5] = np.inf
        return trained._replace(params=params)

    monkeypatch.setattr(checkpoint, "open_", poisoned)
    assert export(run, tmp_path / "out") == 4
    assert "embedding_VD has numbers that are not finite" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_damaged_on_the_way_never_gets_its_place(run, tmp_path, monkeypatch, capsys):
    real = huggingface.write

    def write(source, folder):
        real(source, folder)
        changed(folder, flipped("model.layers.0.self_attn.v_proj.weight"))

    monkeypatch.setattr(huggingface, "write", write)
    assert export(run, tmp_path / "new" / "out") == 4
    assert "blocks.0.value_OI differs from the checkpoint" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("step", [1, 2, 3, 4])
def test_an_interrupted_export_leaves_nothing(run, tmp_path, step):
    def track(items, description, total=None, remaining=None):
        for number, item in enumerate(items):
            if description.startswith("export") and number == step:
                raise Interrupted("interrupted by SIGINT", signal.SIGINT)
            yield item

    with pytest.raises(Interrupted):
        exporting.export(run, "huggingface", tmp_path / "new" / "out", Options("float32"), track)
    assert not list(tmp_path.iterdir())


def test_what_a_killed_export_left_is_removed(run, tmp_path):
    left = tmp_path / unfinished.name_of("out", "abcdefgh")
    left.mkdir()
    (left / "model.safetensors").write_bytes(b"half")
    assert export(run, tmp_path / "out") == 0
    assert os.listdir(tmp_path) == ["out"]


def test_files_have_the_modes_of_ordinary_files(run, tmp_path):
    before = os.umask(0o027)
    try:
        assert export(run, tmp_path / "out") == 0
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o750
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "out").iterdir()} == {0o640}


def test_no_file_names_a_path_or_the_user(run, tmp_path, monkeypatch):
    monkeypatch.setattr("getpass.getuser", lambda: "jdoe7")
    override = f"jdoe7 says: see {run}/notes.txt and ~/x; {Path.home()}/a b"
    judge(run / "phases" / "grammar", memorised=1, override=override)
    try:
        assert export(run, tmp_path / "out") == 0
    finally:
        judge(run / "phases" / "grammar")
    trained = checkpoint.open_(run)
    secrets = [str(run), str(run.parent), str(tmp_path), trained.config.data_dir, "jdoe7", str(PROJECT), "~/x"]
    secrets += [str(Path.home()) + "/", trained.config.phase[0].sources[0].path]
    for name, content in files_of(tmp_path / "out").items():
        assert [secret for secret in secrets if secret.encode() in content] == [], name


def test_a_missing_package_is_named(run, tmp_path, monkeypatch, capsys):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if "token" in name else real(name))
    assert export(run, tmp_path / "out") == 2
    assert "--to huggingface needs the package tokenizers: pip install -e '.[export]'" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_that_changes_after_it_was_judged_does_not_leave(run, tmp_path, monkeypatch, capsys):
    real = checkpoint.open_

    def another(path):
        trained = real(path)
        return trained._replace(meta={**trained.meta, "state_sha256": "0" * 64})

    monkeypatch.setattr(checkpoint, "open_", another)
    assert export(run, tmp_path / "out") == 4
    assert "changed during the export" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_is_found_through_a_link_and_dots(run, tmp_path, monkeypatch):
    (tmp_path / "link").symlink_to(run / "phases" / "grammar")
    for path in (tmp_path / "link", run / "phases" / "grammar" / ".." / "grammar"):
        assert checkpoints.find(path) == run / "phases" / "grammar"
    monkeypatch.chdir(run / "phases" / "grammar")
    assert checkpoints.find(Path()) == run / "phases" / "grammar"
    monkeypatch.chdir(run.parent)
    relative = Path(run.name, "phases", "grammar")
    assert checkpoints.find(relative) == relative


def test_a_privacy_report_without_figures_is_named(run, tmp_path, capsys):
    path = run / "privacy" / "grammar.json"
    before = path.read_text()
    tree = report_on(run / "phases" / "grammar").to_tree() | {"override": None, "trained_on": None}
    path.write_text(json.dumps(tree))
    try:
        assert export(run, tmp_path / "out") == 4
    finally:
        path.write_text(before)
    assert "the privacy report of this checkpoint cannot be read" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


# --- transformers ----------------------------------------------------------------------------------------------------


@pytest.fixture
def loaded(written):
    """A written source, and transformers' model and tokenizer from its folder."""
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("torch")
    source, folder = written
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, local_files_only=True).float().eval()
    return source, model, transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of torch and transformers themselves
def test_transformers_computes_the_same_logits(loaded):
    torch = pytest.importorskip("torch")
    source, model, _ = loaded
    trained = source.trained
    ids = np.random.default_rng(0).integers(4, 360, (3, 64))
    own = agreement.logits(trained.model, trained.params, ids.astype(np.int32))
    with torch.inference_mode():
        theirs = model(torch.tensor(ids)).logits.numpy()
    assert np.abs(own).max() > 3  # or the bound would mean little
    assert np.abs(own - theirs).max() <= 1e-4
    assert (own.argmax(-1) == theirs.argmax(-1)).all()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_transformers_writes_the_same_texts(loaded):
    """By `generate`, and by the pipeline, which decodes the new tokens alone: a decoder that strips would show here."""
    transformers = pytest.importorskip("transformers")
    source, model, words = loaded
    trained = source.trained
    prompts = ["The", "The quiet", "The river opened", "a\nb", " The"]
    requests = [Request(prompt, 20, 0) for prompt in prompts]
    choice = Choice(trained.tokenizer.eos, temperature=0.0)
    ours = generate.write(trained.model, trained.params, trained.tokenizer, requests, choice).texts
    pipeline = transformers.pipeline("text-generation", model=model, tokenizer=words)
    settings = {"do_sample": False, "max_new_tokens": 20, "temperature": 1.0, "top_k": 50}
    for own in ours:
        prompt = words(own.prompt, return_tensors="pt")
        assert prompt["input_ids"][0].tolist() == [2, *trained.tokenizer.encode(own.prompt)]  # BOS once
        ids = model.generate(**prompt, **settings)
        assert words.decode(ids[0], skip_special_tokens=True)[1:] == own.text
        piped = pipeline(own.prompt, **settings)[0]["generated_text"]
        assert piped == own.text


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_transformers_judges_minimal_pairs_alike(loaded):
    torch = pytest.importorskip("torch")
    source, model, words = loaded
    pairs = [pair for pairs in suite.suite().values() for pair in pairs[:2]][:20]
    sentences = [sentence for pair in pairs for sentence in (pair.good, pair.bad)]
    trained = source.trained
    sentences = [text for text in sentences if len(trained.tokenizer.encode(text)) < 64]
    assert len(sentences) > 20
    own = scoring.log_probabilities(sentences, trained.tokenizer, trained.score_rows, 64, silent)
    for sentence, ours in zip(sentences, own, strict=True):
        ids = words(sentence, return_tensors="pt")["input_ids"]
        with torch.inference_mode():
            scores = torch.log_softmax(model(ids).logits.double(), -1)[0, :-1]
        theirs = float(scores.gather(1, ids[0, 1:, None]).sum())
        assert abs(theirs - ours) <= 1e-4 * max(1, abs(ours) / 10), sentence


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_check_compares_with_transformers(run, tmp_path, capsys, monkeypatch):
    pytest.importorskip("transformers")
    pytest.importorskip("torch")
    assert export(run, tmp_path / "out", "--check") == 0
    output = capsys.readouterr().out
    assert "100.0% have the same likeliest token" in output
    assert "2 of 2 greedy texts are equal" in output
    real = huggingface._config
    monkeypatch.setattr(
        huggingface, "_config", lambda *args: real(*args) | {"rope_parameters": None, "rope_theta": 9.0}
    )
    assert export(run, tmp_path / "wrong", "--check") == 4
    assert "--check: logits of " in capsys.readouterr().err
    assert os.listdir(tmp_path) == ["out"]


def test_check_is_for_huggingface_and_names_what_it_needs(run, tmp_path, capsys, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setitem(tool.sys.modules, "torch", None)
        assert export(run, tmp_path / "out", "--check") == 2
    assert "--check needs the package torch: pip install -e '.[export-test]'" in capsys.readouterr().err
    with pytest.raises(InputError, match="--check does not belong to --to gguf"):
        tool._transformers("gguf")
    assert not list(tmp_path.iterdir())
