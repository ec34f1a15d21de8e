"""JAX's persistent compilation cache, kept where it survives runs and sealed so that a damaged entry cannot hurt.

JAX writes cache entries in place and never repairs one: an entry that a crash cut short is read, refused and compiled
anew on every later start. So each finished entry's SHA-256 is recorded; what is not recorded, or differs, is deleted
before JAX looks at it. The cache is best effort: nothing depends on it but the time to the first step.
"""

import contextlib
import json
import logging
import os
from pathlib import Path

import jax

from llm60_jax.errors import MachineError
from llm60_jax.machine import facts, files

log = logging.getLogger("llm60_jax")
INDEX = "index.json"


def open_in(data_dir: Path) -> Path | None:
    """Points JAX at the cache below `data_dir` and removes its damaged entries.

    Returns:
      The cache's folder, or None when the user has set JAX_COMPILATION_CACHE_DIR or nothing can be written.
    """
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return None
    folder = data_dir / "compiled" / files.digest_of(facts.fingerprint())[:16]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        dropped = _drop_unsealed(folder)
    except OSError as error:
        log.warning("%s: no compilation cache: %s", folder, error.strerror or error)
        return None
    if dropped:
        log.info("%s: %d damaged or unfinished entries deleted", folder, dropped)
    jax.config.update("jax_compilation_cache_dir", str(folder.absolute()))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    return folder


def seal(folder: Path | None) -> None:
    """Records the digests of entries that are new; call when this process compiles nothing. Older records stay as
    they are, so that later damage is noticed. Without a folder there is nothing to do."""
    if folder is None:
        return
    with contextlib.suppress(OSError, MachineError):
        known = _sealed(folder)
        found = {path.name: known.get(path.name) or files.sha256_of(path) for path in _entries(folder)}
        if found != known:
            files.write_text(folder / INDEX, files.dump(found))


def _drop_unsealed(folder: Path) -> int:
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
