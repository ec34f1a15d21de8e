"""Cache the frozen blocks' output for all rows of a phase: computed once, read every epoch.

If a phase's rows are fixed and everything below the boundary is frozen, these activations never
change. Files of `CHUNK` rows hold them as bfloat16; index.json holds each file's SHA-256. So an
interrupted computation resumes, and a damaged file is computed again.

Shape suffixes: R rows, T positions, D model width.
"""

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from llm60_jax.data.tokens.packing import FixedRows
from llm60_jax.errors import MachineError
from llm60_jax.machine import files
from llm60_jax.machine.progress import Track

CHUNK = 32  # rows a file: 10 MB at context 512 and width 320
BATCH = 8  # rows computed at once
_INDEX = "index.json"
_BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


class PrefixCache:
    """Activations by row number; `prepare` returns one."""

    def __init__(self, chunks: Sequence[np.ndarray]):
        self._chunks = chunks

    @property
    def bytes(self) -> int:
        """Disk space of all files."""
        return sum(chunk.nbytes for chunk in self._chunks)

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """Return the activations of rows by their numbers, bfloat16 [R, T, D]."""
        return np.stack([self._chunks[row // CHUNK][row % CHUNK] for row in rows.tolist()])


def prepare(
    folder: Path,
    identity: dict[str, Any],
    rows: FixedRows,
    shape: tuple[int, int],
    compute: Callable[[np.ndarray, np.ndarray], Any],
    track: Track,
) -> PrefixCache:
    """Compute the missing files of a cache and open it.

    Args:
      folder: the cache's own folder; it is emptied if its identity differs.
      identity: JSON values that determine the activations: frozen weights and rows.
      rows: the packed rows.
      shape: context and width of one row's activations.
      compute: (tokens, segments), int32 [BATCH, T] each -> bfloat16 [BATCH, T, D].
      track: shows progress; it may interrupt between files.

    Raises:
      MachineError: the disk is too small or cannot be written.
    """
    digests = _finished(folder, identity)
    sizes = [min(CHUNK, rows.packed - start) for start in range(0, rows.packed, CHUNK)]
    names = [f"{number:06}.bf16" for number in range(len(sizes))]
    missing = [n for n, name in enumerate(names) if not _is_whole(folder / name, digests.get(name))]
    needed = sum(sizes[n] for n in missing) * shape[0] * shape[1] * _BFLOAT16.itemsize
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
        if needed > free:
            raise MachineError(
                f"{folder}: the prefix cache needs {needed / 1e9:.1f} GB more, but only {free / 1e9:.1f} GB are free; "
                "free some disk space, or set prefix_cache = false"
            )
        for n in track(missing, "computing the frozen prefix, files", len(missing)) if missing else ():
            numbers = range(n * CHUNK, n * CHUNK + sizes[n])
            np.concatenate(list(_computed(rows, numbers, compute))).tofile(folder / names[n])
            digests[names[n]] = files.sha256_of(folder / names[n])
            files.write_text(folder / _INDEX, files.dump({"identity": identity, "files": digests}))
        chunks = [
            np.memmap(folder / name, _BFLOAT16, "r", shape=(size, *shape))
            for name, size in zip(names, sizes, strict=True)
        ]
    except OSError as error:
        raise MachineError(
            f"{folder}: the prefix cache cannot be written ({error.strerror or error}); make the folder writable, or "
            "set prefix_cache = false"
        ) from error
    return PrefixCache(chunks)


def _computed(
    rows: FixedRows, numbers: range, compute: Callable[[np.ndarray, np.ndarray], Any]
) -> Iterator[np.ndarray]:
    """Yield activations of consecutive rows in batches; pad the last with its first row."""
    for start in range(0, len(numbers), BATCH):
        batch = [rows.row(number) for number in numbers[start : start + BATCH]]
        padded = batch + batch[:1] * (BATCH - len(batch))
        tokens, segments = (np.stack([row[name] for row in padded]) for name in ("tokens", "segments"))
        yield np.asarray(compute(tokens, segments))[: len(batch)]


def _finished(folder: Path, identity: dict[str, Any]) -> dict[str, str]:
    """Return the finished files' digests; empty the folder if its identity differs or is lost."""
    try:
        index = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
        if index["identity"] == json.loads(json.dumps(identity)):
            return dict(index["files"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    shutil.rmtree(folder, ignore_errors=True)
    return {}


def _is_whole(path: Path, digest: str | None) -> bool:
    """Return whether a file exists and has this digest."""
    try:
        return digest is not None and files.sha256_of(path) == digest
    except OSError:
        return False
