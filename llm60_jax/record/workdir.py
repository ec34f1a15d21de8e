"""A run directory: its lock, its identity, its metrics and its log.

config.json     the resolved configuration and the digests of data and tokenizer: the run's identity; and each change
                of what may change
plan.json       the stage table, amended where a freeze has waited
metrics.jsonl   a row per logged step, evaluation, look at the representations, decision, stage
tokenizer/      the tokenizer, copied at the start
rescues.json    where the run went back and on at a lower learning rate (train.rewinds), if it did
report.html     the report, made anew at the end of every phase
branches/       what a run had committed after the step that it was sent back to (launch.py --back-to)
privacy/        what a model was found to give away (privacy.py)
checkpoints/  phases/  gates/  samples/  log.txt
"""

import contextlib
import fcntl
import io
import json
import logging
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, TextIO

import numpy as np

from llm60_jax import config as config_module
from llm60_jax.config import Config
from llm60_jax.errors import DamageError, Failure, InputError, MachineError
from llm60_jax.machine import files
from llm60_jax.machine.terminal import PrintableFormatter

log = logging.getLogger("llm60_jax")

# Fields that may differ between two starts of one run: they change neither the model nor the data nor the
# mathematics of a step. Sources are judged by the digest of the text they give.
FREE = {
    "workdir", "data_dir", "device", "processes", "start", "baseline", "sampling", "train.log_every",
    "train.evaluate_every", "train.save_every", "train.keep_rolling", "train.most_refused", "train.rewinds",
    "train.tensorboard", "train.remat", "train.micro_batch", "train.devices", "train.memory_gb", "train.keep_awake",
    "phase.*.remat", "phase.*.sources", "phase.*.gate",
}  # fmt: skip


RESCUES = "rescues.json"
_METRICS_BYTES = 2**30
_QUIET = 600  # seconds without a word in the log after which a process on another computer is taken for ended
TOKENIZER = Path("tokenizer") / "tokenizer.model"


class WorkDir:
    """Paths and small files of one run. Create it with `opened`, which holds the lock."""

    def __init__(self, path: Path):
        self.path = path
        self.metrics_path = path / "metrics.jsonl"
        self.config_path = path / "config.json"
        self.mirror: Callable[[dict[str, Any]], None] | None = None  # is given every row that is added
        self._unwritten = b""  # rows that the disk has refused so far

    def check_identity(self, config: Config) -> None:
        """Raises InputError when the directory belongs to a run with another architecture, plan, seed or optimizer."""
        stored = self._stored()
        if stored is not None:
            self.compare(stored["config"], config)

    def compare(self, stored: dict[str, Any], config: Config) -> None:
        """The same against a configuration as a checkpoint's metadata holds it."""
        old = flat(_as_of_now(stored))
        new = flat(config_module.to_tree(config))
        changed = [name for name in sorted(old.keys() | new.keys()) if old.get(name) != new.get(name)]
        if changed:
            lines = [f"{name}: {_show(old.get(name))} in the run, {_show(new.get(name))} now" for name in changed[:5]]
            raise InputError(
                f"{self.path}: holds a run with another configuration:\n  " + "\n  ".join(lines) + "\n  "
                "Go back to the old values, or give the new run a directory of its own: --workdir DIR"
            )

    def check_digests(self, digests: Mapping[str, str]) -> None:
        """Raises InputError when data or tokenizer are not those the run was started with."""
        stored = self._stored()
        if stored is None:
            return
        before = stored["digests"]
        changed = [name for name, digest in digests.items() if before.get(name) not in (None, digest)]
        if changed:
            told = "; ".join(f"{name}: {before[name][:16]} before, {digests[name][:16]} now" for name in changed)
            raise InputError(
                f"{self.path}: text or tokenizer changed under this run: {told}. Restore the text, or start a new run: "
                "--workdir DIR"
            )

    @property
    def is_new(self) -> bool:
        """Whether no run has begun here."""
        return not self.config_path.exists()

    def begin(self, config: Config, digests: Mapping[str, str], tokenizer: Path) -> None:
        """Records configuration, identity and tokenizer. Call after the checks.

        What may change under a run (`FREE`) and did is told, and added to the record's `changes` for good.
        """
        tree = config_module.to_tree(config)
        stored = self._stored()
        changes = stored["changes"] if stored else []
        now = flat(tree, free=True)
        before = flat(_as_of_now(stored["config"]), free=True) if stored else now
        names = sorted(name for name in before.keys() & now.keys() if before[name] != now[name])
        if names:
            at = time.strftime("%Y-%m-%d %H:%M:%S")
            changes.append({"time": at, **{name: [before[name], now[name]] for name in names}})
            told = "; ".join(f"{name}: {_show(before[name])} -> {_show(now[name])}" for name in names)
            log.info("changed under this run, as it may: %s", told)
        (self.path / "tokenizer").mkdir(exist_ok=True)
        shutil.copyfile(tokenizer, self.path / TOKENIZER)
        record = {"config": tree, "digests": dict(digests), "changes": changes}
        files.write_text(self.config_path, files.dump(record))

    def append(self, row: dict[str, Any]) -> None:
        """Adds a row to metrics.jsonl. Rows that the disk refuses come with a later one: a full disk stops no run."""
        waiting, self._unwritten = self._unwritten + (json.dumps(row) + "\n").encode(), b""
        try:
            with self.metrics_path.open("ab", buffering=0) as file:
                end = file.seek(0, os.SEEK_END)
                try:
                    _write_all(file, waiting)
                except OSError:
                    file.truncate(end)
                    raise
        except OSError as error:
            self._unwritten = waiting
            log.warning("%s: cannot be written: %s; its rows are kept in memory", self.metrics_path, error.strerror)
        if self.mirror is not None:
            self.mirror(row)

    def rows(self) -> list[dict[str, Any]]:
        """All whole rows of metrics.jsonl; a line that a crash cut short, or that is none of ours, is left out. Raises
        DamageError for a file that cannot be one."""
        found = []
        if self.metrics_path.exists():
            files.require_size(self.metrics_path, _METRICS_BYTES)
            for line in self.metrics_path.read_text(encoding="utf-8", errors="replace").splitlines():
                with contextlib.suppress(ValueError):
                    row = json.loads(line)
                    if isinstance(row, dict) and isinstance(row.get("step"), int) and "phase" in row:
                        found.append(row)
        return found

    def rewind(self, step: int) -> None:
        """Drops rows of steps after `step`: a resumed run will write them again."""
        if self.metrics_path.exists():
            kept = [json.dumps(row) + "\n" for row in self.rows() if row["step"] <= step]
            files.write_text(self.metrics_path, "".join(kept))

    def rescues(self) -> list[dict[str, Any]]:
        """Where the run went back to a checkpoint and on at a lower rate. It is kept beside the checkpoints, because
        those it went back to were saved before. Raises DamageError."""
        path = self.path / RESCUES
        try:
            return [dict(entry) for entry in json.loads(path.read_text(encoding="utf-8"))]
        except FileNotFoundError:
            return []
        except (OSError, ValueError, TypeError) as error:
            raise DamageError(f"{path}: unreadable ({type(error).__name__}); restore it") from None

    def forget_rescues(self, step: int) -> None:
        """Drops the rescues after a step that the run goes back to."""
        found = self.rescues()
        kept = [entry for entry in found if entry.get("step", 0) <= step]
        if len(kept) < len(found):
            self.write(RESCUES, files.dump(kept))

    def keep_batch(self, step: int, batch: Mapping[str, Any]) -> Path:
        """Keeps the rows of a step that was not applied, to be looked at."""
        path = self.path / "bad_batches" / f"{step:08}.npz"
        path.parent.mkdir(exist_ok=True)
        rows = {
            name: array for name, array in batch.items() if name != "prefix"
        }  # which is large, and follows from them
        with path.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **rows)
        return path

    def write(self, name: str, text: str) -> Path:
        """Replaces a small file of the run, durably; folders are made as needed."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_text(path, text)
        return path

    def _stored(self) -> dict[str, Any] | None:
        if not self.config_path.exists():
            return None
        try:
            stored = json.loads(files.read_text(self.config_path))
            changes = list(stored.get("changes", []))
            return {"config": dict(stored["config"]), "digests": dict(stored["digests"]), "changes": changes}
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise DamageError(
                f"{self.config_path}: unreadable ({type(error).__name__}); restore it or the run"
            ) from None


@contextlib.contextmanager
def opened(path: Path) -> Iterator[WorkDir]:
    """Makes the directory, for its owner's eyes only, locks it to this process, and sends the log to its log.txt.

    Raises:
      MachineError: the path cannot be written.
      InputError: another process trains there.
    """
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not (path / "config.json").exists():
            path.chmod(0o700)  # it was there, and no run has begun in it
        lock = (path / "lock").open("a+", encoding="utf-8", errors="replace")
    except OSError as error:
        raise MachineError(f"{path}: the run directory cannot be written: {error.strerror or error}") from None
    with lock:
        left_behind = _locked(path, lock)
        handler = logging.FileHandler(path / "log.txt", encoding="utf-8", errors="backslashreplace")
        handler.setFormatter(PrintableFormatter("%(asctime)s %(levelname)s %(message)s"))
        logger = logging.getLogger("llm60_jax")
        logger.setLevel(logging.INFO)
        logger.addHandler(handler)
        if left_behind:
            logger.warning(
                "%s: the last process here (%s) did not end by itself: it was killed, perhaps for want of memory, or "
                "the power was cut. Going on from what it has saved",
                path, left_behind,
            )  # fmt: skip
        try:
            yield WorkDir(path)
        except Failure as failure:
            logger.error("%s", failure)
            raise
        except BaseException:
            logger.exception("ended by an error of our own")
            raise
        finally:
            logger.removeHandler(handler)
            handler.close()
            lock.truncate(0)


def _locked(path: Path, lock: TextIO) -> str:
    """Locks a run to this process, writes who that is into the lock's file, and returns what stood there: the process
    that left without a word, or nothing.

    Raises MachineError where there are no locks, InputError where another process has it.
    """
    try:
        # The system drops the lock with the process, so no stale lock can stay behind.
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.seek(0)
        holder = lock.read(200).strip() or "unknown"
        raise InputError(
            f"{path}: another process ({holder}) is using this run; one process trains a run. Wait for it, stop it, or "
            "give this run a directory of its own: --workdir DIR"
        ) from None
    except OSError as error:
        raise MachineError(f"{path}: the disk offers no locks: {error.strerror}; choose another --workdir") from None
    lock.seek(0)
    left_behind = lock.read(200).strip()
    # A folder that is synchronised between computers carries this file along, and not the lock.
    elsewhere = left_behind and f" on {platform.node()}, " not in left_behind
    if elsewhere:
        with contextlib.suppress(OSError):
            quiet = abs(time.time() - (path / "log.txt").stat().st_mtime)
            if quiet < _QUIET:
                raise InputError(
                    f"{path}: a process on another computer ({left_behind}) wrote to this run {quiet:.0f} s ago; stop "
                    f"it first. If it is gone, wait {_QUIET // 60} minutes or delete {path / 'lock'}"
                )
    lock.truncate(0)
    lock.write(f"pid {os.getpid()} on {platform.node()}, since {time.strftime('%Y-%m-%d %H:%M:%S')}")
    lock.flush()
    return left_behind


def _write_all(file: BinaryIO | io.RawIOBase, data: bytes) -> None:
    """A disk that fills up may take a part of what it is given."""
    while data:
        data = data[file.write(data) :]


def _as_of_now(stored: dict[str, Any]) -> dict[str, Any]:
    """A configuration with the fields that came after it was stored, at their defaults, which change nothing."""
    try:
        return config_module.to_tree(config_module.parse(stored, "the run's configuration"))
    except InputError:
        return stored  # of a field that is gone: it is told as a difference


def flat(tree: Any, prefix: str = "", pattern: str = "", free: bool = False) -> dict[str, Any]:
    """`{"a": {"b": 1}}` -> `{"a.b": 1}` without the FREE fields, or those alone; phases go by their names."""
    if pattern in FREE:
        return {prefix: tree} if free else {}
    if isinstance(tree, list) and tree and all(isinstance(item, dict) and "name" in item for item in tree):
        order = {} if free else {f"{prefix} (order)": [item["name"] for item in tree]}
        parts = [flat(item, f"{prefix}.{item['name']}", f"{pattern}.*", free) for item in tree]
        return {key: value for part in [order, *parts] for key, value in part.items()}
    if isinstance(tree, dict):
        dot = "." if prefix else ""
        parts = [flat(value, f"{prefix}{dot}{key}", f"{pattern}{dot}{key}", free) for key, value in tree.items()]
        return {key: value for part in parts for key, value in part.items()}
    return {} if free else {prefix: tree}


def _show(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
