"""Checkpoints: Orbax behind a thin wall of digests and names.

    checkpoints/<step>/   rolling ones, the newest few; those saved before a freeze are kept for ever
    phases/<name>/        one at the end of each phase; never deleted or overwritten
    adapters/<name>/      the adapters alone, at the end of a phase that trained them; kept like a phase
      state/              the training state, an Orbax checkpoint of plain arrays
      meta.json           readable facts: step, phase, stage, tokens, iterator state, config, digests, versions
      manifest.json       SHA-256 of every file, written last

Orbax alone restores a flipped bit without a word, so `load` verifies the manifest first. Saving is synchronous: a
checkpoint is on the disk before training goes on. The state is an opaque tree of arrays here, stored without the
devices it was on: it can be read on any others.
"""

import contextlib
import functools
import glob
import hashlib
import json
import logging
import math
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tensorstore
from orbax.checkpoint import v1 as ocp
from pydantic import ConfigDict, TypeAdapter, ValidationError
from typing_extensions import TypedDict  # pydantic's own; that of the standard library it takes from 3.12 on

from llm60_jax import config as config_module
from llm60_jax.config import Config
from llm60_jax.config.schema import Count
from llm60_jax.errors import DamageError, InputError, MachineError
from llm60_jax.machine import files, manifest

log = logging.getLogger("llm60_jax")
STATE, META = "state", "meta.json"
_AROUND = 2**19  # bytes of a checkpoint beside its arrays, about
_INFLATION = 256  # arrays that claim more than so many bytes for each one on the disk are not believed


class Recorded(TypedDict):
    """A corpus that the model has been trained on (`Prepared.record`)."""

    phase: str
    left_out: list[str]


class Meta(TypedDict):
    """The readable facts of a checkpoint, as `meta.json` holds them (session.py fills them in)."""

    __pydantic_config__ = ConfigDict(strict=True)  # type: ignore[misc]

    step: Count
    tokens: Count
    phase: str
    stage: Count
    permanent: bool  # kept for ever
    closed: bool  # the end of a phase: a plain model
    iterator: dict[str, Any] | None  # position in the data
    config: dict[str, Any]
    plan: list[dict[str, Any]]
    decisions: list[dict[str, Any]]
    extensions: list[dict[str, Any]]
    overrides: dict[str, str]
    digests: dict[str, str]
    corpora: dict[str, Recorded]  # by the names of their folders
    versions: dict[str, str]
    phase_start: dict[str, Any] | None
    late: list[tuple[int, float]]
    watch: Any
    refused: Count
    frozen: dict[str, str] | None
    looks: dict[str, Any]
    ancestors: dict[str, str]
    state_sha256: str


_META = TypeAdapter(Meta)


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
    return files.digest_of({"leaves": leaf_digests(state), "iterator": iterator})


def save(folder: Path, state: Any, meta: dict[str, Any]) -> str:
    """Writes one checkpoint folder and returns its `state_sha256`. `meta` holds what `Meta` lists beside it.

    Raises:
      MachineError: the disk refuses; whatever stood in `folder` before is still there.
      InputError: `folder` holds a checkpoint already. None is ever overwritten.
    """
    if manifest.exists(folder):
        raise InputError(f"{folder}: holds a checkpoint already, and none is overwritten")
    require_room(folder.parent, nbytes(state))
    _hide_late_errors()
    state = jax.device_get(state)  # Orbax would record the devices, and refuse others
    digest = state_sha256(state, meta["iterator"])

    def build(partial: Path) -> dict[str, Any]:
        with _without_patterns(partial.absolute()) as place:
            ocp.save(place / STATE, state)
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


@contextlib.contextmanager
def _without_patterns(folder: Path) -> Iterator[Path]:
    """A path to a folder without `*`, `?` and `[`. Orbax looks for the pieces it has written by a pattern that begins
    with their path: where that is a pattern itself it finds none, and leaves a checkpoint that cannot be read."""
    if glob.escape(str(folder)) == str(folder):
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="llm60_jax-") as around:
        link = Path(around, "checkpoint")
        link.symlink_to(folder, target_is_directory=True)
        yield link


def nbytes(state: Any) -> int:
    """Bytes of a tree's arrays."""
    return sum(leaf.nbytes for leaf in jax.tree.leaves(state))


def require_room(place: Path, needed: int) -> None:
    """Raises MachineError where a disk has too little room for so many bytes and the files around them."""
    free, needed = shutil.disk_usage(files.standing(place)).free, needed + _AROUND
    if free < needed:
        raise MachineError(f"{place}: a checkpoint takes {needed:,} bytes, and {free:,} are free; make room")


def read_meta(folder: Path) -> dict[str, Any]:
    """The readable facts of a checkpoint, see `Meta`. Raises DamageError."""
    path = folder / META
    try:
        return dict(_META.validate_json(files.read_text(path)))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "its JSON"
        raise DamageError(f"{path}: not the facts of a checkpoint: {where}: {first['msg']}") from None


def config_of(folder: Path, meta: Mapping[str, Any]) -> Config:
    """Return the configuration that a checkpoint was trained with. It has the phase of the checkpoint.

    Raise DamageError.
    """
    try:
        config = config_module.parse(meta["config"], f"{folder / META}: config")
    except InputError as error:
        raise DamageError(str(error)) from None
    if meta["phase"] not in config.phase_names:
        raise DamageError(f"{folder / META}: phase '{meta['phase']}' is none of its config's {config.phase_names}")
    return config


def load(folder: Path, abstract_state: Any = None) -> tuple[Any, dict[str, Any]]:
    """Verifies a checkpoint and reads it.

    Args:
      folder: a checkpoint folder.
      abstract_state: tree of `jax.ShapeDtypeStruct`; what comes back has its structure. Without it, nested dicts of
        arrays as they were stored.

    Returns:
      The state, as arrays of numpy, and the metadata.

    Raises:
      DamageError: a file is damaged, or the stored arrays differ from the expected shapes.
    """
    manifest.verify(folder)
    return read(folder, abstract_state)


def read(folder: Path, abstract_state: Any) -> tuple[Any, dict[str, Any]]:
    """`load` for a folder that is verified already."""
    meta = read_meta(folder)
    _hide_late_errors()
    place = (folder / STATE).absolute()
    with _quiet():
        try:
            # Orbax would open all arrays at once, and tell of a broken index once for each, on the terminal.
            index = {"driver": "ocdbt", "base": {"driver": "file", "path": f"{place / 'state'}/"}}
            tensorstore.KvStore.open(index).result().list().result()
            stored = ocp.metadata(place).metadata
            claimed = _claimed(stored)
        except Exception as error:  # of many kinds, from several libraries, for a file that somebody else made
            raise DamageError(f"{place}: not an Orbax checkpoint of arrays: {str(error)[:300]}") from error
        held = sum(path.stat().st_size for path in place.rglob("*"))
        if claimed > _INFLATION * held:
            raise DamageError(f"{place}: its arrays claim {claimed:,} bytes, and its files have {held:,}")
        if abstract_state is not None:
            _compare(folder, _shapes(stored), _shapes(abstract_state))
        # Arrays of numpy as templates, so that nothing depends on the devices that a checkpoint was saved from.
        wanted = jax.tree.map(_template, stored if abstract_state is None else abstract_state)
        try:
            state = ocp.load(place, wanted)
        except Exception as error:
            raise DamageError(f"{folder}: its arrays cannot be read: {str(error)[:300]}") from error
    # Orbax can hand back a placeholder for a leaf that is not on the disk.
    absent = [path for path, leaf in jax.tree_util.tree_leaves_with_path(state) if not hasattr(leaf, "__array__")]
    if absent:
        raise DamageError(f"{folder}: {jax.tree_util.keystr(absent[0])} is not in the checkpoint")
    if (found := state_sha256(state, meta["iterator"])) != meta["state_sha256"]:
        raise DamageError(f"{folder}: its state is {found[:16]}, and {meta['state_sha256'][:16]} was saved")
    return state, meta


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Orbax warns of absent shardings and of its own renamed arguments, and of damage in pages that say less than the
    error it raises."""
    loud = [logging.getLogger(name) for name in ("absl", "asyncio")]
    levels = [one.level for one in loud]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            for one in loud:
                one.setLevel(logging.CRITICAL + 1)
            yield
        finally:
            for one, level in zip(loud, levels, strict=True):
                one.setLevel(level)


def _hide_late_errors() -> None:
    """At the first file that fails Orbax closes its event loop and raises; what other files still report finds the
    loop closed, maybe seconds later, and Python would print a traceback of it beside our one message."""
    if getattr(sys.unraisablehook, "func", None) is not _unless_late:
        sys.unraisablehook = functools.partial(_unless_late, sys.unraisablehook)


def _unless_late(tell: Callable[[Any], Any], error: Any) -> None:
    if not (isinstance(error.exc_value, RuntimeError) and str(error.exc_value) == "Event loop is closed"):
        tell(error)


def _claimed(stored: Any) -> int:
    """Bytes that stored arrays say they have; nothing of that size is allocated."""
    return sum(math.prod(leaf.shape) * np.dtype(leaf.dtype).itemsize for leaf in jax.tree.leaves(stored))


def _template(leaf: Any) -> np.ndarray:
    """An array of a shape and dtype that takes no memory."""
    return np.broadcast_to(np.zeros((), leaf.dtype), leaf.shape)


def _shapes(tree: Any) -> dict[str, str]:
    """Path -> "dtype[shape]" of every array in a tree, stored or abstract."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): f"{leaf.dtype}{list(leaf.shape)}"
        for path, leaf in leaves
        if hasattr(leaf, "shape")
    }


def identity(folder: Path, look: Callable[[Path], dict[str, Any]] = manifest.verify) -> tuple[int, str]:
    """The step of a checkpoint and its `state_sha256`, as its manifest has them. Raises DamageError."""
    found = look(folder)["identity"]
    step, digest = found.get("step"), found.get("state_sha256")
    if not isinstance(step, int) or not isinstance(digest, str):
        raise DamageError(f"{folder / manifest.NAME}: names no step and state; it is not of a checkpoint")
    return step, digest


def _compare(folder: Path, stored: dict[str, str], wanted: dict[str, str]) -> None:
    """Raises DamageError naming the arrays that differ; Orbax's own message is a page of dumped structures."""
    names = sorted(name for name in stored.keys() | wanted.keys() if stored.get(name) != wanted.get(name))
    if names:
        lines = [f"{name}: stored {stored.get(name)}, wanted {wanted.get(name)}" for name in names[:8]]
        more = [f"... and {len(names) - 8} more"] if len(names) > 8 else []
        raise DamageError("\n  ".join([f"{folder}: its arrays do not fit this configuration:", *lines, *more]))
