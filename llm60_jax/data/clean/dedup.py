"""Near-duplicates by containment: which share of a text has been seen before, in any text.

The shingles of a text are the hashes of all runs of `SHINGLE` words. Those divisible by `SCALE` are
its sketch (FracMinHash, Irber et al. 2022, a MinHash whose size grows with the text). The share of
a sketch that another sketch contains estimates the share of the text that the other text contains,
whatever their lengths. Jaccard similarity, which MinHash with LSH estimates, is small for a short
text inside a long one and would miss it.
"""

import functools
import hashlib
import re
from typing import NamedTuple

import numpy as np

VERSION = 1  # part of every corpus digest
# Words. Shorter runs find more rewritten text (five words 75 % of simplified news articles, six
# 56 %, eight 31 %), but match more common phrases as the text seen grows. Two unrelated books share
# at most 1 % of their runs of six words.
SHINGLE = 6
SCALE = 8  # a sketch keeps about one hash in this many
CONTAINED = 0.5  # a text is a duplicate if at least this share of it has been seen before
BLOCK_HASHES = 1 << 20  # per lookup
_MIN_HASHES = 4  # a share of a smaller sketch is no evidence

_WORD = re.compile(r"[^\W_]+")
_FACTORS = np.array([0x9E3779B97F4A7C15 ** (i + 1) % 2**64 for i in range(SHINGLE)], np.uint64)


def sketch_of(hashes: np.ndarray) -> np.ndarray:
    """Return the sketch of a text with these shingles: uint64, sorted, each hash once."""
    return np.unique(hashes[hashes % np.uint64(SCALE) == 0])


def shingles(text: str) -> np.ndarray:
    """Return the hashes of all runs of `SHINGLE` words: uint64, in the order of the text.

    Letter case, punctuation and white space do not count.
    """
    words = _WORD.findall(text.lower())
    if len(words) < SHINGLE:
        return np.empty(0, np.uint64)
    hashes = np.fromiter(map(_word_hash, words), np.uint64, len(words))
    runs = np.zeros(len(words) - SHINGLE + 1, np.uint64)
    for i, factor in enumerate(_FACTORS):
        runs += hashes[i : i + len(runs)] * factor
    runs ^= runs >> np.uint64(32)
    runs *= np.uint64(0x94D049BB133111EB)
    return runs ^ (runs >> np.uint64(29))


class Seen:
    """The hashes seen so far, in bounded memory.

    Beyond `limit` hashes the scale doubles: half of them are forgotten and no longer looked up.
    """

    def __init__(self, limit: int = 4_000_000):
        # A Python set takes ten times the memory of an array: it holds only the latest hashes.
        self._sorted, self._latest = np.empty(0, np.uint64), set[int]()
        self._limit, self._max_latest, self._scale = limit, min(200_000, limit // 4), SCALE

    def __len__(self) -> int:
        return len(self._sorted) + len(self._latest)

    def contains(self, hashes: np.ndarray) -> bool:
        """Whether at least half of a sketch has been seen before."""
        sample = self._sample(hashes)
        return len(sample) >= _MIN_HASHES and bool(self._has_seen(sample).sum() >= CONTAINED * len(sample))

    def add(self, hashes: np.ndarray) -> None:
        """Add a sketch."""
        sample = self._sample(hashes)
        self._latest.update(sample[~self._has_seen(sample)].tolist())
        if len(self._latest) >= self._max_latest:
            self._sorted = np.concatenate([self._sorted, np.array(sorted(self._latest), np.uint64)])
            self._sorted.sort(kind="stable")  # merges two sorted runs
            self._latest.clear()
        while len(self) > self._limit:
            self._scale *= 2
            self._sorted = self._sample(self._sorted)
            self._latest = {value for value in self._latest if value % self._scale == 0}

    def _sample(self, hashes: np.ndarray) -> np.ndarray:
        """Return the hashes that the present scale keeps."""
        return hashes[hashes % np.uint64(self._scale) == 0]

    def _has_seen(self, hashes: np.ndarray) -> np.ndarray:
        """Return for each hash whether it has been seen: bool."""
        latest = np.fromiter((value in self._latest for value in hashes.tolist()), bool, len(hashes))
        if not len(self._sorted):
            return latest
        place = np.minimum(np.searchsorted(self._sorted, hashes), len(self._sorted) - 1)
        return latest | (self._sorted[place] == hashes)


class Sketches(NamedTuple):
    """The concatenated sketches of many texts."""

    hashes: np.ndarray  # uint64
    sizes: np.ndarray  # int64, hashes in the sketch of each text

    def chosen(self, which: np.ndarray) -> "Sketches":
        """Return the sketches of the texts for which the bool array `which` is true."""
        return Sketches(self.hashes[np.repeat(which, self.sizes)], self.sizes[which])

    def like(self, others: "Sketches") -> np.ndarray:
        """Return for each text whether it is a near-duplicate of the others: bool.

        It is one if the others together contain half of it or more, or if it contains half of one
        of them or more.
        """
        if not len(others.hashes):
            return np.zeros(len(self.sizes), bool)
        contained = self._contained_in(others.hashes)
        containing, ends = np.zeros(len(self.sizes), bool), np.cumsum(others.sizes)
        # What one of the remaining texts contains, all of them together contain: this leaves few
        # candidates to look up one by one.
        for i in np.flatnonzero(others._contained_in(self._shared(others.hashes, ~contained))):
            other = others.hashes[ends[i] - others.sizes[i] : ends[i]]
            containing |= self._hits(other) >= CONTAINED * len(other)
        return contained | containing

    def _contained_in(self, hashes: np.ndarray) -> np.ndarray:
        """Return for each text whether the given hashes contain half of it or more: bool."""
        return (self.sizes >= _MIN_HASHES) & (self._hits(hashes) >= CONTAINED * self.sizes)

    def _shared(self, hashes: np.ndarray, which: np.ndarray) -> np.ndarray:
        """Return those of the given hashes that occur in a text for which `which` is true."""
        hashes, selected = np.unique(hashes), np.repeat(which, self.sizes)
        is_shared = np.zeros(len(hashes), bool)
        for start in range(0, len(self.hashes), BLOCK_HASHES):
            stop = start + BLOCK_HASHES
            block = np.asarray(self.hashes[start:stop])[selected[start:stop]]
            place = np.minimum(np.searchsorted(hashes, block), len(hashes) - 1)
            is_shared[place[hashes[place] == block]] = True
        return hashes[is_shared]

    def _hits(self, hashes: np.ndarray) -> np.ndarray:
        """Return how many hashes of each text are among the given ones."""
        hashes = np.unique(hashes)
        if not len(hashes):
            return np.zeros(len(self.sizes), np.int64)
        hits = np.empty(len(self.hashes) + 1, np.int32)
        hits[0] = 0
        for start in range(0, len(self.hashes), BLOCK_HASHES):  # self.hashes can be a memory map
            block = np.asarray(self.hashes[start : start + BLOCK_HASHES])
            place = np.minimum(np.searchsorted(hashes, block), len(hashes) - 1)
            hits[start + 1 : start + 1 + len(block)] = hashes[place] == block
        sums = np.cumsum(hits, out=hits)
        ends = np.cumsum(self.sizes)
        return sums[ends] - sums[ends - self.sizes]


@functools.lru_cache(maxsize=200_000)
def _word_hash(word: str) -> int:
    return int.from_bytes(hashlib.blake2b(word.encode("utf-8"), digest_size=8).digest(), "little")
