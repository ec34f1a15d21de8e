"""The Transformer: embedding, scanned stacks of remat blocks, tied head.

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

Shape suffixes: B sequences, T positions, V vocabulary, D model width, F MLP width, n blocks of a
stack, L blocks of the model, I inputs, O outputs and r rank of an adapter.

Each stack runs as one `lax.scan`: scanned blocks compile in seconds, unrolled ones in minutes.
Stacks end where freezing may end, because an optimizer mask acts on whole leaves.
"""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

from llm60_jax.config import INIT_STD, Lora, Model
from llm60_jax.config.schema import Kernels, Remat
from llm60_jax.model import attention, layers, native
from llm60_jax.model.layers import Block, LayerNorm, Outputs, Shared
from llm60_jax.model.matmul import Array, matmul_nt
from llm60_jax.model.noise import dropout
from llm60_jax.plan import Noise

# The values that each remat policy saves, by the names that `matmul.named` gives them. The backward
# pass recomputes all others.
_SAVED_NAMES: dict[Remat, tuple[str, ...]] = {
    "full": (),
    "attention": ("attention", "norm"),
    "products": ("attention", "norm", "qkv", "middle", "mlp"),
}


class Transformer(nnx.Module):
    """A pre-LN decoder. `__call__` returns hidden states; `logits` applies the tied head."""

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
        kernels: Kernels = "xla",
        evidence: Array | None = None,
        sums: native.Sums | None = None,
    ) -> Outputs:
        """Run the forward pass.

        Args:
          tokens_BT: int32 token ids.
          segments_BT: int32 document number of each token; attention stays inside a document.
          frozen_blocks: how many blocks, from the bottom, have no gradient. They run without noise
            and remat. Below the boundary nothing is differentiated, the embedding's input side
            included.
          remat: recomputation policy of the live blocks.
          noise: rates; used only with an `rng`.
          rng: PRNG key of the noise; None (evaluation) switches it off.
          dtype: of the operands of matrix products.
          prefix_BTD: cached output of the frozen blocks for these tokens; they are then skipped.
          kernels: what runs the stacks.
          evidence: zeros; as their gradient come the native kernels' counts of the backward pass.
          sums: by live stack on the native kernels, what they add the gradients of its weights to;
            the new sums are the gradient of `sums`, and the stack's parameters have none.
        """
        rope = layers.rope_tables(tokens_BT.shape[1], self.config.head_dim, self.config.rope_base)
        shared = Shared(rope, attention.sight(segments_BT), noise, dtype)
        evidence, counts = native.no_evidence() if evidence is None else evidence, native.no_evidence()
        if prefix_BTD is None:
            x_BTD = self._embed(tokens_BT, noise, None if frozen_blocks else rng)
        else:
            x_BTD = prefix_BTD.astype(jnp.float32)
        stream: dict[int, Array] = {}
        for name, start, stop in self.config.named_stacks:
            live = start >= frozen_blocks
            if not live and prefix_BTD is not None:
                continue
            if start == frozen_blocks > 0:
                x_BTD = jax.lax.stop_gradient(x_BTD)
            rngs, policy = _layer_rngs(rng if live else None, start, stop), remat if live else "none"
            own_sums = (sums or {}).get(name)
            x_BTD, more = _STACKS[kernels](getattr(self, name), x_BTD, rngs, shared, policy, evidence, own_sums)
            stream[stop], counts = x_BTD, counts + more
        with jax.named_scope("norm"):
            hidden_BTD = self.norm(x_BTD)
        ran = self.config.layers - (frozen_blocks if prefix_BTD is not None else 0)
        coverage = _COVERAGES[kernels](shared.seen, counts, ran * self.config.heads)
        return Outputs(hidden_BTD, stream, coverage, counts)

    def _embed(self, tokens_BT: Array, noise: Noise, rng: Array | None) -> Array:
        """Look the tokens up, with dropout if there is an `rng`."""
        with jax.named_scope("embedding"):
            x_BTD = self.embed(tokens_BT)
            if rng is None:
                return x_BTD
            return dropout(x_BTD, noise.embedding, jax.random.fold_in(rng, self.config.layers))

    def embed(self, tokens: Array) -> Array:
        """Return the blocks' input for tokens of any shape [...], float32 [..., D].

        The head uses the same table without the scale. Vaswani et al. 2017, section 3.4, scale by the root of D.
        """
        return self.config.embedding_scale * self.embedding[...][tokens]

    def logits(self, hidden: Array, dtype: jnp.dtype = jnp.dtype(jnp.bfloat16)) -> Array:
        """Apply the tied head: hidden[..., D] -> float32 [..., V].

        This is for scoring and sampling; training uses losses.py, which never holds all logits.
        """
        flat = matmul_nt(hidden.reshape(-1, hidden.shape[-1]), self.embedding[...], dtype)
        return flat.reshape(*hidden.shape[:-1], -1)


def _layer_rngs(rng: Array | None, start: int, stop: int) -> Array | None:
    """Return a PRNG key for each block, from its depth alone.

    So freezing the lower blocks leaves the other blocks' noise as it was.
    """
    return None if rng is None else jax.vmap(lambda i: jax.random.fold_in(rng, i))(jnp.arange(start, stop))


def _scan(
    stack: Block, x_BTD: Array, rngs: Array | None, shared: Shared, remat: Remat, evidence: Array, sums: None
) -> tuple[Array, Array]:
    """Run the blocks of a stack in turn, each with `remat`. Return the stream, and counts of nothing."""
    graphdef, params = nnx.split(stack)

    def apply(block, x, rng):
        return block(x, shared, rng)

    if remat != "none":
        policy = jax.checkpoint_policies.save_only_these_names(*_SAVED_NAMES[remat])
        # A scan's iterations cannot undo the recomputation by CSE, so no barrier is needed.
        apply = nnx.remat(apply, prevent_cse=False, policy=policy)

    def body(x, block_and_rng):
        params, rng = block_and_rng
        return apply(nnx.merge(graphdef, params), x, rng), None

    return jax.lax.scan(body, x_BTD, (params, rngs))[0], native.no_evidence()


# What runs a stack, and what tells which share of the causal pairs attention used.
_STACKS: dict[Kernels, Callable[..., tuple[Array, Array]]] = {"xla": _scan, "native": native.stack}
_COVERAGES: dict[Kernels, Callable[..., Array]] = {"xla": attention.coverage, "native": native.coverage}
