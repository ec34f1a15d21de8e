"""Joins the units of a phase: drops duplicates, applies doses, splits train and validation."""

import contextlib
import itertools
import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple, TextIO

import numpy as np

from llm60_jax.config import Phase
from llm60_jax.data.clean import dedup
from llm60_jax.data.corpus import held_out, mixture, pieces, units
from llm60_jax.data.corpus.distinct import Distinct, Judged
from llm60_jax.data.corpus.pieces import ScreenedDocument
from llm60_jax.data.corpus.units import Unit
from llm60_jax.data.read import sources
from llm60_jax.data.read.ledger import Ledger
from llm60_jax.machine import files
from llm60_jax.machine.progress import Track

Split = Literal["train", "validation"]
SPLITS: tuple[Split, Split] = ("train", "validation")


def join(
    phase: Phase,
    groups: Sequence[Sequence[Unit]],
    parent: Path,
    others: Sequence[Sequence[str]],
    scratch: Path,
    track: Track,
) -> dict[str, Any]:
    """Write a corpus into `scratch`.

    The order of the units is fixed, so the result does not depend on who made them. Two passes over
    files keep the text out of memory: the first collects the new pieces, the second splits them.

    Args:
      groups: the finished units of each source, below `parent`.
      others: for each source, the names of its files of unknown kinds.

    Returns:
      The content of ledger.json: the ledger of each source, the sizes of the splits, and "too_few".
    """
    ledgers = _empty_ledgers(phase)
    new = _NewPieces(scratch)
    with new.opened():
        _gather(phase, groups, parent, new, ledgers, track)
    for ledger, names in zip(ledgers, others, strict=True):
        for name in names:
            ledger.documents_in += 1
            ledger.drop("other_kind", name, name)
    excess = mixture.left_out(phase.sources, new.lengths, new.source_numbers)
    lengths = {name: length for name, length in new.lengths.items() if name not in excess}
    characters = sum(lengths.values())
    if characters < held_out.SMALL_CHARACTERS:
        new, validation = _in_parts(new, excess, scratch)
    else:
        validation = held_out.documents(lengths)
    splits = _divide(phase, new, excess, validation, ledgers, scratch, track)
    new.remove()
    facts = {
        "phase": phase.name,
        "sources": [ledger.to_tree() for ledger in ledgers],
        "splits": splits,
        "too_few": held_out.problem(phase.name, characters, splits["validation"]["characters"]),
    }
    (scratch / "ledger.json").write_text(files.dump(facts), encoding="utf-8")
    return facts


def _empty_ledgers(phase: Phase) -> list[Ledger]:
    """Return a ledger for each source. Labels are numbered where two folders have the same name."""
    labels = [sources.label(source) for source in phase.sources]
    for number, label in enumerate(labels):
        if before := labels[:number].count(label):
            labels[number] = f"{label} ({before + 1})"
    licences = map(sources.licence_of, phase.sources)
    return [Ledger(label, licence=licence) for label, licence in zip(labels, licences, strict=True)]


class _NewPiece(NamedTuple):
    """A piece between the two passes, with its record in the corpus."""

    document: int  # the number of its document in the phase
    source: int  # the index of its source in the phase
    file: str
    record: dict[str, str]


class _NewPieces:
    """The new pieces of a phase, in order.

    Text and sketches are on disk; lengths and sources are in memory.
    """

    def __init__(self, scratch: Path, name: str = "new"):
        self.lengths: dict[str, int] = {}  # id -> characters
        self.source_numbers: list[int] = []
        self._sketch_sizes: list[int] = []
        self._text, self._sketches = scratch / f"{name}.jsonl", scratch / f"{name}.sketches"
        self._out: tuple[TextIO, BinaryIO]

    @contextlib.contextmanager
    def opened(self) -> Iterator[None]:
        """Open the files for `add`."""
        with self._text.open("w", encoding="utf-8", newline="\n") as text, self._sketches.open("wb") as sketches:
            self._out = text, sketches
            yield

    def add(self, piece: _NewPiece, sketch: np.ndarray) -> None:
        self._out[0].write(json.dumps(piece) + "\n")
        self._out[1].write(sketch.tobytes())
        self.lengths[piece.record["id"]] = len(piece.record["text"])
        self.source_numbers.append(piece.source)
        self._sketch_sizes.append(len(sketch))

    def read(self) -> Iterator[tuple[_NewPiece, bytes]]:
        """Yield each piece with the bytes of its sketch."""
        with self._text.open(encoding="utf-8", newline="\n") as text, self._sketches.open("rb") as sketches:
            for line, size in zip(text, self._sketch_sizes, strict=True):
                yield _NewPiece(*json.loads(line)), sketches.read(8 * size)

    def remove(self) -> None:
        self._text.unlink()
        self._sketches.unlink()


def _gather(
    phase: Phase, groups: Sequence[Sequence[Unit]], parent: Path, new: _NewPieces, ledgers: list[Ledger], track: Track
) -> None:
    """Add the new pieces: less than half of each occurs elsewhere in the phase, in any source."""
    distinct, document_numbers = Distinct(), itertools.count()
    ordered = [(source, unit) for source, group in enumerate(groups) for unit in group]
    tracked = track(ordered, f"{phase.name}: looking for duplicates", len(ordered))
    for source, group in itertools.groupby(tracked, key=lambda pair: pair[0]):
        documents = _documents((unit for _, unit in group), parent, ledgers[source])
        for document, fates in distinct.judged(documents):
            _add_document(document, fates, next(document_numbers), source, ledgers[source], new)


def _documents(group: Iterable[Unit], parent: Path, ledger: Ledger) -> Iterator[ScreenedDocument]:
    """Yield the documents of a source's units, and add the units' accounts to its ledger."""
    for unit in group:
        unit_ledger, documents = units.read(unit, parent)
        ledger.add(unit_ledger)
        yield from documents


def _add_document(
    document: ScreenedDocument, fates: Sequence[Judged], number: int, source: int, ledger: Ledger, new: _NewPieces
) -> None:
    """Add the new pieces of a document; the ledger counts the rest."""
    reason, before = document.reason, len(new.lengths)
    for piece, sketch, fate in fates:
        if fate:
            reason = fate
            ledger.drop_part(reason, document.file, piece.text)
            continue
        record = {"id": piece.id, "source": ledger.source, "title": document.title, "text": piece.text}
        if document.prompt:
            record["prompt"] = document.prompt
        new.add(_NewPiece(number, source, document.file, record), sketch)
    if len(new.lengths) == before:
        ledger.drop(reason, document.title, document.file)


def _in_parts(new: _NewPieces, excess: Collection[str], scratch: Path) -> tuple[_NewPieces, set[str]]:
    """Cut the pieces of a small phase where parts of them are held out.

    Return the pieces and the ids of those that are held out.
    """
    stored = list(new.read())
    within = [(piece, sketch) for piece, sketch in stored if piece.record["id"] not in excess]
    texts = [held_out.Text(piece.record["text"], piece.record.get("prompt", "")) for piece, _ in within]
    cuts = {piece.record["id"]: parts for (piece, _), parts in zip(within, held_out.parts(texts), strict=True)}
    cut, validation = _NewPieces(scratch, "cut"), set[str]()
    with cut.opened():
        for piece, sketch in stored:
            parts = cuts.get(piece.record["id"], [])
            if len(parts) <= 1:
                cut.add(piece, np.frombuffer(sketch, "<u8"))
                validation |= {piece.record["id"] for part in parts if part.is_held_out}
                continue
            for part in parts:
                prompt = piece.record.get("prompt", "")
                record = {**piece.record, "id": pieces.id_of(prompt, part.text), "text": part.text}
                if record["id"] in cut.lengths:  # repeats inside one piece
                    continue
                cut.add(piece._replace(record=record), dedup.sketch_of(dedup.shingles(f"{prompt} {part.text}")))
                validation |= {record["id"]} if part.is_held_out else set()
    new.remove()
    return cut, validation


class _SplitFiles:
    """The files of a split, open for writing."""

    def __init__(self, stack: contextlib.ExitStack, scratch: Path, split: Split):
        self.characters = 0
        self.sketch_sizes: list[int] = []
        self._text = stack.enter_context((scratch / f"{split}.jsonl").open("w", encoding="utf-8", newline="\n"))
        self._ids = stack.enter_context((scratch / f"{split}.ids").open("w", encoding="ascii", newline="\n"))
        self._sketches = stack.enter_context((scratch / f"{split}.sketches.bin").open("wb"))

    def write(self, record: dict[str, str], sketch: bytes) -> None:
        self._text.write(json.dumps(record, ensure_ascii=False) + "\n")
        self._ids.write(record["id"] + "\n")
        self._sketches.write(sketch)
        self.sketch_sizes.append(len(sketch) // 8)
        self.characters += len(record["text"])


def _divide(
    phase: Phase,
    new: _NewPieces,
    excess: Collection[str],
    validation: Collection[str],
    ledgers: list[Ledger],
    scratch: Path,
    track: Track,
) -> dict[str, dict[str, int]]:
    """Write each piece into its split and return the splits' sizes.

    The ledger counts what exceeds a dose.
    """
    with contextlib.ExitStack() as stack:
        outs = {split: _SplitFiles(stack, scratch, split) for split in SPLITS}
        tracked = track(new.read(), f"{phase.name}: splitting", len(new.lengths))
        for _, document in itertools.groupby(tracked, key=lambda pair: pair[0].document):
            pieces_kept = 0
            for piece, sketch in document:
                ledger, name, text = ledgers[piece.source], piece.record["id"], piece.record["text"]
                if name in excess:
                    ledger.drop_part("dose", piece.file, text)
                    continue
                outs["validation" if name in validation else "train"].write(piece.record, sketch)
                ledger.keep(piece.file, len(text))
                pieces_kept += 1
            if pieces_kept:
                ledger.documents_kept += 1
            else:
                ledger.drop("dose", piece.record["title"], piece.file)
    for split, out in outs.items():
        np.save(scratch / f"{split}.sizes.npy", np.asarray(out.sketch_sizes, np.int64), allow_pickle=False)
    return {split: {"documents": len(out.sketch_sizes), "characters": out.characters} for split, out in outs.items()}
