"""Norm, rotary embedding, MLPs and the block (Flax NNX). Attention and matmul have their own files.

Shape suffixes:
  B sequences, T positions, S cached positions, N tokens (B x T, flat), D model width, E = 3 D,
  F MLP width, H heads, K head width, I inputs and O outputs of a matrix, r rank of an adapter.

Dtypes: parameters, residual stream, norms and softmax are float32. Operands of every matrix product
are cast to a compute dtype, bfloat16 in training and float32 for scoring. Products accumulate in
float32, in the backward pass too. Queries, keys, values and the MLP's pre-activation are rounded to
the compute dtype at once, so a stored value and a recomputed one are equal.

Modules hold parameters only. Randomness is an explicit PRNG key, `rng`; None means no noise.

`layer_norm`, `gelu` and `split_heads` have hand-written derivatives. Autodiff's derivatives move
several more arrays of the residual stream's size; on a CPU that costs as much as the products.

Enhancements are picked from tables of classes when a block is built (`MLPS`, `RESIDUALS`,
`_linear`). The forward pass has no switches.
"""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from llm60_jax.config import Lora, Model
from llm60_jax.model import attention
from llm60_jax.model.attention import Sight
from llm60_jax.model.matmul import Array, joined, materialised, matmul, named, tagged
from llm60_jax.model.noise import drop_path, dropout, jitter
from llm60_jax.model.pieces import whole
from llm60_jax.plan import Noise


class Outputs(NamedTuple):
    """The results of a Transformer's forward pass."""

    hidden_BTD: Array  # float32, after the final norm
    stream: dict[int, Array]  # float32 [B, T, D], residual stream at the end of each stack, by depth
    mask_coverage: Array  # float32 scalar, share of the causal pairs of positions that the mask allows
    counts: Array  # what the native kernels did in this pass (kernels/calls.py); zeros without them


class Shared(NamedTuple):
    """What all blocks share in a forward pass."""

    rope: tuple[Any, Any]  # cosines and sines, [T, K / 2] each
    seen: Sight
    noise: Noise  # used only with a PRNG key
    dtype: jnp.dtype  # of the operands of matrix products


def rope_tables(length: int, head_dim: int, base: float) -> tuple[np.ndarray, np.ndarray]:
    """Return each position's cosines and sines, float32 [length, head_dim / 2] (Su et al. 2021)."""
    frequencies = base ** (-np.arange(0, head_dim, 2) / head_dim)
    angles = np.arange(length)[:, None] * frequencies
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)


def rotate(x_BHTK: Array, cos_TK: Array, sin_TK: Array) -> Array:
    """Rotate the two halves of each head by position.

    Scores then depend on distance only, so a document may start anywhere in a packed row.
    """
    low, high = jnp.split(x_BHTK, 2, axis=-1)
    return jnp.concatenate([low * cos_TK - high * sin_TK, high * cos_TK + low * sin_TK], axis=-1)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def split_heads(
    qkv_BTE: Array, cos_TK: Array, sin_TK: Array, heads: int, dtype: jnp.dtype
) -> tuple[Array, Array, Array]:
    """Return rotated queries, rotated keys and values, each `dtype` [B, H, T, K].

    `qkv_BTE` holds their projections side by side.
    """
    return _split_heads(qkv_BTE, cos_TK, sin_TK, heads, dtype)


def _split_heads(qkv_BTE: Array, cos_TK: Array, sin_TK: Array, heads: int, dtype: jnp.dtype):
    B, T, E = qkv_BTE.shape
    parts = qkv_BTE.reshape(B, T, 3, heads, E // (3 * heads))
    q, k, v = (parts[:, :, i].swapaxes(1, 2) for i in range(3))
    rotated = rotate(q, cos_TK, sin_TK), rotate(k, cos_TK, sin_TK), v
    q, k, v = (tagged(x.astype(dtype), "qkv") for x in rotated)
    return q, k, v


def _split_heads_forward(qkv_BTE: Array, cos_TK: Array, sin_TK: Array, heads: int, dtype: jnp.dtype):
    return _split_heads(qkv_BTE, cos_TK, sin_TK, heads, dtype), (cos_TK, sin_TK)


def _split_heads_backward(heads: int, dtype: jnp.dtype, saved, g: tuple[Array, Array, Array]):
    cos_TK, sin_TK = saved
    unrotated = *(materialised(rotate(x, cos_TK, -sin_TK).astype(dtype)) for x in g[:2]), g[2]
    return joined([merge_heads(x) for x in unrotated], 2).astype(jnp.float32), None, None


split_heads.defvjp(_split_heads_forward, _split_heads_backward)


def merge_heads(x_BHTK: Array) -> Array:
    """Join the heads: [B, H, T, K] -> [B, T, H * K]."""
    # Materialise before the reshape: in one loop a CPU would find each element by a division.
    B, H, T, K = x_BHTK.shape
    return materialised(x_BHTK.swapaxes(1, 2)).reshape(B, T, H * K)


@jax.custom_vjp
def layer_norm(x: Array, scale: Array, bias: Array) -> Array:
    """Normalise over the last axis, then scale and shift; float32, eps 1e-5 (Ba et al. 2016)."""
    return standardised(x) * scale + bias


def standardised(x: Array) -> Array:
    """Shift and scale to mean 0 and variance 1 over the last axis, eps 1e-5."""
    mean, inverse = _moments(x)
    return (x - mean) * inverse


def _moments(x: Array) -> tuple[Array, Array]:
    """Return mean and inverse standard deviation over the last axis, in one pass over x."""
    mean = x.mean(-1, keepdims=True)
    variance = jnp.maximum(jnp.square(x).mean(-1, keepdims=True) - jnp.square(mean), 0)
    return mean, jax.lax.rsqrt(variance + 1e-5)


def _layer_norm_forward(x: Array, scale: Array, bias: Array):
    mean, inverse = (tagged(moment, "norm") for moment in _moments(x))
    return (x - mean) * inverse * scale + bias, (x, mean, inverse, scale)


def _layer_norm_backward(saved, g: Array):
    x, mean, inverse, scale = saved
    normed, d_normed = (x - mean) * inverse, g * scale
    d_x = inverse * (d_normed - d_normed.mean(-1, keepdims=True) - normed * (d_normed * normed).mean(-1, keepdims=True))
    positions = tuple(range(x.ndim - 1))
    return d_x, (g * normed).sum(positions), g.sum(positions)


layer_norm.defvjp(_layer_norm_forward, _layer_norm_backward)


@jax.custom_vjp
def gelu(x: Array) -> Array:
    """Apply GELU in its tanh form, float32 (Hendrycks and Gimpel 2016)."""
    return jax.nn.gelu(x.astype(jnp.float32), approximate=True)


def _gelu_backward(x: Array, g: Array):
    wide = x.astype(jnp.float32)
    tanh = jnp.tanh(_SQRT_2_OVER_PI * (wide + 0.044715 * wide**3))
    slope = 0.5 * (1 + tanh) + 0.5 * wide * (1 - tanh * tanh) * (_SQRT_2_OVER_PI * (1 + 3 * 0.044715 * wide * wide))
    return ((g * slope).astype(x.dtype),)


_SQRT_2_OVER_PI = math.sqrt(2 / math.pi)
gelu.defvjp(lambda x: (gelu(x), x), _gelu_backward)


# --- Modules --------------------------------------------------------------------------------------


class LayerNorm(nnx.Module):
    """`layer_norm` with its parameters."""

    def __init__(self, dim: int):
        self.scale = nnx.Param(jnp.ones(dim))
        self.bias = nnx.Param(jnp.zeros(dim))

    def __call__(self, x: Array) -> Array:
        return layer_norm(x, self.scale[...], self.bias[...])


class Linear(nnx.Module):
    """A linear map without bias: x[..., I] -> float32 [..., O]. Its kernel is [I, O], N(0, std)."""

    def __init__(self, inputs: int, outputs: int, std: float, rng: Array):
        self.shape = inputs, outputs
        self.kernel = nnx.Param(std * jax.random.normal(rng, self.shape))

    def __call__(self, x: Array, dtype: jnp.dtype) -> Array:
        flat = self._apply(x.reshape(-1, x.shape[-1]), dtype)
        return flat.reshape(*x.shape[:-1], flat.shape[-1])

    def _apply(self, x_NI: Array, dtype: jnp.dtype) -> Array:
        return matmul(x_NI, whole(self.kernel[...], self.shape, dtype), dtype)


class LoraLinear(Linear):
    """A Linear with an adapter: x (W + scale * A B) (Hu et al. 2021).

    A [I, r] is N(0, 1/I) and B [r, O] is 0, so a fresh adapter changes nothing.
    """

    def __init__(self, inputs: int, outputs: int, std: float, rng: Array, lora: Lora):
        super().__init__(inputs, outputs, std, rng)
        self.scale, self.rank = lora.scale, lora.rank
        self.a = nnx.Param(jax.random.normal(jax.random.fold_in(rng, 1), (inputs, lora.rank)) / math.sqrt(inputs))
        self.b = nnx.Param(jnp.zeros((lora.rank, outputs)))

    def _apply(self, x_NI: Array, dtype: jnp.dtype) -> Array:
        inputs, outputs = self.shape
        low_Nr = matmul(x_NI, whole(self.a[...], (inputs, self.rank), dtype), dtype)
        added_NO = matmul(low_Nr, whole(self.b[...], (self.rank, outputs), dtype), dtype)
        return super()._apply(x_NI, dtype) + self.scale * added_NO


def _linear(c: Model, lora: Lora | None, name: str, std: float, rng: Array) -> Linear:
    """Build a block's matrix by its name in `Model.linears`, adapted if `lora` targets it."""
    inputs, outputs = c.linears[name]
    if lora is not None and name in lora.targets:
        return LoraLinear(inputs, outputs, std, rng, lora)
    return Linear(inputs, outputs, std, rng)


class Attention(nnx.Module):
    """Multi-head attention with rotary positions.

    q, k and v share one kernel [D, 3D]: Adafactor factors matrices, not kernels split into heads.
    """

    def __init__(self, c: Model, std: float, residual_std: float, rng: Array, lora: Lora | None = None):
        rng_qkv, rng_out = jax.random.split(rng)
        self.heads = c.heads
        self.qkv = _linear(c, lora, "attention.qkv", std, rng_qkv)
        self.out = _linear(c, lora, "attention.out", residual_std, rng_out)

    def project(self, x_BTD: Array, cos_TK: Array, sin_TK: Array, dtype: jnp.dtype) -> tuple[Array, Array, Array]:
        """Return rotated queries, rotated keys and values, each `dtype` [B, H, T, K]."""
        return split_heads(self.qkv(x_BTD, dtype), cos_TK, sin_TK, self.heads, dtype)

    def merge(self, o_BHTK: Array, dtype: jnp.dtype) -> Array:
        """Join the heads and project them, float32 [B, T, D]."""
        return self.out(merge_heads(o_BHTK), dtype)


class MLP(nnx.Module):
    """D -> F -> D with GELU."""

    is_gated = False  # whether `up` has two halves

    def __init__(self, c: Model, std: float, residual_std: float, rng: Array, lora: Lora | None = None):
        rng_up, rng_down = jax.random.split(rng)
        self.up = _linear(c, lora, "mlp.up", std, rng_up)
        self.down = _linear(c, lora, "mlp.down", residual_std, rng_down)

    def __call__(self, x_BTD: Array, rate: float, rng: Array | None, dtype: jnp.dtype) -> Array:
        hidden_BTF = self._activate(named(self.up(x_BTD, dtype).astype(dtype), "mlp"))
        return self.down(dropout(hidden_BTF, rate, rng), dtype)

    def _activate(self, x: Array) -> Array:
        return gelu(x)


class SwigluMLP(MLP):
    """D -> 2F -> F -> D; SiLU of one half gates the other (Shazeer 2020)."""

    is_gated = True

    def _activate(self, x: Array) -> Array:
        gate, value = jnp.split(x.astype(jnp.float32), 2, axis=-1)
        return jax.nn.silu(gate) * value


class Residual(nnx.Module):
    """x + branch."""

    def __call__(self, x_BTD: Array, branch_BTD: Array) -> Array:
        return x_BTD + branch_BTD

    def folded(self, kernels_LIO: Array) -> Array:
        """Return the last matrices of the branches of L stacked blocks, with the factors in them."""
        return kernels_LIO


class ScaledResidual(Residual):
    """x + factor * branch, with a learned factor that starts at 1."""

    def __init__(self) -> None:
        self.factor = nnx.Param(jnp.ones(1))

    def __call__(self, x_BTD: Array, branch_BTD: Array) -> Array:
        return super().__call__(x_BTD, self.factor[...] * branch_BTD)

    def folded(self, kernels_LIO: Array) -> Array:
        return kernels_LIO * self.factor[...][..., None]


MLPS: dict[str, type[MLP]] = {"gelu": MLP, "swiglu": SwigluMLP}
RESIDUALS: dict[str, type[Residual]] = {"plain": Residual, "scaled": ScaledResidual}


class Block(nnx.Module):
    """A pre-LN block: x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, c: Model, std: float, residual_std: float, rng: Array, lora: Lora | None = None):
        rng_attention, rng_mlp = jax.random.split(rng)
        self.attention_norm = LayerNorm(c.dim)
        self.attention = Attention(c, std, residual_std, rng_attention, lora)
        self.attention_residual = RESIDUALS[c.residual]()
        self.mlp_norm = LayerNorm(c.dim)
        self.mlp = MLPS[c.mlp](c, std, residual_std, rng_mlp, lora)
        self.mlp_residual = RESIDUALS[c.residual]()

    def __call__(self, x_BTD: Array, shared: Shared, rng: Array | None = None) -> Array:
        """Map the residual stream to the residual stream, float32 [B, T, D].

        Args:
          rng: PRNG key of the noise; None switches it off.
        """
        rope, seen, noise, dtype = shared
        rngs = [None] * 6 if rng is None else list(jax.random.split(rng, 6))
        with jax.named_scope("norm"):
            normed_BTD = jitter(self.attention_norm(x_BTD), noise.activation, rngs[0])
        with jax.named_scope("attention"):
            q, k, v = self.attention.project(normed_BTD, *rope, dtype)
            noisy = rng is not None and noise.attention > 0
            drop = functools.partial(dropout, rate=noise.attention, rng=rngs[1]) if noisy else None
            branch_BTD = self.attention.merge(attention.attend(q, k, v, seen, dtype, drop), dtype)
            x_BTD = named(self.attention_residual(x_BTD, drop_path(branch_BTD, noise.drop_path, rngs[2])), "middle")
        with jax.named_scope("norm"):
            normed_BTD = jitter(self.mlp_norm(x_BTD), noise.activation, rngs[3])
        with jax.named_scope("mlp"):
            branch_BTD = self.mlp(normed_BTD, noise.mlp, rngs[4], dtype)
            return self.mlp_residual(x_BTD, drop_path(branch_BTD, noise.drop_path, rngs[5]))

    def extend(
        self,
        x_BTD: Array,
        rope: tuple[Array, Array],
        caches: tuple[Array, Array],
        number: Array,
        position: Array,
        room: int,
        dtype: jnp.dtype,
    ) -> tuple[Array, tuple[Array, Array]]:
        """Process one token (T = 1) at `position`, given the cached keys and values before it.

        Args:
          caches: keys and values of a whole stack of n blocks, [n, B, H, S, K] each. So a loop can
            update them in place, without copying one block's part.
          number: int32 scalar, this block's index in the stack.
          position: int32 scalar, below `room`.
          room: cached positions that attention reads.

        Returns:
          The block's output, float32 [B, 1, D], and the caches with this token's key and value.
        """
        q, k, v = self.attention.project(self.attention_norm(x_BTD), *rope, dtype)
        corner = number, 0, 0, position, 0
        keys, values = (
            jax.lax.dynamic_update_slice(old, new[None].astype(old.dtype), corner)
            for old, new in zip(caches, (k, v), strict=True)
        )
        size = 1, *k.shape[:2], room, k.shape[3]
        k, v = (jax.lax.dynamic_slice(cache, (number, 0, 0, 0, 0), size)[0] for cache in (keys, values))
        seen = jnp.arange(room) <= position
        branch_BTD = self.attention.merge(attention.plain(q, k, v, seen, dtype), dtype)
        x_BTD = self.attention_residual(x_BTD, branch_BTD)
        return self.mlp_residual(x_BTD, self.mlp(self.mlp_norm(x_BTD), 0.0, None, dtype)), (keys, values)
