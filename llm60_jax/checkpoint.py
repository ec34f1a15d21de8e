"""Checkpoints: Orbax behind a thin wall of digests and names.

    checkpoints/<step>/   rolling ones, the newest few; those saved before a freeze are kept for ever
    phases/<name>/        one at the end of each phase; never deleted or overwritten
    adapters/<name>/      the adapters alone, at the end of a phase that trained them; kept like a phase
      state/              the training state, an Orbax checkpoint of plain arrays
      meta.json           readable facts: step, phase, stage, tokens, iterator state, config, digests, versions
      manifest.json       SHA-256 of every file, written last

Orbax alone restores a flipped bit without a word, so `load` verifies the manifest first. Saving is synchronous: a
checkpoint is on the disk before training goes on. The state is an opaque tree of arrays here.
"""

import hashlib
import json
import logging
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from orbax.checkpoint import v1 as ocp

from llm60_jax import manifest
from llm60_jax.errors import DamageError, InputError, MachineError

log = logging.getLogger("llm60_jax")
STATE, META = "state", "meta.json"
DAMAGED = ".damaged"  # what a checkpoint that no longer matches its digests is renamed to


def leaf_digests(state: Any) -> dict[str, str]:
    """SHA-256 of each array of a tree by its path: dtype, shape and bytes."""
    found = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        array = np.ascontiguousarray(leaf)
        digest = hashlib.sha256(f"{array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
        found[jax.tree_util.keystr(path, simple=True, separator="/")] = digest.hexdigest()
    return found


def state_sha256(state: Any, iterator: Any) -> str:
    """One digest over a whole training state and the position in the data. Equal digests mean that training goes on
    bit for bit alike."""
    return manifest.digest_of({"leaves": leaf_digests(state), "iterator": iterator})


def save(folder: Path, state: Any, meta: dict[str, Any]) -> str:
    """Writes one checkpoint folder and returns its `state_sha256`. `meta["iterator"]` is the data position.

    Raises:
      MachineError: the disk refuses; whatever stood in `folder` before is still there.
      InputError: `folder` holds a checkpoint already. None is ever overwritten.
    """
    if manifest.exists(folder):
        raise InputError(f"{folder}: holds a checkpoint already, and none is overwritten")
    digest = state_sha256(state, meta["iterator"])

    def build(partial: Path) -> dict[str, Any]:
        ocp.save((partial / STATE).absolute(), state)
        (partial / META).write_text(json.dumps({**meta, "state_sha256": digest}, indent=1), encoding="utf-8")
        return {"permanent": meta["permanent"]}

    try:
        manifest.create(folder, {"step": meta["step"], "state_sha256": digest}, build)
    except (OSError, ValueError, RuntimeError) as error:
        # The library below Orbax reports a full disk as ValueError("RESOURCE_EXHAUSTED: ... No space left on device").
        raise MachineError(
            f"{folder}: the checkpoint cannot be written, free some space: {str(error)[:300]}"
        ) from error
    return digest


def read_meta(folder: Path) -> dict[str, Any]:
    """The readable facts of a checkpoint. Raises DamageError."""
    try:
        return dict(json.loads((folder / META).read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise DamageError(f"{folder / META}: missing or unreadable ({type(error).__name__})") from None


def load(folder: Path, abstract_state: Any = None) -> tuple[Any, dict[str, Any]]:
    """Verifies a checkpoint and reads it.

    Args:
      folder: a checkpoint folder.
      abstract_state: tree of `jax.ShapeDtypeStruct`; what comes back has its structure. Without it, nested dicts of
        arrays as they were stored.

    Returns:
      The state, and the metadata.

    Raises:
      DamageError: a file is damaged, or the stored arrays differ from the expected shapes.
    """
    manifest.verify(folder)
    return read(folder, abstract_state)


def read(folder: Path, abstract_state: Any) -> tuple[Any, dict[str, Any]]:
    """`load` for a folder that is verified already."""
    meta = read_meta(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Orbax warns of absent shardings and of its own renamed arguments
        try:
            if abstract_state is not None:
                _compare(folder, _shapes(ocp.metadata((folder / STATE).absolute()).metadata), _shapes(abstract_state))
            state = ocp.load((folder / STATE).absolute(), abstract_state)
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise DamageError(f"{folder}: its arrays do not fit this configuration: {str(error)[:300]}") from error
    # Orbax can hand back a placeholder for a leaf that is not on the disk.
    absent = [path for path, leaf in jax.tree_util.tree_leaves_with_path(state) if not hasattr(leaf, "__array__")]
    if absent:
        raise DamageError(f"{folder}: {jax.tree_util.keystr(absent[0])} is not in the checkpoint")
    return state, meta


def _shapes(tree: Any) -> dict[str, str]:
    """Path -> "dtype[shape]" of every array in a tree, stored or abstract."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): f"{leaf.dtype}{list(leaf.shape)}"
        for path, leaf in leaves
        if hasattr(leaf, "shape")
    }


def _compare(folder: Path, stored: dict[str, str], wanted: dict[str, str]) -> None:
    """Raises DamageError naming the arrays that differ; Orbax's own message is a page of dumped structures."""
    names = sorted(name for name in stored.keys() | wanted.keys() if stored.get(name) != wanted.get(name))
    if names:
        lines = [f"{name}: stored {stored.get(name)}, wanted {wanted.get(name)}" for name in names[:8]]
        more = [f"... and {len(names) - 8} more"] if len(names) > 8 else []
        raise DamageError("\n  ".join([f"{folder}: its arrays do not fit this configuration:", *lines, *more]))


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
    raise InputError(f"{path}: neither a checkpoint nor a run directory with one")


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
        faults = {folder: fault for folder in self.all() if (fault := _fault(folder, manifest.read))}
        for folder in self.all():
            if folder not in faults and (fault := _fault(folder, manifest.verify)):
                faults[folder] = fault
            if folder not in faults:
                for damaged, fault in faults.items():
                    log.warning("%s; it is set aside as %s", fault, _set_aside(damaged).name)
                return folder
        if faults:
            raise DamageError("no checkpoint of this run is whole:\n  " + "\n  ".join(faults.values()))
        return None

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
        return int(manifest.read(folder)["identity"]["step"])
    except (DamageError, KeyError, TypeError, ValueError):
        return -1
