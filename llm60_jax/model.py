"""The Transformer: embedding, scanned segments of remat blocks, tied head (design.md, section 2).

| tensor                         | shape         | initial value            |
| ------------------------------ | ------------- | ------------------------ |
| embedding (also the head)      | [V, D]        | N(0, 0.02)               |
| blocks_*.attention.qkv.kernel  | [n, D, 3D]    | N(0, 0.02)               |
| blocks_*.attention.out.kernel  | [n, D, D]     | N(0, 0.02 / sqrt(2 L))   |
| blocks_*.mlp.up.kernel         | [n, D, F]     | N(0, 0.02)               |
| blocks_*.mlp.down.kernel       | [n, F, D]     | N(0, 0.02 / sqrt(2 L))   |
| every norm: scale, bias        | [n, D] or [D] | 1, 0                     |

n is the segment's number of blocks, L the model's. A segment is one stack of blocks, run by one `lax.scan`: a scanned
stack compiles in seconds where unrolled blocks take minutes, and segments end where freezing may end, because an
optimizer mask acts on whole leaves.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from llm60_jax import layers
from llm60_jax.config import Model, Remat
from llm60_jax.layers import Array, Block, LayerNorm, Noise

INIT_STD = 0.02
Params = dict[str, Any]  # nested plain dict of arrays, the pure form of a Transformer

_POLICIES = {"full": None, "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable}


class Transformer(nnx.Module):
    """A pre-LN decoder. `__call__` gives final hidden states; `logits` applies the tied head to them."""

    def __init__(self, config: Model, key: Array):
        residual_std = INIT_STD / math.sqrt(2 * config.layers)
        key_embedding, key_blocks = jax.random.split(key)
        keys = jax.random.split(key_blocks, config.layers)
        self.config = config
        self.embedding = nnx.Param(INIT_STD * jax.random.normal(key_embedding, (config.vocab_size, config.dim)))
        self.norm = LayerNorm(config.dim)
        for name, start, stop in config.named_segments:
            make = functools.partial(Block, config, INIT_STD, residual_std)
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
    ) -> Array:
        """Hidden states after the final norm, float32 [B, T, D].

        Args:
          tokens_BT: int32 token ids.
          segments_BT: int32 document number of each token inside its row; attention stays inside a document.
          frozen: blocks, counted from the bottom, that get no gradient. They run without noise and without remat,
            and nothing below the boundary is differentiated, the input side of the embedding included.
          remat: recomputation policy of the live blocks.
          key: source of dropout; None (evaluation) switches all noise off.
          dtype: of the operands of matrix products.
        """
        rope = layers.rope_tables(tokens_BT.shape[1], self.config.head_dim, self.config.rope_base)
        mask = layers.document_mask(segments_BT)
        x_BTD = self.embedding[...][tokens_BT]
        if key is not None and not frozen:
            x_BTD = layers.dropout(x_BTD, noise.embedding, jax.random.fold_in(key, self.config.layers))
        for name, start, stop in self.config.named_segments:
            live = start >= frozen
            if start == frozen > 0:
                x_BTD = jax.lax.stop_gradient(x_BTD)
            x_BTD = _scan(
                getattr(self, name),
                x_BTD,
                _layer_keys(key if live else None, start, stop),
                lambda block, x, k: block(x, rope, mask, noise, k, dtype),
                remat if live else "none",
            )
        return self.norm(x_BTD)

    def logits(self, hidden: Array, dtype: jnp.dtype = jnp.dtype(jnp.bfloat16)) -> Array:
        """Tied head: hidden[..., D] -> float32 [..., V]. For scoring and sampling; training uses losses.py."""
        flat = layers.matmul_nt(hidden.reshape(-1, hidden.shape[-1]), self.embedding[...], dtype)
        return flat.reshape(*hidden.shape[:-1], -1)


def _layer_keys(key: Array | None, start: int, stop: int) -> Array | None:
    """A key for each block, derived from its depth alone, so that freezing lower blocks changes no other's noise."""
    return None if key is None else jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(start, stop))


def _scan(stack: Block, x_BTD: Array, keys: Array | None, apply, remat: Remat) -> Array:
    graphdef, params = nnx.split(stack)
    if remat != "none":
        # CSE cannot undo the recomputation across iterations of a scan, so the barrier against it is not needed.
        apply = nnx.remat(apply, prevent_cse=False, policy=_POLICIES[remat])

    def body(x, block_and_key):
        params, key = block_and_key
        return apply(nnx.merge(graphdef, params), x, key), None

    return jax.lax.scan(body, x_BTD, (params, keys))[0]


def graphdef(config: Model) -> nnx.GraphDef:
    """The static half of a Transformer: with `Params` it merges back into a module."""
    return nnx.graphdef(nnx.eval_shape(lambda: Transformer(config, jax.random.key(0))))


def abstract_params(config: Model) -> Params:
    """Shapes and dtypes of all parameters, without allocating them. Asserts the closed-form parameter count."""
    params = jax.eval_shape(lambda: _init(config, jax.random.key(0)))
    count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))
    assert count == config.parameter_count, f"{count:,} parameters built, {config.parameter_count:,} by formula"
    return params


def init(config: Model, key: Array) -> Params:
    """Fresh float32 parameters, initialised by the table at the top of this file, in one compiled program."""
    abstract_params(config)
    return jax.jit(functools.partial(_init, config))(key)


def _init(config: Model, key: Array) -> Params:
    return nnx.to_pure_dict(nnx.state(Transformer(config, key), nnx.Param))


def merge(config: Model, params: Params) -> Transformer:
    """The module with these parameters; cheap enough to call inside a traced function."""
    return nnx.merge(graphdef(config), nnx.State(params))
