"""Attention over packed rows: `attend` picks an implementation by device.

Shape suffixes: B sequences, H heads, T queries, S keys, K head width, C positions of one chunk.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from llm60_jax.model import target
from llm60_jax.model.matmul import Array, dot, dot_nt, joined, matmul, matmul_nt, named, tagged, transposed
from llm60_jax.plan.flops import ATTENTION_CHUNK

FUSED_BLOCK = 128  # positions; fused kernels take whole blocks
_MASKED_SCORE = -1e30


class Sight(NamedTuple):
    """The keys that each query of a row may attend to, in the forms that implementations need."""

    segments_BT: Array  # int32, document number inside the row, 0 for padding
    mask_B1TS: Array  # bool, query t sees key s
    mask_B1ST: Array  # bool, the same with keys first


def sight(segments_BT: Array) -> Sight:
    """Let query t see key s if s <= t and both are in the same document.

    The diagonal is always set, so padding (segment 0) has no empty row.
    """
    mask_B1TS = document_mask(segments_BT)
    return Sight(segments_BT, mask_B1TS, mask_B1TS.swapaxes(2, 3))


def document_mask(segments_BT: Array) -> Array:
    """Return `sight`'s mask alone, bool [B, 1, T, T]."""
    length = segments_BT.shape[1]
    same = segments_BT[:, :, None] == segments_BT[:, None, :]
    return (same & np.tri(length, dtype=bool))[:, None]


def coverage(seen: Sight, counts: Array, heads: int) -> Array:
    """Return the share of the causal pairs of positions that the mask allows, float32."""
    length = seen.mask_B1TS.shape[-1]
    return seen.mask_B1TS.mean() * (2 * length / (length + 1))


def attend(
    q_BHTK: Array,
    k_BHTK: Array,
    v_BHTK: Array,
    seen: Sight,
    dtype: jnp.dtype,
    drop: Callable[[Array], Array] | None = None,
) -> Array:
    """Return softmax attention of each row over itself, `dtype` [B, H, T, K].

    GPUs and TPUs use jax's fused kernels where length and dtype allow; all else uses `chunked`.
    Dropout of attention weights needs `plain`, on every device.

    Args:
      dtype: of the operands of matrix products.
      drop: dropout of the weights, or None.
    """
    if drop is not None:
        return named(plain(q_BHTK, k_BHTK, v_BHTK, seen.mask_B1TS, dtype, drop).astype(dtype), "attention")
    q_BHTK, k_BHTK, v_BHTK = (x.astype(dtype) for x in (q_BHTK, k_BHTK, v_BHTK))
    if not is_fused(q_BHTK.shape[2], dtype):
        return chunked(q_BHTK, k_BHTK, v_BHTK, seen, dtype)
    return named(FUSED_KERNELS[target.platform()](q_BHTK, k_BHTK, v_BHTK, seen), "attention")


def is_fused(length: int, dtype: jnp.dtype | str) -> bool:
    """Return whether this machine's device runs rows of this length through a fused kernel.

    Their products of float32 have fewer bits than float32 (TF32 on a GPU), so those go another way.
    """
    fits = length % FUSED_BLOCK == 0 and jnp.dtype(dtype) == jnp.bfloat16
    return fits and target.platform() in FUSED_KERNELS


def plain(
    q_BHTK: Array,
    k_BHSK: Array,
    v_BHSK: Array,
    mask: Array,
    dtype: jnp.dtype,
    drop: Callable[[Array], Array] = lambda weights_BHTS: weights_BHTS,
) -> Array:
    """Return softmax attention by its definition, with all scores at once, float32 [B, H, T, K].

    Args:
      mask: bool, broadcastable to [B, H, T, S].
      dtype: of the operands of matrix products.
      drop: dropout of the weights [B, H, T, S].
    """
    scores_BHTS = matmul_nt(q_BHTK, k_BHSK, dtype) * _scale(q_BHTK)
    weights_BHTS = jax.nn.softmax(jnp.where(mask, scores_BHTS, _MASKED_SCORE), axis=-1)
    return matmul(drop(weights_BHTS), v_BHSK, dtype)


def _scale(q: Array) -> float:
    return 1 / math.sqrt(q.shape[-1])


# --- CPU ------------------------------------------------------------------------------------------
#
# Each chunk of queries meets only the keys up to its end, so the masked half costs little. The
# forward pass saves the output and the log of each softmax's denominator (Dao et al. 2022). The
# backward pass recomputes the weights, keys first; so only one of its five products needs a
# transposed operand.


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def chunked(q_BHTK: Array, k_BHTK: Array, v_BHTK: Array, seen: Sight, dtype: jnp.dtype) -> Array:
    """Return attention as `attend` does, in chunks of queries. q, k and v have `dtype` already."""
    return _chunked_forward(q_BHTK, k_BHTK, v_BHTK, seen, dtype)[0]


def _chunked_forward(q: Array, k: Array, v: Array, seen: Sight, dtype: jnp.dtype):
    outputs, logs = [], []
    for start, stop in _spans(q.shape[2]):
        scores_BHCS = dot_nt(q[:, :, start:stop], k[:, :, :stop], dtype) * _scale(q)
        scores_BHCS = jnp.where(seen.mask_B1TS[:, :, start:stop, :stop], scores_BHCS, _MASKED_SCORE)
        top = scores_BHCS.max(-1, keepdims=True)
        weights_BHCS = jnp.exp(scores_BHCS - top)
        total = weights_BHCS.sum(-1, keepdims=True)
        outputs.append((dot(weights_BHCS, v[:, :, :stop], dtype) / total).astype(dtype))
        logs.append((top + jnp.log(total))[..., 0])
    output_BHTK = tagged(joined(outputs, 2), "attention")
    log_BHT = tagged(joined(logs, 2), "attention")
    return output_BHTK, (q, k, v, seen, output_BHTK, log_BHT)


def _chunked_backward(dtype: jnp.dtype, saved, d_output: Array):
    q, k, v, seen, output, log_BHT = saved
    scale, barrier = _scale(q), jax.lax.optimization_barrier
    slope_BHT = (d_output.astype(jnp.float32) * output.astype(jnp.float32)).sum(-1)
    spans = _spans(q.shape[2])
    d_q: list[Any] = [0.0] * len(spans)
    d_k, d_v = [], []
    for number, (start, stop) in enumerate(spans):
        q_BHTK, d_output_BHTK, k_BHCK = q[:, :, start:], d_output[:, :, start:], k[:, :, start:stop]
        scores_BHCT = dot_nt(k_BHCK, q_BHTK, dtype) * scale
        weights_BHCT = jnp.exp(scores_BHCT - log_BHT[:, :, None, start:])
        weights_BHCT = jnp.where(seen.mask_B1ST[:, :, start:stop, start:], weights_BHCT, 0)
        weights_BHCT = barrier(weights_BHCT.astype(dtype))
        d_weights_BHCT = dot_nt(v[:, :, start:stop], d_output_BHTK, dtype) - slope_BHT[:, :, None, start:]
        d_scores_BHCT = barrier((weights_BHCT.astype(jnp.float32) * d_weights_BHCT).astype(dtype))
        d_v.append(dot(weights_BHCT, d_output_BHTK, dtype).astype(dtype))
        d_k.append((dot(d_scores_BHCT, q_BHTK, dtype) * scale).astype(dtype))
        part_BHTK = dot(transposed(d_scores_BHCT), k_BHCK, dtype)
        for later, (first, last) in enumerate(spans[number:], number):
            d_q[later] += part_BHTK[:, :, first - start : last - start]
    return (joined(d_q, 2) * scale).astype(dtype), joined(d_k, 2), joined(d_v, 2), None


chunked.defvjp(_chunked_forward, _chunked_backward)


def _spans(length: int) -> list[tuple[int, int]]:
    """Return start and stop of each chunk of positions."""
    return [(start, min(start + ATTENTION_CHUNK, length)) for start in range(0, length, ATTENTION_CHUNK)]


# --- GPU and TPU ----------------------------------------------------------------------------------


def on_gpu(q_BHTK: Array, k_BHTK: Array, v_BHTK: Array, seen: Sight, interpret: bool = False) -> Array:
    """Run jax's Triton kernel, fused in both passes; `interpret` runs it on a CPU, for tests."""
    from jax.experimental.pallas.ops.gpu.attention import mha

    rows = (x.swapaxes(1, 2) for x in (q_BHTK, k_BHTK, v_BHTK))
    mixed = mha(*rows, seen.segments_BT, sm_scale=_scale(q_BHTK), causal=True, interpret=interpret)
    return mixed.swapaxes(1, 2)


def on_tpu(q_BHTK: Array, k_BHTK: Array, v_BHTK: Array, seen: Sight) -> Array:
    """Run jax's Mosaic kernel."""
    from jax.experimental.pallas.ops.tpu.flash_attention import SegmentIds, flash_attention

    ids = SegmentIds(seen.segments_BT, seen.segments_BT)
    return flash_attention(q_BHTK, k_BHTK, v_BHTK, segment_ids=ids, causal=True, sm_scale=_scale(q_BHTK))


FUSED_KERNELS = {"gpu": on_gpu, "tpu": on_tpu}
