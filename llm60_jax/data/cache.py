"""Folders of prepared data: built once, named by their inputs, checked against their manifest before each use.

A folder is built beside its final place and renamed into it, its manifest written last. So a folder under its final
name is complete, and what an interrupted build left behind is never taken for data.
"""

import hashlib
import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from llm60_jax.errors import DamageError, MachineError

MANIFEST = "manifest.json"
_LOG = logging.getLogger("llm60_jax")
_STALE_SECONDS = 24 * 3600  # an unfinished build older than this belongs to no living process
_UNFINISHED = ".unfinished-"


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(value: Any) -> str:
    """SHA-256 of a JSON value in its canonical form, in hex."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def verify(folder: Path) -> dict[str, Any]:
    """Reads a folder's manifest and hashes every file it lists.

    Returns:
      The manifest: `identity` and `facts` as given to `build_once`, `files` as name -> {bytes, sha256}.

    Raises:
      DamageError: a missing, unreadable, shortened or changed file; the message names it.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        recorded = {name: (entry["bytes"], entry["sha256"]) for name, entry in manifest["files"].items()}
        if not {"identity", "facts"} <= set(manifest):
            raise ValueError("entries are missing")
    except FileNotFoundError:
        raise DamageError(f"{folder / MANIFEST}: missing") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DamageError(f"{folder / MANIFEST}: not a readable manifest ({error})") from None
    for name, (size, sha256) in recorded.items():
        path = folder / name
        try:
            found = path.stat().st_size
            if found != size:
                raise DamageError(f"{path}: {found} bytes, but the manifest says {size}")
            if file_digest(path) != sha256:
                raise DamageError(f"{path}: its content differs from the manifest's SHA-256")
        except OSError as error:
            raise DamageError(f"{path}: {error.strerror or error}") from None
    return manifest


def build_once(
    folder: Path, identity: dict[str, Any], build: Callable[[Path], dict[str, Any]], describe: str
) -> dict[str, Any]:
    """Returns the manifest of `folder`, after building the folder if it is missing or damaged.

    Args:
      folder: the final place; its name should hold a digest of `identity`.
      identity: JSON values that determine the content.
      build: writes all files into the (temporary) folder it is given and returns facts about them, as JSON values.
      describe: what is being built, for messages: "corpus of phase 'grammar'".

    Raises:
      MachineError: the folder cannot be written.
    """
    identity = json.loads(json.dumps(identity))  # as the manifest will give it back: tuples become lists
    try:
        if folder.exists():
            try:
                manifest = verify(folder)
                if manifest["identity"] == identity:
                    return manifest
                reason = f"{folder / MANIFEST}: describes other inputs"
            except DamageError as error:
                reason = str(error)
            _LOG.warning("%s is damaged and will be built again: %s", describe, reason)
        folder.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(folder)
        return _build(folder, identity, build)
    except OSError as error:
        raise MachineError(
            f"{folder}: cannot write the {describe}: {error.strerror or error}; "
            "free some space, or set data_dir to a folder that can be written"
        ) from error


def _build(folder: Path, identity: dict[str, Any], build: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
    scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}{_UNFINISHED}", dir=folder.parent))
    try:
        facts = build(scratch)
        files = {
            path.name: {"bytes": path.stat().st_size, "sha256": file_digest(path)} for path in sorted(scratch.iterdir())
        }
        manifest = {"identity": identity, "facts": facts, "files": files}
        write_json(scratch / MANIFEST, manifest)
        scratch.chmod(0o755)  # mkdtemp keeps others out; prepared data is shared
        _replace(scratch, folder, identity)
        return manifest
    finally:
        # Also on KeyboardInterrupt: an interrupted build leaves nothing. After success there is nothing to remove.
        shutil.rmtree(scratch, ignore_errors=True)


def _replace(scratch: Path, folder: Path, identity: dict[str, Any]) -> None:
    """Renames the built folder into place. A folder that another process finished meanwhile stays: it is the same."""
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


def _remove_stale(folder: Path) -> None:
    for path in folder.parent.glob(f".{folder.name}{_UNFINISHED}*"):
        if time.time() - path.stat().st_mtime > _STALE_SECONDS:
            shutil.rmtree(path, ignore_errors=True)
