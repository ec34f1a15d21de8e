"""Mail: single messages, and mailboxes of many."""

import email
import email.policy
import re
from collections.abc import Iterator
from email.message import EmailMessage, Message
from pathlib import Path

from llm60_jax.data.read import items, plain, web
from llm60_jax.data.read.items import Broken, Text, TooLarge

_PARTS = 100  # of a message
_BEGIN = re.compile(rb"From \S+.*\d{4}")  # the line between two messages of a mailbox
_WROTE = re.compile(
    r"^(On\b.{0,200}\bwrote:|-+ ?Original Message ?-+|_{10,}|From: .+\n(?:Sent|Date|To): .+)$", re.MULTILINE
)
_SIGNATURE = re.compile(r"^-- ?$", re.MULTILINE)


def eml(path: Path, name: str) -> Iterator[Text | Broken]:
    """One message: its own words, without those it quotes, its signature and its attachments."""
    with path.open("rb") as file:
        data = file.read(items.LARGEST + 1)
    if len(data) > items.LARGEST:
        raise TooLarge
    yield _message(data, name)


def mbox(path: Path, name: str) -> Iterator[Text | Broken]:
    """Each message of a mailbox."""
    for number, data in enumerate(_messages(path), start=1):
        where = f"{name}:{number}"
        yield Broken(where, "too_large") if data is None else _message(data, where)


def _messages(path: Path) -> Iterator[bytes | None]:
    found: list[bytes] | None = None
    size = 0
    with plain.opened(path) as file:
        for line in plain.lines(file):
            if line is not None and _BEGIN.match(line):
                if found is not None:
                    yield b"\n".join(found) if size <= items.LARGEST else None
                found, size = [], 0
                continue
            if found is None:
                found = []  # what stands before the first mark is taken for a message
            size += items.LARGEST + 1 if line is None else len(line) + 1
            if size <= items.LARGEST:
                found.append((line or b"").removeprefix(b">" if (line or b"").startswith(b">From ") else b""))
    if found is not None:
        yield b"\n".join(found) if size <= items.LARGEST else None


def _message(data: bytes, name: str) -> Text | Broken:
    message = email.message_from_bytes(data, policy=email.policy.compat32)
    bodies: dict[str, tuple[str, bool]] = {}
    for number, part in enumerate(message.walk()):
        kind = part.get_content_type()
        if (
            number >= _PARTS
            or (kind in bodies)
            or part.is_multipart()
            or part.get_content_disposition() == "attachment"
        ):
            continue
        if kind in ("text/plain", "text/html"):
            found = _body(part, kind)
            if found is not None:
                bodies[kind] = found
    text, repaired = bodies.get("text/plain") or bodies.get("text/html") or ("", False)
    if not text:
        return Broken(name, "not_text")
    return Text(name, _subject(message) or name, _own_words(text), repaired=repaired)


def _body(part: Message, kind: str) -> tuple[str, bool] | None:
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
    """A message without the one it answers, and without its signature."""
    text = text.replace("\r\n", "\n")
    for mark in (_SIGNATURE, _WROTE):
        if (found := mark.search(text)) and text[: found.start()].strip():
            text = text[: found.start()]
    return "\n".join(line for line in text.split("\n") if not line.lstrip().startswith(">"))


def _subject(message: Message) -> str:
    parsed = EmailMessage(policy=email.policy.default)
    try:
        parsed["Subject"] = " ".join(str(message.get("Subject", "")).split())
    except (ValueError, IndexError):
        return ""
    return " ".join(str(parsed["Subject"]).split())
