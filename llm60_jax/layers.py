"""The layers: norm, rotary embedding, attention, MLPs, block (Flax NNX), and the matrix products under them.

Shape suffixes: B sequences, T positions, D model width, F MLP width, H heads, K head width, N tokens (B x T flat).

Dtype policy, stated once: parameters, residual stream, norms and softmax are float32. The operands of every matrix
product are cast to a compute dtype (bfloat16 in training, float32 for scoring) and accumulate in float32, in the
backward pass too. Modules hold parameters only; randomness comes in as an explicit key, None meaning "no noise".

What an enhancement changes is chosen once, from a table of classes, when a block is built (`MLPS`, `RESIDUALS`,
`_linear`); the forward pass has no switches.
"""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.experimental.layout import Layout, with_layout_constraint

from llm60_jax.config import Model
from llm60_jax.phase import Lora
from llm60_jax.step_key import Noise

Array = jax.Array


class Outputs(NamedTuple):
    """What a Transformer computes."""

    hidden_BTD: Array  # after the final norm, float32
    stream: dict[int, Array]  # the residual stream [B, T, D] at the end of each computed segment, by depth
    mask_coverage: Array  # float32, share of the causal pairs of positions that the mask in use leaves open


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


def _forward(contract_b: int, a: Any, b: Any, dtype: jnp.dtype):
    """Saves only what the backward pass will use: an operand that no gradient is asked for (a frozen kernel, the input
    of the lowest live block) costs it neither memory nor a product."""
    x, y = a.value.astype(dtype), b.value.astype(dtype)
    # Zero-size stand-ins carry the primal dtypes, which the cotangents must have.
    kinds = jnp.zeros(0, a.value.dtype), jnp.zeros(0, b.value.dtype)
    return _dot(x, y, contract_b, dtype), (x if b.perturbed else None, y if a.perturbed else None, kinds)


def _matmul_backward(dtype: jnp.dtype, saved, g: Array):
    a, b, (kind_a, kind_b) = saved
    g = g.astype(dtype)
    d_a = None if b is None else _dot(g, b, -1, dtype).astype(kind_a.dtype)
    d_b = None if a is None else _dot(transposed(a), g, -2, dtype).astype(kind_b.dtype)
    return d_a, d_b


def _matmul_nt_backward(dtype: jnp.dtype, saved, g: Array):
    a, b, (kind_a, kind_b) = saved
    g = g.astype(dtype)
    d_a = None if b is None else _dot(g, b, -2, dtype).astype(kind_a.dtype)
    d_b = None if a is None else _dot(transposed(g), a, -2, dtype).astype(kind_b.dtype)
    return d_a, d_b


matmul.defvjp(functools.partial(_forward, -2), _matmul_backward, symbolic_zeros=True)
matmul_nt.defvjp(functools.partial(_forward, -1), _matmul_nt_backward, symbolic_zeros=True)


# --- Small functions -------------------------------------------------------------------------------------------------


def dropout(x: Array, rate: float, key: Array | None) -> Array:
    """Zeroes a share `rate` of x and scales the rest up; the identity when `key` is None or the rate 0.

    Draws 16 random bits an element, half the cost of a float32 draw; the rate is exact to 1/65536.
    """
    if key is None or rate == 0:
        return x
    return _thinned(x, x.shape, rate, key)


def drop_path(branch_BTD: Array, rate: float, key: Array | None) -> Array:
    """Leaves a residual branch out for a share `rate` of the sequences and scales it up for the rest (Huang et al.
    2016); the identity when `key` is None or the rate 0."""
    if key is None or rate == 0:
        return branch_BTD
    return _thinned(branch_BTD, (branch_BTD.shape[0], 1, 1), rate, key)


def jitter(x: Array, deviation: float, key: Array | None) -> Array:
    """Adds uniform noise of a standard deviation; the identity when `key` is None or the deviation 0."""
    if key is None or deviation == 0:
        return x
    bits = jax.random.bits(key, x.shape, jnp.uint16).astype(jnp.float32)
    return x + (bits / 65_535 - 0.5) * (deviation * math.sqrt(12))


def _thinned(x: Array, shape: tuple[int, ...], rate: float, key: Array) -> Array:
    dropped = round(rate * 65_536)
    keep = jax.random.bits(key, shape, jnp.uint16) >= dropped
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


def layer_norm(x: Array, scale: Array, bias: Array) -> Array:
    """Over the last axis, eps 1e-5, float32 (Ba et al. 2016)."""
    return standardised(x) * scale + bias


def standardised(x: Array) -> Array:
    """Mean 0 and variance 1 over the last axis, eps 1e-5."""
    centred = x - x.mean(-1, keepdims=True)
    return centred * jax.lax.rsqrt(jnp.square(centred).mean(-1, keepdims=True) + 1e-5)


class LayerNorm(nnx.Module):
    """`layer_norm` with its scale and bias."""

    def __init__(self, dim: int):
        self.scale = nnx.Param(jnp.ones(dim))
        self.bias = nnx.Param(jnp.zeros(dim))

    def __call__(self, x: Array) -> Array:
        return layer_norm(x, self.scale[...], self.bias[...])


class Linear(nnx.Module):
    """x[..., I] -> float32 [..., O], no bias. The kernel is [I, O], N(0, std)."""

    def __init__(self, inputs: int, outputs: int, std: float, key: Array):
        self.kernel = nnx.Param(std * jax.random.normal(key, (inputs, outputs)))

    def __call__(self, x: Array, dtype: jnp.dtype) -> Array:
        flat = self._apply(x.reshape(-1, x.shape[-1]), dtype)
        return flat.reshape(*x.shape[:-1], flat.shape[-1])

    def _apply(self, x_NI: Array, dtype: jnp.dtype) -> Array:
        return matmul(x_NI, self.kernel[...], dtype)


class LoraLinear(Linear):
    """A Linear whose kernel acts as W + scale * A B (Hu et al. 2021). A [I, r] is N(0, 1/I); B [r, O] is 0, so that
    nothing changes before the first step."""

    def __init__(self, inputs: int, outputs: int, std: float, key: Array, lora: Lora):
        super().__init__(inputs, outputs, std, key)
        self.scale = lora.scale
        self.a = nnx.Param(jax.random.normal(jax.random.fold_in(key, 1), (inputs, lora.rank)) / math.sqrt(inputs))
        self.b = nnx.Param(jnp.zeros((lora.rank, outputs)))

    def _apply(self, x_NI: Array, dtype: jnp.dtype) -> Array:
        low_Nr = matmul(x_NI, self.a[...], dtype)
        return super()._apply(x_NI, dtype) + self.scale * matmul(low_Nr, self.b[...], dtype)


def _linear(c: Model, lora: Lora | None, name: str, std: float, key: Array) -> Linear:
    """The matrix of a block by its name in `Model.linears`, with an adapter where one is asked for."""
    inputs, outputs = c.linears[name]
    if lora is not None and name in lora.targets:
        return LoraLinear(inputs, outputs, std, key, lora)
    return Linear(inputs, outputs, std, key)


class Attention(nnx.Module):
    """Multi-head attention with rotary positions. q, k and v share one two-dimensional kernel [D, 3D], which Adafactor
    can factor; a kernel split into heads it cannot."""

    def __init__(self, c: Model, std: float, residual_std: float, key: Array, lora: Lora | None = None):
        key_qkv, key_out = jax.random.split(key)
        self.heads = c.heads
        self.qkv = _linear(c, lora, "attention.qkv", std, key_qkv)
        self.out = _linear(c, lora, "attention.out", residual_std, key_out)

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

    def __init__(self, c: Model, std: float, residual_std: float, key: Array, lora: Lora | None = None):
        key_up, key_down = jax.random.split(key)
        self.up = _linear(c, lora, "mlp.up", std, key_up)
        self.down = _linear(c, lora, "mlp.down", residual_std, key_down)

    def __call__(self, x_BTD: Array, rate: float, key: Array | None, dtype: jnp.dtype) -> Array:
        hidden_BTF = self._activate(self.up(x_BTD, dtype))
        return self.down(dropout(hidden_BTF, rate, key), dtype)

    def _activate(self, x: Array) -> Array:
        return jax.nn.gelu(x, approximate=True)


class SwigluMLP(MLP):
    """D -> 2F -> F -> D: one half gates the other through SiLU (Shazeer 2020)."""

    def _activate(self, x: Array) -> Array:
        gate, value = jnp.split(x, 2, axis=-1)
        return jax.nn.silu(gate) * value


class Residual(nnx.Module):
    """x + branch."""

    def __call__(self, x_BTD: Array, branch_BTD: Array) -> Array:
        return x_BTD + branch_BTD


class ScaledResidual(Residual):
    """x + factor * branch; the factor is learned and 1 at first."""

    def __init__(self) -> None:
        self.factor = nnx.Param(jnp.ones(1))

    def __call__(self, x_BTD: Array, branch_BTD: Array) -> Array:
        return super().__call__(x_BTD, self.factor[...] * branch_BTD)


MLPS: dict[str, type[MLP]] = {"gelu": MLP, "swiglu": SwigluMLP}
RESIDUALS: dict[str, type[Residual]] = {"plain": Residual, "scaled": ScaledResidual}


class Block(nnx.Module):
    """Pre-LN: x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, c: Model, std: float, residual_std: float, key: Array, lora: Lora | None = None):
        key_attention, key_mlp = jax.random.split(key)
        self.attention_norm = LayerNorm(c.dim)
        self.attention = Attention(c, std, residual_std, key_attention, lora)
        self.attention_residual = RESIDUALS[c.residual]()
        self.mlp_norm = LayerNorm(c.dim)
        self.mlp = MLPS[c.mlp](c, std, residual_std, key_mlp, lora)
        self.mlp_residual = RESIDUALS[c.residual]()

    def __call__(
        self,
        x_BTD: Array,
        rope: tuple[Array, Array],
        mask: Array,
        noise: Noise = Noise(),
        key: Array | None = None,
        dtype: jnp.dtype = jnp.dtype(jnp.bfloat16),
    ) -> Array:
        """Residual stream in, residual stream out, float32 [B, T, D]. A key switches the noise on."""
        keys = [None] * 6 if key is None else list(jax.random.split(key, 6))
        normed_BTD = jitter(self.attention_norm(x_BTD), noise.activation, keys[0])
        q, k, v = self.attention.project(normed_BTD, *rope, dtype)
        branch_BTD = self.attention.merge(attend(q, k, v, mask, noise.attention, keys[1], dtype), dtype)
        x_BTD = self.attention_residual(x_BTD, drop_path(branch_BTD, noise.drop_path, keys[2]))
        normed_BTD = jitter(self.mlp_norm(x_BTD), noise.activation, keys[3])
        branch_BTD = self.mlp(normed_BTD, noise.mlp, keys[4], dtype)
        return self.mlp_residual(x_BTD, drop_path(branch_BTD, noise.drop_path, keys[5]))

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
        branch_BTD = self.attention.merge(attend(q, keys, values, seen, 0.0, None, dtype), dtype)
        x_BTD = self.attention_residual(x_BTD, branch_BTD)
        return self.mlp_residual(x_BTD, self.mlp(self.mlp_norm(x_BTD), 0.0, None, dtype)), (keys, values)
