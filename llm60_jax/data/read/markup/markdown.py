"""Markdown as its tools write it: GitHub, Jekyll, Hugo, Obsidian, Notion, Pandoc and their kin."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from markdown_it.common.utils import normalizeReference

from llm60_jax.data.clean import cleaning
from llm60_jax.data.read import plain
from llm60_jax.data.read.items import Broken, Document
from llm60_jax.data.read.markup import blocks, front_matter, markdown_blocks

_PART_CHARACTERS = 100_000  # the parser reads so much at a time
_LARGEST_CODE = 10  # parts
_LONGEST_COMMENT = 500  # lines
_LONGEST_FORMULA = 60  # lines
_FENCE = re.compile(r"[ \t>]*(?:(?:[-*+]|\d{1,9}[.)])[ \t]+)?(`{3,}(?=[^`]*$)|~{3,})")
_CLOSING_FENCE = re.compile(r"[ \t>]*(`{3,}|~{3,})[ \t]*$")
# Comments and templates that may go on for several lines, and where they end.
_SPANS = (
    ("{% comment %}", "{% endcomment %}"), ("{%", "%}"), ("{{", "}}"), ("{/*", "*/}"), ("%%", "%%"), ("<%", "%>"),
    ("<!--", "-->"), (":LOGBOOK:", ":END:"), (":PROPERTIES:", ":END:"),
)  # fmt: skip
# The tags of Jekyll and Hugo around code.
_CODE_TAG = re.compile(r"\s*\{[%{][<%-]?\s*(?:/\s*|end)?(?:highlight|codeblock|mermaid|code)\b[^{}]{0,300}[%}]\}\s*$")
_FENCED = "~~~~~~"
_DEFINITION = re.compile(r" {0,3}\[(?!\^)([^\]\n]{1,200})\]:[ \t]+(<?\S{1,2000}>?)[ \t]*(?:[\"'(].*)?$")
_ADDRESS = re.compile(r"[/#@<]|\.\w")
_DIV = re.compile(r"[ \t]{0,8}:{3,}[ \t]*(?:\{[^}]*\}|[\w-]+)?[ \t]*(.*)$")
_ADMONITION = re.compile(
    r"(?:!!!|\?\?\?\+?) +(?:note|abstract|info|tip|success|question|warning|failure|danger|bug|example|quote)"
    r"(?: [\w ]{1,40})?(?: +\"(.*)\")?\s*$"
)
# Lines that no reader of the page sees: attributes, names of blocks, abbreviations, fields, commands of TeX.
_UNSEEN = re.compile(
    r"\s*(?:\{:[^}]*\}|\^[\w-]{1,60}|\[(?:TOC|toc)\]|\{\{TOC\}\}"
    r"|(?:SCHEDULED|DEADLINE): <[^<>]{1,60}>"
    r"|\\(?:newpage|pagebreak|clearpage|tableofcontents|noindent)|\*\[[^\]]{1,100}\]: .*"
    r"|(?=.{0,300}(?:<<|>>|[\u2190\u2192\u00ab\u00bb]))(?:(?:<<|>>|[\u2190\u2192\u00ab\u00bb|]|\[\[[^\[\]]{1,100}\]\])\s{0,4}){2,9}"
    r"|(?:[-*] )?(?:#\+(?:BEGIN|END)_\w{1,20}|(?:\*\*)?[a-zA-Z][\w /-]{0,40}::(?:\*\*)? .*|[a-z-]{1,20}::))\s*$"
)
_TOC_MARK = re.compile(r"\s*\{:\s?toc\b[^}]*\}\s*$")
_MDX = re.compile(
    r"(?:import\s(?:.{0,500}\sfrom\s+)?['\"][^'\"]+['\"];?|export (?:const|default|function|let)\b.*)\s*$"
)
_EXAMPLE = re.compile(r"\(@[\w-]{0,40}\)[ \t]+(?=\S)")  # an item of Pandoc, numbered through the whole text
_ITEM = re.compile(r"\s*(?:[-*+]|\d{1,9}[.)])\s")
_BEAR_TAG = re.compile(r"#[^\s#][^#\n]{0,60}[^\s#]#(?=\s|$)")
_DEEP_QUOTE = re.compile(r"(?:[ \t]{0,3}>){9,}")
_DATA = re.compile(r"data:[\w/+.-]{1,60};base64,[\w+/=%-]*")  # a picture inside the text
_NOTION_FILE = re.compile(r"[ _-][0-9a-f]{32}\.\w+$")


def read(path: Path, name: str) -> Iterator[Document | Broken]:
    """Yield a file of Markdown as plain text.

    Front matter, links, images, comments and the marks of other tools are left out. The title is
    that of the front matter, else the first heading of the first level, else the file's name.
    """
    for number, item in enumerate(plain.text(path, name)):
        if isinstance(item, Broken):
            yield item
            continue
        title, text = convert(item.text, first=number == 0, notion=_NOTION_FILE.search(name) is not None)
        yield item._replace(title=(title if number == 0 else "") or item.title, text=text)


def convert(markdown: str, first: bool = True, notion: bool = False) -> tuple[str, str]:
    """Return the title, "" if there is none, and the plain text of Markdown.

    Args:
      first: whether the file begins with this text.
      notion: whether it is an export of Notion, so that properties may stand below the title.
    """
    markdown = _DATA.sub("x.png", blocks.unmarked(markdown))
    lines = markdown.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    title = ""
    if first:
        title, lines = front_matter.without_front_matter(lines)
        lines = front_matter.without_trailer(front_matter.without_properties(lines, notion))
    lines, references = _prepared(lines)
    reading = markdown_blocks.Reading(references)
    for part in _parts(lines):
        reading.read(part)
    return title or reading.title, reading.text()


# What tools other than Markdown read


def _prepared(lines: list[str]) -> tuple[list[str], dict[str, Any]]:
    """Return lines that hold nothing but Markdown, and the definitions of links among them."""
    lines = [_FENCED if _CODE_TAG.match(line) else line for line in lines]
    kinds = _kinds(lines)
    prepared: list[str] = []
    references: dict[str, Any] = {}
    number = 0
    while number < len(lines):
        line = lines[number]
        if kinds[number] != "prose":
            prepared += [line] if kinds[number] == "code" else []
            number += 1
        elif line.strip() == "$$" and (end := _formula(lines, number)):
            prepared += ("~~~math-block", *lines[number + 1 : end], "~~~")
            number = end + 1
        elif _begins_paragraph(lines, number):
            prepared += ("", line.lstrip())
            number += 1
        elif match := _ADMONITION.match(line):
            number += 1
            _dedent(lines, number)
            prepared += ("", match[1] or "", "")
        else:
            line, number = _without_comment(lines, number)
            _prepare(line, prepared, references)
    return prepared, references


def _kinds(lines: list[str]) -> list[str]:
    """Return for each line whether it is prose, code, or the fence of code that never ends."""
    longest = {"`": 0, "~": 0}  # of the closing fences from here on
    after: list[tuple[int, int]] = []
    for line in reversed(lines):
        after.append((longest["`"], longest["~"]))
        if match := _CLOSING_FENCE.match(line):
            longest[match[1][0]] = max(longest[match[1][0]], len(match[1]))
    kinds: list[str] = []
    fence = ""  # the open one
    for line, (ticks, tildes) in zip(lines, reversed(after), strict=True):
        if fence:
            kinds.append("code")
            closing = _CLOSING_FENCE.match(line)
            if closing and closing[1].startswith(fence):
                fence = ""
        elif match := _FENCE.match(line):
            closed = len(match[1]) <= (ticks if match[1][0] == "`" else tildes)
            fence = match[1] if closed else ""
            kinds.append("code" if closed else "stray")
        else:
            kinds.append("prose")
    return kinds


def _begins_paragraph(lines: list[str], number: int) -> bool:
    """Whether a line is indented as the first of a paragraph of prose, not as code or in a list."""
    line, after = lines[number], "".join(lines[number + 1 : number + 2])
    if not line.startswith(("    ", "\t")) or after[:1] in ("", " ", "\t", "-", "*", "+", "#", "`", "~", ">", "|"):
        return False
    above = lines[max(number - 3, 0) : number]
    before = next((text for text in reversed(above) if text.strip()), "")
    inside = before.startswith((" ", "\t", "[^")) or _ITEM.match(before) is not None
    return not inside and not (above and above[-1] and _ITEM.match(after)) and blocks.may_be_prose(line)


def _formula(lines: list[str], number: int) -> int:
    """Return where a formula ends that begins at a line; 0 if it does not end soon."""
    ends = range(number + 1, min(len(lines), number + _LONGEST_FORMULA))
    return next((end for end in ends if lines[end].strip() == "$$"), 0)


def _dedent(lines: list[str], number: int) -> None:
    """Take the indentation off the lines of an admonition."""
    while number < len(lines) and (not lines[number].strip() or lines[number].startswith(("    ", "\t"))):
        lines[number] = lines[number][1 if lines[number].startswith("\t") else 4 :]
        number += 1


def _without_comment(lines: list[str], number: int) -> tuple[str, int]:
    """Return a line, or what follows the comment that begins there, and the number of the next.

    A comment that ends on its line stays for the parser. One that never ends loses its mark only.
    """
    line = lines[number]
    for opening, closing in _SPANS:
        start = line.lstrip()
        if not start.startswith(opening):
            continue
        if closing in start[len(opening) :]:
            break
        for end in range(number + 1, min(len(lines), number + _LONGEST_COMMENT)):
            if closing in lines[end]:
                return lines[end].partition(closing)[2], end + 1
        return start[len(opening) :], number + 1
    return line, number + 1


def _prepare(line: str, prepared: list[str], references: dict[str, Any]) -> None:
    """Add a line to `prepared` as Markdown's parser understands it."""
    stripped = line.strip()
    if stripped.startswith(":::") and (match := _DIV.match(line)):
        prepared += ("", match[1].strip("[]"), "")
    elif _is_tags(stripped) or _MDX.match(line):
        prepared.append("")
    elif _TOC_MARK.match(line):
        if prepared and _ITEM.match(prepared[-1]):
            prepared.pop()
    elif match := _EXAMPLE.match(line):
        prepared.append(f"- {line[match.end() :]}")
    elif _UNSEEN.match(line):
        if match := _ITEM.match(line):
            prepared.append(f"{match[0]}<!-- -->")  # an item whose words may follow
    else:
        match = _DEFINITION.match(line)
        if match and _ADDRESS.search(match[2]):
            references.setdefault(normalizeReference(match[1]), {"href": match[2], "title": ""})
            if prepared and prepared[-1].strip() and not _DEFINITION.match(prepared[-1]):
                prepared.append("")  # a definition does not end a paragraph
        elif match:
            line = line.replace("[", "\\[", 1)  # a speaker
        prepared.append(_DEEP_QUOTE.sub("> > > > > > > >", line))


def _is_tags(line: str) -> bool:
    """Whether a line holds nothing but tags: `#river #diary`, or `#two words#` of Bear."""
    if not line.startswith("#"):
        return False
    words = _BEAR_TAG.sub("", line).replace(",", " ").split()
    if len(words) and _BEAR_TAG.match(line):
        return all(word.startswith("#") for word in words)  # a year among them
    return all(map(markdown_blocks.is_tag, words))


def _parts(lines: list[str]) -> Iterator[str]:
    """Yield parts that the parser reads one by one, cut at blank lines outside code where possible."""
    part: list[str] = []
    size = 0
    for line, kind in zip(lines, _kinds(lines), strict=True):
        room = (1 if not line.strip() else 2) if kind == "prose" else _LARGEST_CODE
        if size > room * _PART_CHARACTERS or len(line) > _PART_CHARACTERS:
            yield "\n".join(part)
            part, size = [], 0
        if len(line) > _PART_CHARACTERS:
            yield from cleaning.cut(line, _PART_CHARACTERS)
        else:
            part.append(line)
            size += len(line) + 1
    yield "\n".join(part)
