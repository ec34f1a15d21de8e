"""Judge the line breaks of a text block by block: hard wraps are joined, meant breaks stay.

A hard-wrapped block has lines of nearly one width whose breaks stand inside sentences. A block too
short to show that is judged by the width of its neighbours.
"""

import functools
import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple

from llm60_jax.data.clean import blocks
from llm60_jax.data.clean.blocks import LINE_END, NARROW, SENTENCE_END, SHORT, WIDE, Block
from llm60_jax.data.clean.markup import split_fences

_SENTENCE_INSIDE = re.compile(r"[^\W_]{3}[.!?][\"'\u201d\u2019)\]]* +[\"'\u201c\u2018(]?[A-Z]")
_PUNCTUATED = re.compile(r"[.,;:!?\u2014-][\"'\u201d\u2019)\]_]*$")
_NOT_LETTERS = " \"'\u201c\u2018([_*-\u2014"  # before the first letter of a line

_NEARLY_SHORT = 65
_LONG = 160  # text whose lines are mostly longer has one line a paragraph
_MAX_STANZA_LINES = 60

_LABELLED = re.compile(r"[A-Z][\w ]{0,20}: \S")  # Present: Anna, Tom
_CODE_LINE = re.compile(r"[{}\\=]$|[(){}=].*;$")
_COLUMNS = re.compile(r"\S {3,}\S")

_HYPHEN_AT_END = re.compile(r"([^\W\d_]{2,})-\n([^\W\d_]{2,})")
_HYPHEN_AND_SPACE = re.compile(r"\b([^\W\d_]{2,})- ([^\W\d_]{2,})\b")


class _Shape(NamedTuple):
    """What the lines of a block look like."""

    lines: list[str]  # without indentation and double spaces
    lengths: list[int]
    reach: list[int]  # for each break: the width at which the next word would still have fitted
    lower: int  # lines after the first that begin in lower case
    cut: list[int]  # the reach at each break inside a sentence

    @property
    def breaks(self) -> int:
        return len(self.lines) - 1

    @property
    def cuts(self) -> int:
        return len(self.cut)

    @property
    def widest(self) -> int:
        return max(self.lengths)

    def filled(self, width: float) -> int:
        """Count the breaks at which a line of this width was full."""
        return sum(reach >= width for reach in self.reach)


class _Habits(NamedTuple):
    """What holds for a whole text."""

    one_line: bool  # most of it has one line a paragraph
    semantic: bool  # it has a line for each sentence
    slack: int  # by how much lines fall short of their width, inside sentences


def paragraphs(text: str) -> list[str]:
    """Return the paragraphs of a normalised text, without double spaces.

    A stanza of verse, a list and a table are one paragraph each and keep their lines, and so is
    code between fences.
    """
    words = functools.cache(lambda: _words(text))
    texts: list[str] = []
    if "```" in text or "~~~" in text:
        for fenced, part in split_fences(text):
            texts += ["\n".join(line for line in part.split("\n") if line)] if fenced else _paragraphs(part, words)
    else:
        texts = _paragraphs(text, words)
    for i, paragraph in enumerate(texts):
        if "- " in paragraph and any(part[-1:].isalpha() for part in paragraph.split("- ")[:-1]):
            texts[i] = _HYPHEN_AND_SPACE.sub(lambda match: _join(match, words(), "- "), paragraph)
    return texts


def _paragraphs(text: str, words: Callable[[], Counter[str]]) -> list[str]:
    parts = blocks.split(text)
    shapes = [None if structured or len(lines) == 1 else _shape(lines) for structured, lines in parts]
    widths = _drop_doubtful(shapes, [0 if shape is None else _own_width(shape) for shape in shapes])
    lengths = [len(line) for _, lines in parts for line in lines]
    one_line = 2 * sum(length for length in lengths if length > _LONG) > sum(lengths)
    semantic = not one_line and _one_sentence_a_line([shape for shape in shapes if shape is not None])
    habits = _Habits(one_line, semantic, _slack(shapes, widths))
    after = [0, *_nearest(widths[::-1])][:-1][::-1]
    before = [0, *_nearest(widths)][:-1]
    texts: list[str] = []
    for i, (_, lines) in enumerate(parts):
        shape = shapes[i]
        if shape is None:
            texts.append("\n".join(" ".join(line.split()) for line in lines))
            continue
        near = () if one_line else tuple({width for width in (before[i], after[i]) if width})
        for joined, part in _judge(lines, shape, widths[i], near, habits):
            if joined and len(part) > 1:
                whole = "\n".join(part)
                if "-\n" in whole:
                    whole = _HYPHEN_AT_END.sub(lambda match: _join(match, words(), "-"), whole)
                texts.append(whole.replace("\n", " "))
            else:
                texts.append("\n".join(part))
    return texts


def _shape(block: Block) -> _Shape:
    lines = [" ".join(line.split()) for line in block]
    margin = min(len(line) - len(line.lstrip()) for line in block)
    lengths = [len(line) - margin for line in block]
    reach, lower, cut = [], 0, []
    for length, before, line in zip(lengths, lines, lines[1:], strict=False):
        space = line.find(" ")
        reach.append(length + 1 + (space if space > 0 else len(line)))
        if line.lstrip(_NOT_LETTERS)[:1].islower():
            lower += 1
            last = before[-1]
            if last.isalnum() or last in ",;-\u2014":
                cut.append(reach[-1])
    return _Shape(lines, lengths, reach, lower, cut)


def _own_width(shape: _Shape) -> int:
    """Return the width at which a block is clearly wrapped, else 0."""
    breaks, cuts, width = shape.breaks, shape.cuts, shape.widest
    if breaks > 20:
        width = sorted(shape.lengths)[breaks * 9 // 10]  # a few lines may be longer
    if not NARROW < width <= WIDE or breaks < 2:
        return 0
    if width < SHORT:
        # Verse in lower case has lines of nearly one width too, but most end with a pause.
        paused = sum(bool(_PUNCTUATED.search(line)) for line in shape.lines[:-1])
        return width if breaks > 2 and _is_filled(shape, width) and 2 * cuts >= breaks > 2 * paused else 0
    if width < _NEARLY_SHORT and not _is_filled(shape, width):
        return 0
    full = sum(reach >= 0.85 * width for reach in shape.cut)
    often = 3 * cuts >= breaks and 2 * shape.filled(0.9 * width) >= breaks
    # Between many paragraphs of one line, those that are longer show the width.
    seldom = cuts > 2 and 7 * cuts >= breaks and 5 * full >= 4 * cuts
    return width if (often or seldom) and not _is_code(shape) else 0


def _is_filled(shape: _Shape, width: int) -> bool:
    """Whether the next word would not have fitted, at most breaks: the lines were filled by a machine."""
    return 10 * shape.filled(width) >= 7 * shape.breaks


def _drop_doubtful(shapes: list[_Shape | None], widths: list[int]) -> list[int]:
    """Return widths without those of short lines among wider ones, which may be verse."""
    weights: Counter[int] = Counter()
    for width in widths:
        weights[width // 4] += width
    main = 4 * max(weights, key=lambda width: weights[width], default=0)
    return [
        0 if shape is not None and 4 * width < 3 * main and not _is_filled(shape, width) else width
        for shape, width in zip(shapes, widths, strict=True)
    ]


def _slack(shapes: list[_Shape | None], widths: list[int]) -> int:
    """Return by how much the lines of a text fall short of their width, inside sentences."""
    missing = sorted(
        width - reach
        for shape, width in zip(shapes, widths, strict=True)
        if shape is not None and width
        for reach in shape.cut
    )
    return min(max(1, missing[len(missing) * 19 // 20]), max(widths) // 4) if missing else 1


def _nearest(widths: list[int]) -> Iterator[int]:
    """Yield for each block the width of the last clearly wrapped one, itself included."""
    last = 0
    for width in widths:
        last = width or last
        yield last


def _judge(
    block: Block, shape: _Shape, own: int, near: tuple[int, ...], habits: _Habits
) -> list[tuple[bool, list[str]]]:
    """Return (whether to join them, lines) of each paragraph of a block of several lines."""
    lines, breaks = shape.lines, shape.breaks
    if own:
        return list(_split_wrapped(block, shape, own, habits.slack))
    if habits.semantic and _is_one_sentence_a_line(shape):
        return [(True, lines)]
    width = next((width for width in near if _fits(shape, width)), 0)
    narrow = 0 < width < SHORT + 5 and (breaks < 3 or (shape.lower and shape.filled(0.95 * width) == breaks))
    if not narrow and _is_verse(shape, near):
        return [(False, lines)]
    if _is_table(block):
        return [(False, lines)]
    if _is_code(shape):
        return [(False, [line]) for line in lines]
    if width:
        return list(_split_wrapped(block, shape, width, habits.slack))
    mean = sum(shape.lengths[:-1]) / breaks
    some_words = sum(line.count(" ") for line in lines) >= len(lines)
    if some_words and shape.lower and 2 * shape.lower >= breaks and shape.widest < SHORT:
        return [(False, lines)]  # a line that begins in lower case is no paragraph
    if breaks >= 3 and 2 * shape.lower > breaks and (shape.widest < 60 or 4 * shape.widest < 3 * max(near, default=0)):
        return [(False, lines)]  # verse in lower case
    if 2 * shape.cuts > breaks and shape.widest <= WIDE and mean >= 45:
        return [(True, lines)]  # ragged, but broken inside its sentences
    if all(map(_LABELLED.match, lines)):
        return [(False, lines)]
    if breaks == 1 and SHORT <= mean <= WIDE and lines[0][-1].isalnum() and shape.lengths[1] <= shape.reach[0]:
        return [(True, lines)]
    if habits.one_line and shape.widest <= WIDE:
        return [(False, lines)]  # in such a text a break inside a block is meant
    return [(False, [line]) for line in lines]


def _fits(shape: _Shape, width: int) -> bool:
    """Whether the lines of a block may be wrapped at a neighbour's width."""
    if shape.widest > 1.15 * width + 2:
        return False
    return 2 * shape.filled(0.85 * width) >= shape.breaks or (
        2 * shape.cuts > shape.breaks and shape.widest >= 0.75 * width
    )


def _is_verse(shape: _Shape, near: tuple[int, ...]) -> bool:
    """Whether the lines of a block are verse: short lines that begin with capitals, or ragged open ones."""
    count = len(shape.lines)
    if count > _MAX_STANZA_LINES or shape.widest > WIDE:
        return False
    first = shape.lines[0].lstrip(_NOT_LETTERS)[:1].islower()
    if 10 * (count - shape.lower - first) < 7 * count:
        return False
    short = sum(length < SHORT for length in shape.lengths[:-1])
    if 2 * short >= shape.breaks:
        return True
    ended = sum(bool(SENTENCE_END.search(line)) for line in shape.lines)
    ragged = 2 * shape.filled(0.9 * shape.widest) < shape.breaks or shape.widest < 0.85 * min(near, default=WIDE)
    return shape.breaks >= 3 and not shape.lower and ragged and shape.widest < 100 and 2 * ended < count


def _is_code(shape: _Shape) -> bool:
    return 3 * sum(bool(_CODE_LINE.search(line)) for line in shape.lines) >= len(shape.lines)


def _is_table(block: Block) -> bool:
    return 4 * sum(bool(_COLUMNS.search(line)) for line in block) >= 3 * len(block)


def _one_sentence_a_line(shapes: list[_Shape]) -> bool:
    """Whether a text has a line for each sentence and blank lines between paragraphs."""
    candidates = [shape for shape in shapes if _is_one_sentence_a_line(shape)]
    lengths = [length for shape in candidates for length in shape.lengths]
    return len(candidates) >= 2 and 4 * len(candidates) >= 3 * len(shapes) and sum(lengths) >= 40 * len(lengths)


def _is_one_sentence_a_line(shape: _Shape) -> bool:
    if shape.lower or not all(map(SENTENCE_END.search, shape.lines)):
        return False
    several = sum(bool(_SENTENCE_INSIDE.search(line)) for line in shape.lines)
    spoken = sum(line[0] in "\"'\u201c\u2018-\u2013\u2014" for line in shape.lines)
    return 5 * several <= len(shape.lines) and 3 * spoken <= len(shape.lines)


def _split_wrapped(block: Block, shape: _Shape, width: int, slack: int) -> Iterator[tuple[bool, list[str]]]:
    """Yield (whether to join them, lines) of the paragraphs of a hard-wrapped block.

    A paragraph begins at an indented line after a sentence, and where a line left room: after a
    sentence for a word, after a title or a pause for a third of the line. Verse is a run of such
    short lines.
    """
    indents = [len(line) - len(line.lstrip()) for line in block]
    margin = min(indents)
    deep = [indent > margin + 1 for indent in indents] if max(indents) > margin + 1 else None
    few = deep is not None and 2 * sum(deep) <= len(block)
    # Where indents begin the paragraphs, a sentence that ends early does not.
    full = min(width - slack, 0.7 * width) if deep is not None and few and sum(deep[1:]) > 1 else width - slack
    parts, edges = [shape.lines[:1]], []
    for i, reach in enumerate(shape.reach):
        before, line = shape.lines[i], shape.lines[i + 1]
        edge = ""
        if reach < full or deep is not None:
            indented = deep is not None and deep[i + 1] and (few or indents[i + 1] > indents[i] + 1)
            if (reach < full or indented) and LINE_END.search(before):
                edge = "sentence"
            elif reach < 0.65 * width and _is_title_or_pause(before, line, width):
                edge = "short"
        if edge:
            edges.append(edge)
            parts.append([])
        parts[-1].append(line)
    start = 0
    for i, part in enumerate(parts):
        # A run of short lines is a stanza or an address.
        if i < len(edges) and edges[i] == "short" and len(part) == len(parts[i + 1]) == 1:
            continue
        yield start == i, [line for lines in parts[start : i + 1] for line in lines]
        start = i + 1


def _is_title_or_pause(before: str, line: str, width: int) -> bool:
    """Whether a short line ends on purpose above a line that begins with a capital."""
    if line.lstrip(_NOT_LETTERS)[:1].islower():
        return False
    words = before.split()
    titled = 2 * sum(not word[:1].islower() for word in words) > len(words)
    return titled or not before[-1].isalnum() or 3 * len(before) < width


def _join(match: "re.Match[str]", words: Counter[str], between: str) -> str:
    """Join two halves of a word that a hyphen and white space separate.

    The spelling elsewhere in the document decides between one word and a hyphen. Without such
    evidence, halves at a line end become one word unless both are words; inside a line nothing
    changes.

    Args:
      words: how often the document has each word, in lower case.
      between: what separates the halves: "-" (and a newline) or "- ".
    """
    first, second = match.group(1), match.group(2)
    whole, hyphened = words[(first + second).lower()], words[f"{first}-{second}".lower()]
    if whole > hyphened:
        return first + second
    if between == "- ":
        return match.group(0)
    both = words[first.lower()] > 1 and words[second.lower()] > 1
    return f"{first}-{second}" if hyphened or both else first + second


def _words(text: str) -> Counter[str]:
    return Counter(re.findall(r"[^\W\d_]+(?:-[^\W\d_]+)*", text.lower()))
