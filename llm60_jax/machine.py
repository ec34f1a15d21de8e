"""What this computer is and has: versions and device, memory, disk."""

import importlib.metadata
import platform
import resource
import shutil
import sys
from pathlib import Path

import jax

from llm60_jax.errors import MachineError


def versions() -> dict[str, str]:
    """Versions and device that the promise of bitwise equal resumption rests on."""
    names = ("llm60_jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy", "sentencepiece")
    found = {name: importlib.metadata.version(name) for name in names}
    return {**found, "python": platform.python_version(), "device": jax.devices()[0].device_kind}


def peak_bytes() -> int:
    """Largest resident set of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def require_disk(folder: Path, wanted: int, purpose: str) -> None:
    """Raises MachineError when the disk that holds `folder` has fewer than `wanted` bytes free."""
    free = shutil.disk_usage(folder).free
    if free < wanted:
        raise MachineError(
            f"{folder}: {purpose} need {wanted / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free. "
            "Make room, or choose another place with --workdir"
        )
