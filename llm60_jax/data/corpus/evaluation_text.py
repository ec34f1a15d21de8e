"""Text that a model will be judged by, and that must not be in what it is trained on."""

import functools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from llm60_jax.data.clean import cleaning, dedup
from llm60_jax.data.read import kinds, plain, sources
from llm60_jax.data.read.items import Broken
from llm60_jax.data.read.ledger import Ledger

_AT_LEAST = 2  # runs of words that must be found of a text that has as many: one alone can be a common phrase


class EvaluationText(NamedTuple):
    """The runs of words (`dedup.shingles`) of many texts: sentences, paragraphs, fields of records."""

    hashes: np.ndarray  # uint64, sorted
    owners: np.ndarray  # int64, the text that each of them is from
    sizes: np.ndarray  # int64, how many each text has

    def is_in(self, shingles: np.ndarray) -> bool:
        """Whether a text, given as its shingles, holds half of a known one or more, or is held by them by half."""
        own = np.unique(shingles)
        first = np.searchsorted(self.hashes, own, side="left")
        last = np.searchsorted(self.hashes, own, side="right")
        met = last > first
        if not met.any():
            return False
        if met.sum() >= max(_AT_LEAST, dedup.CONTAINED * len(own)):
            return True
        owners = np.concatenate([self.owners[a:b] for a, b in zip(first[met], last[met], strict=True)])
        texts, hits = np.unique(owners, return_counts=True)
        sizes = self.sizes[texts]
        return bool(np.any(hits >= np.maximum(dedup.CONTAINED * sizes, np.minimum(sizes, _AT_LEAST))))


@functools.lru_cache(maxsize=4)
def load(files: Sequence[tuple[sources.InputFile, str]]) -> EvaluationText | None:
    """Reads evaluation text; None if there is none. Texts of fewer words than a shingle has are passed over."""
    if not files:
        return None
    found = [np.unique(dedup.shingles(text)) for file, _ in files for text in _texts(file)]
    found = [shingles for shingles in found if len(shingles)]
    sizes = np.array([len(shingles) for shingles in found], np.int64)
    hashes = np.concatenate([np.empty(0, np.uint64), *found])
    order = np.argsort(hashes, kind="stable")
    return EvaluationText(hashes[order], np.repeat(np.arange(len(found)), sizes)[order], sizes)


def _texts(file: sources.InputFile) -> Iterator[str]:
    """Of JSON lines every string, whatever its field; of any other file its paragraphs."""
    if kinds.kind_of(file.name) in kinds.LINES:
        for found in plain.records(file.path, file.name):
            if not isinstance(found, Broken):
                yield from (value for value in found[1].values() if isinstance(value, str))
    else:
        for document in sources.read(sources.folder(str(file.path)), [file], Ledger("")):
            yield from cleaning.paragraphs(cleaning.normalise(document.text))
