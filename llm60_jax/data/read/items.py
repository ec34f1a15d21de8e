"""The items that readers of files yield, and the limits of their size."""

from typing import Literal, NamedTuple

LARGEST = 16 * 2**20  # bytes of a document: longer plain text is read in parts, all else is skipped
# A compressed file may inflate to at most `RATIO` times its size plus `ARCHIVE` bytes.
ARCHIVE = 256 * 2**20
RATIO = 100

Reason = Literal[
    "not_text",
    "unreadable",
    "too_large",
    "encrypted",
    "no_text",
    "no_field",
    "chat_export",
    "other_author",
    "machine_mail",
    "no_own_words",
]
# What a reason means and what to do, for messages.
HINTS = {
    "encrypted": "protected by a password: save it without",
    "no_text": "scanned pages: run OCR first",
    "no_field": "no text under the names that are looked for: set text_field",
    "chat_export": "they are chat, which is not learnt",
}


class Document(NamedTuple):
    """One text."""

    name: str  # its file's name and, where a file holds several, its place ("a.mbox:2")
    title: str
    text: str
    prompt: str = ""  # the question that the text answers; read, but not learnt
    repaired: bool = False  # its bytes were not valid in their encoding
    file: str = ""  # its file's name, relative to the folder or package; `sources.read` sets it


class Broken(NamedTuple):
    """A document, or the rest of a file, that cannot be read. `name` is as in `Document`."""

    name: str
    reason: Reason


class Part(NamedTuple):
    """A part of a file that was cut between documents, so that several processes can read it."""

    start: int  # byte
    stop: int  # byte
    before: int  # documents of the file before it: lines, or rows


class TooLarge(Exception):
    """A document is larger than `LARGEST`, or an archive inflates beyond `ARCHIVE` and `RATIO`."""


class Unreadable(Exception):
    """A file is not of the kind that its name says."""
