"""What the frozen blocks compute for every row of a phase, on disk: computed once, read in every epoch.

Where the rows of a phase are fixed and everything below the boundary is frozen, those activations never change. They
are kept as bfloat16 in files of `CHUNK` rows, each with its SHA-256 in index.json, so that an interrupted computation
goes on where it stopped and a damaged file is computed again.
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

CHUNK = 32  # rows of a file: 10 MB at context 512 and width 320
BATCH = 8  # rows computed at a time
_INDEX = "index.json"
_BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


class PrefixCache:
    """Activations by row number. Made by `prepare`."""

    def __init__(self, chunks: Sequence[np.ndarray]):
        self._chunks = chunks

    @property
    def bytes(self) -> int:
        """Disk space taken."""
        return sum(chunk.nbytes for chunk in self._chunks)

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """Activations of the rows with these numbers, bfloat16 [R, T, D]."""
        return np.stack([self._chunks[row // CHUNK][row % CHUNK] for row in rows.tolist()])


def prepare(
    folder: Path,
    identity: dict[str, Any],
    rows: FixedRows,
    shape: tuple[int, int],
    compute: Callable[[np.ndarray, np.ndarray], Any],
    track: Track,
) -> PrefixCache:
    """Computes what is missing below `folder`, and opens it.

    Args:
      folder: of this cache alone; emptied when it belongs to another identity.
      identity: JSON values that determine the activations: frozen weights and rows.
      rows: the packed rows.
      shape: of one row's activations: context and width.
      compute: (tokens, segments), int32 [BATCH, T] -> bfloat16 [BATCH, T, D].
      track: shows progress and may interrupt between batches.

    Raises:
      MachineError: the disk is too small or refuses.
    """
    known = _known(folder, identity)
    sizes = [min(CHUNK, rows.packed - start) for start in range(0, rows.packed, CHUNK)]
    names = [f"{number:06}.bf16" for number in range(len(sizes))]
    missing = [n for n, name in enumerate(names) if not _is_whole(folder / name, known.get(name))]
    needed = sum(sizes[n] for n in missing) * shape[0] * shape[1] * _BFLOAT16.itemsize
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
        if needed > free:
            raise MachineError(
                f"{folder}: the prefix cache needs {needed / 1e9:.1f} GB more, and {free / 1e9:.1f} GB are free; make "
                "room, or set prefix_cache = false"
            )
        for n in track(missing, "computing the frozen prefix, files", len(missing)) if missing else ():
            numbers = range(n * CHUNK, n * CHUNK + sizes[n])
            np.concatenate(list(_computed(rows, numbers, compute))).tofile(folder / names[n])
            known[names[n]] = files.sha256_of(folder / names[n])
            files.write_text(folder / _INDEX, files.dump({"identity": identity, "files": known}))
        chunks = [
            np.memmap(folder / name, _BFLOAT16, "r", shape=(size, *shape))
            for name, size in zip(names, sizes, strict=True)
        ]
    except OSError as error:
        raise MachineError(f"{folder}: the prefix cache cannot be written: {error.strerror or error}") from error
    return PrefixCache(chunks)


def _computed(
    rows: FixedRows, numbers: range, compute: Callable[[np.ndarray, np.ndarray], Any]
) -> Iterator[np.ndarray]:
    """Activations of consecutive rows, batch by batch; the last batch is filled up with its first row."""
    for start in range(0, len(numbers), BATCH):
        some = [rows.row(number) for number in numbers[start : start + BATCH]]
        filled = some + some[:1] * (BATCH - len(some))
        tokens, segments = (np.stack([row[name] for row in filled]) for name in ("tokens", "segments"))
        yield np.asarray(compute(tokens, segments))[: len(some)]


def _known(folder: Path, identity: dict[str, Any]) -> dict[str, str]:
    """Digests of the finished files. What belongs to another identity, or cannot be told to belong, is deleted."""
    try:
        index = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
        if index["identity"] == json.loads(json.dumps(identity)):
            return dict(index["files"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    shutil.rmtree(folder, ignore_errors=True)
    return {}


def _is_whole(path: Path, digest: str | None) -> bool:
    try:
        return digest is not None and files.sha256_of(path) == digest
    except OSError:
        return False
