"""The corpus of a phase: sources cleaned, deduplicated, split, written once with a ledger."""

import contextlib
import dataclasses
import functools
import itertools
import json
import shutil
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from llm60_jax.config import HubSource, Phase
from llm60_jax.data.clean import dedup
from llm60_jax.data.corpus import distinct, held_out, joining, units
from llm60_jax.data.corpus.joining import SPLITS, Split
from llm60_jax.data.corpus.units import Unit
from llm60_jax.data.read import folders, hub, sources
from llm60_jax.data.read.ledger import Ledger
from llm60_jax.errors import DamageError
from llm60_jax.machine import files, manifest
from llm60_jax.machine.locks import Lock
from llm60_jax.machine.progress import Track, silent

__all__ = ["SPLITS", "Corpus", "Recipe", "Split", "prepare", "read_sketches"]

# What to do about text that two phases share.
APART = (
    "give each phase text of its own: a folder a phase (path = 'my/grammar', 'my/fine_tune'), other files of one "
    "folder (pattern), or train one phase only (configs/own.toml)"
)
_FORMAT = 6  # raise with any change of the folder's content


@dataclasses.dataclass(frozen=True)
class Corpus:
    """A phase's prepared text. `train` and `validation` are JSON-lines files.

    `ledger` is the content of ledger.json. `ledger["sources"]` has one ledger for each source (see
    `Ledger`). `ledger["splits"][split]` has the numbers of `documents` and `characters`; each piece
    of a long document counts as a document.

    `left_out` are ids that `read` skips; `notes` say why (see `without`).
    """

    phase: str
    digest: str
    folder: Path
    train: Path
    validation: Path
    ledger: dict[str, Any]
    left_out: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()

    def summary(self) -> list[str]:
        """Return a line for each source (read, kept, repaired, dropped), then the notes."""
        return [*(ledger.summary() for ledger in self.ledgers), *self.notes]

    def warnings(self) -> list[str]:
        """Return lines about suspicious losses."""
        return [line for ledger in self.ledgers for line in ledger.warnings()]

    @property
    def ledgers(self) -> list[Ledger]:
        """The ledgers of the sources, in their order."""
        return [Ledger.of(tree) for tree in self.ledger["sources"]]

    @property
    def problem(self) -> str:
        """Why this text cannot train a model; "" if it can."""
        if self.ledger["too_few"]:
            return f"{self.ledger['too_few']}. " + "; ".join([*self.summary(), *self.warnings()])
        for split in SPLITS:
            if not self.ids(split):
                return (
                    f"phase.{self.phase}.sources: nothing is left for {split}: all its documents are left out. "
                    f"{'; '.join(self.notes)}; {APART}"
                )
        return ""

    def ids(self, split: Split) -> set[str]:
        """Return the ids of a split's documents, without those left out."""
        return set((self.folder / f"{split}.ids").read_text(encoding="ascii").split()) - self.left_out

    def sketches(self, split: Split) -> tuple[list[str], dedup.Sketches]:
        """Return the ids of all documents of a split, and their sketches in the same order."""
        return read_sketches(self.folder, split)

    def without(self, ids: Collection[str], why: str) -> "Corpus":
        """Return the corpus without some documents. Its digest depends on their ids."""
        more = (frozenset(ids) - self.left_out) & (self.ids("train") | self.ids("validation"))
        if not more:
            return self
        digest = files.digest_of([self.digest, sorted(more)])
        notes = (*self.notes, f"{len(more):,} documents left out: {why}")
        return dataclasses.replace(self, digest=digest, left_out=self.left_out | more, notes=notes)

    def read(self, split: Split) -> Iterator[dict[str, str]]:
        """Yield {"id", "source", "title", "text"}, in the order of the sources.

        "id" is the SHA-256 of the text, in hex. An answer also has its question, "prompt".
        """
        path = self.train if split == "train" else self.validation
        with path.open(encoding="utf-8", newline="\n") as file:
            for line in file:
                record = json.loads(line)
                if record["id"] not in self.left_out:
                    yield record


def recorded(data_dir: Path, name: str, entry: Mapping[str, Any]) -> Corpus:
    """Return a corpus that a checkpoint recorded (`Prepared.record`). Its folder may be missing.

    Args:
      name: the name of the corpus's folder.
      entry: its phase and the ids left out.
    """
    folder = data_dir / "processed" / name
    train, validation = (folder / f"{split}.jsonl" for split in SPLITS)
    return Corpus(entry["phase"], "", folder, train, validation, {}, frozenset(entry["left_out"]))


def read_sketches(folder: Path, split: Split) -> tuple[list[str], dedup.Sketches]:
    """Return the ids and sketches of a split in a corpus's folder."""
    ids = (folder / f"{split}.ids").read_text(encoding="ascii").split()
    path = folder / f"{split}.sketches.bin"
    hashes = np.memmap(path, "<u8", "r") if path.stat().st_size else np.empty(0, "<u8")
    return ids, dedup.Sketches(hashes, files.read_array(folder / f"{split}.sizes.npy"))


class Recipe:
    """What determines a phase's corpus.

    The constructor downloads what is missing and hashes every source file.
    """

    def __init__(self, phase: Phase, data_dir: Path, track: Track, evaluation: Sequence[str] = ()):
        for source in phase.sources:
            if isinstance(source, HubSource):
                hub.fetch(source, track)
        folders.claim(Path(data_dir))
        listings = [sources.listed(source) for source in phase.sources]
        groups = [listing.files for listing in listings]
        evaluation_files = [file for path in evaluation for file in sources.inputs(sources.folder(path))]
        self.phase, self.data_dir = phase, Path(data_dir)
        self.others = [listing.others for listing in listings]
        all_files = [file for group in [*groups, evaluation_files] for file in group]
        tracked = track(all_files, f"{phase.name}: checking source files", len(all_files))
        hashed = iter([(file, file.digest()) for file in tracked])
        self.files = [tuple(itertools.islice(hashed, len(group))) for group in groups]
        self.evaluation = tuple(hashed)

    @property
    def identity(self) -> dict[str, Any]:
        """What determines the corpus, as JSON values."""
        return {
            "sources": [
                {
                    "spec": units.spec(source),
                    "files": [[file.name, digest] for file, digest in inputs],
                    "readers": units.readers_identity(inputs),
                    "others": others,
                    "dose": [source.dose.share, source.dose.characters],
                    "licence": sources.licence_of(source),
                }
                for source, inputs, others in zip(self.phase.sources, self.files, self.others, strict=True)
            ],
            "format": _FORMAT,
            **units.rules_identity(self.phase.exclude, self.evaluation),
            "validation": held_out.VERSION,
            "distinct": distinct.VERSION,
        }

    @functools.cached_property
    def digest(self) -> str:
        return files.digest_of(self.identity)

    @property
    def folder(self) -> Path:
        """The folder of the corpus."""
        return self.data_dir / "processed" / f"{self.phase.name}-{self.digest[:16]}"

    def corpus(self, ledger: dict[str, Any]) -> Corpus:
        """Return the corpus in the folder."""
        train, validation = (self.folder / f"{split}.jsonl" for split in SPLITS)
        return Corpus(self.phase.name, self.digest, self.folder, train, validation, ledger)

    @property
    def parts(self) -> Path:
        """The folder of the units. It is deleted once the corpus is whole."""
        return self.data_dir / "screened" / f"{self.phase.name}-{self.digest[:16]}"

    def units(self, track: Track = silent) -> list[list[Unit]]:
        """Return the units of each source, in the order of joining. Large files are read, to cut them.

        Raise InputError if a file has changed since it was hashed.
        """
        pairs = zip(self.phase.sources, self.files, strict=True)
        tracked = track(pairs, f"{self.phase.name}: cutting large files", len(self.files))
        return [units.divide(source, self.phase.exclude, inputs, self.evaluation) for source, inputs in tracked]


def prepare(
    phase: Phase, data_dir: Path, track: Track, *, processes: int = 1, evaluation: Sequence[str] = ()
) -> Corpus:
    """Build the corpus of a phase below `data_dir`/processed, or find it there.

    Args:
      processes: how many clean text at once; 0 means one for each core.
      evaluation: paths of evaluation text; the corpus gets nothing of it, nor any near-duplicate.

    Raises:
      InputError: a source has no text (see `sources.inputs`), or a file changes during reading.
      MachineError: `data_dir` cannot be written.
    """
    recipe = Recipe(phase, data_dir, track, evaluation)

    def build(scratch: Path) -> dict[str, Any]:
        groups = recipe.units(track)
        flat = [unit for group in groups for unit in group]
        units.make(flat, recipe.parts, track, f"{phase.name}: cleaning", processes)
        return joining.join(phase, groups, recipe.parts, recipe.others, scratch, track)

    with _alone(recipe.parts, track):
        ledger = manifest.build_once(recipe.folder, recipe.identity, build, f"corpus of phase '{phase.name}'")["facts"]
        shutil.rmtree(recipe.parts, ignore_errors=True)
    return recipe.corpus(ledger)


def found(phase: Phase, data_dir: Path, track: Track, evaluation: Sequence[str] = ()) -> Corpus | None:
    """Return the corpus of a phase if it is prepared. Only its manifest is read.

    Raise InputError as `prepare`.
    """
    recipe = Recipe(phase, data_dir, track, evaluation)
    try:
        return recipe.corpus(manifest.read(recipe.folder)["facts"])
    except DamageError:  # absent, or to be built again
        return None


@contextlib.contextmanager
def _alone(parts: Path, track: Track) -> Iterator[None]:
    """Let one process at a time prepare a corpus. Another process waits, and then finds the corpus."""
    try:
        parts.parent.mkdir(parents=True, exist_ok=True)
        lock = Lock(parts.with_suffix(".lock"))
    except OSError:  # a folder that cannot be written is reported where it is needed
        yield
        return
    with lock:
        if not _take(lock):
            tries = itertools.takewhile(lambda _: not _take(lock), itertools.count())
            for _ in track(tries, "waiting for another process that prepares the same text"):
                time.sleep(0.5)
        yield


def _take(lock: Lock) -> bool:
    """Take the lock and return True, or return False if another process holds it."""
    try:
        return lock.take()
    except OSError:  # a disk without locks: two processes at once do the work twice
        return True
