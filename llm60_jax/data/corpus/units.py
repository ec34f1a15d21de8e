"""The slow half of a corpus, in units: some files of one source, or a part of a large one, read, screened and
sketched.

A unit is a folder, named by a digest of its inputs. One process or many can make the units, in any
order (`make`), here or on other machines (`cluster.py`). A preparation that was interrupted finds
its finished units again. `joining.py` reads the units in a fixed order, so the corpus is always the
same to the byte.
"""

import dataclasses
import itertools
import json
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from importlib import metadata
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from llm60_jax.config import Exclude, HubSource, Source
from llm60_jax.data.clean import cleaning, dedup, rules
from llm60_jax.data.corpus import evaluation_text, pieces
from llm60_jax.data.corpus.pieces import Piece, ScreenedDocument
from llm60_jax.data.read import kinds, sources
from llm60_jax.data.read.ledger import Ledger
from llm60_jax.errors import DamageError, InputError, MachineError
from llm60_jax.machine import environment, facts, files, manifest, signals, unfinished
from llm60_jax.machine.progress import Track, silent

_FORMAT = 2  # raise with any change of the folder's content
_ADDRESS_BYTES = 1_000_000_000  # that a process maps with all readers; Python's pool hangs where it gets none
UNIT_BYTES = 2_000_000  # files are grouped until they reach this, larger ones cut: some seconds of work

HashedFile = tuple[sources.InputFile, str]  # a file, or a part of one, and its SHA-256


@dataclasses.dataclass(frozen=True)
class Unit:
    """Some files of a source, in their order, and the settings that decide what is kept of them."""

    source: Source
    exclude: Exclude
    evaluation: tuple[HashedFile, ...]
    files: tuple[HashedFile, ...]

    @property
    def identity(self) -> dict[str, Any]:
        """What determines the unit's content, as JSON values."""
        return {
            "spec": spec(self.source),
            # The names of a part's documents depend on those before it.
            "files": [[file.name, digest, *(file.part or ())[2:]] for file, digest in self.files],
            "readers": readers_identity(self.files),
            **rules_identity(self.exclude, self.evaluation),
        }

    @property
    def name(self) -> str:
        """Its files for a reader: "a.txt to k.txt (12 files)", or "b.jsonl, bytes 2,000,123 to 4,000,250"."""
        first, last = (str(file) for file, _ in (self.files[0], self.files[-1]))
        return first if len(self.files) == 1 else f"{first} to {last} ({len(self.files):,} files)"

    def folder(self, parent: Path) -> Path:
        return parent / files.digest_of(self.identity)[:16]


def spec(source: Source) -> dict[str, Any]:
    """Return the settings of a source that determine its documents, as JSON values.

    The path is not among them: a folder counts by its content, wherever it lies.
    """
    if isinstance(source, HubSource):
        return {"kind": source.kind}  # the digests of the downloaded files say the rest
    aside = ("path", "licence", "dose")
    return {name: value for name, value in vars(source).items() if name not in aside}


def readers_identity(inputs: Sequence[HashedFile]) -> list[Any]:
    """Return what determines how files are read: our readers, and their libraries."""
    return [kinds.VERSION, kinds.libraries({file.kind for file, _ in inputs})]


def rules_identity(exclude: Exclude, evaluation: Sequence[HashedFile]) -> dict[str, Any]:
    """Return what determines how a document becomes pieces, as JSON values."""
    return {
        "unit_format": _FORMAT,
        "cleaning": cleaning.VERSION,
        "rules": rules.VERSION,
        "duplicates": [dedup.VERSION, dedup.SHINGLE, dedup.SCALE, dedup.CONTAINED],
        "libraries": {name: metadata.version(name) for name in ("ftfy", "py3langid")},  # of the rules
        "exclude": dataclasses.asdict(cast(Any, exclude)),
        "cut": [pieces.LONGEST_CHARACTERS, pieces.PIECE_CHARACTERS],
        "evaluation": [digest for _, digest in evaluation],
    }


def divide(
    source: Source, exclude: Exclude, inputs: Sequence[HashedFile], evaluation: Sequence[HashedFile]
) -> list[Unit]:
    """Return the units of a source: consecutive files and parts of files, some megabytes a unit.

    Raise InputError if a file that must be cut has changed since it was hashed.
    """
    units: list[Unit] = []
    group: list[HashedFile] = []
    group_bytes = 0
    for part in itertools.chain.from_iterable(_cut(source, *file) for file in inputs):
        group.append(part)
        group_bytes += part[0].size
        if group_bytes >= UNIT_BYTES:
            units.append(Unit(source, exclude, tuple(evaluation), tuple(group)))
            group, group_bytes = [], 0
    return [*units, Unit(source, exclude, tuple(evaluation), tuple(group))] if group else units


def _cut(source: Source, file: sources.InputFile, digest: str) -> list[HashedFile]:
    parts = sources.cut(source, file, UNIT_BYTES)
    if parts == [file]:
        return [(file, digest)]
    hashed = [(part, part.digest()) for part in parts]
    _require_unchanged([(file, digest)])  # now, because a unit knows its own parts only
    return hashed


def make(units: Sequence[Unit], parent: Path, track: Track, description: str, processes: int = 1) -> None:
    """Make the missing units below `parent`.

    Args:
      processes: how many work at once; 0 means one for each core that this process may use.

    Raises:
      InputError: a file changed while it was read.
      MachineError: `parent` cannot be written, or a process died.
    """
    pending = [unit for unit in units if not is_whole(unit, parent)]
    processes = min(processes or facts.cores(), len(pending))
    if processes > 1:
        _make_in_processes(pending, parent, track, description, processes)
    elif pending:
        _make_here(pending, parent, track, description)


def make_one(unit: Unit, parent: Path) -> None:
    """Make one unit unless it is there. Raises as `make`."""
    if not is_whole(unit, parent):
        _make_here([unit], parent, silent, "")


def is_whole(unit: Unit, parent: Path) -> bool:
    """Return whether a unit is finished and undamaged."""
    folder = unit.folder(parent)
    try:
        return manifest.exists(folder) and manifest.verify(folder)["identity"] == json.loads(json.dumps(unit.identity))
    except DamageError:
        return False


def read(unit: Unit, parent: Path) -> tuple[Ledger, Iterator[ScreenedDocument]]:
    """Return a finished unit: its ledger, and its documents in their order."""
    folder = unit.folder(parent)
    return Ledger.of(manifest.read(folder)["facts"]), _read_documents(folder)


def _make_here(units: list[Unit], parent: Path, track: Track, description: str) -> None:
    """Make units in this process.

    One iterator runs through all of them, for a single progress bar.
    """
    ledgers = [Ledger("") for _ in units]

    def documents() -> Iterator[sources.Document | None]:
        for unit, ledger in zip(units, ledgers, strict=True):
            yield from sources.read(unit.source, [file for file, _ in unit.files], ledger)
            yield None  # the end of the unit

    tracked = track(documents(), description)
    for unit, ledger in zip(units, ledgers, strict=True):
        share = itertools.takewhile(lambda document: document is not None, tracked)

        def build(scratch: Path, unit: Unit = unit, ledger: Ledger = ledger, share: Any = share) -> dict[str, Any]:
            _write_documents(scratch, unit, share, ledger)
            _require_unchanged(unit.files)
            return ledger.to_tree()

        manifest.build_once(unit.folder(parent), unit.identity, build, "cleaned text")
    for _ in tracked:  # empty by now; ends the progress bar
        pass


def _make_in_processes(units: list[Unit], parent: Path, track: Track, description: str, processes: int) -> None:
    """Make units in new processes.

    They are spawned: a fork would break the threads of loaded libraries.
    """
    environment.require_address_space(_ADDRESS_BYTES, "cleaning text")
    context = multiprocessing.get_context("spawn")
    # Processes inherit what is blocked: Python's tracker of semaphores for good, a worker until it has begun.
    signal.pthread_sigmask(signal.SIG_BLOCK, signals.SIGNALS)
    with ProcessPoolExecutor(processes, context, initializer=_begin_worker, initargs=(os.getpid(),)) as pool:
        signal.pthread_sigmask(signal.SIG_BLOCK, signals.SIGNALS)  # again: the tracker's start unblocks some
        tasks: list[Future[None]] = [pool.submit(make_one, unit, parent) for unit in units]
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals.SIGNALS)
        try:
            parts = f"{description} in {processes} processes, by parts of the text"
            # A signal to all processes ends the workers at once, so `track` finds their tasks done, and raises.
            for task in track(as_completed(tasks), parts, len(tasks)):
                task.result()
        except BrokenProcessPool:
            raise MachineError(
                f"{description}: one of {processes} processes died, perhaps out of memory; "
                "set processes to a smaller number and run the same command again. Finished parts are kept"
            ) from None
        except BaseException:
            for child in multiprocessing.active_children():
                child.kill()  # the next attempt makes its unfinished unit again
            pool.shutdown(cancel_futures=True)
            unfinished.remove([parent])
            raise


def _begin_worker(parent: int) -> None:
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # no traceback; the first process says what ended
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signals.SIGNALS)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    """End this process when its parent is gone: a killed parent cannot tell its children."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _require_unchanged(inputs: Iterable[HashedFile]) -> None:
    """Raise InputError if a file no longer matches its digest. Cheap next to the cleaning."""
    for file, digest in inputs:
        if file.digest() != digest:
            raise InputError(f"{file.path}: it changed while it was read; run the same command again")


def _write_documents(scratch: Path, unit: Unit, documents: Iterable[sources.Document], ledger: Ledger) -> None:
    evaluation = evaluation_text.load(unit.evaluation)
    with (
        (scratch / "documents.jsonl").open("w", encoding="utf-8", newline="\n") as lines,
        (scratch / "sketches.bin").open("wb") as sketches,
    ):
        for document in documents:
            screened = pieces.screen(document, unit.exclude, evaluation, ledger)
            stored = [(piece.id, piece.text, len(piece.sketch)) for piece in screened.pieces]
            lines.write(json.dumps(screened._asdict() | {"pieces": stored}, ensure_ascii=False) + "\n")
            for piece in screened.pieces:
                sketches.write(piece.sketch.astype("<u8").tobytes())


def _read_documents(folder: Path) -> Iterator[ScreenedDocument]:
    with (
        (folder / "documents.jsonl").open(encoding="utf-8", newline="\n") as lines,
        (folder / "sketches.bin").open("rb") as sketches,
    ):
        for line in lines:
            record = json.loads(line)
            stored = [Piece(name, text, _next_sketch(sketches, size)) for name, text, size in record.pop("pieces")]
            yield ScreenedDocument(**record, pieces=stored)


def _next_sketch(sketches: BinaryIO, size: int) -> np.ndarray:
    return np.frombuffer(sketches.read(8 * size), "<u8")
