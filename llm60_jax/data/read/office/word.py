"""Word documents (.docx, .docm, .dotx, .dotm), of the common and of the strict standard."""

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree.ElementTree import Element

from llm60_jax.data.read import footnotes, layout
from llm60_jax.data.read.items import Document, Unreadable
from llm60_jax.data.read.layout import Block
from llm60_jax.data.read.office.archives import Archive, all_named

_SPACES = (
    "http://schemas.openxmlformats.org/wordprocessingml/2006/main",
    "http://purl.oclc.org/ooxml/wordprocessingml/main",
)
# Without words of the author: deleted or moved text, codes of fields, a text box repeated for older programs, guides to
# pronunciation.
_LEFT_OUT = frozenset("del moveFrom instrText delText Fallback rt sectPr tblPr trPr tcPr".split())
_CONTENTS = re.compile(r"(?:toc\d?|tocheading|contents\d?|tableoffigures|index\d?|verzeichnis\d)$", re.IGNORECASE)
_CODE = re.compile(
    r"(?:source ?code|html preformatted|code(?: block)?|preformatted(?: text)?|verbatim)$", re.IGNORECASE
)
_HEADING = re.compile(r"(?:heading|title|subtitle|berschrift)", re.IGNORECASE)


def docx(path: Path, name: str) -> Iterator[Document]:
    """Yield a document with lists, tables and notes, without headers, comments and deleted text."""
    with Archive(path) as archive:
        main = _main_part(archive)
        folder = posixpath.dirname(main)
        reader = _Reader(_Styles(archive, folder))
        reader.read(archive.xml(main))
        notes = list(_notes(archive, folder, reader))
    yield Document(name, name, layout.joined([*layout.gathered(reader.blocks), *notes]))


def _main_part(archive: Archive) -> str:
    """Return the name of the part that holds the text."""
    try:
        relations = archive.xml("_rels/.rels")
    except Unreadable:
        return "word/document.xml"
    for relation in all_named(relations, "Relationship"):
        if (relation.get("Type") or "").endswith("/officeDocument"):
            return (relation.get("Target") or "").lstrip("/")
    return "word/document.xml"


def _notes(archive: Archive, folder: str, reader: "_Reader") -> Iterator[Block]:
    """Yield the notes that the text refers to and that hold a sentence."""
    for kind in ("footnote", "endnote"):
        if not reader.references[kind]:
            continue
        try:
            part = archive.xml(posixpath.join(folder, f"{kind}s.xml"))
        except Unreadable:
            continue
        notes = {_value(note, "id"): note for note in part if _name(note) == kind}
        for number in reader.references[kind]:
            note = _Reader(reader.styles)
            if (element := notes.get(number)) is not None:
                note.read(element)
            yield from (block for block in note.blocks if footnotes.says_something(block.text))


def _name(element: Element) -> str:
    """Return an element's name without its namespace."""
    return element.tag.rpartition("}")[2]


def _value(element: Element | None, name: str = "val") -> str:
    """Return an attribute of one of the two standards; "" for none."""
    if element is None:
        return ""
    return next((value for space in _SPACES if (value := element.get(f"{{{space}}}{name}")) is not None), "")


def _child(element: Element | None, *names: str) -> Element | None:
    """Return the first child with the first name, of it the first with the second, and so on."""
    for name in names:
        element = next((child for child in element if _name(child) == name), None) if element is not None else None
    return element


class _Styles:
    """The styles and numberings of a document, for what they say of lists and headings."""

    def __init__(self, archive: Archive, folder: str):
        self.names: dict[str, str] = {}
        self._numbered: dict[str, Element] = {}  # style -> its w:numPr
        self._parents: dict[str, str] = {}
        self._formats: dict[tuple[str, str], tuple[str, int]] = {}  # (list, level) -> (format, start)
        for member, read in (("styles.xml", self._read_styles), ("numbering.xml", self._read_numbering)):
            try:
                read(archive.xml(posixpath.join(folder, member)))
            except Unreadable:  # the text can be read without
                continue

    def _read_styles(self, tree: Element) -> None:
        for style in (child for child in tree if _name(child) == "style"):
            key = _value(style, "styleId")
            self.names[key] = _value(_child(style, "name")) or key
            self._parents[key] = _value(_child(style, "basedOn"))
            if (numbering := _child(style, "pPr", "numPr")) is not None:
                self._numbered[key] = numbering

    def _read_numbering(self, tree: Element) -> None:
        levels: dict[str, list[tuple[str, str, int]]] = {}
        for abstract in (child for child in tree if _name(child) == "abstractNum"):
            levels[_value(abstract, "abstractNumId")] = [
                (_value(level, "ilvl"), _value(_child(level, "numFmt")), _number(_value(_child(level, "start")), 1))
                for level in abstract
                if _name(level) == "lvl"
            ]
        for number in (child for child in tree if _name(child) == "num"):
            for level, form, start in levels.get(_value(_child(number, "abstractNumId")), []):
                self._formats[_value(number, "numId"), level] = form, start

    def list_of(self, properties: Element | None, style: str) -> tuple[str, int, str, int] | None:
        """Return (list, level, format, first number) of a paragraph; None if it is no item."""
        numbering = _child(properties, "numPr")
        for _ in range(20):  # a style may be based on itself
            if numbering is not None or not style:
                break
            numbering, style = self._numbered.get(style), self._parents.get(style, "")
        key, level = _value(_child(numbering, "numId")), _number(_value(_child(numbering, "ilvl")), 0)
        if key in ("", "0"):
            return None
        form, start = self._formats.get((key, str(level)), ("bullet", 1))
        return None if form == "none" else (key, level, form, start)


def _number(text: str, default: int) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 7 else default


class _Reader:
    """Collects the blocks of a Word element; its nesting is bounded by `archives.parsed`."""

    def __init__(self, styles: _Styles):
        self.styles = styles
        self.blocks: list[Block] = []  # an empty one for an empty paragraph
        self.references: dict[str, list[str]] = {"footnote": [], "endnote": []}
        self._boxes: list[Element] = []  # text boxes of the present paragraph
        self._initial = ""  # the large first letter of the next paragraph
        self._counts: dict[tuple[str, int], int] = {}

    def read(self, element: Element) -> None:
        name = _name(element)
        if name == "p":
            self._paragraph(element)
        elif name == "tbl":
            self._table(element)
        elif name not in _LEFT_OUT and not _is_contents(element):
            for child in element:
                self.read(child)

    def _paragraph(self, element: Element) -> None:
        properties = _child(element, "pPr")
        style = _value(_child(properties, "pStyle"))
        style_name = self.styles.names.get(style, style)
        if _CONTENTS.match(style_name.replace(" ", "")):
            return
        parts = [self._initial]
        self._runs(element, parts)
        text, self._initial = "".join(parts), ""
        if _value(_child(properties, "framePr"), "dropCap") in ("drop", "margin"):
            self._initial = text
            return
        self._add(text, style_name, self.styles.list_of(properties, style))
        boxes, self._boxes = self._boxes, []
        for box in boxes:
            self.read(box)

    def _add(self, text: str, style: str, item: tuple[str, int, str, int] | None) -> None:
        parts = layout.paragraphs(text.split("\n"))
        if _CODE.match(style):
            self.blocks += (Block(line, "code") for line in text.split("\n"))
        elif not parts:
            self.blocks.append(Block(""))
        elif _HEADING.search(style):
            self.blocks += (Block(part, "heading") for part in parts)
        elif item is None:
            self.blocks += (Block(part) for part in parts)
        else:
            mark = layout.item_mark(item[1], self._counted(*item))
            self.blocks.append(Block(mark + " ".join(" ".join(parts).split()), "item", group=1))

    def _counted(self, key: str, level: int, form: str, start: int) -> int:
        """Return the number of an item; 0 if its list has none."""
        if form == "bullet":
            return 0
        for deeper in [place for place in self._counts if place[0] == key and place[1] > level]:
            del self._counts[deeper]
        self._counts[key, level] = self._counts.get((key, level), start - 1) + 1
        return self._counts[key, level]

    def _runs(self, element: Element, parts: list[str]) -> None:
        """Add the text of a paragraph, with a newline for each line break."""
        for child in element:
            name = _name(child)
            if name == "t":
                text = (child.text or "").replace("\n", " ")
                raised = _value(_child(element, "rPr", "vertAlign")) == "superscript"
                digits = raised and text.isascii() and text.strip().isdigit()
                parts.append(layout.power("".join(parts[-3:]), text.strip()) if digits else text)
            elif name in ("tab", "ptab"):
                parts.append(" ")
            elif name in ("br", "cr"):
                # A break of pages or columns ends a paragraph.
                parts.append("\n\n" if _value(child, "type") in ("page", "column") else "\n")
            elif name == "noBreakHyphen":
                parts.append("-")
            elif name in ("footnoteReference", "endnoteReference"):
                self.references[name.removesuffix("Reference")].append(_value(child, "id"))
            elif name == "txbxContent":
                self._boxes.append(child)
            elif name not in _LEFT_OUT and name != "pPr" and not (name == "r" and _is_hidden(child)):
                self._runs(child, parts)

    def _table(self, element: Element) -> None:
        """Add a table: a line a row, or the paragraphs of cells that hold most of it as long text."""
        rows = [[self._cell(cell) for cell in _cells(row, "tc")] for row in _cells(element, "tr")]
        self.blocks += layout.table(rows)

    def _cell(self, cell: Element) -> list[Block]:
        inner = _Reader(self.styles)
        inner.references = self.references
        for child in cell:
            inner.read(child)
        return list(layout.gathered(inner.blocks))


def _cells(element: Element, name: str) -> Iterator[Element]:
    """Yield the rows of a table or the cells of a row, also those inside content controls."""
    for child in element:
        if _name(child) == name:
            yield child
        elif _name(child) in ("sdt", "sdtContent", "ins", "customXml", "smartTag"):
            yield from _cells(child, name)


def _is_hidden(run: Element) -> bool:
    hidden = _child(run, "rPr", "vanish")
    return hidden is not None and _value(hidden) not in ("0", "false")


def _is_contents(element: Element) -> bool:
    """Whether an element is a table of contents that Word keeps up to date."""
    gallery = _child(element, "sdtPr", "docPartObj", "docPartGallery")
    return _value(gallery) == "Table of Contents"
