"""Plain text and JSON lines, compressed or not."""

import bz2
import codecs
import gzip
import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from llm60_jax.data.read import encodings, items
from llm60_jax.data.read.encodings import decode
from llm60_jax.data.read.items import Broken, Document, Part, TooLarge

BLOCK_BYTES = 2**20


def text(path: Path, name: str, part: Part | None = None) -> Iterator[Document | Broken]:
    """Yield a text file as one document, or those of its documents that one of `text_parts` holds.

    A file of more than `items.LARGEST` bytes becomes several, cut at a paragraph, line or word.
    """
    with opened(path, part) as file:
        for number, data in enumerate(_documents(file), start=_first(part)):
            title = name if number == 1 else f"{name}, part {number}"
            decoded = decode(data)
            if decoded is None:
                yield Broken(title, "not_text")
            else:
                yield Document(title, title, decoded[0], repaired=decoded[1])


def text_parts(path: Path) -> list[Part]:
    """Return the documents of a text file (`text`) as parts."""
    with opened(path) as file:
        stops = list(itertools.accumulate(map(len, _documents(file)), initial=0))
    return [Part(start, stop, number) for number, (start, stop) in enumerate(itertools.pairwise(stops))]


def records(path: Path, name: str, part: Part | None = None) -> Iterator[tuple[str, dict[str, Any], bool] | Broken]:
    """Yield (name, JSON object, whether it was repaired) of each line; `Broken` for other lines.

    Args:
      part: one of `line_parts`; None for the whole file.
    """
    with opened(path, part) as file:
        for number, line in enumerate(lines(file), start=_first(part)):
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


def line_parts(path: Path, size: int) -> list[Part]:
    """Return parts of whole lines, of `size` bytes or little more. None holds blank lines only, unless all do."""
    parts: list[Part] = []
    start = place = before = count = 0
    is_blank = True
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            begin = 0
            while end := block.find(b"\n", max(begin, start + size - place - 1)) + 1:
                count += block.count(b"\n", begin, end)
                is_blank = is_blank and not block[begin:end].strip()
                begin = end
                if not is_blank:
                    parts.append(Part(start, place + end, before))
                    start, before, is_blank = place + end, count, True
            count += block.count(b"\n", begin)
            is_blank = is_blank and not block[begin:].strip()
            place += len(block)
    if start < place:
        last = parts.pop() if parts and is_blank else Part(start, place, before)
        parts.append(last._replace(stop=place))
    return parts


def is_wide(path: Path) -> bool:
    """Return whether a file is UTF-16 or UTF-32."""
    with path.open("rb") as file:
        return bool(encodings.wide(file.read(encodings.HEAD_BYTES)))


def opened(path: Path, part: Part | None = None) -> "Bounded":
    """Open a file. Its name decides whether it is inflated; UTF-16 and UTF-32 become UTF-8.

    Args:
      part: these bytes only, of a file that needs neither.
    """
    kind = path.suffix.lower()
    raw: BinaryIO = path.open("rb")
    if part is not None:
        raw.seek(part.start)
        return Bounded(raw, lambda most: raw.read(min(most, part.stop - raw.tell())), None)
    # read1 returns what is inflated so far: the part before a cut in the stream is not lost.
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
                yield line if len(line) <= items.LARGEST else None
        if len(rest) > items.LARGEST:
            yield None
            rest, skipping = b"", True
    if rest and not skipping:
        yield rest


def _after_line(block: bytes) -> list[bytes]:
    """Split a block that begins inside a skipped line; a block without a line end is dropped."""
    return block.split(b"\n") if b"\n" in block else [b""]


def _first(part: Part | None) -> int:
    """Return the number of the first document that is read."""
    return 1 if part is None else 1 + part.before


def _documents(file: Bounded) -> Iterator[bytes]:
    """Yield documents of at most `items.LARGEST` bytes; an empty one for an empty file."""
    rest = b""
    first = True
    while block := file.read():
        rest += block
        while len(rest) > items.LARGEST:
            stop = max(rest.rfind(mark, 1, items.LARGEST) for mark in (b"\n\n", b"\r\n\r\n"))
            for mark in (b"\n", b" "):
                stop = stop if stop > 0 else rest.rfind(mark, 1, items.LARGEST)
            stop = stop if stop > 0 else items.LARGEST
            yield rest[:stop]
            rest, first = rest[stop:], False
    if rest or first:
        yield rest
