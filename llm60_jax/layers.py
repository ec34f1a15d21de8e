"""The layers: norm, rotary embedding, attention, MLP, block (Flax NNX), and the matrix products under them.

Shape suffixes: B sequences, T positions, D model width, F MLP width, H heads, K head width, N tokens (B x T flat).

Dtype policy, stated once: parameters, residual stream, norms and softmax are float32. The operands of every matrix
product are cast to a compute dtype (bfloat16 in training, float32 for scoring) and accumulate in float32, in the
backward pass too. Modules hold parameters only; randomness comes in as an explicit key, None meaning "no noise".
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.experimental.layout import Layout, with_layout_constraint

from llm60_jax.config import Model

Array = jax.Array


class Noise(NamedTuple):
    """Dropout rates of a phase (playbook, section 11). Zero everywhere is the neutral setting."""

    mlp: float = 0.0
    attention: float = 0.0
    embedding: float = 0.0


# --- Matrix products -------------------------------------------------------------------------------------------------
#
# Autodiff of a bfloat16 product with float32 accumulation hands a float32 cotangent to the backward products, which
# then miss the CPU's bfloat16 kernels. These two products, each the other's derivative, cast the cotangent instead.


def _dot(a: Array, b: Array, contract_b: int, dtype: jnp.dtype) -> Array:
    batch = tuple(range(a.ndim - 2))
    dims = (((a.ndim - 1,), (b.ndim + contract_b,)), (batch, batch))
    return jax.lax.dot_general(a.astype(dtype), b.astype(dtype), dims, preferred_element_type=jnp.float32)


def transposed(x: Array) -> Array:
    """x[..., M, N] -> [..., N, M], materialised: one folded into the product is 3 to 6 times slower on a CPU."""
    x = x.swapaxes(-1, -2)
    if jax.default_backend() != "cpu":
        return x
    return with_layout_constraint(x, Layout(major_to_minor=tuple(range(x.ndim))))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def matmul(a: Array, b: Array, dtype: jnp.dtype) -> Array:
    """a[..., M, K] @ b[..., K, N] -> float32 [..., M, N]; equal batch axes; operands and cotangent cast to `dtype`."""
    return _dot(a, b, -2, dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def matmul_nt(a: Array, b: Array, dtype: jnp.dtype) -> Array:
    """a[..., M, K] @ b[..., N, K]^T -> float32 [..., M, N]; otherwise as `matmul`."""
    return _dot(a, b, -1, dtype)


def _forward(contract_b: int, a: Array, b: Array, dtype: jnp.dtype):
    # Zero-size stand-ins carry the primal dtypes, which the cotangents must have.
    kinds = jnp.zeros(0, a.dtype), jnp.zeros(0, b.dtype)
    a, b = a.astype(dtype), b.astype(dtype)
    return _dot(a, b, contract_b, dtype), (a, b, kinds)


def _matmul_backward(dtype: jnp.dtype, saved, g: Array):
    a, b, (kind_a, kind_b) = saved
    g = g.astype(dtype)
    return _dot(g, b, -1, dtype).astype(kind_a.dtype), _dot(transposed(a), g, -2, dtype).astype(kind_b.dtype)


def _matmul_nt_backward(dtype: jnp.dtype, saved, g: Array):
    a, b, (kind_a, kind_b) = saved
    g = g.astype(dtype)
    return _dot(g, b, -2, dtype).astype(kind_a.dtype), _dot(transposed(g), a, -2, dtype).astype(kind_b.dtype)


matmul.defvjp(functools.partial(_forward, -2), _matmul_backward)
matmul_nt.defvjp(functools.partial(_forward, -1), _matmul_nt_backward)


# --- Small functions -------------------------------------------------------------------------------------------------


def dropout(x: Array, rate: float, key: Array | None) -> Array:
    """Zeroes a share `rate` of x and scales the rest up; the identity when `key` is None or the rate 0.

    Draws 16 random bits an element, half the cost of a float32 draw; the rate is exact to 1/65536.
    """
    if key is None or rate == 0:
        return x
    dropped = round(rate * 65_536)
    keep = jax.random.bits(key, x.shape, jnp.uint16) >= dropped
    return jnp.where(keep, x * (65_536 / (65_536 - dropped)), 0)


def rope_tables(length: int, head_dim: int, base: float) -> tuple[np.ndarray, np.ndarray]:
    """Cosines and sines, float32 [length, head_dim / 2] (Su et al. 2021)."""
    frequencies = base ** (-np.arange(0, head_dim, 2) / head_dim)
    angles = np.arange(length)[:, None] * frequencies
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)


def rotate(x_BHTK: Array, cos_TK: Array, sin_TK: Array) -> Array:
    """Rotates the two halves of each head by position. Scores then depend on distance only, so a document may start
    anywhere in a packed row."""
    low, high = jnp.split(x_BHTK, 2, axis=-1)
    return jnp.concatenate([low * cos_TK - high * sin_TK, high * cos_TK + low * sin_TK], axis=-1)


def document_mask(segments_BT: Array) -> Array:
    """Bool [B, 1, T, T]: position t sees s when s <= t and both belong to the same document. The diagonal is always
    set, so padding (segment 0) has no empty row."""
    length = segments_BT.shape[1]
    same = segments_BT[:, :, None] == segments_BT[:, None, :]
    return (same & np.tri(length, dtype=bool))[:, None]


def attend(
    q_BHTK: Array, k_BHSK: Array, v_BHSK: Array, mask: Array, rate: float, key: Array | None, dtype: jnp.dtype
) -> Array:
    """Masked softmax attention -> float32 [B, H, T, K]. `mask` is bool, broadcastable to [B, H, T, S]."""
    scale = 1 / math.sqrt(q_BHTK.shape[-1])
    scores_BHTS = matmul_nt(q_BHTK * scale, k_BHSK, dtype)
    weights_BHTS = jax.nn.softmax(jnp.where(mask, scores_BHTS, -1e30), axis=-1)
    return matmul(dropout(weights_BHTS, rate, key), v_BHSK, dtype)


# --- Modules ---------------------------------------------------------------------------------------------------------


class LayerNorm(nnx.Module):
    """Over the last axis, with scale and bias, eps 1e-5, float32 (Ba et al. 2016)."""

    def __init__(self, dim: int):
        self.scale = nnx.Param(jnp.ones(dim))
        self.bias = nnx.Param(jnp.zeros(dim))

    def __call__(self, x: Array) -> Array:
        centred = x - x.mean(-1, keepdims=True)
        inverse = jax.lax.rsqrt(jnp.square(centred).mean(-1, keepdims=True) + 1e-5)
        return centred * inverse * self.scale[...] + self.bias[...]


class Linear(nnx.Module):
    """x[..., I] -> float32 [..., O], no bias. The kernel is [I, O], N(0, std)."""

    def __init__(self, inputs: int, outputs: int, std: float, key: Array):
        self.kernel = nnx.Param(std * jax.random.normal(key, (inputs, outputs)))

    def __call__(self, x: Array, dtype: jnp.dtype) -> Array:
        kernel = self.kernel[...]
        flat = matmul(x.reshape(-1, x.shape[-1]), kernel, dtype)
        return flat.reshape(*x.shape[:-1], kernel.shape[-1])


class Attention(nnx.Module):
    """Multi-head attention with rotary positions. q, k and v share one two-dimensional kernel [D, 3D], which Adafactor
    can factor; a kernel split into heads it cannot."""

    def __init__(self, c: Model, std: float, residual_std: float, key: Array):
        key_qkv, key_out = jax.random.split(key)
        self.heads = c.heads
        self.qkv = Linear(c.dim, 3 * c.dim, std, key_qkv)
        self.out = Linear(c.dim, c.dim, residual_std, key_out)

    def project(self, x_BTD: Array, cos_TK: Array, sin_TK: Array, dtype: jnp.dtype) -> tuple[Array, Array, Array]:
        """Rotated queries and keys, and values, each [B, H, T, K]."""
        B, T, D = x_BTD.shape
        qkv = self.qkv(x_BTD, dtype).reshape(B, T, 3, self.heads, D // self.heads)
        q, k, v = (qkv[:, :, i].swapaxes(1, 2) for i in range(3))
        return rotate(q, cos_TK, sin_TK), rotate(k, cos_TK, sin_TK), v

    def merge(self, o_BHTK: Array, dtype: jnp.dtype) -> Array:
        """Heads side by side, through the output projection: [B, T, D]."""
        B, H, T, K = o_BHTK.shape
        return self.out(o_BHTK.swapaxes(1, 2).reshape(B, T, H * K), dtype)


class MLP(nnx.Module):
    """D -> F -> D with GELU in its tanh form."""

    def __init__(self, c: Model, std: float, residual_std: float, key: Array):
        key_up, key_down = jax.random.split(key)
        self.up = Linear(c.dim, c.hidden_dim, std, key_up)
        self.down = Linear(c.hidden_dim, c.dim, residual_std, key_down)

    def __call__(self, x_BTD: Array, rate: float, key: Array | None, dtype: jnp.dtype) -> Array:
        hidden_BTF = jax.nn.gelu(self.up(x_BTD, dtype), approximate=True)
        return self.down(dropout(hidden_BTF, rate, key), dtype)


class Block(nnx.Module):
    """Pre-LN: x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, c: Model, std: float, residual_std: float, key: Array):
        key_attention, key_mlp = jax.random.split(key)
        self.attention_norm = LayerNorm(c.dim)
        self.attention = Attention(c, std, residual_std, key_attention)
        self.mlp_norm = LayerNorm(c.dim)
        self.mlp = MLP(c, std, residual_std, key_mlp)

    def __call__(
        self,
        x_BTD: Array,
        rope: tuple[Array, Array],
        mask: Array,
        noise: Noise = Noise(),
        key: Array | None = None,
        dtype: jnp.dtype = jnp.dtype(jnp.bfloat16),
    ) -> Array:
        key_attention, key_mlp = (None, None) if key is None else jax.random.split(key)
        q, k, v = self.attention.project(self.attention_norm(x_BTD), *rope, dtype)
        x_BTD = x_BTD + self.attention.merge(attend(q, k, v, mask, noise.attention, key_attention, dtype), dtype)
        return x_BTD + self.mlp(self.mlp_norm(x_BTD), noise.mlp, key_mlp, dtype)

    def extend(
        self, x_BTD: Array, rope: tuple[Array, Array], cache: tuple[Array, Array], position: Array, dtype: jnp.dtype
    ) -> tuple[Array, tuple[Array, Array]]:
        """One token (T = 1) at `position`, given the keys and values [B, H, S, K] of the tokens before it.

        Returns the block's output and the cache with this token's key and value written in.
        """
        q, k, v = self.attention.project(self.attention_norm(x_BTD), *rope, dtype)
        keys, values = (
            jax.lax.dynamic_update_slice_in_dim(old, new.astype(old.dtype), position, axis=2)
            for old, new in zip(cache, (k, v), strict=True)
        )
        seen = jnp.arange(keys.shape[2]) <= position
        x_BTD = x_BTD + self.attention.merge(attend(q, keys, values, seen, 0.0, None, dtype), dtype)
        return x_BTD + self.mlp(self.mlp_norm(x_BTD), 0.0, None, dtype), (keys, values)
