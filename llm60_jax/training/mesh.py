"""One mesh of all devices of all processes: who holds what, and sums whose order does not depend on it.

A single device is a mesh of one and takes the same way. The axes are `data` and `fsdp`; every device works through its
own micro-batches, and devices along `fsdp` hold a weight together (Rajbhandari et al. 2020, "ZeRO").

A step's micro-batches are cut into slots. A slot is summed one micro-batch after the other, and the slots are added as
a balanced tree: inside a device first, then in rounds between devices whose numbers differ by one bit. Addition
commutes, so any number of devices that divides the slots gives the same bits on each of them.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from llm60_jax.model import groups, pieces, target
from llm60_jax.plan import Sharing

AXES = ("data", pieces.AXIS)
WHOLE = PartitionSpec()
SPLIT = PartitionSpec(AXES)  # along the first axis
ONCE = "once"  # the scope of a while loop of a single round


def of(sharing: Sharing) -> Mesh:
    """Return the mesh of a step: as many devices of each process, those of a process side by side.

    `machine.devices.ready` has checked their number.
    """
    return _of(sharing, target.devices())


@functools.cache
def _of(sharing: Sharing, available: tuple[jax.Device, ...]) -> Mesh:
    by_process: dict[int, list[jax.Device]] = {}
    for device in available:
        by_process.setdefault(device.process_index, []).append(device)
    each = sharing.devices // len(by_process)
    devices = [device for _, own in sorted(by_process.items()) for device in own[:each]]
    return Mesh(np.array(devices).reshape(-1, sharing.fsdp), AXES)


def on(sharing: Sharing, spec: PartitionSpec) -> NamedSharding:
    """Return the sharding of arrays on the mesh: `WHOLE` on every device, or `SPLIT`."""
    return NamedSharding(of(sharing), spec)


def of_state(state: Any, sharing: Sharing) -> Any:
    """Return the sharding of every array of a training state, real or abstract: its groups are `cut`, all else is
    whole."""
    whole_state = jax.tree.map(lambda _: WHOLE, state)
    specs = dataclasses.replace(whole_state, params=cut(state.params, sharing), opt_state=cut(state.opt_state, sharing))
    return jax.tree.map(functools.partial(on, sharing), specs)


def cut(groups_of_arrays: dict[str, Any], sharing: Sharing) -> dict[str, Any]:
    """Return how devices hold groups of parameters or of optimizer state, a `PartitionSpec` for each array.

    A matrix is cut along its longest axis that `fsdp` divides, never along the axis of layers. All else is whole.
    """

    def spec(first: int, leaf: Any) -> PartitionSpec:
        axes = [axis for axis in range(first, leaf.ndim) if leaf.shape[axis] % sharing.fsdp == 0]
        if sharing.fsdp == 1 or leaf.ndim - first < 2 or not axes:
            return WHOLE
        longest = max(axes, key=lambda axis: leaf.shape[axis])
        return PartitionSpec(*[None] * longest, pieces.AXIS)

    return {
        name: jax.tree.map(functools.partial(spec, int(groups.is_stacked(name))), group)
        for name, group in groups_of_arrays.items()
    }


def within(params: groups.Params, sharing: Sharing) -> Any:
    """Return how devices hold groups of parameters inside `summed`: in pieces if layers put them together."""
    return cut(params, sharing) if sharing.gather == "layer" else WHOLE


def place(state: Any, sharing: Sharing) -> Any:
    """Return a training state on the mesh. All processes pass equal arrays, and JAX compares them."""
    return jax.tree.map(_placed, state, of_state(state, sharing))


def _placed(array: Any, sharding: NamedSharding) -> jax.Array:
    if isinstance(array, jax.Array) and not array.is_fully_addressable:
        return array  # it lies on the mesh already
    return jax.device_put(np.asarray(array) if jax.process_count() > 1 else array, sharding)


def put(batch: dict[str, Any], sharing: Sharing) -> dict[str, jax.Array]:
    """Return a batch on the mesh, of this process's share of it [G / processes, ...]."""
    split = on(sharing, SPLIT)
    return {name: jax.make_array_from_process_local_data(split, np.asarray(rows)) for name, rows in batch.items()}


def whole(tree: Any) -> Any:
    """Return the arrays of a tree whole, on the first device of this process; no copy of what is whole there.

    Where arrays are cut, all processes must call it.
    """

    def on_first(x: Any) -> Any:
        if not isinstance(x, jax.Array) or len(x.sharding.device_set) == 1:
            return x
        if not x.is_fully_replicated:
            x = _gathered(x.sharding.mesh)(x)  # type: ignore[attr-defined]
        return x.addressable_data(0)

    return jax.tree.map(on_first, tree)


@functools.cache
def _gathered(mesh: Mesh) -> Callable[[jax.Array], jax.Array]:
    return jax.jit(lambda x: x, out_shardings=NamedSharding(mesh, WHOLE))


def made_whole(tree: Any, sharing: Sharing) -> Any:
    """Inside a program, return a tree whose arrays every device holds whole; nothing where none is cut."""
    if sharing.fsdp == 1 or sharing.gather != "step":
        return tree
    return jax.lax.with_sharding_constraint(tree, on(sharing, WHOLE))


def largest(value: int, sharing: Sharing) -> Any:
    """Return the largest of all processes' values: `int()` of it waits until the devices have compared them.

    It goes behind the step that was dispatched last, so that no process waits for it before it reads that step.
    """
    if jax.process_count() == 1:
        return value
    devices = of(sharing).local_devices
    values = jax.make_array_from_process_local_data(on(sharing, SPLIT), np.full(len(devices), value, np.int32))
    return _maximum(of(sharing))(values)


@functools.cache
def _maximum(mesh: Mesh) -> Callable[[jax.Array], jax.Array]:
    return jax.jit(jnp.max, out_shardings=NamedSharding(mesh, WHOLE))


# --- Sums ---------------------------------------------------------------------------------------------------------


def summed(
    function: Callable[..., Any], sharing: Sharing, slots: int, held: Any = WHOLE, sums: Any = WHOLE
) -> Callable[..., Any]:
    """Return `function(shared, parts)` summed over the micro-batches of all devices.

    The arrays of `parts` are split along their first axis. `function` sums over the micro-batches that it gets.

    Args:
      slots: a multiple of the devices, and a power of two; 0 sums in whatever order is fastest, so that the last bits
        depend on the number of devices.
      held: how a device has `shared`, a spec or a tree of specs.
      sums: the same of the results, with `slots` 0. A result in pieces is summed over `fsdp` already
        (`pieces.whole` does that).
    """

    def total(spec: PartitionSpec, own: Any) -> Any:
        return jax.lax.psum(own, AXES if spec == WHOLE else "data")

    def on_one_device(shared: Any, part: Any) -> Any:
        if slots == 0 or slots == sharing.devices == 1:
            own = function(shared, part)
            return jax.tree.map(total, sums, own) if sharing.devices > 1 else own
        own = _tree(functools.partial(function, shared), part, slots // sharing.devices)
        for bit in range(int(math.log2(sharing.devices))):
            pairs = [(device, device ^ (1 << bit)) for device in range(sharing.devices)]
            own = jax.tree.map(lambda x, pairs=pairs: x + jax.lax.ppermute(x, AXES, pairs), own)
        return own

    return jax.shard_map(on_one_device, mesh=of(sharing), in_specs=(held, SPLIT), out_specs=sums, check_vma=False)


def _tree(function: Callable[[Any], Any], parts: Any, slots: int) -> Any:
    """Return the sum of `function` over slots of `parts`, added as a balanced tree.

    Each level is a loop of two, so a program holds `function` once.
    """
    if slots == 1:
        return _apart(function, parts)
    halves = jax.tree.map(lambda x: x.reshape(2, len(x) // 2, *x.shape[1:]), parts)

    def add(total: Any, half: Any) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, total, _tree(function, half, slots // 2)), None

    half = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), halves)
    return jax.lax.scan(add, _nothing(function, half), halves)[0]


def _apart(function: Callable[[Any], Any], parts: Any) -> Any:
    """Return `function(parts)`, whose program is the same whatever stands around it.

    It is in a loop of one round, which XLA does not know. Else a product at the end of `function` and the sum after it
    may become one operation, which rounds once and not twice. A barrier does not help: XLA for CPUs removes it early.
    Elsewhere a barrier has to do, as the host would wait for the loop.
    """
    if target.platform() != "cpu":
        return jax.lax.optimization_barrier(function(parts))
    once = jax.lax.optimization_barrier(jnp.int32(1))
    with jax.named_scope(ONCE):
        return jax.lax.fori_loop(0, once, lambda _, __: function(parts), _nothing(function, parts))


def _nothing(function: Callable[[Any], Any], parts: Any) -> Any:
    """Return zeros in the shapes of `function(parts)`, which is not computed."""
    return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(function, parts))


def sum_in_order(x: jax.Array) -> jax.Array:
    """Return the sum of all numbers, added as a tree. How `x.sum()` rounds depends on the program around it."""
    flat = x.reshape(-1)
    flat = jnp.pad(flat, (0, (1 << (len(flat) - 1).bit_length()) - len(flat)))
    while len(flat) > 1:
        flat = flat[: len(flat) // 2] + flat[len(flat) // 2 :]
    return flat[0]
