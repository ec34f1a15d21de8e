"""Training-only noise (playbook, section 11): dropout, drop-path, jitter, from cheap random bits."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from llm60_jax.model.matmul import Array

# --- Small functions -------------------------------------------------------------------------------------------------


def dropout(x: Array, rate: float, rng: Array | None) -> Array:
    """Zeroes a share `rate` of x and scales the rest up; the identity when `rng` is None or the rate 0."""
    if rng is None or rate == 0:
        return x
    return _thinned(x, x.shape, rate, rng)


def drop_path(branch_BTD: Array, rate: float, rng: Array | None) -> Array:
    """Leaves a residual branch out for a share `rate` of the sequences and scales it up for the rest (Huang et al.
    2016); the identity when `rng` is None or the rate 0."""
    if rng is None or rate == 0:
        return branch_BTD
    return _thinned(branch_BTD, (branch_BTD.shape[0], 1, 1), rate, rng)


def jitter(x: Array, deviation: float, rng: Array | None) -> Array:
    """Adds uniform noise of a standard deviation; the identity when `rng` is None or the deviation 0."""
    if rng is None or deviation == 0:
        return x
    return x + (_random_bits(rng, x.shape).astype(jnp.float32) * 2.0**-32 - 0.5) * (deviation * math.sqrt(12))


def _thinned(x: Array, shape: tuple[int, ...], rate: float, rng: Array) -> Array:
    keep = _random_bits(rng, shape) >= np.uint32(round(rate * 2**32))
    return jnp.where(keep, x * (1 / (1 - rate)), 0)


def _random_bits(rng: Array, shape: tuple[int, ...]) -> Array:
    """32 random bits an element, uint32: a hash of the PRNG key and of the element's number.

    For noise only. Threefry, jax's own generator, would take a fifth of a training step on a CPU; this is ten
    operations that fuse with what uses them. The constants were found by Wellons ("hash prospector", 2018).
    """
    low, high = jax.random.key_data(rng).ravel()[:2]
    first = _mixed(low + _mixed(high))
    number = jnp.zeros(shape, jnp.uint32)
    for axis in range(len(shape)):
        number = number * np.uint32(shape[axis]) + jax.lax.broadcasted_iota(jnp.uint32, shape, axis)
    return _mixed(number * np.uint32(0x9E3779B9) + first, _mixed(high + first))


def _mixed(bits: Array, secret: Any = np.uint32(0)) -> Array:
    """A hash of uint32, two rounds of multiply and xor-shift."""
    bits = (bits ^ (bits >> 16)) * np.uint32(0x21F0AAAD)
    bits = (bits ^ (bits >> 15) ^ secret) * np.uint32(0x735A2D97)
    return bits ^ (bits >> 15)
