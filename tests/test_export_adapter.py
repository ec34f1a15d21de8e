"""Adapters leave as PEFT files: base + scale * B A is the model of the phase, for every variant."""

import json
from pathlib import Path

import export as tool
import jax
import numpy as np
import pytest
from conftest import few_pairs, shared_programs, tiny_tree
from exports import files_of, judge, judged_copy, source_of, variant

from llm60_jax import checkpoint
from llm60_jax import config as config_module
from llm60_jax.config import Lora
from llm60_jax.errors import DamageError, InputError
from llm60_jax.export import adapter, agreement, huggingface
from llm60_jax.machine.signals import Interrupts
from llm60_jax.model import groups
from llm60_jax.run import loop

safetensors = pytest.importorskip("safetensors.numpy")
LORA = Lora(rank=4, alpha=8.0)
CASES = {
    "gelu": ("gelu", LORA),
    "swiglu": ("swiglu", LORA),
    "scaled": ("scaled", Lora(rank=3, alpha=4.5)),
    "one target": ("gelu", Lora(rank=2, alpha=2.0, targets=("attention.out",))),
}


def adapted(run: Path, name: str):
    """A source of a model with random adapters on blocks 2 to 5, and of its base."""
    kind, lora = CASES[name]
    base = variant(run, kind)
    fresh = groups.init_lora(base.config.model, lora, 2, jax.random.key(1))
    rng = np.random.default_rng(3)
    adapters = jax.tree.map(lambda x: np.asarray(x + 0.3 * rng.standard_normal(x.shape), np.float32), fresh)
    return source_of(base._replace(params=base.params | adapters, lora=lora)), source_of(base)


@pytest.mark.parametrize("name", CASES)
def test_base_and_adapter_are_the_merged_model(run, name, tmp_path):
    source, base = adapted(run, name)
    adapter.refuse(source)
    adapter.write(source, tmp_path)
    lines = adapter.verify(source, tmp_path)
    stored = safetensors.load_file(tmp_path / adapter.TENSORS)
    settings = json.loads((tmp_path / adapter.CONFIG).read_text())
    scale = settings["lora_alpha"] / settings["r"]
    model = source.trained.model
    before, after = (dict(huggingface.tensors(model, each.weights)) for each in (base, source))
    changed = 0
    for key, array in before.items():
        place = f"base_model.model.{key.removesuffix('.weight')}"
        grown = array
        if f"{place}.lora_A.weight" in stored:
            a, b = stored.pop(f"{place}.lora_A.weight"), stored.pop(f"{place}.lora_B.weight")
            assert a.shape == (settings["r"], array.shape[1])
            grown = array + scale * b @ a
            assert np.abs(grown - array).max() > 0.01
            parts = key.split(".")
            assert int(parts[2]) in settings["layers_to_transform"]
            assert parts[4] in settings["target_modules"]
            changed += 1
        np.testing.assert_allclose(grown, after[key], rtol=1e-5, atol=1e-6, err_msg=key)
    assert not stored
    assert changed == 4 * {"gelu": 6, "swiglu": 7, "scaled": 6, "one target": 1}[name]
    assert f"{changed} matrices" in lines[1]


def test_the_settings_name_no_path(run, tmp_path):
    source, _ = adapted(run, "scaled")
    adapter.write(source, tmp_path)
    settings = json.loads((tmp_path / adapter.CONFIG).read_text())
    assert settings["base_model_name_or_path"] == "tiny-base"
    assert (settings["peft_type"], settings["task_type"]) == ("LORA", "CAUSAL_LM")
    assert (settings["r"], settings["lora_alpha"], settings["bias"]) == (3, 4.5, "none")
    assert settings["layers_to_transform"] == [2, 3, 4, 5]
    assert settings["target_modules"] == ["c_fc", "c_proj", "k_proj", "o_proj", "q_proj", "v_proj"]


def test_damage_is_seen(run, tmp_path):
    source, base = adapted(run, "scaled")
    adapter.write(source, tmp_path)
    path = tmp_path / adapter.TENSORS
    stored = safetensors.load_file(path)
    name = "base_model.model.model.layers.3.mlp.c_proj.lora_B.weight"
    wrong = stored[name].copy()
    wrong[2, 1] = np.nextafter(wrong[2, 1], np.float32(9))
    safetensors.save_file(stored | {name: wrong}, path)
    with pytest.raises(DamageError, match=r"layers\.3\.mlp\.c_proj\.lora_B"):
        adapter.verify(source, tmp_path)
    safetensors.save_file(stored, path)
    adapter.verify(source, tmp_path)
    with pytest.raises(DamageError, match=r"base \+ scale \* B A differs from the model"):
        adapter.verify(source._replace(weights=base.weights), tmp_path)  # another model was judged
    other = source.weights._replace(embedding_VD=source.weights.embedding_VD + 1)
    with pytest.raises(DamageError, match="embedding_VD has no adapter, but differs"):
        adapter.verify(source._replace(weights=other), tmp_path)
    config = tmp_path / adapter.CONFIG
    config.write_text(config.read_text().replace('"r": 3', '"r": 6'))
    with pytest.raises(DamageError, match="not the adapters"):
        adapter.verify(source, tmp_path)


def test_a_model_without_adapters_is_refused(run, tmp_path, capsys):
    out = tmp_path / "out"
    assert tool.main([str(run), "--to", "adapter", "--out", str(out)]) == 2
    assert "phase grammar of" in capsys.readouterr().err
    assert not out.exists()


@pytest.fixture(scope="module")
def run(base, tmp_path_factory) -> Path:
    return judged_copy(base, tmp_path_factory)


@pytest.fixture(scope="module")
def tuned(run, texts, tmp_path_factory) -> Path:
    """A run of a phase with adapters, that began from `run`. Its last checkpoint was judged."""
    tree = tiny_tree(texts) | {"workdir": str(tmp_path_factory.mktemp("lora") / "run")}
    del tree["tokenizer"]
    short = {"tokens": 512, "context": [[0.0, 16]], "lora": {"rank": 4, "alpha": 8.0}, "freeze": [[0.0, 2]]}
    tree |= {"start": str(run / "phases" / "grammar"), "phase": [tree["phase"][2] | short]}
    with pytest.MonkeyPatch.context() as patch:
        few_pairs(patch)
        shared_programs(patch)
        loop.launch(config_module.parse(tree, "x"), Interrupts(), "again")
    judge(Path(tree["workdir"]) / "phases" / "fine_tune")
    return Path(tree["workdir"])


def test_the_tool_exports_the_adapters_of_the_judged_phase(tuned, run, tmp_path, capsys):
    out = tmp_path / "out"
    assert tool.main([str(tuned), "--to", "adapter", "--name", "tuned", "--out", str(out)]) == 0
    assert set(files_of(out)) == {"README.md", adapter.CONFIG, adapter.TENSORS}
    assert "24 matrices of the base" in capsys.readouterr().out
    home = [str(path).encode() for path in (tuned, run, tmp_path, Path.home())]
    assert not [name for name, content in files_of(out).items() for place in home if place in content]
    adapters = tuned / "adapters" / "fine_tune"
    assert tool.main([str(adapters), "--to", "adapter", "--out", str(tmp_path / "b")]) == 3  # not judged itself
    assert not (tmp_path / "b").exists()
    trained, moved = checkpoint.open_(tuned), tuned / "adapters" / "another"
    adapters.rename(moved)
    try:
        with pytest.raises(InputError, match=r"name the end of a phase that did: .*phases/another"):
            adapter.refuse(source_of(trained))
    finally:
        moved.rename(adapters)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
@pytest.mark.filterwarnings("ignore")
def test_peft_computes_the_merged_model(run, name, tmp_path):
    peft, torch, transformers = (pytest.importorskip(each) for each in ("peft", "torch", "transformers"))
    source, base = adapted(run, name)
    for each, folder, module in ((base, "base", huggingface), (source, "adapter", adapter)):
        (tmp_path / folder).mkdir()
        module.write(each, tmp_path / folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    model = peft.PeftModel.from_pretrained(model, tmp_path / "adapter").eval()
    ids_BT = agreement.tokens(source.trained)
    with torch.inference_mode():
        theirs_BTV = model(torch.tensor(ids_BT.astype(np.int64))).logits.numpy()
    plain = source.trained.plain_params
    own_BTV = agreement.logits(source.trained.model, plain, ids_BT)
    assert np.abs(theirs_BTV - own_BTV).max() <= 1e-4 * max(1.0, np.abs(own_BTV).max())
