"""Plain text, and JSON lines, compressed or not."""

import bz2
import codecs
import gzip
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from llm60_jax.data.read import items
from llm60_jax.data.read.items import Broken, Text, TooLarge

_MAX_CONTROL_SHARE = 0.01  # of the bytes; text in a single-byte encoding has hardly any, binary data about 10 %
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_BLOCK = 2**20


def text(path: Path, name: str) -> Iterator[Text | Broken]:
    """A file of text, one document; one of more than `items.LARGEST` bytes in parts, cut where a paragraph, a line or
    a word ends."""
    with opened(path) as file:
        for number, part in enumerate(_parts(file), start=1):
            title = name if number == 1 else f"{name}, part {number}"
            decoded = decode(part)
            if decoded is None:
                yield Broken(title, "not_text")
            else:
                yield Text(title, title, decoded[0], repaired=decoded[1])


def records(path: Path, name: str) -> Iterator[tuple[str, dict[str, Any], bool] | Broken]:
    """The JSON object of each line, with its name and whether it had to be repaired. What is none is broken."""
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


def json_lines(path: Path, name: str, text_field: str, title_field: str) -> Iterator[Text | Broken]:
    """One document a line, from one of its fields."""
    for found in records(path, name):
        if isinstance(found, Broken):
            yield found
            continue
        where, record, repaired = found
        content, title = record.get(text_field), record.get(title_field)
        if isinstance(content, str):
            yield Text(where, title if isinstance(title, str) else where, content, repaired=repaired)
        else:
            yield Broken(where, "unreadable")


def decode(data: bytes) -> tuple[str, bool] | None:
    """Bytes to text: UTF-8, UTF-16 with its mark, else the likelier of damaged UTF-8 and Windows-1252.

    Returns:
      (text, whether it had to be repaired), or None if the bytes are not text.
    """
    if data.startswith(_UTF_16):
        found = data.decode("utf-16", errors="replace")
        return found, "\ufffd" in found
    try:
        return data.decode("utf-8-sig"), False
    except UnicodeDecodeError:
        pass
    control = sum(data.count(byte) for byte in range(32) if byte not in b"\t\n\v\f\r")
    if control > _MAX_CONTROL_SHARE * len(data):
        return None
    found = data.decode("utf-8-sig", errors="replace")
    broken = found.count("\ufffd")
    intact = sum(not character.isascii() for character in found) - broken
    return (found if intact > broken else data.decode("cp1252", errors="replace")), True


def opened(path: Path) -> "Bounded":
    """A file's bytes, inflated where its name says that they are compressed, UTF-16 turned into UTF-8."""
    kind = path.suffix.lower()
    # Inflated as it comes (read1): where a stream is cut off, what came before that is not lost.
    raw: BinaryIO = path.open("rb")
    if kind == ".gz":
        return Bounded(raw, gzip.GzipFile(fileobj=raw).read1, path.stat().st_size)
    if kind == ".bz2":
        return Bounded(raw, bz2.BZ2File(raw).read1, path.stat().st_size)
    if kind == ".zst":
        import zstandard

        reader = zstandard.ZstdDecompressor(max_window_size=2**27).stream_reader(raw, read_across_frames=True)
        return Bounded(raw, reader.read1, path.stat().st_size)
    if raw.read(2) in _UTF_16:
        raw.seek(0)
        return Bounded(raw, codecs.EncodedFile(raw, "utf-8", "utf-16", errors="replace").read, None)
    raw.seek(0)
    return Bounded(raw, raw.read, None)


class Bounded:
    """Reads a stream in blocks. Raises TooLarge when it inflates to more than an honest file of its size holds."""

    def __init__(self, raw: BinaryIO, read: Callable[[int], bytes], size: int | None):
        self._raw, self._read = raw, read
        self._left = None if size is None else items.ARCHIVE + items.RATIO * size

    def read(self) -> bytes:
        """The next block; b"" at the end."""
        block = self._read(_BLOCK)
        if self._left is not None:
            self._left -= len(block)
            if self._left < 0:
                raise TooLarge
        return block

    def __enter__(self) -> "Bounded":
        return self

    def __exit__(self, *error: object) -> None:
        self._raw.close()


def lines(file: Bounded) -> Iterator[bytes | None]:
    """The lines of a file; None for one that is longer than `items.LARGEST`, which is never held as a whole."""
    rest, skipping = b"", False
    while block := file.read():
        *whole, rest = (rest + block).split(b"\n") if not skipping else _after_line(block)
        for line in whole:
            if skipping:
                skipping = False  # the end of the long one
            else:
                yield line
        if len(rest) > items.LARGEST:
            yield None
            rest, skipping = b"", True
    if rest and not skipping:
        yield rest


def _after_line(block: bytes) -> list[bytes]:
    """A block while a long line is passed over: without an end of line in it there is nothing to keep."""
    return block.split(b"\n") if b"\n" in block else [b""]


def _parts(file: Bounded) -> Iterator[bytes]:
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
