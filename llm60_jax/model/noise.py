"""Training-only noise: dropout, drop-path, jitter (playbook, sections 11 and 16).

Shape suffixes: B sequences, T positions, D model width.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from llm60_jax.model.matmul import Array


def dropout(x: Array, rate: float, rng: Array | None) -> Array:
    """Zero a share `rate` of x and scale the rest up. Without `rng` or rate, return x itself."""
    if rng is None or rate == 0:
        return x
    return _dropped(x, x.shape, rate, rng)


def drop_path(branch_BTD: Array, rate: float, rng: Array | None) -> Array:
    """Drop a residual branch for a share `rate` of the sequences (Huang et al. 2016).

    It is scaled up for the others. Without `rng` or rate, return the branch itself.
    """
    if rng is None or rate == 0:
        return branch_BTD
    return _dropped(branch_BTD, (branch_BTD.shape[0], 1, 1), rate, rng)


def jitter(x: Array, deviation: float, rng: Array | None) -> Array:
    """Add uniform noise of a standard deviation. Without `rng` or deviation, return x itself."""
    if rng is None or deviation == 0:
        return x
    return x + (random_bits(rng, x.shape).astype(jnp.float32) * 2.0**-32 - 0.5) * (deviation * math.sqrt(12))


def _dropped(x: Array, shape: tuple[int, ...], rate: float, rng: Array) -> Array:
    """Zero a share `rate` of x and scale the rest up; `shape` broadcasts to x."""
    keep = random_bits(rng, shape) >= np.uint32(round(rate * 2**32))
    return jnp.where(keep, x * (1 / (1 - rate)), 0)


def random_bits(rng: Array, shape: tuple[int, ...]) -> Array:
    """Return 32 random bits an element, uint32: a hash of the PRNG key and the element's index.

    Use it for noise only. Threefry, jax's own generator, would take a fifth of a training step on a
    CPU; these ten operations fuse with their consumer. The constants are Wellons's ("hash
    prospector", 2018).
    """
    first, secret = hash_numbers(rng)
    number = jnp.zeros(shape, jnp.uint32)
    for axis in range(len(shape)):
        number = number * np.uint32(shape[axis]) + jax.lax.broadcasted_iota(jnp.uint32, shape, axis)
    return _mixed(number * np.uint32(0x9E3779B9) + first, secret)


def hash_numbers(rng: Array) -> tuple[Array, Array]:
    """Return the two numbers of a PRNG key that `random_bits` starts from, uint32 scalars."""
    low, high = jax.random.key_data(rng).ravel()[:2]
    first = _mixed(low + _mixed(high))
    return first, _mixed(high + first)


def _mixed(bits: Array, secret: Any = np.uint32(0)) -> Array:
    """Hash uint32 by two rounds of multiply and xor-shift."""
    bits = (bits ^ (bits >> 16)) * np.uint32(0x21F0AAAD)
    bits = (bits ^ (bits >> 15) ^ secret) * np.uint32(0x735A2D97)
    return bits ^ (bits >> 15)
