"""How much of a text is copied word for word from the training text."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from llm60_jax.data.clean import dedup


class Overlap(NamedTuple):
    """The overlap of all texts together, counted in runs of `dedup.SHINGLE` words.

    Case, punctuation and white space are ignored.
    """

    runs: int
    share: float  # share of the runs that occur in the training text
    longest: int  # words of the longest copied stretch, as far as overlapping runs show it

    def to_tree(self) -> dict[str, Any]:
        """Return the figures as JSON values."""
        return self._asdict()


def overlap(texts: Sequence[str], training: Iterable[str]) -> Overlap:
    """Compare texts with the training text, which is read once, in constant memory."""
    runs = [dedup.shingles(text) for text in texts]
    distinct = np.unique(np.concatenate([np.empty(0, np.uint64), *runs]))
    is_copied = np.zeros(len(distinct), bool)
    for text in training:
        is_copied |= np.isin(distinct, dedup.shingles(text))
    copied = distinct[is_copied]
    flags = [np.isin(run, copied) for run in runs]
    total, count = sum(map(len, flags)), sum(int(flag.sum()) for flag in flags)
    return Overlap(total, count / max(1, total), max((_longest(flag) for flag in flags), default=0))


def _longest(flags: np.ndarray) -> int:
    """Return the words of the longest stretch of consecutive copied runs."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(np.int8), [0]])))
    lengths = edges[1::2] - edges[::2]
    return int(lengths.max()) + dedup.SHINGLE - 1 if len(lengths) else 0
