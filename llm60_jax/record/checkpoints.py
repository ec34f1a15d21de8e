"""The checkpoints of a run directory: which are there, which is the newest whole one, which are kept."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from llm60_jax.errors import DamageError, InputError
from llm60_jax.machine import manifest
from llm60_jax.record.store import STATE, identity, log, read_meta, save

BRANCHES = "branches"  # what was set aside when a run went back to an earlier step
DAMAGED = ".damaged"  # what a checkpoint that no longer matches its digests is renamed to


def listed(workdir: Path) -> list[Path]:
    """Committed checkpoints of a run directory, newest first; at equal steps the phase checkpoint comes first."""
    rolling = [p for p in (workdir / "checkpoints").glob("*") if p.name.isdecimal() and manifest.exists(p)]
    phases = [p for p in (workdir / "phases").glob("*") if p.suffix != DAMAGED and manifest.exists(p)]
    return sorted(phases + rolling, key=lambda p: (-_step(p), p.parent.name != "phases"))


def find(path: Path) -> Path:
    """The checkpoint a path means: itself, or the newest one of a run directory. Raises InputError."""
    if manifest.exists(path) and (path / STATE).is_dir():
        return path
    found = listed(path)
    if found:
        return found[0]
    near = sorted(str(found.parent) for found in path.absolute().parent.glob("*/config.json"))
    told = f"; runs beside it: {', '.join(near[:5])}" if near else ""
    raise InputError(f"{path}: neither a checkpoint nor a run directory with one{told}")


class Checkpoints:
    """The checkpoints of one run directory."""

    def __init__(self, workdir: Path, keep_rolling: int):
        self._rolling = workdir / "checkpoints"
        self._phases = workdir / "phases"
        self._keep = keep_rolling
        for folder in (self._rolling, self._phases):
            manifest.remove_partial(folder)

    def phase(self, name: str) -> Path:
        return self._phases / name

    def all(self) -> list[Path]:
        """Committed checkpoints, newest first; at equal steps the phase checkpoint comes first."""
        return listed(self._rolling.parent)

    def newest(self) -> Path | None:
        """The newest whole checkpoint, verified, or None when there is none at all. Damaged ones are named and set
        aside.

        Raises:
          DamageError: checkpoints exist, and every one is damaged: a run never starts over by itself.
        """
        faults = {folder: f"{folder / manifest.NAME}: missing" for folder in self._without_manifest()}
        faults |= {folder: fault for folder in self.all() if (fault := _fault(folder, manifest.read))}
        for folder in self.all():
            if folder not in faults and (fault := _fault(folder, identity) or _fault(folder, read_meta)):
                faults[folder] = fault
            if folder not in faults:
                for damaged, fault in faults.items():
                    log.warning("%s; it is set aside as %s", fault, _set_aside(damaged).name)
                return folder
        if faults:
            raise DamageError("no checkpoint of this run is whole:\n  " + "\n  ".join(faults.values()))
        return None

    def _without_manifest(self) -> list[Path]:
        """Folders that were checkpoints: nothing comes to such a place, or goes from it, but as a whole."""
        inside = [*(path for path in self._rolling.glob("*") if path.name.isdecimal()), *self._phases.glob("*")]
        return [
            path
            for path in inside
            if path.is_dir() and not path.name.startswith(".") and path.suffix != DAMAGED and not manifest.exists(path)
        ]

    def save_rolling(self, state: Any, meta: dict[str, Any]) -> Path:
        """Saves under the step's number unless that step is saved already, then drops rolling ones beyond the limit."""
        folder = self._rolling / str(meta["step"])
        if not manifest.exists(folder):
            save(folder, state, meta)
        for old in [p for p in self.all() if p.parent == self._rolling and not _is_permanent(p)][self._keep :]:
            manifest.remove(old)
        return folder

    def save_phase(self, name: str, state: Any, meta: dict[str, Any]) -> Path:
        """Saves the end of a phase, for good."""
        folder = self.phase(name)
        save(folder, state, meta)
        return folder

    def save_adapters(self, name: str, state: Any, meta: dict[str, Any]) -> Path:
        """Saves the adapters of a phase, for good, unless they are there already."""
        folder = self._phases.parent / "adapters" / name
        if not manifest.exists(folder):
            save(folder, state, meta)
        return folder


def set_aside_after(workdir: Path, step: int) -> Path | None:
    """Moves what a run has committed after a step out of its way, into a folder that is returned, so that it goes on
    from there; None where there is nothing. Nothing is deleted.

    Raises:
      InputError: no checkpoint of exactly that step is there.
    """
    found = listed(workdir)
    if not any(_step(folder) == step for folder in found):
        steps = ", ".join(f"{_step(folder):,}" for folder in reversed(found)) or "none"
        raise InputError(f"{workdir}: no checkpoint of step {step:,} is there; those that are: {steps}")
    later = [folder for folder in found if _step(folder) > step]
    if not later:
        return None
    number = 1 + len(list((workdir / BRANCHES).glob("*")))
    branch = workdir / BRANCHES / f"{number:03}-after-{step}"
    closed = [folder.name for folder in later if folder.parent.name == "phases"]
    kept = [workdir / name for name in ("metrics.jsonl", "plan.json", "rescues.json") if (workdir / name).exists()]
    moved = [*later, *(path for name in closed for path in workdir.glob(f"*/{name}.json"))]
    for path in [*moved, *kept]:
        target = branch / path.relative_to(workdir)
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target) if path in moved else shutil.copy2(path, target)
    return branch


def _fault(folder: Path, look: Callable[[Path], Any]) -> str | None:
    """What `look` finds damaged about a folder, or None."""
    try:
        look(folder)
    except DamageError as error:
        return str(error)
    return None


def _set_aside(folder: Path) -> Path:
    """Renames a damaged checkpoint, so that a good one can take its place and nothing is deleted."""
    target = folder.with_name(folder.name + DAMAGED)
    shutil.rmtree(target, ignore_errors=True)  # the same step damaged a second time
    return folder.rename(target)


def _is_permanent(folder: Path) -> bool:
    """Whether a rolling checkpoint is to stay; one whose manifest cannot be read is not ours to delete."""
    try:
        return bool(manifest.read(folder)["facts"].get("permanent"))
    except DamageError:
        return True


def _step(folder: Path) -> int:
    """The step of a checkpoint folder, -1 if it cannot be told."""
    if folder.name.isdecimal():
        return int(folder.name)
    try:
        return identity(folder, manifest.read)[0]
    except DamageError:
        return -1
