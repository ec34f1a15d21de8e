"""The layers: norm, rotary embedding, MLPs, block (Flax NNX). Attention and the matrix products have their own files.

Shape suffixes: B sequences, T positions, D model width, E three times D, F MLP width, H heads, K head width, N tokens
(B x T flat).

Dtype policy, stated once: parameters, residual stream, norms and softmax are float32. The operands of every matrix
product are cast to a compute dtype (bfloat16 in training, float32 for scoring) and accumulate in float32, in the
backward pass too. Queries, keys, values and what the MLP's activation takes are rounded to that dtype where they are
made, so that a value that is kept and one that is computed again are the same. Modules hold parameters only, and
randomness comes in as an explicit PRNG key, `rng`, None meaning "no noise".

The functions with a derivative of their own (`layer_norm`, `gelu`, `split_heads`) have it because autodiff's writes
and reads several more arrays of the residual stream's size, which on a CPU costs as much as the products.

What an enhancement changes is chosen once, from a table of classes, when a block is built (`MLPS`, `RESIDUALS`,
`_linear`); the forward pass has no switches.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from llm60_jax.config import Lora, Model
from llm60_jax.model import attention
from llm60_jax.model.attention import Sight
from llm60_jax.model.matmul import Array, joined, materialised, matmul, named, tagged
from llm60_jax.model.noise import drop_path, dropout, jitter
from llm60_jax.plan import Noise


class Outputs(NamedTuple):
    """What a Transformer computes."""

    hidden_BTD: Array  # after the final norm, float32
    stream: dict[int, Array]  # the residual stream [B, T, D] at the end of each computed stack, by depth
    mask_coverage: Array  # float32, share of the causal pairs of positions that the mask in use leaves open


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


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def split_heads(
    qkv_BTE: Array, cos_TK: Array, sin_TK: Array, heads: int, dtype: jnp.dtype
) -> tuple[Array, Array, Array]:
    """Rotated queries and keys, and values, each `dtype` [B, H, T, K], from their projections side by side."""
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
    """[B, H, T, K] -> [B, T, H * K]. Written out before the heads are joined: in one go a CPU would look for every
    element by a division."""
    B, H, T, K = x_BHTK.shape
    return materialised(x_BHTK.swapaxes(1, 2)).reshape(B, T, H * K)


# --- Modules ---------------------------------------------------------------------------------------------------------


@jax.custom_vjp
def layer_norm(x: Array, scale: Array, bias: Array) -> Array:
    """Over the last axis, eps 1e-5, float32 (Ba et al. 2016)."""
    return standardised(x) * scale + bias


def standardised(x: Array) -> Array:
    """Mean 0 and variance 1 over the last axis, eps 1e-5."""
    mean, inverse = _moments(x)
    return (x - mean) * inverse


def _moments(x: Array) -> tuple[Array, Array]:
    """Mean and inverse standard deviation over the last axis, which is read once."""
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
    """GELU in its tanh form (Hendrycks and Gimpel 2016), float32."""
    return jax.nn.gelu(x.astype(jnp.float32), approximate=True)


def _gelu_backward(x: Array, g: Array):
    wide = x.astype(jnp.float32)
    tanh = jnp.tanh(_GELU * (wide + 0.044715 * wide**3))
    slope = 0.5 * (1 + tanh) + 0.5 * wide * (1 - tanh * tanh) * (_GELU * (1 + 3 * 0.044715 * wide * wide))
    return ((g * slope).astype(x.dtype),)


_GELU = math.sqrt(2 / math.pi)
gelu.defvjp(lambda x: (gelu(x), x), _gelu_backward)


class LayerNorm(nnx.Module):
    """`layer_norm` with its scale and bias."""

    def __init__(self, dim: int):
        self.scale = nnx.Param(jnp.ones(dim))
        self.bias = nnx.Param(jnp.zeros(dim))

    def __call__(self, x: Array) -> Array:
        return layer_norm(x, self.scale[...], self.bias[...])


class Linear(nnx.Module):
    """x[..., I] -> float32 [..., O], no bias. The kernel is [I, O], N(0, std)."""

    def __init__(self, inputs: int, outputs: int, std: float, rng: Array):
        self.kernel = nnx.Param(std * jax.random.normal(rng, (inputs, outputs)))

    def __call__(self, x: Array, dtype: jnp.dtype) -> Array:
        flat = self._apply(x.reshape(-1, x.shape[-1]), dtype)
        return flat.reshape(*x.shape[:-1], flat.shape[-1])

    def _apply(self, x_NI: Array, dtype: jnp.dtype) -> Array:
        return matmul(x_NI, self.kernel[...], dtype)


class LoraLinear(Linear):
    """A Linear whose kernel acts as W + scale * A B (Hu et al. 2021). A [I, r] is N(0, 1/I); B [r, O] is 0, so that
    nothing changes before the first step."""

    def __init__(self, inputs: int, outputs: int, std: float, rng: Array, lora: Lora):
        super().__init__(inputs, outputs, std, rng)
        self.scale = lora.scale
        self.a = nnx.Param(jax.random.normal(jax.random.fold_in(rng, 1), (inputs, lora.rank)) / math.sqrt(inputs))
        self.b = nnx.Param(jnp.zeros((lora.rank, outputs)))

    def _apply(self, x_NI: Array, dtype: jnp.dtype) -> Array:
        low_Nr = matmul(x_NI, self.a[...], dtype)
        return super()._apply(x_NI, dtype) + self.scale * matmul(low_Nr, self.b[...], dtype)


def _linear(c: Model, lora: Lora | None, name: str, std: float, rng: Array) -> Linear:
    """The matrix of a block by its name in `Model.linears`, with an adapter where one is asked for."""
    inputs, outputs = c.linears[name]
    if lora is not None and name in lora.targets:
        return LoraLinear(inputs, outputs, std, rng, lora)
    return Linear(inputs, outputs, std, rng)


class Attention(nnx.Module):
    """Multi-head attention with rotary positions. q, k and v share one two-dimensional kernel [D, 3D], which Adafactor
    can factor; a kernel split into heads it cannot."""

    def __init__(self, c: Model, std: float, residual_std: float, rng: Array, lora: Lora | None = None):
        rng_qkv, rng_out = jax.random.split(rng)
        self.heads = c.heads
        self.qkv = _linear(c, lora, "attention.qkv", std, rng_qkv)
        self.out = _linear(c, lora, "attention.out", residual_std, rng_out)

    def project(self, x_BTD: Array, cos_TK: Array, sin_TK: Array, dtype: jnp.dtype) -> tuple[Array, Array, Array]:
        """Rotated queries and keys, and values, each [B, H, T, K]."""
        return split_heads(self.qkv(x_BTD, dtype), cos_TK, sin_TK, self.heads, dtype)

    def merge(self, o_BHTK: Array, dtype: jnp.dtype) -> Array:
        """Heads side by side, through the output projection: [B, T, D]."""
        return self.out(merge_heads(o_BHTK), dtype)


class MLP(nnx.Module):
    """D -> F -> D with GELU in its tanh form."""

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
    """D -> 2F -> F -> D: one half gates the other through SiLU (Shazeer 2020)."""

    def _activate(self, x: Array) -> Array:
        gate, value = jnp.split(x.astype(jnp.float32), 2, axis=-1)
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

    def __init__(self, c: Model, std: float, residual_std: float, rng: Array, lora: Lora | None = None):
        rng_attention, rng_mlp = jax.random.split(rng)
        self.attention_norm = LayerNorm(c.dim)
        self.attention = Attention(c, std, residual_std, rng_attention, lora)
        self.attention_residual = RESIDUALS[c.residual]()
        self.mlp_norm = LayerNorm(c.dim)
        self.mlp = MLPS[c.mlp](c, std, residual_std, rng_mlp, lora)
        self.mlp_residual = RESIDUALS[c.residual]()

    def __call__(
        self,
        x_BTD: Array,
        rope: tuple[Array, Array],
        seen: Sight,
        noise: Noise = Noise(),
        rng: Array | None = None,
        dtype: jnp.dtype = jnp.dtype(jnp.bfloat16),
    ) -> Array:
        """Residual stream in, residual stream out, float32 [B, T, D]. A PRNG key switches the noise on."""
        rngs = [None] * 6 if rng is None else list(jax.random.split(rng, 6))
        with jax.named_scope("norm"):
            normed_BTD = jitter(self.attention_norm(x_BTD), noise.activation, rngs[0])
        with jax.named_scope("attention"):
            q, k, v = self.attention.project(normed_BTD, *rope, dtype)
            noisy = rng is not None and noise.attention > 0
            thin = functools.partial(dropout, rate=noise.attention, rng=rngs[1]) if noisy else None
            branch_BTD = self.attention.merge(attention.attend(q, k, v, seen, dtype, thin), dtype)
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
        """One token (T = 1) at `position`, given the keys and values of the tokens before it.

        Args:
          caches: keys and values of a stack of blocks, [n, B, H, S, K] each. They go through whole, so that a loop
            writes this token into them where they are, instead of copying a block's.
          number: int32 scalar, this block's place in the stack.
          room: the number of cached positions that attention looks at; `position` is one of them.

        Returns:
          The block's output, and the caches with this token's key and value written in.
        """
        q, k, v = self.attention.project(self.attention_norm(x_BTD), *rope, dtype)
        place = number, 0, 0, position, 0
        keys, values = (
            jax.lax.dynamic_update_slice(old, new[None].astype(old.dtype), place)
            for old, new in zip(caches, (k, v), strict=True)
        )
        size = 1, *k.shape[:2], room, k.shape[3]
        k, v = (jax.lax.dynamic_slice(cache, (number, 0, 0, 0, 0), size)[0] for cache in (keys, values))
        seen = jnp.arange(room) <= position
        branch_BTD = self.attention.merge(attention.plain(q, k, v, seen, dtype), dtype)
        x_BTD = self.attention_residual(x_BTD, branch_BTD)
        return self.mlp_residual(x_BTD, self.mlp(self.mlp_norm(x_BTD), 0.0, None, dtype)), (keys, values)
