"""Documents of word processors, e-books, and RTF. Archives are read in memory, never unpacked."""

import posixpath
import urllib.parse
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from xml.etree import ElementTree
from xml.parsers import expat

from llm60_jax.data.read import encodings, items, plain, web
from llm60_jax.data.read.items import Broken, Document, TooLarge, Unreadable

_WORD = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_TEXT = "{urn:oasis:names:tc:opendocument:xmlns:text:1.0}"
# An element that repeats a text box for older programs.
_FALLBACK = "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"
_MAX_MEMBERS = 2_000  # read from one archive
_MAX_DEPTH = 200  # nested elements


def docx(path: Path, name: str) -> Iterator[Document]:
    """Yield a Word document with tables, without headers, footnotes, comments and deleted text."""
    with _Archive(path) as archive:
        yield Document(name, name, _paragraphs(archive.read("word/document.xml"), _word))


def odt(path: Path, name: str) -> Iterator[Document]:
    """Yield an OpenDocument text with headings, without notes, comments and deleted text."""
    with _Archive(path) as archive:
        yield Document(name, name, _paragraphs(archive.read("content.xml"), _open_document))


def epub(path: Path, name: str) -> Iterator[Document]:
    """Yield an e-book as one document: its chapters in reading order, no table of contents."""
    with _Archive(path) as archive:
        package = _first(archive.xml("META-INF/container.xml"), "rootfile").get("full-path") or ""
        tree = archive.xml(package)
        members = {item.get("id"): item for item in _all(tree, "item")}
        chapters = []
        for reference in _all(tree, "itemref"):
            item = members.get(reference.get("idref"))
            if item is None or "nav" in (item.get("properties") or "") or reference.get("linear") == "no":
                continue
            path_in_package = urllib.parse.unquote(item.get("href") or "").partition("#")[0]
            member = posixpath.normpath(posixpath.join(posixpath.dirname(package), path_in_package))
            chapters.append(web.blocks(archive.read(member)))
        title = next((element.text for element in _all(tree, "title") if element.text), name)
        yield Document(name, " ".join(title.split()), "\n\n".join(filter(None, chapters)))


def rtf(path: Path, name: str) -> Iterator[Document | Broken]:
    """Yield the text of a Rich Text Format document."""
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
    codec = encodings.of_rtf(decoded[0])
    lines = rtf_to_text(decoded[0], encoding=codec, errors="replace").replace("\xa0", " ").split("\n")
    yield Document(name, name, "\n\n".join(line.strip() for line in lines if line.strip()), repaired=decoded[1])


class _Archive:
    """A zip file, read into memory within limits. The sizes in its headers are ignored."""

    def __init__(self, path: Path):
        self._zip = zipfile.ZipFile(path)
        self._bytes_left = items.ARCHIVE
        self._members = 0  # read so far

    def __enter__(self) -> "_Archive":
        return self

    def __exit__(self, *error: object) -> None:
        self._zip.close()

    def read(self, member: str) -> bytes:
        """Read a member.

        Raises Unreadable if it is missing, TooLarge if it or the sum of all members is too large.
        """
        self._members += 1
        try:
            with self._zip.open(member) as file:
                data = file.read(min(items.LARGEST * 4, self._bytes_left) + 1)
        except (KeyError, RuntimeError, NotImplementedError):  # missing, encrypted, unknown method
            raise Unreadable from None
        if len(data) > min(items.LARGEST * 4, self._bytes_left) or self._members > _MAX_MEMBERS:
            raise TooLarge
        self._bytes_left -= len(data)
        return data

    def xml(self, member: str) -> ElementTree.Element:
        return _tree(self.read(member))


def _tree(data: bytes) -> ElementTree.Element:
    """Parse XML. Raises Unreadable if it is invalid, declares entities or is nested too deeply."""
    builder = ElementTree.TreeBuilder()
    parser = expat.ParserCreate(namespace_separator="}")
    depth = 0

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > _MAX_DEPTH:
            raise Unreadable
        builder.start(_qualified(tag), {_qualified(key): value for key, value in attributes.items()})

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(_qualified(tag))

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


def _qualified(tag: str) -> str:
    """Return a tag as ElementTree writes it: "{namespace}name"."""
    return "{" + tag if "}" in tag else tag


def _all(tree: ElementTree.Element, tag: str) -> Iterator[ElementTree.Element]:
    """Return all elements with this name in any namespace."""
    return (element for element in tree.iter() if element.tag.rpartition("}")[2] == tag)


def _first(tree: ElementTree.Element, tag: str) -> ElementTree.Element:
    element = next(_all(tree, tag), None)
    if element is None:
        raise Unreadable
    return element


def _paragraphs(data: bytes, add_text: Callable[[ElementTree.Element, list[str]], None]) -> str:
    """Return the paragraphs that `add_text` finds in XML, with a blank line between them."""
    parts: list[str] = []
    add_text(_tree(data), parts)
    blocks = (" ".join(block.split()) for block in "".join(parts).split("\n"))
    return "\n\n".join(block for block in blocks if block)


def _word(element: ElementTree.Element, parts: list[str]) -> None:
    """Add the text of a Word element, with a newline after each paragraph."""
    if element.tag in (f"{_WORD}del", f"{_WORD}moveFrom", f"{_WORD}instrText", _FALLBACK):
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
    """Add the text of an OpenDocument element, with a newline after each paragraph."""
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
