"""The lines of printed pages as paragraphs. Pure functions."""

import itertools
import re
import statistics
from collections import Counter
from typing import NamedTuple

from llm60_jax.data.read import footnotes
from llm60_jax.data.read.office.pdf_pages import INITIAL


class Line(NamedTuple):
    """A line of a page. Places and the size of its letters are in points, from below and left."""

    x0: float
    y0: float
    x1: float
    y1: float
    size: float
    text: str
    left: float = 0.0  # edges of its column
    right: float = 0.0


Page = list[Line]
_MOST_LINES = 3_000  # of a page whose columns are looked at
_EDGE_ROWS = 2  # rows at the top and bottom of a page that can be running heads
_SAME_PLACE = 4.0  # points
_MIN_RECURRENCES = 3
_APART = 0.6  # of the size of its letters: blank space between a running head and the text
_LONGEST_HEAD = 120  # characters
_NUMBER = re.compile(r"\d{1,4}|\b[ivxlc]{1,7}\b", re.IGNORECASE)
_PAGE_NUMBER = re.compile(
    r"\W{0,4}(?:page|p\.|seite)?\s{0,3}(?:\d{1,4}|[ivxlc]{1,7})(?:\s{0,2}(?:of|/|\|)\s{0,2}\d{1,4})?\W{0,4}$",
    re.IGNORECASE,
)
_ENDS = re.compile(r"[.!?:][\"'\u201d\u2019)\]]{0,3}$")
_LONGEST_WORD = 60  # characters
_HYPHEN = re.compile(r"([^\W\d_]+)[-\u2010\u00ac\u00ad]$")
_ITEM = re.compile(r"(?:[\u2022\u2023\u25aa\u25cf\u25e6\u2013*-]|\(?(?:\d{1,3}|[a-z])[.)])\s")
_BULLET = re.compile(r"[\u2022\u2023\u25aa\u25cf\u25e6]\s?")
_NOTE = re.compile(r"(?:\d{1,3}|[*\u2020\u2021])[.)]?\s?(?=\S)")
_LONE_MARK = re.compile(r"[\d*\u2020\u2021]{1,3}$")  # of a note, above the line
_SMALL = 0.8  # of the size of the text
_WORDS = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")


def prose(pages: list[Page]) -> str:
    """Return the paragraphs of pages. Notes below the text stand at the end, if they are sentences."""
    pages = _without_running_lines([page for page in pages if page])
    sizes: Counter[float] = Counter()
    for page in pages:
        for line in page:
            sizes[line.size] += len(line.text)
    if not sizes:
        return ""
    size = _median(sizes)
    notes: list[str] = []
    flow: list[Page] = []
    for page in pages:
        marks = {line for line in page if line.size < _SMALL * size and _LONE_MARK.match(line.text)}
        body, below = _split_notes([line for line in page if line not in marks], size)
        flow.append(_with_columns(body))
        notes += below
    lines = _with_initials([line for page in flow for line in page], size)
    words = Counter(_WORDS.findall("\n".join(line.text for line in lines).lower()))
    blocks = _blocks(lines, _leading(lines), words)
    return "\n\n".join([*blocks, *(_joined(note, words) for note in _sentences(notes))])


def _median(counts: "Counter[float]") -> float:
    """Return the value that half of the counts lie below."""
    half, total = sum(counts.values()) / 2, 0
    for value in sorted(counts):
        total += counts[value]
        if total >= half:
            return value
    return 0.0


# Running heads


def _without_running_lines(pages: list[Page]) -> list[Page]:
    """Remove heads and feet that recur at one place of the pages, and page numbers."""
    for last in range(_EDGE_ROWS):
        rows = [_edge_rows(page) for page in pages]
        running: list[set[Line]] = [set() for _ in pages]
        for edge in (0, 1):
            at_edge = [pair[edge] for pair in rows]
            apart = [_is_apart(row, page) for row, page in zip(at_edge, pages, strict=True)]
            for number in _running(at_edge, apart, is_foot=edge == 1, is_first=last == 0):
                running[number].update(at_edge[number])
        if not any(running):
            break
        pages = [[line for line in page if line not in gone] for page, gone in zip(pages, running, strict=True)]
    return pages


def _edge_rows(page: Page) -> tuple[Page, Page]:
    """Return the highest and the lowest row of a page."""
    if not page:
        return [], []
    top, bottom = max(line.y1 for line in page), min(line.y0 for line in page)
    return (
        sorted((line for line in page if line.y1 > top - _SAME_PLACE), key=lambda line: line.x0),
        sorted((line for line in page if line.y0 < bottom + _SAME_PLACE), key=lambda line: line.x0),
    )


def _is_apart(row: Page, page: Page) -> bool:
    """Whether more than a line's distance lies between a row at an edge and the rest of its page."""
    if not row:
        return False
    top, bottom = max(line.y1 for line in row), min(line.y0 for line in row)
    rest = [line for line in page if line.y0 >= top or line.y1 <= bottom]
    gap = min((max(line.y0 - top, bottom - line.y1) for line in rest), default=0.0)
    return gap > _APART * row[0].size


def _running(rows: list[Page], apart: list[bool], is_foot: bool, is_first: bool) -> list[int]:
    """Return the numbers of the pages whose row is a running head or foot.

    Three kinds of evidence: the words recur at one height, the row counts the pages, it is a number.
    """
    texts = [" ".join(line.text for line in row) for row in rows]
    keys = [_NUMBER.sub("#", text.lower()) for text in texts]
    places = [round((row[0].y0) / _SAME_PLACE) if row else 0 for row in rows]
    recurring = Counter(
        (key, place + shift) for key, place in zip(keys, places, strict=True) for shift in (0, 1) if key
    )
    offsets: Counter[int] = Counter()
    for number, text in enumerate(texts):
        offsets.update({value - number for value in _outer_numbers(text)})
    enough = min(_MIN_RECURRENCES, max(2, sum(map(bool, texts))))
    found = []
    for number, (text, key, place) in enumerate(zip(texts, keys, places, strict=True)):
        if not text:
            continue
        recurs = max(recurring[key, place], recurring[key, place + 1]) >= enough
        counted = any(offsets[value - number] >= enough for value in _outer_numbers(text))
        lone = is_first and bool(_PAGE_NUMBER.match(text)) and (is_foot or counted)
        if lone or ((counted or (recurs and apart[number])) and len(text) < _LONGEST_HEAD):
            found.append(number)
    return found


def _outer_numbers(text: str) -> set[int]:
    """Return the numbers that a text begins and ends with."""
    words = text.split()
    return {int(word) for word in (*words[:1], *words[-1:]) if word.isdecimal() and len(word) <= 4}


# Notes and columns


def _split_notes(page: Page, size: float) -> tuple[Page, list[str]]:
    """Return a page without the notes below its text, and their lines."""
    body = [line.y0 for line in page if line.size > 0.93 * size]
    if not body:
        return page, []
    lowest = min(body)
    small = [line for line in page if line.y1 < lowest + 2 and line.size <= 0.93 * size]
    small.sort(key=lambda line: -line.y0)
    if not small or not _NOTE.match(small[0].text):
        return page, []
    gone = set(small)
    return [line for line in page if line not in gone], [line.text for line in small]


def _sentences(lines: list[str]) -> list[list[str]]:
    """Return the lines of each note that holds a sentence, without its mark."""
    notes: list[list[str]] = []
    for line in lines:
        match = _NOTE.match(line)
        if match or not notes:
            notes.append([line[match.end() :] if match else line])
        else:
            notes[-1].append(line)
    return [note for note in notes if footnotes.says_something(" ".join(note))]


def _with_columns(page: Page) -> Page:
    """Set the edges of the column that each line stands in."""
    if len(page) > _MOST_LINES:
        return [line._replace(left=line.x0, right=line.x1) for line in page]
    result = []
    for line in page:
        middle = (line.x0 + line.x1) / 2
        column = [
            other
            for other in page
            if other is line or other.x0 <= middle <= other.x1 or line.x0 <= (other.x0 + other.x1) / 2 <= line.x1
        ]
        rights = sorted((other.x1 for other in column), reverse=True)
        right = rights[len(rights) // 20]
        # A justified quotation has an edge of its own inside the column.
        beside = [other.x1 for other in column if abs(other.x0 - line.x0) < 0.7 * line.size]
        edge = max(beside)
        if len(beside) > 2 and 2 * sum(x1 > edge - 0.5 * line.size for x1 in beside) > len(beside):
            right = min(right, edge)
        result.append(line._replace(left=min(other.x0 for other in column), right=right))
    return result


def _with_initials(lines: Page, size: float) -> Page:
    """Join the large initial of a chapter with its word."""
    words = Counter(_WORDS.findall("\n".join(line.text for line in lines).lower()))
    result: Page = []
    for line in lines:
        before = result[-1] if result else None
        if before and len(before.text) == 1 and before.text.isalpha() and before.size > 1.6 * size >= line.size:
            line = result.pop()._replace(text=f"{before.text}{INITIAL}{line.text}", size=line.size, right=line.right)
        if INITIAL in line.text:
            letter, _, rest = line.text.partition(INITIAL)
            first = _WORDS.match(rest.lower())
            # "I went" has a blank after its initial, "It went" has none.
            alone = letter in "AIO" and first and words[first.group()] > words[letter.lower() + first.group()]
            line = line._replace(text=f"{letter} {rest}" if alone else letter + rest)
        result.append(line)
    return result


def _leading(lines: Page) -> float:
    """Return the usual distance from one line to the next, in sizes of letters."""
    steps = [
        (above.y0 - below.y0) / above.size
        for above, below in itertools.pairwise(lines)
        if above.size and 0 < above.y0 - below.y0 < 4 * above.size and abs(above.size - below.size) < 1
    ]
    return statistics.median(steps) if steps else 1.2


# Paragraphs


def _blocks(lines: Page, leading: float, words: "Counter[str]") -> list[str]:
    blocks: list[str] = []
    present: list[list[str]] = []  # the lines of a block, each with the lines that it was broken into
    indented = _has_indents(lines)
    for i, line in enumerate(lines):
        between = _between(lines[i - 1], line, leading, indented) if i else "\n\n"
        if between == "\n" and len(present[-1]) > 1 and _ENDS.search(lines[i - 1].text):
            between = "\n\n"  # the short last line of a paragraph
        if between == "\n\n" and present:
            blocks.append("\n".join(_joined(parts, words) for parts in present))
            present = []
        if between == " " and present:
            present[-1].append(line.text)
        else:
            present.append([line.text])
    if present:
        blocks.append("\n".join(_joined(parts, words) for parts in present))
    blocks = [_BULLET.sub("- ", block) if _BULLET.match(block) else block for block in blocks]
    return [block for block in blocks if block.strip()]


def _has_indents(lines: Page) -> bool:
    """Whether the first lines of paragraphs are indented."""
    indented = sum(0.7 * line.size < line.x0 - line.left < 5 * line.size for line in lines)
    return 40 * indented > len(lines)


def _between(above: Line, below: Line, leading: float, indents: bool) -> str:
    """Return what separates two lines: a blank in a paragraph, a line break, or a blank line."""
    first = below.text.split(" ", 1)[0]
    width = (below.x1 - below.x0) * (len(first) + 1) / max(1, len(below.text))
    full = above.x1 + width > above.right - 0.3 * above.size
    ended = bool(_ENDS.search(above.text))
    hyphened = bool(_HYPHEN.search(above.text)) and first[:1].islower()
    alike = abs(above.size - below.size) <= 0.12 * above.size
    if alike and (hyphened or (full and first[:1].islower() and not ended)):
        return " "
    if not alike:
        return "\n\n"
    indent = indents and 0.7 * below.size < below.x0 - below.left < 8 * below.size and below.x0 > above.x0 + 0.5
    step = above.y0 - below.y0
    if not 0 < step < 6 * above.size:  # the next column or page
        if indent or (ended and not (indents and full)):
            return "\n\n"
        return " " if full or first[:1].islower() else "\n\n"
    if step > 1.3 * leading * above.size or indent:
        return "\n\n"
    if _ITEM.match(below.text) and (_ITEM.match(above.text) or not full):
        return "\n"
    if full:
        return " "
    return "\n"


def _joined(lines: list[str], words: "Counter[str]") -> str:
    """Join the lines of a paragraph. A word that was divided is written as elsewhere."""
    parts = lines[:1]
    for line in lines[1:]:
        match, after = _HYPHEN.search(parts[-1][-_LONGEST_WORD:]), _WORDS.match(line)
        if not match or not after or not line[0].islower():
            parts += (" ", line)
            continue
        first, second = match[1].lower(), after.group().split("-")[0].lower()
        whole, apart = words[first + second], words[f"{first}-{second}"]
        both = words[first] > 1 and words[second] > 1
        keeps = parts[-1][-1] == "-" and whole <= apart and (apart > 0 or both)
        parts[-1] = parts[-1] if keeps else parts[-1][:-1]
        parts.append(line)
    return "".join(parts).replace("\u00ad", "")
