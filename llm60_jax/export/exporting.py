"""From a checkpoint to a folder of another tool's files: judged, written aside, read back, renamed.

Nobody sees a half-written folder. What a killed process leaves is removed by the next export to the
same place.
"""

import errno
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from llm60_jax.errors import InputError, MachineError
from llm60_jax.export import adapter, browser, card, gguf, huggingface, onnx
from llm60_jax.export import source as sources
from llm60_jax.export.source import Options, Source
from llm60_jax.machine import files, unfinished
from llm60_jax.machine.progress import Track
from llm60_jax.record.workdir import TOKENIZER

_SMALL_BYTES = 2**24  # room for what is not weights: the vocabulary, three times at most
_TAKEN = (errno.ENOTEMPTY, errno.EEXIST, errno.EBUSY, errno.ENOTDIR)  # by something that came meanwhile


class Target(NamedTuple):
    """A format.

    Its module has three functions: `refuse(source)` raises InputError where the format cannot hold
    the model, `write(source, folder)` writes its files, and `verify(source, folder)` reads them
    back, raises DamageError where they differ, and returns lines about what it compared.
    """

    module: ModuleType
    option: str  # that chooses how numbers are stored; "" where there is no choice
    bits: dict[str, float]  # of a stored number, by the option's values; the first is the default
    library: str  # that reads the files first of all, as the hub calls it

    @property
    def types(self) -> tuple[str, ...]:
        """The values of the option; the first is the default."""
        return tuple(self.bits)


TARGETS = {
    "huggingface": Target(huggingface, "--dtype", huggingface.BITS, "transformers"),
    "gguf": Target(gguf, "--type", gguf.BITS, "gguf"),
    "onnx": Target(onnx, "", onnx.BITS, "transformers.js"),
    "adapter": Target(adapter, "", adapter.BITS, "peft"),
}


class Exported(NamedTuple):
    """A finished folder."""

    folder: Path
    files: dict[str, int]  # bytes by name
    compared: list[str]  # what was read back and compared
    notes: list[str]  # what the user should know


def export(
    path: Path,
    target: str,
    folder: Path,
    options: Options,
    track: Track,
    checks: Sequence[Callable[[Source, Path], list[str]]] = (),
) -> Exported:
    """Write a trained model as another tool's files.

    Args:
      path: a checkpoint, or a run directory.
      target: a key of `TARGETS`.
      folder: the place of the files; it must not exist, or be empty.
      checks: look at the finished files before they get their place. Each may raise, and returns
        lines like `Target.module.verify`.

    Raises:
      InputError: the place is taken or in a run, or the format cannot hold the model.
      GateError: the privacy check was not run, or refused the model.
      DamageError: the model is damaged, or its files differ from it.
      MachineError: the place cannot be written, or has no room.
    """
    checkpoint, report = sources.judged(path)  # before anything that takes time, or writes
    folder = _free_place(folder)
    source = sources.opened(checkpoint, report, options, track)
    module = TARGETS[target].module
    module.refuse(source)
    _require_room(source, TARGETS[target], folder)
    compared: list[str] = []

    def checked(scratch: Path) -> None:
        for check in (module.verify, *checks):
            with _read_back(folder):
                compared.extend(check(source, scratch))

    with _written(folder), _parent_of(folder), unfinished.folder(folder.name, folder.parent) as scratch:
        steps: dict[str, Callable[[], object]] = {
            "writing": lambda: module.write(source, scratch),
            "reading back": lambda: checked(scratch),
            "describing": lambda: _describe(source, target, scratch, compared),
            "flushing": lambda: _finish(scratch),
            "renaming": lambda: _rename(scratch, folder),
        }
        for step in track(steps, f"export to {target}", len(steps)):
            steps[step]()
        files.flush(folder.parent)
    return Exported(folder, _sizes(folder), compared, _notes(source, target))


@contextmanager
def _written(folder: Path) -> Iterator[None]:
    """Turn an error of the disk into MachineError. It names the place, not the folder that is written aside."""
    try:
        yield
    except OSError as error:
        is_full = error.errno in (None, errno.ENOSPC, errno.EDQUOT)  # None: safetensors' own words
        todo = "free some space" if is_full else "name another folder"
        raise MachineError(f"{folder}: cannot be written: {error.strerror or error}; {todo}") from error


@contextmanager
def _read_back(folder: Path) -> Iterator[None]:
    """Turn an error of the system while files are read back into MachineError: nothing was wrong with writing."""
    try:
        yield
    except OSError as error:
        raise MachineError(f"{folder}: cannot be read back: {error.strerror or error}; export again") from error


def _rename(scratch: Path, folder: Path) -> None:
    """Give the finished folder its place. Raise InputError if something came there meanwhile."""
    try:
        os.replace(scratch, folder)
    except OSError as error:
        if error.errno not in _TAKEN:
            raise
        raise InputError(f"--out: {folder} is in use; name a folder that does not exist") from error


def _describe(source: Source, target: str, scratch: Path, compared: Sequence[str]) -> None:
    """Write the model card. Its own size is not in it."""
    text = card.text(source, target, TARGETS[target].library, _sizes(scratch), compared)
    (scratch / card.NAME).write_text(text, encoding="utf-8")


def _notes(source: Source, target: str) -> list[str]:
    """Return what the user should know of a model that leaves."""
    notes = [*source.facts.notes]
    if source.privacy["refused"]:
        reason = " ".join(source.privacy["override"].split())
        notes.append(f"the privacy check refused this model; the card names the reason: {reason}")
    for phase in source.facts.words_of:
        notes.append(f"the vocabulary was learnt from the text of phase {phase} too, so it shows words of it")
    if target == "onnx" and not onnx.can_run():
        notes.append("onnxruntime is not installed, so no logits were compared: pip install onnxruntime")
    if not source.licence:
        notes.append("the licence of the weights is not stated; give one with --licence ID")
    return notes


def _free_place(folder: Path) -> Path:
    """Return the place with links resolved. Raise InputError unless it is free."""
    try:
        place = folder.resolve()
    except (RuntimeError, OSError):  # before Python 3.13 RuntimeError, then OSError
        raise InputError(f"--out: {folder} goes through a loop of links; name another folder") from None
    if os.path.ismount(place):
        raise InputError(f"--out: {folder} is the top of a disk; name a folder on it that does not exist")
    if place.exists() and not place.is_dir():
        raise InputError(f"--out: {folder} is a file; name a folder that does not exist")
    if place.is_dir() and any(place.iterdir()):
        raise InputError(f"--out: {folder} is not empty; name a folder that does not exist, or empty this one")
    for parent in (place, *place.parents):
        if any((parent / name).exists() for name in ("metrics.jsonl", TOKENIZER)):
            raise InputError(f"--out: {folder} lies in the run {parent.name}; name a folder outside of runs")
    return place


def _require_room(source: Source, target: Target, folder: Path) -> None:
    """Raise MachineError if the disk lacks room for the files."""
    written = source.weights._replace(head_VD=source.weights.written_head(source.trained.model))
    numbers = sum(array.size for _, array in written.arrays())
    page = browser.package(source.page).size if source.page is not None else 0
    needed = int(numbers * target.bits[source.type] / 8) + page + _SMALL_BYTES
    free = shutil.disk_usage(files.standing(folder)).free
    if free < needed:
        raise MachineError(f"{folder}: the files take {needed:,} bytes, and {free:,} are free; make room")


@contextmanager
def _parent_of(folder: Path) -> Iterator[None]:
    """Make the folders above a place. Those that are new go again if the block raises."""
    missing = [parent for parent in folder.parents if not parent.exists()]
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished.remove([folder.parent])
    try:
        yield
    except BaseException:
        for parent in missing:
            with suppress(OSError):  # another process uses it
                parent.rmdir()
        raise


def _finish(scratch: Path) -> None:
    """Give all files and folders the modes of ordinary ones, and flush them.

    `safetensors` lets only the owner read its file, and `tempfile` only the owner enter its folder.
    """
    ordinary = scratch / "ordinary"
    ordinary.mkdir()
    folder_mode = ordinary.stat().st_mode
    ordinary.rmdir()
    file_mode = (scratch / card.NAME).stat().st_mode
    for path in (*scratch.rglob("*"), scratch):
        path.chmod(folder_mode if path.is_dir() else file_mode)
        files.flush(path)


def _sizes(folder: Path) -> dict[str, int]:
    """Return the bytes of each file by its name."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in paths}
