"""Broken files of a run: what breaks them, and what reads them."""

import contextlib
import io
import json
import random
import shutil
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import trial
from trial import TooSlow, limited

from llm60_jax import checkpoint
from llm60_jax import config as config_module
from llm60_jax.data.tokens import shards
from llm60_jax.errors import Failure
from llm60_jax.machine import files, manifest
from llm60_jax.machine.signals import Interrupts
from llm60_jax.record import checkpoints, history, report, store
from llm60_jax.record.metrics import MetricsLog
from llm60_jax.record.workdir import TOKENIZER, WorkDir
from llm60_jax.run import gates, opening

SECONDS = 20  # limit for reading one broken file
ESCAPE = "\x1b]0;owned\x07\x1b[2J"  # sets a terminal's title, clears it


class BreakableRun(NamedTuple):
    """A run and one of its shards, to break."""

    path: Path
    shard: Path
    config: config_module.Config

    def copied(self, home: Path) -> "BreakableRun":
        shutil.copytree(self.path, home / "run", symlinks=True)
        shutil.copytree(self.shard, home / "shard")
        return BreakableRun(home / "run", home / "shard", self.config)

    @property
    def newest(self) -> Path:
        return checkpoints.listed(self.path)[0]

    def files(self) -> list[Path]:
        """Return the files to break: metadata, manifests, tokenizer, shards, records, and less
        often the state."""
        small = [self.newest / name for name in (store.META, manifest.NAME)] * 4
        records = [self.path / name for name in ("config.json", "plan.json", "metrics.jsonl", TOKENIZER)]
        records += [*self.path.glob("gates/*.json"), *self.path.glob("samples/*.json")]
        state = [path for path in (self.newest / store.STATE).rglob("*") if path.is_file()]
        return small + records * 2 + state + [path for path in self.shard.iterdir() if path.is_file()]


def reseal(folder: Path) -> None:
    """Write a manifest that fits a folder's files, as an attacker would."""
    content = json.loads((folder / manifest.NAME).read_text(encoding="utf-8"))
    content.pop("sha256", None)
    content["files"] = {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": files.sha256_of(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != manifest.NAME
    }
    (folder / manifest.NAME).write_text(json.dumps(content | {"sha256": files.digest_of(content)}), encoding="utf-8")


def rewrite_meta(run: BreakableRun, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change the metadata of the newest checkpoint, with right digests."""
    path = run.newest / store.META
    meta = json.loads(path.read_text(encoding="utf-8"))
    change(meta)
    path.write_text(json.dumps(meta), encoding="utf-8")
    reseal(run.newest)


def uses(run: BreakableRun) -> dict[str, Callable[[], Any]]:
    """Return the readers of a run's files, by name."""
    meta = store.read_meta
    return {
        "load": lambda: checkpoint.load(run.path),
        "newest": lambda: checkpoints.Checkpoints(run.path, 2).newest(),
        "resume": lambda: _resume(run),
        "gate": lambda: gates.require(run.path, "grammar", meta(run.path / "phases" / "grammar")["state_sha256"], None),
        "shard": lambda: shards.open_(run.shard, manifest.verify(run.shard)),
        "report": lambda: _show(run.path),
    }


def _show(path: Path) -> None:
    whole = history.read(path)
    report.write(whole)
    for phase in whole.config.phase:
        report.summary(whole, phase)


def _resume(run: BreakableRun) -> None:
    workdir = WorkDir(run.path)
    workdir.check_identity(run.config)
    newest = checkpoints.Checkpoints(run.path, 2).newest()
    digests = store.read_meta(newest)["digests"] if newest else {}
    data: Any = mock.Mock(digests=digests)
    opening.open_run(run.config, workdir, MetricsLog(workdir), data, {}, Interrupts(), None)


def faults_of(run: BreakableRun) -> Iterator[str]:
    """Read a broken run, and yield what goes wrong: anything but success and an orderly refusal."""
    for name, use in uses(run).items():
        said = io.StringIO()
        try:
            with limited(SECONDS), contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
                use()
        except Failure:
            pass
        except (Exception, TooSlow):
            yield f"{name}: {traceback.format_exc()[-1500:]}"
        if "\x1b" in said.getvalue():
            yield f"{name}: text reaches the terminal"


def mutated(data: bytes, name: str, rng: random.Random) -> bytes:
    """Return the content of a file, broken."""
    if name.endswith(".jsonl") and rng.random() < 0.8:
        lines = data.splitlines(keepends=True)
        at = rng.randrange(len(lines))
        return b"".join([*lines[:at], mutated(lines[at].rstrip(), "row.json", rng), b"\n", *lines[at + 1 :]])
    if name.endswith(".json") and rng.random() < 0.6:
        with contextlib.suppress(ValueError):
            return json.dumps(_other(json.loads(data), rng)).encode()
    changed = bytearray(data or b"\0")
    match rng.randrange(5):
        case 0:
            for _ in range(rng.randint(1, 20)):
                changed[rng.randrange(len(changed))] = rng.randrange(256)
        case 1:
            del changed[rng.randrange(len(changed)) :]
        case 2:
            at = rng.randrange(len(changed))
            changed[at:at] = rng.randbytes(rng.randint(1, 200))
        case 3:
            at = rng.randrange(len(changed))
            changed += changed[at : at + 1000]
        case 4:
            changed = bytearray(rng.randbytes(rng.randint(0, 3000)))
    return bytes(changed)


def _other(tree: Any, rng: random.Random) -> Any:
    """Return a JSON value with one part replaced or missing."""
    deep: Any = 0
    for _ in range(800):
        deep = [deep]
    odd = [None, -1, 10**30, 1e308, "x" * 3000, "", [], {}, True, deep, ESCAPE, "\x00", "../../x", [[1]], {"a": 1}]
    if isinstance(tree, dict) and tree and rng.random() < 0.9:
        key = rng.choice(sorted(tree))
        if rng.random() < 0.15:
            return {name: value for name, value in tree.items() if name != key}
        return {**tree, key: _other(tree[key], rng)}
    if isinstance(tree, list) and tree and rng.random() < 0.7:
        at = rng.randrange(len(tree))
        return [*tree[:at], _other(tree[at], rng), *tree[at + 1 :]]
    return rng.choice(odd)


def break_file(run: BreakableRun, number: int, seed: int, only: str = "") -> Iterator[str]:
    """Break a file by its number, half of them with right digests; with `only`, files of that name,
    all with right digests.

    Yield what goes wrong.
    """
    rng = random.Random(f"{seed} {number}")
    with tempfile.TemporaryDirectory(dir=run.path.parent) as home:
        copy = run.copied(Path(home))
        path = rng.choice([path for path in copy.files() if path.name == only or not only])
        path.write_bytes(mutated(path.read_bytes(), path.name, rng))
        folder = copy.shard if path.is_relative_to(copy.shard) else copy.newest
        sealed = (rng.random() < 0.5 or bool(only)) and path.name != manifest.NAME
        if sealed:
            reseal(folder)
        for fault in faults_of(copy):
            yield f"file {number}, {path.relative_to(home)}{', with right digests' if sealed else ''}: {fault}"


def small_run(training: trial.Training, folder: Path) -> BreakableRun:
    """Return a finished run to break, with few of its checkpoints. Raises Failure."""
    trial.undisturbed(training, folder)
    whole, small = folder / "reference", folder / "small"
    shutil.rmtree(small, ignore_errors=True)
    shutil.copytree(whole, small, ignore=lambda place, names: names if Path(place).name == "checkpoints" else [])
    rolling = [path for path in checkpoints.listed(whole) if path.parent.name == "checkpoints"]
    for path in rolling[:2]:
        shutil.copytree(path, small / "checkpoints" / path.name)
    config = config_module.load(training.config, list(training.overrides), str(small))
    digest = json.loads((small / "config.json").read_text(encoding="utf-8"))["digests"]["tokenizer"]
    shard = next(
        path
        for path in Path(config.data_dir, "tokenized").glob(f"{config.phase[0].name}-*")
        if manifest.exists(path) and manifest.read(path)["identity"]["tokenizer"] == digest
    )
    return BreakableRun(small, shard, config)
