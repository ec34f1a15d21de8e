"""Small files: read with a bound on their size, replaced as a whole, hashed, flushed to the disk."""

import hashlib
import json
import os
import stat
import sys
from pathlib import Path
from typing import Any

import numpy as np

from llm60_jax.errors import DamageError, MachineError

PARTIAL = ".partial-"
_MOST_BYTES = 2**26  # of a file that is read as one piece of JSON


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_of(value: Any) -> str:
    """SHA-256 of a JSON value in its canonical form, in hex; the same on every machine."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode("ascii")).hexdigest()


def dump(value: Any) -> str:
    """A JSON value as a person reads it."""
    return json.dumps(value, indent=1) + "\n"


def require_size(path: Path, most: int) -> None:
    """Raises DamageError for a file that is so large, or so strange, that it is not ours; OSError without one."""
    found = path.stat()
    if not stat.S_ISREG(found.st_mode) or found.st_size > most:
        raise DamageError(f"{path}: no plain file of at most {most:,} bytes")


def read_text(path: Path) -> str:
    """A small file of text. Raises DamageError for one that is missing, unreadable, or so large that it is not ours."""
    try:
        require_size(path, _MOST_BYTES)
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise DamageError(f"{path}: missing") from None
    except (OSError, ValueError) as error:
        raise DamageError(f"{path}: cannot be read ({type(error).__name__})") from None


def read_array(path: Path) -> np.ndarray:
    """An array of plain numbers as `numpy.save` wrote it; its file is as long as it claims, and holds no objects.

    Raises DamageError.
    """
    try:
        return np.array(np.load(path, mmap_mode="r", allow_pickle=False))
    except Exception as error:  # of many kinds: NumPy parses the header of a foreign file as Python
        raise DamageError(f"{path}: not an array of numbers: {str(error)[:200]}") from None


def write_text(path: Path, text: str) -> None:
    """Replaces a small file durably: the old text or the new one, never half of it. Raises MachineError."""
    partial = path.with_name(f".{path.name}{PARTIAL}{os.getpid()}")
    try:
        partial.write_text(text, encoding="utf-8")
        flush(partial)
        os.replace(partial, path)
        flush(path.parent)
    except OSError as error:
        raise MachineError(f"{path}: cannot be written: {error.strerror or error}; free some space") from error


def flush(path: Path) -> None:
    """Asks the disk to keep what the path holds. macOS's plain fsync may stop at the drive's own cache."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        if sys.platform == "darwin":
            import fcntl

            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
        else:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def standing(place: Path) -> Path:
    """The place itself or the nearest folder above it that exists."""
    return next(p for p in (place.absolute(), *place.absolute().parents) if p.exists())
