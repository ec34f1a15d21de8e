"""The adapters of a LoRA phase, as a PEFT adapter of the model that the phase began from.

`kernel + scale * A B` of this project is PEFT's `W + lora_alpha / r * lora_B lora_A`, transposed.
PEFT has a module for each of q, k and v: B is split by columns, and each part gets a copy of A. A
SwiGLU `up` is split in the same way. Factors of scaled residuals multiply B of the last matrix of
their branch, as they multiply the matrix itself in the exported base.

The model that leaves is the end of the phase: its own privacy report guards the adapter, and
`verify` proves that base and adapter give that model.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from llm60_jax import checkpoint
from llm60_jax.checkpoint import Trained
from llm60_jax.config import Lora, Model
from llm60_jax.errors import DamageError, InputError
from llm60_jax.export import huggingface, weights
from llm60_jax.export.source import Source, require_packages
from llm60_jax.export.weights import Block, Weights
from llm60_jax.machine import files, manifest
from llm60_jax.model import groups, layers

BITS = {"float32": 32.0}
CONFIG = "adapter_config.json"
TENSORS = "adapter_model.safetensors"
_ADAPTERS = "adapters"  # folder of a run with the adapters of its closed phases
_MODULES = {
    "query_OI": "self_attn.q_proj",
    "key_OI": "self_attn.k_proj",
    "value_OI": "self_attn.v_proj",
    "out_OI": "self_attn.o_proj",
}
_MLP_MODULES = {
    "gelu": {"up_OI": "mlp.c_fc", "down_OI": "mlp.c_proj"},
    "swiglu": {"gate_OI": "mlp.gate_proj", "up_OI": "mlp.up_proj", "down_OI": "mlp.down_proj"},
}
# Bounds on merging, as parts of the magnitudes that are added up. The run added base and product in
# float32, but its device may have multiplied A and B in bfloat16.
_SUM_BOUND, _PRODUCT_BOUND = 2.0**-20, 2.0**-7


class Pair(NamedTuple):
    """The adapter of one matrix: the matrix grows by scale * B A. r is the rank."""

    block: int
    matrix: str  # a field of `weights.Block`
    a_rI: np.ndarray
    b_Or: np.ndarray


def refuse(source: Source) -> None:
    """Raise InputError if the package is missing, or the checkpoint's phase trained no adapters."""
    require_packages("adapter", "safetensors")
    _adapted(source.trained)


def write(source: Source, folder: Path) -> None:
    """Write the adapter's settings and tensors."""
    adapted, lora = _adapted(source.trained)
    found = list(pairs(adapted, lora))
    model = adapted.model
    (folder / CONFIG).write_text(files.dump(settings(source.name, adapted, lora, found)), encoding="utf-8")
    huggingface.save(tensors(model, found), folder / TENSORS)


def verify(source: Source, folder: Path) -> list[str]:
    """Read the adapter back, merge it into its base and compare with the model of the phase.

    Raises DamageError if a tensor differs in a bit, or the merged model from the checkpoint's by
    more than rounding.
    """
    from safetensors.numpy import load_file

    adapted, lora = _adapted(source.trained)
    model, found = adapted.model, list(pairs(adapted, lora))
    try:
        stored, scale = load_file(folder / TENSORS), _scale(folder / CONFIG)
    except Exception as error:  # many types: a foreign file
        raise DamageError(f"{folder / TENSORS}: cannot be read: {str(error)[:200]}") from None
    expected = tensors(model, found)
    different = sorted(stored.keys() ^ expected.keys())
    different += [name for name in stored.keys() & expected.keys() if not _equal(stored[name], expected[name])]
    if different or scale != lora.scale:
        raise DamageError(f"{folder / TENSORS}: not the adapters of {adapted.folder.name}: {different[:5]}")
    base = weights.of(model, adapted._replace(lora=None).plain_params)
    _verify_merged(folder / TENSORS, base, found, lora.scale, source.weights)
    return [
        f"{TENSORS}: {len(stored):,} tensors equal bit for bit",
        f"{TENSORS}: {len(found):,} matrices of the base + {lora.scale:g} * B A equal those of the merged model "
        "within rounding, and all other parameters bit for bit",
    ]


def settings(name: str, adapted: Trained, lora: Lora, found: list[Pair]) -> dict[str, Any]:
    """Return the contents of adapter_config.json.

    The base is a name and no path; whoever loads the adapter says where the exported base is.
    """
    modules = _modules(adapted.model)
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": f"{name}-base",
        "revision": None,
        "inference_mode": True,
        "r": lora.rank,
        "lora_alpha": int(lora.alpha) if float(lora.alpha).is_integer() else lora.alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "init_lora_weights": True,
        "use_rslora": False,
        "use_dora": False,
        "modules_to_save": None,
        "target_modules": sorted({modules[pair.matrix].rpartition(".")[2] for pair in found}),
        "layers_to_transform": sorted({pair.block for pair in found}),
        "layers_pattern": "layers",
        "rank_pattern": {},
        "alpha_pattern": {},
    }


def tensors(model: Model, found: list[Pair]) -> dict[str, np.ndarray]:
    """Return the tensors of an adapter by PEFT's names, float32 and contiguous."""
    modules, named = _modules(model), {}
    for pair in found:
        place = f"base_model.model.model.layers.{pair.block}.{modules[pair.matrix]}"
        named[f"{place}.lora_A.weight"] = np.ascontiguousarray(pair.a_rI)
        named[f"{place}.lora_B.weight"] = np.ascontiguousarray(pair.b_Or)
    return named


def pairs(adapted: Trained, lora: Lora) -> Iterator[Pair]:
    """Yield the adapter of each adapted matrix, bottom block first."""
    network = groups.merge(adapted.model, adapted.params, lora)
    for name, start, stop in adapted.model.named_stacks:
        stack = getattr(network, name)
        up = ("gate_OI", "up_OI") if stack.mlp.is_gated else ("up_OI",)
        # each of a block's own matrices, the fields that it is split into, and its branch's factor if it is the last
        matrices = (
            (stack.attention.qkv, ("query_OI", "key_OI", "value_OI"), None),
            (stack.attention.out, ("out_OI",), stack.attention_residual),
            (stack.mlp.up, up, None),
            (stack.mlp.down, ("down_OI",), stack.mlp_residual),
        )
        for number in range(stop - start):
            for linear, fields, residual in matrices:
                if isinstance(linear, layers.LoraLinear):
                    b_LrO = linear.b[...] if residual is None else residual.folded(linear.b[...])
                    a_rI, b_Or = np.asarray(linear.a[...][number]).T, np.asarray(b_LrO[number]).T
                    for field, part_Or in zip(fields, np.split(b_Or, len(fields)), strict=True):
                        yield Pair(start + number, field, a_rI, part_Or)


def _adapted(trained: Trained) -> tuple[Trained, Lora]:
    """Return the checkpoint with adapters of a checkpoint's phase, and their settings. Raise InputError."""
    if trained.lora is not None:
        return trained, trained.lora
    phase, run = trained.meta["phase"], trained.folder.absolute().parents[1]
    folder = run / _ADAPTERS / phase
    if not manifest.exists(folder):
        others = sorted(path.name for path in (run / _ADAPTERS).glob("*") if manifest.exists(path))
        hint = f"; name the end of a phase that did: {run / 'phases' / others[0]}" if others else ""
        raise InputError(f"--to adapter: phase {phase} of {trained.folder} trained no adapters{hint}")
    adapted = checkpoint.open_(folder)
    if adapted.lora is None:
        raise DamageError(f"{folder}: holds no adapters")
    return adapted, adapted.lora


def _modules(model: Model) -> dict[str, str]:
    """Return the name of each matrix of a block in transformers' model."""
    return _MODULES | _MLP_MODULES[model.mlp]


def _scale(path: Path) -> float:
    config = json.loads(files.read_text(path))
    return float(config["lora_alpha"] / config["r"])


def _equal(a: np.ndarray, b: np.ndarray) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def _verify_merged(path: Path, base: Weights, found: list[Pair], scale: float, merged: Weights) -> None:
    """Raise DamageError unless base + scale * B A are the merged weights."""
    grown = {f"blocks.{pair.block}.{pair.matrix}": pair for pair in found}
    assert set(grown) <= {f"blocks.{n}.{field}" for n in range(len(base.blocks)) for field in Block._fields}
    wanted = dict(merged.arrays())
    for place, array in base.arrays():
        if place not in grown:
            if not _equal(array, wanted[place]):
                raise DamageError(f"{path}: {place} has no adapter, but differs between the base and the model")
            continue
        a_rI, b_Or = (x.astype(np.float64) for x in (grown[place].a_rI, grown[place].b_Or))
        errors = np.abs(array + scale * (b_Or @ a_rI) - wanted[place])
        bounds = _SUM_BOUND * np.abs(array) + _PRODUCT_BOUND * scale * (np.abs(b_Or) @ np.abs(a_rI))
        if not (errors <= bounds + 1e-12).all():
            raise DamageError(f"{path}: {place}: base + scale * B A differs from the model by {errors.max():.2g}")
