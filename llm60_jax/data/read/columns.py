"""Tables in Parquet files: one document a row."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from llm60_jax.data.read import items
from llm60_jax.data.read.items import Broken, Document, Part, Unreadable

_BATCH_ROWS = 64


def parquet(
    path: Path, name: str, text_field: str, title_field: str, part: Part | None = None
) -> Iterator[Document | Broken]:
    """Yield the texts of one column, with the titles of another if it exists.

    Raises Unreadable if there is no column `text_field`.

    Args:
      part: one of `row_parts`; None for the whole file.
    """
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(path) as file:
        present = file.schema_arrow.names
        if text_field not in present:
            raise Unreadable
        columns = [text_field] + [title_field] * (title_field in present and title_field != text_field)
        groups = list(range(file.num_row_groups))
        number = 0
        if part is not None:
            starts = [start for start, _ in map(_span, map(file.metadata.row_group, groups))]
            groups = [group for group in groups if part.start <= starts[group] < part.stop]
            number = part.before
        for batch in file.iter_batches(_BATCH_ROWS, row_groups=groups, columns=columns):
            texts = batch.column(0)
            titles = batch.column(1) if len(columns) > 1 else [None] * len(texts)
            for content, title in zip(texts, titles, strict=True):
                number += 1
                where = f"{name}:{number}"
                text, heading = content.as_py(), title.as_py() if title is not None else None
                if not isinstance(text, str):
                    yield Broken(where, "unreadable")
                elif len(text) > items.LARGEST:
                    yield Broken(where, "too_large")
                else:
                    yield Document(where, heading if isinstance(heading, str) else where, text)


def row_parts(path: Path, text_field: str, size: int) -> list[Part]:
    """Return parts of whole row groups, of `size` bytes or little more.

    None if there is no column `text_field`, or if the groups lie in another order than their rows.
    """
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(path) as file:
        if text_field not in file.schema_arrow.names:
            return []
        groups = [file.metadata.row_group(number) for number in range(file.num_row_groups)]
    parts: list[Part] = []
    before = place = 0
    for group in groups:
        if not group.num_rows:
            continue
        start, stop = _span(group)
        if start < place:
            return []
        if parts and parts[-1].stop - parts[-1].start < size:
            parts[-1] = parts[-1]._replace(stop=stop)
        else:
            parts.append(Part(start, stop, before))
        before, place = before + group.num_rows, stop
    return parts


def _span(group: Any) -> tuple[int, int]:
    """Return where the bytes of a row group begin and end in the file."""
    columns = [group.column(number) for number in range(group.num_columns)]
    # A column without a dictionary has None, or 0, for its place.
    starts = [min(filter(None, (column.dictionary_page_offset, column.data_page_offset))) for column in columns]
    stops = [start + column.total_compressed_size for start, column in zip(starts, columns, strict=True)]
    return min(starts), max(stops)
