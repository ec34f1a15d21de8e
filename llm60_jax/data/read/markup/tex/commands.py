"""The commands of LaTeX and TeX: for each the small function that reads it."""

import re
import unicodedata
from collections.abc import Callable

from llm60_jax.data.read.markup.tex import environments, paragraph, tables
from llm60_jax.data.read.markup.tex.reading import Reading
from llm60_jax.data.read.markup.tex.tokens import PARAGRAPH

_MOST_NAMES = 3  # that stand for a citation
_CLOSINGS = {"$": "$", "$$": "$$", "\\(": "\\)", "\\[": "\\]"}
_KEY_NAME = re.compile(r"[a-z]+:([A-Za-z]{3,})|([A-Za-z]{3,})")
_BEFORE_A_NAME = re.compile(r"(?<![(\[])\b(?:in|by|see|of|from|to|with|than|like|following|and)[ ~]$", re.IGNORECASE)
_DIMENSION = re.compile(r"\s*[-+]?[\d.]*\s*(?:pt|cm|mm|em|ex|in|pc|bp|sp|\\\w+)\s*$|\s*[-+]?\d*\.?\d+\s*$|\s*$")
_SETTING = re.compile(r"\s*=?\s*[-+]?[\d.]+\s?(?:true)?(?:pt|cm|mm|em|ex|in|pc|bp|sp)\b(?:\s(?:plus|minus)\s?\S+)*")
_KEY = re.compile(r"[\w.-]*[:_=][\w:.=-]*$|[a-z]+\d+$")

Command = Callable[[Reading, str], None]


def run(reading: Reading, name: str) -> None:
    """Read a command; the cursor stands after its name."""
    command = _COMMANDS.get(name)
    if command is None:
        command = _silent if name[0].isalpha() or name[0] == "@" else _character
    command(reading, name.rstrip("*"))


# Letters and signs


def _accent(reading: Reading, name: str) -> None:
    cursor = reading.cursor
    cursor.skip_blanks()
    if cursor.token == "{":
        cursor.place += 1
    token = cursor.token
    letter = tables.LETTERS.get(token[1:], "") if token.startswith("\\") else token[:1]
    if not letter.isalpha():
        return
    reading.page.add(unicodedata.normalize("NFC", letter + tables.ACCENTS[name]))
    if token[0] == "\\" or len(token) == 1:
        cursor.place += 1
    else:
        cursor.tokens[cursor.place] = token[1:]


def _character(reading: Reading, name: str) -> None:
    reading.page.add(tables.CHARACTERS.get(name, name if name in "%&$#_{}" else ""))


def _letter(reading: Reading, name: str) -> None:
    reading.page.add(tables.LETTERS[name])
    reading.cursor.skip_blanks()


def _symbol(reading: Reading, name: str) -> None:
    reading.page.add(tables.SYMBOLS[name])


# Parts of a paragraph


def _line_break(reading: Reading, _: str) -> None:
    cursor = reading.cursor
    reading.page.add(paragraph.LINE)
    start = cursor.opening("[")
    if start >= 0 and _DIMENSION.match(cursor.inside(start, most=5)):
        cursor.place = cursor.pairs[start] + 1


def _quote(reading: Reading, name: str) -> None:
    """Read an argument between quotation marks, single ones inside double ones."""
    cursor, page = reading.cursor, reading.page
    if name == "foreignquote":
        reading.drop_argument()
    cursor.skip_options()
    start = cursor.opening()
    if start < 0:
        return
    first, last = ("\u2018", "\u2019") if reading.quotes % 2 else ("\u201c", "\u201d")
    page.add(first)
    reading.quotes += 1

    def end() -> None:
        reading.quotes -= 1
        page.add(last)

    if not cursor.enter(start, end):
        end()


def _drop_cap(reading: Reading, _: str) -> None:
    """Read the first letter of a chapter and the rest of its word as one."""
    cursor = reading.cursor
    cursor.skip_options()
    start = cursor.opening()
    if start >= 0 and len(cap := cursor.inside(start)) <= 3 and cap.isalnum():
        reading.page.add(cap)
        cursor.skip_argument()
        cursor.skip_blanks()


def _cite(reading: Reading, name: str) -> None:
    """Drop a citation. Where it is a part of the sentence, the name in its key stands for it."""
    reading.cursor.skip_options()
    key = reading.cursor.skip_argument()
    if key is None:
        return
    names: list[str] = []
    if name in tables.NAMED_CITES or _BEFORE_A_NAME.search(reading.page.latest(2)[-20:]):
        names = [match[1] or match[2] for part in key.split(",") if (match := _KEY_NAME.match(part.strip()))]
    reading.page.add(" and ".join(each[0].upper() + each[1:] for each in names[:_MOST_NAMES]) or paragraph.GONE)


def _reference(reading: Reading, name: str) -> None:
    """Write the number that a label has; the mark of a lost reference if it has none."""
    key = reading.cursor.skip_argument() or ""
    number, kind = reading.labels.get(key.strip(), ("", ""))
    if not number or name in tables.PAGE_REFERENCES:
        reading.page.add(paragraph.REFERENCE)
    elif name in tables.NAMED_REFERENCES:
        reading.page.add(f"{kind} {number}")
    else:
        reading.page.add(f"({number})" if name == "eqref" else number)


def formula(reading: Reading, mark: str) -> None:
    """Keep a simple formula as text, another inline formula as it is; drop a displayed one."""
    cursor, page, places = reading.cursor, reading.page, reading.places
    is_display = mark in ("$$", "\\[")
    start = cursor.place
    stop, blank = places.after(_CLOSINGS[mark], start), places.after(PARAGRAPH, start)
    if stop < 0 or (0 <= blank < stop and not is_display):  # a lone mark
        page.add("$" if mark == "$" else "")
        return
    cursor.place = stop + 1
    source = " ".join("".join(cursor.tokens[start:stop]).split())
    if (text := paragraph.simple(source)) is not None:
        page.add(f" {text} " if is_display else text)
    else:
        page.add(paragraph.HOLE if is_display else f"${source}$")


# Blocks


def _heading(reading: Reading, name: str) -> None:
    cursor, page = reading.cursor, reading.page
    if page.in_note:
        return
    if tables.HEADINGS[name] <= 2:
        page.end_section()
    else:
        page.end_paragraph()
    page.marker = ""
    cursor.skip_options()
    cursor.enter(cursor.opening(), page.end_paragraph)


def _run_in_heading(reading: Reading, _: str) -> None:
    """Begin a paragraph with the heading that it goes on from."""
    reading.page.end_paragraph()
    reading.cursor.skip_options()


def _note(reading: Reading, _: str) -> None:
    cursor, page = reading.cursor, reading.page
    cursor.skip_options()
    start = cursor.opening()
    page.begin_note()
    if not cursor.enter(start, page.end_note):
        page.drop_note()


# Commands without a text of their own


def _title(reading: Reading, _: str) -> None:
    reading.cursor.skip_options()
    reading.drop_argument()


def _silent(reading: Reading, name: str) -> None:
    """Skip a command with the arguments that are no text. Those of an unknown one stay."""
    cursor = reading.cursor
    if name in tables.SETTINGS:
        cursor.skip_blanks()
        cursor.skip_start(_SETTING)
    if name in tables.BREAKS:
        reading.page.end_paragraph()
    if name not in tables.ARGUMENTS:
        _unknown_arguments(reading)
        return
    for letter in tables.ARGUMENTS[name]:
        cursor.skip_options()
        if letter == "d":
            reading.drop_argument()


def _unknown_arguments(reading: Reading) -> None:
    """Drop the arguments that are a length, a number or the key of a label."""
    cursor = reading.cursor
    if cursor.token == "[":
        cursor.skip_options()
    if not cursor.is_at_argument():
        cursor.skip_blanks()
    while cursor.is_at_argument():
        source = cursor.inside(cursor.place, most=19)
        if not (_DIMENSION.match(source) or _KEY.match(source)):
            return
        reading.drop_argument()


_STARRED: dict[str, Command] = {
    **dict.fromkeys(tables.REFERENCES | tables.NAMED_REFERENCES | tables.PAGE_REFERENCES, _reference),
    **dict.fromkeys(tables.CITES | tables.NAMED_CITES, _cite),
    "lettrine": _drop_cap,
    "title": _title,
    **dict.fromkeys(tables.QUOTES, _quote),
    **dict.fromkeys(tables.NOTES, _note),
    **dict.fromkeys(("paragraph", "subparagraph"), _run_in_heading),
    **dict.fromkeys(tables.HEADINGS, _heading),
}
_COMMANDS: dict[str, Command] = {
    **_STARRED,
    **{f"{name}*": command for name, command in _STARRED.items()},
    **dict.fromkeys(("\\", "newline", "linebreak", "break", "verseline"), _line_break),
    "item": environments.item,
    "end": environments.end,
    "begin": environments.begin,
    **dict.fromkeys(tables.SYMBOLS, _symbol),
    **dict.fromkeys(tables.LETTERS, _letter),
    **dict.fromkeys(("(", "["), lambda reading, name: formula(reading, f"\\{name}")),
    **dict.fromkeys(tables.ACCENTS, _accent),
}
