"""Text cleaning: pure functions from text to text. `VERSION` is part of every corpus digest; raise it with any change.

Cleaned text has no control characters but the newline, single blanks only, and one blank line between paragraphs.
"""

import re
import unicodedata
from collections.abc import Iterator

VERSION = 1

# Written out by number and not asked from `unicodedata`, so that every Python version removes the same characters.
_INVISIBLE = re.compile(
    "["
    "\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f"  # control characters that are no white space
    "\xad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f"
    "\ufeff\ufff9-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0001\U000e0020-\U000e007f"  # format characters
    "\ud800-\udfff"  # half surrogate pairs, as JSON escapes can hold
    "\ue000-\uf8ff\U000f0000-\U0010ffff"  # private use
    "]"
)
_NEWLINE = re.compile("\r\n?|[\x0b\x0c\x1c-\x1e\x85\u2028]")
_BLANKS = re.compile(r"[^\S\n]+")
_BLANK_LINES = re.compile(r"\n(?:\s*\n)+")
_SENTENCE_END = re.compile(r"[.!?][\"'\u201d\u2019)\]]*\s")
_WRAPPED_WIDTH = range(50, 91)  # characters in a line that an editor or a typist broke


def clean(text: str) -> str:
    """Normalises text to NFKC paragraphs separated by one blank line. Pure and idempotent.

    Lines of a hard-wrapped text are joined into their paragraphs; in any other text each line is a paragraph.
    """
    text = _NEWLINE.sub("\n", text).replace("\u2029", "\n\n")
    # Invisible characters go first: they can stand between a letter and its accent, which NFKC then composes.
    text = unicodedata.normalize("NFKC", _INVISIBLE.sub("", text))
    text = text.replace("\u2581", "_")  # sentencepiece writes a blank as U+2581 and could not tell the two apart
    lines = "\n".join(line.strip() for line in _BLANKS.sub(" ", text).split("\n"))
    blocks = [block.split("\n") for block in _BLANK_LINES.split(lines.strip())]
    if _is_hard_wrapped(blocks):
        return "\n\n".join(" ".join(block) for block in blocks)
    return "\n\n".join(line for block in blocks for line in block)


def cut(text: str, limit: int = 20_000) -> list[str]:
    """Cuts text into pieces of at most `limit` characters; joined, they lose white space only.

    A piece ends at the last paragraph end within the limit, else at the last sentence end, else at the last blank,
    else at the limit. Linear in the length of the text.
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
    """Where to cut a window of limit + 1 characters: 1 <= point <= limit. White space around the point is dropped."""
    paragraph = window.rfind("\n\n")
    if paragraph > 0:
        return paragraph
    sentence = 0
    for match in _SENTENCE_END.finditer(window):
        sentence = match.end() - 1
    if sentence > 0:
        return sentence
    blank = max(window.rfind(" "), window.rfind("\n"))
    return blank if blank > 0 else limit


def _is_hard_wrapped(blocks: list[list[str]]) -> bool:
    """Whether most lines that are not the last of their block have the width of a wrapped line."""
    inner = [line for block in blocks for line in block[:-1]]
    return 2 * sum(len(line) in _WRAPPED_WIDTH for line in inner) > len(inner)
