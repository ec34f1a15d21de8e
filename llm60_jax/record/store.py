"""Checkpoint folders: Orbax arrays, readable metadata and digests.

    checkpoints/<step>/   rolling checkpoints, the newest few; those saved before blocks freeze or are added stay
    phases/<name>/        the end of each phase; never deleted or overwritten
    adapters/<name>/      the adapters alone, at the end of a phase that trained them; kept like a phase
      state/              the training state, an Orbax checkpoint of plain arrays
      meta.json           readable facts: step, phase, stage, tokens, iterator state, config, digests, versions
      manifest.json       SHA-256 of every file, written last

Orbax alone restores a flipped bit silently, so `load` verifies the manifest first. Saving is synchronous: training
continues once the checkpoint is on the disk. The state is an opaque tree of arrays here. It is stored without its
devices, so any other devices can read it.
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
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
import tensorstore
from orbax.checkpoint import v1 as ocp
from pydantic import ConfigDict, TypeAdapter, ValidationError
from typing_extensions import TypedDict  # pydantic accepts the standard library's only from Python 3.12

from llm60_jax import config as config_module
from llm60_jax.config import Config
from llm60_jax.config.schema import Count
from llm60_jax.errors import DamageError, InputError, MachineError
from llm60_jax.machine import files, manifest, together, unfinished
from llm60_jax.record.progress import Progress

T = TypeVar("T")
log = logging.getLogger("llm60_jax")
STATE, META = "state", "meta.json"
_OTHER_BYTES = 2**19  # bytes of a checkpoint beside its arrays, roughly
_MOST_INFLATION = 256  # bytes that arrays may claim for each byte on the disk


class Recorded(TypedDict):
    """A corpus that the model has been trained on (`Prepared.record`)."""

    phase: str
    left_out: list[str]


class Meta(TypedDict):
    """The readable facts of a checkpoint, as `meta.json` holds them (run/state.py fills them in)."""

    __pydantic_config__ = ConfigDict(strict=True)  # type: ignore[misc]

    step: Count
    tokens: Count
    phase: str
    stage: Count
    permanent: bool  # kept for ever
    closed: bool  # the end of a phase: a plain model
    config: dict[str, Any]
    plan: list[dict[str, Any]]
    digests: dict[str, str]
    corpora: dict[str, Recorded]  # by the names of their folders
    versions: dict[str, str]
    progress: Progress
    state_sha256: str


_META = TypeAdapter(Meta)


def leaf_digests(state: Any) -> dict[str, str]:
    """Return the SHA-256 of each array of a tree by its path, over dtype, shape and bytes."""
    digests = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        array = np.ascontiguousarray(leaf)
        digest = hashlib.sha256(f"{array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
        digests[jax.tree_util.keystr(path, simple=True, separator="/")] = digest.hexdigest()
    return digests


def state_sha256(state: Any, iterator: Any) -> str:
    """Return one digest over a training state and its position in the data.

    Training continues identically, bit for bit, from equal digests.
    """
    return files.digest_of({"leaves": leaf_digests(state), "iterator": iterator})


def save(folder: Path, state: Any, meta: dict[str, Any]) -> str:
    """Write one checkpoint folder and return its `state_sha256`.

    All processes of a run call it with equal states, because Orbax compares where they save; process 0 alone writes.

    Args:
      state: arrays, whole.
      meta: the fields of `Meta`, without `state_sha256`.

    Raises:
      MachineError: the disk refuses; earlier content of `folder` is still there.
      InputError: `folder` holds a checkpoint already; no checkpoint is ever overwritten. Or the states differ.
    """
    state = jax.device_get(state)  # Orbax would record the devices and refuse others
    digest = state_sha256(state, meta["progress"].iterator)
    together.require_same(f"the state after step {meta['step']:,}", {"sha256": digest})
    tree = _META.dump_python({**meta, "state_sha256": digest}, mode="json")  # type: ignore[typeddict-item]
    with contextlib.ExitStack() as stack:

        def begin() -> list[str]:
            if manifest.exists(folder):
                raise InputError(f"{folder}: holds a checkpoint already, and none is overwritten")
            require_room(folder.parent, nbytes(state))
            partial = stack.enter_context(manifest.building(folder)).absolute()
            return [str(partial), str(stack.enter_context(_without_patterns(partial)))]

        def write_arrays(place: Path) -> None:
            with _hide_late_errors(), _by_itself():
                ocp.save(place / STATE, state)

        def finish(partial: Path) -> None:
            (partial / META).write_text(json.dumps(tree, indent=1), encoding="utf-8")
            names = {"step": meta["step"], "state_sha256": digest}
            manifest.commit(partial, folder, names, {"permanent": meta["permanent"]})

        partial, place = map(Path, together.on_first(lambda: _on_disk(folder, begin)))
        together.all_or_none(lambda: _on_disk(folder, lambda: write_arrays(place)))
        together.on_first(lambda: _on_disk(folder, lambda: finish(partial)))
    return digest


def _on_disk(folder: Path, work: Callable[[], T]) -> T:
    """Return what some work at a checkpoint returns. Raise MachineError where the disk refuses."""
    try:
        return work()
    except (OSError, ValueError, RuntimeError) as error:
        # TensorStore reports a full disk as ValueError("RESOURCE_EXHAUSTED: ... No space left on device").
        raise MachineError(
            f"{folder}: the checkpoint cannot be written, free some space: {str(error)[:300]}"
        ) from error


@contextlib.contextmanager
def _by_itself() -> Iterator[None]:
    """Let no process wait for another inside Orbax: where process 0 fails, the others would wait for 20 minutes."""
    context = ocp.Context()
    context.multiprocessing.active_processes = {jax.process_index()}
    context.file.skip_sync_file_validations = True  # process 0 may have written before another looks
    context.asynchronous.create_directories_asynchronously = False  # else one removes the signals that 0 waits for
    with context:
        yield


@contextlib.contextmanager
def _without_patterns(folder: Path) -> Iterator[Path]:
    """Yield a path to a folder without `*`, `?` and `[`.

    Orbax lists the files it has written with a glob that begins with their path. If the path itself is a pattern,
    Orbax finds none of them and leaves a checkpoint that cannot be read.
    """
    if glob.escape(str(folder)) == str(folder):
        yield folder
        return
    with unfinished.folder() as around:
        link = around / "checkpoint"
        link.symlink_to(folder, target_is_directory=True)
        yield link


def nbytes(state: Any) -> int:
    """Return the bytes of a tree's arrays."""
    return sum(leaf.nbytes for leaf in jax.tree.leaves(state))


def require_room(place: Path, needed: int) -> None:
    """Raise MachineError if a disk lacks room for `needed` bytes of arrays and the files beside them."""
    free, needed = shutil.disk_usage(files.standing(place)).free, needed + _OTHER_BYTES
    if free < needed:
        raise MachineError(f"{place}: a checkpoint takes {needed:,} bytes, and {free:,} are free; make room")


def read_meta(folder: Path) -> dict[str, Any]:
    """Return the readable facts of a checkpoint, see `Meta`. Raises DamageError; InputError for an older format."""
    path = folder / META
    try:
        return dict(_META.validate_json(files.read_text(path)))
    except ValidationError as error:
        first = error.errors()[0]
        if first["type"] == "missing" and first["loc"] == ("progress",):
            raise InputError(
                f"{folder}: an older version of llm60_jax wrote this checkpoint, and this version cannot read it; "
                "start a new run (--workdir DIR), or go on with the version that wrote it"
            ) from None
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
    """Verify a checkpoint and read it.

    Args:
      folder: a checkpoint folder.
      abstract_state: tree of `jax.ShapeDtypeStruct` that gives the result its structure. Without it the result is
        nested dicts of arrays, as they were stored.

    Returns:
      The state as NumPy arrays, and the metadata.

    Raises:
      DamageError: a file is damaged, or the stored arrays differ from the expected shapes.
    """
    manifest.verify(folder)
    return read(folder, abstract_state)


def read(folder: Path, abstract_state: Any) -> tuple[Any, dict[str, Any]]:
    """Read a checkpoint that is verified already; otherwise like `load`."""
    meta = read_meta(folder)
    place = (folder / STATE).absolute()
    with _quiet():
        stored = _stored(place)
        if abstract_state is not None:
            _compare(folder, _shapes(stored), _shapes(abstract_state))
        # NumPy templates keep the result independent of the devices that saved the checkpoint.
        wanted = jax.tree.map(_template, stored if abstract_state is None else abstract_state)
        try:
            with _hide_late_errors():
                state = ocp.load(place, wanted)
        except Exception as error:
            raise DamageError(f"{folder}: its arrays cannot be read: {str(error)[:300]}") from error
    # Orbax can return a placeholder for a leaf that is not on the disk.
    absent = [path for path, leaf in jax.tree_util.tree_leaves_with_path(state) if not hasattr(leaf, "__array__")]
    if absent:
        raise DamageError(f"{folder}: {jax.tree_util.keystr(absent[0])} is not in the checkpoint")
    digest = state_sha256(state, meta["progress"].iterator)
    if digest != meta["state_sha256"]:
        raise DamageError(f"{folder}: its state is {digest[:16]}, and {meta['state_sha256'][:16]} was saved")
    return state, meta


def _stored(place: Path) -> Any:
    """Return the shapes and dtypes of stored arrays. Raises DamageError if they are not credible."""
    try:
        with _hide_late_errors():
            # Orbax would open all arrays at once and print the error of a broken index once for each.
            index = {"driver": "ocdbt", "base": {"driver": "file", "path": f"{place / 'state'}/"}}
            tensorstore.KvStore.open(index).result().list().result()
            stored = ocp.metadata(place).metadata
        claimed = _claimed(stored)
    except Exception as error:  # a foreign file makes several libraries raise errors of many types
        raise DamageError(f"{place}: not an Orbax checkpoint of arrays: {str(error)[:300]}") from error
    actual = sum(path.stat().st_size for path in place.rglob("*"))
    if claimed > _MOST_INFLATION * actual:
        raise DamageError(f"{place}: its arrays claim {claimed:,} bytes, and its files have {actual:,}")
    return stored


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence Orbax, which warns of absent shardings and of its own renamed arguments.

    It also logs pages about damage that say less than the error it raises.
    """
    loggers = [logging.getLogger(name) for name in ("absl", "asyncio")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            for logger in loggers:
                logger.setLevel(logging.CRITICAL + 1)
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


@contextlib.contextmanager
def _hide_late_errors() -> Iterator[None]:
    """Hide the tracebacks that Python prints after an Orbax call has failed.

    At the first file that fails, Orbax closes its event loop and raises. Its other files still report to that loop, up
    to seconds later, and nobody asks for their errors. Python would print a traceback for each beside our one message.
    So the hook and the filter go after a success and stay after a failure.
    """
    hook_before, loop_log = sys.unraisablehook, logging.getLogger("asyncio")
    if getattr(hook_before, "func", None) is not _print_unless_late:
        sys.unraisablehook = functools.partial(_print_unless_late, hook_before)
    is_filtered = _is_asked_for in loop_log.filters
    loop_log.addFilter(_is_asked_for)
    yield
    sys.unraisablehook = hook_before
    if not is_filtered:
        loop_log.removeFilter(_is_asked_for)


def _print_unless_late(print_error: Callable[[Any], Any], error: Any) -> None:
    if not (isinstance(error.exc_value, RuntimeError) and str(error.exc_value) == "Event loop is closed"):
        print_error(error)


def _is_asked_for(record: logging.LogRecord) -> bool:
    """Whether a record of asyncio is no error of a task whose result nobody wants."""
    return "exception was never retrieved" not in record.getMessage()


def _claimed(stored: Any) -> int:
    """Return the bytes that stored arrays claim, without allocating them."""
    return sum(math.prod(leaf.shape) * np.dtype(leaf.dtype).itemsize for leaf in jax.tree.leaves(stored))


def _template(leaf: Any) -> np.ndarray:
    """Return an array of the leaf's shape and dtype that takes no memory."""
    return np.broadcast_to(np.zeros((), leaf.dtype), leaf.shape)


def _shapes(tree: Any) -> dict[str, str]:
    """Return "dtype[shape]" of every array in a tree, stored or abstract, by its path."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): f"{leaf.dtype}{list(leaf.shape)}"
        for path, leaf in leaves
        if hasattr(leaf, "shape")
    }


def identity(folder: Path, look: Callable[[Path], dict[str, Any]] = manifest.verify) -> tuple[int, str]:
    """Return the step of a checkpoint and its `state_sha256` from its manifest. Raises DamageError."""
    names = look(folder)["identity"]
    step, digest = names.get("step"), names.get("state_sha256")
    if not isinstance(step, int) or not isinstance(digest, str):
        raise DamageError(f"{folder / manifest.NAME}: has no step and state; it is no checkpoint's manifest")
    return step, digest


def _compare(folder: Path, stored: dict[str, str], wanted: dict[str, str]) -> None:
    """Raise DamageError with the arrays that differ; Orbax's own message is a page of dumped structures."""
    names = sorted(name for name in stored.keys() | wanted.keys() if stored.get(name) != wanted.get(name))
    if names:
        lines = [f"{name}: stored {stored.get(name)}, wanted {wanted.get(name)}" for name in names[:8]]
        more = [f"... and {len(names) - 8} more"] if len(names) > 8 else []
        raise DamageError("\n  ".join([f"{folder}: its arrays do not fit this configuration:", *lines, *more]))
