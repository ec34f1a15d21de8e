"""A Hugging Face folder, which transformers, mlx-lm, lm_eval and others load without code of ours.

GELU models become `Starcoder2ForCausalLM`, SwiGLU models `StableLmForCausalLM`. Both pair the two
halves of a head for rotary positions, as this project does, so no row is permuted.

Some programs demand what transformers does not: biases, although ours are zero, and a head beside
the embedding that it equals. An embedding with a scale is written times the scale, and the head without.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from llm60_jax.checkpoint import Trained
from llm60_jax.config import InstructionSource, Model
from llm60_jax.errors import DamageError
from llm60_jax.export import agreement, tokenizer
from llm60_jax.export.source import Source, require_packages
from llm60_jax.export.weights import Block, Norm, Weights
from llm60_jax.machine import files
from llm60_jax.model import groups

BITS = {
    "float32": 32.0,
    "bfloat16": 16.0,
}  # of a stored number, by --dtype; the first is the default: training keeps float32
PACKAGES = ("safetensors", "tokenizers")
NAME = "model.safetensors"
CONFIG, GENERATION = "config.json", "generation_config.json"
_DTYPES = {"float32": np.dtype(np.float32), "bfloat16": np.dtype(ml_dtypes.bfloat16)}
_ARCHITECTURES = {"gelu": "starcoder2", "swiglu": "stablelm"}


def refuse(source: Source) -> None:
    """Raise InputError if a package is missing; the format holds every model."""
    require_packages("huggingface", *PACKAGES)


def write(source: Source, folder: Path) -> None:
    """Write the weights and the small files. Raise OSError if the disk is full."""
    arrays = {
        name: np.ascontiguousarray(array, _DTYPES[source.type])
        for name, array in tensors(source.trained.model, source.weights)
    }
    save(arrays, folder / NAME)
    write_small_files(source, folder)


def save(arrays: Mapping[str, np.ndarray], path: Path) -> None:
    """Write arrays as a file of safetensors. Raise OSError."""
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    try:
        save_file(dict(arrays), path, metadata={"format": "pt"})  # transformers insists on it
    except SafetensorError as error:  # has the system's words, and the path of a folder that nobody knows
        raise OSError(str(error).replace(str(path), path.name)[:200]) from None


def write_small_files(source: Source, folder: Path) -> None:
    """Write all but the weights: config.json, generation_config.json, the tokenizer's files."""
    trained = source.trained
    (folder / CONFIG).write_text(files.dump(_config(trained, source.type)), encoding="utf-8")
    (folder / GENERATION).write_text(files.dump(_generation(trained)), encoding="utf-8")
    tokenizer.write(trained.tokenizer, folder, trained.model.max_context, answers(trained))


def verify(source: Source, folder: Path) -> list[str]:
    """Read the files back and compare them with the checkpoint.

    Raises DamageError if an array, a logit or a token differs.
    """
    trained = source.trained
    params = rebuilt(trained.model, read(folder / NAME, source.type))
    difference = agreement.require(source, params, NAME)
    count = sum(1 for _ in source.weights.arrays())
    how = "bit for bit" if source.type == "float32" else f"after rounding to {source.type}"
    return [
        f"{NAME}: {count:,} arrays are equal {how}",
        f"{NAME}: its logits differ from the checkpoint's by at most {difference:.2g}",
        *tokenizer.verify(trained.tokenizer, folder, trained.config.sampling.prompts),
    ]


def answers(trained: Trained) -> bool:
    """Whether the last phase of a model taught it to answer questions."""
    phase = trained.config.phase_named(trained.meta["phase"])
    return any(isinstance(source, InstructionSource) for source in phase.sources)


def tensors(model: Model, weights: Weights) -> Iterator[tuple[str, np.ndarray]]:
    """Yield each array by its name in transformers. Matrices are [outputs, inputs]."""
    yield "model.embed_tokens.weight", weights.embedding_VD
    for number, block in enumerate(weights.blocks):
        place = f"model.layers.{number}"
        yield from _norm(f"{place}.input_layernorm", block.attention_norm)
        yield from _norm(f"{place}.post_attention_layernorm", block.mlp_norm)
        for name, matrix_OI in _matrices(block).items():
            yield f"{place}.{name}.weight", matrix_OI
            if model.mlp == "gelu":  # mlx-lm and llama.cpp refuse Starcoder2 without biases
                yield f"{place}.{name}.bias", np.zeros(len(matrix_OI), np.float32)
    yield from _norm("model.norm", weights.norm)
    if (head_VD := weights.written_head(model)) is not None:
        yield "lm_head.weight", head_VD


def rebuilt(model: Model, stored: Mapping[str, np.ndarray]) -> groups.Params:
    """Return our parameters of the plain model from the arrays of a file, float32.

    Raises DamageError if an array is missing or foreign, a bias is not zero, or the embedding is not the
    head times its scale.
    """
    rest = dict(stored)

    def take(name: str) -> np.ndarray:
        if name not in rest:
            raise DamageError(f"{NAME}: {name} is missing")
        return rest.pop(name)

    def norm(place: str) -> dict[str, np.ndarray]:
        return {"scale": take(f"{place}.weight"), "bias": take(f"{place}.bias")}

    def kernel(place: str, *names: str) -> dict[str, np.ndarray]:
        return {"kernel": np.concatenate([take(f"{place}.{name}.weight").T for name in names], axis=1)}

    up, down = (("c_fc",), "c_proj") if model.mlp == "gelu" else (("gate_proj", "up_proj"), "down_proj")
    table_VD = take("model.embed_tokens.weight") / np.float32(model.embedding_scale)
    if model.embedding_scale != 1 and not np.array_equal(take("lm_head.weight"), table_VD):
        raise DamageError(f"{NAME}: model.embed_tokens.weight is not lm_head.weight times {model.embedding_scale:g}")
    params: dict[str, Any] = {"embedding": table_VD, "norm": norm("model.norm")}
    for name, start, stop in agreement.plain(model).named_stacks:
        blocks = [
            {
                "attention_norm": norm(f"{place}.input_layernorm"),
                "attention": {
                    "qkv": kernel(f"{place}.self_attn", "q_proj", "k_proj", "v_proj"),
                    "out": kernel(f"{place}.self_attn", "o_proj"),
                },
                "mlp_norm": norm(f"{place}.post_attention_layernorm"),
                "mlp": {"up": kernel(f"{place}.mlp", *up), "down": kernel(f"{place}.mlp", down)},
            }
            for place in (f"model.layers.{number}" for number in range(start, stop))
        ]
        params[name] = _stacked(blocks)
    _require_neutral(rest, params["embedding"])
    return params


def _require_neutral(rest: Mapping[str, np.ndarray], embedding_VD: np.ndarray) -> None:
    """Raise DamageError if arrays without a place in our model would change what it computes."""
    for name, array in rest.items():
        is_head = name == "lm_head.weight" and np.array_equal(array, embedding_VD)
        if not is_head and not (name.endswith(".bias") and not array.any()):
            raise DamageError(f"{NAME}: {name} is not an array of this model")


def _stacked(trees: list[Any]) -> Any:
    """Return one tree with a leading axis of blocks."""
    if isinstance(trees[0], dict):
        return {name: _stacked([tree[name] for tree in trees]) for name in trees[0]}
    return np.stack(trees)


def read(path: Path, type: str) -> dict[str, np.ndarray]:
    """Return all arrays of a file as float32. Raise DamageError unless they have the type."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        stored = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise DamageError(f"{path}: cannot be read back: {str(error)[:200]}") from None
    for name, array in stored.items():
        if array.dtype != _DTYPES[type]:
            raise DamageError(f"{path}: {name} is {array.dtype}, not {type}")
    return {name: array.astype(np.float32) for name, array in stored.items()}


def _matrices(block: Block) -> dict[str, np.ndarray]:
    attention = {
        "self_attn.q_proj": block.query_OI,
        "self_attn.k_proj": block.key_OI,
        "self_attn.v_proj": block.value_OI,
        "self_attn.o_proj": block.out_OI,
    }
    if block.gate_OI is None:
        return attention | {"mlp.c_fc": block.up_OI, "mlp.c_proj": block.down_OI}
    return attention | {"mlp.gate_proj": block.gate_OI, "mlp.up_proj": block.up_OI, "mlp.down_proj": block.down_OI}


def _norm(place: str, norm: Norm) -> Iterator[tuple[str, np.ndarray]]:
    yield f"{place}.weight", norm.scale_D
    yield f"{place}.bias", norm.bias_D


def _config(trained: Trained, type: str) -> dict[str, Any]:
    """Return the content of config.json, for transformers 4.45 to 5 and mlx-lm."""
    model, words = trained.model, trained.tokenizer
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": model.rope_base}
    common = {
        "model_type": _ARCHITECTURES[model.mlp],
        "vocab_size": model.vocab_size,
        "hidden_size": model.dim,
        "intermediate_size": model.mlp_width,
        "num_hidden_layers": model.layers,
        "num_attention_heads": model.heads,
        "num_key_value_heads": model.heads,  # Starcoder2's default is 2
        "max_position_embeddings": model.max_context,
        "initializer_range": 0.02,
        "attention_dropout": 0.0,
        "tie_word_embeddings": model.embedding_scale == 1,
        "use_cache": True,
        "bos_token_id": words.bos,
        "eos_token_id": words.eos,
        "pad_token_id": words.pad,
        "rope_theta": model.rope_base,  # transformers 4 and mlx-lm
        "torch_dtype": type,  # transformers 4
        "dtype": type,  # transformers 5
    }
    if model.mlp == "gelu":
        return {
            "architectures": ["Starcoder2ForCausalLM"],
            **common,
            "hidden_act": "gelu_pytorch_tanh",
            "norm_epsilon": 1e-5,
            "use_bias": True,
            "sliding_window": None,
            "residual_dropout": 0.0,
            "embedding_dropout": 0.0,
            "rope_parameters": rope,  # transformers 5
        }
    return {
        "architectures": ["StableLmForCausalLM"],
        **common,
        "hidden_act": "silu",
        "layer_norm_eps": 1e-5,
        "use_qkv_bias": False,
        "qk_layernorm": False,
        "use_parallel_residual": False,
        "hidden_dropout": 0.0,
        "partial_rotary_factor": 1.0,  # StableLM's default is 0.25
        "rope_parameters": {**rope, "partial_rotary_factor": 1.0},
    }


def _generation(trained: Trained) -> dict[str, Any]:
    """Return the content of generation_config.json: the run's own settings of [sampling]."""
    sampling, words = trained.config.sampling, trained.tokenizer
    drawn: dict[str, Any] = {
        "temperature": sampling.temperature,
        "top_k": sampling.top_k,
        "top_p": sampling.top_p,
    }
    return {
        "do_sample": sampling.temperature > 0,
        **(drawn if sampling.temperature > 0 else {}),  # transformers warns of settings that do nothing
        "repetition_penalty": sampling.repetition_penalty,
        # Not max_length: transformers would warn at every call that names a number of new tokens.
        "max_new_tokens": max(1, trained.model.max_context // 2),
        "bos_token_id": words.bos,
        "eos_token_id": words.eos,
        "pad_token_id": words.pad,
    }
