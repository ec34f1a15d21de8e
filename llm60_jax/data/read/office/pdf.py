"""PDF: the text of a document's pages, without running heads, page numbers and marks of notes."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from llm60_jax.data.read import items
from llm60_jax.data.read.items import Broken, Document
from llm60_jax.data.read.office import pdf_pages, pdf_text

_LARGEST_FILE = 512 * 2**20  # bytes; most of a large PDF are its pictures
# A document is read by a process of its own with limits of time and memory: a hostile one can
# inflate and nest without end.
_PROCESSOR_SECONDS = 300
_WALL_SECONDS = 1200
_MEMORY = 3 * 2**30  # bytes of address space
_MAX_UNKNOWN_SHARE = 0.02  # of characters that the fonts do not name
_MIN_LETTERS_A_PAGE = 30  # fewer beside pictures are the stamps of a scan
_UNKNOWN = re.compile(r"\(cid:\d{1,6}\)")
_NO_TITLE = re.compile(
    r"\(?(?:untitled|anonymous)|microsoft word|document\d*$|powerpoint|[\w-]+\.\w{2,5}$|\W*$", re.IGNORECASE
)


def pdf(path: Path, name: str) -> Iterator[Document | Broken]:
    """Yield a document, or why it cannot be read: `encrypted`, `no_text` for a scan."""
    if path.stat().st_size > _LARGEST_FILE:
        yield Broken(name, "too_large")
        return
    pages = _pages(path)
    yield Broken(name, pages) if isinstance(pages, str) else _document(pages, name)


def _pages(path: Path) -> dict[str, Any] | items.Reason:
    """Return what `pdf_pages` finds in a file, or the reason that it finds nothing."""
    root = str(Path(__file__).resolve().parents[3])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))}
    limits = map(str, (items.LARGEST, _PROCESSOR_SECONDS, _MEMORY))
    command = [sys.executable, "-m", pdf_pages.__name__, str(path.resolve()), *limits]
    try:
        finished = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_WALL_SECONDS,
            env=environment,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return "too_large"
    if finished.returncode < 0 or finished.returncode == pdf_pages.TOO_LARGE:  # killed at a limit
        return "too_large"
    if finished.returncode == pdf_pages.ENCRYPTED:
        return "encrypted"
    if finished.returncode:
        return "unreadable"
    found: dict[str, Any] = json.loads(finished.stdout)
    return found


def _document(found: dict[str, Any], name: str) -> Document | Broken:
    pages = [[pdf_text.Line(*line) for line in page] for page in found["pages"]]
    characters = sum(len(line.text) for page in pages for line in page)
    unknown = sum(len(_UNKNOWN.findall(line.text)) for page in pages for line in page)
    if unknown > _MAX_UNKNOWN_SHARE * characters:
        return Broken(name, "unreadable")
    letters = sum(sum(map(str.isalpha, line.text)) for page in pages for line in page)
    if found["pictures"] and letters < _MIN_LETTERS_A_PAGE * len(pages):
        return Broken(name, "no_text")
    if unknown:
        pages = [[line._replace(text=_UNKNOWN.sub("", line.text)) for line in page] for page in pages]
    title = " ".join(found["title"].split())
    title = name if _NO_TITLE.match(title) else title
    return Document(name, title, pdf_text.prose(pages), repaired=found["damaged"])
