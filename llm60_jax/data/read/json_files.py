"""JSON files: an array of records or texts, an object that holds one, a single note, a notebook."""

import codecs
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from llm60_jax.data.read import encodings, items, plain
from llm60_jax.data.read.items import Broken, Document, Part, TooLarge, Unreadable
from llm60_jax.data.read.markup import markdown

# The fields that are tried, in this order, where a record lacks the usual field.
_TEXT_FIELDS = ("text", "content", "body", "entry", "textContent", "note", "plaintext", "html", "post")
_USUAL_FIELD = "text"
_SPEAKERS = frozenset(("role", "author", "from", "from_id", "sender", "sender_name", "user", "speaker"))
_CONVERSATION = ("messages", "conversations", "conversation", "turns")
_TRASH = re.compile("trash|deleted", re.IGNORECASE)
_SPACE = re.compile(r"[ \t\r\n]*")
_NUMBER_PART = re.compile(r"[\d.eE+-]{0,400}")  # may go on in the next block
_MIN_STRING_CHARACTERS = 40  # of a text among the lists of an object; shorter strings are tags


class _Value(NamedTuple):
    """A value at the top of a file. `key` is that of its object, "" in an array that is the file."""

    key: str
    value: Any
    listed: bool  # whether it is an element of an array


_MORE_FOLLOWS = _Value("", None, False)  # the object was one of several: JSON lines named .json


def json_file(path: Path, name: str, text_field: str, title_field: str) -> Iterator[Document | Broken]:
    """Yield one document a record, or a string of an array. A chat export is refused by name.

    Arrays are read as streams: only one element is held.
    """
    reader = _Records(name, text_field, title_field)
    for value in _values(path):
        yield from reader.take(value)
        if reader.is_chat:
            yield Broken(name, "chat_export")
            return
    yield from reader.finish()


def json_lines(
    path: Path, name: str, text_field: str, title_field: str, part: Part | None = None
) -> Iterator[Document | Broken]:
    """Yield one document per line, from the field of its record that `json_file` would take.

    Args:
      part: one of `plain.line_parts`; None for the whole file.
    """
    reader = _Records(name, text_field, title_field)
    for item in plain.records(path, name, part):
        if isinstance(item, Broken):
            yield item
            continue
        where, record, repaired = item
        document = reader.of_record(record, where)
        if document:
            yield document._replace(repaired=document.repaired or repaired)
        else:
            yield Broken(where, "no_field")


class _Records:
    """Turns the values of a file into documents."""

    def __init__(self, name: str, text_field: str, title_field: str):
        self._name, self._title_field = name, title_field
        self._fields = _TEXT_FIELDS if text_field == _USUAL_FIELD else (text_field,)
        self._number = 0  # of the present element
        self._lacking: list[int] = []  # elements without a text; only held until one has a text
        self._found = False
        self._single: dict[str, Any] = {}  # the members of an object that are no lists
        self._cells: list[str] = []  # of a notebook
        self._cells_size = 0
        self.is_chat = False

    def take(self, item: _Value) -> Iterator[Document | Broken]:
        """Yield the document of a value, if it is one."""
        if item is _MORE_FOLLOWS:
            whole, self._single = self._single, {}
            if whole:
                yield from self.take(_Value("", whole, True))
            return
        if not item.listed:
            self._single[item.key] = item.value
            return
        self._number += 1
        value = item.value
        if _is_chat(item.key, value):
            self.is_chat = not self._found
        elif item.key == "cells" and isinstance(value, dict) and "cell_type" in value:
            self._add_cell(value)
        elif not (_TRASH.search(item.key) or _is_trashed(value) or _is_trashed(self._single)):
            yield from self._listed(item)

    def _listed(self, item: _Value) -> Iterator[Document | Broken]:
        where = f"{self._name}:{self._number}"
        document = self.of_record(item.value, where)
        if item.key and isinstance(item.value, str) and len(item.value) < _MIN_STRING_CHARACTERS:
            return
        if document and item.key == "entries" and "creationDate" in item.value:  # Day One writes Markdown
            document = document._replace(text=markdown.convert(document.text)[1])
        if document:
            self._found = True
            for number in self._lacking:
                yield Broken(f"{self._name}:{number}", "no_field")
            self._lacking.clear()
            yield document
        elif not item.key and self._found:
            yield Broken(where, "no_field")
        elif not item.key:
            self._lacking.append(self._number)

    def finish(self) -> Iterator[Document | Broken]:
        """Yield the document that the whole file is, or why it holds none."""
        if self._cells:
            title, text = markdown.convert("\n\n".join(self._cells))
            yield Document(self._name, title or self._name, text)
        elif {"mapping", "chat_messages"} & self._single.keys():
            yield Broken(self._name, "chat_export")
        elif _is_trashed(self._single):
            return
        elif not self._found and (document := self.of_record(self._single, self._name)):
            yield document
        elif not self._found and (documents := self._by_key()):
            yield from documents
        elif not self._found and (self._number or self._single) and "nbformat" not in self._single:
            yield Broken(self._name, "no_field")

    def _add_cell(self, cell: dict[str, Any]) -> None:
        """Add a Markdown cell of a notebook."""
        source = cell.get("source", "")
        text = "".join(map(str, source)) if isinstance(source, list) else str(source)
        if cell["cell_type"] == "markdown" and text.strip():
            self._cells_size += len(text)
            if self._cells_size > items.LARGEST:
                raise TooLarge
            self._cells.append(text.strip())

    def _by_key(self) -> list[Document]:
        """Return the documents of an object that maps each key, such as a date, to a text."""
        found: list[Document] = []
        for number, (key, value) in enumerate(self._single.items(), start=1):
            where = f"{self._name}:{number}"
            document = self.of_record(value, where)
            if document is None or (isinstance(value, str) and len(value) < _MIN_STRING_CHARACTERS):
                return []
            found.append(document._replace(title=key) if document.title == where else document)
        return found

    def of_record(self, value: Any, where: str) -> Document | None:
        """Return the document that a record or a text is; None if it has no text."""
        if isinstance(value, dict):  # Standard Notes and others put text and title below "content"
            inner = next((value[field] for field in self._fields if isinstance(value.get(field), str | dict)), None)
            value = inner if isinstance(inner, dict) else value
        if isinstance(value, str):
            text, repaired = _repaired(value)
            return Document(where, where, text, repaired=repaired)
        if not isinstance(value, dict):
            return None
        for field in self._fields:
            content = value.get(field)
            if isinstance(content, str):
                text, repaired = _repaired(content)
                title = value.get(self._title_field)
                title = _repaired(title)[0].strip() if isinstance(title, str) else ""
                return Document(where, title or where, text, repaired=repaired)
        return None


def _is_trashed(record: Any) -> bool:
    """Whether a record is a note that its author threw away, as Google Keep exports it."""
    return isinstance(record, dict) and record.get("isTrashed") is True


def _is_chat(key: str, value: Any) -> bool:
    """Whether an element of an array is a conversation, or a message of one.

    ChatGPT exports conversations with a `mapping`, Claude with `chat_messages`. Other programs
    write a list of messages, each with its speaker.
    """
    if not isinstance(value, dict):
        return False
    if "chat_messages" in value or key == "chat_messages" or ("mapping" in value and "current_node" in value):
        return True
    if isinstance(value.get("mapping"), dict) and any(
        isinstance(node, dict) and "message" in node for node in list(value["mapping"].values())[:5]
    ):
        return True
    if (key == "messages" and _SPEAKERS & value.keys()) or (value.get("type") == "message" and "ts" in value):
        return True
    for field in _CONVERSATION:
        messages = value.get(field)
        if isinstance(messages, list) and any(isinstance(m, dict) and _SPEAKERS & m.keys() for m in messages[:5]):
            return True
    return False


def _repaired(text: str) -> tuple[str, bool]:
    """Return a text whose bytes were perhaps not UTF-8, and whether they had to be repaired."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        try:
            decoded = encodings.decode(text.encode("utf-8", errors="surrogateescape"))
        except UnicodeEncodeError:  # half of a pair, as an escape
            decoded = None
        if decoded:
            return decoded
    return text, False


def _values(path: Path) -> Iterator[_Value]:
    """Yield the elements of the array that a file is, or the members of its object.

    Raises Unreadable for anything else, TooLarge for an element or a member beyond
    `items.LARGEST`.
    """
    with plain.opened(path) as file:
        stream = _Stream(file)
        if not stream.peek():
            return
        if stream.takes("["):
            yield from (_Value("", value, True) for value in stream.elements())
            yield from _following(stream)
            return
        if not stream.takes("{"):
            raise Unreadable
        while not stream.takes("}"):
            key = stream.value()
            if not isinstance(key, str) or not stream.takes(":"):
                raise Unreadable
            if stream.takes("["):
                for value in stream.elements():
                    yield _Value(key, value, True)
            else:
                yield _Value(key, stream.value(), False)
            if not stream.takes(",") and stream.peek() != "}":
                raise Unreadable
        yield from _following(stream)


def _following(stream: "_Stream") -> Iterator[_Value]:
    """Yield the values below the first one of a file."""
    if stream.peek():
        yield _MORE_FOLLOWS
    while stream.peek():
        value = stream.value()
        yield from (_Value("", element, True) for element in (value if isinstance(value, list) else [value]))


class _Stream:
    """JSON that is decoded value by value while the file is read."""

    def __init__(self, file: plain.Bounded):
        self._file = file
        self._decoder = json.JSONDecoder()
        # Bytes that are not UTF-8 survive as surrogates, until the text they stand in is known.
        self._bytes = codecs.getincrementaldecoder("utf-8")(errors="surrogateescape")
        self._text, self._place, self._ended = "", 0, False
        self._fill()
        self._text = self._text.removeprefix("\ufeff")

    def peek(self) -> str:
        """Return the next character that is not white space; "" at the end."""
        while True:
            match = _SPACE.match(self._text, self._place)
            self._place = match.end() if match else self._place
            if self._place < len(self._text) or not self._fill():
                return self._text[self._place : self._place + 1]

    def takes(self, mark: str) -> bool:
        """Skip a mark, if it is next, and return whether it was."""
        if self.peek() != mark:
            return False
        self._place += 1
        return True

    def elements(self) -> Iterator[Any]:
        """Yield the rest of an array whose bracket is taken."""
        while not self.takes("]"):
            yield self.value()
            if not self.takes(",") and self.peek() != "]":
                raise Unreadable

    def value(self) -> Any:
        """Return the next value. What is read of it doubles until it is whole."""
        self.peek()
        while True:
            try:
                value, stop = self._decoder.raw_decode(self._text, self._place)
                if self._ended or not _NUMBER_PART.fullmatch(self._text, stop):
                    self._place = stop
                    return value
            except ValueError:
                if self._ended:
                    raise Unreadable from None
            if len(self._text) - self._place > items.LARGEST:
                raise TooLarge
            wanted = 2 * (len(self._text) - self._place)
            while len(self._text) - self._place < wanted and self._fill():
                pass

    def _fill(self) -> bool:
        """Read a block; return False at the end of the file."""
        block = self._file.read()
        self._ended = not block
        self._text = self._text[self._place :] + self._bytes.decode(block, final=self._ended)
        self._place = 0
        return not self._ended
