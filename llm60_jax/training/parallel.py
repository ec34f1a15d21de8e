"""Data parallelism over the devices of one machine: whole micro-batches on each, gradients summed once a step.

The CPU can be cut into several devices, too (`train.devices`): each then works through micro-batches of its own, and
what one core does alone - norms, activations, copies - overlaps with the products of another.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

_AXIS = "data"


def mesh(devices: int) -> Mesh:
    """The first local devices, in a row. There must be as many (`machine.versions` sees to it)."""
    return Mesh(np.array(jax.local_devices()[:devices]), (_AXIS,))


def summed(function: Callable[..., Any], devices: int) -> Callable[..., Any]:
    """`function(shared, split)` with the arrays of `split` cut along their first axis, one piece for each device, and
    the results of all devices added up."""

    def on_one(shared: Any, part: Any) -> Any:
        return jax.tree.map(lambda x: jax.lax.psum(x, _AXIS), function(shared, part))

    specs = PartitionSpec(), PartitionSpec(_AXIS)
    return jax.shard_map(on_one, mesh=mesh(devices), in_specs=specs, out_specs=PartitionSpec(), check_vma=False)


def replicated(devices: int) -> NamedSharding:
    """The sharding of what every device holds whole."""
    return NamedSharding(mesh(devices), PartitionSpec())


def split(devices: int) -> NamedSharding:
    """The sharding of what is cut along its first axis."""
    return NamedSharding(mesh(devices), PartitionSpec(_AXIS))


class Replicas:
    """Copies of a state on several devices, behind a state that looks like one on the first.

    All that evaluates, samples and saves works on the first device's arrays and need not know of the others.
    """

    def __init__(self, devices: int):
        self._sharding = replicated(devices)
        self._known: dict[int, tuple[jax.Array, jax.Array]] = {}  # by the id of a first device's array

    def spread(self, state: Any) -> Any:
        """The state on all devices: arrays that `first` gave out are there already, others are copied."""
        known, self._known = self._known, {}

        def everywhere(x: Any) -> jax.Array:
            found = known.get(id(x))  # the array itself is kept beside its copies, so no other can have its id
            return found[1] if found else jax.device_put(x, self._sharding)

        return jax.tree.map(everywhere, state)

    def first(self, state: Any) -> Any:
        """The state as the first device has it; no copy."""

        def one(x: jax.Array) -> jax.Array:
            mine = x.addressable_data(0)
            self._known[id(mine)] = mine, x
            return mine

        return jax.tree.map(one, state)
