"""Parameters as a dict of groups, and the conversion between groups and a module.

| group                        | leading axis of its leaves                                  |
| ---------------------------- | ----------------------------------------------------------- |
| `embedding`, `norm`          | none                                                        |
| `blocks_a_b`                 | n, the blocks a to b of one stack                           |
| `attention_a_b`, `mlp_a_b`   | n / period, where `period` neighbouring blocks share a part |
| `lora_a_b`                   | n, while adapters train                                     |

`transformer` has the table of initial values.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from llm60_jax.config import Lora, Model
from llm60_jax.model.matmul import Array
from llm60_jax.model.transformer import Transformer

Params = dict[str, Any]  # group name -> nested plain dicts of arrays
_SHARED = ("attention", "mlp")  # parts that neighbouring blocks can share


def stack_groups(name: str) -> tuple[str, ...]:
    """Return the names of all groups that the stack `blocks_a_b` can have."""
    return tuple(name.replace("blocks", kind, 1) for kind in ("blocks", *_SHARED, "lora"))


def is_stacked(group: str) -> bool:
    """Return whether a group's leaves have a leading axis of blocks or shared modules."""
    return group.startswith(("blocks_", "lora_", *(f"{kind}_" for kind in _SHARED)))


def matrices(config: Model, path: Sequence[str]) -> int:
    """Return how many matrices stand side by side in the leaf at that path in its group.

    Queries, keys and values do, and the two halves of a gated MLP.
    """
    if path[-1] != "kernel":
        return 1
    return {"qkv": 3, "up": 2 if config.mlp == "swiglu" else 1}.get(path[-2], 1)


@functools.cache
def graphdef(config: Model, lora: Lora | None = None, adapted_from: int = 0) -> nnx.GraphDef:
    """Return the static half of a Transformer; `merge` joins it with `Params`."""
    return nnx.graphdef(nnx.eval_shape(lambda: Transformer(config, jax.random.key(0), lora, adapted_from)))


def abstract_params(config: Model) -> Params:
    """Return shapes and dtypes of all parameters, without allocating any.

    Asserts the closed-form parameter count.
    """
    params = jax.eval_shape(lambda: _init(config, jax.random.key(0)))
    count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))
    assert count == config.parameter_count, f"{count:,} parameters built, {config.parameter_count:,} by formula"
    return params


def init(config: Model, rng: Array) -> Params:
    """Return fresh float32 parameters by the table in transformer.py, from one compiled program."""
    abstract_params(config)
    return _compiled_init(config, rng)


def init_lora(config: Model, lora: Lora, adapted_from: int, rng: Array) -> Params:
    """Return fresh adapters, the groups `lora_a_b`, for the blocks from depth `adapted_from` up."""
    whole = nnx.to_pure_dict(nnx.state(Transformer(config, rng, lora, adapted_from), nnx.Param))
    adapters: Params = {}
    for name, start, _ in config.named_stacks:
        if start >= adapted_from:
            parts = adapters[name.replace("blocks", "lora", 1)] = {}
            for part, matrix in (target.split(".") for target in lora.targets):
                leaves = whole[name][part][matrix]
                parts.setdefault(part, {})[matrix] = {"a": leaves["a"], "b": leaves["b"]}
    return adapters


def merge(config: Model, params: Params, lora: Lora | None = None) -> Transformer:
    """Return the module with these parameters. It is cheap enough to call in a traced function.

    Args:
      lora: the adapters' settings, needed where `params` has groups `lora_a_b`.
    """
    adapted = [start for name, start, _ in config.named_stacks if name.replace("blocks", "lora", 1) in params]
    static = graphdef(config, lora, min(adapted)) if adapted else graphdef(config)
    return nnx.merge(static, nnx.State(_assembled(config, params)))


def merge_lora(params: Params, lora: Lora) -> Params:
    """Return plain parameters with the adapters merged: each target's kernel + scale * A B."""
    merged = {name: group for name, group in params.items() if not name.startswith("lora_")}
    for name in params.keys() - merged.keys():
        blocks = name.replace("lora", "blocks", 1)
        kernels = {
            part: {
                matrix: {
                    "kernel": merged[blocks][part][matrix]["kernel"]
                    + lora.scale * jnp.einsum("nir,nro->nio", pair["a"], pair["b"], precision="highest")
                }
                for matrix, pair in pairs.items()
            }
            for part, pairs in params[name].items()
        }
        merged[blocks] = _deep_merge(merged[blocks], kernels)
    return merged


def _init(config: Model, rng: Array) -> Params:
    params = nnx.to_pure_dict(nnx.state(Transformer(config, rng), nnx.Param))
    for name, _, _ in config.named_stacks:
        for kind, period in _periods(config):
            module = params[name].pop(kind)
            params[name.replace("blocks", kind, 1)] = jax.tree.map(lambda x, every=period: x[::every], module)
    return params


_compiled_init = jax.jit(_init, static_argnums=0)


def _assembled(config: Model, params: Params) -> Params:
    """Return the module's own layout of the groups: one subtree a stack."""
    whole = {"embedding": params["embedding"], "norm": params["norm"]}
    for name, _, _ in config.named_stacks:
        block = dict(params[name])
        for kind, period in _periods(config):
            # Repeat each shared module, so that every block has one in the scan.
            shared = params[name.replace("blocks", kind, 1)]
            block[kind] = jax.tree.map(lambda x, times=period: jnp.repeat(x, times, axis=0), shared)
        whole[name] = _deep_merge(block, params.get(name.replace("blocks", "lora", 1), {}))
    return whole


def _periods(config: Model) -> list[tuple[str, int]]:
    """Return the shared parts of a block, and how many neighbours share each."""
    periods = dict(zip(_SHARED, (config.share_attention, config.share_mlp), strict=True))
    return [(kind, period) for kind, period in periods.items() if period > 1]


def _deep_merge(a: Params, b: Params) -> Params:
    """Return a with b's leaves added or replaced."""
    merged = {name: _deep_merge(a[name], x) if isinstance(x, dict) and name in a else x for name, x in b.items()}
    return {**a, **merged}
