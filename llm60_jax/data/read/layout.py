"""Blocks of text and the line breaks inside them, alike for pages, e-books and word processors."""

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

FENCE = "```"
_SHORT = 60  # characters of a line of verse, mostly
_LONG = 100  # no line of wrapped text or of common verse is longer
_ENDS_SENTENCE = re.compile(r"[.!?\u2026][\"'\u201d\u2019)\]]{0,3}$")
_ENDS_LINE = re.compile(r"[.!?:,\u2026][\"'\u201d\u2019)\]]{0,3}$")
_OPENING = "\"'\u201c\u2018\u00ab([_*-\u2013\u2014 "
# Characters that are frequent in code and rare in prose and verse.
_CODE_MARKS = re.compile(r"[{}\[\]<>=;|\\$^~`+/#&@%_()]")
_CODE_SHARE = 0.05  # of the characters of preformatted text; more is code


class Block(NamedTuple):
    """A paragraph, stanza, heading, item of a list or piece of code."""

    text: str
    kind: str = "text"  # or "heading", "item", "code", "line" (of a stanza), "caption"
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
    return first.kind == second.kind == "item" and first.group == second.group


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
        wrapped = 4 * min(inner) >= 3 * max(inner)  # all of nearly one width
        return count > 2 and not wrapped and 5 * sum(length <= _SHORT - 10 for length in lengths) >= 4 * count
    # Long lines of verse: each begins with a capital, and many end inside a sentence.
    open_ended = sum(not _ENDS_SENTENCE.search(line) for line in lines)
    return count > 3 and not small and max(lengths) <= 3 * _LONG and 10 * open_ended >= 3 * count


def _unwrapped(lines: list[str]) -> list[str]:
    """Join lines of prose. A line after which there was room, and a long line, end a paragraph."""
    width = max(map(len, lines))
    found = [lines[0]]
    for before, line in zip(lines, lines[1:], strict=False):
        room = len(before) + 1 + len(line.split(" ", 1)[0]) < width and len(lines) > 2
        begins = not line.lstrip(_OPENING)[:1].islower()
        if begins and (
            (len(before) > _LONG and _ENDS_SENTENCE.search(before)) or (room and _ENDS_LINE.search(before))
        ):
            found.append(line)
        else:
            found[-1] += " " + line
    return found


def preformatted(text: str, code: bool) -> list[Block]:
    """Return blocks of text whose lines are laid out by hand.

    Code stands between fences. Prose and verse do not, and a blank line ends a block of it.

    Args:
      code: whether the text is known to be code.
    """
    lines = [line.rstrip() for line in text.expandtabs(4).split("\n")]
    while lines and not lines[0]:
        del lines[0]
    while lines and not lines[-1]:
        del lines[-1]
    if not lines:
        return []
    body = "\n".join(lines)
    marks, characters = len(_CODE_MARKS.findall(body)), sum(not character.isspace() for character in body)
    if code or marks > _CODE_SHARE * characters:
        return [Block(f"{FENCE}\n{body.replace(FENCE, '')}\n{FENCE}", "code")]
    margin = min(len(line) - len(line.lstrip()) for line in lines if line)
    return [Block(part.strip("\n")) for part in re.split(r"\n\n+", "\n".join(line[margin:] for line in lines)) if part]


def item_mark(level: int, number: int = 0) -> str:
    """Return what begins an item of a list: "- ", or "3. " for a number, after two blanks a level."""
    return "  " * min(level, 8) + (f"{number}. " if number else "- ")
