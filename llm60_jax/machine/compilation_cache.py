"""JAX's persistent compilation cache, shared by runs and sealed with digests.

JAX writes entries in place and never repairs one. An entry that a crash cut short would be read,
rejected and compiled again at every later start. So `seal` records the SHA-256 of each finished
entry, and `open_in` deletes entries that are not recorded or differ. The cache is best effort: only
the time to the first step depends on it.
"""

import contextlib
import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import jax

from llm60_jax.errors import MachineError
from llm60_jax.machine import facts, files, together

log = logging.getLogger("llm60_jax")
INDEX = "index.json"


def open_in(data_dir: Path) -> Path | None:
    """Point JAX at the cache in `data_dir`/compiled, and delete its damaged entries.

    Returns:
      The folder of the cache. None if the user has set JAX_COMPILATION_CACHE_DIR or it cannot be
      written.
    """
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return None
    folder = data_dir / "compiled" / files.digest_of(facts.fingerprint())[:16]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        deleted = _delete_unsealed(folder) if together.is_first() else 0
    except OSError as error:
        log.warning("%s: no compilation cache: %s", folder, error.strerror or error)
        return None
    if deleted:
        log.info("%s: %d damaged or unfinished entries deleted", folder, deleted)
    jax.config.update("jax_compilation_cache_dir", str(folder.absolute()))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    return folder


def seal(folder: Path | None) -> None:
    """Record the digests of new entries.

    Call it while this process compiles nothing; None does nothing.

    Existing records stay, so that later damage shows.
    """
    if folder is None or not together.is_first():
        return
    with contextlib.suppress(OSError, MachineError):
        before = _sealed(folder)
        digests = {path.name: before.get(path.name) or files.sha256_of(path) for path in _entries(folder)}
        if digests != before:
            files.write_text(folder / INDEX, files.dump(digests))


@contextlib.contextmanager
def shared(data_dir: Path) -> Iterator[None]:
    """Use the cache inside the block, and seal it however the block ends."""
    folder = open_in(data_dir)
    try:
        yield
    finally:
        seal(folder)


def _delete_unsealed(folder: Path) -> int:
    sealed = _sealed(folder)
    damaged = [path for path in _entries(folder) if sealed.get(path.name) != files.sha256_of(path)]
    for path in damaged:
        path.unlink(missing_ok=True)
    return len(damaged)


def _sealed(folder: Path) -> dict[str, str]:
    try:
        return dict(json.loads((folder / INDEX).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def _entries(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_file() and not path.name.startswith(("index", "."))]
