"""The memory that steps compute in: the device's own, or on a CPU that of this process.

A GPU or TPU counts its memory (`memory_stats`); a CPU, and some plug-ins, do not. There the memory
of the machine and the resident set of this process count instead, and so they do before the device
is open (`facts.versions`).
"""

from llm60_jax.machine import facts

# Share of a device's memory that a step may fill; the rest is for gaps between arrays and for what runs beside steps.
_DEVICE_SHARE = 0.9


def available() -> int:
    """Return the bytes that a run may use: most of the device's memory, or half of the machine's."""
    limit = _counted("bytes_limit")
    return int(_DEVICE_SHARE * limit) if limit else facts.memory_bytes() // 2


def in_use() -> int:
    """Return the bytes that are in use now."""
    return _counted("bytes_in_use") or facts.resident_bytes()


def peak() -> int:
    """Return the most bytes that this process has used so far."""
    return _counted("peak_bytes_in_use") or facts.peak_bytes()


def is_exhausted(error: BaseException) -> bool:
    """Return whether an exception says that the device, or the machine, ran out of memory."""
    # By its name, because commands without JAX ask too. Files report a full disk in the same words.
    full = type(error).__name__ == "JaxRuntimeError" and "RESOURCE_EXHAUSTED" in str(error)
    return full or isinstance(error, MemoryError)


def _counted(name: str) -> int:
    """Return a figure of the first device's own count; 0 if it has none."""
    if facts.known_device() == "cpu":
        return 0
    import jax

    return int((jax.local_devices()[0].memory_stats() or {}).get(name, 0))
