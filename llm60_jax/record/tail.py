"""Rows of a metrics.jsonl that another process appends to: only appended bytes are read. Nothing is written."""

import os
import stat
from pathlib import Path
from typing import Any

from llm60_jax.config import Config
from llm60_jax.errors import DamageError
from llm60_jax.record import shapes

_MOST_BYTES = 2**30
_REMEMBERED = 256  # bytes before the end of what was read; other bytes there mean that the file was rewritten
_MERGED = 500  # logged steps that stay apart; twice as many are merged in pairs
_MEANS = ("loss", "objective", "learning_rate", "tokens_per_second", "grad_norm")


class Tail:
    """The rows of a metrics.jsonl so far. A file that was replaced, rewritten or cut short starts over."""

    def __init__(self, path: Path):
        self._path = path
        self._start()

    def _start(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.skipped: list[str] = []
        self.thinned = Thinned()
        self._seen: shapes.Seen = set()
        self._lines, self._end, self._inode = 0, 0, 0
        self._last, self._stamp = b"", (0, 0)  # the bytes before `_end`; size and time of change at the last look

    def read(self, config: Config) -> bool:
        """Read what was appended, and return whether the rows changed. A line without its end waits for it.

        Raise DamageError if the file is too large, or no plain file; OSError if it cannot be read.
        """
        try:
            status = self._path.stat()
        except FileNotFoundError:
            was_empty = not self.rows
            self._start()
            return not was_empty
        if not stat.S_ISREG(status.st_mode) or status.st_size > _MOST_BYTES:
            raise DamageError(f"{self._path}: not a regular file of at most {_MOST_BYTES:,} bytes")
        if (status.st_size, status.st_mtime_ns) == self._stamp and status.st_ino == self._inode:
            return False
        with self._path.open("rb") as file:
            started_over = not self._continues(file, os.fstat(file.fileno()))
            if started_over:
                self._start()
                self._inode = status.st_ino
            file.seek(self._end)
            data = file.read(_MOST_BYTES)
        self._stamp = status.st_size, status.st_mtime_ns
        return self._take(data[: data.rfind(b"\n") + 1], config) or started_over

    def _continues(self, file: Any, status: os.stat_result) -> bool:
        """Return whether the file still begins with what was read from it."""
        if status.st_ino != self._inode or status.st_size < self._end:
            return False
        file.seek(self._end - len(self._last))
        return bool(file.read(len(self._last)) == self._last)

    def _take(self, data: bytes, config: Config) -> bool:
        """Add whole lines, and return whether there is any."""
        if not data:
            return False
        rows, skipped = shapes.parse(data, config, self._seen, self._lines + 1)
        self.rows += rows
        self.skipped += skipped
        for row in rows:
            self.thinned.add(row)
        self._lines += data.count(b"\n")
        self._end += len(data)
        self._last = (self._last + data)[-_REMEMBERED:]
        return True


class Thinned:
    """The rows of a run with neighbouring logged steps merged, so that charts of a long run cost little.

    All other rows stay as they are.
    """

    def __init__(self) -> None:
        self._others: list[dict[str, Any]] = []
        self._logged: list[tuple[int, dict[str, Any]]] = []  # steps merged into a row, and that row
        self._size = 1  # steps to merge into a row

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The rows, first those that are no logged steps."""
        return self._others + [row for _, row in self._logged]

    def add(self, row: dict[str, Any]) -> None:
        """Add a row of metrics.jsonl."""
        if "loss" not in row:
            self._others.append(row)
            return
        if self._logged and self._logged[-1][0] < self._size and _is_near(self._logged[-1][1], row):
            self._logged[-1] = _merged(self._logged[-1], (1, row))
        else:
            self._logged.append((1, row))
        if len(self._logged) > 2 * _MERGED:
            self._halve()

    def _halve(self) -> None:
        self._size *= 2
        halved: list[tuple[int, dict[str, Any]]] = []
        for entry in self._logged:
            if halved and halved[-1][0] + entry[0] <= self._size and _is_near(halved[-1][1], entry[1]):
                halved[-1] = _merged(halved[-1], entry)
            else:
                halved.append(entry)
        self._logged = halved


def _is_near(first: dict[str, Any], second: dict[str, Any]) -> bool:
    return all(first[name] == second[name] for name in ("phase", "stage"))


def _merged(first: tuple[int, dict[str, Any]], second: tuple[int, dict[str, Any]]) -> tuple[int, dict[str, Any]]:
    """Return the later row, with the mean of each measured number."""
    (before, old), (after, new) = first, second
    means = {
        name: (before * old[name] + after * new[name]) / (before + after)
        for name in _MEANS
        if isinstance(old.get(name), (int, float)) and isinstance(new.get(name), (int, float))
    }
    return before + after, new | means
