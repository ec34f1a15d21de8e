"""HTML and XHTML: the blocks of a page's text."""

import re
from collections.abc import Mapping
from typing import Any

from llm60_jax.data.read import footnotes, layout
from llm60_jax.data.read.layout import Block
from llm60_jax.data.read.web import html_tree

_HEADINGS = frozenset("h1 h2 h3 h4 h5 h6".split())
# Elements that begin a paragraph.
_BLOCKS = _HEADINGS | frozenset(
    "p div li dt dd blockquote section article header footer main aside figure figcaption hr table caption thead tbody "
    "tfoot tr td th ul ol menu dir dl pre listing body title center address details summary fieldset legend hgroup "
    "nav form search".split()
)
# Elements without prose.
_SILENT = frozenset(
    "script style template head select option textarea button input svg math iframe object embed audio video canvas "
    "map dialog rt rp noscript noframes nav".split()
)
_LISTS = frozenset("ul ol menu dir".split())
_ASIDES = frozenset("nav footer aside form".split())
_ASIDE_NAME = re.compile(
    r"(?:respond|replies|sidebar|related|recommend(?:ed|ations)?|newsletter|share|sharing|"
    r"social|promo|breadcrumbs?|menu|navbar|navigation|nav|advert(?:isement)?|ads?|sponsor(?:ed)?|footer|popup|modal|"
    r"subscribe|subscription|widget|trending|teasers?|author-bio)(?:[-_\d]|$)",
    re.IGNORECASE,
)
_COMMENTS_NAME = re.compile(r"(?:comments?|commentlist|disqus)(?:[-_\d]|$)", re.IGNORECASE)
_VERSE_NAME = re.compile(
    r"(?:z3998:)?(?:verse|poem|poetry|stanza|linegroup|lg|song|hymn|lyrics)(?:[-_\d]|$)", re.IGNORECASE
)
_NOTES = frozenset("footnote footnotes endnote endnotes rearnote rearnotes".split())
_NOTE_NAME = re.compile(r"(?:footnotes?|endnotes?|fnlist|footnote-definition)$", re.IGNORECASE)
_NUMBER_NAME = re.compile(r"(?:lnum|linenum|linenumber|line-number|ln|pagenum|pageno|page-number|pb)$", re.IGNORECASE)
_NOTE_START = re.compile(r"(?:\[?\(?(?:\d{1,4}|[*\u2020\u2021])[\])]?[.:]?|\[?Footnote [\dA-Z]{1,4}:)\s{1,3}")
# A reference to a note, and the way back from it.
_NOTE_MARK = re.compile(r"[\[(]?(?:\d{1,4}|[*\u2020\u2021\u00a7]{1,3}|[a-z]|[ivx]{1,6})[\])]?$")
_LONGEST_NOTE_MARK = 8  # characters
_NOTE_TARGET = re.compile(r"#_?(?:fn|ftnt?|footnote|endnote|edn)[-_:]?\w{1,40}$", re.IGNORECASE)
_EDITORS_COMMENT = re.compile(r"cmnt\d{1,6}$")  # below a document of Google Docs
_BACK = re.compile(r"[\u21a9\u2191\u23ce\u21b5\ufe0e\ufe0f^]{1,4}$")
_CODE_NAME = re.compile(r".{0,40}(?:highlight|code|language-)", re.IGNORECASE)
_WORD = re.compile(r"[^\W\d_]")
_SPACE = re.compile(r"[ \t\r\n\f]+")
_WORD_LIST = re.compile(r"mso-list:\s{0,9}l\d{1,4}\s{1,9}level(\d)", re.IGNORECASE)


def blocks_of(tree: Any, skip: frozenset[str] = frozenset()) -> list[Block]:
    """Return the blocks of a tree, and after them the notes that hold a sentence.

    Args:
      skip: types of an e-book's parts (`types_of`) that are left out.
    """
    blocks = list(layout.stanzas(_Reader(tree, skip).blocks()))
    notes = [block for block in blocks if block.kind == "note" and footnotes.says_something(block.text)]
    return [block for block in blocks if block.kind != "note"] + notes


class _Open:
    """An open block element."""

    def __init__(self, element: Any, tag: str, number: int, is_aside: bool):
        self.tag, self.number = tag, number
        self.is_aside = is_aside
        types = html_tree.types_of(element)
        self.is_note = not types.isdisjoint(_NOTES) or html_tree.is_named(element, _NOTE_NAME)
        self.is_verse = html_tree.is_named(element, _VERSE_NAME) or any(map(_VERSE_NAME.match, types))


class _List:
    """An open list."""

    def __init__(self, group: int, ordered: bool, start: int):
        self.group, self.ordered, self.number = group, ordered, start


class _Reader:
    """Walks a tree, without recursion, and collects its blocks."""

    def __init__(self, tree: Any, skip: frozenset[str]):
        self._tree, self._skip, self._sizes = tree, skip, html_tree.sizes_of(tree)
        self._blocks: list[Block] = []
        self._parts: list[str] = []  # of the present block
        self._linked = 0  # characters of the present block that stand in links
        self._links = self._asides = self._count = 0
        self._open: list[_Open] = []
        self._lists: list[_List] = []
        self._mark = ""  # of the item that the next block begins

    def blocks(self) -> list[Block]:
        stack = [(self._tree, False)]
        while stack:
            element, ended = stack.pop()
            tag = html_tree.tag_of(element)
            if ended:
                self._end(element, tag)
            elif tag and self._start(element, tag):
                self._add(element.text)
                stack.append((element, True))
                stack.extend((child, False) for child in reversed(element))
                continue
            if element is not self._tree:
                self._add(element.tail)
        self._flush()
        return self._blocks

    def _add(self, text: str | None) -> None:
        if text:
            text = _SPACE.sub(" ", text)
            self._parts.append(text)
            self._linked += len(text) if self._links else 0

    def _start(self, element: Any, tag: str) -> bool:
        """Begin an element. Return False if its content is not to be read."""
        if tag in _BLOCKS:
            self._flush()
        if self._is_left_out(element, tag):
            return False
        if tag in ("pre", "listing"):
            self._preformatted(element)
            return False
        if tag == "br":
            self._parts.append("\n")
        elif tag == "sup" and (digits := "".join(element.itertext()).strip()) and not digits.strip("0123456789+-"):
            self._parts.append(layout.power("".join(self._parts[-3:]), digits))
            return False
        elif tag == "q":
            self._parts.append("\u201c")
        self._links += tag == "a" and element.get("href") is not None
        if tag in _BLOCKS:
            self._count += 1
            self._open.append(_Open(element, tag, self._count, self._is_aside(element, tag)))
            self._asides += self._open[-1].is_aside
            self._begin_item(element, tag)
        return True

    def _end(self, element: Any, tag: str) -> None:
        if tag in _BLOCKS:
            self._flush()
            self._asides -= self._open.pop().is_aside
            if tag in _LISTS:
                self._lists.pop()
            if tag == "li" or not self._lists:
                self._mark = ""
        elif tag == "q":
            self._parts.append("\u201d")
        self._links -= tag == "a" and element.get("href") is not None

    def _begin_item(self, element: Any, tag: str) -> None:
        if tag in _LISTS:
            start = element.get("start") or ""
            first = int(start) if start.isascii() and start.isdigit() and len(start) < 7 else 1
            self._lists.append(_List(self._count, tag == "ol", first))
        elif tag == "li":
            level, inner = len(self._lists) - 1, self._lists[-1] if self._lists else None
            self._mark = layout.item_mark(max(level, 0), inner.number if inner and inner.ordered else 0)
            if inner:
                inner.number += 1
        elif match := _WORD_LIST.search(element.get("style") or ""):  # a list saved by Word
            self._mark = layout.item_mark(int(match.group(1)) - 1)

    def _is_left_out(self, element: Any, tag: str) -> bool:
        if tag in _SILENT:
            # A menu that holds most of a page is none.
            return tag != "nav" or 2 * self._sizes[element] <= self._sizes[self._tree]
        if tag == "table":
            return not _is_layout(element, self._sizes)
        if tag in ("div", "p") and _is_editors_comment(element):
            return True
        types = html_tree.types_of(element)
        if types & {"pagebreak", "noteref", "backlink"} or types & self._skip:
            return True
        if tag in ("a", "sup"):
            return self._sizes[element] <= _LONGEST_NOTE_MARK and _is_note_mark(element, tag)
        if self._sizes[element] < 16 and html_tree.is_named(element, _NUMBER_NAME):
            return True  # the number of a line or page
        return tag == "span" and "mso-list:ignore" in (element.get("style") or "").lower().replace(" ", "")

    def _is_aside(self, element: Any, tag: str) -> bool:
        if tag in ("html", "body", "main", "article"):
            return False
        # Comments can be most of a page; what else is most of it is no aside.
        if html_tree.is_named(element, _COMMENTS_NAME):
            return True
        is_aside = tag in _ASIDES or html_tree.is_named(element, _ASIDE_NAME)
        return is_aside and 2 * self._sizes[element] <= self._sizes[self._tree]

    def _preformatted(self, element: Any) -> None:
        for child in element.iter():
            if html_tree.tag_of(child) == "br":
                child.tail = "\n" + (child.tail or "")
        named = any(html_tree.is_named(each, _CODE_NAME) for each in (element, element.getparent()) if each is not None)
        known = named or any(html_tree.tag_of(child) == "code" for child in element)
        self._blocks += (
            block._replace(aside=self._asides > 0)
            for block in layout.preformatted("".join(element.itertext()), code=known)
        )

    def _flush(self) -> None:
        """End the present block."""
        text, linked = "".join(self._parts), self._linked
        self._parts.clear()
        self._linked = 0
        if not text.strip():
            return
        verse = any(block.is_verse for block in self._open[-2:])
        for part in layout.paragraphs(text.split("\n"), verse):
            kind, group = self._kind(part)
            if kind == "note":
                part, self._mark = _NOTE_START.sub("", part, count=1), ""
            elif self._mark and kind != "heading":
                kind, group = "item", self._lists[0].group if self._lists else -1
                part, self._mark = self._mark + part.replace("\n", " "), ""
            if kind != "item" or _WORD.search(part):
                self._blocks.append(Block(part, kind, group, linked, self._asides > 0))
            linked = 0

    def _kind(self, text: str) -> tuple[str, int]:
        """Return (kind, group) of the present block."""
        if any(block.is_note for block in self._open):
            return "note", 0
        tags = [block.tag for block in self._open[-3:]]
        if not _HEADINGS.isdisjoint(tags):
            return "heading", 0
        if "figcaption" in tags or "caption" in tags:
            return "caption", 0
        parent = self._open[-2] if len(self._open) > 1 else None
        if parent is not None and parent.is_verse and "\n" not in text and len(text) <= 100:
            return "line", parent.number
        return "text", 0


def _is_note_mark(element: Any, tag: str) -> bool:
    """Whether an element refers to a note or leads back from it."""
    text = "".join(element.itertext()).strip()
    if tag == "a":
        target = element.get("href") or ""
        inside = element.getparent()
        raised = inside is not None and html_tree.tag_of(inside) == "sup"
        return target.startswith("#") and bool(
            _BACK.match(text) or ((text[:1] == "[" or raised or _NOTE_TARGET.match(target)) and _NOTE_MARK.match(text))
        )
    linked = next((child for child in element.iter() if html_tree.tag_of(child) == "a"), None)
    return bool(_NOTE_MARK.match(text)) and (linked is not None or not text.isdigit())


def _is_layout(table: Any, sizes: Mapping[Any, int]) -> bool:
    """Whether a table only places text on a page: most of it stands in long cells."""
    size, long = sizes[table], 0
    stack = list(table)
    while stack:
        element = stack.pop()
        tag = html_tree.tag_of(element)
        if tag in ("td", "th"):
            long += sizes[element] if sizes[element] >= layout.LONG_CELL else 0
        elif tag:
            stack.extend(element)
    return table.get("role") == "presentation" or 2 * long > size


def _is_editors_comment(element: Any) -> bool:
    """Whether an element begins with the anchor of a comment that somebody wrote on a document."""
    first = element
    for _ in range(2):
        first = first[0] if len(first) and not (first.text or "").strip() else None
        if first is None:
            return False
        if html_tree.tag_of(first) == "a":
            return _EDITORS_COMMENT.match(first.get("id") or "") is not None
    return False
