"""The heavy half of a corpus, in units that any process can do: some files of one source, read, screened and sketched.

A unit is a folder of its own, named by what determines it. The units of a corpus can be made in any order, by one
process or by many (`make`), here or on other machines (`cluster.py`); those that an interrupted attempt has finished
are found again. What joins them goes through them in order (`corpus.py`), so the result is the same to the byte.
"""

import dataclasses
import hashlib
import itertools
import json
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np

from llm60_jax.config import Exclude, HubSource, Source
from llm60_jax.data.clean import cleaning, dedup, rules, screening
from llm60_jax.data.corpus import evaluation_text
from llm60_jax.data.read import kinds, sources
from llm60_jax.data.read.ledger import Ledger
from llm60_jax.errors import DamageError, InputError, MachineError
from llm60_jax.machine import files, manifest
from llm60_jax.machine.progress import Track, silent

_FORMAT = 1  # raise with any change of what the folder holds
UNIT_BYTES = 2_000_000  # a unit is one file, or several that together have so many: some seconds of work
_LONGEST_CHARACTERS = 20_000  # a document beyond this is cut
PIECE_CHARACTERS = 5_000  # ... into pieces of at most this: a few contexts each, so that a small phase can be split

HashedFile = tuple[sources.InputFile, str]  # and its SHA-256


@dataclasses.dataclass(frozen=True)
class Unit:
    """Some files of a source in their order, and what decides what is kept of them."""

    source: Source
    exclude: Exclude
    evaluation: tuple[HashedFile, ...]
    files: tuple[HashedFile, ...]

    @property
    def identity(self) -> dict[str, Any]:
        return {
            "spec": spec(self.source),
            "files": [[file.name, digest] for file, digest in self.files],
            "readers": readers_identity(self.files),
            **rules_identity(self.exclude, self.evaluation),
        }

    def folder(self, parent: Path) -> Path:
        return parent / files.digest_of(self.identity)[:16]


class Piece(NamedTuple):
    """A document, or a part of a long one. `id` is the SHA-256 of its text, in hex."""

    id: str
    text: str
    sketch: np.ndarray  # uint64, see `dedup`


class ScreenedUnit(NamedTuple):
    """A document after the rules. `reason` says why there are no pieces, if there are none."""

    file: str
    title: str
    prompt: str
    reason: str
    pieces: list[Piece]


def spec(source: Source) -> dict[str, Any]:
    """What of a source's settings determines its documents, as JSON values. A folder counts by its content alone,
    wherever it lies."""
    if isinstance(source, HubSource):
        return {"kind": source.kind}  # what was downloaded is in the files
    aside = ("path", "licence", "dose")
    return {name: value for name, value in vars(source).items() if name not in aside}


def readers_identity(inputs: Sequence[HashedFile]) -> list[Any]:
    """What determines how files are read: our own readers, and the libraries that these kinds of files need."""
    return [kinds.VERSION, kinds.libraries({kinds.kind_of(file.name) for file, _ in inputs})]


def rules_identity(exclude: Exclude, evaluation: Sequence[HashedFile]) -> dict[str, Any]:
    """What determines how a document is cleaned, screened, cut and sketched, as JSON values."""
    return {
        "unit_format": _FORMAT,
        "cleaning": cleaning.VERSION,
        "rules": rules.VERSION,
        "duplicates": [dedup.VERSION, dedup.SHINGLE, dedup.SCALE, dedup.CONTAINED],
        "libraries": {name: metadata.version(name) for name in ("ftfy", "py3langid")},  # what the rules rest on
        "exclude": dataclasses.asdict(cast(Any, exclude)),
        "cut": [_LONGEST_CHARACTERS, PIECE_CHARACTERS],
        "evaluation": [digest for _, digest in evaluation],
    }


def divide(
    source: Source, exclude: Exclude, inputs: Sequence[HashedFile], evaluation: Sequence[HashedFile]
) -> list[Unit]:
    """The units of a source: consecutive files of some megabytes together."""
    units: list[Unit] = []
    group: list[HashedFile] = []
    size = 0
    for number, file in enumerate(inputs):
        group.append(file)
        size += file[0].size
        if size >= UNIT_BYTES or number == len(inputs) - 1:
            units.append(Unit(source, exclude, tuple(evaluation), tuple(group)))
            group, size = [], 0
    return units


def make(units: Sequence[Unit], parent: Path, track: Track, description: str, processes: int = 1) -> None:
    """Makes the units that are not there yet, below `parent`.

    Args:
      processes: so many at once; 0 is one for each core that this process may use.

    Raises:
      InputError: a file changed while it was read.
      MachineError: `parent` cannot be written, or a process died.
    """
    pending = [unit for unit in units if not _is_whole(unit, parent)]
    processes = min(processes or _cores(), len(pending))
    if processes > 1:
        _make_in_processes(pending, parent, track, description, processes)
    elif pending:
        _make_here(pending, parent, track, description)


def make_one(unit: Unit, parent: Path) -> None:
    """Makes a unit, or finds it made. Raises as `make`."""
    if not _is_whole(unit, parent):
        _make_here([unit], parent, silent, "")


def read(unit: Unit, parent: Path) -> tuple[Ledger, Iterator[ScreenedUnit]]:
    """What a made unit holds: the account of what was read and screened, and the documents in their order."""
    folder = unit.folder(parent)
    return Ledger.of(manifest.read(folder)["facts"]), _documents(folder)


def _make_here(units: list[Unit], parent: Path, track: Track, description: str) -> None:
    """In this process. One iterator goes through all of them, so that there is one progress bar."""
    ledgers = [Ledger("") for _ in units]

    def documents() -> Iterator[sources.Document | None]:
        for unit, ledger in zip(units, ledgers, strict=True):
            yield from sources.read(unit.source, [file for file, _ in unit.files], ledger)
            yield None  # the end of the unit

    tracked = track(documents(), description)
    for unit, ledger in zip(units, ledgers, strict=True):
        own = itertools.takewhile(lambda document: document is not None, tracked)

        def build(scratch: Path, unit: Unit = unit, ledger: Ledger = ledger, own: Any = own) -> dict[str, Any]:
            _write(scratch, unit, own, ledger)
            _require_unchanged(unit)
            return ledger.to_tree()

        manifest.build_once(unit.folder(parent), unit.identity, build, "cleaned text")
    for _ in tracked:  # nothing is left; the bar ends
        pass


def _make_in_processes(units: list[Unit], parent: Path, track: Track, description: str, processes: int) -> None:
    """Not forked: the libraries of this process have threads, which a fork would leave half there."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context, initializer=_begin_worker, initargs=(os.getpid(),)) as pool:
        tasks: list[Future[None]] = [pool.submit(make_one, unit, parent) for unit in units]
        try:
            parts = f"{description} in {processes} processes, by parts of the text"
            for task in track(as_completed(tasks), parts, len(tasks)):
                task.result()
        except BrokenProcessPool:
            raise MachineError(
                f"{description}: one of {processes} processes died, perhaps for want of memory; "
                "set processes to a smaller number. What is finished is kept"
            ) from None
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for child in multiprocessing.active_children():
                child.terminate()  # what it has not finished is made again
            raise


def _begin_worker(parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process decides
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # cleans up on its way out
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    """Ends this process when its parent is gone, which may have been killed without a chance to say so."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _is_whole(unit: Unit, parent: Path) -> bool:
    folder = unit.folder(parent)
    try:
        return manifest.exists(folder) and manifest.verify(folder)["identity"] == json.loads(json.dumps(unit.identity))
    except DamageError:
        return False


def _require_unchanged(unit: Unit) -> None:
    """What was read is what the digests say. Costs little beside the cleaning."""
    for file, digest in unit.files:
        if file.digest() != digest:
            raise InputError(f"{file.path}: it changed while it was read; run the same command again")


def _write(scratch: Path, unit: Unit, documents: Iterable[sources.Document], ledger: Ledger) -> None:
    known = evaluation_text.load(unit.evaluation)
    with (
        (scratch / "documents.jsonl").open("w", encoding="utf-8", newline="\n") as out,
        (scratch / "sketches.bin").open("wb") as sketches,
    ):
        for document in documents:
            found = screen(document, unit.exclude, known, ledger)
            record = found._asdict() | {"pieces": [(piece.id, piece.text, len(piece.sketch)) for piece in found.pieces]}
            out.write(json.dumps(record, ensure_ascii=False) + "\n")
            for piece in found.pieces:
                sketches.write(piece.sketch.astype("<u8").tobytes())


def screen(
    document: sources.Document, exclude: Exclude, known: evaluation_text.EvaluationText | None, ledger: Ledger
) -> ScreenedUnit:
    """Cleans, screens and cuts one document, and counts what that takes out."""
    ledger.read(document.file, len(document.text))
    found = screening.screen(document.text, exclude, document.prompt)
    for part in found.dropped:
        ledger.drop_part(part.rule, document.file, part.text)
    whole = bool(found.prompt) or len(found.text) <= _LONGEST_CHARACTERS  # an answer stays with its question
    reason: str = found.reason or "empty"
    pieces = []
    for text in cleaning.cut(found.text, max(len(found.text), 1) if whole else PIECE_CHARACTERS):
        shingles = dedup.shingles(f"{found.prompt} {text}")
        if known is not None and known.is_in(shingles):
            reason = "evaluation"
            ledger.drop_part(reason, document.file, text)
            continue
        identity = f"{found.prompt}\0{text}" if found.prompt else text
        name = hashlib.sha256(identity.encode("utf-8")).hexdigest()
        pieces.append(Piece(name, text, dedup.sketch_of(shingles)))
    title = " ".join(cleaning.clean(document.title).split())
    return ScreenedUnit(document.file, title, found.prompt, reason, pieces)


def _documents(folder: Path) -> Iterator[ScreenedUnit]:
    with (
        (folder / "documents.jsonl").open(encoding="utf-8", newline="\n") as lines,
        (folder / "sketches.bin").open("rb") as sketches,
    ):
        for line in lines:
            record = json.loads(line)
            pieces = [Piece(name, text, _next(sketches, size)) for name, text, size in record.pop("pieces")]
            yield ScreenedUnit(**record, pieces=pieces)


def _next(sketches: Any, size: int) -> np.ndarray:
    return np.frombuffer(sketches.read(8 * size), "<u8")
