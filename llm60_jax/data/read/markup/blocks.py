"""Build the plain text that readers of markup yield: paragraphs, items, rows and code.

A blank line parts blocks. A line end inside a block is meant: verse, code, the items of a list. An
item begins with "- " or "1. ", a row of a table is `| a | b |`, code stands between two fences.
"""

import itertools
import re

from llm60_jax.data.read import layout
from llm60_jax.data.read.layout import FENCE, Block

GAP = "\x00"  # stands where a reader took something out; `tidy` closes the hole
BREAK = "\x01"  # a line end that the author asked for
BLOCK = "\x02"  # the end of a block, inside a run of text
HELD = "\x03"  # stands around what a reader sets aside for a while
_MARKS = re.compile(f"[{GAP}{BREAK}{BLOCK}{HELD}]")
_MAX_VERSE_LINE = 60  # characters, where the author asked for the line ends
_SHORT_LINE = 50
_NOT_LETTERS = "\"'\u201c\u2018([_-\u2014 "
_SPEECH = re.compile(r"[\"'\u201c\u2018\u2014-]|[A-Z][\w .]{0,30}:")
_MAX_PROSE_LINE = 80  # ... and where not
_MAX_FREE_LINE = 45  # nobody wraps prose as narrow as this
_NARROW_PROSE = 34  # ... but few do
_GAPS = re.compile(f" ?{GAP}[ {GAP}]*")
_EMPTY_BRACKETS = re.compile(f"\\([ ,;]*{GAP}[ ,;{GAP}]*\\)")
_CLOSING = frozenset(".,;:!?)]}\u201d\u2019")
_PROSE_SIGNS = frozenset(" \t\n,.;:!?'\"-()\u2018\u2019\u201c\u201d\u2014\u2013\u2026")
SENTENCE_END = re.compile(r"[.!?\u2026][\"'\u201d\u2019)*_]*$")


def unmarked(text: str) -> str:
    """Return a text without the characters that this module uses as marks."""
    return _MARKS.sub("", text)


def tidy(line: str) -> str:
    """Return a line with single blanks. Holes close: no blank stays before a full stop."""
    line = " ".join(line.split())
    if GAP not in line:
        return line
    line = _EMPTY_BRACKETS.sub(GAP, line)

    def closed(match: "re.Match[str]") -> str:
        after = line[match.end() : match.end() + 1]
        parted = " " in match[0] or (
            after.isupper() and line[max(match.start() - 1, 0) : match.start()] in (".", "!", "?")
        )
        return " " if parted and after not in _CLOSING else ""

    return _GAPS.sub(closed, line).strip()


def paragraphs(text: str) -> list[str]:
    """Return the paragraphs of a run of text that may hold `GAP`, `BREAK` and `BLOCK`.

    Line ends become blanks. They stay where the lines look like verse, and where the author asked
    for them and the lines are short.
    """
    result = []
    for block in text.split(BLOCK):
        lines = [line for part in block.replace(BREAK, f"{BREAK}\n").split("\n") if (line := tidy(part))]
        asked = block.rstrip(f" \n{BREAK}").count(BREAK)
        lines = [clean for line in lines if (clean := line.replace(BREAK, "").strip())]
        if len(lines) > 1 and (is_verse(lines) or (asked >= len(lines) - 1 and max(map(len, lines)) < _MAX_VERSE_LINE)):
            result.append("\n".join(lines))
        elif lines:
            result.append(" ".join(lines))
    return result


def is_verse(lines: list[str]) -> bool:
    """Whether lines look like verse: short, with capitals first, and not a sentence each.

    Lines of dialogue stay apart as well.
    """
    widest = max(map(len, lines))
    if widest >= _MAX_PROSE_LINE:
        return False
    open_lines = any(_SPEECH.match(line) or not SENTENCE_END.search(line) for line in lines)
    if open_lines and len(lines) > 2 and widest < _MAX_FREE_LINE and not _is_filled(lines, widest):
        return True  # verse in lower case as well
    short = sum(len(line) < _SHORT_LINE for line in lines[:-1])
    capitals = sum(not line.lstrip(_NOT_LETTERS)[:1].islower() for line in lines)
    if 2 * short < len(lines) - 1 or 10 * capitals < 7 * len(lines):
        return False
    return open_lines


def _is_filled(lines: list[str], width: int) -> bool:
    """Whether lines were wrapped by a machine: at most breaks the next word did not fit."""
    full = sum(len(line) + 1 + len(after.split(" ", 1)[0]) > width for line, after in itertools.pairwise(lines))
    return width >= _NARROW_PROSE and 10 * full >= 9 * (len(lines) - 1)


def fenced(code: str) -> str:
    """Return code between two fences, "" if there is none."""
    body = "\n".join(line for line in layout.laid_out(unmarked(code)) if not line.startswith(FENCE))
    return f"{FENCE}\n{body}\n{FENCE}" if body.strip() else ""


def row(cells: list[str]) -> str:
    """Return a row of a table; "" if all cells are empty."""
    return layout.row_of([" ".join(paragraphs(cell)).replace("\n", " ") for cell in cells])


def item(text: str, marker: str, depth: int) -> str:
    """Return an item of a list on one line. `depth` is 0 for an outermost item."""
    return f"{'  ' * depth}{marker} {' '.join(text.split())}"


def is_prose(code: str) -> bool:
    """Whether an indented block is prose, as of people who indent their paragraphs."""
    lines = [line.strip() for line in code.split("\n") if line.strip()]
    if not may_be_prose(code) or not lines:
        return False
    capitals = sum(line.lstrip("\"'(\u201c\u2018*_")[:1].isupper() for line in lines)
    ends = SENTENCE_END.search(lines[-1]) is not None
    if len(lines) == 1 and capitals and not ends:
        words = lines[0].split()
        return len(words) >= 6 and 10 * sum(word[:1].islower() for word in words) >= 7 * len(words)
    return (ends and 2 * capitals >= len(lines)) or (len(lines) > 2 and capitals == len(lines))


def may_be_prose(text: str) -> bool:
    """Whether a text has the signs of prose and none of code."""
    plain = sum(letter.isalpha() or letter in _PROSE_SIGNS for letter in text)
    return len(text.split()) >= 4 and plain >= 0.96 * len(text) and "()" not in text


class Writer:
    """Collects blocks. Items, or rows, that follow one another belong to one list, or table."""

    def __init__(self) -> None:
        self._blocks: list[Block] = []

    def block(self, text: str) -> None:
        """Add a block; nothing if it is empty."""
        if text:
            self._blocks.append(Block(text))

    def row(self, text: str) -> None:
        """Add a row of a table; nothing if it is empty."""
        if text:
            self._blocks.append(Block(text, "row"))

    def item(self, text: str, marker: str, depth: int) -> None:
        """Add an item of a list; nothing if it is empty."""
        if text.strip():
            self._blocks.append(Block(item(text, marker, depth), "item"))

    def text(self) -> str:
        """Return all blocks as one text."""
        return layout.joined(self._blocks)
