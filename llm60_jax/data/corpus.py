"""The corpus of a phase: its sources cleaned, cut, deduplicated and split, written once as JSON lines with a ledger."""

import dataclasses
import hashlib
import json
from collections.abc import Collection, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any, BinaryIO, Literal, TextIO, cast

import numpy as np

from llm60_jax import manifest
from llm60_jax.data import cleaning, dedup, rules, screening, sources
from llm60_jax.data.ledger import Ledger
from llm60_jax.data.progress import Track
from llm60_jax.errors import InputError
from llm60_jax.exclusion import Exclude
from llm60_jax.phase import Phase, Source

Split = Literal["train", "validation"]
SPLITS: tuple[Split, Split] = ("train", "validation")

_FORMAT = 4  # raise with any change of what the folder holds
_LONGEST_CHARACTERS = 20_000  # a document beyond this is cut
_PIECE_CHARACTERS = 5_000  # ... into pieces of at most this: a few contexts each, so that a small phase can be split
_VALIDATION_SHARE = 0.02  # of the documents, and of the characters
_VALIDATION_DOCUMENTS = 20  # at least; and at least as many must remain for training


@dataclasses.dataclass(frozen=True)
class Corpus:
    """A phase's prepared text. `train` and `validation` are JSON-lines files; `ledger` is the content of ledger.json.

    `ledger["sources"]` has one account for each source (see `Ledger`), `ledger["splits"][split]` the numbers of
    `documents` and `characters`. After cutting, a piece of a document counts as a document.

    `left_out` are ids that are passed over when the corpus is read, `why` says why (see `without`).
    """

    phase: str
    digest: str
    folder: Path
    train: Path
    validation: Path
    ledger: dict[str, Any]
    left_out: frozenset[str] = frozenset()
    why: str = ""

    def summary(self) -> list[str]:
        """A line for each source: what came in, what was kept, repaired and dropped."""
        lines = [Ledger.of(account).summary() for account in self.ledger["sources"]]
        if self.left_out:
            lines.append(f"{len(self.left_out):,} documents left out: {self.why}")
        return lines

    def ids(self, split: Split) -> set[str]:
        """The ids of the documents of a split, those left out not among them."""
        return set((self.folder / f"{split}.ids").read_text(encoding="ascii").split()) - self.left_out

    def sketches(self, split: Split) -> tuple[list[str], dedup.Sketches]:
        """The ids of all documents of a split, and their sketches in the same order."""
        return read_sketches(self.folder, split)

    def without(self, ids: Collection[str], why: str) -> "Corpus":
        """The corpus with some documents left out; its digest tells which.

        Raises InputError when nothing would remain to train on, or to validate with.
        """
        left_out = frozenset(ids) & (self.ids("train") | self.ids("validation"))
        if not left_out:
            return self
        for split in SPLITS:
            if not self.ids(split) - left_out:
                raise InputError(
                    f"phase.{self.phase}.sources: nothing is left for {split}: all its documents are left out, {why}"
                )
        digest = manifest.digest_of([self.digest, sorted(left_out)])
        return dataclasses.replace(self, digest=digest, left_out=left_out, why=why)

    def read(self, split: Split) -> Iterator[dict[str, str]]:
        """Yields {"id": SHA-256 of the text in hex, "source", "title", "text"}, in the order of the sources. An answer
        to a question also has "prompt"."""
        path = self.train if split == "train" else self.validation
        with path.open(encoding="utf-8", newline="\n") as file:
            for line in file:
                record = json.loads(line)
                if record["id"] not in self.left_out:
                    yield record


def read_sketches(folder: Path, split: Split) -> tuple[list[str], dedup.Sketches]:
    """The ids and sketches of a split in a corpus's folder."""
    ids = (folder / f"{split}.ids").read_text(encoding="ascii").split()
    hashes, sizes = (np.load(folder / f"{split}.{name}.npy", allow_pickle=False) for name in ("sketches", "sizes"))
    return ids, dedup.Sketches(hashes, sizes)


def prepare(phase: Phase, data_dir: Path, track: Track) -> Corpus:
    """Builds the corpus of a phase below `data_dir`/processed, or finds it there.

    Raises:
      InputError: a source without text (see `sources.inputs`), or too few documents to split.
      MachineError: an input cannot be read, or `data_dir` not written.
    """
    files = [sources.inputs(source) for source in phase.sources]
    others = [sources.others(source) for source in phase.sources]
    count = sum(len(group) for group in files)
    hashed = track([file for group in files for file in group], f"{phase.name}: checking source files", count)
    digests = [(file.name, file.sha256()) for file in hashed]
    named = iter(digests)
    identity = {
        "sources": [
            {"spec": _spec(source), "files": [list(next(named)) for _ in group], "others": unread}
            for source, group, unread in zip(phase.sources, files, others, strict=True)
        ],
        "format": _FORMAT,
        "cleaning": cleaning.VERSION,
        "rules": rules.VERSION,
        "duplicates": [dedup.VERSION, dedup.SHINGLE, dedup.SCALE, dedup.CONTAINED],
        "libraries": {name: metadata.version(name) for name in ("ftfy", "py3langid")},  # what the rules rest on
        "exclude": dataclasses.asdict(cast(Any, phase.exclude)),
        "cut": [_LONGEST_CHARACTERS, _PIECE_CHARACTERS],
        "validation": [_VALIDATION_SHARE, _VALIDATION_DOCUMENTS],
    }
    digest = manifest.digest_of(identity)
    folder = Path(data_dir) / "processed" / f"{phase.name}-{digest[:16]}"

    def build(scratch: Path) -> dict[str, Any]:
        return _build(phase, files, others, scratch, track)

    ledger = manifest.build_once(folder, identity, build, f"corpus of phase '{phase.name}'")["facts"]
    return Corpus(phase.name, digest, folder, folder / "train.jsonl", folder / "validation.jsonl", ledger)


def _spec(source: Source) -> dict[str, Any]:
    """The source as JSON values. A folder counts by its content alone, wherever it lies."""
    return {name: value for name, value in vars(source).items() if name != "path"}


def _build(
    phase: Phase, files: list[tuple[sources.InputFile, ...]], others: list[list[str]], scratch: Path, track: Track
) -> dict[str, Any]:
    """Two passes, so that no text stays in memory: all pieces into one file, then each into its split."""
    spill, spilled_sketches = scratch / "pieces.jsonl", scratch / "sketches.bin"
    kept = _Kept()
    ledgers = [Ledger(sources.label(source)) for source in phase.sources]
    with spill.open("w", encoding="utf-8", newline="\n") as out, spilled_sketches.open("wb") as sketches:
        for source, group, unread, ledger in zip(phase.sources, files, others, ledgers, strict=True):
            documents = sources.read(source, group, ledger)
            for document in track(documents, f"{phase.name}: cleaning {ledger.source}"):
                _add(document, phase.exclude, ledger, kept, out, sketches)
            for name in unread:
                ledger.documents_in += 1
                ledger.drop("other_kind", name)
    lengths = kept.lengths
    chosen = _choose_validation(phase.name, lengths, ledgers)
    splits: dict[str, dict[str, int]] = {split: {"documents": 0, "characters": 0} for split in SPLITS}
    with (
        spill.open(encoding="utf-8", newline="\n") as pieces,
        (scratch / "train.jsonl").open("w", encoding="utf-8", newline="\n") as train,
        (scratch / "validation.jsonl").open("w", encoding="utf-8", newline="\n") as validation,
    ):
        ordered = zip(lengths.items(), pieces, strict=True)  # a dict keeps the order in which pieces were written
        for (name, length), line in track(ordered, f"{phase.name}: splitting", len(lengths)):
            split = "validation" if name in chosen else "train"
            (validation if name in chosen else train).write(line)
            splits[split]["documents"] += 1
            splits[split]["characters"] += length
    spill.unlink()
    everything = dedup.Sketches(np.fromfile(spilled_sketches, "<u8"), np.asarray(kept.sketch_sizes, np.int64))
    spilled_sketches.unlink()
    held_out = np.fromiter((name in chosen for name in lengths), bool, len(lengths))
    for split, own in (("train", ~held_out), ("validation", held_out)):
        named = [name for name, mine in zip(lengths, own, strict=True) if mine]
        (scratch / f"{split}.ids").write_text("\n".join(named), encoding="ascii")
        hashes, sizes = everything.chosen(own)
        np.save(scratch / f"{split}.sketches.npy", hashes, allow_pickle=False)
        np.save(scratch / f"{split}.sizes.npy", sizes, allow_pickle=False)
    facts = {"phase": phase.name, "sources": [ledger.to_tree() for ledger in ledgers], "splits": splits}
    (scratch / "ledger.json").write_text(manifest.dump(facts), encoding="utf-8")
    return facts


@dataclasses.dataclass
class _Kept:
    """The pieces of a phase so far, and what tells whether the next one is new."""

    lengths: dict[str, int] = dataclasses.field(default_factory=dict)  # id -> characters
    sketch_sizes: list[int] = dataclasses.field(default_factory=list)
    seen: dedup.Seen = dataclasses.field(default_factory=dedup.Seen)


def _add(
    document: sources.Document, exclude: Exclude, ledger: Ledger, kept: _Kept, out: TextIO, sketches: BinaryIO
) -> None:
    """Cleans, screens and cuts one document and writes the pieces of which less than half was seen in this phase."""
    ledger.read(document.file, len(document.text))
    found = screening.screen(document.text, exclude, document.prompt)
    for part in found.dropped:
        ledger.drop_part(part.rule, document.file, part.text)
    whole = bool(found.prompt) or len(found.text) <= _LONGEST_CHARACTERS  # an answer stays with its question
    pieces = cleaning.cut(found.text, max(len(found.text), 1) if whole else _PIECE_CHARACTERS)
    title = " ".join(cleaning.clean(document.title).split())
    before = len(kept.lengths)
    reason: str = found.reason or "empty"
    for text in pieces:
        name = hashlib.sha256((f"{found.prompt}\0{text}" if found.prompt else text).encode("utf-8")).hexdigest()
        hashes = dedup.sketch(f"{found.prompt} {text}")
        if name in kept.lengths or kept.seen.contains(hashes):
            reason = "duplicate" if name in kept.lengths else "near_duplicate"
            ledger.drop_part(reason, document.file, text)
            continue
        record = {"id": name, "source": document.source, "title": title, "text": text}
        if found.prompt:
            record["prompt"] = found.prompt
        out.write(json.dumps(record, ensure_ascii=False) + "\n")
        kept.lengths[name] = len(text)
        kept.seen.add(hashes)
        kept.sketch_sizes.append(len(hashes))
        sketches.write(hashes.astype("<u8").tobytes())
        ledger.keep(document.file, len(text))
    if len(kept.lengths) > before:
        ledger.documents_kept += 1
    else:
        ledger.drop(reason, document.title)


def _choose_validation(phase: str, lengths: dict[str, int], ledgers: list[Ledger]) -> set[str]:
    """The smallest ids until they hold enough documents and characters: the order of the sources plays no part.

    Raises InputError if fewer documents would remain for training.
    """
    documents = max(_VALIDATION_DOCUMENTS, _VALIDATION_SHARE * len(lengths))
    characters = _VALIDATION_SHARE * sum(lengths.values())
    chosen: set[str] = set()
    held = 0
    for name in sorted(lengths):
        if len(chosen) >= documents and held >= characters:
            break
        chosen.add(name)
        held += lengths[name]
    if len(lengths) < 2 * max(len(chosen), _VALIDATION_DOCUMENTS):
        needed = 2 * max(len(chosen), _VALIDATION_DOCUMENTS)
        raise InputError(
            f"phase.{phase}.sources: {len(lengths)} distinct documents found after cleaning, but {needed} are needed "
            f"to set {needed // 2} aside for validation and train on as many; add text "
            f"(a document is a file or a JSON line, or {_PIECE_CHARACTERS:,} characters of a longer one). "
            + "; ".join(ledger.summary() for ledger in ledgers)
        )
    return chosen
