"""HTML: the article of a web page, or all text of a page."""

import functools
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from llm60_jax.data.read import items, layout
from llm60_jax.data.read.items import Document, TooLarge
from llm60_jax.data.read.layout import Block
from llm60_jax.data.read.web import html_tree, page_blocks

_RUN = 4  # words: a block whose runs of so many stand in the extract is part of the article
_COVERED = 0.6  # share of a block's runs
_NEARLY_NOTHING = 200  # characters of an article
_LONG = 80  # characters of a paragraph of prose
_MAX_LINKED = 0.3  # share of a paragraph of prose
_PROSE_SHARE = 0.8  # of what stands outside the article; more is a book
_WORDS = re.compile(r"\w+")


def html(path: Path, name: str) -> Iterator[Document]:
    """Yield the article of a page, without menus, tables and comments.

    A page that is text throughout, such as a book, is kept whole.
    """
    with path.open("rb") as file:
        data = file.read(items.LARGEST + 1)
    if len(data) > items.LARGEST:
        raise TooLarge
    tree = html_tree.parsed(data)
    page = [] if tree is None else page_blocks.blocks_of(tree)
    title = "" if tree is None else _title(tree)
    article = _chosen(page, _article(tree) if page else "")
    yield Document(name, title or name, layout.joined(article))


def blocks(data: bytes) -> str:
    """Return all text of a page, a blank line between its blocks."""
    tree = html_tree.parsed(data)
    return "" if tree is None else layout.joined(page_blocks.blocks_of(tree))


def _title(tree: Any) -> str:
    titles = (element for element in tree.iter() if html_tree.tag_of(element) == "title")
    return next((text for title in titles if (text := " ".join("".join(title.itertext()).split()))), "")


@functools.cache
def _settings() -> Any:
    """Return settings that read short pages like long ones."""
    from trafilatura.settings import use_config

    settings = use_config()
    settings.set("DEFAULT", "MIN_EXTRACTED_SIZE", "1")
    return settings


def _article(tree: Any) -> str:
    """Return the text that trafilatura takes for the article of a page."""
    import lxml.etree
    import trafilatura

    extract: str | None = trafilatura.extract(
        lxml.etree.tostring(tree, method="html", encoding="unicode"),
        include_comments=False,
        include_tables=True,
        include_formatting=False,
        deduplicate=False,
        config=_settings(),
    )
    return extract or ""


def _chosen(page: list[Block], extract: str) -> list[Block]:
    """Return the blocks of a page that are its article.

    trafilatura says where the article stands. It loses code, captions, and paragraphs that recur;
    the blocks of the page have them.
    """
    if _is_document(page):
        return page
    covered = _covered(page, extract)
    kept = _filled(page, covered)
    article = sum(len(block.text) for block, keep in zip(page, kept, strict=True) if keep)
    rest = [block for block, keep in zip(page, kept, strict=True) if not keep and not block.aside]
    prose = sum(len(block.text) for block in rest if _is_prose(block))
    is_book = prose > article / 4 and prose > _PROSE_SHARE * sum(len(block.text) for block in rest)
    if is_book or (article < _NEARLY_NOTHING and prose > article):
        return _without_edges(page)
    return list(itertools.compress(page, kept))


def _is_document(page: list[Block]) -> bool:
    """Whether a page has no menu, no comments and no links to other pages beside its text.

    Word processors and notebooks export such pages: all of it is the document.
    """
    return not any(block.aside or 2 * block.linked > len(block.text) for block in page)


def _covered(page: list[Block], extract: str) -> list[bool]:
    """Mark the blocks whose words stand in the extract."""
    lines = {" ".join(_words(line)) for line in extract.split("\n")}
    runs = set(_runs(_words(extract)))
    marks = []
    for block in page:
        words = _words(block.text)
        own = list(_runs(words))
        marks.append(
            sum(run in runs for run in own) >= _COVERED * len(own) if own else bool(words) and " ".join(words) in lines
        )
    return marks


def _words(text: str) -> list[str]:
    return _WORDS.findall(text.lower())


def _runs(words: list[str]) -> Iterator[int]:
    return (hash(tuple(words[i : i + _RUN])) for i in range(len(words) - _RUN + 1))


def _filled(page: list[Block], covered: list[bool]) -> list[bool]:
    """Mark covered blocks, the heading above them, and prose, code and headings between them."""
    if not any(covered):
        return covered
    kept = list(covered)
    first, last = covered.index(True), len(covered) - covered[::-1].index(True)
    kept[last:] = [keep or page[i].kind == "note" for i, keep in enumerate(kept[last:], start=last)]
    if first and page[first - 1].kind == "heading":
        kept[first - 1] = not page[first - 1].aside
    for i in range(last - 1, first, -1):
        block = page[i]
        if not kept[i] and not block.aside:
            kept[i] = (
                block.kind == "code" or _is_prose(block) or (block.kind == "heading" and kept[i + 1 : i + 2] == [True])
            )
    return kept


def _is_prose(block: Block) -> bool:
    """Whether a block is a paragraph of prose, and no link to another page."""
    return block.kind in ("text", "item") and len(block.text) >= _LONG and block.linked <= _MAX_LINKED * len(block.text)


def _without_edges(page: list[Block]) -> list[Block]:
    """Return all blocks except menus and comments."""
    return [block for block in page if not block.aside]
