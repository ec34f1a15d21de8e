"""Joins the units of a phase: duplicates go, sources are held to their doses, what is left is split."""

import contextlib
import itertools
import json
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple, TextIO

import numpy as np

from llm60_jax.config import Phase
from llm60_jax.data.clean import dedup
from llm60_jax.data.corpus import mixture, units
from llm60_jax.data.corpus.units import ScreenedUnit, Unit
from llm60_jax.data.read import sources
from llm60_jax.data.read.ledger import Ledger
from llm60_jax.machine import files
from llm60_jax.machine.progress import Track

Split = Literal["train", "validation"]
SPLITS: tuple[Split, Split] = ("train", "validation")

VALIDATION_SHARE = 0.02  # of the documents, and of the characters
VALIDATION_DOCUMENTS = 20  # at least; and at least as many must remain for training


def join(
    phase: Phase,
    groups: Sequence[Sequence[Unit]],
    parent: Path,
    others: Sequence[Sequence[str]],
    scratch: Path,
    track: Track,
) -> dict[str, Any]:
    """Writes a corpus into `scratch`, in two passes over disk, so that no text stays in memory: what is new, then each
    piece into its split. The units come in a fixed order, so the result is the same whoever made them.

    Args:
      groups: the units of each source, made, in `parent`.
      others: names of the files of each source that are of no kind that is read.

    Returns:
      The content of ledger.json: the account of each source, the sizes of the splits, and what is wrong with them.
    """
    labels = [sources.label(source) for source in phase.sources]
    for place, label in enumerate(labels):  # two folders may have one name
        if before := labels[:place].count(label):
            labels[place] = f"{label} ({before + 1})"
    licences = map(sources.licence_of, phase.sources)
    ledgers = [Ledger(label, licence=licence) for label, licence in zip(labels, licences, strict=True)]
    new = _New(scratch)
    with new.opened():
        _gather(phase, groups, parent, new, ledgers, track)
    for ledger, names in zip(ledgers, others, strict=True):
        for name in names:
            ledger.documents_in += 1
            ledger.drop("other_kind", name, name)
    beyond = mixture.left_out(phase.sources, new.lengths, new.places)
    lengths = {name: length for name, length in new.lengths.items() if name not in beyond}
    held_out = _choose_validation(lengths)
    splits = _divide(phase, new, beyond, held_out, ledgers, scratch, track)
    new.remove()
    facts = {
        "phase": phase.name,
        "sources": [ledger.to_tree() for ledger in ledgers],
        "splits": splits,
        "too_few": _too_few(phase.name, len(lengths), len(held_out)),
    }
    (scratch / "ledger.json").write_text(files.dump(facts), encoding="utf-8")
    return facts


class _Line(NamedTuple):
    """A piece between the two passes: the number and file of its document, and its record in the corpus."""

    document: int
    place: int  # of its source in the phase
    file: str
    record: dict[str, str]


class _New:
    """The pieces of a phase that are new, in their order: on disk, but for what decides where they go."""

    def __init__(self, scratch: Path):
        self.lengths: dict[str, int] = {}  # id -> characters
        self.places: list[int] = []
        self._sizes: list[int] = []
        self._text, self._sketches = scratch / "new.jsonl", scratch / "new.sketches"
        self._out: tuple[TextIO, BinaryIO]

    @contextlib.contextmanager
    def opened(self) -> Iterator[None]:
        """For adding to it."""
        with self._text.open("w", encoding="utf-8", newline="\n") as text, self._sketches.open("wb") as sketches:
            self._out = text, sketches
            yield

    def add(self, line: _Line, sketch: np.ndarray) -> None:
        self._out[0].write(json.dumps(line) + "\n")
        self._out[1].write(sketch.tobytes())
        self.lengths[line.record["id"]] = len(line.record["text"])
        self.places.append(line.place)
        self._sizes.append(len(sketch))

    def read(self) -> Iterator[tuple[_Line, bytes]]:
        """Each piece with its sketch, as bytes."""
        with self._text.open(encoding="utf-8", newline="\n") as text, self._sketches.open("rb") as sketches:
            for line, size in zip(text, self._sizes, strict=True):
                yield _Line(*json.loads(line)), sketches.read(8 * size)

    def remove(self) -> None:
        self._text.unlink()
        self._sketches.unlink()


def _gather(
    phase: Phase, groups: Sequence[Sequence[Unit]], parent: Path, new: _New, ledgers: list[Ledger], track: Track
) -> None:
    """Finds the pieces of which less than half was seen before in this phase, whatever source they are from."""
    seen = dedup.Seen()
    ordered = [(place, unit) for place, group in enumerate(groups) for unit in group]
    numbers = itertools.count()
    for place, unit in track(ordered, f"{phase.name}: looking for duplicates", len(ordered)):
        account, documents = units.read(unit, parent)
        ledgers[place].add(account)
        for document in documents:
            _add(document, next(numbers), place, ledgers[place], new, seen)


def _add(document: ScreenedUnit, number: int, place: int, ledger: Ledger, new: _New, seen: dedup.Seen) -> None:
    reason, before = document.reason, len(new.lengths)
    for piece in document.pieces:
        if piece.id in new.lengths or seen.contains(piece.sketch):
            reason = "duplicate" if piece.id in new.lengths else "near_duplicate"
            ledger.drop_part(reason, document.file, piece.text)
            continue
        record = {"id": piece.id, "source": ledger.source, "title": document.title, "text": piece.text}
        if document.prompt:
            record["prompt"] = document.prompt
        new.add(_Line(number, place, document.file, record), piece.sketch)
        seen.add(piece.sketch)
    if len(new.lengths) == before:
        ledger.drop(reason, document.title, document.file)


class _Out:
    """The files of a split."""

    def __init__(self, stack: contextlib.ExitStack, scratch: Path, split: Split):
        self.characters = 0
        self.sizes: list[int] = []
        self._text = stack.enter_context((scratch / f"{split}.jsonl").open("w", encoding="utf-8", newline="\n"))
        self._ids = stack.enter_context((scratch / f"{split}.ids").open("w", encoding="ascii", newline="\n"))
        self._sketches = stack.enter_context((scratch / f"{split}.sketches.bin").open("wb"))

    def write(self, record: dict[str, str], sketch: bytes) -> None:
        self._text.write(json.dumps(record, ensure_ascii=False) + "\n")
        self._ids.write(record["id"] + "\n")
        self._sketches.write(sketch)
        self.sizes.append(len(sketch) // 8)
        self.characters += len(record["text"])


def _divide(
    phase: Phase,
    new: _New,
    beyond: Collection[str],
    held_out: Collection[str],
    ledgers: list[Ledger],
    scratch: Path,
    track: Track,
) -> dict[str, dict[str, int]]:
    """Each piece goes into its split, or, beyond the dose of its source, into the ledger. Returns the splits' sizes."""
    with contextlib.ExitStack() as stack:
        outs = {split: _Out(stack, scratch, split) for split in SPLITS}
        lines = track(new.read(), f"{phase.name}: splitting", len(new.lengths))
        for _, pieces in itertools.groupby(lines, key=lambda pair: pair[0].document):
            kept = 0
            for line, sketch in pieces:
                ledger, name, text = ledgers[line.place], line.record["id"], line.record["text"]
                if name in beyond:
                    ledger.drop_part("dose", line.file, text)
                    continue
                outs["validation" if name in held_out else "train"].write(line.record, sketch)
                ledger.keep(line.file, len(text))
                kept += 1
            if kept:
                ledger.documents_kept += 1
            else:
                ledger.drop("dose", line.record["title"], line.file)
    for split, out in outs.items():
        np.save(scratch / f"{split}.sizes.npy", np.asarray(out.sizes, np.int64), allow_pickle=False)
    return {split: {"documents": len(out.sizes), "characters": out.characters} for split, out in outs.items()}


def _choose_validation(lengths: dict[str, int]) -> set[str]:
    """The smallest ids until they hold enough documents and characters: the order of the sources plays no part."""
    documents = max(VALIDATION_DOCUMENTS, VALIDATION_SHARE * len(lengths))
    characters = VALIDATION_SHARE * sum(lengths.values())
    chosen: set[str] = set()
    held = 0
    for name in sorted(lengths):
        if len(chosen) >= documents and held >= characters:
            break
        chosen.add(name)
        held += lengths[name]
    return chosen


def _too_few(phase: str, documents: int, held_out: int) -> str:
    """What is wrong where fewer documents remain for training than are set aside; else ""."""
    needed = 2 * max(held_out, VALIDATION_DOCUMENTS)
    if documents >= needed:
        return ""
    return (
        f"phase.{phase}.sources: {documents} distinct documents found after cleaning, but {needed} are needed "
        f"to set {needed // 2} aside for validation and train on as many; add text (a document is a file or a JSON "
        f"line, or {units.PIECE_CHARACTERS:,} characters of a longer one)"
    )
