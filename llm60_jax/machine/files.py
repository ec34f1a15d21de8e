"""Small files: read with a bound on their size, replaced as a whole, hashed, flushed to the disk.

A file of ours may be damaged, or foreign. Reading one raises DamageError, never more memory than
the bound. Writing one leaves the old text or the new text, whatever happens. `manifest` does the
same for folders.
"""

import hashlib
import json
import os
import stat
import sys
from pathlib import Path
from typing import Any

import numpy as np

from llm60_jax.errors import DamageError, MachineError
from llm60_jax.machine import unfinished

_MAX_BYTES = 2**26  # of a file of text
_BLOCK_BYTES = 2**20  # read at once


def sha256_of(path: Path, start: int = 0, stop: int | None = None) -> str:
    """Return the SHA-256 of a file, in hex, or of its bytes from `start` to `stop`. Raise OSError."""
    with path.open("rb") as file:
        if stop is None:
            return hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(start)
        digest = hashlib.sha256()
        while block := file.read(min(_BLOCK_BYTES, stop - file.tell())):
            digest.update(block)
        return digest.hexdigest()


def digest_of(value: Any) -> str:
    """Return the SHA-256 of a JSON value in its canonical form, in hex.

    It is the same on every machine.
    """
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode("ascii")).hexdigest()


def dump(value: Any) -> str:
    """Format a JSON value with indentation."""
    return json.dumps(value, indent=1) + "\n"


def require_size(path: Path, most: int) -> None:
    """Raise DamageError unless the path is a regular file of at most `most` bytes.

    Raise OSError if there is no file.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode) or status.st_size > most:
        raise DamageError(f"{path}: not a regular file of at most {most:,} bytes")


def read_text(path: Path) -> str:
    """Read a small file of text.

    Raise DamageError if it is missing, unreadable or too large to be ours.
    """
    try:
        require_size(path, _MAX_BYTES)
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise DamageError(f"{path}: missing") from None
    except (OSError, ValueError) as error:
        raise DamageError(f"{path}: cannot be read ({type(error).__name__})") from None


def read_array(path: Path) -> np.ndarray:
    """Read an array of numbers that `numpy.save` wrote.

    Raise DamageError if it is cut short or holds objects.
    """
    try:
        return np.array(np.load(path, mmap_mode="r", allow_pickle=False))
    except Exception as error:  # many types: NumPy parses the header of a foreign file as Python
        raise DamageError(f"{path}: not an array of numbers: {str(error)[:200]}") from None


def write_text(path: Path, text: str) -> None:
    """Replace a small file durably: a crash leaves the old text or the new text.

    Raise MachineError.
    """
    partial = path.with_name(unfinished.name_of(path.name, str(os.getpid())))

    def make() -> Path:
        partial.touch()
        return partial

    try:
        with unfinished.held(make):
            partial.write_text(text, encoding="utf-8")
            flush(partial)
            os.replace(partial, path)
        flush(path.parent)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise MachineError(f"{path}: cannot be written: {error.strerror or error}; free some space") from error


def flush(path: Path) -> None:
    """Flush a file or folder to the disk. On macOS a plain fsync may stop at the drive's cache."""
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
    """Return the place itself, or the nearest folder above it that exists."""
    return next(p for p in (place.absolute(), *place.absolute().parents) if p.exists())
