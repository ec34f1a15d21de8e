"""Data parallelism over one machine's devices: whole micro-batches, gradients summed once a step.

A CPU can be split into several devices, too (`train.devices`). Norms, activations and copies use
one core; on one device they then overlap with the matrix products of another.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

_AXIS = "data"


def mesh(devices: int) -> Mesh:
    """Return a mesh of the first local devices; `machine.facts.versions` checks their number."""
    return Mesh(np.array(jax.local_devices()[:devices]), (_AXIS,))


def summed(function: Callable[..., Any], devices: int) -> Callable[..., Any]:
    """Return `function(shared, parts)` summed over devices.

    The arrays of `parts` are split along their first axis, one piece a device; every device has all
    of `shared`.
    """

    def on_one_device(shared: Any, part: Any) -> Any:
        return jax.tree.map(lambda x: jax.lax.psum(x, _AXIS), function(shared, part))

    specs = PartitionSpec(), PartitionSpec(_AXIS)
    return jax.shard_map(on_one_device, mesh=mesh(devices), in_specs=specs, out_specs=PartitionSpec(), check_vma=False)


def replicated(devices: int) -> NamedSharding:
    """Return the sharding of arrays that every device holds whole."""
    return NamedSharding(mesh(devices), PartitionSpec())


def split(devices: int) -> NamedSharding:
    """Return the sharding of arrays that are split along their first axis."""
    return NamedSharding(mesh(devices), PartitionSpec(_AXIS))


class Replicas:
    """A state on several devices, seen from outside as a state on the first.

    Evaluation, sampling and saving use the first device's arrays and need not know of the others.
    """

    def __init__(self, devices: int):
        self._sharding = replicated(devices)
        # id of a first device's array -> (that array, its replicas); holding it keeps the id unique
        self._replicas: dict[int, tuple[jax.Array, jax.Array]] = {}

    def spread(self, state: Any) -> Any:
        """Return the state on all devices; copy only arrays that `first` did not return."""
        replicas, self._replicas = self._replicas, {}

        def everywhere(x: Any) -> jax.Array:
            entry = replicas.get(id(x))
            return entry[1] if entry else jax.device_put(x, self._sharding)

        return jax.tree.map(everywhere, state)

    def first(self, state: Any) -> Any:
        """Return the first device's arrays of a state, without a copy."""

        def on_first(x: jax.Array) -> jax.Array:
            array = x.addressable_data(0)
            self._replicas[id(array)] = array, x
            return array

        return jax.tree.map(on_first, state)
