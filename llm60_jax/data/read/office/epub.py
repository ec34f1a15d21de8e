"""E-books: EPUB 2 and 3."""

import posixpath
import re
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from xml.etree.ElementTree import Element

from llm60_jax.data.read import layout
from llm60_jax.data.read.items import Document, Unreadable
from llm60_jax.data.read.layout import Block
from llm60_jax.data.read.office.archives import Archive, all_named, first_named
from llm60_jax.data.read.web import html_tree, page_blocks

# Types of parts around a book's text, as EPUB 3 and the guide of EPUB 2 name them.
_FRAME = frozenset(
    "titlepage title-page halftitlepage imprint imprimatur colophon copyright-page copyright uncopyright toc landmarks "
    "loi lot loa lov page-list index cover other-credits seriespage ad-card".split()
)
_FRAME_NAME = re.compile(
    r"(?:half-?)?title-?(?:page)?|imprint|colophon|uncopyright|copyright(?:-page)?|toc|contents|nav|cover(?:-?page)?"
)
_MAX_FRAME_SHARE = 0.2  # of a book; a larger part is no frame, whatever its file is called


def epub(path: Path, name: str) -> Iterator[Document]:
    """Yield an e-book as one document: its chapters in reading order, without title pages, imprint,
    colophon and contents."""
    with Archive(path) as archive:
        package = first_named(archive.xml("META-INF/container.xml"), "rootfile").get("full-path") or ""
        tree = archive.xml(package)
        title = next((element.text for element in all_named(tree, "title") if element.text), name)
        blocks = [block for chapter in _chapters(archive, package, tree) for block in chapter]
        yield Document(name, " ".join(title.split()), layout.joined(blocks))


def _chapters(archive: Archive, package: str, tree: Element) -> list[list[Block]]:
    """Return the blocks of each part of a book, in reading order, without its frame."""
    members = _members(package, tree)
    named = _named_frame(archive, package, tree)
    parts: list[tuple[list[Block], bool]] = []  # blocks, whether the part is named like a frame
    for member in members:
        try:
            data = archive.read(member)
        except Unreadable:
            continue
        page = html_tree.parsed(data)
        if page is not None:
            is_frame = member in named or _FRAME_NAME.fullmatch(_stem(member)) is not None
            parts.append((page_blocks.blocks_of(page, _FRAME), is_frame))
    if not parts:
        raise Unreadable
    limit = _MAX_FRAME_SHARE * sum(_size(blocks) for blocks, _ in parts)
    return [blocks for blocks, is_frame in parts if not is_frame or _size(blocks) > limit]


def _members(package: str, tree: Element) -> Iterator[str]:
    """Yield the names of a book's parts in reading order."""
    listed = {item.get("id"): item for item in all_named(tree, "item")}
    for reference in all_named(tree, "itemref"):
        item = listed.get(reference.get("idref"))
        if item is None or "nav" in (item.get("properties") or "").split() or reference.get("linear") == "no":
            continue
        if (item.get("media-type") or "html").startswith("image/"):
            continue
        yield _member(package, item.get("href") or "")


def _member(origin: str, reference: str) -> str:
    """Return the name of the member that a reference in the member `origin` points to."""
    path = urllib.parse.unquote(reference.partition("#")[0])
    return posixpath.normpath(posixpath.join(posixpath.dirname(origin), path))


def _named_frame(archive: Archive, package: str, tree: Element) -> set[str]:
    """Return the parts that the guide (EPUB 2) or the landmarks (EPUB 3) call a frame."""
    pairs = [(package, item.get("type") or "", item.get("href") or "") for item in all_named(tree, "reference")]
    for item in all_named(tree, "item"):
        if "nav" in (item.get("properties") or "").split():
            nav = _member(package, item.get("href") or "")
            try:
                page = html_tree.parsed(archive.read(nav))
            except Unreadable:
                continue
            links = [] if page is None else [link for link in page.iter() if html_tree.tag_of(link) == "a"]
            pairs += [(nav, kind, link.get("href") or "") for link in links for kind in html_tree.types_of(link)]
    frame = {_member(origin, href) for origin, kind, href in pairs if kind in _FRAME and "#" not in href}
    return frame - {_member(origin, href) for origin, kind, href in pairs if kind in ("text", "start", "bodymatter")}


def _stem(member: str) -> str:
    return posixpath.basename(member).lower().rpartition(".")[0].replace("_", "-").strip("-0123456789")


def _size(blocks: list[Block]) -> int:
    return sum(len(block.text) for block in blocks)
