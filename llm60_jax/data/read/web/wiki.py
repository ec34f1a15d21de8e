"""Wikipedia dumps: wikitext in XML, usually compressed with bzip2, in one stream or many."""

import html
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.parsers import expat

from llm60_jax.data.read import layout, plain
from llm60_jax.data.read.items import Broken, Document, Unreadable
from llm60_jax.data.read.layout import Block
from llm60_jax.data.read.web import templates

_MAX_PAGE_CHARACTERS = 4 * 2**20  # of wikitext
_ARTICLE_NAMESPACES = ("", "0")  # "" if the dump does not name namespaces
_HEADING = re.compile(r"^(=+)\s*(.*?)\s*=+\s*$", re.MULTILINE)
# Sections without prose.
_ASIDE = frozenset(
    [
        "references", "external links", "see also", "further reading", "notes", "bibliography", "sources", "footnotes",
        "citations", "notes and references", "references and notes", "works cited", "gallery", "discography",
        "filmography", "publications", "selected works", "literature",
    ]
)  # fmt: skip
_TABLE = re.compile(r"^[:* ]*\{\|(?:(?!^[:* ]*\{\|).)*?^\s*\|\}", re.MULTILINE | re.DOTALL)
_COMMENT = re.compile(r"<!--.*?(?:-->|\Z)", re.DOTALL)
_SILENT_TAGS = frozenset(
    "ref references gallery math chem timeline score syntaxhighlight source code pre imagemap table hiero graph "
    "mapframe section templatestyles".split()
)
_NOT_PROSE = re.compile(r"^\s*:?\s*(?:file|image|media|category|[a-z]{2,3}(?:-[a-z]+)?)\s*:", re.IGNORECASE)
_FILE = re.compile(r"(?:file|image|media|category)\s*:", re.IGNORECASE)
_MAX_TABLE_DEPTH = 20
_MAX_NESTING = 20  # templates and links
_PAIRED = re.compile(r"\{\{|\}\}|\[\[|\]\]|</?(?P<tag>[A-Za-z][A-Za-z0-9]{0,30})\b[^<>]{0,1000}>")
_OPENED = str.maketrans("}]", "{[")
_SINGLE_TAGS = frozenset("br hr wbr meta link img li dt dd th td tr".split())
_TABLE_START = re.compile(r"^[:* ]{0,20}\{\|", re.MULTILINE)  # of a table that does not end
_OPEN_TAG = re.compile(r"<(?![^<>]{1,1000}>)")  # a sign, no tag
# Signs that stand for something until the text is cut into blocks; text that has them loses them.
_ITEM, _STANZA, _LINE = "\ufdd1", "\ufdd2", "\u2028"
_RESERVED = re.compile("[\ufdd0-\ufdd2\u2028]")
_ITEM_MARK = re.compile(r"([*#:;]{0,20}[*#])[ \t]*")
_ITEM_TEXT = re.compile(r" *(?:- |\d{1,9}\. )")
_UNKNOWN_IN_BRACKET = re.compile(f"(?<=[(;,])[^(),;]{{0,100}}{templates.UNKNOWN}[^(),;]{{0,100}}(?=[),;])")
_UNKNOWN_AS_NOTE = re.compile(f'(?<=[.!?,;:"\u201d)])\\s?{templates.UNKNOWN}')
# What a removed template leaves: signs without words between them.
_LEFTOVERS = (
    (re.compile(r"([(\[])[\s,;:\u2013-]{1,20}(?=[^\s,;:\u2013-])"), r"\1"),
    (re.compile(r"[\s,;:]{1,20}([)\]])"), r"\1"),
    (re.compile(r"\s?\((?:\s?(?:pronounced|pronunciation|IPA|listen):?){0,2}\s?\)|\s?\[\s?\]"), ""),
    (re.compile(r"(?<=\w)\s{1,9}([,;:.!?])(?=\s|$)"), r"\1"),
    (re.compile(r"([,;:])(?:\s{0,3}[,;:]){1,9}(?=\s|$)"), r"\1"),
    (re.compile(r"[,;:]\s{0,3}([.!?])(?=\s|$)"), r"\1"),
    (re.compile(r"\bISBN:?\s{0,3}(?:\d[\s-]?){9,13}[\dX]?\b"), ""),
)
_QUOTES = re.compile(r"'{2,5}")
_MAGIC = re.compile(r"__[A-Z]{3,20}__")


def dump(path: Path, name: str) -> Iterator[Document | Broken]:
    """Yield the prose of each article of a dump.

    Templates, tables, references, files and categories are removed. Redirects and pages outside the
    article namespace are skipped.
    """
    pages = _Pages(name)
    with plain.opened(path) as file:
        try:
            while block := file.read():
                pages.feed(block)
                yield from pages.take()
            pages.feed(b"", last=True)
        except expat.ExpatError:
            raise Unreadable from None
    yield from pages.take()


def prose(wikitext: str) -> str:
    """Return an article's paragraphs, separated by blank lines. List items begin with "- ".

    Templates give the words that a reader sees in their place (`templates`). A sentence or bracket
    with a template that cannot be read goes.
    """
    import mwparserfromhell

    text = _without_asides(_COMMENT.sub("", _RESERVED.sub("", wikitext)))
    for _ in range(_MAX_TABLE_DEPTH):  # nested tables, from the inside out
        before, text = text, _TABLE.sub("", text)
        if before == text:
            break
    code = mwparserfromhell.parse(_with_items(_balanced(text)), skip_style_tags=True)
    plain_text = html.unescape(_MAGIC.sub("", _QUOTES.sub("", _rendered(code))))
    return layout.joined(_blocks(plain_text))


def _balanced(text: str) -> str:
    """Remove marks that open or close nothing, or nest too deeply: they cost the parser much time."""
    text = _OPEN_TAG.sub("&lt;", _TABLE_START.sub("", text))
    opened: dict[str, list[re.Match[str]]] = {}
    removed: list[re.Match[str]] = []
    for mark in _PAIRED.finditer(text):
        kind = (mark.group("tag") or mark.group().translate(_OPENED)).lower()
        if kind in _SINGLE_TAGS or mark.group().endswith("/>"):
            continue
        waiting = opened.setdefault("marks" if mark.group("tag") is None else kind, [])
        if mark.group() in ("{{", "[[") or (mark.group("tag") and not mark.group().startswith("</")):
            waiting.append(mark)
        elif waiting and (mark.group("tag") or waiting[-1].group() == kind):
            first = waiting.pop()
            if len(waiting) >= _MAX_NESTING:
                removed += [first, mark]
        else:
            removed.append(mark)
    removed += (mark for waiting in opened.values() for mark in waiting)
    parts: list[str] = []
    start = 0
    for mark in sorted(removed, key=re.Match.start):
        parts.append(text[start : mark.start()])
        start = mark.end()
    return "".join([*parts, text[start:]])


def _with_items(text: str) -> str:
    """Write items of lists as "- " and "1. ", each with a sign before it that text lacks."""
    counts: dict[int, int] = {}
    lines = text.split("\n")
    for i, line in enumerate(lines):
        match = _ITEM_MARK.match(line)
        if match is None:
            counts.clear()
            continue
        level = len(match.group(1)) - 1
        number = counts.get(level, 0) + 1 if match.group(1).endswith("#") else 0
        counts = {place: count for place, count in counts.items() if place < level} | {level: number}
        lines[i] = _ITEM + layout.item_mark(level, number) + line[match.end() :]
    return "\n".join(lines)


def _rendered(code: Any) -> str:
    """Return the text of parsed wikitext. The parser bounds the depth of nesting."""
    parts: list[str] = []
    for node, after in itertools.pairwise([*([] if code is None else code.nodes), None]):
        at_start = not "".join(parts[-4:]).rpartition("\n")[2].strip()
        parts.append(_node_text(node, "" if after is None else str(after), at_start))
    return "".join(parts)


def _node_text(node: Any, after: str, at_start: bool) -> str:
    """Return the text of a node.

    Args:
      after: the wikitext of the next node.
      at_start: whether the node begins a line.
    """
    from mwparserfromhell import nodes

    if isinstance(node, nodes.Text):
        return str(node.value)
    if isinstance(node, nodes.Template):
        return _template_text(node, after, at_start)
    if isinstance(node, nodes.Wikilink):
        return _link_text(node)
    if isinstance(node, nodes.Tag):
        return _tag_text(node)
    if isinstance(node, nodes.ExternalLink):
        return _rendered(node.title) if node.brackets else str(node.url)
    if isinstance(node, nodes.HTMLEntity):
        return str(node.normalize() or "")
    return ""


def _template_text(node: Any, after: str, at_start: bool) -> str:
    places: list[str] = []
    names: dict[str, str] = {}
    for parameter in node.params:
        value = _rendered(parameter.value).strip()
        key = str(parameter.name).strip()
        if not parameter.showkey or key == str(len(places) + 1):
            places.append(value)
        else:
            names[key.lower()] = value
    title = _rendered(node.name)
    text = templates.text_of(title, templates.Arguments(places, names))
    if templates.name_of(title) in templates.QUOTES and text:
        lines = text.strip().replace("\n\n", _STANZA).replace("\n", _LINE).replace(_STANZA, "\n\n")
        return f"\n\n{lines}\n\n" if at_start or "\n" in text else f" {text} "
    if at_start and not templates.is_known(title):
        # A box or a notice above a paragraph, unless the line goes on like a sentence.
        return text if re.match(r" [a-z(]|['\u2019,]", after) and text != templates.UNKNOWN else ""
    return text


def _link_text(node: Any) -> str:
    title, text = str(node.title).strip(), _rendered(node.text).strip() if node.text else ""
    is_link = title.startswith(":")  # to a file, category or other language, as part of the text
    if _NOT_PROSE.match(title.lstrip(":")):
        is_file = _FILE.match(title) is not None
        return text if (is_link or not is_file) and text else ""
    return text or title.lstrip(":").partition("#")[0].rpartition(":")[2] if ":" in title[:12] else text or title


def _tag_text(node: Any) -> str:
    tag = str(node.tag).strip().lower()
    if node.wiki_markup and tag != "table":
        return f"{node.wiki_markup}{_rendered(node.contents)}"
    if tag in _SILENT_TAGS:
        return ""
    if tag == "br":
        return _LINE
    text = _rendered(node.contents)
    if tag == "poem":
        return "\n\n" + text.strip().replace("\n\n", _STANZA).replace("\n", _LINE).replace(_STANZA, "\n\n") + "\n\n"
    if tag == "li":
        return f"\n{_ITEM}- {text.strip()}\n"
    return f"\n\n{text}\n\n" if tag in ("p", "div", "blockquote", "center", "ul", "ol") else text


def _blocks(text: str) -> Iterator[Block]:
    """Yield the blocks of an article: a paragraph ends at a blank line, an item at its line."""
    part: list[str] = []
    for line in [*text.split("\n"), ""]:
        own_line = line.startswith((_ITEM, ":", ";", " "))
        if part and (own_line or not line.strip()):
            yield from _paragraphs(" ".join(part))
            part = []
        if line.startswith(_ITEM):
            mark = _ITEM_TEXT.match(line[1:])
            if mark and (item := tidied(" ".join(line[1 + mark.end() :].replace(_LINE, " ").split()))):
                yield Block(mark.group() + item, "item", group=1)
        elif own_line:
            yield from _paragraphs(line.lstrip(":; "))
        elif line.strip():
            part.append(line)


def _paragraphs(text: str) -> Iterator[Block]:
    lines = [tidied(line) for line in text.replace(_ITEM, "").split(_LINE)]
    yield from map(Block, layout.paragraphs(lines))


def tidied(text: str) -> str:
    """Remove what templates without text leave behind: sentences, brackets, signs without words."""
    if templates.UNKNOWN in text:
        text = _UNKNOWN_IN_BRACKET.sub("", text)  # the part of it between commas
        text = _UNKNOWN_AS_NOTE.sub("", text)
        sentences = re.split(r"(?<=[.!?])\s+(?=[\"'\u201c(]?[A-Z])", text)
        text = " ".join(sentence for sentence in sentences if templates.UNKNOWN not in sentence)
    for _ in range(3):  # a bracket that is emptied can empty the one around it
        for pattern, replacement in _LEFTOVERS:
            text = pattern.sub(replacement, text)
    return " ".join(text.split())


def _without_asides(text: str) -> str:
    """Remove headings and the sections without prose."""
    parts, start, aside = [], 0, 0
    for heading in _HEADING.finditer(text):
        if not aside:
            parts.append(text[start : heading.start()])
        level, title = len(heading.group(1)), heading.group(2).lower().strip(" '")
        if not aside or level <= aside:
            aside = level if title in _ASIDE else 0
        start = heading.end()
    if not aside:
        parts.append(text[start:])
    return "\n\n".join(parts)


class _Pages:
    """A parser of a stream of XML that holds one page at a time."""

    def __init__(self, name: str):
        self._file, self._number = name, 0
        self._done: list[Document | Broken] = []
        self._fields: dict[str, list[str]] = {}
        self._size = 0
        self._field = ""
        self._parser = expat.ParserCreate()
        self._parser.buffer_text = True
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._text
        self._parser.EntityDeclHandler = self._refuse

    def feed(self, block: bytes, last: bool = False) -> None:
        self._parser.Parse(block, last)

    def take(self) -> list[Document | Broken]:
        """Return the articles finished since the last call."""
        done, self._done = self._done, []
        return done

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        if tag == "page":
            self._fields, self._size = {}, 0
        elif tag == "redirect":
            self._fields["redirect"] = []
        self._field = tag if tag in ("title", "ns", "text") else ""
        if self._field:
            self._fields[self._field] = []  # the last of several revisions counts

    def _text(self, data: str) -> None:
        if self._field and self._size <= _MAX_PAGE_CHARACTERS:
            self._size += len(data)
            self._fields[self._field].append(data)

    def _end(self, tag: str) -> None:
        self._field = ""
        if tag == "page":
            self._finish({field: "".join(parts) for field, parts in self._fields.items()})

    def _finish(self, fields: dict[str, str]) -> None:
        text = fields.get("text", "")
        is_article = fields.get("ns", "").strip() in _ARTICLE_NAMESPACES
        if not is_article or "redirect" in fields or text[:9].upper() == "#REDIRECT":
            return
        self._number += 1
        where = f"{self._file}:{self._number}"
        title = " ".join(fields.get("title", "").split())
        if self._size > _MAX_PAGE_CHARACTERS:
            self._done.append(Broken(where, "too_large"))
        else:
            self._done.append(Document(where, title or where, prose(text)))

    def _refuse(self, *declaration: object) -> None:
        raise Unreadable
