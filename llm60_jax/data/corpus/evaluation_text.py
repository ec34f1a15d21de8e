"""Evaluation text, which must not be in the training text."""

import functools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from llm60_jax.data.clean import cleaning, dedup
from llm60_jax.data.read import kinds, plain, sources
from llm60_jax.data.read.items import Broken
from llm60_jax.data.read.ledger import Ledger

_MIN_HITS = 2  # one shared shingle can be a common phrase; a text with a single shingle needs one


class EvaluationText(NamedTuple):
    """The shingles (`dedup.shingles`) of many texts: sentences, paragraphs, fields of records."""

    hashes: np.ndarray  # uint64, sorted
    owners: np.ndarray  # int64, the number of the text that each hash is from
    sizes: np.ndarray  # int64, hashes of each text

    def is_in(self, shingles: np.ndarray) -> bool:
        """Whether a text with these shingles overlaps evaluation text.

        It does if it contains half of one evaluation text or more, or if all of them together
        contain half of it or more.
        """
        hashes = np.unique(shingles)
        first = np.searchsorted(self.hashes, hashes, side="left")
        last = np.searchsorted(self.hashes, hashes, side="right")
        shared = last > first
        if not shared.any():
            return False
        if shared.sum() >= max(_MIN_HITS, dedup.CONTAINED * len(hashes)):
            return True
        owners = np.concatenate([self.owners[a:b] for a, b in zip(first[shared], last[shared], strict=True)])
        texts, hits = np.unique(owners, return_counts=True)
        sizes = self.sizes[texts]
        return bool(np.any(hits >= np.maximum(dedup.CONTAINED * sizes, np.minimum(sizes, _MIN_HITS))))


@functools.lru_cache(maxsize=4)
def load(files: Sequence[tuple[sources.InputFile, str]]) -> EvaluationText | None:
    """Read evaluation text from (file, digest) pairs; None without files.

    Texts with fewer words than a shingle are skipped.
    """
    if not files:
        return None
    texts = [np.unique(dedup.shingles(text)) for file, _ in files for text in _texts(file)]
    texts = [shingles for shingles in texts if len(shingles)]
    sizes = np.array([len(shingles) for shingles in texts], np.int64)
    hashes = np.concatenate([np.empty(0, np.uint64), *texts])
    order = np.argsort(hashes, kind="stable")
    return EvaluationText(hashes[order], np.repeat(np.arange(len(texts)), sizes)[order], sizes)


def _texts(file: sources.InputFile) -> Iterator[str]:
    """Yield all strings of the records of JSON lines; the paragraphs of any other file."""
    if kinds.kind_of(file.name) in kinds.LINES:
        for record in plain.records(file.path, file.name):
            if not isinstance(record, Broken):
                yield from (value for value in record[1].values() if isinstance(value, str))
    else:
        for document in sources.read(sources.folder(str(file.path)), [file], Ledger("")):
            text = cleaning.unmark(cleaning.normalise(document.text))
            yield from map(cleaning.strip_marks, cleaning.paragraphs(text))
