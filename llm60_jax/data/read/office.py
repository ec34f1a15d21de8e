"""Word processors' documents and e-books: archives of XML, and RTF. Nothing is unpacked to disk."""

import posixpath
import urllib.parse
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from xml.etree import ElementTree
from xml.parsers import expat

from llm60_jax.data.read import items, plain, web
from llm60_jax.data.read.items import Broken, Text, TooLarge, Unreadable

_WORD = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_TEXT = "{urn:oasis:names:tc:opendocument:xmlns:text:1.0}"
_DRAWN = "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"  # a text box for the second time
_MEMBERS = 2_000  # of an e-book
_DEEPEST = 200  # elements inside one another


def docx(path: Path, name: str) -> Iterator[Text]:
    """The paragraphs of a Word document in order, tables included; no headers, footnotes, comments or deleted text."""
    with _Archive(path) as archive:
        yield Text(name, name, _paragraphs(archive.read("word/document.xml"), _word))


def odt(path: Path, name: str) -> Iterator[Text]:
    """The paragraphs and headings of an OpenDocument text in order; no notes, comments or deleted text."""
    with _Archive(path) as archive:
        yield Text(name, name, _paragraphs(archive.read("content.xml"), _open_document))


def epub(path: Path, name: str) -> Iterator[Text]:
    """An e-book as one document: its chapters in reading order, its table of contents left out."""
    with _Archive(path) as archive:
        package = _first(archive.xml("META-INF/container.xml"), "rootfile").get("full-path") or ""
        tree = archive.xml(package)
        listed = {item.get("id"): item for item in _all(tree, "item")}
        chapters = []
        for reference in _all(tree, "itemref"):
            item = listed.get(reference.get("idref"))
            if item is None or "nav" in (item.get("properties") or "") or reference.get("linear") == "no":
                continue
            place = urllib.parse.unquote(item.get("href") or "").partition("#")[0]
            member = posixpath.normpath(posixpath.join(posixpath.dirname(package), place))
            chapters.append(web.blocks(archive.read(member)))
        title = next((found.text for found in _all(tree, "title") if found.text), name)
        yield Text(name, " ".join(title.split()), "\n\n".join(filter(None, chapters)))


def rtf(path: Path, name: str) -> Iterator[Text | Broken]:
    """The text of a Rich Text document."""
    from striprtf.striprtf import rtf_to_text

    data = path.read_bytes()[: items.LARGEST + 1]
    if len(data) > items.LARGEST:
        raise TooLarge
    if not data.lstrip().startswith(b"{\\rtf"):
        raise Unreadable
    decoded = plain.decode(data)
    if decoded is None:
        yield Broken(name, "not_text")
        return
    lines = rtf_to_text(decoded[0], errors="replace").replace("\xa0", " ").split("\n")
    yield Text(name, name, "\n\n".join(line.strip() for line in lines if line.strip()), repaired=decoded[1])


class _Archive:
    """A zip file of which members are read into memory, within bounds. What its headers say of sizes is not trusted."""

    def __init__(self, path: Path):
        self._zip = zipfile.ZipFile(path)
        self._left = items.ARCHIVE
        self._members = 0

    def __enter__(self) -> "_Archive":
        return self

    def __exit__(self, *error: object) -> None:
        self._zip.close()

    def read(self, member: str) -> bytes:
        """Raises Unreadable if it is not there, TooLarge if there is too much of it or of all that was read."""
        self._members += 1
        try:
            with self._zip.open(member) as file:
                data = file.read(min(items.LARGEST * 4, self._left) + 1)
        except (KeyError, RuntimeError, NotImplementedError):  # not there; encrypted; packed in an unknown way
            raise Unreadable from None
        if len(data) > min(items.LARGEST * 4, self._left) or self._members > _MEMBERS:
            raise TooLarge
        self._left -= len(data)
        return data

    def xml(self, member: str) -> ElementTree.Element:
        return _tree(self.read(member))


def _tree(data: bytes) -> ElementTree.Element:
    """Parses XML that declares no entities and is not nested too deeply. Raises Unreadable."""
    builder = ElementTree.TreeBuilder()
    parser = expat.ParserCreate(namespace_separator="}")
    depth = 0

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > _DEEPEST:
            raise Unreadable
        builder.start(_named(tag), {_named(key): value for key, value in attributes.items()})

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(_named(tag))

    def refuse(*declaration: object) -> None:
        raise Unreadable

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = builder.data
    parser.EntityDeclHandler = refuse
    try:
        parser.Parse(data, True)
    except expat.ExpatError:
        raise Unreadable from None
    return builder.close()


def _named(tag: str) -> str:
    return "{" + tag if "}" in tag else tag


def _all(tree: ElementTree.Element, tag: str) -> Iterator[ElementTree.Element]:
    """The elements of a name, whatever their namespace."""
    return (element for element in tree.iter() if element.tag.rpartition("}")[2] == tag)


def _first(tree: ElementTree.Element, tag: str) -> ElementTree.Element:
    found = next(_all(tree, tag), None)
    if found is None:
        raise Unreadable
    return found


def _paragraphs(data: bytes, text_of: Callable[[ElementTree.Element, list[str]], None]) -> str:
    parts: list[str] = []
    text_of(_tree(data), parts)
    blocks = (" ".join(block.split()) for block in "".join(parts).split("\n"))
    return "\n\n".join(block for block in blocks if block)


def _word(element: ElementTree.Element, parts: list[str]) -> None:
    """Adds the text of a Word element, a newline after each paragraph."""
    if element.tag in (f"{_WORD}del", f"{_WORD}moveFrom", f"{_WORD}instrText", _DRAWN):
        return
    if element.tag == f"{_WORD}t":
        parts.append(element.text or "")
    elif element.tag in (f"{_WORD}tab", f"{_WORD}br", f"{_WORD}cr"):
        parts.append(" ")
    elif element.tag == f"{_WORD}noBreakHyphen":
        parts.append("-")
    for child in element:
        _word(child, parts)
    if element.tag == f"{_WORD}p":
        parts.append("\n")


def _open_document(element: ElementTree.Element, parts: list[str], inside: bool = False) -> None:
    """Adds the text of an OpenDocument element, a newline after each paragraph."""
    tag = element.tag
    if tag in (f"{_TEXT}note", f"{_TEXT}tracked-changes") or tag.endswith("}annotation"):
        return
    is_block = tag in (f"{_TEXT}p", f"{_TEXT}h")
    inside = inside or is_block
    if inside:
        parts.append(element.text or "")
        if tag in (f"{_TEXT}s", f"{_TEXT}tab", f"{_TEXT}line-break"):
            parts.append(" ")
    for child in element:
        _open_document(child, parts, inside)
        if inside:
            parts.append(child.tail or "")
    if is_block:
        parts.append("\n")
