"""The rows of a run's metrics.jsonl: kept in memory while the run lasts, appended to the file as output."""

import io
import json
import logging
import os
from typing import Any, BinaryIO

from llm60_jax.machine import files, together
from llm60_jax.record import shapes
from llm60_jax.record.workdir import WorkDir

Row = dict[str, Any]
log = logging.getLogger("llm60_jax")


class MetricsLog:
    """All rows of a run so far, those of earlier starts included, in the order in which they were written."""

    def __init__(self, workdir: WorkDir):
        self.path = workdir.metrics_path
        self.rows, skipped = workdir.read_rows()
        if skipped:
            log.warning("%s", shapes.told(str(self.path), skipped))
        self._unwritten = b""  # rows that the disk has refused so far

    def find(self, field: str, **where: Any) -> Row | None:
        """Return the first row that has a field, and these values in others: `find("proof", phase="grammar")`."""
        for row in self.rows:
            if field in row and all(row.get(name) == value for name, value in where.items()):
                return row
        return None

    def add(self, row: Row) -> None:
        """Add a row. The disk may refuse it: it then comes with a later one, as a full disk stops no run."""
        self.rows.append(row)
        if not together.is_first():
            return
        waiting, self._unwritten = self._unwritten + (json.dumps(row) + "\n").encode(), b""
        try:
            with self.path.open("ab", buffering=0) as file:
                end = file.seek(0, os.SEEK_END)
                try:
                    _write_all(file, waiting)
                except OSError:
                    file.truncate(end)
                    raise
        except OSError as error:
            self._unwritten = waiting
            log.warning("%s: cannot be written: %s; its rows are kept in memory", self.path, error.strerror)

    def rewind(self, step: int) -> None:
        """Drop the rows after a step: a resumed run writes them again. Rows that the disk has refused are written."""
        self.rows = [row for row in self.rows if row["step"] <= step]
        together.on_first(self._rewrite)
        self._unwritten = b""

    def _rewrite(self) -> None:
        if self.rows or self.path.exists():
            files.write_text(self.path, "".join(json.dumps(row) + "\n" for row in self.rows))


def _write_all(file: BinaryIO | io.RawIOBase, data: bytes) -> None:
    """Write everything; a disk that fills up may accept only a part."""
    while data:
        data = data[file.write(data) :]
