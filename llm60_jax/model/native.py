"""Stacks and the head on the native CPU kernels, behind the interface of plain XLA.

`stack` stands for `transformer._scan`, `token_losses` and `head` for the head in losses.py, `extend`
and `logits` for the steps of generate.py, `orthogonalized` for Muon's products in optim.py. A residual's
factors are folded into the matrices before them, so the kernels do not know of them.

Shape suffixes: L blocks, B sequences, T positions, N tokens, D model width, V vocabulary,
n matrices of I rows and O columns.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from llm60_jax.config import Lora, Model
from llm60_jax.config.schema import Kernels, Remat
from llm60_jax.kernels import calls, library
from llm60_jax.model.attention import Sight
from llm60_jax.model.layers import Block, Shared
from llm60_jax.model.matmul import Array
from llm60_jax.model.noise import hash_numbers
from llm60_jax.plan import native as claims

no_evidence = calls.no_evidence
total = calls.total
# What the forward pass keeps under each remat policy, besides the inputs of the blocks.
_KEEPS: dict[Remat, tuple[str, ...]] = {
    "full": (),
    "attention": ("attention",),
    "products": ("attention", "rest"),
    "none": ("attention", "rest"),
}


def for_scoring(config: Model, lora: Lora | None = None) -> Kernels:
    """Return what scores and writes in this process, with an architecture and adapters that are not merged."""
    return "xla" if lora is not None or claims.unclaimed(config) else library.in_use()


def stack(
    blocks: Block,
    x_BTD: Array,
    rngs: Array | None,
    shared: Shared,
    remat: Remat,
    evidence: Array,
    sums: calls.Weights | None,
) -> tuple[Array, Array]:
    """Run the blocks of a stack. Return the residual stream, and counts of the forward pass."""
    width = blocks.mlp.down.kernel.shape[1]
    is_noisy = rngs is not None and shared.noise.mlp > 0
    settings = calls.Settings(
        heads=blocks.attention.heads,
        gated=blocks.mlp.is_gated,
        keeps=_KEEPS[remat],
        dropout=shared.noise.mlp if is_noisy else 0.0,
        dropout_width=width,
        dtype=library.operands(shared.dtype),
    )
    numbers = _dropout_numbers(rngs) if is_noisy else jnp.zeros((len(blocks.mlp.down.kernel[...]), 2), jnp.uint32)
    context = calls.Context(*shared.rope, shared.seen.segments_BT, numbers)
    with jax.named_scope("blocks"):
        return calls.stack(settings, x_BTD, weights(blocks), context, evidence, sums)


def _dropout_numbers(rngs: Array | None) -> Array:
    """Return the hash's numbers for the MLP of each block, uint32 [L, 2]."""
    # A block splits its key into six; the fifth is the MLP's (layers.Block).
    return jax.vmap(lambda rng: jnp.stack(hash_numbers(jax.random.split(rng, 6)[4])))(rngs)


def weights(blocks: Block) -> calls.Weights:
    """Return the parameters of stacked blocks as the kernels take them, the MLP's width padded."""
    up_LDU, down_LFD = blocks.mlp.up.kernel[...], blocks.mlp.down.kernel[...]
    if blocks.mlp.is_gated:
        L, D, _ = up_LDU.shape
        up_LDU = calls.padded(up_LDU.reshape(L, D, 2, -1), -1).reshape(L, D, -1)
    else:
        up_LDU = calls.padded(up_LDU, -1)
    return calls.Weights(
        attention_scale_LD=blocks.attention_norm.scale[...],
        attention_bias_LD=blocks.attention_norm.bias[...],
        mlp_scale_LD=blocks.mlp_norm.scale[...],
        mlp_bias_LD=blocks.mlp_norm.bias[...],
        qkv_LDE=blocks.attention.qkv.kernel[...],
        out_LDD=blocks.attention_residual.folded(blocks.attention.out.kernel[...]),
        up_LDU=up_LDU,
        down_LFD=blocks.mlp_residual.folded(calls.padded(down_LFD, -2)),
    )


Sums = dict[str, calls.Weights]  # by stack: sums of the gradients of `weights`


def of_stacks(network: Any, frozen_blocks: int) -> Sums:
    """Return `weights` of all live stacks of a Transformer."""
    stacks = network.config.named_stacks
    return {name: weights(getattr(network, name)) for name, start, _ in stacks if start >= frozen_blocks}


def coverage(seen: Sight, counts: Array, heads: int) -> Array:
    """Return the share of the causal pairs that attention used, by its own count, float32.

    Args:
      heads: of all blocks that ran, together.
    """
    B, T = seen.segments_BT.shape
    return calls.share(counts[1]) * np.float32(2 / (heads * B * T * (T + 1)))


def token_losses(hidden_ND: Array, embedding_VD: Array, targets_N: Array, dtype: jnp.dtype) -> Array:
    """Return the negative log-likelihood of each target in nats, float32 [N]."""
    ones_N = jnp.ones(len(targets_N))
    return calls.head(hidden_ND, embedding_VD, targets_N, ones_N, library.operands(dtype), (False, False)).losses_N


def head(
    hidden_ND: Array,
    embedding_VD: Array,
    targets_N: Array,
    weights_N: Array,
    dtype: jnp.dtype,
    wanted: tuple[bool, bool],
) -> calls.HeadResult:
    """Return the losses of the targets, the gradients that are `wanted`, and counts."""
    return calls.head(hidden_ND, embedding_VD, targets_N, weights_N, library.operands(dtype), wanted)


def extend(
    blocks: Block, x_BD: Array, rope: tuple[Array, Array], caches: tuple[Array, Array], position: Array, room: int
) -> tuple[Array, tuple[Array, Array]]:
    """Take one token of each row through the blocks of a stack; attention reads only the positions so far."""
    heads, gated = blocks.attention.heads, blocks.mlp.is_gated
    return calls.write(x_BD, rope, weights(blocks), position, caches, heads, gated)


def logits(network: Any, hidden_BD: Array) -> Array:
    """Return the logits of hidden states under the tied head, float32 [B, V]."""
    return calls.logits(hidden_BD, network.embedding[...])


def orthogonalized(x_nIO: Array, matrices: int, dtype: jnp.dtype) -> Array:
    """Return matrices made nearly orthogonal, times their own norms; `matrices` of them stand side by side."""
    return calls.orthogonalized(x_nIO, matrices, library.operands(dtype))
