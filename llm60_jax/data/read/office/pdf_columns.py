"""The lines of a printed page in reading order: column after column. Pure functions."""

import statistics
from collections import Counter
from typing import NamedTuple


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
_MOST_LINES = 3_000  # of a page whose columns are looked for
_MOST_COLUMNS = 4
_EDGES = 8  # common left edges that a column can begin at
_SAME_EDGE = 2.0  # points
_GUTTER = 0.6  # of the size of its letters: the least width
_LEAST_LINES = 5  # of a column that another stands beside
_LEAST_CHARACTERS = 15  # of the usual line of a column; cells and names are shorter
_FULL = 0.7  # of the column's width
_ROW = 4.0  # points


def in_order(boxes: list[Page]) -> Page:
    """Return the lines of a page in reading order.

    Args:
      boxes: parts of lines that stand close together, box by box in an order that may read across
        columns.
    """
    parts = [part for box in boxes for part in box]
    if len(parts) <= _MOST_LINES:
        ordered = _by_columns(parts, _MOST_COLUMNS)
        if ordered is not None:
            return ordered
    return [line for box in boxes for line in rows(box)]


def rows(parts: Page) -> Page:
    """Return the lines of one column from top to bottom. Wide spaces separate the parts of a line."""
    lines: Page = []
    row: Page = []
    for part in sorted(parts, key=lambda part: -part.y0):
        if row and part.y1 - row[0].y0 < 0.6 * (row[0].y1 - row[0].y0):
            lines.append(_joined(row))
            row = []
        row.append(part)
    return [*lines, _joined(row)] if row else lines


def _joined(row: Page) -> Line:
    if len(row) == 1:
        return row[0]
    row = sorted(row, key=lambda part: part.x0)
    return Line(
        min(part.x0 for part in row),
        min(part.y0 for part in row),
        max(part.x1 for part in row),
        max(part.y1 for part in row),
        max(row, key=lambda part: (len(part.text), part.size)).size,
        " ".join(part.text for part in row),
    )


def _by_columns(parts: Page, most: int) -> Page | None:
    """Return the lines column by column; None if the page has one column.

    A line across the gutter, such as a heading, divides the columns into those above and below.
    """
    edge = _edge(parts) if most > 1 else None
    if edge is None:
        return None
    left, right, across = _sides(parts, edge)
    result: Page = []
    waiting = [sorted(side, key=lambda part: -part.y0) for side in (left, right)]
    taken = [0, 0]
    for line in [*rows(across), None]:
        for i, side in enumerate(waiting):
            start = taken[i]
            while taken[i] < len(side) and (line is None or side[taken[i]].y0 > line.y0):
                taken[i] += 1
            column = side[start : taken[i]]
            result += _by_columns(column, most - 1) or rows(column)
        if line is not None:
            result.append(line)
    return result


def _sides(parts: Page, edge: float) -> tuple[Page, Page, Page]:
    """Return the parts left of a gutter, right of it, and across it."""
    left: Page = []
    right: Page = []
    across: Page = []
    for part in parts:
        ends = part.x1 <= edge - _GUTTER * part.size
        (left if ends else right if part.x0 >= edge - _SAME_EDGE else across).append(part)
    return left, right, across


def _edge(parts: Page) -> float | None:
    """Return the left edge of a column that another column stands beside, the best of the page."""
    starts = Counter(round(part.x0 / _SAME_EDGE) for part in parts)
    found = [
        (beside, start)
        for start, count in starts.most_common(_EDGES)
        if count >= _LEAST_LINES and (beside := _beside(parts, start * _SAME_EDGE))
    ]
    return max(found)[1] * _SAME_EDGE if found else None


def _beside(parts: Page, edge: float) -> int:
    """Return how many lines stand beside others at a gutter; 0 unless both sides are prose."""
    left, right, crossing = _sides(parts, edge)
    left_rows, right_rows = ({round((part.y0 + part.y1) / 2 / _ROW) for part in side} for side in (left, right))
    left, right = _near(left, right_rows), _near(right, left_rows)
    if min(len(left), len(right)) < _LEAST_LINES or not (_is_column(left) and _is_column(right)):
        return 0
    low, high = min(part.y0 for part in right), max(part.y1 for part in right)
    across = sum(low < part.y0 and part.y1 < high for part in crossing)
    beside = len(left) + len(right)
    return beside if 4 * across <= beside else 0


def _near(parts: Page, present: set[int]) -> Page:
    """Return the parts that have another within two rows' height beside them."""
    middles = ((part, round((part.y0 + part.y1) / 2 / _ROW)) for part in parts)
    return [part for part, middle in middles if any(middle + shift in present for shift in range(-2, 3))]


def _is_column(parts: Page) -> bool:
    """Whether lines fill a column as prose does. Cells, names and verse have short lines."""
    left, right = min(part.x0 for part in parts), max(part.x1 for part in parts)
    full = sum(part.x1 > left + _FULL * (right - left) for part in parts)
    return 2 * full > len(parts) and statistics.median(len(part.text) for part in parts) >= _LEAST_CHARACTERS
