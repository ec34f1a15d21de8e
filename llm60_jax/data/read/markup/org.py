"""Org files, as Emacs and its kin write them."""

import re
from collections.abc import Iterator
from pathlib import Path

from llm60_jax.data.read.items import Broken, Document
from llm60_jax.data.read.markup import light
from llm60_jax.data.read.markup.blocks import BREAK, GAP
from llm60_jax.data.read.markup.light import Page

_LONGEST_DRAWER = 500  # lines
_HEADING = re.compile(
    r"\*+\s+(?:(?:TODO|DONE|NEXT|WAITING|HOLD|CANCELLED|CANCELED|STARTED|SOMEDAY)\s+)?(?:\[#\w\]\s+)?"
    r"(.*?)\s*(?::[\w@#%]+(?::[\w@#%]+){0,30}:)?\s*$"
)
_KEYWORD = re.compile(r"\s*#\+(\w+)(?:\[[^\]]{0,100}\])?:\s*(.*)$")
_BEGIN = re.compile(r"\s*#\+begin_(\w+)", re.IGNORECASE)
_DRAWER = re.compile(r"\s*:[\w-]+:\s*$")
_DRAWER_END = re.compile(r"\s*:END:\s*$", re.IGNORECASE)
_PLANNING = re.compile(
    r"\s*(?:(?:SCHEDULED|DEADLINE|CLOSED|CLOCK):\s*[\[<].*|#(?:\s.*)?|-{5,}\s*"
    r"|- (?:State \"\w{1,30}\"\s{1,20}(?:from\s.{0,60})?\[|Note taken on \[|Rescheduled from ).*)$"
)
_ITEM = re.compile(r"(?:\s*(?P<bullet>[-+])|\s+(?P<star>\*)|\s*(?P<number>\d{1,9})[.)])\s+(?:\[[ X-]\]\s+)?(.*)$")
_TABLE = re.compile(r"\s*\|")
_RULE = re.compile(r"\s*\|-[-+|]*\s*$")
_NOTE = re.compile(r"\[fn:([\w-]+)\]\s+(.*)$")
_STAMP = r"\d{4}-\d{2}-\d{2}(?: [^\]>\n]{0,60})?"
_LINK = re.compile(r"\[\[([^\[\]\n]{1,1000})\](?:\[([^\[\]]{1,500})\])?\]")
_NOTE_INSIDE = re.compile(r"\[fn:[\w-]{0,60}:([^\[\]]{1,2000})\]")
_GONE = re.compile(
    rf"\[fn:[\w-]{{1,60}}\]|<{_STAMP}>(?:--<{_STAMP}>)?|\[{_STAMP}\](?:--\[{_STAMP}\])?|<<<?[^<>\n]{{1,200}}>>>?"
    r"|\{\{\{[^{}\n]{0,500}\}\}\}|@@\w+:[^@\n]{0,500}@@|\[cite(?:/[\w/]{1,20})?:[^\[\]]{1,500}\]|\[\d{0,3}(?:/\d{0,3}|%)\]"
)
_VERBATIM = re.compile(r"(?<![^\s\-('\"{])([=~])(?=\S)([^=~\n]{1,300})(?<=\S)\1(?![^\s\-.,;:!?'\")}\]])")
_EMPHASIS = re.compile(
    r"(?<![^\s\-('\"{*/_+])([*/_+])(?=\S)((?:(?!\1)[^\n]|\n){1,500}?)(?<=\S)\1(?![^\s\-.,;:!?'\")}\]*/_+])"
)
_HIDDEN = frozenset({"comment", "export"})
_CODE = frozenset({"src", "example"})


def read(path: Path, name: str) -> Iterator[Document | Broken]:
    """Yield an Org file as plain text: no keywords, drawers, time stamps, tags and comments."""
    return light.read(path, name, convert)


def convert(lines: list[str]) -> Page:
    """Return the page that the lines of an Org file make."""
    page = Page(_inline)
    number = 0
    while number < len(lines):
        number = _block(lines, number, page) or _line(lines, number, page)
    return page


def _block(lines: list[str], number: int, page: Page) -> int:
    """Read a block between two lines, and return the number of the line after it; 0 for none."""
    line = lines[number]
    if (match := _BEGIN.match(line)) and (kind := match[1].lower()) in _CODE | _HIDDEN | {"verse"}:
        end = page.until(lines, number + 1, re.compile(rf"\s*#\+end_{kind}\s*$", re.IGNORECASE))
        body = lines[number + 1 : end]
        if end < 0:
            return 0
        page.end()
        if kind in _CODE:
            page.code(body)
        elif kind == "verse":
            for verse in body:
                page.line(verse, asked=True) if verse.strip() else page.end()
        page.end()
        return end + 1
    if _DRAWER.match(line):
        end = page.until(lines, number + 1, _DRAWER_END)
        return end + 1 if end - number < _LONGEST_DRAWER else 0
    return 0


def _line(lines: list[str], number: int, page: Page) -> int:
    """Read one line, and return the number of the next."""
    line = lines[number]
    if match := _HEADING.match(line):
        page.heading(match[1])
    elif line.lstrip().startswith("#+"):
        page.end()
        keyword = _KEYWORD.match(line)
        if keyword and keyword[1].lower() == "title":
            page.title = " ".join(filter(None, (page.title, keyword[2].strip())))
    elif _PLANNING.match(line):
        page.end()
    elif match := _NOTE.match(line):
        end = number + 1
        while (
            end < len(lines) and lines[end].strip() and not _NOTE.match(lines[end]) and not _HEADING.match(lines[end])
        ):
            end += 1
        page.note(" ".join([match[2], *lines[number + 1 : end]]))
        return end
    elif match := _ITEM.match(line):
        page.item(
            match[4].replace(" :: ", ": ", 1), f"{match['number']}." if match["number"] else "-", light.indent(line)
        )
    elif _TABLE.match(line):
        if not _RULE.match(line):
            page.row(line.strip().strip("|").split("|"))
    elif re.match(r"\s*: |\s*:$", line):
        end = number + 1
        while end < len(lines) and lines[end].lstrip().startswith(": "):
            end += 1
        page.code([fixed.strip()[2:] for fixed in lines[number:end]])
        return end
    elif not line.strip():
        page.end()
    else:
        page.outside(line)
        page.line(line)
    return number + 1


def _inline(text: str, page: Page) -> str:
    """Return the words of a block."""

    def linked(match: "re.Match[str]") -> str:
        if match[2]:
            return match[2]
        return match[1].lstrip("*#") if not re.match(r"(?:file|id|attachment|\./)", match[1]) else GAP

    def noted(match: "re.Match[str]") -> str:
        page.note(match[1])
        return GAP

    text = _GONE.sub(GAP, _NOTE_INSIDE.sub(noted, _LINK.sub(linked, text)))
    text = re.sub(r"\\\\[ ]*(?=\n|$)", BREAK, text)
    for _ in range(2):  # emphasis inside emphasis
        text = _EMPHASIS.sub(lambda match: GAP if match[1] == "+" else match[2], text)
    return _VERBATIM.sub(r"\2", text)
