"""Blocks of text as all readers join them, and line breaks in pages, e-books and word processors."""

import itertools
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

FENCE = "```"
LONG_CELL = 100  # characters of a table's cell; a table of such cells only places text
_SHORT = 60  # characters of a line of verse, mostly
_LONG = 100  # no line of wrapped text or of common verse is longer
_ENDS_SENTENCE = re.compile(r"[.!?\u2026][\"'\u201d\u2019)\]]{0,3}$")
_ENDS_LINE = re.compile(r"[.!?:,\u2026][\"'\u201d\u2019)\]]{0,3}$")
_PAUSE = re.compile(r"[.!?:;,\u2014\u2026][\"'\u201d\u2019)\]]{0,3}$")
_OPENING = "\"'\u201c\u2018\u00ab([_*-\u2013\u2014 "
# Characters that are frequent in code and rare in prose and verse.
_CODE_MARKS = re.compile(r"[{}\[\]<>=;|\\$^~`+/#&@%_()]")
_CODE_SHARE = 0.05  # of the characters of preformatted text; more is code

_SUPERSCRIPTS = str.maketrans(
    "0123456789+-", "\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079\u207a\u207b"
)
_WORD = re.compile(r"[^\W_]+")


class Block(NamedTuple):
    """A paragraph, stanza, heading, item of a list or piece of code."""

    text: str
    kind: str = "text"  # or "heading", "item", "row" (of a table), "code", "line" (of a stanza), "caption", "note"
    group: int = 0  # blocks with the same number other than 0 belong to one list or stanza
    linked: int = 0  # characters that stand in links
    aside: bool = False  # stands in a menu, a footer or comments


def joined(blocks: Iterable[Block]) -> str:
    """Return the text of blocks: a blank line between them, a line end between items of a list."""
    parts: list[str] = []
    before: Block | None = None
    for block in blocks:
        if before is not None:
            parts.append("\n" if _in_one_list(before, block) else "\n\n")
        parts.append(block.text)
        before = block
    return "".join(parts)


def stanzas(blocks: Iterable[Block]) -> Iterator[Block]:
    """Yield blocks, with the lines of each stanza as one block."""
    lines: list[Block] = []
    for block in blocks:
        if lines and (block.kind != "line" or block.group != lines[0].group):
            yield _stanza(lines)
            lines = []
        if block.kind == "line":
            lines.append(block)
        else:
            yield block
    if lines:
        yield _stanza(lines)


def _stanza(lines: list[Block]) -> Block:
    text = "\n".join(line.text for line in lines)
    return Block(text, linked=sum(line.linked for line in lines), aside=lines[0].aside)


def _in_one_list(first: Block, second: Block) -> bool:
    return first.kind == second.kind and first.kind in ("item", "row") and first.group == second.group


def paragraphs(lines: list[str], verse: bool = False) -> list[str]:
    """Return the paragraphs of a block whose lines are separated by explicit line breaks.

    An empty line ends a paragraph. The lines of verse and of an address stay; other lines are
    joined, or are paragraphs of their own.

    Args:
      verse: whether the lines are known to be verse.
    """
    found: list[str] = []
    part: list[str] = []
    for line in [*(" ".join(line.split()) for line in lines), ""]:
        if line:
            part.append(line)
        elif part:
            found += ["\n".join(part)] if verse or _is_verse(part) else _unwrapped(part)
            part = []
    return found


def _is_verse(lines: list[str]) -> bool:
    """Whether lines are meant to be lines: verse, an address, the head of a mail."""
    count = len(lines)
    if count < 2:
        return False
    lengths = [len(line) for line in lines]
    small = sum(line.lstrip(_OPENING)[:1].islower() for line in lines)
    capitals = 10 * (count - small) >= 7 * count
    if max(lengths) <= _LONG:
        if capitals:
            return 2 * sum(length <= _SHORT for length in lengths) > count
        inner = lengths[:-1]
        pauses = sum(_PAUSE.search(line) is not None for line in lines[:-1])
        wrapped = 4 * min(inner) >= 3 * max(inner) and 2 * pauses < len(inner)  # of one width, cut anywhere
        return count > 2 and not wrapped and 5 * sum(length <= _SHORT - 10 for length in lengths) >= 4 * count
    # Long lines of verse: each begins with a capital, and many end inside a sentence.
    open_ended = sum(not _ENDS_SENTENCE.search(line) for line in lines)
    long = sum(length > _SHORT - 10 for length in lengths)
    return (
        count > 3
        and not small
        and max(lengths) <= 3 * _LONG
        and 10 * long >= 7 * count
        and 10 * open_ended >= 3 * count
    )


def _unwrapped(lines: list[str]) -> list[str]:
    """Join lines of prose. A line after which there was room, and a long line, end a paragraph."""
    width = max(map(len, lines))
    found = [lines[0]]
    for before, line in itertools.pairwise(lines):
        room = len(before) + 1 + len(line.split(" ", 1)[0]) < width and len(lines) > 2
        begins = not line.lstrip(_OPENING)[:1].islower()
        if begins and ((len(before) > _LONG and _ENDS_SENTENCE.search(before)) or (room and _ENDS_LINE.search(before))):
            found.append(line)
        else:
            found[-1] += " " + line
    return found


def laid_out(text: str) -> list[str]:
    """Return the lines of a text that is laid out by hand, without blank lines at its ends."""
    lines = [line.rstrip() for line in text.expandtabs(4).split("\n")]
    while lines and not lines[0]:
        del lines[0]
    while lines and not lines[-1]:
        del lines[-1]
    return lines


def preformatted(text: str, code: bool) -> list[Block]:
    """Return blocks of text whose lines are laid out by hand.

    Code stands between fences. Prose and verse do not, and a blank line ends a block of it.

    Args:
      code: whether the text is known to be code.
    """
    lines = laid_out(text)
    if not lines:
        return []
    body = "\n".join(lines)
    marks, characters = len(_CODE_MARKS.findall(body)), sum(not character.isspace() for character in body)
    if code or marks > _CODE_SHARE * characters:
        return [Block(f"{FENCE}\n{body.replace(FENCE, '')}\n{FENCE}", "code")]
    margin = min(len(line) - len(line.lstrip()) for line in lines if line)
    return [Block(part.strip("\n")) for part in re.split(r"\n\n+", "\n".join(line[margin:] for line in lines)) if part]


def gathered(blocks: Iterable[Block]) -> Iterator[Block]:
    """Yield the blocks of a word processor's document, without empty ones.

    Many writers end each line of verse as if it were a paragraph and leave an empty paragraph
    between stanzas: such lines become one block. Blocks of code are its lines, and become one.
    """
    run: list[Block] = []
    for block in [*blocks, Block("")]:
        if run and (block.kind != run[0].kind or not (block.text or block.kind == "code")):
            lines = [part.text for part in run]
            if run[0].kind == "code":
                yield from preformatted("\n".join(lines), code=True)
            else:
                yield from [Block("\n".join(lines))] if not block.text and _is_stanza(lines) else run
            run = []
        if block.kind == "code" or (block.text and block.kind == "text"):
            run.append(block)
        elif block.text:
            yield block


def _is_stanza(lines: list[str]) -> bool:
    """Whether paragraphs without an empty one between them are lines of verse."""
    capitals = sum(line.lstrip(_OPENING)[:1].isupper() for line in lines)
    ends = sum(_ENDS_SENTENCE.search(line) is not None for line in lines)
    speech = sum(line[0] in '"\u201c\u2018\u2013\u2014-' for line in lines)
    return (
        len(lines) >= 3
        and max(map(len, lines)) <= _SHORT
        and not any("\n" in line for line in lines)
        and 10 * capitals >= 7 * len(lines)
        and 2 * ends <= len(lines)
        and 3 * speech < len(lines)
    )


def table(rows: list[list[list[Block]]]) -> Iterator[Block]:
    """Yield the blocks of a table's cells if most of its text stands in long cells, else its rows.

    A row is a line: | a | b |.
    """
    sizes = [sum(len(block.text) for block in cell) for row in rows for cell in row]
    if 2 * sum(size for size in sizes if size >= LONG_CELL) > sum(sizes) or max(map(len, rows), default=0) < 2:
        yield from (block for row in rows for cell in row for block in cell)
        return
    for row in rows:
        if line := row_of([" ".join(" ".join(block.text for block in cell).split()) for cell in row]):
            yield Block(line, "row", group=2)


def row_of(cells: list[str]) -> str:
    """Return a row of a table on one line; "" if all cells are empty."""
    return f"| {' | '.join(cells)} |" if any(cells) else ""


def power(before: str, digits: str) -> str:
    """Return digits that stand above the line: an exponent, or "" for the mark of a note.

    Args:
      before: the text that they follow.
    """
    word = re.search(r"(\w{1,40})\s?$", before[-40:])
    is_exponent = word is not None and (len(word.group(1)) <= 3 or word.group(1)[-1:].isdigit())
    return digits.translate(_SUPERSCRIPTS) if is_exponent else ""


def item_mark(level: int, number: int = 0) -> str:
    """Return what begins an item of a list: "- ", or "3. " for a number, after two blanks a level."""
    return "  " * min(level, 8) + (f"{number}. " if number else "- ")
