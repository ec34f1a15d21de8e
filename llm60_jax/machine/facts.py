"""Facts about this computer and process: versions and device, memory, disk, time."""

import contextlib
import importlib.metadata
import os
import platform
import resource
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NamedTuple

import psutil

import llm60_jax
from llm60_jax.errors import InputError, MachineError

# Variables that change the bits of a step, or the random numbers.
_DECISIVE = (
    "JAX_DEFAULT_MATMUL_PRECISION",
    "JAX_DEFAULT_PRNG_IMPL",
    "JAX_RANDOM_SEED_OFFSET",
    "JAX_THREEFRY_PARTITIONABLE",
    "XLA_FLAGS",
)


_device = "cpu"  # kind of the device of this process, once JAX has opened it


def counted_devices(wanted: int | Literal["all"]) -> int:
    """Return how many devices train together, over all processes.

    Args:
      wanted: `train.devices`. A number cuts a CPU into as many.

    Raises:
      MachineError: JAX finds no device, or fewer than are wanted.
      InputError: processes cannot have equal shares of them.
    """
    import jax

    from llm60_jax.machine import together

    processes = together.count()
    if wanted == "all":
        _device_kind()
        return jax.local_device_count() * processes
    each, rest = divmod(wanted, processes)
    if rest:
        raise InputError(
            f"train.devices is {wanted}, and {processes} processes cannot share them evenly; leave it out, or "
            "give each process the same number"
        )
    if wanted > 1 and processes == 1:
        with contextlib.suppress(RuntimeError):  # the devices are open already
            jax.config.update("jax_num_cpu_devices", each)
    device, here = _device_kind(), jax.local_device_count()
    if here < each:
        whose = "this machine" if processes == 1 else "each process"
        raise MachineError(
            f"train.devices is {wanted}, and {whose} has {here} ({device}); "
            f"train with --set train.devices={here * processes}"
        )
    return wanted


def devices_at_hand() -> int:
    """Return how many devices all processes have. A CPU is one, however it is cut."""
    import jax

    return 1 if jax.default_backend() == "cpu" else jax.device_count()


def _device_kind() -> str:
    """Return the kind of JAX's first device. Raise MachineError if it finds none."""
    global _device
    import jax

    try:
        _device = str(jax.devices()[0].device_kind)
    except Exception as error:
        # Plug-ins raise many types, AssertionError among them. None of them can be handled.
        raise MachineError(
            f"JAX finds no usable device ({variables()}): {type(error).__name__} {error}. "
            "JAX_PLATFORMS=cpu alone always works"
        ) from None
    return _device


def versions() -> dict[str, str]:
    """Return the versions, device and variables that bitwise resumption depends on.

    Raise MachineError if JAX finds no device.
    """
    device = _device_kind()
    names = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy", "sentencepiece")
    libraries = {name: importlib.metadata.version(name) for name in names}
    ours = {"llm60_jax": llm60_jax.__version__, **libraries, "python": platform.python_version(), "device": device}
    return ours | {name: os.environ[name] for name in _DECISIVE if name in os.environ}


def variables() -> str:
    """Return the variables of JAX that are set, for a message."""
    values = [f"{name}={value}" for name, value in sorted(os.environ.items()) if name.startswith("JAX_")]
    return ", ".join(values) or "no variable of JAX is set"


def fingerprint() -> list[str]:
    """Return what compiled code and its speed depend on: processor, cores, device, XLA version, XLA flags.

    A process that computes nothing itself, and has not called `versions`, has the CPU as its device.
    """
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        processor = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    except OSError:
        processor = platform.processor()
    xla = importlib.metadata.version("jaxlib"), os.environ.get("XLA_FLAGS", "")
    return [platform.machine(), processor, str(cores()), known_device(), *xla]


def known_device() -> str:
    """Return the kind of the device that this process computes on; "cpu" until `versions` has opened it."""
    return _device


def memory_bytes() -> int:
    """Return the physical memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def differences(old: Mapping[str, str], new: Mapping[str, str]) -> str:
    """Describe what changed from one set of `versions` to another."""
    names = [name for name in {**new, **old} if old.get(name) != new.get(name)]
    return ", ".join(f"{name} {old.get(name)} -> {new.get(name)}" for name in names)


def peak_bytes() -> int:
    """Return the largest resident set of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def resident_bytes() -> int:
    """Return the resident set of this process now."""
    return psutil.Process().memory_info().rss


def age() -> float:
    """Return the seconds since this process was started."""
    return time.monotonic() - llm60_jax.STARTED


def cpu_seconds() -> float:
    """Return the processor time of this process so far: user and system, all threads."""
    return time.process_time()


class Load(NamedTuple):
    """How busy this computer is."""

    busy_seconds: float  # of all cores, since the start of the computer
    all_seconds: float  # those, and idle ones
    load: float  # processes that ran or waited for a core, mean of the last minute
    cores: int
    memory_used: int  # bytes
    memory_total: int
    disk_free: int
    disk_total: int


def load(place: Path) -> Load:
    """Return how busy this computer is, and the room on the disk of `place`. Raise OSError if that is gone."""
    memory, disk, seconds = psutil.virtual_memory(), shutil.disk_usage(place), psutil.cpu_times()
    idle = seconds.idle + getattr(seconds, "iowait", 0.0)
    # Linux counts the time of guests in user, too.
    everything = sum(seconds) - getattr(seconds, "guest", 0.0) - getattr(seconds, "guest_nice", 0.0)
    return Load(
        busy_seconds=everything - idle,
        all_seconds=everything,
        load=psutil.getloadavg()[0],
        cores=psutil.cpu_count() or 1,
        memory_used=memory.total - memory.available,
        memory_total=memory.total,
        disk_free=disk.free,
        disk_total=disk.total,
    )


def resident_bytes_of(pid: int) -> int:
    """Return the resident set of another process; 0 if there is no such process."""
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0


def strain(place: Path, needed: int) -> dict[str, str]:
    """Return warnings by resource: disk space below two checkpoints of `needed` bytes, low memory."""
    warnings = {}
    with contextlib.suppress(OSError):
        free = shutil.disk_usage(place).free
        if free < 2 * needed:
            warnings["disk"] = (
                f"{place}: {free / 1e9:.2f} GB are free, and a checkpoint takes {needed / 1e9:.2f} GB; free some disk "
                "space, or saving will fail"
            )
    with contextlib.suppress(psutil.Error, OSError):
        memory = psutil.virtual_memory()
        if memory.available < 0.04 * memory.total:
            warnings["memory"] = (
                f"memory: {memory.available / 1e9:.2f} GB of {memory.total / 1e9:.1f} GB are free, this run uses "
                f"{resident_bytes() / 1e9:.2f} GB; close other programs, or resume with fewer sequences in "
                "train.micro_batch"
            )
    return warnings
