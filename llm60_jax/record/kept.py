"""Which checkpoints a run directory holds. No jax, so that whoever only lists them starts fast."""

from pathlib import Path

from llm60_jax.errors import DamageError
from llm60_jax.machine import manifest

DAMAGED = ".damaged"  # suffix of a checkpoint that no longer matches its digests


def listed(workdir: Path) -> list[Path]:
    """Return the committed checkpoints of a run, newest first; at equal steps the phase checkpoint comes first."""
    rolling = [p for p in (workdir / "checkpoints").glob("*") if p.name.isdecimal() and manifest.exists(p)]
    phases = [p for p in (workdir / "phases").glob("*") if p.suffix != DAMAGED and manifest.exists(p)]
    return sorted(phases + rolling, key=lambda p: (-step_of(p), p.parent.name != "phases"))


def step_of(folder: Path) -> int:
    """Return the step of a checkpoint folder, or -1 if it is unknown."""
    if folder.name.isdecimal():
        return int(folder.name)
    try:
        step = manifest.read(folder)["identity"].get("step")
    except (DamageError, OSError):
        return -1
    return step if isinstance(step, int) else -1
