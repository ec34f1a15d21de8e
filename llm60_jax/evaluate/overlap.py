"""How much of a text stands word for word in the training text."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from llm60_jax.data.clean import dedup


class Overlap(NamedTuple):
    """Of texts together. Runs are of `dedup.SHINGLE` words; case, punctuation and white space play no part."""

    runs: int
    share: float  # of the runs that the training text has too
    longest: int  # words that stand there in the same order, as far as overlapping runs tell

    def to_tree(self) -> dict[str, Any]:
        return self._asdict()


def overlap(texts: Sequence[str], training: Iterable[str]) -> Overlap:
    """Holds texts against a training text, which is read once, in constant memory."""
    runs = [dedup.shingles(text) for text in texts]
    wanted = np.unique(np.concatenate([np.empty(0, np.uint64), *runs]))
    found = np.zeros(len(wanted), bool)
    for text in training:
        found |= np.isin(wanted, dedup.shingles(text))
    known = wanted[found]
    flags = [np.isin(one, known) for one in runs]
    total, met = sum(map(len, flags)), sum(int(flag.sum()) for flag in flags)
    return Overlap(total, met / max(1, total), max((_longest(flag) for flag in flags), default=0))


def _longest(flags: np.ndarray) -> int:
    """Words of the longest stretch of runs that follow one another."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(np.int8), [0]])))
    lengths = edges[1::2] - edges[::2]
    return int(lengths.max()) + dedup.SHINGLE - 1 if len(lengths) else 0
