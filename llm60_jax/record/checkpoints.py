"""The checkpoints of a run directory: list them, find the newest whole one, and delete old ones."""

import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from llm60_jax.errors import DamageError, InputError
from llm60_jax.machine import manifest, together
from llm60_jax.record import store
from llm60_jax.record.kept import DAMAGED, listed, step_of
from llm60_jax.record.workdir import TOKENIZER

log = logging.getLogger("llm60_jax")
BRANCHES = "branches"  # folder of checkpoints that a run left when it went back to an earlier step


def find(path: Path) -> Path:
    """Return the checkpoint that a path means: itself, or the newest of a run directory. Raises InputError."""
    if manifest.exists(path) and (path / store.STATE).is_dir():
        return _inside_its_run(path)
    committed = listed(path)
    if committed:
        return committed[0]
    runs = sorted(str(config.parent) for config in path.absolute().parent.glob("*/config.json"))
    hint = f"; runs beside it: {', '.join(runs[:5])}" if runs else ""
    raise InputError(f"{path}: neither a checkpoint nor a run directory with one{hint}")


def _inside_its_run(folder: Path) -> Path:
    """Return a checkpoint's path whose second parent is its run: links and ".." are resolved if need be.

    A checkpoint that itself lies outside of a run keeps the path that leads through the run.
    """
    resolved = folder.resolve()
    is_plain = resolved == folder.absolute() and len(folder.parts) > 2
    return folder if is_plain or not (resolved.parents[1] / TOKENIZER).exists() else resolved


class Checkpoints:
    """The checkpoints of one run directory."""

    def __init__(self, workdir: Path, keep_rolling: int):
        self._rolling = workdir / "checkpoints"
        self._phases = workdir / "phases"
        self._keep = keep_rolling

    def phase(self, name: str) -> Path:
        return self._phases / name

    def all(self) -> list[Path]:
        """Return the committed checkpoints, newest first; at equal steps the phase checkpoint comes first."""
        return listed(self._rolling.parent)

    def newest(self) -> Path | None:
        """Return the newest whole checkpoint, verified, or None if there is none at all.

        Damaged checkpoints are logged and renamed. Process 0 decides for all.

        Raises:
          DamageError: checkpoints exist, and all are damaged. A run never starts over by itself.
        """
        found = together.on_first(lambda: None if (folder := self._newest()) is None else str(folder))
        return None if found is None else Path(found)

    def _newest(self) -> Path | None:
        faults = {folder: f"{folder / manifest.NAME}: missing" for folder in self._without_manifest()}
        faults |= {folder: fault for folder in self.all() if (fault := _fault(folder, manifest.read))}
        for folder in self.all():
            if folder not in faults and (fault := _fault(folder, store.identity) or _fault(folder, store.read_meta)):
                faults[folder] = fault
            if folder not in faults:
                for damaged, fault in faults.items():
                    log.warning("%s; it is set aside as %s", fault, _set_aside(damaged).name)
                return folder
        if faults:
            raise DamageError("no checkpoint of this run is whole:\n  " + "\n  ".join(faults.values()))
        return None

    def _without_manifest(self) -> list[Path]:
        """Return folders that were checkpoints: only whole checkpoints are ever moved to or from these places."""
        inside = [*(path for path in self._rolling.glob("*") if path.name.isdecimal()), *self._phases.glob("*")]
        return [
            path
            for path in inside
            if path.is_dir() and not path.name.startswith(".") and path.suffix != DAMAGED and not manifest.exists(path)
        ]

    def save_rolling(self, state: Any, meta: dict[str, Any]) -> Path:
        """Save under the step's number unless that exists, then delete rolling checkpoints beyond the limit."""
        folder = self._rolling / str(meta["step"])
        if not together.broadcast(manifest.exists(folder)):
            store.save(folder, state, meta)
        together.on_first(self._delete_old)
        return folder

    def _delete_old(self) -> None:
        for old in [p for p in self.all() if p.parent == self._rolling and not _is_permanent(p)][self._keep :]:
            manifest.remove(old)

    def save_phase(self, name: str, state: Any, meta: dict[str, Any]) -> Path:
        """Save the end of a phase, for good."""
        folder = self.phase(name)
        store.save(folder, state, meta)
        return folder

    def save_adapters(self, name: str, state: Any, meta: dict[str, Any]) -> Path:
        """Save the adapters of a phase, for good, unless they are saved already."""
        folder = self._phases.parent / "adapters" / name
        if not together.broadcast(manifest.exists(folder)):
            store.save(folder, state, meta)
        return folder


def set_aside_after(workdir: Path, step: int) -> Path | None:
    """Move a run's checkpoints after a step into a new branch folder, so that the run continues from that step.

    Nothing is deleted. Small files of the run are moved or copied along.

    Returns:
      The branch folder, or None if there is no later checkpoint.

    Raises:
      InputError: there is no checkpoint of exactly that step.
    """
    committed = listed(workdir)
    if not any(step_of(folder) == step for folder in committed):
        steps = ", ".join(f"{step_of(folder):,}" for folder in reversed(committed)) or "none"
        raise InputError(f"{workdir}: no checkpoint of step {step:,} is there; those that are: {steps}")
    later = [folder for folder in committed if step_of(folder) > step]
    if not later:
        return None
    number = 1 + len(list((workdir / BRANCHES).glob("*")))
    branch = workdir / BRANCHES / f"{number:03}-after-{step}"
    closed = [folder.name for folder in later if folder.parent.name == "phases"]
    copied = [workdir / name for name in ("metrics.jsonl", "plan.json", "rescues.json") if (workdir / name).exists()]
    moved = [*later, *(path for name in closed for path in workdir.glob(f"*/{name}.json"))]
    for path in [*moved, *copied]:
        target = branch / path.relative_to(workdir)
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target) if path in moved else shutil.copy2(path, target)
    return branch


def _fault(folder: Path, look: Callable[[Path], Any]) -> str | None:
    """Return the damage that `look` reports for a folder, or None."""
    try:
        look(folder)
    except DamageError as error:
        return str(error)
    return None


def _set_aside(folder: Path) -> Path:
    """Rename a damaged checkpoint instead of deleting it, so that a good one can take its place."""
    target = folder.with_name(folder.name + DAMAGED)
    shutil.rmtree(target, ignore_errors=True)  # the same step damaged a second time
    return folder.rename(target)


def _is_permanent(folder: Path) -> bool:
    """Return whether a rolling checkpoint stays; one with an unreadable manifest is not ours to delete."""
    try:
        return bool(manifest.read(folder)["facts"].get("permanent"))
    except DamageError:
        return True
