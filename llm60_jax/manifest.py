"""Folders that are either whole or not there: a manifest of SHA-256 digests, written last and durably.

Used for everything the project keeps: prepared text, tokenizers, token shards, checkpoints. A folder is built under a
temporary name, hashed, flushed to the disk and renamed; whoever reads it later verifies it and hears which file is
damaged. `manifest.json` holds {"files": {relative path: {"bytes", "sha256"}}, "facts": {...}}.
"""

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from llm60_jax.errors import DamageError, MachineError

NAME = "manifest.json"
PARTIAL = ".partial"


def sha256_of(path: Path) -> str:
    """Hex digest of a file's bytes, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_of(value: Any) -> str:
    """Hex digest of a JSON value in canonical form; equal values have equal digests on every machine."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def create(folder: Path, build: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
    """Builds `folder` by `build(temporary folder) -> facts`, then commits it. An existing folder is replaced.

    Interrupted anywhere, it leaves the old folder as it was. Returns the facts. Raises MachineError when the disk
    refuses.
    """
    partial = folder.with_name(folder.name + PARTIAL)
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        facts = build(partial)
        files = {
            path.relative_to(partial).as_posix(): {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
            for path in sorted(partial.rglob("*"))
            if path.is_file()
        }
        (partial / NAME).write_text(json.dumps({"files": files, "facts": facts}, indent=1), encoding="utf-8")
        for path in partial.rglob("*"):
            _flush(path)
        _flush(partial)
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(partial, folder)
        _flush(folder.parent)
        return facts
    except OSError as error:
        raise MachineError(f"{folder}: cannot be written: {error.strerror or error}. Free space or permissions?") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def exists(folder: Path) -> bool:
    """True when a committed folder stands there, whatever its state; `verify` tells whether it is whole."""
    return (folder / NAME).is_file()


def verify(folder: Path) -> dict[str, Any]:
    """Hashes every file against the manifest and returns the facts.

    Raises:
      DamageError: names the files that are missing, changed or too many.
    """
    try:
        manifest = json.loads((folder / NAME).read_text(encoding="utf-8"))
        files, facts = dict(manifest["files"]), dict(manifest["facts"])
        expected = {name: (int(entry["bytes"]), str(entry["sha256"])) for name, entry in files.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamageError(f"{folder / NAME}: missing or unreadable ({type(error).__name__})") from None
    present = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()} - {NAME}
    faults = [f"{name}: not in the manifest" for name in sorted(present - set(expected))]
    for name, (size, digest) in sorted(expected.items()):
        if name not in present:
            faults.append(f"{name}: missing")
        elif (folder / name).stat().st_size != size:
            faults.append(f"{name}: {(folder / name).stat().st_size} bytes instead of {size}")
        elif sha256_of(folder / name) != digest:
            faults.append(f"{name}: SHA-256 differs")
    if faults:
        raise DamageError(f"{folder}: damaged: " + "; ".join(faults[:5]))
    return facts


def write_text(path: Path, text: str) -> None:
    """Replaces a small file durably: the old text or the new one, never half of it."""
    partial = path.with_name(path.name + PARTIAL)
    try:
        partial.write_text(text, encoding="utf-8")
        _flush(partial)
        os.replace(partial, path)
        _flush(path.parent)
    except OSError as error:
        raise MachineError(f"{path}: cannot be written: {error.strerror or error}") from error


def _flush(path: Path) -> None:
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
