"""GGUF files hold the model and its vocabulary, rounded as their type says, and damage is seen."""

import dataclasses
import re
from pathlib import Path

import export as tool
import ml_dtypes
import numpy as np
import pytest
import sentencepiece
from exports import VARIANTS, files_of, judged_copy, source_of, variant

from llm60_jax import checkpoint
from llm60_jax.config import InstructionSource
from llm60_jax.data.tokens import tokenizer
from llm60_jax.errors import DamageError, InputError
from llm60_jax.export import card, gguf, huggingface
from llm60_jax.export import tokenizer as hf_tokenizer

package = pytest.importorskip("gguf")

HF_NAMES = {
    r"^model\.embed_tokens": "token_embd",
    r"^model\.norm": "output_norm",
    r"^lm_head": "output",
    r"^model\.layers\.": "blk.",
    r"input_layernorm": "attn_norm",
    r"post_attention_layernorm": "ffn_norm",
    r"self_attn\.o_proj": "attn_output",
    r"self_attn\.(\w)_proj": r"attn_\1",
    r"mlp\.(c_fc|up_proj)": "ffn_up",
    r"mlp\.(c_proj|down_proj)": "ffn_down",
    r"mlp\.gate_proj": "ffn_gate",
}


@pytest.fixture(scope="module")
def run(base, tmp_path_factory) -> Path:
    return judged_copy(base, tmp_path_factory)


def read(folder: Path):
    """The one GGUF file of a folder."""
    (path,) = folder.glob("*.gguf")
    return package.GGUFReader(path)


def expected(source) -> dict[str, np.ndarray]:
    """The tensors of a model, from those for transformers. llama.cpp needs no biases of q, k and v."""
    tensors = {}
    for name, array in huggingface.tensors(source.trained.model, source.weights):
        for pattern, short in HF_NAMES.items():
            name = re.sub(pattern, short, name)
        if not re.search(r"attn_[qkv]\.bias", name):
            tensors[name] = array
    return tensors


@pytest.mark.parametrize("name", VARIANTS)
def test_every_parameter_is_in_the_file(run, name, tmp_path):
    source = source_of(variant(run, name), "f32")
    gguf.write(source, tmp_path)
    stored = {tensor.name: tensor for tensor in read(tmp_path).tensors}
    wanted = expected(source)
    assert stored.keys() == wanted.keys()
    for key, array in wanted.items():
        assert tuple(stored[key].shape) == array.shape[::-1], key
        np.testing.assert_array_equal(stored[key].data, array, err_msg=key)
    assert f"{len(wanted)} tensors" in gguf.verify(source, tmp_path)[0]


@pytest.mark.parametrize("type_", ["f16", "bf16"])
def test_halves_are_rounded_to_the_nearest(run, type_, tmp_path):
    source = source_of(variant(run, "all"), type_)
    gguf.refuse(source)
    gguf.write(source, tmp_path)
    assert type_ in gguf.verify(source, tmp_path)[0]
    dtype = np.float16 if type_ == "f16" else ml_dtypes.bfloat16
    wanted = expected(source)
    for tensor in read(tmp_path).tensors:
        array = wanted[tensor.name]
        kind = np.float32 if array.ndim == 1 else dtype
        np.testing.assert_array_equal(tensor.data.view(kind).reshape(array.shape), array.astype(kind), tensor.name)


def test_q8_0_is_within_half_a_step(run, tmp_path):
    source = source_of(variant(run, "gelu"), "q8_0")
    gguf.refuse(source)
    gguf.write(source, tmp_path)
    gguf.verify(source, tmp_path)
    wanted, matrices = expected(source), 0
    for tensor in read(tmp_path).tensors:
        array = wanted[tensor.name]
        if array.ndim == 1:
            np.testing.assert_array_equal(tensor.data, array)
            continue
        blocks = np.asarray(tensor.data).reshape(-1, 34)  # the step as float16, then 32 multiples of it
        steps = blocks[:, :2].copy().view(np.float16).astype(np.float32)
        numbers = blocks[:, 2:].view(np.int8) * steps
        assert (np.abs(numbers - array.reshape(-1, 32)) <= 0.57 * steps).all(), tensor.name
        matrices += 1
    assert matrices == 1 + 6 * 6


def test_the_keys_say_what_the_model_is(run, tmp_path):
    source = source_of(variant(run, "swiglu"), "f16", name="A model", licence="mit")
    gguf.write(source, tmp_path)
    fields = {name: field.contents() for name, field in read(tmp_path).fields.items()}
    words = {name: fields.pop(f"tokenizer.ggml.{name}") for name in ("tokens", "scores", "token_type")}
    assert {name: value for name, value in fields.items() if not name.startswith("GGUF.")} == {
        "general.architecture": "stablelm",
        "general.type": "model",
        "general.name": "A model",
        "general.license": "mit",
        "general.languages": ["en"],
        "general.file_type": package.LlamaFileType.MOSTLY_F16,
        "general.quantization_version": package.GGML_QUANT_VERSION,
        "stablelm.context_length": 64,
        "stablelm.embedding_length": 32,
        "stablelm.block_count": 6,
        "stablelm.feed_forward_length": 40,
        "stablelm.attention.head_count": 2,
        "stablelm.attention.head_count_kv": 2,
        "stablelm.attention.layer_norm_epsilon": pytest.approx(1e-5, rel=1e-6),
        "stablelm.rope.freq_base": 500.0,
        "stablelm.rope.dimension_count": 16,
        "stablelm.vocab_size": 360,
        "stablelm.use_parallel_residual": False,
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.bos_token_id": 2,
        "tokenizer.ggml.eos_token_id": 3,
        "tokenizer.ggml.unknown_token_id": 1,
        "tokenizer.ggml.padding_token_id": 0,
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.ggml.add_eos_token": False,
        "tokenizer.ggml.add_space_prefix": True,
        "tokenizer.ggml.remove_extra_whitespaces": False,
    }
    model = sentencepiece.SentencePieceProcessor(model_file=str(source.trained.tokenizer.path))
    assert words["tokens"] == [model.id_to_piece(token) for token in range(360)]
    assert words["scores"] == [model.get_score(token) for token in range(360)]
    kinds = [3, 2, 3, 3, 4]  # <pad>, <unk>, <s>, </s>, newline
    assert words["token_type"] == [*kinds, *([6] * 256), *([1] * (360 - 256 - len(kinds)))]


def test_the_file_types_are_those_of_llama_cpp():
    for name, number in gguf._FILE_TYPES.items():
        word = "ALL_F32" if name == "f32" else f"MOSTLY_{name.upper()}"
        assert package.LlamaFileType[word] == number


@pytest.mark.parametrize(
    "place", ["blk.3.attn_q.weight", "output_norm.weight", "tokenizer.ggml.scores", "general.name"]
)
def test_damage_is_seen(run, place, tmp_path):
    source = source_of(variant(run, "gelu"), "f16")
    gguf.write(source, tmp_path)
    (path,) = tmp_path.glob("*.gguf")
    reader = package.GGUFReader(path, "r+")
    if field := reader.fields.get(place):
        field.parts[field.data[-1]][0] += 1
    else:
        tensor = next(tensor for tensor in reader.tensors if tensor.name == place)
        tensor.data.reshape(-1)[3] += 1
    reader.data.flush()
    with pytest.raises(DamageError, match=place):
        gguf.verify(source, tmp_path)
    path.write_bytes(path.read_bytes()[:-4000])
    with pytest.raises(DamageError):
        gguf.verify(source, tmp_path)


def test_what_llama_cpp_cannot_run_is_refused(run, tmp_path):
    swiglu = source_of(variant(run, "swiglu"), "q8_0")
    with pytest.raises(InputError, match=r"rows of blocks\.0\.down_OI have 40 numbers, no multiple of 32"):
        gguf.refuse(swiglu)
    large = swiglu.weights._replace(embedding_VD=np.full((360, 32), 7e4, np.float32))
    with pytest.raises(InputError, match="beyond 65,504; take --type bf16"):
        gguf.refuse(swiglu._replace(type="f16", weights=large))
    gguf.refuse(swiglu._replace(type="bf16", weights=large))
    lines = [f"The {word} river ran past the {word} house." for word in ("old", "quiet", "golden", "early", "bright")]
    (tmp_path / "tokenizer.model").write_bytes(tokenizer._learn(lines * 40, 284, "unigram"))
    unigram = tokenizer.Tokenizer.load(tmp_path / "tokenizer.model")
    with pytest.raises(InputError, match="unigram vocabulary"):
        gguf.refuse(swiglu._replace(type="f16", trained=swiglu.trained._replace(tokenizer=unigram)))


def test_a_missing_package_is_named(run, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"--to gguf needs the package gguf: pip install .*\[export\]"):
        gguf.refuse(source_of(checkpoint.open_(run), "f16"))


def test_a_model_of_answers_gets_templates(run, tmp_path):
    trained = checkpoint.open_(run)
    questions = InstructionSource(kind="instructions", path="x")
    phase = dataclasses.replace(trained.config.phase[0], sources=(questions,), goal="fine_tune")
    answering = trained._replace(config=dataclasses.replace(trained.config, phase=(phase,)))
    source = source_of(answering, "f16")
    gguf.write(source, tmp_path)
    gguf.verify(source, tmp_path)
    fields = {name: field.contents() for name, field in read(tmp_path).fields.items()}
    assert fields["tokenizer.chat_template"] == hf_tokenizer.CHAT_TEMPLATE
    assert 'TEMPLATE """{{ .Prompt }}\n"""\n' in (tmp_path / "Modelfile").read_text()
    for target in ("gguf", "onnx", "adapter"):
        assert "\nQuestions: the " in card.text(source, target, "", {"model.gguf": 1}, [])


@pytest.mark.parametrize(
    ("name", "file"), [("my-model 1.0", "my-model-1.0"), ("../ü: x", "x"), ("...", "model"), ("a/b", "a-b")]
)
def test_the_name_of_the_file_needs_no_escapes(name, file):
    assert gguf.file_name(name, "f16") == f"{file}-f16.gguf"


def test_the_tool_writes_a_file_and_a_modelfile(run, tmp_path):
    out = tmp_path / "out"
    options = ["--to", "gguf", "--type", "q8_0", "--name", "Tiny one", "--out", str(out)]
    assert tool.main([str(run), *options]) == 0
    assert set(files_of(out)) == {"README.md", "Modelfile", "Tiny-one-q8_0.gguf"}
    assert (out / "Modelfile").read_text() == (
        "FROM ./Tiny-one-q8_0.gguf\n"
        "TEMPLATE {{ .Prompt }}\n"
        "PARAMETER num_ctx 64\n"
        "PARAMETER temperature 0.8\n"
        "PARAMETER top_k 40\n"
        "PARAMETER top_p 1.0\n"
        "PARAMETER repeat_penalty 1.0\n"
        "PARAMETER repeat_last_n -1\n"
        'PARAMETER stop "</s>"\n'
    )
    home = [str(path).encode() for path in (run, tmp_path, Path.home())]
    assert not [name for name, content in files_of(out).items() for place in home if place in content]
