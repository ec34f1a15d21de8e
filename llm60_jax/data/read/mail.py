"""Mail: single messages and mailboxes."""

import email
import email.policy
import re
from collections.abc import Iterator
from email.message import EmailMessage, Message
from pathlib import Path

from llm60_jax.data.read import items, plain, web
from llm60_jax.data.read.items import Broken, Document, TooLarge

_MAX_PARTS = 100  # of a message
_SEPARATOR = re.compile(rb"From \S+.*\d{4}")  # the line before each message of a mailbox
_WROTE = re.compile(
    r"^(On\b.{0,200}\bwrote:|-+ ?Original Message ?-+|_{10,}|From: .+\n(?:Sent|Date|To): .+)$", re.MULTILINE
)
_SIGNATURE = re.compile(r"^-- ?$", re.MULTILINE)


def eml(path: Path, name: str) -> Iterator[Document | Broken]:
    """Yield one message without quoted text, signature and attachments."""
    with path.open("rb") as file:
        data = file.read(items.LARGEST + 1)
    if len(data) > items.LARGEST:
        raise TooLarge
    yield _message(data, name)


def mbox(path: Path, name: str) -> Iterator[Document | Broken]:
    """Yield each message of a mailbox."""
    for number, data in enumerate(_messages(path), start=1):
        where = f"{name}:{number}"
        yield Broken(where, "too_large") if data is None else _message(data, where)


def _messages(path: Path) -> Iterator[bytes | None]:
    """Yield the bytes of each message; None for one larger than `items.LARGEST`."""
    message: list[bytes] | None = None  # lines
    size = 0
    with plain.opened(path) as file:
        for line in plain.lines(file):
            if line is not None and _SEPARATOR.match(line):
                if message is not None:
                    yield b"\n".join(message) if size <= items.LARGEST else None
                message, size = [], 0
                continue
            if message is None:
                message = []  # lines before the first separator form a message
            size += items.LARGEST + 1 if line is None else len(line) + 1
            if size <= items.LARGEST:
                message.append((line or b"").removeprefix(b">" if (line or b"").startswith(b">From ") else b""))
    if message is not None:
        yield b"\n".join(message) if size <= items.LARGEST else None


def _message(data: bytes, name: str) -> Document | Broken:
    message = email.message_from_bytes(data, policy=email.policy.compat32)
    bodies: dict[str, tuple[str, bool]] = {}  # content type -> (text, whether it was repaired)
    for number, part in enumerate(message.walk()):
        kind = part.get_content_type()
        if (
            number >= _MAX_PARTS
            or kind in bodies
            or part.is_multipart()
            or part.get_content_disposition() == "attachment"
        ):
            continue
        if kind in ("text/plain", "text/html"):
            body = _body(part, kind)
            if body is not None:
                bodies[kind] = body
    text, repaired = bodies.get("text/plain") or bodies.get("text/html") or ("", False)
    if not text:
        return Broken(name, "not_text")
    return Document(name, _subject(message) or name, _own_words(text), repaired=repaired)


def _body(part: Message, kind: str) -> tuple[str, bool] | None:
    """Return (text, whether it was repaired) of a part; None if it is not text."""
    data = part.get_payload(decode=True)
    if not isinstance(data, bytes):
        return None
    if kind == "text/html":
        return web.blocks(data), False
    try:
        return data.decode(part.get_content_charset() or "ascii"), False
    except (LookupError, UnicodeDecodeError, ValueError):
        return plain.decode(data)


def _own_words(text: str) -> str:
    """Remove the signature, the message that is answered, and quoted lines."""
    text = text.replace("\r\n", "\n")
    for mark in (_SIGNATURE, _WROTE):
        if (match := mark.search(text)) and text[: match.start()].strip():
            text = text[: match.start()]
    return "\n".join(line for line in text.split("\n") if not line.lstrip().startswith(">"))


def _subject(message: Message) -> str:
    parsed = EmailMessage(policy=email.policy.default)
    try:
        parsed["Subject"] = " ".join(str(message.get("Subject", "")).split())
    except (ValueError, IndexError):
        return ""
    return " ".join(str(parsed["Subject"]).split())
