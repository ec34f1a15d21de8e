"""Compile train steps for devices that are not here, and say what each device would hold and send.

XLA's compiler for TPUs (libtpu) needs no TPU, and a CPU can be cut into any number of devices. Nothing runs, and no
array of the model's size is made.
"""

import collections
import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from llm60_jax.config import Config
from llm60_jax.errors import InputError, MachineError
from llm60_jax.machine import shipped
from llm60_jax.model import target
from llm60_jax.plan import StepKey
from llm60_jax.training import counted_flops, mesh, phase_groups, programs

# libtpu asks a TPU's host for these, and warns or waits where there is none. A compiler may be loaded twice.
_NO_TPU = {
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-16",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
}
# The share of an array of n parts that a device sends in a ring (Patarasuk and Yuan 2009), by primitive.
_SENT = {
    "all_gather": lambda n: (n - 1) / n,  # of the whole array
    "reduce_scatter": lambda n: (n - 1) / n,
    "psum": lambda n: 2 * (n - 1) / n,
    "ppermute": lambda n: 1.0,
}


class Sent(NamedTuple):
    """What one device sends by one kind of collective, in one step."""

    times: int
    bytes: int


class Outlook(NamedTuple):
    """What a train step would need, for each device."""

    state_bytes: int  # parameters and optimizer state, before and after the step
    peak_bytes: int  # with the batch and all temporaries
    sent: dict[str, Sent]  # by primitive
    seconds: float  # of compiling


def devices(text: str) -> list[jax.Device]:
    """Return the devices that a text names: `cpu:64`, or the topology of TPUs such as `v5e:4x4`.

    Raises:
      InputError: there is no such topology.
      MachineError: the compiler for TPUs is not installed, or this process has opened fewer CPU devices already.
    """
    kind, _, number = text.partition(":")
    if kind == "cpu":
        if not number.isdecimal() or not int(number):
            raise InputError(f"{text}: give the number of CPU devices, such as cpu:64")
        with contextlib.suppress(RuntimeError):  # the devices are open already
            jax.config.update("jax_num_cpu_devices", int(number))
        found = jax.devices("cpu")[: int(number)]
        if len(found) < int(number):
            raise MachineError(f"{text}: this process has {len(found)} CPU devices already; start another one")
        return found
    for name, value in _NO_TPU.items():
        os.environ.setdefault(name, value)
    from jax.experimental import topologies

    try:
        return list(topologies.get_topology_desc(platform="tpu", topology_name=text).devices)
    except jax.errors.JaxRuntimeError as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{text}: neither cpu:NUMBER nor a topology of TPUs such as v5e:4x4 ({reason})") from None
    except RuntimeError:
        raise MachineError(f"{text}: the compiler for TPUs is not installed; {shipped.extra('tpu')}") from None


def compiled(config: Config, key: StepKey, there: Sequence[jax.Device]) -> Outlook:
    """Compile the train step of a key for these devices, as many as the key has."""
    start = time.monotonic()
    with target.aimed_at(there):
        traced = programs.trace(config, key)
        memory = traced.lower().compile().memory_analysis()
        state = phase_groups.abstract(config, key)
        held = jax.tree.map(_bytes_held, state, mesh.of_state(state, key.sharing))
    arguments, results = memory.argument_size_in_bytes, memory.output_size_in_bytes
    return Outlook(
        state_bytes=sum(jax.tree.leaves(held)),
        peak_bytes=arguments + results - memory.alias_size_in_bytes + memory.temp_size_in_bytes,
        sent=sent(traced.jaxpr, state, key),
        seconds=time.monotonic() - start,
    )


def _bytes_held(array: jax.ShapeDtypeStruct, sharding: jax.sharding.NamedSharding) -> int:
    return int(np.prod(sharding.shard_shape(array.shape))) * array.dtype.itemsize


def sent(traced: Any, state: Any, key: StepKey) -> dict[str, Sent]:
    """Return what a device sends in one step of a traced program (a closed jaxpr), by primitive.

    XLA may turn a collective into another. It adds small ones, for norms and means of cut arrays, which are left out.
    """
    times: collections.Counter[str] = collections.Counter()
    sizes: collections.Counter[str] = collections.Counter()
    for name, repeats, size in _collectives(traced.jaxpr, 1, {}):
        times[name] += repeats
        sizes[name] += round(repeats * size)
    if key.sharing.fsdp > 1 and key.sharing.gather == "step":  # mesh.made_whole
        specs = mesh.cut({**state.params}, key.sharing), mesh.cut({**state.opt_state}, key.sharing)
        for array, spec in zip(*map(jax.tree.leaves, ((state.params, state.opt_state), specs)), strict=True):
            if spec != mesh.WHOLE:
                times["all_gather"] += 1
                sizes["all_gather"] += round(array.size * array.dtype.itemsize * _SENT["all_gather"](key.sharing.fsdp))
    return {name: Sent(times[name], sizes[name]) for name in sorted(times)}


def _collectives(jaxpr: Any, repeats: int, axes: dict[str, int]) -> Iterator[tuple[str, int, float]]:
    """Yield name, times and sent bytes of every collective in a program; `axes` are the sizes of the mesh's axes."""
    for equation in jaxpr.eqns:
        name, params = equation.primitive.name, equation.params
        if name in _SENT:
            names = params.get("axis_name", params.get("axes"))
            members = int(np.prod([axes[axis] for axis in (names if isinstance(names, tuple) else (names,))]))
            arrays = equation.outvars if name == "all_gather" else equation.invars
            size = sum(variable.aval.size * variable.aval.dtype.itemsize for variable in arrays)
            if members > 1:
                yield name, repeats, size * _SENT[name](members)
            continue
        inside = dict(params["mesh"].shape) if name == "shard_map" else axes
        for body in counted_flops.bodies(equation):
            yield from _collectives(body, repeats * (params["length"] if name == "scan" else 1), inside)
