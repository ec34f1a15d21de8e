"""Tables in Parquet files: one document a row."""

from collections.abc import Iterator
from pathlib import Path

from llm60_jax.data.read import items
from llm60_jax.data.read.items import Broken, Document, Unreadable

_BATCH_ROWS = 64


def parquet(path: Path, name: str, text_field: str, title_field: str) -> Iterator[Document | Broken]:
    """Yield the texts of one column, with the titles of another if it exists.

    Raises Unreadable if there is no column `text_field`.
    """
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(path) as file:
        present = file.schema_arrow.names
        if text_field not in present:
            raise Unreadable
        columns = [text_field] + [title_field] * (title_field in present and title_field != text_field)
        number = 0
        for batch in file.iter_batches(_BATCH_ROWS, columns=columns):
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
