"""GGUF, the file that llama.cpp and Ollama read, with a `Modelfile` for Ollama.

GELU models become the architecture `starcoder2`, SwiGLU models `stablelm`. Both pair the two halves
of a head for rotary positions, as this project does, so no row is permuted. llama.cpp refuses
`starcoder2` without biases, so zeros are written. Vectors stay float32 in every type.

The vocabulary is written as a sentencepiece model of kind "llama". llama.cpp then splits text at
the newline token and prefixes each line with a space, which is this project's rule.
"""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from llm60_jax.config import Model
from llm60_jax.data.tokens.tokenizer import Tokenizer
from llm60_jax.errors import DamageError, InputError
from llm60_jax.export import huggingface, tokenizer
from llm60_jax.export.source import Source, require_packages
from llm60_jax.export.weights import Norm, Weights

BITS = {
    "f16": 16.0,
    "q8_0": 8.5,
    "bf16": 16.0,
    "f32": 32.0,
}  # of a number of a matrix, by --type; the first is the default
MODELFILE = "Modelfile"
_Q8_BLOCK = 32  # numbers of a row that share one step in q8_0
_FILE_TYPES = {"f32": 0, "f16": 1, "q8_0": 7, "bf16": 32}  # `general.file_type`
_QUANTIZATION_VERSION = 2


def refuse(source: Source) -> None:
    """Raise InputError if the package is missing, or llama.cpp could not run the model as it is."""
    require_packages("gguf", "gguf")
    if not source.trained.tokenizer.is_bpe:
        raise InputError(
            "--to gguf: llama.cpp cannot spell rare characters with a unigram vocabulary and would read them as "
            "<unk>; take --to huggingface, or train with tokenizer.model_type = 'bpe'"
        )
    for place, array in source.weights.arrays():
        if source.type == "q8_0" and array.ndim == 2 and array.shape[1] % _Q8_BLOCK:
            raise InputError(
                f"--type q8_0: rows of {place} have {array.shape[1]} numbers, no multiple of {_Q8_BLOCK}; "
                "take --type f16"
            )
        if source.type == "f16" and float(np.abs(array).max()) > float(np.finfo(np.float16).max):
            raise InputError(f"--type f16: {place} has numbers that f16 cannot hold, beyond 65,504; take --type bf16")


def write(source: Source, folder: Path) -> None:
    """Write the model to `folder`, with a Modelfile beside it."""
    import gguf

    model = source.trained.model
    path = folder / file_name(source.name, source.type)
    writer = gguf.GGUFWriter(path, _architecture(model))
    for key, value in keys(source).items():
        _put(writer, key, value)
    for name, array in tensors(model, source.weights):
        kind = _kind(array, source.type)
        writer.add_tensor(name, gguf.quants.quantize(array, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    (folder / MODELFILE).write_text(modelfile(source, path.name), encoding="utf-8")


def verify(source: Source, folder: Path) -> list[str]:
    """Read the file back and return lines that say what was compared.

    Raises DamageError if a tensor is not the model's, rounded to its type, or a key differs.
    """
    import gguf

    path = folder / file_name(source.name, source.type)
    try:
        reader = gguf.GGUFReader(path)
    except Exception as error:  # many types: the reader parses whatever is there
        raise DamageError(f"{path}: not a GGUF file: {str(error)[:200]}") from None
    count = _verify_tensors(path, source, {tensor.name: tensor for tensor in reader.tensors})
    for key, value in keys(source).items():
        field = reader.fields.get(key)
        if field is None or not _same(field.contents(), value):
            raise DamageError(f"{path}: the key {key} is not what was written")
    pieces = source.trained.tokenizer.vocab_size
    return [
        f"{path.name}: {len(reader.tensors):,} tensors of {count:,} numbers, each equal to its float32 value "
        f"rounded to {source.type} (vectors: f32)",
        f"{path.name}: {pieces:,} tokens, their scores and types equal to those of the sentencepiece model",
    ]


def file_name(name: str, type_: str) -> str:
    """Return the name of the file: the model's name and the type, in characters that no tool escapes."""
    return f"{re.sub(r'[^A-Za-z0-9._-]+', '-', name).strip('-.') or 'model'}-{type_}.gguf"


# --- Tensors --------------------------------------------------------------------------------------


def tensors(model: Model, weights: Weights) -> Iterator[tuple[str, np.ndarray]]:
    """Yield each tensor, float32, by its name in llama.cpp."""
    yield "token_embd.weight", weights.embedding_VD
    for number, block in enumerate(weights.blocks):
        place = f"blk.{number}"
        yield from _norm(f"{place}.attn_norm", block.attention_norm)
        yield f"{place}.attn_q.weight", block.query_OI
        yield f"{place}.attn_k.weight", block.key_OI
        yield f"{place}.attn_v.weight", block.value_OI
        yield f"{place}.attn_output.weight", block.out_OI
        yield from _norm(f"{place}.ffn_norm", block.mlp_norm)
        if block.gate_OI is not None:
            yield f"{place}.ffn_gate.weight", block.gate_OI
        yield f"{place}.ffn_up.weight", block.up_OI
        yield f"{place}.ffn_down.weight", block.down_OI
        if model.mlp == "gelu":
            biases = {"attn_output": block.out_OI, "ffn_up": block.up_OI, "ffn_down": block.down_OI}
            for name, matrix_OI in biases.items():
                yield f"{place}.{name}.bias", np.zeros(len(matrix_OI), np.float32)
    yield from _norm("output_norm", weights.norm)
    if (head_VD := weights.written_head(model)) is not None:
        yield "output.weight", head_VD


def _norm(name: str, norm: Norm) -> Iterator[tuple[str, np.ndarray]]:
    yield f"{name}.weight", norm.scale_D
    yield f"{name}.bias", norm.bias_D


def _kind(array: np.ndarray, type_: str) -> Any:
    """Return the gguf type of a tensor."""
    import gguf

    return gguf.GGMLQuantizationType[type_.upper() if array.ndim > 1 else "F32"]


def _verify_tensors(path: Path, source: Source, read: Mapping[str, Any]) -> int:
    """Compare the tensors of a file with the model and return how many numbers they have. Raise DamageError."""
    expected = dict(tensors(source.trained.model, source.weights))
    if expected.keys() != read.keys():
        raise DamageError(f"{path}: tensors are missing or foreign: {sorted(expected.keys() ^ read.keys())[:5]}")
    for name, array in expected.items():
        kind, tensor = _kind(array, source.type), read[name]
        # GGUF lists the axes of a tensor from the last to the first.
        if tensor.tensor_type != kind or tuple(tensor.shape.tolist()) != array.shape[::-1]:
            raise DamageError(f"{path}: {name} is {tensor.tensor_type.name} {tensor.shape.tolist()}")
        if not _is_rounded(np.asarray(tensor.data), array, kind):
            raise DamageError(f"{path}: {name} differs from the model, rounded to {kind.name}")
    return sum(array.size for array in expected.values())


def _is_rounded(stored: np.ndarray, array: np.ndarray, kind: Any) -> bool:
    """Return whether the stored bytes are an array, rounded to a type."""
    import gguf

    if kind.name != "Q8_0":
        dtype = {"F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16}[kind.name]
        return stored.tobytes() == array.astype(dtype).tobytes()
    if stored.tobytes() != gguf.quants.quantize(array, kind).tobytes():
        return False
    # Half a step, and what rounding the step to float16 adds to its largest multiple, 127.
    blocks = array.reshape(-1, _Q8_BLOCK)
    errors = np.abs(gguf.quants.dequantize(stored, kind).reshape(blocks.shape) - blocks)
    steps = np.abs(blocks).max(1, keepdims=True) / 127
    return bool((errors <= steps / 2 * (1 + 1e-5) + 127 * np.maximum(steps * 2.0**-11, 2.0**-25)).all())


# --- Keys -----------------------------------------------------------------------------------------


def keys(source: Source) -> dict[str, Any]:
    """Return the keys of the file, `general.architecture` apart.

    The Python type of a value says its GGUF type: bool, int (uint32), float (float32), str, or a
    list of str, float or int (int32).
    """
    model = source.trained.model
    arch = _architecture(model)
    values: dict[str, Any] = {
        "general.type": "model",
        "general.name": source.name,
        "general.license": source.licence or "other",
        "general.languages": ["en"],
        "general.file_type": _FILE_TYPES[source.type],
        "general.quantization_version": _QUANTIZATION_VERSION,
        f"{arch}.context_length": model.max_context,
        f"{arch}.embedding_length": model.dim,
        f"{arch}.block_count": model.layers,
        f"{arch}.feed_forward_length": model.mlp_width,
        f"{arch}.attention.head_count": model.heads,
        f"{arch}.attention.head_count_kv": model.heads,
        f"{arch}.attention.layer_norm_epsilon": 1e-5,
        f"{arch}.rope.freq_base": float(model.rope_base),
        f"{arch}.rope.dimension_count": model.head_dim,
        f"{arch}.vocab_size": model.vocab_size,
    }
    if model.mlp == "swiglu":
        values[f"{arch}.use_parallel_residual"] = False
    if huggingface.answers(source.trained):
        values["tokenizer.chat_template"] = tokenizer.CHAT_TEMPLATE
    return values | _vocabulary(source.trained.tokenizer)


def _architecture(model: Model) -> str:
    return {"gelu": "starcoder2", "swiglu": "stablelm"}[model.mlp]


def _vocabulary(words: Tokenizer) -> dict[str, Any]:
    """Return the keys of the tokenizer. Its kinds of tokens have sentencepiece's numbers, as GGUF's have."""
    entries = words.entries()
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.tokens": [entry.piece for entry in entries],
        "tokenizer.ggml.scores": [float(entry.score) for entry in entries],
        "tokenizer.ggml.token_type": [int(entry.kind) for entry in entries],
        "tokenizer.ggml.bos_token_id": words.bos,
        "tokenizer.ggml.eos_token_id": words.eos,
        "tokenizer.ggml.unknown_token_id": words.unk,
        "tokenizer.ggml.padding_token_id": words.pad,
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.ggml.add_eos_token": False,
        "tokenizer.ggml.add_space_prefix": True,
        "tokenizer.ggml.remove_extra_whitespaces": False,
    }


def _put(writer: Any, key: str, value: Any) -> None:
    kinds = {bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}
    kinds.get(type(value), writer.add_array)(key, value)


def _same(read: Any, value: Any) -> bool:
    """Return whether a value read back is the one written. Numbers with a fraction are stored as float32."""
    if any(isinstance(part, float) for part in (value if isinstance(value, list) else [value])):
        return bool(np.array_equal(np.asarray(read, np.float32), np.asarray(value, np.float32)))
    return bool(read == value)


# --- Ollama ---------------------------------------------------------------------------------------


def modelfile(source: Source, file: str) -> str:
    """Return the Modelfile: where the model is, that prompts go to it unchanged, and how to draw tokens."""
    config, words = source.trained.config, source.trained.tokenizer
    sampling = config.sampling
    parameters = {
        "num_ctx": config.model.max_context,
        "temperature": sampling.temperature,
        "top_k": sampling.top_k,
        "top_p": sampling.top_p,
        "repeat_penalty": sampling.repetition_penalty,
        "repeat_last_n": -1,  # the whole context, as this project does
        "stop": json.dumps(words.entries()[words.eos].piece),
    }
    # The newline ends a question.
    template = '"""{{ .Prompt }}\n"""' if huggingface.answers(source.trained) else "{{ .Prompt }}"
    lines = [f"FROM ./{file}", f"TEMPLATE {template}"]
    return "\n".join([*lines, *(f"PARAMETER {name} {value}" for name, value in parameters.items())]) + "\n"
