"""Matrix products that stay on a CPU's fast path in both passes.

Autodiff of a bfloat16 product with float32 accumulation passes a float32 cotangent to the backward
products, which then miss the CPU's bfloat16 kernels. `matmul` and `matmul_nt`, each the other's
derivative, cast the cotangent. They also materialise the transposes that a CPU's kernels cannot
read in place. docs/results/performance.md has the figures.

Shapes: M, N and K are the axes of a product, I the inputs and O the outputs of a layer.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.experimental.layout import Layout, with_layout_constraint

from llm60_jax.model import target

Array = jax.Array


def dot(a: Array, b: Array, dtype: jnp.dtype) -> Array:
    """Return a[..., M, K] @ b[..., K, N], float32 [..., M, N], with autodiff's derivative.

    Both operands are cast to `dtype`; their batch axes are equal.
    """
    return _dot(a, b, -2, dtype)


def dot_nt(a: Array, b: Array, dtype: jnp.dtype) -> Array:
    """Return a[..., M, K] @ b[..., N, K]^T, float32 [..., M, N]; otherwise as `dot`."""
    return _dot(a, b, -1, dtype)


def _dot(a: Array, b: Array, contract_b: int, dtype: jnp.dtype) -> Array:
    batch = tuple(range(a.ndim - 2))
    dims = (((a.ndim - 1,), (b.ndim + contract_b,)), (batch, batch))
    # Left to JAX, a float32 product is TF32 on a GPU, and one pass in bfloat16 on a TPU.
    precision = jax.lax.Precision.HIGHEST if dtype == jnp.float32 else None
    a, b = a.astype(dtype), b.astype(dtype)
    return jax.lax.dot_general(a, b, dims, precision=precision, preferred_element_type=jnp.float32)


def transposed(x: Array) -> Array:
    """Transpose and materialise: x[..., M, N] -> [..., N, M].

    On a CPU, a transpose folded into the product is 3 to 6 times slower.
    """
    return materialised(x.swapaxes(-1, -2))


def materialised(x: Array) -> Array:
    """Write x out in row-major order on a CPU; elsewhere leave the layout to the compiler."""
    if target.platform() != "cpu":
        return x
    return with_layout_constraint(x, Layout(major_to_minor=tuple(range(x.ndim))))


def joined(parts: Sequence[Array], axis: int) -> Array:
    """Concatenate parts. bfloat16 goes as bit patterns, because a CPU would widen it on the way."""
    if len(parts) == 1:
        return parts[0]
    if parts[0].dtype != jnp.bfloat16:
        return jnp.concatenate(parts, axis)
    bits = jnp.concatenate([jax.lax.bitcast_convert_type(x, jnp.uint16) for x in parts], axis)
    return jax.lax.bitcast_convert_type(bits, jnp.bfloat16)


def _outer(a: Array, b: Array, dtype: jnp.dtype) -> Array:
    """Return a[..., N, I]^T @ b[..., N, O], float32 [..., I, O]; transpose the narrower operand."""
    if a.shape[-1] <= b.shape[-1]:
        return dot(transposed(a), b, dtype)
    return materialised(dot(transposed(b), a, dtype)).swapaxes(-1, -2)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def matmul(a: Array, b: Array, dtype: jnp.dtype) -> Array:
    """Return a[..., M, K] @ b[..., K, N], float32 [..., M, N].

    Operands and cotangent are cast to `dtype`; batch axes are equal.
    """
    return dot(a, b, dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def matmul_nt(a: Array, b: Array, dtype: jnp.dtype) -> Array:
    """Return a[..., M, K] @ b[..., N, K]^T, float32 [..., M, N]; otherwise as `matmul`."""
    return dot_nt(a, b, dtype)


def _forward(contract_b: int, a: Any, b: Any, dtype: jnp.dtype):
    """Multiply, and save only what the backward pass will use.

    An operand without a gradient (a frozen kernel, the input of the lowest live block) costs the
    backward pass neither memory nor a product.
    """
    x, y = a.value.astype(dtype), b.value.astype(dtype)
    # Zero-size arrays carry the primal dtypes, which the cotangents must have.
    empties = jnp.zeros(0, a.value.dtype), jnp.zeros(0, b.value.dtype)
    return _dot(x, y, contract_b, dtype), (x if b.perturbed else None, y if a.perturbed else None, empties)


def _backward(contract_b: int, dtype: jnp.dtype, saved, g: Array):
    a, b, (empty_a, empty_b) = saved
    g = g.astype(dtype)
    d_a = None if b is None else _dot(g, b, -3 - contract_b, dtype).astype(empty_a.dtype)  # over b's other axis
    if a is None:
        return d_a, None
    left, right = (a, g) if contract_b == -2 else (g, a)  # b is [K, N] or [N, K]
    return d_a, _outer(left, right, dtype).astype(empty_b.dtype)


for _product, _axis in ((matmul, -2), (matmul_nt, -1)):
    _product.defvjp(functools.partial(_forward, _axis), functools.partial(_backward, _axis), symbolic_zeros=True)


def tagged(x: Array, name: str) -> Array:
    """Name x, so that a remat policy can save it instead of recomputing it.

    Use this in the forward half of a hand-written derivative, and `named` elsewhere. bfloat16 is
    saved as a bit pattern, which has no gradient: a CPU writes stacked bfloat16 values ten times
    more slowly than 16-bit integers.
    """
    if x.dtype != jnp.bfloat16:
        return checkpoint_name(x, name)
    bits = checkpoint_name(jax.lax.bitcast_convert_type(x, jnp.uint16), name)
    return jax.lax.bitcast_convert_type(bits, jnp.bfloat16)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def named(x: Array, name: str) -> Array:
    """Name x as `tagged` does, with the gradient of the identity."""
    return tagged(x, name)


named.defvjp(lambda x, name: (tagged(x, name), None), lambda name, _, g: (g,))
