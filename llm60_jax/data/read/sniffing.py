"""The kind of a file by its content, for names that do not tell it or tell it wrongly."""

import re
import zipfile
from pathlib import Path

from llm60_jax.data.read import encodings

_HEAD_BYTES = 4096
_CONTROL = re.compile("[\x00-\x08\x0e-\x19\x1c-\x1f\x7f]")
_SPACE = " \t\r\n\ufeff"
_HTML = re.compile(r"(?:<\?xml[^<>]{0,200}>|<!--.{0,1000}?-->|\s)*<(?:!doctype\s+html|html)\b", re.I | re.S)
_ROOT = re.compile(r"(?:<\?xml[^<>]{0,200}>|<!--.{0,1000}?-->|<!DOCTYPE[^<>\[]{0,300}>|\s)*<([\w-]{1,40})\b", re.S)
_ROOTS = {
    "mediawiki": ".xml",
    "en-export": ".enex",
    "FictionBook": ".fb2",
    "opml": ".opml",
    "rss": ".rss",
    "feed": ".atom",
}
_MAILBOX = re.compile(r"From \S.{0,200}\d{4}[^\n]{0,20}\n(?:>?[A-Za-z][\w-]{0,60}:|X-)")
_HEADER = re.compile(r"([A-Za-z][A-Za-z0-9-]{1,60}):(?=[ \t\n])|[ \t]+\S")
_DELIVERED = frozenset(("message-id", "received", "return-path", "mime-version", "delivered-to"))
_TEX = re.compile(r"^[^%\n]{0,200}\\(?:documentclass|documentstyle)\b|^\s{0,20}\\begin\{document\}", re.M)


def binary(head: bytes, path: Path) -> str:
    """Return the kind that the marks of a file say beyond doubt; "" if there are none."""
    if b"%PDF-" in head[:1024]:
        return ".pdf"
    if head.lstrip().startswith(b"{\\rtf"):
        return ".rtf"
    if head.startswith(b"PAR1"):
        return ".parquet"
    return _archive(path) if head.startswith(b"PK\x03\x04") else ""


def written(head: bytes) -> str:
    """Return the kind of a file that holds text: ".txt" if it has no marks; "" for other data."""
    decoded = encodings.decode(head)
    # Stricter than for a name that says "text": one control character is enough to doubt it.
    if decoded is None or not decoded[0].strip(_SPACE) or _CONTROL.search(decoded[0]):
        return ""
    text = decoded[0].replace("\r\n", "\n").lstrip(_SPACE)
    if kind := page(text) or mail(text):
        return kind
    if text.startswith("<") and (root := _ROOT.match(text)):
        return _ROOTS.get(root[1], "" if text.startswith("<?xml") else ".txt")
    if re.match(r'\{\s*"|\[\s*[\[{"]', text):
        first, _, rest = text.partition("\n")
        return ".jsonl" if first.rstrip().endswith("}") and rest.startswith("{") else ".json"
    return ".tex" if _TEX.search(text) else ".txt"


def page(text: str) -> str:
    """Return ".html" if a text is a page saved from the web, else ""."""
    return ".html" if _HTML.match(text) else ""


def mail(text: str) -> str:
    """Return ".mbox" or ".eml" if a text begins with a header as mail programs write it, else ""."""
    if _MAILBOX.match(text):
        return ".mbox"
    names = set()
    for line in text.split("\n"):
        match = _HEADER.match(line)
        if not match:
            break
        names.add((match[1] or "").lower())
    return ".eml" if "from" in names and names & _DELIVERED and names & {"date", "subject", "to"} else ""


def first_bytes(path: Path) -> bytes:
    """Return the first bytes of a file; none if it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(_HEAD_BYTES)
    except OSError:
        return b""


def _archive(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
            if "word/document.xml" in names:
                return ".docx"
            if "mimetype" not in names:
                return ""
            with archive.open("mimetype") as file:
                kind = file.read(100).strip()
    except (OSError, ValueError, RuntimeError, NotImplementedError, EOFError, zipfile.BadZipFile, zipfile.error):
        return ""
    if kind == b"application/epub+zip":
        return ".epub"
    return ".odt" if kind.startswith(b"application/vnd.oasis.opendocument.text") else ""
