"""What a reader of files yields, and how much of it is held in memory at most."""

from typing import Literal, NamedTuple

LARGEST = 16 * 2**20  # bytes of one document: plain text beyond it is read in parts, anything else is not read
ARCHIVE = 256 * 2**20  # bytes that a compressed file may hold beyond `RATIO` times its own size
RATIO = 100

Reason = Literal["not_text", "unreadable", "too_large"]


class Text(NamedTuple):
    """One document. `name` is the file's, and where in it the document stands."""

    name: str
    title: str
    text: str
    prompt: str = ""  # what the text answers
    repaired: bool = False  # its bytes were not valid in their encoding


class Broken(NamedTuple):
    """A document, or the rest of a file, that gives no text."""

    name: str
    reason: Reason


class TooLarge(Exception):
    """More than what is held in memory, or than an archive of its size can honestly hold."""


class Unreadable(Exception):
    """Not what the file's name says it is."""
