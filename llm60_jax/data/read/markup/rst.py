"""reStructuredText files, with what Sphinx adds."""

import re
from collections.abc import Iterator
from pathlib import Path

from llm60_jax.data.read.items import Broken, Document
from llm60_jax.data.read.markup import light
from llm60_jax.data.read.markup.blocks import GAP, HELD
from llm60_jax.data.read.markup.light import Page

_DEEPEST = 20  # directives inside directives
_UNDERLINE = re.compile(r"([!-/:-@\[-`{-~])\1+\s*$")
_DIRECTIVE = re.compile(r"\.\. (?:\|([^|\n]{1,200})\| )?([\w:.+-]+?) ?::(?:\s+(.*))?$")
_EXPLICIT = re.compile(r"\.\.(?:\s+(.*))?$")
_NOTE = re.compile(r"\.\. \[(?:\d+|#[\w-]*|\*)\]\s*(.*)$")
_FIELD = re.compile(r":(?![:\s])[^:\n`]{1,60}:(?:\s|$)")
_ITEM = re.compile(r"(\s*)(?:(?P<bullet>[-*+\u2022])|\(?(?P<number>\d{1,9}|#|[a-zA-Z])[.)])(\s+)(\S.*)$")
_LINE_BLOCK = re.compile(r"\s*\|(?:\s(.*))?$")
_GRID = re.compile(r"\s*\+[-=+]{3,}\+\s*$")
_SIMPLE = re.compile(r"\s*={2,}(?:\s+={2,})+\s*$")
_PROSE = frozenset(
    "note warning tip important hint caution attention danger error admonition epigraph highlights pull-quote compound "
    "container topic sidebar seealso versionadded versionchanged deprecated only rubric centered glossary todo".split()
)
_CODE = frozenset("code code-block sourcecode parsed-literal prompt literalinclude ipython doctest".split())
_LITERAL = re.compile(r"``(.{1,1000}?)``", re.DOTALL)
_ROLE = re.compile(r":[\w:+.-]{1,60}:`([^`]{1,1000})`")
_TARGET = re.compile(r"\s*<[^<>]{0,1000}>$")
_GONE = re.compile(r"\s?\[(?:\d{1,4}|#[\w-]{0,60}|\*|[\w.-]{1,60})\]_(?!\w)|_`")
_PHRASE = re.compile(r"`([^`]{1,1000})`(?:__|_)?")
_STRONG = re.compile(r"(?<!\w)(\*\*|\*)(?=\S)((?:(?!\1).){1,1000}?)(?<=[^\s\\])\1(?!\w)", re.DOTALL)
_SUBSTITUTION = re.compile(r"(?<!\w)\|(?=\S)([^|\n]{1,200})(?<=\S)\|_{0,2}")
_NAMED = re.compile(r"\b([^\W_](?:[\w-]{0,100}[^\W_])?)__?(?![\w])")


def read(path: Path, name: str) -> Iterator[Document | Broken]:
    """Yield a reStructuredText file as plain text: no fields, targets, roles and comments."""
    return light.read(path, name, convert)


def convert(lines: list[str]) -> Page:
    """Return the page that the lines of a reStructuredText file make."""
    substitutions: dict[str, str] = {}
    page = Page(lambda text, page: _inline(text, substitutions))
    _read(lines, page, substitutions, 0)
    return page


def _read(lines: list[str], page: Page, substitutions: dict[str, str], depth: int) -> None:
    number = 0
    while number < len(lines):
        line = lines[number]
        if line.startswith("__ "):
            number += 1
        elif line.startswith(".."):
            number = _explicit(lines, number, page, substitutions, depth)
        elif title := _title(lines, number):
            page.heading(title)
            number += 3 if _UNDERLINE.match(line) else 2
        elif _UNDERLINE.match(line) and len(line.strip()) >= 4:
            page.end()
            number += 1
        else:
            number = _table(lines, number, page) or _line(lines, number, page)


def _title(lines: list[str], number: int) -> str:
    """Return the heading that begins at a line, "" if there is none."""
    line, after = lines[number].rstrip(), lines[number + 1].rstrip() if number + 1 < len(lines) else ""
    if _UNDERLINE.match(line) and after.strip() and lines[number + 2 : number + 3] == [line]:
        return after.strip()
    if not line or line.startswith(" ") or _UNDERLINE.match(line) or not _UNDERLINE.match(after):
        return ""
    return (
        line
        if len(after) >= min(len(line), 4) and (number == 0 or not lines[number - 1].strip() or len(after) >= 4)
        else ""
    )


def _explicit(lines: list[str], number: int, page: Page, substitutions: dict[str, str], depth: int) -> int:
    """Read a directive, a footnote, a target or a comment; return the number of the line after it."""
    line = lines[number]
    page.end()
    end = _end_of_indented(lines, number + 1)
    body = _dedented(lines[number + 1 : end])
    if match := _NOTE.match(line):
        page.note(" ".join([match[1], *body]))
    elif match := _DIRECTIVE.match(line):
        name, argument = match[2].rpartition(":")[2], match[3] or ""
        options = 0
        while options < len(body) and _FIELD.match(body[options]):
            options += 1
        if match[1]:
            substitutions[match[1].lower()] = argument if name == "replace" else ""
        elif name in _CODE:
            page.code(body[options:])
        elif name == "math":
            page.line(f"$$ {' '.join([argument, *body[options:]])} $$")
            page.end()
        elif name in _PROSE and depth < _DEEPEST:
            page.line(argument if not re.fullmatch(r"[\d.]+", argument) and name not in ("only", "container") else "")
            if name in ("admonition", "topic", "sidebar", "rubric"):
                page.end()
            _read(body[options:], page, substitutions, depth + 1)
            page.end()
    return end


def _end_of_indented(lines: list[str], number: int) -> int:
    """Return the first line from `number` on that is neither blank nor indented."""
    while number < len(lines) and (not lines[number].strip() or lines[number].startswith(" ")):
        number += 1
    return number


def _dedented(lines: list[str]) -> list[str]:
    margin = min((light.indent(line) for line in lines if line.strip()), default=0)
    return [line[margin:] for line in lines]


def _table(lines: list[str], number: int, page: Page) -> int:
    """Read a table, and return the number of the line after it; 0 if there is none."""
    line = lines[number]
    if _GRID.match(line):
        while number < len(lines) and lines[number].lstrip()[:1] in ("+", "|") and lines[number].strip():
            if not _GRID.match(lines[number]):
                page.row(lines[number].strip().strip("|").split("|"))
            number += 1
        return number
    if _SIMPLE.match(line):
        starts = [match.start() for match in re.finditer("=+", line)]
        while number < len(lines) and lines[number].strip():
            row = lines[number]
            if not _SIMPLE.match(row) and not _UNDERLINE.match(row):
                page.row([row[start:stop] for start, stop in zip(starts, [*starts[1:], None], strict=True)])
            number += 1
        return number
    return 0


def _line(lines: list[str], number: int, page: Page) -> int:
    """Read one line, and return the number of the next."""
    line = lines[number]
    if not line.strip():
        page.end()
    elif match := _LINE_BLOCK.match(line):
        page.line(match[1], asked=True) if match[1] else page.end()
    elif not page.inside and _FIELD.match(line):
        return _end_of_indented_item(lines, number + 1)
    elif (match := _ITEM.match(line)) and (not page.inside or page.in_item):
        page.item(match[5], "-" if match["bullet"] else f"{match['number']}.", len(match[1]))
    elif line.startswith(">>> "):
        end = number
        while end < len(lines) and lines[end].strip():
            end += 1
        page.code(lines[number:end])
        return end
    else:
        page.outside(line)
        if line.rstrip().endswith("::"):
            return _literal(lines, number, page)
        after = lines[number + 1] if number + 1 < len(lines) else ""
        page.line(line)
        if after.strip() and light.indent(after) > light.indent(line) and not page.in_item:
            page.end()  # a term and its definition
    return number + 1


def _end_of_indented_item(lines: list[str], number: int) -> int:
    """Return the line after the value of a field."""
    while number < len(lines) and lines[number].startswith(" "):
        number += 1
    return number


def _literal(lines: list[str], number: int, page: Page) -> int:
    """Read the last line of a paragraph that announces a literal block, and that block."""
    words = lines[number].rstrip().removesuffix("::")
    if words.strip():
        page.line(words if words.endswith(" ") else f"{words}:")
    margin = light.indent(lines[number])
    page.end()
    end = number + 1
    while end < len(lines) and (not lines[end].strip() or light.indent(lines[end]) > margin):
        end += 1
    if body := _dedented(lines[number + 1 : end]):
        page.code(body)
    return max(end, number + 1)


def _inline(text: str, substitutions: dict[str, str]) -> str:
    """Return the words of a block."""
    literals: list[str] = []

    def kept(match: "re.Match[str]") -> str:
        literals.append(match[1])
        return f"{HELD}{len(literals) - 1}{HELD}"

    def shown(match: "re.Match[str]") -> str:
        return _TARGET.sub("", match[1]).lstrip("~!") or match[1].strip("<> ")

    text = _LITERAL.sub(kept, text)
    text = _GONE.sub(GAP, _ROLE.sub(shown, text))
    text = _PHRASE.sub(shown, text)
    text = _SUBSTITUTION.sub(lambda match: substitutions.get(match[1].lower(), GAP) or GAP, text)
    text = _STRONG.sub(r"\2", text)
    text = _NAMED.sub(r"\1", text)
    text = re.sub(r"\\(?:\s|([^\w\s]))", r"\1", text)
    return re.sub(f"{HELD}(\\d+){HELD}", lambda match: literals[int(match[1])], text)
