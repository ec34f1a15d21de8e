"""Plain text and JSON lines, compressed or not."""

import bz2
import codecs
import gzip
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from llm60_jax.data.read import encodings, items
from llm60_jax.data.read.encodings import decode
from llm60_jax.data.read.items import Broken, Document, TooLarge

BLOCK_BYTES = 2**20


def text(path: Path, name: str) -> Iterator[Document | Broken]:
    """Yield a text file as one document.

    A file of more than `items.LARGEST` bytes becomes several, cut at a paragraph, line or word.
    """
    with opened(path) as file:
        for number, part in enumerate(_parts(file), start=1):
            title = name if number == 1 else f"{name}, part {number}"
            decoded = decode(part)
            if decoded is None:
                yield Broken(title, "not_text")
            else:
                yield Document(title, title, decoded[0], repaired=decoded[1])


def records(path: Path, name: str) -> Iterator[tuple[str, dict[str, Any], bool] | Broken]:
    """Yield (name, JSON object, whether it was repaired) of each line; `Broken` for other lines."""
    with opened(path) as file:
        for number, line in enumerate(lines(file), start=1):
            where = f"{name}:{number}"
            if line is None:
                yield Broken(where, "too_large")
                continue
            if not line.strip():
                continue
            decoded = decode(line)
            if decoded is None:
                yield Broken(where, "not_text")
                continue
            try:
                record = json.loads(decoded[0])
            except (ValueError, RecursionError):
                record = None
            yield (where, record, decoded[1]) if isinstance(record, dict) else Broken(where, "unreadable")


def opened(path: Path) -> "Bounded":
    """Open a file. Its name decides whether it is inflated; UTF-16 and UTF-32 become UTF-8."""
    kind = path.suffix.lower()
    # read1 returns what is inflated so far: the part before a cut in the stream is not lost.
    raw: BinaryIO = path.open("rb")
    if kind == ".gz":
        return Bounded(raw, gzip.GzipFile(fileobj=raw).read1, path.stat().st_size)
    if kind == ".bz2":
        return Bounded(raw, bz2.BZ2File(raw).read1, path.stat().st_size)
    if kind == ".zst":
        import zstandard

        reader = zstandard.ZstdDecompressor(max_window_size=2**27).stream_reader(raw, read_across_frames=True)
        return Bounded(raw, reader.read1, path.stat().st_size)
    wide = encodings.wide(raw.read(encodings.HEAD_BYTES))
    raw.seek(0)
    if wide:
        return Bounded(raw, codecs.EncodedFile(raw, "utf-8", wide, errors="replace").read, None)
    return Bounded(raw, raw.read, None)


class Bounded:
    """A stream that is read in blocks.

    Args:
      size: of the compressed file in bytes; None if it is not compressed.
    """

    def __init__(self, raw: BinaryIO, read: Callable[[int], bytes], size: int | None):
        self._raw, self._read = raw, read
        self._bytes_left = None if size is None else items.ARCHIVE + items.RATIO * size

    def read(self) -> bytes:
        """Return the next block, b"" at the end.

        Raises TooLarge when a compressed file inflates beyond `items.ARCHIVE` and `items.RATIO`.
        """
        block = self._read(BLOCK_BYTES)
        if self._bytes_left is not None:
            self._bytes_left -= len(block)
            if self._bytes_left < 0:
                raise TooLarge
        return block

    def __enter__(self) -> "Bounded":
        return self

    def __exit__(self, *error: object) -> None:
        self._raw.close()


def lines(file: Bounded) -> Iterator[bytes | None]:
    """Yield the lines of a file; None for one longer than `items.LARGEST`, which is skipped."""
    rest, skipping = b"", False
    while block := file.read():
        *whole, rest = (rest + block).split(b"\n") if not skipping else _after_line(block)
        for line in whole:
            if skipping:
                skipping = False  # this is the end of the long line
            else:
                yield line
        if len(rest) > items.LARGEST:
            yield None
            rest, skipping = b"", True
    if rest and not skipping:
        yield rest


def _after_line(block: bytes) -> list[bytes]:
    """Split a block that begins inside a skipped line; a block without a line end is dropped."""
    return block.split(b"\n") if b"\n" in block else [b""]


def _parts(file: Bounded) -> Iterator[bytes]:
    """Yield parts of at most `items.LARGEST` bytes; one empty part for an empty file."""
    rest = b""
    first = True
    while block := file.read():
        rest += block
        if len(rest) > items.LARGEST:
            stop = max(rest.rfind(mark, 1, items.LARGEST) for mark in (b"\n\n", b"\r\n\r\n"))
            for mark in (b"\n", b" "):
                stop = stop if stop > 0 else rest.rfind(mark, 1, items.LARGEST)
            stop = stop if stop > 0 else items.LARGEST
            yield rest[:stop]
            rest, first = rest[stop:], False
    if rest or first:
        yield rest
