"""HTML: the text of a web page or of a chapter of an e-book."""

import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from llm60_jax.data.read import items, plain
from llm60_jax.data.read.items import Document, TooLarge, Unreadable

# Elements that begin a paragraph.
_BLOCKS = frozenset(
    "p div h1 h2 h3 h4 h5 h6 li dt dd blockquote section article header footer main aside figure figcaption hr table "
    "tr td th ul ol dl pre body title center".split()
)
# Elements without prose.
_SKIPPED = frozenset("script style noscript template head nav form button select svg math iframe object table".split())
_MIN_EXTRACT_SHARE = 0.5  # of a page's text; a smaller extract is not used


def html(path: Path, name: str) -> Iterator[Document]:
    """Yield the article of a page, without menus, tables and comments.

    A page that is mostly text, such as a book, is kept whole.
    """
    with path.open("rb") as file:
        data = file.read(items.LARGEST + 1)
    if len(data) > items.LARGEST:
        raise TooLarge
    page = blocks(data)
    article = _article(data)
    title = _title(data) or name
    # A small extract means that trafilatura mistook the chapters of a book for menus.
    yield Document(name, title, article if len(article) >= _MIN_EXTRACT_SHARE * len(page) else page)


def blocks(data: bytes) -> str:
    """Return all text of a page, one paragraph per block element."""
    tree = _parsed(data)
    if tree is None:
        return ""
    paragraphs: list[str] = []
    parts: list[str] = []  # of the present paragraph

    def end_block() -> None:
        text = " ".join("".join(parts).split())
        parts.clear()
        if text:
            paragraphs.append(text)

    for event, element in _walk(tree):
        tag = element.tag if isinstance(element.tag, str) else ""
        if event == "start":
            if tag in _BLOCKS:
                end_block()
            elif tag == "br":
                parts.append(" ")
            parts.append(element.text or "" if tag else "")
        else:
            if tag in _BLOCKS:
                end_block()
            parts.append(element.tail or "")
    end_block()
    return "\n\n".join(paragraphs)


def _walk(tree: Any) -> Iterator[tuple[str, Any]]:
    """Yield starts and ends of elements, without recursion; only the ends of skipped ones."""
    stack = [("start", tree)]
    while stack:
        event, element = stack.pop()
        if event == "start" and element.tag in _SKIPPED:
            event = "end"
        yield event, element
        if event == "start":
            stack.append(("end", element))
            stack.extend(("start", child) for child in reversed(element))


def _parsed(data: bytes) -> Any:
    import lxml.etree
    import lxml.html

    if not data.strip():
        return None
    try:
        return lxml.html.document_fromstring(_with_charset(data))
    except (lxml.etree.LxmlError, ValueError, AssertionError):
        raise Unreadable from None


def _with_charset(data: bytes) -> bytes | str:
    """Return the bytes of a page that declares its encoding; of any other, the decoded text."""
    if re.search(rb"(charset|encoding)\s*=", data[:4096], re.IGNORECASE):
        return data
    decoded = plain.decode(data)
    if decoded is None:
        raise Unreadable
    return decoded[0]


@functools.cache
def _settings() -> Any:
    """Return settings that read short pages like long ones.

    By default trafilatura joins all text of a short page into one paragraph.
    """
    from trafilatura.settings import use_config

    settings = use_config()
    settings.set("DEFAULT", "MIN_EXTRACTED_SIZE", "1")
    return settings


def _article(data: bytes) -> str:
    """Return the article of a page as trafilatura extracts it; "" if there is none."""
    import trafilatura

    extract: str | None = trafilatura.extract(
        _with_charset(data),
        favor_recall=True,
        include_comments=False,
        include_tables=False,
        include_formatting=False,
        deduplicate=False,
        config=_settings(),
    )
    return "\n\n".join(line for line in (extract or "").split("\n") if line.strip())


def _title(data: bytes) -> str:
    tree = _parsed(data)
    return "" if tree is None else " ".join((tree.findtext(".//title") or "").split())
