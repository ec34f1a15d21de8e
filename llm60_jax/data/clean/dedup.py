"""Near-duplicates by containment: how much of a text has been seen before, wherever it stood. Pure functions.

A text is its shingles, all runs of `SHINGLE` words. Of their hashes those divisible by `SCALE` make its sketch
(FracMinHash, Irber et al. 2022, a MinHash whose size grows with the text): the share of a sketch that another one holds
estimates the share of the text that the other one holds, however different the two are in length. Jaccard similarity,
which MinHash with LSH estimates, is small when a short text stands inside a long one, and would miss it.
"""

import functools
import hashlib
import re
from typing import NamedTuple

import numpy as np

VERSION = 1  # part of every corpus digest
# Words. Five find more rewritten text (75 % of simplified news articles; six 56 %, eight 31 %), but the more text has
# been seen, the more of its phrases have been, too. Two unrelated books share 1 % of their runs of six words at most.
SHINGLE = 6
SCALE = 8  # one hash of so many is kept
CONTAINED = 0.5  # share of a text that has been seen before, from which on it is a duplicate
_BLOCK = 1 << 20  # hashes looked up at once
_LEAST = 4  # hashes of a sketch below which a share says nothing

_WORD = re.compile(r"[^\W_]+")
_FACTORS = np.array([0x9E3779B97F4A7C15 ** (i + 1) % 2**64 for i in range(SHINGLE)], np.uint64)


def sketch(text: str) -> np.ndarray:
    """The sketch of a text: uint64, sorted, each hash once. Letter case, punctuation and white space play no part."""
    return sketch_of(shingles(text))


def sketch_of(hashes: np.ndarray) -> np.ndarray:
    """The sketch of a text that is given as its shingles."""
    return np.unique(hashes[hashes % np.uint64(SCALE) == 0])


def shingles(text: str) -> np.ndarray:
    """The hashes of all runs of `SHINGLE` words: uint64, in the order of the text."""
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
    """The hashes met so far, in bounded memory: beyond `limit` every second one is forgotten, and asked for no more."""

    def __init__(self, limit: int = 4_000_000):
        # A set of Python's would take ten times the memory: most hashes lie in an array, the latest ones in a set.
        self._sorted, self._latest = np.empty(0, np.uint64), set[int]()
        self._limit, self._many, self._scale = limit, min(200_000, limit // 4), SCALE

    def __len__(self) -> int:
        return len(self._sorted) + len(self._latest)

    def contains(self, hashes: np.ndarray) -> bool:
        """Whether half of a text or more was met before."""
        kept = self._kept(hashes)
        return len(kept) >= _LEAST and bool(self._known(kept).sum() >= CONTAINED * len(kept))

    def add(self, hashes: np.ndarray) -> None:
        """Remembers a sketch."""
        kept = self._kept(hashes)
        self._latest.update(kept[~self._known(kept)].tolist())
        if len(self._latest) >= self._many:
            self._sorted = np.concatenate([self._sorted, np.array(sorted(self._latest), np.uint64)])
            self._sorted.sort(kind="stable")  # merges two sorted runs
            self._latest.clear()
        while len(self) > self._limit:
            self._scale *= 2
            self._sorted = self._kept(self._sorted)
            self._latest = {value for value in self._latest if value % self._scale == 0}

    def _kept(self, hashes: np.ndarray) -> np.ndarray:
        return hashes[hashes % np.uint64(self._scale) == 0]

    def _known(self, hashes: np.ndarray) -> np.ndarray:
        """Which hashes were met: bool."""
        latest = np.fromiter((value in self._latest for value in hashes.tolist()), bool, len(hashes))
        if not len(self._sorted):
            return latest
        place = np.minimum(np.searchsorted(self._sorted, hashes), len(self._sorted) - 1)
        return latest | (self._sorted[place] == hashes)


class Sketches(NamedTuple):
    """The sketches of many texts, one after the other."""

    hashes: np.ndarray  # uint64
    sizes: np.ndarray  # int64, of each text's sketch

    def chosen(self, which: np.ndarray) -> "Sketches":
        """Those of some texts; `which` is a bool for each."""
        return Sketches(self.hashes[np.repeat(which, self.sizes)], self.sizes[which])

    def like(self, others: "Sketches") -> np.ndarray:
        """For each text whether half of it or more stands in the others taken together, or whether it holds half of one
        of them or more: bool."""
        if not len(others.hashes):
            return np.zeros(len(self.sizes), bool)
        found = self._contained_in(others.hashes)
        holding, ends = np.zeros(len(self.sizes), bool), np.cumsum(others.sizes)
        # What a text of the rest holds by half, all of them together do: few candidates, even where all text is known.
        for i in np.flatnonzero(others._contained_in(self._met(others.hashes, ~found))):
            own = others.hashes[ends[i] - others.sizes[i] : ends[i]]
            holding |= self._hits(own) >= CONTAINED * len(own)
        return found | holding

    def _contained_in(self, known: np.ndarray) -> np.ndarray:
        return (self.sizes >= _LEAST) & (self._hits(known) >= CONTAINED * self.sizes)

    def _met(self, known: np.ndarray, which: np.ndarray) -> np.ndarray:
        """Those of the known hashes that some texts hold; `which` is a bool for each text."""
        known, mine = np.unique(known), np.repeat(which, self.sizes)
        met = np.zeros(len(known), bool)
        for start in range(0, len(self.hashes), _BLOCK):
            block = np.asarray(self.hashes[start : start + _BLOCK])[mine[start : start + _BLOCK]]
            place = np.minimum(np.searchsorted(known, block), len(known) - 1)
            met[place[known[place] == block]] = True
        return known[met]

    def _hits(self, known: np.ndarray) -> np.ndarray:
        """How many hashes of each text are among the known ones."""
        known = np.unique(known)
        if not len(known):
            return np.zeros(len(self.sizes), np.int64)
        hits = np.empty(len(self.hashes) + 1, np.int32)
        hits[0] = 0
        for start in range(0, len(self.hashes), _BLOCK):  # the hashes can be a file: block by block
            block = np.asarray(self.hashes[start : start + _BLOCK])
            place = np.minimum(np.searchsorted(known, block), len(known) - 1)
            hits[start + 1 : start + 1 + len(block)] = known[place] == block
        sums = np.cumsum(hits, out=hits)
        ends = np.cumsum(self.sizes)
        return sums[ends] - sums[ends - self.sizes]


@functools.lru_cache(maxsize=200_000)
def _word_hash(word: str) -> int:
    return int.from_bytes(hashlib.blake2b(word.encode("utf-8"), digest_size=8).digest(), "little")
