"""What an author wrote, and what is left of it in a text: the share kept, junk, whole
paragraphs."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

RUN = 4  # consecutive words that identify a place in what an author wrote
Form = Literal["prose", "verse", "heading", "item", "code", "row", "either"]
# Forms that rules of a grammar or vocabulary phase may drop.
NO_PROSE = ("item", "code", "row")

_MARK = re.compile(r"^\s*(?:[-*\u2022]|\d{1,3}[.)])\s+")  # of an item of a list
_DASH = re.compile(r"[\u2013\u2014]|(?<!-)--+(?!-)|\u2026")
_APOSTROPHE = str.maketrans("\u2018\u2019", "''")
_POINTS = ".,;:!?\"'\u201c\u201d()"


@dataclass(frozen=True)
class Block:
    """A block of one's own text as its author means it, without any markup.

    Verse and code keep their lines. Blocks of the form "either" may be kept or not: greetings,
    titles, questions of a template.
    """

    text: str
    form: Form = "prose"


@dataclass
class Sample:
    """The files of one kind, and what their author wrote in them, by document."""

    files: dict[str, bytes] = field(default_factory=dict)
    documents: list[list[Block]] = field(default_factory=list)

    def add(self, name: str, data: bytes, blocks: Iterable[Block]) -> None:
        """Add a file of one document."""
        self.files[name] = data
        self.documents.append(list(blocks))


@dataclass(frozen=True)
class Kept:
    """What is left of a sample. Characters are those of words, without white space and points."""

    own: int  # characters that the author wrote
    kept: int
    junk: int  # characters kept that the author did not write, or kept twice
    documents: int
    lost: int  # documents of which nothing is left
    paragraphs: int
    whole: int  # paragraphs that are one paragraph again, with the same words and lines of verse

    @property
    def share(self) -> float:
        return self.kept / self.own if self.own else 1.0

    @property
    def junk_per_thousand(self) -> float:
        return 1000 * self.junk / max(1, self.kept)

    @property
    def whole_share(self) -> float:
        return self.whole / self.paragraphs if self.paragraphs else 1.0


def tokens(text: str) -> list[str]:
    """Return the words of a text in lower case, without the marks of list items and points.

    Only white space and dashes separate words, so that words that have grown together, and markup
    that is left, make other words.
    """
    lines = (_DASH.sub(" ", _MARK.sub("", line)) for line in text.translate(_APOSTROPHE).lower().split("\n"))
    words = (word.strip(_POINTS) for line in lines for word in line.split())
    return [word for word in words if word]


def runs(words: Sequence[str]) -> list[tuple[str, ...]]:
    """Return all runs of `RUN` words; a shorter text is one run."""
    if not words:
        return []
    return [tuple(words[i : i + RUN]) for i in range(max(1, len(words) - RUN + 1))]


def measure(documents: Sequence[Sequence[Block]], kept: Sequence[str], uncounted: Sequence[str] = ()) -> Kept:
    """Compare what an author wrote with the texts that are kept.

    Args:
      documents: the blocks of each document.
      kept: the texts that come out, in any order.
      uncounted: forms of blocks that may be kept or not, like "either".
    """
    uncounted = ("either", *uncounted)
    texts = [tokens(text) for text in kept]
    present = {run for words in texts for run in runs(words)}
    own = [[block for block in blocks if block.form not in uncounted] for blocks in documents]
    sizes = [[covered(tokens(block.text), present.__contains__) for block in blocks] for blocks in own]
    whole, paragraphs = _whole([block for blocks in own for block in blocks], kept)
    return Kept(
        own=sum(size for blocks in sizes for _, size in blocks),
        kept=sum(part for blocks in sizes for part, _ in blocks),
        junk=_junk([block for blocks in documents for block in blocks], texts, uncounted),
        documents=len(documents),
        lost=sum(bool(blocks) and not any(part for part, _ in blocks) for blocks in sizes),
        paragraphs=paragraphs,
        whole=whole,
    )


def covered(words: Sequence[str], is_there: Callable[[tuple[str, ...]], bool]) -> tuple[int, int]:
    """Return the characters of the words inside runs that are there, and of all words."""
    marks = [False] * len(words)
    for start, run in enumerate(runs(words)):
        if is_there(run):
            marks[start : start + len(run)] = [True] * len(run)
    return sum(len(word) for word, mark in zip(words, marks, strict=True) if mark), sum(map(len, words))


def _junk(blocks: Sequence[Block], texts: Sequence[Sequence[str]], uncounted: Sequence[str]) -> int:
    """Count the characters in texts that are no words of the blocks. A run counts as often as the
    author wrote it."""
    left = Counter(run for block in blocks for run in runs(tokens(block.text)))
    short = sorted({len(run) for run in left if len(run) < RUN}, reverse=True)
    free = {run for block in blocks if block.form in uncounted for run in runs(tokens(block.text))}
    total = 0
    for words in texts:
        own = [False] * len(words)
        for start in range(len(words)):
            for size in (RUN, *short):
                run = tuple(words[start : start + size])
                if len(run) == size and (left[run] > 0 or run in free):
                    left[run] -= 1
                    own[start : start + size] = [True] * size
                    break
        total += sum(len(word) for word, mark in zip(words, own, strict=True) if not mark)
    return total


def _whole(blocks: Sequence[Block], kept: Sequence[str]) -> tuple[int, int]:
    """Return how many blocks come out with the same words in the same lines, and how many there
    are. Rows of tables are not counted; an item of a list is a line."""
    paragraphs: Counter[tuple[tuple[str, ...], ...]] = Counter()
    lines: Counter[tuple[str, ...]] = Counter()
    for text in kept:
        for paragraph in text.split("\n\n"):
            parts = _lines(paragraph)
            paragraphs[parts] += 1
            lines.update(parts)
    counted = [block for block in blocks if block.form != "row"]
    whole = 0
    for block in counted:
        parts = _lines(block.text)
        whole += lines[parts[0]] > 0 if block.form in ("item", "heading") else paragraphs[parts] > 0
    return whole, len(counted)


def _lines(text: str) -> tuple[tuple[str, ...], ...]:
    words = (tuple(tokens(line)) for line in text.split("\n"))
    return tuple(line for line in words if line)


def losses(
    documents: Sequence[Sequence[Block]],
    kept: Sequence[str],
    causes: dict[str, list[str]],
    uncounted: Sequence[str] = (),
) -> Counter[str]:
    """Return the characters that the author wrote and that are lost, by cause.

    Args:
      causes: the texts that each cause took. The first cause whose texts hold a word counts it;
        what is in no text counts as "reader".
    """
    uncounted = ("either", *uncounted)
    there = {run for text in kept for run in runs(tokens(text))}
    taken = {cause: {run for text in texts for run in runs(tokens(text))} for cause, texts in causes.items()}
    lost: Counter[str] = Counter()
    for block in (block for blocks in documents for block in blocks if block.form not in uncounted):
        words = tokens(block.text)
        seen = there.intersection(runs(words))
        before = covered(words, seen.__contains__)[0]
        for cause, cause_runs in taken.items():
            seen |= cause_runs.intersection(runs(words))
            after = covered(words, seen.__contains__)[0]
            lost[cause] += after - before
            before = after
        lost["reader"] += sum(map(len, words)) - before
    return +lost
