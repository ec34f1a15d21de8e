"""The matrix products under the layers, and what keeps them on a CPU's fast path in both directions.

Autodiff of a bfloat16 product with float32 accumulation hands a float32 cotangent to the backward products, which then
miss the CPU's bfloat16 kernels. The two products here, each the other's derivative, cast the cotangent instead, and
materialise the transposes that a CPU's kernels cannot read in place (docs/performance.md has the figures).
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.experimental.layout import Layout, with_layout_constraint

Array = jax.Array


def dot(a: Array, b: Array, dtype: jnp.dtype) -> Array:
    """a[..., M, K] @ b[..., K, N] -> float32 [..., M, N]; equal batch axes, operands cast; differentiated as it is."""
    return _dot(a, b, -2, dtype)


def dot_nt(a: Array, b: Array, dtype: jnp.dtype) -> Array:
    """a[..., M, K] @ b[..., N, K]^T -> float32 [..., M, N]; otherwise as `dot`."""
    return _dot(a, b, -1, dtype)


def _dot(a: Array, b: Array, contract_b: int, dtype: jnp.dtype) -> Array:
    batch = tuple(range(a.ndim - 2))
    dims = (((a.ndim - 1,), (b.ndim + contract_b,)), (batch, batch))
    return jax.lax.dot_general(a.astype(dtype), b.astype(dtype), dims, preferred_element_type=jnp.float32)


def transposed(x: Array) -> Array:
    """x[..., M, N] -> [..., N, M], materialised: one folded into the product is 3 to 6 times slower on a CPU."""
    return materialised(x.swapaxes(-1, -2))


def materialised(x: Array) -> Array:
    """x, written out in row-major order on a CPU; elsewhere the compiler knows best."""
    if jax.default_backend() != "cpu":
        return x
    return with_layout_constraint(x, Layout(major_to_minor=tuple(range(x.ndim))))


def joined(parts: Sequence[Array], axis: int) -> Array:
    """The parts side by side. Those of bfloat16 as bit patterns, because a CPU would widen them on the way."""
    if len(parts) == 1:
        return parts[0]
    if parts[0].dtype != jnp.bfloat16:
        return jnp.concatenate(parts, axis)
    bits = jnp.concatenate([jax.lax.bitcast_convert_type(x, jnp.uint16) for x in parts], axis)
    return jax.lax.bitcast_convert_type(bits, jnp.bfloat16)


def _outer(a: Array, b: Array, dtype: jnp.dtype) -> Array:
    """a[..., N, I]^T @ b[..., N, O] -> float32 [..., I, O], by way of the narrower operand's transpose."""
    if a.shape[-1] <= b.shape[-1]:
        return dot(transposed(a), b, dtype)
    return materialised(dot(transposed(b), a, dtype)).swapaxes(-1, -2)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def matmul(a: Array, b: Array, dtype: jnp.dtype) -> Array:
    """a[..., M, K] @ b[..., K, N] -> float32 [..., M, N]; equal batch axes; operands and cotangent cast to `dtype`."""
    return dot(a, b, dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def matmul_nt(a: Array, b: Array, dtype: jnp.dtype) -> Array:
    """a[..., M, K] @ b[..., N, K]^T -> float32 [..., M, N]; otherwise as `matmul`."""
    return dot_nt(a, b, dtype)


def _forward(contract_b: int, a: Any, b: Any, dtype: jnp.dtype):
    """Saves only what the backward pass will use: an operand that no gradient is asked for (a frozen kernel, the input
    of the lowest live block) costs it neither memory nor a product."""
    x, y = a.value.astype(dtype), b.value.astype(dtype)
    # Zero-size stand-ins carry the primal dtypes, which the cotangents must have.
    kinds = jnp.zeros(0, a.value.dtype), jnp.zeros(0, b.value.dtype)
    return _dot(x, y, contract_b, dtype), (x if b.perturbed else None, y if a.perturbed else None, kinds)


def _backward(contract_b: int, dtype: jnp.dtype, saved, g: Array):
    a, b, (kind_a, kind_b) = saved
    g = g.astype(dtype)
    d_a = None if b is None else _dot(g, b, -3 - contract_b, dtype).astype(kind_a.dtype)  # over b's other axis
    if a is None:
        return d_a, None
    left, right = (a, g) if contract_b == -2 else (g, a)  # as b is [K, N] or [N, K]
    return d_a, _outer(left, right, dtype).astype(kind_b.dtype)


for _product, _axis in ((matmul, -2), (matmul_nt, -1)):
    _product.defvjp(functools.partial(_forward, _axis), functools.partial(_backward, _axis), symbolic_zeros=True)


def tagged(x: Array, name: str) -> Array:
    """x, as a value that a remat policy can choose by its name to keep instead of computing it again. For the forward
    halves of functions with a derivative of their own; elsewhere `named`.

    What is kept is a bit pattern, which has no gradient: a CPU writes stacked bfloat16 values ten times more slowly
    than 16-bit integers.
    """
    if x.dtype != jnp.bfloat16:
        return checkpoint_name(x, name)
    bits = checkpoint_name(jax.lax.bitcast_convert_type(x, jnp.uint16), name)
    return jax.lax.bitcast_convert_type(bits, jnp.bfloat16)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def named(x: Array, name: str) -> Array:
    """`tagged`, with the gradient of the identity."""
    return tagged(x, name)


named.defvjp(lambda x, name: (tagged(x, name), None), lambda name, _, g: (g,))
