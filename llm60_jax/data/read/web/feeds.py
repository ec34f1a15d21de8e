"""Posts of a blog in one XML file: exports of WordPress and Blogger, RSS and Atom with whole texts."""

import re
from collections.abc import Iterator
from pathlib import Path

from llm60_jax.data.read import items
from llm60_jax.data.read.items import Broken, Document, Unreadable
from llm60_jax.data.read.web import notes, webpage

_PARAGRAPH = re.compile(r"<(?:p|div)\b", re.IGNORECASE)
_BLANK_LINES = re.compile(r"\n[ \t\r]{0,20}\n\s{0,200}")
_SHORTCODE = re.compile(r"\[/?(?:caption|gallery|embed|audio|video|playlist|more|contact-form)\b[^\[\]\n]{0,500}\]")
_POSTS = frozenset(("post", "page"))
_THROWN_AWAY = frozenset(("trash", "auto-draft", "spam", "soft_trashed"))
_FIELDS = frozenset(("title", "encoded", "content", "post_type", "status", "type"))


def feed(path: Path, name: str) -> Iterator[Document | Broken]:
    """Yield each post of a blog. Comments, settings, trash, and posts without their text are left out."""
    yield from notes.parsed(path, _Feed(name))


class _Feed(notes.Handler):
    def __init__(self, name: str):
        super().__init__(name)
        self._number = self._depth = 0  # of posts; of elements within a post
        self._fields: dict[str, list[str]] = {}
        self._field = ""
        self._kind = "post"

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        if tag in ("item", "entry") and not self._depth:
            self._fields, self._size, self._kind, self._depth = {}, 0, "post", 1
            return
        self._depth += bool(self._depth)
        # The first of a name counts: an excerpt follows the text, and comments follow both.
        if self._depth == 2 and tag in _FIELDS and tag not in self._fields:
            self._field = tag
            self._fields[tag] = []
        if self._depth == 2 and tag == "category" and "kind#" in attributes.get("term", ""):
            self._kind = attributes["term"].rpartition("kind#")[2]

    def text(self, data: str) -> None:
        if self._field and self._size <= items.LARGEST:
            self._size += len(data)
            self._fields[self._field].append(data)

    def end(self, tag: str) -> None:
        if self._depth == 2:
            self._field = ""
        self._depth -= bool(self._depth)
        if tag in ("item", "entry") and not self._depth:
            self._finish_post()

    def _finish_post(self) -> None:
        values = {field: "".join(parts).strip() for field, parts in self._fields.items()}
        kind = (values.get("post_type") or values.get("type") or self._kind).lower()
        content = values.get("encoded") or values.get("content") or ""
        if kind not in _POSTS or values.get("status", "").lower() in _THROWN_AWAY or not content:
            return
        self._number += 1
        where = f"{self.name}:{self._number}"
        if self._size > items.LARGEST:
            self.done.append(Broken(where, "too_large"))
            return
        try:
            text = webpage.blocks(_page(content).encode("utf-8", errors="replace"))
        except Unreadable:
            self.done.append(Broken(where, "unreadable"))
            return
        self.done.append(Document(where, " ".join(values.get("title", "").split()) or where, text))


def _page(content: str) -> str:
    """Return the text of a post as a page. Where no element begins a paragraph, a blank line does."""
    content = _SHORTCODE.sub("", content.replace("\r\n", "\n"))
    if not _PARAGRAPH.search(content):
        paragraphs = (part.replace("\n", "<br>") for part in _BLANK_LINES.split(content))
        content = "".join(f"<p>{part}</p>" for part in paragraphs)
    return f'<html><head><meta charset="utf-8"></head><body>{content}</body></html>'
