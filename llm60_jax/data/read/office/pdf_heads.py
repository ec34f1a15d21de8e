"""Running heads and feet of printed pages, and page numbers. Pure functions."""

import itertools
import re
import statistics
from collections import Counter

from llm60_jax.data.read.office.pdf_columns import Line, Page

_EDGE_ROWS = 2  # rows at the top and bottom of a page that can be running heads
_SAME_PLACE = 4.0  # points
_ENOUGH = 3  # pages that a row recurs on
_ENOUGH_OUTSIDE = 2  # if it also stands outside the text of all pages
# More blank space than between lines, in sizes of its letters, that is between a running head and the text
_APART = 0.4
_FAR_APART = 0.6  # of a head that recurs on two pages or less
_LONGEST_HEAD = 120  # characters
_NUMBER = re.compile(r"\d{1,4}|\b[ivxlc]{1,7}\b", re.IGNORECASE)
_PAGE_NUMBER = re.compile(
    r"\W{0,4}(?:page|p\.|seite)?\s{0,3}(?:\d{1,4}|[ivxlc]{1,7})(?:\s{0,2}(?:of|/|\|)\s{0,2}\d{1,4})?\W{0,4}$",
    re.IGNORECASE,
)
# A sentence goes on after these words and marks.
_OPEN = re.compile(
    r"(?:[,-]|\b(?:a|an|and|as|at|but|by|for|from|his|her|in|is|my|of|on|or|our|that|the|their|to|was|which|with))$",
    re.IGNORECASE,
)


def without_running_lines(pages: list[Page]) -> list[Page]:
    """Remove heads and feet that recur at one place of the pages, and page numbers."""
    usual = _usual_gap(pages)
    largest = 1.1 * statistics.median([line.size for page in pages for line in page] or [0.0])
    for last in range(_EDGE_ROWS):
        rows = [_edge_rows(page) for page in pages]
        running: list[set[Line]] = [set() for _ in pages]
        for edge in (0, 1):
            at_edge = [pair[edge] for pair in rows]
            gaps = [_gap(row, page, usual) for row, page in zip(at_edge, pages, strict=True)]
            outside = _outside(at_edge, gaps, pages, is_foot=edge == 1)
            for number in _running(at_edge, gaps, outside, largest, is_foot=edge == 1, is_first=last == 0):
                running[number].update(at_edge[number])
        if not any(running):
            break
        pages = [[line for line in page if line not in gone] for page, gone in zip(pages, running, strict=True)]
    return _without_interruptions(pages, usual)


def _without_interruptions(pages: list[Page], usual: float) -> list[Page]:
    """Remove heads that stand inside a sentence, between two columns or pages."""
    rows = [_edge_rows(page)[0] for page in pages]
    gaps = [_gap(row, page, usual) for row, page in zip(rows, pages, strict=True)]
    outside = _outside(rows, gaps, pages, is_foot=False)
    result: list[Page] = []
    before = ""
    for row, gap, is_outside, page in zip(rows, gaps, outside, pages, strict=True):
        head = set(row)
        interrupts = False
        for line, after in itertools.zip_longest(page, page[1:]):
            if line not in head:
                before = line.text
            elif after is not None and after not in head:
                interrupts = interrupts or _continues(before, after.text)
        is_short = len(" ".join(line.text for line in row)) < _LONGEST_HEAD
        removes = interrupts and is_outside and is_short and gap > _FAR_APART
        result.append([line for line in page if line not in head] if removes else page)
    return result


def _continues(before: str, after: str) -> bool:
    return bool(_OPEN.search(before)) or (before[-1:].isalpha() and after[:1].islower())


def _edge_rows(page: Page) -> tuple[Page, Page]:
    """Return the highest and the lowest row of a page."""
    if not page:
        return [], []
    top, bottom = max(line.y1 for line in page), min(line.y0 for line in page)
    return (
        sorted((line for line in page if line.y1 > top - _SAME_PLACE), key=lambda line: line.x0),
        sorted((line for line in page if line.y0 < bottom + _SAME_PLACE), key=lambda line: line.x0),
    )


def _usual_gap(pages: list[Page]) -> float:
    """Return the usual distance between two rows, in points."""
    gaps = []
    for page in pages:
        for above, below in itertools.pairwise(sorted(page, key=lambda line: -line.y0)):
            if below.y0 < above.y0 - _SAME_PLACE:
                gaps.append(max(0.0, above.y0 - below.y1))
    return statistics.median(gaps) if gaps else 0.0


def _gap(row: Page, page: Page, usual: float) -> float:
    """Return how much further a row at an edge is from the rest than rows are, in sizes of its letters."""
    if not row:
        return 0.0
    top, bottom = max(line.y1 for line in row), min(line.y0 for line in row)
    rest = [line for line in page if line.y0 >= top or line.y1 <= bottom]
    gap = min((max(line.y0 - top, bottom - line.y1) for line in rest), default=0.0)
    return (gap - usual) / max(1.0, row[0].size)


def _outside(rows: list[Page], gaps: list[float], pages: list[Page], is_foot: bool) -> list[bool]:
    """Return which rows stand above, or below, the text of every page.

    The head of a chapter does not: other pages have text at its height.
    """
    sign = -1 if is_foot else 1
    edges = []
    for row, gap, page in zip(rows, gaps, pages, strict=True):
        in_row = set(row) if gap > _APART else set()
        edges += [sign * (line.y0 if is_foot else line.y1) for line in page if line not in in_row]
    limit = max(edges, default=0.0)
    return [
        bool(row) and min(sign * (line.y1 if is_foot else line.y0) for line in row) > limit - _SAME_PLACE
        for row in rows
    ]


def _running(
    rows: list[Page], gaps: list[float], outside: list[bool], largest: float, is_foot: bool, is_first: bool
) -> list[int]:
    """Return the numbers of the pages whose row is a running head or foot.

    Three kinds of evidence: the words recur at one height, the row counts the pages, it is a number.

    Args:
      largest: size of letters; on two pages, larger ones are headings.
    """
    texts = [" ".join(line.text for line in row) for row in rows]
    keys = [_NUMBER.sub("#", text.lower()) for text in texts]
    places = [round((row[0].y0) / _SAME_PLACE) if row else 0 for row in rows]
    recurring = _recurring(keys, places)
    # Two pages are little evidence: words that differ in their numbers may be heads of chapters.
    same = _recurring([text.lower() for text in texts], places)
    offsets: Counter[int] = Counter()
    for number, text in enumerate(texts):
        offsets.update({value - number for value in _outer_numbers(text)})
    found = []
    for number, (text, key, place) in enumerate(zip(texts, keys, places, strict=True)):
        if not text:
            continue
        apart = gaps[number] > _APART
        far = outside[number] and gaps[number] > _FAR_APART and rows[number][0].size <= largest
        recurrences = max(recurring[key, place], recurring[key, place + 1])
        repeats = max(same[text.lower(), place], same[text.lower(), place + 1])
        count = max((offsets[value - number] for value in _outer_numbers(text)), default=0)
        counted = count >= _ENOUGH or (far and min(count, recurrences) >= _ENOUGH_OUTSIDE)
        recurs = apart and (repeats >= _ENOUGH or (outside[number] and recurrences >= _ENOUGH))
        recurs = recurs or (far and repeats >= _ENOUGH_OUTSIDE)
        lone = is_first and bool(_PAGE_NUMBER.match(text)) and (is_foot or counted)
        if lone or ((counted or recurs) and len(text) < _LONGEST_HEAD):
            found.append(number)
    return found


def _recurring(keys: list[str], places: list[int]) -> "Counter[tuple[str, int]]":
    """Count the rows with the same words at one height, or in the next place."""
    pairs = zip(keys, places, strict=True)
    return Counter((key, place + shift) for key, place in pairs for shift in (0, 1) if key)


def _outer_numbers(text: str) -> set[int]:
    """Return the numbers that a text begins and ends with."""
    words = text.split()
    return {int(word) for word in (*words[:1], *words[-1:]) if word.isdecimal() and len(word) <= 4}
