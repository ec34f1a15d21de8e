"""Wikipedia dumps: wikitext in XML, usually compressed with bzip2, in one stream or many."""

import html
import re
from collections.abc import Iterator
from pathlib import Path
from xml.parsers import expat

from llm60_jax.data.read import plain
from llm60_jax.data.read.items import Broken, Document, Unreadable

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
    """Return an article's paragraphs, separated by blank lines. List items begin with "- "."""
    import mwparserfromhell
    from mwparserfromhell import nodes

    text = _without_asides(_COMMENT.sub("", wikitext))
    before = ""
    while before != text:  # nested tables, from the inside out
        before, text = text, _TABLE.sub("", text)
    text = re.sub(r"^[*#]+\s*", "- ", text, flags=re.MULTILINE)
    code = mwparserfromhell.parse(text, skip_style_tags=True)
    for node in list(code.nodes):
        silent = isinstance(node, nodes.Tag) and str(node.tag).strip().lower() in _SILENT_TAGS
        aside = isinstance(node, nodes.Wikilink) and _NOT_PROSE.match(str(node.title)) is not None
        if silent or aside or isinstance(node, nodes.Template):
            code.remove(node)
    plain_text = _MAGIC.sub("", _QUOTES.sub("", str(code.strip_code())))
    lines = (" ".join(line.lstrip(":;").split()) for line in html.unescape(plain_text).split("\n"))
    return re.sub(r"\n{2,}(?!- )", "\n\n", "\n".join(_spaced(list(lines)))).strip()


def _spaced(lines: list[str]) -> Iterator[str]:
    """Add a blank line after each paragraph, one line of wikitext, but not inside lists."""
    for line, after in zip(lines, [*lines[1:], ""], strict=True):
        yield line
        if line and not (line.startswith("- ") and after.startswith("- ")):
            yield ""


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
