"""Which text of a phase is held out for validation. Pure functions.

A large phase holds out whole documents. A small one, such as somebody's own writing, holds out
parts of documents, so that a tenth of a single file is enough.
"""

import hashlib
import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from llm60_jax.data.clean import cleaning, dedup

VERSION = 2  # part of every corpus digest: raise it with any change of what is held out
SMALL_CHARACTERS = 1_000_000  # a phase below it holds out parts of documents
LEAST_CHARACTERS = 4_000  # of a phase: a quarter of less, some 250 tokens, measures nothing
_LEAST_HELD_OUT = 1_000  # characters, but at most a quarter of the phase
_PART_CHARACTERS = 2_500  # the longest part, one long context
_SHORTEST_PART_CHARACTERS = 400
_LEAST_OF_A_TEXT = 200  # characters of a part that is not the whole text: less is a heading or an end
_LARGE_SHARE = 0.02  # of the documents, and of the characters


class Text(NamedTuple):
    """A document, or a piece of a long one, as it may be cut."""

    text: str
    prompt: str  # an answer with its question stays whole


class Part(NamedTuple):
    """A part of a text. Together the parts are the text, without the white space between them."""

    text: str
    is_held_out: bool


def target(characters: int) -> int:
    """Return how many characters of a phase to hold out.

    A tenth up to 20,000 (5,000 tokens), then at least a twentieth up to 200,000, then 2 %.
    """
    tenth, twentieth = min(0.1 * characters, 20_000), min(0.05 * characters, 200_000)
    least = min(0.25 * characters, _LEAST_HELD_OUT)
    return int(max(least, tenth, twentieth, _LARGE_SHARE * characters))


def documents(lengths: Mapping[str, int]) -> set[str]:
    """Return the smallest ids that hold enough documents and characters of a large phase.

    The order of the sources plays no part.

    Args:
      lengths: id -> characters.
    """
    least, enough = _LARGE_SHARE * len(lengths), target(sum(lengths.values()))
    chosen: set[str] = set()
    characters = 0
    for name in sorted(lengths):
        if len(chosen) >= least and characters >= enough:
            break
        chosen.add(name)
        characters += lengths[name]
    return chosen


def parts(texts: Sequence[Text]) -> list[list[Part]]:
    """Cut the texts of a small phase into parts, some of which are held out.

    The digests of the parts choose, so the order of the texts plays no part. A part that another
    text repeats by half or more is not held out. What lies between two held-out parts is one part.
    """
    enough = target(sum(len(text.text) for text in texts))
    limit = max(_SHORTEST_PART_CHARACTERS, min(_PART_CHARACTERS, enough // 2))
    spans = [_spans(text, limit) for text in texts]
    chosen = _chosen(texts, spans, enough)
    return [list(_joined(text.text, spans[number], number, chosen)) for number, text in enumerate(texts)]


def _chosen(texts: Sequence[Text], spans: Sequence[Sequence[tuple[int, int]]], enough: int) -> set[tuple[int, int]]:
    """Return (text, place) of the parts to hold out, `enough` characters at most.

    If each part is longer, as a few long answers are, the shortest one is held out.
    """
    shared = _Shared([dedup.shingles(text.text) for text in texts])
    order = sorted(
        (hashlib.sha256(text.text[start:stop].encode("utf-8")).hexdigest(), number, place, stop - start)
        for number, text in enumerate(texts)
        for place, (start, stop) in enumerate(spans[number])
        if len(spans[number]) == 1 or stop - start >= _LEAST_OF_A_TEXT
    )
    repeated = {digest for digest, count in Counter(digest for digest, *_ in order).items() if count > 1}

    def is_own(digest: str, number: int, place: int) -> bool:
        start, stop = spans[number][place]
        return digest not in repeated and not shared.repeats(texts[number].text[start:stop])

    chosen: set[tuple[int, int]] = set()
    characters = 0
    for digest, number, place, size in order:
        if characters + size <= enough and is_own(digest, number, place):
            chosen.add((number, place))
            characters += size
    if not chosen and len(order) > 1:
        shortest = sorted(order, key=lambda part: part[3])
        own = (part for part in shortest if is_own(*part[:3]))
        chosen = {(number, place) for _, number, place, _ in itertools.islice(own, 1)}
    return chosen


def problem(phase: str, characters: int, held_out: int) -> str:
    """Return an error if a phase has too little text to hold any out, else "".

    Args:
      characters: of the whole phase, after cleaning.
      held_out: characters held out.
    """
    if characters < LEAST_CHARACTERS:
        return (
            f"phase.{phase}.sources: {characters:,} characters of distinct text were found after cleaning, but "
            f"{LEAST_CHARACTERS:,} are needed, of which {_LEAST_HELD_OUT:,} are held out for validation; add "
            f"{LEAST_CHARACTERS - characters:,} characters (about {(LEAST_CHARACTERS - characters) / 5.5:,.0f} words)"
        )
    if not held_out:
        return (
            f"phase.{phase}.sources: nothing can be held out for validation, because every part of the "
            f"{characters:,} characters occurs twice or is all there is; add text that says something else"
        )
    return ""


def _spans(text: Text, limit: int) -> list[tuple[int, int]]:
    """Return start and end of each part of at most `limit` characters."""
    if text.prompt:
        return [(0, len(text.text))]
    spans, end = [], 0
    for part in cleaning.cut(text.text, limit):
        start = text.text.index(part, end)
        end = start + len(part)
        spans.append((start, end))
    return spans


def _joined(text: str, spans: Sequence[tuple[int, int]], number: int, chosen: set[tuple[int, int]]) -> Iterator[Part]:
    """Yield the parts of one text; neighbours that train become one."""
    start = None
    for place, (begin, end) in enumerate(spans):
        if (number, place) not in chosen:
            start = begin if start is None else start
            if place + 1 == len(spans) or (number, place + 1) in chosen:
                yield Part(text[start:end], False)
                start = None
        else:
            yield Part(text[begin:end], True)


class _Shared:
    """The shingles of several texts, with the number of texts that have each."""

    def __init__(self, shingles: Sequence[np.ndarray]):
        by_text = [np.unique(hashes) for hashes in shingles]
        self._hashes, self._texts = np.unique(np.concatenate([np.empty(0, np.uint64), *by_text]), return_counts=True)

    def repeats(self, part: str) -> bool:
        """Whether other texts contain half or more of a part of one text."""
        hashes = np.unique(dedup.shingles(part))
        if not len(hashes):
            return False
        texts = self._texts[np.searchsorted(self._hashes, hashes)]  # all are there: its own text has them
        return bool(2 * (texts > 1).sum() >= len(hashes))
