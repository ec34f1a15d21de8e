"""OpenDocument texts: .odt and .ott, and .fodt, which is a single file of XML."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from xml.etree.ElementTree import Element

from llm60_jax.data.read import footnotes, items, layout
from llm60_jax.data.read.items import Document, TooLarge, Unreadable
from llm60_jax.data.read.layout import Block
from llm60_jax.data.read.office import archives
from llm60_jax.data.read.office.archives import Archive, all_named

_TEXT = "{urn:oasis:names:tc:opendocument:xmlns:text:1.0}"
_STYLE = "{urn:oasis:names:tc:opendocument:xmlns:style:1.0}"
# Without words of the author's text: comments, deleted text, descriptions of pictures, contents.
_LEFT_OUT = frozenset(
    "tracked-changes annotation annotation-end title desc table-of-content illustration-index table-index object-index "
    "user-index alphabetical-index bibliography forms ruby-text hidden-text sequence-decls variable-decls "
    "user-field-decls scripts binary-data object".split()
)


def odt(path: Path, name: str) -> Iterator[Document]:
    """Yield a text with lists, tables and notes, without comments and deleted text."""
    with Archive(path) as archive:
        trees = [archive.xml("content.xml")]
        with contextlib.suppress(Unreadable):  # only says which lists are numbered
            trees.append(archive.xml("styles.xml"))
    yield _document(trees, name)


def fodt(path: Path, name: str) -> Iterator[Document]:
    """Yield a text that is not packed."""
    with path.open("rb") as file:
        data = file.read(4 * items.LARGEST + 1)  # holds its pictures too
    if len(data) > 4 * items.LARGEST:
        raise TooLarge
    yield _document([archives.parsed(data)], name)


def _document(trees: list[Element], name: str) -> Document:
    body = archives.first_named(trees[0], "body")
    reader = _Reader(_Styles(trees))
    reader.read(body)
    notes = (block for block in reader.notes if footnotes.says_something(block.text))
    return Document(name, name, layout.joined([*layout.gathered(reader.blocks), *notes]))


class _Styles:
    """The styles of a document, for what they say of lists, code and hidden text."""

    def __init__(self, trees: list[Element]):
        self.numbered = {  # (style, level) of the levels of lists that count their items
            (style.get(f"{_STYLE}name") or "", level.get(f"{_TEXT}level") or "")
            for tree in trees
            for style in all_named(tree, "list-style")
            for level in style
            if level.tag == f"{_TEXT}list-level-style-number"
        }
        self.code, self.hidden = {"Preformatted_20_Text"}, set()
        for style in (style for tree in trees for style in all_named(tree, "style")):
            if style.get(f"{_STYLE}parent-style-name") in self.code:
                self.code.add(style.get(f"{_STYLE}name") or "")
            if any(child.get(f"{_TEXT}display") == "none" for child in style):
                self.hidden.add(style.get(f"{_STYLE}name") or "")


class _Reader:
    """Collects the blocks of an element; its nesting is bounded by `archives.parsed`."""

    def __init__(self, styles: _Styles):
        self.blocks: list[Block] = []  # an empty one for an empty paragraph
        self.notes: list[Block] = []
        self._styles = styles
        self._boxes: list[Element] = []  # text boxes of the present paragraph

    def read(self, element: Element, mark: str = "") -> str:
        """Add an element's blocks. Return `mark`, of an item, unless a block has begun with it."""
        name = _name(element)
        if name in _LEFT_OUT or element.get(f"{_TEXT}display") == "none":
            return mark
        if name in ("p", "h"):
            return self._paragraph(element, mark)
        if name == "list":
            self._list(element, element.get(f"{_TEXT}style-name") or "", 1)
        elif name == "table":
            rows = _rows(element)
            self.blocks += layout.table(
                [[self._cell(cell) for cell in row if _name(cell) == "table-cell"] for row in rows]
            )
        else:
            for child in element:
                mark = self.read(child, mark)
        return mark

    def _list(self, element: Element, style: str, level: int) -> None:
        number = 0
        for item in element:
            if _name(item) not in ("list-item", "list-header"):
                continue
            number += 1
            counted = (style, str(level)) in self._styles.numbered
            mark = layout.item_mark(level - 1, number if counted else 0) if _name(item) == "list-item" else ""
            for child in item:
                if _name(child) == "list":
                    self._list(child, child.get(f"{_TEXT}style-name") or style, level + 1)
                else:
                    mark = self.read(child, mark)

    def _paragraph(self, element: Element, mark: str) -> str:
        parts: list[str] = []
        self._inline(element, parts)
        texts = layout.paragraphs("".join(parts).split("\n"))
        if element.get(f"{_TEXT}style-name") in self._styles.code and not mark:
            self.blocks += (Block(line, "code") for line in "".join(parts).split("\n"))
        elif not texts:
            self.blocks.append(Block(""))
        elif _name(element) == "h":
            self.blocks += (Block(text, "heading") for text in texts)
        elif mark:
            self.blocks.append(Block(mark + " ".join(" ".join(texts).split()), "item", group=1))
            mark = ""
        else:
            self.blocks += map(Block, texts)
        boxes, self._boxes = self._boxes, []
        for box in boxes:
            self.read(box)
        return mark

    def _inline(self, element: Element, parts: list[str]) -> None:
        """Add the text of a paragraph, with a newline for each line break."""
        parts.append(_spaced(element.text))
        for child in element:
            name = _name(child)
            if name == "note":
                self._note(child)
            elif name == "line-break":
                parts.append("\n")
            elif name in ("s", "tab"):
                count = child.get(f"{_TEXT}c") or ""
                parts.append(" " * int(count) if count.isascii() and count.isdigit() and len(count) < 4 else " ")
            elif name == "text-box":
                self._boxes.append(child)
            elif name not in _LEFT_OUT and child.get(f"{_TEXT}style-name") not in self._styles.hidden:
                self._inline(child, parts)
            parts.append(_spaced(child.tail))

    def _note(self, element: Element) -> None:
        inner = _Reader(self._styles)
        for child in element:
            if _name(child) == "note-body":
                inner.read(child)
        self.notes += (block for block in inner.blocks if block.text)

    def _cell(self, cell: Element) -> list[Block]:
        inner = _Reader(self._styles)
        for child in cell:
            inner.read(child)
        self.notes += inner.notes
        return list(layout.gathered(inner.blocks))


def _name(element: Element) -> str:
    return element.tag.rpartition("}")[2]


def _rows(table: Element) -> Iterator[Element]:
    """Yield the rows of a table, also those that are grouped, not those of tables inside."""
    for child in table:
        if _name(child) == "table-row":
            yield child
        elif _name(child) in ("table-rows", "table-header-rows", "table-row-group"):
            yield from _rows(child)


def _spaced(text: str | None) -> str:
    return (text or "").replace("\n", " ")
