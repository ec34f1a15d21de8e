"""Which files of a folder a source sees: visible ones, outside folders that programs made.

Runs, prepared text, checkpoints, caches and installed packages hold no writing of the user's, and
many of them change while text is prepared. They are recognised by what is in them, so the same files
are listed before a run's first start and after it.
"""

import contextlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from llm60_jax.errors import DamageError, MachineError
from llm60_jax.machine import manifest

MARK = ".llm60_jax"  # a file in every data_dir
# What this program writes into a data_dir. The rest, such as raw/, is the user's.
PREPARED = frozenset(
    ("screened", "processed", "tokenizers", "tokenized", "words", "compiled", "measured", "devices.json")
)
_MARK_TEXT = """This file marks a data_dir of llm60_jax. A source that lists this folder passes over
what the program writes here: {names}. All else, such as raw/, is read.
"""
_CACHE_TAG = b"Signature: 8a477f597d28d172789f06886806bc55"  # https://bford.info/cachedir/
_NAMED = 4  # names in a line
_BY_NAME = {"node_modules": "installed packages", "__pycache__": "caches", "site-packages": "installed packages"}


class Content(NamedTuple):
    """The relative names of a folder's files, and what was passed over, with the reason for each."""

    names: list[str]
    passed_over: dict[str, str]


def claim(data_dir: Path) -> None:
    """Mark a data_dir, so that no source takes for writing what this program puts there."""
    with contextlib.suppress(OSError):  # a folder that cannot be written is reported where it is needed
        if not (data_dir / MARK).exists():
            data_dir.mkdir(parents=True, exist_ok=True)
            (data_dir / MARK).write_text(_MARK_TEXT.format(names=", ".join(sorted(PREPARED))), encoding="utf-8")


def content(root: Path) -> Content:
    """List the visible files below a folder that are not a program's.

    Links to folders are not followed, as they can form loops. Raise MachineError if a folder cannot
    be listed.
    """
    names: list[str] = []
    passed_over: dict[str, str] = {}
    output = _output()
    for directory, subfolders, files in os.walk(root, onerror=_refuse, followlinks=False):
        here = Path(directory).relative_to(root)
        reasons = {name: why for name in subfolders if (why := _why(root / here / name))}
        if MARK in files:
            reasons |= dict.fromkeys(PREPARED.intersection([*subfolders, *files]), "prepared data")
        visible = [name for name in files if not name.startswith(".") and (root / here / name).is_file()]
        if output:
            printed = [name for name in visible if identity(root / here / name) in output]
            reasons |= dict.fromkeys(printed, "output of this command")
        passed_over |= {(here / name).as_posix(): why for name, why in reasons.items()}
        subfolders[:] = [name for name in subfolders if name not in reasons]
        names += [(here / name).as_posix() for name in visible if name not in reasons]
    return Content(names, passed_over)


def describe(passed_over: Mapping[str, str]) -> list[str]:
    """Return a line for each reason, with the names of what was passed over."""
    by_reason: dict[str, list[str]] = {}
    for name, why in sorted(passed_over.items()):
        by_reason.setdefault(why, []).append(name)
    return [
        f"{why} ({', '.join(names[:_NAMED])}{f' and {len(names) - _NAMED:,} more' if len(names) > _NAMED else ''})"
        for why, names in by_reason.items()
    ]


def is_run(folder: Path) -> bool:
    """Whether a folder is a run directory; `record.workdir.opened` makes lock and log first."""
    return any(
        all((folder / name).is_file() for name in pair)
        for pair in (("lock", "log.txt"), ("config.json", "metrics.jsonl"))
    )


def identity(path: Path) -> tuple[int, int]:
    """Return device and number of a file on the disk. Raise OSError."""
    status = path.stat()
    return status.st_dev, status.st_ino


def _why(path: Path) -> str:
    """Return why a folder is passed over; "" for a folder that is read."""
    if path.is_symlink():
        return ""
    if path.name.startswith("."):
        return "hidden"
    if path.name in _BY_NAME:
        return _BY_NAME[path.name]
    if (path / "pyvenv.cfg").is_file() or (path / "conda-meta").is_dir():
        return "installed packages"
    if is_run(path):
        return "runs"
    if _is_prepared(path):
        return "prepared data"
    return "caches" if _is_cache(path) else ""


def _is_prepared(folder: Path) -> bool:
    """Whether `machine.manifest` made a folder: prepared text, a tokenizer, a checkpoint."""
    if not manifest.exists(folder):
        return False
    try:
        manifest.read(folder)
    except DamageError:
        return False
    return True


def _is_cache(folder: Path) -> bool:
    try:
        with (folder / "CACHEDIR.TAG").open("rb") as file:
            return file.read(len(_CACHE_TAG)) == _CACHE_TAG
    except OSError:
        return False


def _output() -> set[tuple[int, int]]:
    """Return the identities of the files that this command prints into, if it does."""
    found = set()
    for stream in (sys.__stdout__, sys.__stderr__):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            status = os.fstat(stream.fileno())  # type: ignore[union-attr]
            found.add((status.st_dev, status.st_ino))
    return found


def _refuse(error: OSError) -> None:
    raise MachineError(
        f"{error.filename}: cannot be listed: {error.strerror or error}; check the folder and its permissions"
    )
