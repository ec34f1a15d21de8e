"""A run directory: its lock, its identity, its metrics and its log.

config.json     the run's identity (resolved configuration, digests of data and tokenizer), changes of FREE fields,
                and the kernels of the last start
plan.json       the stage table, amended where a freeze was delayed
metrics.jsonl   a row per logged step, evaluation, look at the representations, decision, stage
tokenizer/      the tokenizer, copied at the start
rescues.json    rewinds to a checkpoint with a lower learning rate (train.rewinds), if any
report.html     the report, rewritten at the end of every phase
branches/       checkpoints after the step that the run was sent back to (launch.py --back-to)
privacy/        private strings that a model reproduces (evaluate/privacy.py)
checkpoints/  phases/  gates/  samples/  log.txt
"""

import contextlib
import json
import logging
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from llm60_jax import config as config_module
from llm60_jax.config import Config
from llm60_jax.errors import DamageError, Failure, InputError, MachineError
from llm60_jax.machine import files, together, unfinished
from llm60_jax.machine.locks import Lock
from llm60_jax.machine.terminal import PrintableFormatter
from llm60_jax.record import shapes

log = logging.getLogger("llm60_jax")

# Fields that may differ between two starts of one run, because they change neither the model, the data nor the
# mathematics of a step. The digest of their text identifies the sources. Kernels, remat, micro-batches and devices
# change how a step is rounded; a change of them is logged.
FREE = {
    "workdir", "data_dir", "device", "processes", "start", "baseline", "sampling", "train.log_every",
    "train.evaluate_every", "train.save_every", "train.keep_rolling", "train.most_refused", "train.rewinds",
    "train.tensorboard", "train.remat", "train.micro_batch", "train.devices", "train.memory_gb", "train.keep_awake",
    "train.kernels", "train.fsdp", "train.gather", "train.slots",
    "phase.*.remat", "phase.*.sources", "phase.*.gate",
}  # fmt: skip
RESCUES = "rescues.json"
TOKENIZER = Path("tokenizer") / "tokenizer.model"
_MOST_METRICS_BYTES = 2**30
QUIET_SECONDS = 600  # without a line in the log after which a process on another computer counts as ended


class WorkDir:
    """The paths and small files of one run. To write, create it with `opened`, which holds the lock.

    Of several processes only the first writes, except for the parts of a batch that was not applied.
    """

    def __init__(self, path: Path):
        self.path = path
        self.metrics_path = path / "metrics.jsonl"
        self.config_path = path / "config.json"

    def check_identity(self, config: Config) -> None:
        """Raise InputError if the directory's run has another architecture, plan, seed or optimizer."""
        stored = self._stored()
        if stored is not None:
            self.compare(stored["config"], config)

    def compare(self, stored: dict[str, Any], config: Config) -> None:
        """Raise InputError if a stored configuration, such as a checkpoint's, is not the same run as `config`."""
        old = flat(_as_of_now(stored))
        new = flat(config_module.to_tree(config))
        in_epochs = [name for name in new if name.endswith(".epochs") and new[name] == old.get(name) is not None]
        counted = {name.removesuffix("epochs") + "tokens" for name in in_epochs}  # from text whose digest is compared
        names = sorted((old.keys() | new.keys()) - counted)
        changed = [name for name in names if old.get(name) != new.get(name)]
        if changed:
            lines = [f"{name}: {_show(old.get(name))} in the run, {_show(new.get(name))} now" for name in changed[:5]]
            raise InputError(
                f"{self.path}: holds a run with another configuration:\n  " + "\n  ".join(lines) + "\n  "
                "Go back to the old values, or give the new run a directory of its own: --workdir DIR"
            )

    def check_digests(self, digests: Mapping[str, str]) -> None:
        """Raise InputError if data or tokenizer differ from those at the start of the run."""
        stored = self._stored()
        if stored is None:
            return
        before = stored["digests"]
        changed = [name for name, digest in digests.items() if before.get(name) not in (None, digest)]
        if changed:
            values = "; ".join(f"{name}: {before[name][:16]} before, {digests[name][:16]} now" for name in changed)
            raise InputError(
                f"{self.path}: text or tokenizer changed under this run: {values}. Restore the text, or start a new "
                "run: --workdir DIR"
            )

    @property
    def is_new(self) -> bool:
        """Return whether no run has begun here."""
        return not self.config_path.exists()

    def begin(
        self, config: Config, digests: Mapping[str, str], tokenizer: Path, kernels: Mapping[str, str] | None = None
    ) -> None:
        """Record configuration, identity and tokenizer. Call it after the checks, in process 0.

        Changed FREE fields are logged and appended to `changes` in config.json. `kernels` says which
        kernels compute from now on (kernels/choice.py).
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
            values = "; ".join(f"{name}: {_show(before[name])} -> {_show(now[name])}" for name in names)
            log.info("changed under this run, as it may: %s", values)
        (self.path / "tokenizer").mkdir(exist_ok=True)
        shutil.copyfile(tokenizer, self.path / TOKENIZER)
        record = {"config": tree, "digests": dict(digests), "changes": changes, "kernels": dict(kernels or {})}
        files.write_text(self.config_path, files.dump(record))

    def rows(self) -> list[dict[str, Any]]:
        """Return the rows of metrics.jsonl that can be read. Raise as `read_rows`."""
        return self.read_rows().rows

    def read_rows(self) -> shapes.Rows:
        """Return the rows of metrics.jsonl, and which are skipped because they are foreign or damaged.

        Raises:
          DamageError: the file is too large, or no plain file.
        """
        if not self.metrics_path.exists():
            return shapes.Rows([], [])
        files.require_size(self.metrics_path, _MOST_METRICS_BYTES)
        try:
            config = config_module.parse((self._stored() or {})["config"], str(self.config_path))
        except (KeyError, Failure):  # reported where it is needed
            config = None
        return shapes.parse(self.metrics_path.read_bytes(), config)

    def rescues(self) -> list[dict[str, Any]]:
        """Return the rewinds of the run to a checkpoint, each with a lower learning rate. Raises DamageError.

        They have a file of their own, because the checkpoints that the run went back to were saved before them.
        """
        path = self.path / RESCUES
        try:
            return [dict(entry) for entry in json.loads(path.read_text(encoding="utf-8"))]
        except FileNotFoundError:
            return []
        except (OSError, ValueError, TypeError) as error:
            raise DamageError(f"{path}: unreadable ({type(error).__name__}); restore it") from None

    def forget_rescues(self, step: int) -> None:
        """Drop the rescues after a step that the run goes back to."""
        rescues = self.rescues()
        earlier = [entry for entry in rescues if entry.get("step", 0) <= step]
        if len(earlier) < len(rescues):
            self.write(RESCUES, files.dump(earlier))

    def keep_batch(self, step: int, batch: Mapping[str, Any]) -> Path:
        """Save the batch of a step that was not applied, for inspection. Where the disk refuses, warn."""
        part = f"-{together.index()}" if together.count() > 1 else ""  # each process has a part of the batch
        path = self.path / "bad_batches" / f"{step:08}{part}.npz"
        # The cached prefix is large and follows from the other arrays.
        rows = {name: array for name, array in batch.items() if name != "prefix"}
        try:
            path.parent.mkdir(exist_ok=True)
            with path.open("wb") as file:
                np.savez_compressed(file, allow_pickle=False, **rows)
        except OSError as error:
            log.warning("%s: cannot be written: %s", path, error.strerror or error)
        return path

    def write(self, name: str, text: str) -> Path:
        """Replace a small file of the run durably; make its folder if needed. All processes call it, or process 0 alone
        where it works alone."""
        path = self.path / name

        def work() -> None:
            path.parent.mkdir(parents=True, exist_ok=True)
            files.write_text(path, text)

        together.on_first(work)
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
    """Create a run directory, readable by its owner only, lock it to this process, and log to its log.txt.

    What a killed process has left unfinished there is removed. Of several processes the first does all this.

    Raises:
      MachineError: the path cannot be written.
      InputError: another process trains there.
    """
    with contextlib.ExitStack() as stack:
        together.on_first(lambda: stack.enter_context(_held(path)))
        yield WorkDir(path)


@contextlib.contextmanager
def _held(path: Path) -> Iterator[None]:
    """Hold a run directory for this process, as `opened` says."""
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not (path / "config.json").exists():
            path.chmod(0o700)  # an existing folder without a run
        lock = Lock(path / "lock")
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
                "%s: the last process here (%s) did not end by itself: it was killed, perhaps because memory ran out, "
                "or the power was cut. Resuming from its last save",
                path, left_behind,
            )  # fmt: skip
        if removed := unfinished.remove([path, *(folder for folder in path.iterdir() if folder.is_dir())]):
            logger.warning("%s: %s", path, removed)
        try:
            yield
        except Failure as failure:
            logger.error("%s", failure)
            raise
        except BaseException:
            logger.exception("ended by an internal error")
            raise
        finally:
            logger.removeHandler(handler)
            handler.close()


def _locked(path: Path, lock: Lock) -> str:
    """Lock a run to this process. Return the name of a process that left without erasing it, or "".

    Raises:
      MachineError: the disk offers no locks.
      InputError: another process holds the lock, or one on another computer did a short while ago.
    """
    try:
        is_ours = lock.take()
    except OSError as error:
        raise MachineError(f"{path}: the disk offers no locks: {error.strerror}; choose another --workdir") from None
    left_behind = lock.name
    if not is_ours:
        raise InputError(
            f"{path}: another process ({left_behind or 'unknown'}) is using this run; one process trains a run. Wait "
            "for it, stop it, or give this run a directory of its own: --workdir DIR"
        )
    if left_behind and not lock.is_from_here:
        with contextlib.suppress(OSError):
            quiet = abs(time.time() - (path / "log.txt").stat().st_mtime)
            if quiet < QUIET_SECONDS:
                raise InputError(
                    f"{path}: a process on another computer ({left_behind}) wrote to this run {quiet:.0f} s ago; stop "
                    f"it first. If it is gone, wait {QUIET_SECONDS // 60} minutes or delete {path / 'lock'}"
                )
    lock.sign()
    return left_behind


def _as_of_now(stored: dict[str, Any]) -> dict[str, Any]:
    """Return a stored configuration with newer fields at their defaults, which change nothing."""
    try:
        return config_module.to_tree(config_module.parse(stored, "the run's configuration"))
    except InputError:
        return stored  # a removed field shows as a difference


def flat(tree: Any, prefix: str = "", pattern: str = "", free: bool = False) -> dict[str, Any]:
    """Return `{"a.b": 1}` for `{"a": {"b": 1}}`, without the FREE fields or only those; phases by their names."""
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
