"""Whether words, or tokens, come in an order: how many neighbouring pairs are met more than once, beside what chance
makes.

Language says the same two words again and again. In a text that was shuffled, pairs repeat only because some words are
common; the share of repeated pairs of the shuffled text is therefore what the unshuffled one is held against. Text
needs words for this: the tokens inside a word keep their order when words are shuffled.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

_WORD = re.compile(r"\w+|[^\w\s]")
SAMPLE = 32_768  # words or tokens that tell enough
LEAST = 4_096  # without so many, nothing is told


class Order(NamedTuple):
    """Shares of the neighbouring pairs of tokens that occur more than once in a sample."""

    repeated: float
    by_chance: float  # of the same tokens, shuffled
    tokens: int

    def to_tree(self) -> dict[str, Any]:
        """As JSON values."""
        return {**self._asdict(), "gain": self.gain}

    @property
    def gain(self) -> float:
        """0 for tokens without any order, 1 where every pair repeats."""
        return (self.repeated - self.by_chance) / max(1 - self.by_chance, 1e-9)


def order(tokens: np.ndarray, segments: np.ndarray) -> Order | None:
    """Of rows of tokens [R, T]; pairs are counted inside documents (`segments`, 0 is padding). None if they are fewer
    than `LEAST`."""
    inside = (segments[:, 1:] == segments[:, :-1]) & (segments[:, 1:] > 0)
    if inside.sum() < LEAST:
        return None
    shuffled = tokens.copy()
    known = segments > 0
    shuffled[known] = np.random.default_rng(0).permutation(tokens[known])
    return Order(_repeated(tokens, inside), _repeated(shuffled, inside), int(known.sum()))


def of_words(texts: Iterable[str]) -> Order | None:
    """Of the words and marks of texts, as many as make a sample; None if they are too few."""
    numbers: dict[str, int] = {}
    words: list[int] = []
    segments: list[int] = []
    for number, text in enumerate(texts, 1):
        found = [numbers.setdefault(word, len(numbers)) for word in _WORD.findall(text.lower())]
        words += found
        segments += [number] * len(found)
        if len(words) >= SAMPLE:
            break
    return order(np.array([words[:SAMPLE]], np.int32), np.array([segments[:SAMPLE]], np.int32))


def of_batches(batches: Sequence[Mapping[str, np.ndarray]]) -> Order | None:
    """Of what a stage was given: batches of micro-batches [G, B, T]."""
    if not batches:
        return None
    rows = {
        name: np.concatenate([np.asarray(batch[name]).reshape(-1, batch[name].shape[-1]) for batch in batches])
        for name in ("tokens", "segments")
    }
    return order(rows["tokens"], rows["segments"])


def _repeated(tokens: np.ndarray, inside: np.ndarray) -> float:
    first, second = tokens[:, :-1][inside].astype(np.int64), tokens[:, 1:][inside].astype(np.int64)
    _, counts = np.unique(first << 32 | second, return_counts=True)
    return float(counts[counts > 1].sum() / counts.sum())
