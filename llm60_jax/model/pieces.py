"""Weights that devices hold in pieces, put together where they are used.

Inside a train step the devices along the mesh's axis `fsdp` may each hold a piece of a matrix (training/mesh.py).
`whole` is the only place that knows of it: a matrix asks for its pieces inside its block, so under remat a device has
the matrices of one block at a time (Zhao et al. 2023, "PyTorch FSDP"). Everywhere else weights are whole already.
"""

import functools

import jax
import jax.numpy as jnp

Array = jax.Array
AXIS = "fsdp"  # of the mesh


def whole(piece: Array, shape: tuple[int, ...], dtype: jnp.dtype) -> Array:
    """Return a weight of this shape, float32, from the pieces along the axis in which `piece` is shorter.

    Values travel as `dtype`. The sum of the devices' gradients travels as float32, and each device gets its piece.
    """
    for axis, (held, length) in enumerate(zip(piece.shape, shape, strict=True)):
        if held < length:
            return _gathered(piece, axis, dtype)
    return piece


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _gathered(piece: Array, axis: int, dtype: jnp.dtype) -> Array:
    return jax.lax.all_gather(piece.astype(dtype), AXIS, axis=axis, tiled=True).astype(piece.dtype)


def _scattered(axis: int, dtype: jnp.dtype, _: None, g: Array) -> tuple[Array]:
    return (jax.lax.psum_scatter(g, AXIS, scatter_dimension=axis, tiled=True),)


_gathered.defvjp(lambda piece, axis, dtype: (_gathered(piece, axis, dtype), None), _scattered)
