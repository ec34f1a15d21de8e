"""Attention over packed rows: one function, `attend`, with an implementation for each kind of device.

Shape suffixes: B sequences, H heads, T queries, S keys, K head width.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from llm60_jax.model.matmul import Array, dot, dot_nt, joined, matmul, matmul_nt, named, tagged, transposed
from llm60_jax.plan.flops import ATTENTION_CHUNK

FUSED_BLOCK = 128  # positions
_NEVER = -1e30


class Sight(NamedTuple):
    """What each position of a row may look at, in the forms that implementations ask for."""

    segments_BT: Array  # int32, document number inside the row, 0 for padding
    mask_B1TS: Array  # bool, query t sees key s
    mask_B1ST: Array  # the same, keys first


def sight(segments_BT: Array) -> Sight:
    """Position t sees s when s <= t and both belong to the same document. The diagonal is always set, so padding
    (segment 0) has no empty row."""
    mask_B1TS = document_mask(segments_BT)
    return Sight(segments_BT, mask_B1TS, mask_B1TS.swapaxes(2, 3))


def document_mask(segments_BT: Array) -> Array:
    """Bool [B, 1, T, T], as `sight` says."""
    length = segments_BT.shape[1]
    same = segments_BT[:, :, None] == segments_BT[:, None, :]
    return (same & np.tri(length, dtype=bool))[:, None]


def attend(
    q_BHTK: Array,
    k_BHTK: Array,
    v_BHTK: Array,
    seen: Sight,
    dtype: jnp.dtype,
    thin: Callable[[Array], Array] | None = None,
) -> Array:
    """Softmax attention of a row over itself -> `dtype` [B, H, T, K], products with operands of `dtype`.

    A GPU and a TPU use the library's fused kernels where they can, a CPU and all else `chunked`; weights that are
    thinned out (dropout) go by the definition.
    """
    if thin is not None:
        return named(plain(q_BHTK, k_BHTK, v_BHTK, seen.mask_B1TS, dtype, thin).astype(dtype), "attention")
    q_BHTK, k_BHTK, v_BHTK = (x.astype(dtype) for x in (q_BHTK, k_BHTK, v_BHTK))
    if not is_fused(q_BHTK.shape[2]):
        return chunked(q_BHTK, k_BHTK, v_BHTK, seen, dtype)
    return named(_FUSED[jax.default_backend()](q_BHTK, k_BHTK, v_BHTK, seen), "attention")


def is_fused(length: int) -> bool:
    """Whether rows of this length go through a fused kernel on this machine's devices. Kernels take whole blocks."""
    return jax.default_backend() in _FUSED and length % FUSED_BLOCK == 0


def plain(
    q_BHTK: Array,
    k_BHSK: Array,
    v_BHSK: Array,
    mask: Array,
    dtype: jnp.dtype,
    thin: Callable[[Array], Array] = lambda weights_BHTS: weights_BHTS,
) -> Array:
    """The same by its definition, all scores at once -> float32 [B, H, T, K].

    Args:
      mask: bool, broadcastable to [B, H, T, S].
      thin: what happens to the weights before they meet the values (dropout).
    """
    scores_BHTS = matmul_nt(q_BHTK, k_BHSK, dtype) * _scale(q_BHTK)
    weights_BHTS = jax.nn.softmax(jnp.where(mask, scores_BHTS, _NEVER), axis=-1)
    return matmul(thin(weights_BHTS), v_BHSK, dtype)


def _scale(q: Array) -> float:
    return 1 / math.sqrt(q.shape[-1])


# --- For a CPU -------------------------------------------------------------------------------------------------------
#
# Queries go in chunks that meet only the keys they may see, so the masked half costs little. The backward pass keeps
# the output and the logarithm of each softmax's denominator (Dao et al. 2022) and computes the weights again, keys
# first: so only one of its five products needs a transposed operand.


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def chunked(q_BHTK: Array, k_BHTK: Array, v_BHTK: Array, seen: Sight, dtype: jnp.dtype) -> Array:
    """As `attend`; q, k and v are of `dtype` already."""
    return _chunked_forward(q_BHTK, k_BHTK, v_BHTK, seen, dtype)[0]


def _chunked_forward(q: Array, k: Array, v: Array, seen: Sight, dtype: jnp.dtype):
    outputs, logs = [], []
    for start, stop in _spans(q.shape[2]):
        scores_BHCS = dot_nt(q[:, :, start:stop], k[:, :, :stop], dtype) * _scale(q)
        scores_BHCS = jnp.where(seen.mask_B1TS[:, :, start:stop, :stop], scores_BHCS, _NEVER)
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
    return [(start, min(start + ATTENTION_CHUNK, length)) for start in range(0, length, ATTENTION_CHUNK)]


# --- For a GPU and a TPU ---------------------------------------------------------------------------------------------


def on_gpu(q_BHTK: Array, k_BHTK: Array, v_BHTK: Array, seen: Sight, interpret: bool = False) -> Array:
    """jax's Triton kernel, whose backward pass is fused as well. `interpret` runs it on a CPU, for tests."""
    from jax.experimental.pallas.ops.gpu.attention import mha

    rows = (x.swapaxes(1, 2) for x in (q_BHTK, k_BHTK, v_BHTK))
    mixed = mha(*rows, seen.segments_BT, sm_scale=_scale(q_BHTK), causal=True, interpret=interpret)
    return mixed.swapaxes(1, 2)


def on_tpu(q_BHTK: Array, k_BHTK: Array, v_BHTK: Array, seen: Sight) -> Array:
    """jax's Mosaic kernel."""
    from jax.experimental.pallas.ops.tpu.flash_attention import SegmentIds, flash_attention

    ids = SegmentIds(seen.segments_BT, seen.segments_BT)
    return flash_attention(q_BHTK, k_BHTK, v_BHTK, segment_ids=ids, causal=True, sm_scale=_scale(q_BHTK))


_FUSED = {"gpu": on_gpu, "tpu": on_tpu}
