"""Parameters as a dict of *groups*, and the way from groups to a module and back.

The groups are `embedding`, `norm`, and `blocks_a_b` for the stack of blocks a to b. Where neighbouring blocks share an
attention or an MLP there is also `attention_a_b` or `mlp_a_b`, with a leading axis of n / period; while adapters train
also `lora_a_b`. All leaves of a stack's group have one leading axis. `transformer` has the table of initial values.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from llm60_jax.config import Lora, Model
from llm60_jax.model.matmul import Array
from llm60_jax.model.transformer import Transformer

Params = dict[str, Any]  # groups of nested plain dicts of arrays, the pure form of a Transformer


def stack_groups(name: str) -> tuple[str, ...]:
    """All groups that a stack can have, by the name of its main one, `blocks_a_b`."""
    return tuple(name.replace("blocks", kind, 1) for kind in ("blocks", *_SHARED, "lora"))


def is_stacked(group: str) -> bool:
    """Whether the leaves of a group carry a leading axis of blocks, or of shared modules."""
    return group.startswith(("blocks_", "lora_", *(f"{kind}_" for kind in _SHARED)))


_SHARED = ("attention", "mlp")


@functools.cache
def graphdef(config: Model, lora: Lora | None = None, adapted_from: int = 0) -> nnx.GraphDef:
    """The static half of a Transformer: with `Params` it merges back into a module."""
    return nnx.graphdef(nnx.eval_shape(lambda: Transformer(config, jax.random.key(0), lora, adapted_from)))


def abstract_params(config: Model) -> Params:
    """Shapes and dtypes of all parameters, without allocating them. Asserts the closed-form parameter count."""
    params = jax.eval_shape(lambda: _init(config, jax.random.key(0)))
    count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))
    assert count == config.parameter_count, f"{count:,} parameters built, {config.parameter_count:,} by formula"
    return params


def init(config: Model, rng: Array) -> Params:
    """Fresh float32 parameters, initialised by the table at the top of this file, in one compiled program."""
    abstract_params(config)
    return _compiled_init(config, rng)


def init_lora(config: Model, lora: Lora, adapted_from: int, rng: Array) -> Params:
    """Fresh adapters for the blocks from depth `adapted_from` up: the groups `lora_a_b` alone."""
    whole = nnx.to_pure_dict(nnx.state(Transformer(config, rng, lora, adapted_from), nnx.Param))
    found: Params = {}
    for name, start, _ in config.named_stacks:
        if start >= adapted_from:
            pairs = found[name.replace("blocks", "lora", 1)] = {}
            for part, matrix in (target.split(".") for target in lora.targets):
                leaves = whole[name][part][matrix]
                pairs.setdefault(part, {})[matrix] = {"a": leaves["a"], "b": leaves["b"]}
    return found


def merge(config: Model, params: Params, lora: Lora | None = None) -> Transformer:
    """The module with these parameters, adapters included if there are any and `lora` tells how they act; cheap enough
    for a traced function."""
    adapted = [start for name, start, _ in config.named_stacks if name.replace("blocks", "lora", 1) in params]
    static = graphdef(config, lora, min(adapted)) if adapted else graphdef(config)
    return nnx.merge(static, nnx.State(_assembled(config, params)))


def merge_lora(params: Params, lora: Lora) -> Params:
    """Plain weights that act as the adapted ones: every target's kernel + scale * A B; the adapters are gone."""
    merged = {name: group for name, group in params.items() if not name.startswith("lora_")}
    for name in params.keys() - merged.keys():
        blocks = name.replace("lora", "blocks", 1)
        kernels = {
            part: {
                matrix: {
                    "kernel": merged[blocks][part][matrix]["kernel"]
                    + lora.scale * jnp.einsum("nir,nro->nio", pair["a"], pair["b"])
                }
                for matrix, pair in matrices.items()
            }
            for part, matrices in params[name].items()
        }
        merged[blocks] = _deep_merge(merged[blocks], kernels)
    return merged


def _init(config: Model, rng: Array) -> Params:
    params = nnx.to_pure_dict(nnx.state(Transformer(config, rng), nnx.Param))
    for name, _, _ in config.named_stacks:
        for kind, period in _periods(config):
            module = params[name].pop(kind)
            params[name.replace("blocks", kind, 1)] = jax.tree.map(lambda x, k=period: x[::k], module)
    return params


_compiled_init = jax.jit(_init, static_argnums=0)


def _assembled(config: Model, params: Params) -> Params:
    """The groups put together into one subtree a stack, as the module has them."""
    whole = {"embedding": params["embedding"], "norm": params["norm"]}
    for name, _, _ in config.named_stacks:
        block = dict(params[name])
        for kind, period in _periods(config):
            # The index map block -> shared module, as a stack of one module a block.
            shared = params[name.replace("blocks", kind, 1)]
            block[kind] = jax.tree.map(lambda x, k=period: jnp.repeat(x, k, axis=0), shared)
        whole[name] = _deep_merge(block, params.get(name.replace("blocks", "lora", 1), {}))
    return whole


def _periods(config: Model) -> list[tuple[str, int]]:
    """What neighbouring blocks share, and how many of them."""
    found = {"attention": config.share_attention, "mlp": config.share_mlp}
    return [(kind, period) for kind, period in found.items() if period > 1]


def _deep_merge(a: Params, b: Params) -> Params:
    return {
        **a,
        **{k: _deep_merge(a[k], v) if isinstance(v, dict) and k in a else v for k, v in b.items()},
    }
