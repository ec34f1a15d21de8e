"""Mail: single messages and mailboxes. They yield a person's own words, without quoted mail.

A mailbox can hold others' mail. With the addresses of an author, only that person's is read.
"""

import itertools
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from llm60_jax.data.read import items, plain
from llm60_jax.data.read.items import Broken, Document
from llm60_jax.data.read.mail import footers, message
from llm60_jax.data.read.mail.message import Letter

_WINDOW_MESSAGES = 500  # of a mailbox that are compared for footers
_WINDOW_CHARACTERS = 8 * 2**20
_PREFIX_BYTES = 400  # of a line that are looked at
# The line before each message of a mailbox, as in "From anna@example.org Mon Mar  3 09:12:00 2025".
_SEPARATOR = re.compile(
    rb"From (?:[^\n]{0,200} )?(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun),? [^\n]{0,20}\d:\d\d[^\n]{0,20}\b\d{4}\b"
    rb"|\d{4}-\d\d-\d\d[T ]\d\d:\d\d)"
)
_FIELD = re.compile(rb"[A-Za-z][A-Za-z0-9-]{0,60}:|>From ")
_MACHINE_FIELDS = (
    "return-path", "received", "message-id", "mime-version", "content-type", "content-transfer-encoding",
    "delivered-to", "x-mailer", "user-agent", "references", "in-reply-to", "dkim-signature", "x-gmail-labels",
    "x-mozilla-status", "x-mozilla-keys", "x-gm-thrid", "x-uid", "x-apple-auto-saved", "status", "x-originating-ip",
    "authentication-results", "arc-seal", "x-received", "x-uniform-type-identifier", "x-universally-unique-identifier",
)  # fmt: skip
_PERSONAL_FIELDS = ("from", "to", "subject", "date", "cc", "bcc", "reply-to", "sender")


def eml(path: Path, name: str, author: tuple[str, ...] = ()) -> Iterator[Document | Broken]:
    """Yield one message's own words.

    Args:
      author: addresses; a message of another sender is `other_author`. Empty: all are read.
    """
    yield _document(message.read(_beginning(path), name, author))


def emlx(path: Path, name: str, author: tuple[str, ...] = ()) -> Iterator[Document | Broken]:
    """Yield one message of Apple Mail: its size in bytes, the message, a property list."""
    size, _, data = _beginning(path).partition(b"\n")
    size = size.strip()
    data = data[: int(size)] if size.isdigit() and len(size) < 12 else size + b"\n" + data
    yield _document(message.read(data, name, author))


def mbox(path: Path, name: str, author: tuple[str, ...] = ()) -> Iterator[Document | Broken]:
    """Yield each message of a mailbox, without the lines that end many messages of a sender."""
    read = (message.read(data, f"{name}:{number}", author) for number, data in enumerate(_messages(path), start=1))
    ends: frozenset[tuple[str, str]] = frozenset()
    for window in _windows(read):
        ends = footers.recurring(
            [(item.sender, item.document.text) for item in window if isinstance(item, Letter)], ends
        )
        for item in window:
            document = _document(item)
            if isinstance(item, Letter) and isinstance(document, Document):
                own = footers.without_recurring(item.sender, document.text, ends)
                document = document._replace(text=own) if own else Broken(document.name, "no_own_words")
            yield document


def looks_like_mailbox(head: bytes) -> bool:
    """Return whether a file that begins so is a mailbox, whatever its name."""
    first, _, rest = head.lstrip(b"\r\n").removeprefix(b"\xef\xbb\xbf").partition(b"\n")
    return bool(_SEPARATOR.match(first[:_PREFIX_BYTES]) and (not rest.strip() or _FIELD.match(rest[:_PREFIX_BYTES])))


def looks_like_message(head: bytes) -> bool:
    """Return whether a file that begins so is a message, as in a Maildir, whatever its name.

    A letter in plain text can begin with "From:" and "To:". A message has headers of programs, too.
    """
    fields = set()
    lines = head.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    for number, line in enumerate(itertools.islice(lines, 200)):
        if not line.strip():
            break
        if line[:1] in (b" ", b"\t") and number:
            continue
        if not _FIELD.match(line):
            # The last line of `head` can be cut.
            if number == len(lines) - 1 and number:
                break
            return False
        fields.add(line.partition(b":")[0].decode("ascii", errors="replace").lower())
    return len(fields) >= 3 and not fields.isdisjoint(_MACHINE_FIELDS) and not fields.isdisjoint(_PERSONAL_FIELDS)


def _document(item: Letter | Broken) -> Document | Broken:
    return item.document if isinstance(item, Letter) else item


def _beginning(path: Path) -> bytes:
    """Return a file up to `items.LARGEST`. Attachments come last, so that a cut hits them."""
    with path.open("rb") as file:
        return file.read(items.LARGEST)


def _windows(read: Iterable[Letter | Broken]) -> Iterator[list[Letter | Broken]]:
    """Yield runs of messages that are compared with one another."""
    window: list[Letter | Broken] = []
    characters = 0
    for item in read:
        window.append(item)
        characters += len(item.document.text) if isinstance(item, Letter) else 0
        if len(window) >= _WINDOW_MESSAGES or characters >= _WINDOW_CHARACTERS:
            yield window
            window, characters = [], 0
    if window:
        yield window


# Mailboxes


def _messages(path: Path) -> Iterator[bytes]:
    """Yield the bytes of each message, up to `items.LARGEST`."""
    lines: list[bytes] = []
    size = 0
    begun = False
    before = b""
    with plain.opened(path) as file:
        for line, following in _pairs(line or b"" for line in plain.lines(file)):
            if _separates(before, line, following):
                if begun or any(part.strip() for part in lines):
                    yield b"\n".join(lines)
                lines, size, begun = [], 0, True
            elif size <= items.LARGEST:
                size += len(line) + 1
                lines.append(_unescaped(line, before))
            before = line
    if begun or any(part.strip() for part in lines):
        yield b"\n".join(lines)


def _pairs(lines: Iterable[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Yield each line with the next one."""
    before: bytes | None = None
    for line in lines:
        if before is not None:
            yield before, line
        before = line
    if before is not None:
        yield before, b""


def _separates(before: bytes, line: bytes, following: bytes) -> bool:
    """Return whether a message begins below the line. Prose can begin with "From", too."""
    if not line.startswith(b"From ") or not _SEPARATOR.match(line[:_PREFIX_BYTES]):
        return False
    if before.strip():  # some programs write no blank line before it
        field = following.partition(b":")[0].decode("ascii", errors="replace").lower()
        return field in _MACHINE_FIELDS or field in _PERSONAL_FIELDS
    return not following.strip() or bool(_FIELD.match(following))


def _unescaped(line: bytes, before: bytes) -> bytes:
    """Return a line of a message: mailboxes write ">From" for "From" at its beginning.

    Below a quoted line without a blank after its mark, it is a quoted line as well.
    """
    if not line.startswith(b">") or not line.lstrip(b">").startswith(b"From "):
        return line
    quoted = (
        before.startswith(b">") and before[1:2] not in (b" ", b">", b"", b"\r") and not before.startswith(b">From ")
    )
    return line if quoted else line[1:]
