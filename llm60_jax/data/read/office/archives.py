"""Archives of word processors and e-books, read in memory and never unpacked, and their XML."""

import zipfile
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree
from xml.parsers import expat

from llm60_jax.data.read import items
from llm60_jax.data.read.items import TooLarge, Unreadable

_MAX_MEMBERS = 2_000  # read from one archive
_MAX_DEPTH = 200  # nested elements


class Archive:
    """A zip file, read into memory within limits. The sizes in its headers are ignored."""

    def __init__(self, path: Path):
        self._zip = zipfile.ZipFile(path)
        self._bytes_left = items.ARCHIVE
        self._members = 0  # read so far

    def __enter__(self) -> "Archive":
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
        return parsed(self.read(member))


def parsed(data: bytes) -> ElementTree.Element:
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


def all_named(tree: ElementTree.Element, tag: str) -> Iterator[ElementTree.Element]:
    """Return all elements with this name in any namespace."""
    return (element for element in tree.iter() if element.tag.rpartition("}")[2] == tag)


def first_named(tree: ElementTree.Element, tag: str) -> ElementTree.Element:
    element = next(all_named(tree, tag), None)
    if element is None:
        raise Unreadable
    return element
