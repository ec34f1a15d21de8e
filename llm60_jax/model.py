"""The Transformer: embedding, scanned segments of remat blocks, tied head (design.md, section 2).

| tensor                         | shape         | initial value            |
| ------------------------------ | ------------- | ------------------------ |
| embedding (also the head)      | [V, D]        | N(0, 0.02)               |
| blocks_*.attention.qkv.kernel  | [n, D, 3D]    | N(0, 0.02)               |
| blocks_*.attention.out.kernel  | [n, D, D]     | N(0, 0.02 / sqrt(2 L))   |
| blocks_*.mlp.up.kernel         | [n, D, F]     | N(0, 0.02); SwiGLU [n, D, 2F] |
| blocks_*.mlp.down.kernel       | [n, F, D]     | N(0, 0.02 / sqrt(2 L))   |
| every norm: scale, bias        | [n, D] or [D] | 1, 0                     |
| scaled residuals: factor       | [n, 1]        | 1                        |
| lora_*: a, b of each target    | [n, I, r], [n, r, O] | N(0, 1 / I), 0    |

n is the segment's number of blocks, L the model's. A segment is one stack of blocks, run by one `lax.scan`: a scanned
stack compiles in seconds where unrolled blocks take minutes, and segments end where freezing may end, because an
optimizer mask acts on whole leaves.

Parameters are a dict of *groups*: `embedding`, `norm`, and for the segment of blocks a to b `blocks_a_b`; where
neighbouring blocks share an attention or an MLP also `attention_a_b` or `mlp_a_b`, with a leading axis of n / period;
while adapters train also `lora_a_b`. All leaves of a segment's group have one leading axis.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from llm60_jax import attention, layers
from llm60_jax.config import INIT_STD, Model
from llm60_jax.fields import Remat
from llm60_jax.layers import Block, LayerNorm, Outputs
from llm60_jax.phase import Lora
from llm60_jax.products import Array, matmul_nt
from llm60_jax.step_key import Noise

Params = dict[str, Any]  # groups of nested plain dicts of arrays, the pure form of a Transformer

# What a policy keeps, by the names that `products.named` gives; all else is computed again in the backward pass.
_KEPT: dict[Remat, tuple[str, ...]] = {
    "full": (),
    "attention": ("attention", "norm"),
    "products": ("attention", "norm", "qkv", "middle", "mlp"),
}


class Transformer(nnx.Module):
    """A pre-LN decoder. `__call__` gives hidden states; `logits` applies the tied head to them."""

    def __init__(self, config: Model, key: Array, lora: Lora | None = None, adapted_from: int = 0):
        residual_std = INIT_STD / math.sqrt(2 * config.layers)
        key_embedding, key_blocks = jax.random.split(key)
        keys = jax.random.split(key_blocks, config.layers)
        self.config = config
        self.embedding = nnx.Param(INIT_STD * jax.random.normal(key_embedding, (config.vocab_size, config.dim)))
        self.norm = LayerNorm(config.dim)
        for name, start, stop in config.named_segments:
            adapters = lora if start >= adapted_from else None
            make = functools.partial(Block, config, INIT_STD, residual_std, lora=adapters)
            setattr(self, name, jax.vmap(make)(keys[start:stop]))

    def __call__(
        self,
        tokens_BT: Array,
        segments_BT: Array,
        *,
        frozen: int = 0,
        remat: Remat = "none",
        noise: Noise = Noise(),
        key: Array | None = None,
        dtype: jnp.dtype = jnp.dtype(jnp.bfloat16),
        prefix_BTD: Array | None = None,
    ) -> Outputs:
        """The forward pass.

        Args:
          tokens_BT: int32 token ids.
          segments_BT: int32 document number of each token inside its row; attention stays inside a document.
          frozen: blocks, counted from the bottom, that get no gradient. They run without noise and without remat,
            and nothing below the boundary is differentiated, the input side of the embedding included.
          remat: recomputation policy of the live blocks.
          key: source of noise; None (evaluation) switches it off.
          dtype: of the operands of matrix products.
          prefix_BTD: what the frozen blocks compute for these tokens, when it is known already; they do not run then.
        """
        rope = layers.rope_tables(tokens_BT.shape[1], self.config.head_dim, self.config.rope_base)
        seen = attention.sight(segments_BT)
        if prefix_BTD is None:
            with jax.named_scope("embedding"):
                x_BTD = self.embedding[...][tokens_BT]
                if key is not None and not frozen:
                    x_BTD = layers.dropout(x_BTD, noise.embedding, jax.random.fold_in(key, self.config.layers))
        else:
            x_BTD = prefix_BTD.astype(jnp.float32)
        stream: dict[int, Array] = {}
        for name, start, stop in self.config.named_segments:
            live = start >= frozen
            if not live and prefix_BTD is not None:
                continue
            if start == frozen > 0:
                x_BTD = jax.lax.stop_gradient(x_BTD)
            x_BTD = stream[stop] = _scan(
                getattr(self, name),
                x_BTD,
                _layer_keys(key if live else None, start, stop),
                lambda block, x, k: block(x, rope, seen, noise, k, dtype),
                remat if live else "none",
            )
        length = tokens_BT.shape[1]
        with jax.named_scope("norm"):
            hidden_BTD = self.norm(x_BTD)
        return Outputs(hidden_BTD, stream, seen.mask_B1TS.mean() * (2 * length / (length + 1)))

    def logits(self, hidden: Array, dtype: jnp.dtype = jnp.dtype(jnp.bfloat16)) -> Array:
        """Tied head: hidden[..., D] -> float32 [..., V]. For scoring and sampling; training uses losses.py."""
        flat = matmul_nt(hidden.reshape(-1, hidden.shape[-1]), self.embedding[...], dtype)
        return flat.reshape(*hidden.shape[:-1], -1)


def _layer_keys(key: Array | None, start: int, stop: int) -> Array | None:
    """A key for each block, derived from its depth alone, so that freezing lower blocks changes no other's noise."""
    return None if key is None else jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(start, stop))


def _scan(stack: Block, x_BTD: Array, keys: Array | None, apply, remat: Remat) -> Array:
    graphdef, params = nnx.split(stack)
    if remat != "none":
        # CSE cannot undo the recomputation across iterations of a scan, so the barrier against it is not needed.
        apply = nnx.remat(apply, prevent_cse=False, policy=jax.checkpoint_policies.save_only_these_names(*_KEPT[remat]))

    def body(x, block_and_key):
        params, key = block_and_key
        return apply(nnx.merge(graphdef, params), x, key), None

    return jax.lax.scan(body, x_BTD, (params, keys))[0]


# --- Parameters as groups --------------------------------------------------------------------------------------------


def segment_groups(name: str) -> tuple[str, ...]:
    """All groups that a segment can have, by the name of its main one, `blocks_a_b`."""
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


def init(config: Model, key: Array) -> Params:
    """Fresh float32 parameters, initialised by the table at the top of this file, in one compiled program."""
    abstract_params(config)
    return _compiled_init(config, key)


def init_lora(config: Model, lora: Lora, adapted_from: int, key: Array) -> Params:
    """Fresh adapters for the blocks from depth `adapted_from` up: the groups `lora_a_b` alone."""
    whole = nnx.to_pure_dict(nnx.state(Transformer(config, key, lora, adapted_from), nnx.Param))
    found: Params = {}
    for name, start, _ in config.named_segments:
        if start >= adapted_from:
            pairs = found[name.replace("blocks", "lora", 1)] = {}
            for part, matrix in (target.split(".") for target in lora.targets):
                leaves = whole[name][part][matrix]
                pairs.setdefault(part, {})[matrix] = {"a": leaves["a"], "b": leaves["b"]}
    return found


def merge(config: Model, params: Params, lora: Lora | None = None) -> Transformer:
    """The module with these parameters, adapters included if there are any and `lora` tells how they act; cheap enough
    for a traced function."""
    adapted = [start for name, start, _ in config.named_segments if name.replace("blocks", "lora", 1) in params]
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


def _init(config: Model, key: Array) -> Params:
    params = nnx.to_pure_dict(nnx.state(Transformer(config, key), nnx.Param))
    for name, _, _ in config.named_segments:
        for kind, period in _periods(config):
            module = params[name].pop(kind)
            params[name.replace("blocks", kind, 1)] = jax.tree.map(lambda x, k=period: x[::k], module)
    return params


_compiled_init = jax.jit(_init, static_argnums=0)


def _assembled(config: Model, params: Params) -> Params:
    """The groups put together into one subtree a segment, as the module has them."""
    whole = {"embedding": params["embedding"], "norm": params["norm"]}
    for name, _, _ in config.named_segments:
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
