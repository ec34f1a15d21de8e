"""Text cleaning: pure functions from text to text.

Cleaned text has no control characters except the newline, no double spaces, and one blank line
between paragraphs. The steps `normalise`, `unmark`, `paragraphs`, `strip_marks` and `inline` are separate because
the exclusion rules run between them.
"""

import re
from collections.abc import Iterator

from llm60_jax.data.clean.characters import normalise
from llm60_jax.data.clean.line_breaks import paragraphs
from llm60_jax.data.clean.markup import inline, shown, strip_marks, unmark

__all__ = ["VERSION", "clean", "cut", "inline", "normalise", "paragraphs", "shown", "strip_marks", "unmark"]

VERSION = 4  # part of every corpus digest: raise it with any change of the cleaned text

_SENTENCE_END = re.compile(r"[.!?][\"'\u201d\u2019)\]]*\s")


def clean(text: str) -> str:
    """Return paragraphs of plain text with one blank line between them.

    The lines of a hard-wrapped block are joined into paragraphs; in any other block each line is a
    paragraph. Verse, lists, tables and fenced code keep their lines inside one paragraph. Markup,
    citation markers, links and addresses are removed.
    """
    blocks = map(strip_marks, paragraphs(unmark(normalise(text))))
    return "\n\n".join(prose for block in blocks if (prose := inline(block)))


def cut(text: str, limit: int = 20_000) -> list[str]:
    """Cut text into pieces of at most `limit` characters. Only white space between them is lost.

    A piece ends at the last paragraph end within the limit, else at the last sentence end, else at
    the last space, else at the limit. Linear in the length of the text.
    """
    if limit < 1:
        raise ValueError(f"limit must be at least 1, got {limit}")
    return list(_pieces(text, limit))


def _pieces(text: str, limit: int) -> Iterator[str]:
    start, end = 0, len(text)
    while start < end:
        if text[start].isspace():
            start += 1
            continue
        stop = end if end - start <= limit else start + _cut_point(text[start : start + limit + 1], limit)
        yield text[start:stop].rstrip()
        start = stop


def _cut_point(window: str, limit: int) -> int:
    """Return where to cut a window of limit + 1 characters: 1 <= point <= limit."""
    paragraph = window.rfind("\n\n")
    if paragraph > 0:
        return paragraph
    sentence = 0
    for match in _SENTENCE_END.finditer(window):
        sentence = match.end() - 1
    if sentence > 0:
        return sentence
    space = max(window.rfind(" "), window.rfind("\n"))
    return space if space > 0 else limit
