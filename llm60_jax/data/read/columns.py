"""Tables in Parquet files: one document a row."""

from collections.abc import Iterator
from pathlib import Path

from llm60_jax.data.read import items
from llm60_jax.data.read.items import Broken, Text, Unreadable

_ROWS = 64  # at a time


def parquet(path: Path, name: str, text_field: str, title_field: str) -> Iterator[Text | Broken]:
    """The texts of one column, with the titles of another if there is one. Raises Unreadable without the first."""
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(path) as file:
        present = file.schema_arrow.names
        if text_field not in present:
            raise Unreadable
        columns = [text_field] + [title_field] * (title_field in present and title_field != text_field)
        number = 0
        for batch in file.iter_batches(_ROWS, columns=columns):
            texts = batch.column(0)
            titles = batch.column(1) if len(columns) > 1 else [None] * len(texts)
            for content, title in zip(texts, titles, strict=True):
                number += 1
                where = f"{name}:{number}"
                found, about = content.as_py(), title.as_py() if title is not None else None
                if not isinstance(found, str):
                    yield Broken(where, "unreadable")
                elif len(found) > items.LARGEST:
                    yield Broken(where, "too_large")
                else:
                    yield Text(where, about if isinstance(about, str) else where, found)
