"""Folders that are whole or absent: built aside, hashed, flushed, renamed, verified before use.

Everything that the project keeps goes through here: prepared text, tokenizers, token shards,
checkpoints. A folder is built beside its final place, its manifest last, and then renamed, so that
nobody takes an interrupted build for data. `manifest.json` holds {"identity": ..., "facts": ...,
"files": {relative path: {"bytes", "sha256"}}, "sha256": ...}: what determines the content, facts
about it, its files, and a digest of the manifest itself.
"""

import contextlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from llm60_jax.errors import DamageError, MachineError
from llm60_jax.machine import unfinished
from llm60_jax.machine.files import digest_of, dump, flush, read_text, sha256_of

NAME = "manifest.json"
_LOG = logging.getLogger("llm60_jax")


def exists(folder: Path) -> bool:
    """Whether a finished folder exists. `verify` tells whether it is whole."""
    return (folder / NAME).is_file() and not folder.name.startswith(".")


def read(folder: Path) -> dict[str, Any]:
    """Read the manifest of a folder, not its files.

    Raise DamageError if it is missing or malformed.
    """
    try:
        manifest = dict(json.loads(read_text(folder / NAME)))
        if manifest.pop("sha256") != digest_of(manifest):
            raise DamageError(f"{folder / NAME}: its content differs from its own SHA-256")
        for entry in dict(manifest["files"]).values():
            int(entry["bytes"]), str(entry["sha256"])
        dict(manifest["identity"]), dict(manifest["facts"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DamageError(f"{folder / NAME}: not a readable manifest ({type(error).__name__})") from None
    return manifest


def verify(folder: Path) -> dict[str, Any]:
    """Hash every file of a folder and return its manifest.

    Raises:
      DamageError: a file is missing, changed, or not in the manifest. The message names the files.
    """
    manifest = read(folder)
    expected = manifest["files"]
    inside = [(path, path.relative_to(folder).as_posix()) for path in folder.rglob("*")]
    # A link would pass off a file outside the folder as one inside it.
    linked = {name for path, name in inside if path.is_symlink()}
    present = {name for path, name in inside if path.is_file()} - {NAME} - linked
    faults = [f"{name}: a symbolic link" for name in sorted(linked)]
    faults += [f"{name}: not in the manifest" for name in sorted(present - set(expected))]
    for name, entry in sorted(expected.items()):
        path = folder / name
        try:
            if name not in present:
                faults += [] if name in linked else [f"{name}: missing"]
            elif path.stat().st_size != entry["bytes"]:
                faults.append(f"{name}: {path.stat().st_size} bytes instead of {entry['bytes']}")
            elif sha256_of(path) != entry["sha256"]:
                faults.append(f"{name}: its content differs from the manifest's SHA-256")
        except OSError as error:
            faults.append(f"{name}: {error.strerror or error}")
    if faults:
        more = f"; and {len(faults) - 5} more" if len(faults) > 5 else ""
        raise DamageError(f"{folder}: damaged: " + "; ".join(faults[:5]) + more)
    return manifest


def create(folder: Path, identity: dict[str, Any], build: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
    """Build a folder by `build(scratch) -> facts`, commit it durably and return its manifest.

    It replaces an existing folder, once the new one is whole. Raise OSError.
    """
    with building(folder) as scratch:
        return commit(scratch, folder, identity, build(scratch))


@contextlib.contextmanager
def building(folder: Path) -> Iterator[Path]:
    """Yield an empty scratch folder beside a folder that is to be built, for `commit`. Raise OSError."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with unfinished.folder(folder.name, folder.parent) as scratch:
        yield scratch


def commit(scratch: Path, folder: Path, identity: dict[str, Any], facts: dict[str, Any]) -> dict[str, Any]:
    """Hash and flush what was built, rename it into place, and return its manifest. Raise OSError."""
    files = {
        path.relative_to(scratch).as_posix(): {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
        for path in sorted(scratch.rglob("*"))
        if path.is_file()
    }
    manifest = json.loads(json.dumps({"identity": identity, "facts": facts, "files": files}))
    sealed = {**manifest, "sha256": digest_of(manifest)}  # detects a flipped bit in the manifest itself
    (scratch / NAME).write_text(dump(sealed), encoding="utf-8")
    for path in [*scratch.rglob("*"), scratch]:
        flush(path)
    _replace(scratch, folder, manifest["identity"])
    flush(folder.parent)
    return manifest


def build_once(
    folder: Path, identity: dict[str, Any], build: Callable[[Path], dict[str, Any]], describe: str
) -> dict[str, Any]:
    """Return the manifest of `folder`, after building the folder if it is missing or damaged.

    Args:
      folder: the final place. Its name should hold a digest of `identity`.
      identity: JSON values that determine the content.
      build: writes all files into a scratch folder and returns facts about them, as JSON values.
      describe: the content, for messages: "corpus of phase 'grammar'".

    Raises:
      MachineError: the folder cannot be written.
    """
    try:
        if folder.exists():
            try:
                manifest = verify(folder)
                if manifest["identity"] == json.loads(json.dumps(identity)):
                    return manifest
                reason = f"{folder / NAME}: describes other inputs"
            except DamageError as error:
                reason = str(error)
            _LOG.warning("%s is damaged and will be built again: %s", describe, reason)
        return create(folder, identity, build)
    except OSError as error:
        raise MachineError(
            f"{folder}: cannot write the {describe}: {error.strerror or error}; "
            "free some space, or set data_dir to a folder that can be written"
        ) from error


def remove(folder: Path) -> None:
    """Delete a finished folder.

    It is renamed first, so that nobody takes a half-deleted folder for a whole one.
    """
    going = folder.with_name(unfinished.name_of(folder.name, "removed"))
    shutil.rmtree(going, ignore_errors=True)
    folder.rename(going)
    shutil.rmtree(going, ignore_errors=True)


def _replace(scratch: Path, folder: Path, identity: dict[str, Any]) -> None:
    """Rename the built folder into place.

    If another process finished the same folder meanwhile, that one stays.
    """
    try:
        os.replace(scratch, folder)
        return
    except OSError:
        if not folder.is_dir():
            raise
    try:
        if verify(folder)["identity"] == identity:
            return
    except DamageError:
        pass  # the damaged folder that this build replaces
    shutil.rmtree(folder)
    os.replace(scratch, folder)
