"""Notes, outlines and books in one XML file: Evernote's .enex, .opml, FictionBook's .fb2.

The files are read as streams: pictures inside them are never held.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from xml.parsers import expat

from llm60_jax.data.read import footnotes, items, plain
from llm60_jax.data.read.items import Broken, Document, TooLarge, Unreadable
from llm60_jax.data.read.web import webpage

_ENCRYPTED = re.compile(r"<en-crypt\b[^<>]{0,1000}>[^<]*</en-crypt>")
_MAX_LEVEL = 50  # of an outline's indentation


def enex(path: Path, name: str) -> Iterator[Document | Broken]:
    """Yield each note of an Evernote export, without attachments and encrypted parts."""
    yield from parsed(path, _Evernote(name))


def fb2(path: Path, name: str) -> Iterator[Document | Broken]:
    """Yield a FictionBook as one document. Verse keeps its lines; notes stand at the end."""
    yield from parsed(path, _FictionBook(name))


def opml(path: Path, name: str) -> Iterator[Document | Broken]:
    """Yield an outline as one document: nested items, and their notes as paragraphs."""
    yield from parsed(path, _Outline(name))


class Handler:
    """What happens at the marks of an XML file. `done` holds the finished documents.

    Args:
      name: the file's name.
    """

    def __init__(self, name: str):
        self.name = name
        self.done: list[Document | Broken] = []
        self._size = 0

    def start(self, tag: str, attributes: dict[str, str]) -> None: ...

    def end(self, tag: str) -> None: ...

    def text(self, data: str) -> None: ...

    def finish(self) -> None: ...

    def _count(self, text: str) -> None:
        """Raise TooLarge if a document becomes too large."""
        self._size += len(text)
        if self._size > items.LARGEST:
            raise TooLarge


def parsed(path: Path, handler: Handler) -> Iterator[Document | Broken]:
    """Yield what a handler makes of a file. Raises Unreadable if it is no XML or declares entities."""
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = lambda tag, attributes: handler.start(tag.rpartition(":")[2], attributes)
    parser.EndElementHandler = lambda tag: handler.end(tag.rpartition(":")[2])
    parser.CharacterDataHandler = handler.text
    parser.EntityDeclHandler = _refuse
    with plain.opened(path) as file:
        block = b" "
        while block:
            block = file.read()
            try:
                parser.Parse(block, not block)
            except expat.ExpatError:
                raise Unreadable from None
            finally:
                yield from _taken(handler)
    handler.finish()
    yield from _taken(handler)


def _taken(handler: Handler) -> list[Document | Broken]:
    done, handler.done = handler.done, []
    return done


def _refuse(*declaration: object) -> None:
    raise Unreadable


class _Evernote(Handler):
    def __init__(self, name: str):
        super().__init__(name)
        self._number = 0
        self._fields: dict[str, list[str]] = {}
        self._field = ""

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        if tag == "note":
            self._fields, self._size = {"title": [], "content": []}, 0
        self._field = tag if tag in self._fields else ""

    def text(self, data: str) -> None:
        if self._field and self._size <= items.LARGEST:
            self._size += len(data)
            self._fields[self._field].append(data)

    def end(self, tag: str) -> None:
        self._field = ""
        if tag != "note":
            return
        self._number += 1
        where = f"{self.name}:{self._number}"
        if self._size > items.LARGEST:
            self.done.append(Broken(where, "too_large"))
            return
        title = " ".join("".join(self._fields.get("title", [])).split())
        content = _ENCRYPTED.sub("", "".join(self._fields.get("content", [])))
        body = content[max(0, content.find("<en-note")) :]
        page = f'<html><head><meta charset="utf-8"></head><body>{body}</body></html>'
        try:
            self.done.append(Document(where, title or where, webpage.blocks(page.encode("utf-8", errors="replace"))))
        except Unreadable:
            self.done.append(Broken(where, "unreadable"))


class _FictionBook(Handler):
    _BLOCKS = frozenset(("p", "subtitle", "text-author", "v", "td", "th"))
    _SILENT = frozenset(("binary", "description", "stylesheet"))

    def __init__(self, name: str):
        super().__init__(name)
        self._blocks: list[str] = []
        self._notes: list[str] = []
        self._parts: list[str] = []
        self._verse: list[str] = []
        self._title: list[str] = []
        self._silent = ""  # the element whose text is skipped
        self._mark = self._in_notes = self._in_title = self._in_block = False

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        if tag == "book-title" and not self._title:
            self._in_title = True
        elif not self._silent and tag in self._SILENT:
            self._silent = tag
        elif tag == "body":
            self._in_notes = attributes.get("name") in ("notes", "comments", "footnotes")
        elif tag == "a" and attributes.get("type") == "note":
            self._mark = True
        elif tag in self._BLOCKS:
            self._parts, self._in_block = [], True

    def text(self, data: str) -> None:
        if self._in_title:
            self._title.append(data)
        elif self._in_block and not (self._silent or self._mark):
            self._count(data)
            self._parts.append(data)

    def end(self, tag: str) -> None:
        if tag == "book-title":
            self._in_title = False
        elif tag == self._silent:
            self._silent = ""
        elif tag == "a":
            self._mark = False
        elif tag in self._BLOCKS:
            self._in_block = False
            text = " ".join("".join(self._parts).split())
            if tag == "v":
                self._verse.append(text)
            elif self._in_notes:
                self._notes += [text] if footnotes.says_something(text) else []
            elif text and not self._silent:
                self._blocks.append(text)
        elif tag in ("stanza", "poem") and self._verse:
            self._blocks.append("\n".join(self._verse))
            self._verse = []

    def finish(self) -> None:
        title = " ".join("".join(self._title).split())
        self.done.append(Document(self.name, title or self.name, "\n\n".join([*self._blocks, *self._notes])))


class _Outline(Handler):
    def __init__(self, name: str):
        super().__init__(name)
        self._lines: list[str] = []
        self._title: list[str] = []
        self._level = 0
        self._in_title = False

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        self._in_title = tag == "title"
        if tag != "outline":
            return
        text, note = (" ".join(attributes.get(key, "").split()) for key in ("text", "_note"))
        if text and "xmlUrl" not in attributes:  # a list of feeds holds no prose
            self._count(text + note)
            self._lines.append(f"{'  ' * min(self._level, _MAX_LEVEL)}- {text}")
            if note:
                self._lines += ["", note, ""]
        self._level += 1

    def text(self, data: str) -> None:
        if self._in_title:
            self._title.append(data)

    def end(self, tag: str) -> None:
        self._in_title = False
        self._level -= tag == "outline"

    def finish(self) -> None:
        title = " ".join("".join(self._title).split())
        self.done.append(Document(self.name, title or self.name, "\n".join(self._lines).strip()))
