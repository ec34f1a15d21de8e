"""HTML: the text of a page, and of a chapter of an e-book."""

import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from llm60_jax.data.read import items
from llm60_jax.data.read.items import Text, TooLarge, Unreadable

# What begins a paragraph of its own, and what holds no prose.
_BLOCKS = frozenset(
    "p div h1 h2 h3 h4 h5 h6 li dt dd blockquote section article header footer main aside figure figcaption hr table "
    "tr td th ul ol dl pre body title center".split()
)
_SKIPPED = frozenset("script style noscript template head nav form button select svg math iframe object table".split())
_LEAST = 0.5  # of the page's plain text that an extract must keep to be taken for the whole of it


def html(path: Path, name: str) -> Iterator[Text]:
    """The prose of a page: its article without menus, tables and comments; of a page that is all text, as a book is,
    all of it."""
    with path.open("rb") as file:
        data = file.read(items.LARGEST + 1)
    if len(data) > items.LARGEST:
        raise TooLarge
    whole = blocks(data)
    article = _article(data)
    title = _title(data) or name
    # An extract that leaves most of a page out has taken the chapters of a book for something else.
    kept = article if len(article) >= _LEAST * len(whole) else whole
    yield Text(name, title, kept)


def blocks(data: bytes) -> str:
    """All text of a page, a paragraph for each block of it."""
    tree = _parsed(data)
    if tree is None:
        return ""
    found: list[str] = []
    line: list[str] = []

    def end_block() -> None:
        text = " ".join("".join(line).split())
        line.clear()
        if text:
            found.append(text)

    for event, element in _walk(tree):
        tag = element.tag if isinstance(element.tag, str) else ""
        if event == "start":
            if tag in _BLOCKS:
                end_block()
            elif tag == "br":
                line.append(" ")
            line.append(element.text or "" if tag else "")
        else:
            if tag in _BLOCKS:
                end_block()
            line.append(element.tail or "")
    end_block()
    return "\n\n".join(found)


def _walk(tree: Any) -> Iterator[tuple[str, Any]]:
    """Starts and ends of elements, without recursion; of what is skipped only the end."""
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
    """The page as it says that it is encoded; else as text, by the rules for all text."""
    from llm60_jax.data.read import plain

    if re.search(rb"(charset|encoding)\s*=", data[:4096], re.IGNORECASE):
        return data
    decoded = plain.decode(data)
    if decoded is None:
        raise Unreadable
    return decoded[0]


@functools.cache
def _settings() -> Any:
    """Short pages are read like long ones, and not by the library's last resort, which runs all text together."""
    from trafilatura.settings import use_config

    settings = use_config()
    settings.set("DEFAULT", "MIN_EXTRACTED_SIZE", "1")
    return settings


def _article(data: bytes) -> str:
    import trafilatura

    found: str | None = trafilatura.extract(
        _with_charset(data),
        favor_recall=True,
        include_comments=False,
        include_tables=False,
        include_formatting=False,
        deduplicate=False,
        config=_settings(),
    )
    return "\n\n".join(line for line in (found or "").split("\n") if line.strip())


def _title(data: bytes) -> str:
    tree = _parsed(data)
    return "" if tree is None else " ".join((tree.findtext(".//title") or "").split())
