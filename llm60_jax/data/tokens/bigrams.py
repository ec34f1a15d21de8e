"""Detects shuffled text: the share of neighbouring pairs that repeat, compared with chance.

Language repeats the same pairs of words. In shuffled text, pairs repeat only because some words are
common, so the same text shuffled is the baseline. Pass words for text: shuffling words keeps the
order of the tokens inside a word.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

_WORD = re.compile(r"\w+|[^\w\s]")
SAMPLE = 32_768  # words or tokens: enough for a measurement
_FEWEST_PAIRS = 4_096  # with fewer, nothing is measured


class Order(NamedTuple):
    """Shares of the neighbouring pairs of tokens that occur more than once in a sample."""

    repeated: float
    by_chance: float  # in the same tokens, shuffled
    tokens: int

    def to_tree(self) -> dict[str, Any]:
        """Return JSON values."""
        return {**self._asdict(), "gain": self.gain}

    @property
    def gain(self) -> float:
        """0 for tokens without any order, 1 if every pair repeats."""
        return (self.repeated - self.by_chance) / max(1 - self.by_chance, 1e-9)


def order(tokens: np.ndarray, segments: np.ndarray) -> Order | None:
    """Measure rows of tokens [R, T]; None with fewer than `_FEWEST_PAIRS` pairs.

    Only pairs inside a document count. `segments` [R, T] numbers the documents; 0 is padding.
    """
    inside = (segments[:, 1:] == segments[:, :-1]) & (segments[:, 1:] > 0)
    if inside.sum() < _FEWEST_PAIRS:
        return None
    shuffled = tokens.copy()
    is_text = segments > 0
    shuffled[is_text] = np.random.default_rng(0).permutation(tokens[is_text])
    return Order(_repeated(tokens, inside), _repeated(shuffled, inside), int(is_text.sum()))


def of_words(texts: Iterable[str]) -> Order | None:
    """Measure the words and punctuation of texts, up to one sample; None if too few."""
    numbers: dict[str, int] = {}
    sample: list[int] = []
    segments: list[int] = []
    for segment, text in enumerate(texts, 1):
        words = [numbers.setdefault(word, len(numbers)) for word in _WORD.findall(text.lower())]
        sample += words
        segments += [segment] * len(words)
        if len(sample) >= SAMPLE:
            break
    return order(np.array([sample[:SAMPLE]], np.int32), np.array([segments[:SAMPLE]], np.int32))


def of_batches(batches: Sequence[Mapping[str, np.ndarray]]) -> Order | None:
    """Measure the batches that a stage has read, arrays [G, B, T]; None if there are too few."""
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
