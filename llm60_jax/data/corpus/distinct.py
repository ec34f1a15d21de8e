"""Duplicates among the documents of a phase: which pieces stay, and why the others go.

Of two versions in one source the longer stays, or the later of equally long ones: a draft is
usually part of the final text. A text that repeats text of an earlier source goes.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from llm60_jax.data.clean import dedup
from llm60_jax.data.corpus.pieces import Piece, ScreenedDocument

VERSION = 2  # part of every corpus digest: raise it with any change of which pieces stay
# Characters of consecutive documents of a source that are compared longest first. Beyond them the
# earlier document stays, so that memory is bounded.
WINDOW_CHARACTERS = 16 * 2**20
_HEADING_CHARACTERS = 200  # the longest paragraph that counts as a heading or a question of a template
_TEMPLATE_DOCUMENTS = 5  # a template has at least this many documents
_TEMPLATE_SHARE = 0.2  # ... and this share of a window's documents


class Judged(NamedTuple):
    """A piece, the sketch that it was compared by, and "", "duplicate" or "near_duplicate"."""

    piece: Piece
    sketch: np.ndarray
    reason: str


class Distinct:
    """Compares each document with all that came before, in any source of the phase."""

    def __init__(self) -> None:
        self._ids: set[str] = set()
        self._seen = dedup.Seen()

    def judged(self, documents: Iterable[ScreenedDocument]) -> Iterator[tuple[ScreenedDocument, list[Judged]]]:
        """Yield the documents of one source in their order, with the fate of each piece."""
        for window in _windows(documents):
            template = _template(window)
            longest_first = sorted(range(len(window)), key=lambda number: (-_characters(window[number]), -number))
            fates = {number: self._judge(window[number], template) for number in longest_first}
            yield from ((document, fates[number]) for number, document in enumerate(window))

    def _judge(self, document: ScreenedDocument, template: frozenset[str]) -> list[Judged]:
        fates = []
        for piece in document.pieces:
            sketch = _sketch(document.prompt, piece, template)
            if piece.id in self._ids:
                fates.append(Judged(piece, sketch, "duplicate"))
            elif self._seen.contains(sketch):
                fates.append(Judged(piece, sketch, "near_duplicate"))
            else:
                self._ids.add(piece.id)
                self._seen.add(sketch)
                fates.append(Judged(piece, sketch, ""))
        return fates


def _windows(documents: Iterable[ScreenedDocument]) -> Iterator[list[ScreenedDocument]]:
    """Yield consecutive documents in lists of about `WINDOW_CHARACTERS`."""
    window: list[ScreenedDocument] = []
    characters = 0
    for document in documents:
        window.append(document)
        characters += _characters(document)
        if characters >= WINDOW_CHARACTERS:
            yield window
            window, characters = [], 0
    if window:
        yield window


def _characters(document: ScreenedDocument) -> int:
    return sum(len(piece.text) for piece in document.pieces)


def _template(documents: Sequence[ScreenedDocument]) -> frozenset[str]:
    """Return the headings and questions that recur in many documents, such as a journal's."""
    counts: Counter[str] = Counter()
    for document in documents:
        counts.update({line for piece in document.pieces for line in _short(piece.text)})
    least = max(_TEMPLATE_DOCUMENTS, _TEMPLATE_SHARE * len(documents))
    return frozenset(line for line, count in counts.items() if count >= least)


def _short(text: str) -> Iterator[str]:
    return (paragraph for paragraph in text.split("\n\n") if len(paragraph) <= _HEADING_CHARACTERS)


def _sketch(prompt: str, piece: Piece, template: frozenset[str]) -> np.ndarray:
    """Return the sketch of a piece without the paragraphs of a template, which are no evidence."""
    if not template or template.isdisjoint(_short(piece.text)):
        return piece.sketch
    own = [paragraph for paragraph in piece.text.split("\n\n") if paragraph not in template]
    return dedup.sketch_of(dedup.shingles(f"{prompt} " + "\n\n".join(own)))
