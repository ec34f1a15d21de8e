"""AsciiDoc files."""

import re
from collections.abc import Iterator
from pathlib import Path

from llm60_jax.data.read.items import Broken, Document
from llm60_jax.data.read.markup import light
from llm60_jax.data.read.markup.blocks import BREAK, GAP
from llm60_jax.data.read.markup.light import Page

_MOST_HEADER_LINES = 50
_HEADING = re.compile(r"(?:={1,6}|#{1,6})\s+(\S.*?)(?:\s+=+)?\s*$")
_ATTRIBUTE = re.compile(r":!?([\w-]+)!?:(?:\s+(.*))?$")
_REFERENCE = re.compile(r"(?<!\\)\{([\w-]{1,60})(?::[^{}\n]{0,200})?\}")
_BUILT_IN = {
    "nbsp": " ", "sp": " ", "empty": "", "amp": "&", "lt": "<", "gt": ">", "apos": "'", "quot": '"', "plus": "+",
    "asterisk": "*", "backtick": "`", "tilde": "~", "caret": "^", "lsquo": "\u2018", "rsquo": "\u2019",
    "ldquo": "\u201c", "rdquo": "\u201d", "deg": "\u00b0", "two-colons": "::", "startsb": "[", "endsb": "]",
    "vbar": "|", "cpp": "C++",
}  # fmt: skip
_COMMENT = re.compile(r"//(?!/)")
_UNSEEN = re.compile(
    r"(?:\[[^\[\]]*(?:\[[^\[\]]*\])?[^\[\]]*\]|\[\[[^\[\]]*\]\]|'''+|---|\*\*\*|- - -|\* \* \*|<<<+|\+|\"\""
    r"|(?:image|video|audio|include|toc|ifdef|ifndef|ifeval|endif)::.*)\s*$"
)
_DELIMITER = re.compile(r"(-{4,}|\.{4,}|={4,}|\*{4,}|_{4,}|\+{4,}|/{4,}|--|```\w*|[|,:!]={3,})\s*$")
_UNDERLINE = re.compile(r"([=~^+-])\1*\s*$")  # of a heading
_TITLE = re.compile(r"\.([^\s.].*)$")
_ADMONITION = re.compile(r"(?:NOTE|TIP|IMPORTANT|CAUTION|WARNING):\s+")
_ITEM = re.compile(
    r"\s*(?:(?P<bullet>\*{1,5}|-)|(?P<dots>\.{1,5})|(?P<number>\d{1,9})\.|<[\d.]{1,3}>)\s+(?:\[[ x*]\]\s+)?(\S.*)$"
)
_TERM = re.compile(r"(?:([^\s.!?][^.!?]{0,100}?):{2,4}(?:\s+(.*))?|(\S.{0,200}?):{2,4}\s*)$")
_MACRO = re.compile(
    r"(footnote(?:ref)?|\b(?:kbd|btn|pass|stem|latexmath|asciimath|indexterm2?|menu|link|xref|mailto|image|icon|anchor)):"
    r"([^\s\[\]]{0,500})\[((?:[^\[\]\\]|\\.){0,2000})\]",
    re.DOTALL,
)
_ADDRESS = re.compile(r"((?:https?|ftp|irc)://[^\s\[\]<>]{1,1000})\[([^\[\]]{0,500})\]")
_CROSS = re.compile(r"<<([^<>,\n]{1,300})(?:,([^<>]{0,500}))?>>")
_GONE = re.compile(r"\[{2,3}[^\[\]\n]{1,200}\]{2,3}|\(\(\([^()\n]{0,300}\)\)\)|\[line-through\]#[^#\n]{1,500}#")
_QUOTES = (
    (re.compile(r"\"`([^`\n]{1,1000})`\""), "\u201c\\1\u201d"),
    (re.compile(r"'`([^`\n]{1,1000})`'"), "\u2018\\1\u2019"),
)
_DOUBLED = re.compile(r"(?:\[[^\[\]\n]{0,100}\])?(\*\*|__|``|##|\+\+\+|\+\+)(?=\S)([^\n]{1,500}?)\1")
_EMPHASIS = re.compile(
    r"(?:\[[^\[\]\n]{0,100}\])?(?<![\w\\:;}*_`#+])([*_`#+])(?=\S)((?:(?!\1).){1,500}?)(?<=\S)\1(?!\w)", re.DOTALL
)
_RAISED = re.compile(r"([\^~])([^\s^~]{1,100})\1")
_VERSE = re.compile(r"\[\s*verse\b")
_LINES = re.compile(r"\[(?:\s*verse\b|[^\[\]]{0,200}(?:%|=\"?)hardbreaks\b)")  # before lines whose ends are meant
_QUOTED = re.compile(r">(?:\s>){0,20}(?:\s|$)")  # a quotation marked as in Markdown
_ESCAPED = re.compile(r"\\(?=[*_`#{^~+]|<<)")


def read(path: Path, name: str) -> Iterator[Document | Broken]:
    """Yield an AsciiDoc file as plain text: no attributes, macros and comments."""
    return light.read(path, name, convert)


def convert(lines: list[str]) -> Page:
    """Return the page that the lines of an AsciiDoc file make."""
    attributes = dict(_BUILT_IN)
    page = Page(lambda text, page: _inline(text, page, attributes))
    number = _header(lines, page, attributes)
    while number < len(lines):
        number = _block(lines, number, page) or _line(lines, number, page, attributes)
    return page


def _header(lines: list[str], page: Page, attributes: dict[str, str]) -> int:
    """Read the title, the author and the attributes; return the number of the line after them."""
    number = 0
    while number < len(lines) and (end := _before_title(lines, number, page, attributes)):
        number = end
    if number < len(lines) and re.match(r"[=#] \S", lines[number]):
        page.heading(lines[number][2:])
        number += 1
    elif _is_underlined(lines, number) and lines[number + 1].startswith("="):
        page.heading(lines[number])
        number += 2
    else:
        return 0
    last = number + _MOST_HEADER_LINES
    while number < min(len(lines), last) and lines[number].strip():
        number = _attribute(lines, number, attributes) or number + 1
    return number


def _before_title(lines: list[str], number: int, page: Page, attributes: dict[str, str]) -> int:
    """Return the number of the line after a comment or an attribute; 0 if there is none."""
    line = lines[number]
    if line.startswith("////"):
        return _block(lines, number, page)
    return number + 1 if not line.strip() or line.startswith("//") else _attribute(lines, number, attributes)


def _attribute(lines: list[str], number: int, attributes: dict[str, str]) -> int:
    """Read an attribute, and return the number of the line after it; 0 if there is none."""
    match = _ATTRIBUTE.match(lines[number])
    if match is None:
        return 0
    values = [match[2] or ""]
    while values[-1].endswith("\\") and number + 1 < len(lines):
        number += 1
        values.append(lines[number].strip())
    attributes[match[1].lower()] = " ".join(value.rstrip("\\+ ") for value in values) if values[1:] else values[0]
    return number + 1


def _is_underlined(lines: list[str], number: int) -> bool:
    """Whether a line is a heading with a line of signs below it, as long as its text."""
    if number + 1 >= len(lines) or not _UNDERLINE.match(lines[number + 1]):
        return False
    line = lines[number].rstrip()
    is_text = any(map(str.isalnum, line)) and not line.startswith((".", "[", " "))
    return is_text and abs(len(line) - len(lines[number + 1].rstrip())) <= 1


def _block(lines: list[str], number: int, page: Page) -> int:
    """Read a block between two lines, and return the number of the line after it; 0 for none."""
    match = _DELIMITER.match(lines[number])
    if match is None:
        return 0
    mark = match[1]
    verse = mark[0] == "_" and number > 0 and _VERSE.match(lines[number - 1]) is not None
    page.close()
    if mark == "--" or (mark[0] in "=*_" and not verse):
        return number + 1  # the words inside are read like any other
    end = page.until(lines, number + 1, re.compile(re.escape(mark[:3] if mark.startswith("`") else mark) + r"\s*$"))
    if end < 0:
        return number + 1
    body = lines[number + 1 : end]
    if verse:
        for line in body:
            page.line(line, asked=True) if line.strip() else page.end()
        page.end()
    elif mark[0] in "-.`":
        page.code(body)
    elif mark[1] == "=" and mark[0] in "|,:!":
        _table(body, mark[0], page)
    return end + 1


def _table(body: list[str], mark: str, page: Page) -> None:
    """Read a table. A line with several cells is a row, else a blank line ends one."""
    separator = {",": ",", ":": ":"}.get(mark, mark)
    cells: list[str] = []
    for line in [*body, ""]:
        parts = re.split(rf"(?:(?<=\s)|^)[\d.+*<>^]{{0,10}}[a-z]?{re.escape(separator)}", line) if line.strip() else []
        if parts and parts[0].strip() and mark in "|!":
            cells = [*cells[:-1], f"{cells[-1]} {parts[0]}"] if cells else [parts[0]]
        new = parts if mark in ",:" else parts[1:]
        if len(new) > 1 or not line.strip():
            if cells:
                page.row(cells)
            cells = []
        if len(new) > 1:
            page.row(new)
        else:
            cells += new


def _line(lines: list[str], number: int, page: Page, attributes: dict[str, str]) -> int:
    """Read one line, and return the number of the next."""
    line = lines[number]
    inside = page.inside
    if end := _attribute(lines, number, attributes):
        return end
    if not line.strip():
        page.end()
    elif _COMMENT.match(line):
        pass
    elif match := _QUOTED.match(line):
        lines[number] = line[match.end() :]
        return number
    elif _UNSEEN.match(line):
        page.end()
        if _LINES.match(line):
            return _lines_meant(lines, number + 1, page)
    elif not inside and _is_underlined(lines, number):
        page.heading(line)
        return number + 2
    elif match := _HEADING.match(line):
        page.heading(match[1])
    elif not inside and (match := _TITLE.match(line)) and not _ITEM.match(line):
        page.line(match[1])
        page.end()
    elif match := _ITEM.match(line):
        _item(match, page)
    elif match := _TERM.match(line):
        page.close()
        page.line(match[1] or match[3])
        page.end()
        if match[2]:
            page.line(match[2])
        elif number + 1 < len(lines):
            lines[number + 1] = lines[number + 1].lstrip()  # not code, though it is indented
    elif not inside and line.startswith(" "):
        end = number
        while end < len(lines) and lines[end].strip():
            end += 1
        page.code(lines[number:end], literal=False)
        return end
    else:
        words = line if inside else _ADMONITION.sub("", line, count=1)
        asked = words.endswith(" +")
        page.line(words[:-2] if asked else words, asked)
    return number + 1


def _lines_meant(lines: list[str], number: int, page: Page) -> int:
    """Read a paragraph that keeps its lines, and return the number of the line after it."""
    while number < len(lines) and lines[number].strip() and not _DELIMITER.match(lines[number]):
        page.line(lines[number].removesuffix(" +"), asked=True)
        number += 1
    page.end()
    return number


def _item(match: "re.Match[str]", page: Page) -> None:
    sign = match["bullet"] or match["dots"] or ""
    depth = 0 if sign in ("-", "") else len(sign)
    number = match["number"] or ("#" if match["dots"] else "")
    page.item(match[4], f"{number}." if number else "-", depth)


def _inline(text: str, page: Page, attributes: dict[str, str]) -> str:
    """Return the words of a block."""

    def macro(match: "re.Match[str]") -> str:
        name, target, words = match[1], match[2], match[3].replace("\\]", "]")
        if name.startswith("footnote"):
            page.note(words)
            return GAP
        if name in ("image", "icon", "anchor", "indexterm"):
            return GAP
        if name == "menu":
            return " > ".join(filter(None, [target, *words.split(">")]))
        return words.split(",")[0].strip('"^ ') or (target if name in ("link", "mailto") else GAP)

    def attribute(match: "re.Match[str]") -> str:
        return attributes.get(match[1].lower(), GAP)

    text = _REFERENCE.sub(attribute, text)
    for _ in range(2):  # a link inside a footnote
        text = _GONE.sub(GAP, _MACRO.sub(macro, text))
        text = _ADDRESS.sub(lambda match: match[2].strip('"^\\') or match[1], text)
        text = _CROSS.sub(lambda match: (match[2] or "").strip() or GAP, text)
    for pattern, replacement in _QUOTES:
        text = pattern.sub(replacement, text)
    text = _DOUBLED.sub(r"\2", text)
    for _ in range(2):  # emphasis inside emphasis
        text = _EMPHASIS.sub(r"\2", text)
    text = _ESCAPED.sub("", _RAISED.sub(r"\2", text))
    return re.sub(r"\(\(([^()\n]{1,300})\)\)", r"\1", text).replace(f"{BREAK}{BREAK}", BREAK)
