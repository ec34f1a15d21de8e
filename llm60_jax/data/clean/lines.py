"""Runs of lines: what the exclusion rules for lines share."""

import itertools
import re
from collections.abc import Callable, Iterator, Sequence

Lines = Sequence[str]
Mask = list[bool]  # for each line, whether to drop it
ROMAN = re.compile(r"(?=[ivxlc])c{0,3}(?:xc|xl|l?x{0,3})(?:ix|iv|v?i{0,3})$", re.IGNORECASE)
_ROMAN_VALUES = {"i": 1, "v": 5, "x": 10, "l": 50, "c": 100}


def blocks(lines: Lines) -> Iterator[tuple[int, int]]:
    """Yield start and stop of each run of lines that are not blank."""
    for blank, block in itertools.groupby(range(len(lines)), key=lambda i: not lines[i].strip()):
        if not blank:
            numbers = list(block)
            yield numbers[0], numbers[-1] + 1


def words(line: str) -> int:
    """Count the words of a line."""
    return len(line.split())


def _one(line: str) -> int:
    return 1 if line.strip() else 0


def groups(lines: Lines, hits: Mask, gap: int, size: Callable[[str], int] = _one) -> Iterator[tuple[int, int]]:
    """Yield start and stop of each group of hits that lie close together.

    Args:
      lines: all lines of a document.
      hits: for each line, whether it is a hit.
      gap: the most that may lie between two neighbours of a group.
      size: what a line between them counts; one if it is not blank, or its words.
    """
    start = stop = None
    between = 0
    for i, hit in enumerate(hits):
        if hit:
            if start is not None and between > gap:
                assert stop is not None
                yield start, stop
                start = None
            start = i if start is None else start
            stop, between = i + 1, 0
        elif start is not None and between <= gap:
            between += size(lines[i])
    if start is not None and stop is not None:
        yield start, stop


def runs(lines: Lines, hits: Mask, least: int, gap: int = 0) -> Mask:
    """Mark groups of at least `least` hits, the lines between the hits included."""
    mask = [False] * len(lines)
    for start, stop in groups(lines, hits, gap):
        if sum(hits[start:stop]) >= least:
            mask[start:stop] = [True] * (stop - start)
    return mask


def roman(number: str) -> int:
    """Return the value of a Roman numeral, up to 399."""
    values = [_ROMAN_VALUES[letter] for letter in number.lower()]
    return sum(-a if a < b else a for a, b in zip(values, [*values[1:], 0], strict=True))
