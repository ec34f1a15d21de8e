"""The Transformer: embedding, scanned stacks of remat blocks, tied head (design.md, section 2).

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

n is the number of blocks in the stack, L the model's. A stack runs as one `lax.scan`: scanned blocks compile in seconds
where unrolled ones take minutes. Stacks end where freezing may end, because an optimizer mask acts on whole leaves.
"""

import functools
import math

import jax
import jax.numpy as jnp
from flax import nnx

from llm60_jax.config import INIT_STD, Lora, Model
from llm60_jax.config.schema import Remat
from llm60_jax.model import attention, layers
from llm60_jax.model.layers import Block, LayerNorm, Outputs
from llm60_jax.model.matmul import Array, matmul_nt
from llm60_jax.model.noise import dropout
from llm60_jax.plan import Noise

# What a policy keeps, by the names that `products.named` gives; all else is computed again in the backward pass.
_KEPT: dict[Remat, tuple[str, ...]] = {
    "full": (),
    "attention": ("attention", "norm"),
    "products": ("attention", "norm", "qkv", "middle", "mlp"),
}


class Transformer(nnx.Module):
    """A pre-LN decoder. `__call__` gives hidden states; `logits` applies the tied head to them."""

    def __init__(self, config: Model, rng: Array, lora: Lora | None = None, adapted_from: int = 0):
        residual_std = INIT_STD / math.sqrt(2 * config.layers)
        rng_embedding, rng_blocks = jax.random.split(rng)
        rngs = jax.random.split(rng_blocks, config.layers)
        self.config = config
        self.embedding = nnx.Param(INIT_STD * jax.random.normal(rng_embedding, (config.vocab_size, config.dim)))
        self.norm = LayerNorm(config.dim)
        for name, start, stop in config.named_stacks:
            adapters = lora if start >= adapted_from else None
            make = functools.partial(Block, config, INIT_STD, residual_std, lora=adapters)
            setattr(self, name, jax.vmap(make)(rngs[start:stop]))

    def __call__(
        self,
        tokens_BT: Array,
        segments_BT: Array,
        *,
        frozen_blocks: int = 0,
        remat: Remat = "none",
        noise: Noise = Noise(),
        rng: Array | None = None,
        dtype: jnp.dtype = jnp.dtype(jnp.bfloat16),
        prefix_BTD: Array | None = None,
    ) -> Outputs:
        """The forward pass.

        Args:
          tokens_BT: int32 token ids.
          segments_BT: int32 document number of each token inside its row; attention stays inside a document.
          frozen_blocks: counted from the bottom, that get no gradient. They run without noise and without remat,
            and nothing below the boundary is differentiated, the input side of the embedding included.
          remat: recomputation policy of the live blocks.
          rng: source of noise; None (evaluation) switches it off.
          dtype: of the operands of matrix products.
          prefix_BTD: what the frozen blocks compute for these tokens, when it is known already; they do not run then.
        """
        rope = layers.rope_tables(tokens_BT.shape[1], self.config.head_dim, self.config.rope_base)
        seen = attention.sight(segments_BT)
        if prefix_BTD is None:
            with jax.named_scope("embedding"):
                x_BTD = self.embedding[...][tokens_BT]
                if rng is not None and not frozen_blocks:
                    x_BTD = dropout(x_BTD, noise.embedding, jax.random.fold_in(rng, self.config.layers))
        else:
            x_BTD = prefix_BTD.astype(jnp.float32)
        stream: dict[int, Array] = {}
        for name, start, stop in self.config.named_stacks:
            live = start >= frozen_blocks
            if not live and prefix_BTD is not None:
                continue
            if start == frozen_blocks > 0:
                x_BTD = jax.lax.stop_gradient(x_BTD)
            x_BTD = stream[stop] = _scan(
                getattr(self, name),
                x_BTD,
                _layer_rngs(rng if live else None, start, stop),
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


def _layer_rngs(rng: Array | None, start: int, stop: int) -> Array | None:
    """A PRNG key for each block, from its depth alone, so that freezing lower blocks changes no other's noise."""
    return None if rng is None else jax.vmap(lambda i: jax.random.fold_in(rng, i))(jnp.arange(start, stop))


def _scan(stack: Block, x_BTD: Array, rngs: Array | None, apply, remat: Remat) -> Array:
    graphdef, params = nnx.split(stack)
    if remat != "none":
        # CSE cannot undo the recomputation across iterations of a scan, so the barrier against it is not needed.
        apply = nnx.remat(apply, prevent_cse=False, policy=jax.checkpoint_policies.save_only_these_names(*_KEPT[remat]))

    def body(x, block_and_rng):
        params, rng = block_and_rng
        return apply(nnx.merge(graphdef, params), x, rng), None

    return jax.lax.scan(body, x_BTD, (params, rngs))[0]
