"""One document to its pieces: cleaned, screened, cut, compared with evaluation text, sketched."""

import hashlib
from typing import NamedTuple

import numpy as np

from llm60_jax.config import Exclude
from llm60_jax.data.clean import cleaning, dedup, screening
from llm60_jax.data.corpus.evaluation_text import EvaluationText
from llm60_jax.data.read.ledger import Ledger
from llm60_jax.data.read.sources import Document

LONGEST_CHARACTERS = 20_000  # a longer document is cut
PIECE_CHARACTERS = 5_000  # its longest piece: a few contexts


class Piece(NamedTuple):
    """A document, or a part of a long one. `id` is the SHA-256 of its text, in hex."""

    id: str
    text: str
    sketch: np.ndarray  # uint64, see `dedup`


class ScreenedDocument(NamedTuple):
    """A document after the rules. Without pieces, `reason` says why."""

    file: str
    title: str
    prompt: str
    reason: str
    pieces: list[Piece]


def screen(document: Document, exclude: Exclude, evaluation: EvaluationText | None, ledger: Ledger) -> ScreenedDocument:
    """Clean, screen and cut one document. `ledger` counts it and every part that is dropped."""
    ledger.read(document.file, len(document.text))
    screened = screening.screen(document.text, exclude, document.prompt)
    for part in screened.dropped:
        ledger.drop_part(part.rule, document.file, part.text)
    reason: str = screened.reason or "empty"
    pieces = []
    for text in _parts(screened):
        shingles = dedup.shingles(f"{screened.prompt} {text}")
        if evaluation is not None and evaluation.is_in(shingles):
            reason = "evaluation"
            ledger.drop_part(reason, document.file, text)
            continue
        pieces.append(Piece(id_of(screened.prompt, text), text, dedup.sketch_of(shingles)))
    title = " ".join(cleaning.clean(document.title).split())
    return ScreenedDocument(document.file, title, screened.prompt, reason, pieces)


def _parts(screened: screening.Screened) -> list[str]:
    """Return the text, cut if it is long. An answer stays whole, with its question."""
    whole = bool(screened.prompt) or len(screened.text) <= LONGEST_CHARACTERS
    return cleaning.cut(screened.text, max(len(screened.text), 1) if whole else PIECE_CHARACTERS)


def id_of(prompt: str, text: str) -> str:
    """Return the id of a piece: the SHA-256 of its text and question, in hex."""
    identity = f"{prompt}\0{text}" if prompt else text
    return hashlib.sha256(identity.encode("utf-8")).hexdigest()
