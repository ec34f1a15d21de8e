"""Feeds the program configurations and files of a run that are broken, or made to do harm, and sees what it says."""

import argparse
import contextlib
import io
import json
import os
import random
import resource
import runpy
import shutil
import struct
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import jinja2
import numpy as np
import trial
from trial import TooSlow, limited

from llm60_jax import checkpoint
from llm60_jax import config as config_module
from llm60_jax.data.tokens import shards
from llm60_jax.errors import Failure
from llm60_jax.machine import cli, files, manifest, pages, terminal
from llm60_jax.machine.progress import Track
from llm60_jax.machine.signals import Interrupts
from llm60_jax.record import checkpoints, history, report, store
from llm60_jax.record.workdir import TOKENIZER, WorkDir
from llm60_jax.run import gates, opening

EXAMPLES = """examples:
  python tools/fuzz_files.py configs                         1,000 broken configurations, about 2 minutes
  python tools/fuzz_files.py files configs/tiny.toml         200 broken files of a run, half of them with right digests
  python tools/fuzz_files.py hostile configs/tiny.toml       files that try to run code, to fill the memory, to write
                                                             elsewhere, to command the terminal

Everything must be read, or refused with one message: no traceback, nothing that takes long, no memory filled, no code
run. Then a protection is taken away, and that must be noticed. The exit code is 0 if all is as it should be, else 1.
"""
SECONDS, MEGABYTES = 20, 500  # that one file may take
ESCAPE = "\x1b]0;owned\x07\x1b[2J"  # sets a terminal's title, clears it
SCRIPT = "<script>alert(1)</script><img src=x onerror=alert(1)>"


class Result(NamedTuple):
    """How many were tried, what went wrong, and for each control how often it was noticed."""

    tried: int
    wrong: list[str]
    controls: dict[str, int]


# --- Configurations --------------------------------------------------------------------------------------------------

VALUES = (
    "0", "-1", "1e400", "nan", "inf", "true", '""', '"x"', "[]", "{}", "[[]]", "[0.0, 64]", "1979-05-27T07:32:00Z",
    "'''",
    "99999999999999999999999999", "0x7fffffffffffffff", '"\\u0000"', '"\\u001b[2J"', "[" * 500 + "]" * 500, "{a = 1}",
    '"../../../../etc/passwd"', '"runs/$(id)"', '"' + "a" * 5000 + '"', "[[0.0, 64], [0.3, -1]]", "[1, 'two', 3.0]",
)  # fmt: skip


def broken(text: str, rng: random.Random) -> tuple[bytes, str]:
    """A configuration with something wrong about it, and a key that must not be passed over in silence, or ""."""
    lines = text.splitlines()
    settings = [i for i, line in enumerate(lines) if " = " in line and not line.startswith("#")]
    at = rng.choice(settings)
    key, _, value = lines[at].partition(" = ")
    unknown = f"zzz_{rng.randrange(1000)}"
    match rng.randrange(12):
        case 0:
            return "\n".join([*lines[: at + 1], f"{unknown} = 1", *lines[at + 1 :]]).encode(), unknown
        case 1:
            spot = rng.randrange(len(key))
            lines[at] = f"{key[:spot]}q{key[spot:]} = {value}"
            return "\n".join(lines).encode(), f"{key[:spot]}q{key[spot:]}"
        case 2 | 3 | 4:
            lines[at] = f"{key} = {rng.choice(VALUES)}"
        case 5:
            del lines[at]
        case 6:
            lines.insert(rng.randrange(len(lines)), lines[at])
        case 7:
            return text.encode()[: rng.randrange(len(text))], ""
        case 8:
            other = rng.choice(settings)
            lines[at], lines[other] = lines[other], lines[at]
        case 9:
            data = bytearray(text.encode())
            for _ in range(rng.randint(1, 8)):
                data[rng.randrange(len(data))] = rng.randrange(256)
            return bytes(data), ""
        case 10:
            return text.encode(rng.choice(["utf-16", "utf-8-sig", "utf-32"])), ""
        case 11:
            lines[at] = f'{key} = "{ESCAPE}"'
    return "\n".join(lines).encode(), ""


def configs(count: int, seed: int, track: Track, folder: Path) -> Iterator[str]:
    """Broken configurations, each given to the command as a dry run. Yields what went wrong."""
    rng = random.Random(seed)
    originals = [path.read_text(encoding="utf-8") for path in sorted(trial.LAUNCH.parent.glob("configs/*.toml"))]
    command = runpy.run_path(str(trial.LAUNCH))["main"]
    for number in track(range(count), "configurations", count):
        data, key = broken(rng.choice(originals), rng)
        path = folder / f"{number}.toml"
        path.write_bytes(data)
        out, errors = io.StringIO(), io.StringIO()
        try:
            with limited(SECONDS), contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
                code = command([str(path), "--dry-run"])
        except (Exception, TooSlow, SystemExit):
            yield f"configuration {number}: {traceback.format_exc()}"
            continue
        said = errors.getvalue()
        if code not in (0, 2, 5) or "Traceback" in said:
            yield f"configuration {number}: exit code {code}: {said[:500]}"
        if code and not said.startswith("launch.py: "):
            yield f"configuration {number}: no message: {said[:500]}"
        if code == 0 and key:
            yield f"configuration {number}: '{key}' was passed over"
        if "\x1b" in said + out.getvalue():
            yield f"configuration {number}: its text reaches the terminal"
        path.unlink()


def _pass_over_unknown() -> Any:
    """The control: fields that nobody knows are dropped."""
    real = config_module.parse

    def parse(tree: dict[str, Any], origin: str) -> Any:
        for _ in range(8):
            try:
                return real(tree, origin)
            except Failure as failure:
                tree = _without(tree, str(failure))
        return real(tree, origin)

    return mock.patch.object(config_module, "parse", parse)


def _without(tree: Any, message: str) -> Any:
    if isinstance(tree, dict):
        return {key: _without(value, message) for key, value in tree.items() if f"{key}:" not in message}
    return [_without(value, message) for value in tree] if isinstance(tree, list) else tree


def try_configs(count: int, seed: int, track: Track) -> Result:
    with tempfile.TemporaryDirectory() as home:
        wrong = list(configs(count, seed, track, Path(home)))
        with _pass_over_unknown():
            noticed = sum("passed over" in one for one in configs(100, seed, track, Path(home)))
    return Result(count, wrong, {"unknown fields are dropped": noticed})


# --- Files of a run --------------------------------------------------------------------------------------------------


class Run(NamedTuple):
    """A run and one of its shards, to be broken; copies of each other."""

    path: Path
    shard: Path
    config: config_module.Config

    def copied(self, home: Path) -> "Run":
        shutil.copytree(self.path, home / "run", symlinks=True)
        shutil.copytree(self.shard, home / "shard")
        return Run(home / "run", home / "shard", self.config)

    @property
    def newest(self) -> Path:
        return checkpoints.listed(self.path)[0]

    def files(self) -> list[Path]:
        """What a broken one of is tried: metadata, manifests, tokenizer, shards, records; and state, less often."""
        small = [self.newest / name for name in (store.META, manifest.NAME)] * 4
        records = [self.path / "config.json", self.path / TOKENIZER, *self.path.glob("gates/*.json")]
        state = [path for path in (self.newest / store.STATE).rglob("*") if path.is_file()]
        return small + records * 2 + state + [path for path in self.shard.iterdir() if path.is_file()]


def reseal(folder: Path) -> None:
    """Gives a folder a manifest that fits its files, as somebody does who means harm."""
    found = json.loads((folder / manifest.NAME).read_text(encoding="utf-8"))
    found.pop("sha256", None)
    found["files"] = {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": files.sha256_of(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != manifest.NAME
    }
    (folder / manifest.NAME).write_text(json.dumps(found | {"sha256": files.digest_of(found)}), encoding="utf-8")


def retell(run: Run, change: Callable[[dict[str, Any]], Any]) -> None:
    """Changes the metadata of the newest checkpoint, with right digests."""
    path = run.newest / store.META
    meta = json.loads(path.read_text(encoding="utf-8"))
    change(meta)
    path.write_text(json.dumps(meta), encoding="utf-8")
    reseal(run.newest)


def uses(run: Run) -> dict[str, Callable[[], Any]]:
    """What reads the files of a run."""
    meta = store.read_meta
    return {
        "load": lambda: checkpoint.load(run.path),
        "newest": lambda: checkpoints.Checkpoints(run.path, 2).newest(),
        "resume": lambda: _resume(run),
        "gate": lambda: gates.require(run.path, "grammar", meta(run.path / "phases" / "grammar")["state_sha256"], None),
        "shard": lambda: shards.open_(run.shard, manifest.verify(run.shard)),
        "report": lambda: report.write(history.read(run.path)),
    }


def _resume(run: Run) -> None:
    workdir = WorkDir(run.path)
    workdir.check_identity(run.config)
    newest = checkpoints.Checkpoints(run.path, 2).newest()
    digests = store.read_meta(newest)["digests"] if newest else {}
    data: Any = mock.Mock(digests=digests)
    opening.open_run(run.config, workdir, data, {}, Interrupts(), None)


def tried(run: Run, names: tuple[str, ...] = ()) -> Iterator[str]:
    """Uses a run that is broken, and yields what goes wrong: anything but success and an orderly refusal."""
    for name, use in uses(run).items():
        if names and name not in names:
            continue
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
    """A file with something wrong about it."""
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
    """A JSON value with one part of it replaced, or gone."""
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


def break_files(run: Run, count: int, seed: int, track: Track, only: str = "") -> Iterator[str]:
    """Broken files, half of them in folders whose digests fit; or all files of one name, with right digests. Yields
    what went wrong."""
    rng = random.Random(seed)
    for number in track(range(count), "files", count):
        with tempfile.TemporaryDirectory(dir=run.path.parent) as home:
            copy = run.copied(Path(home))
            path = rng.choice([path for path in copy.files() if path.name == only or not only])
            path.write_bytes(mutated(path.read_bytes(), path.name, rng))
            folder = copy.shard if path.is_relative_to(copy.shard) else copy.newest
            sealed = (rng.random() < 0.5 or bool(only)) and path.name != manifest.NAME
            if sealed:
                reseal(folder)
            for fault in tried(copy, ("load", "newest", "resume", "gate", "shard")):
                yield f"file {number}, {path.relative_to(home)}{', with right digests' if sealed else ''}: {fault}"


def try_files(run: Run, count: int, seed: int, track: Track) -> Result:
    wrong = list(break_files(run, count, seed, track))

    def trusting(folder: Path) -> dict[str, Any]:
        return dict(json.loads((folder / store.META).read_text(encoding="utf-8")))

    with mock.patch.object(store, "read_meta", trusting):
        noticed = len(list(break_files(run, 40, seed, track, store.META)))
    return Result(count, wrong, {"metadata is not checked": noticed})


# --- Files that mean harm --------------------------------------------------------------------------------------------


def _code(canary: Path) -> bytes:
    """An object that runs a command where it is read back by Python's own means."""
    return b"cos\nsystem\n(S'touch " + str(canary).encode() + b"'\ntR."


def _array_of_objects(canary: Path) -> bytes:
    header = b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }"
    header += b" " * (-(10 + len(header) + 1) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + _code(canary)


def _huge_array() -> bytes:
    header = b"{'descr': '<i8', 'fortran_order': False, 'shape': (1000000000000,), }"
    header += b" " * (-(10 + len(header) + 1) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header


def _put(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def _in_checkpoint(name: str, data: bytes, run: Run) -> None:
    _put(run.newest / name, data)
    if name != manifest.NAME:
        reseal(run.newest)


def _in_run(name: str | Path, data: bytes, run: Run) -> None:
    _put(run.path / name, data)


def _in_shard(name: str, data: bytes, run: Run) -> None:
    _put(run.shard / name, data)
    reseal(run.shard)


def _told(value: dict[str, Any], run: Run) -> None:
    def change(meta: dict[str, Any]) -> None:
        meta["progress"] |= value.get("progress", {})
        meta |= {name: entry for name, entry in value.items() if name != "progress"}

    retell(run, change)


def _sized(field: str, value: int, run: Run) -> None:
    retell(run, lambda meta: meta["config"]["model"].update({field: value}))


def attacks(canary: Path) -> dict[str, Callable[[Run], None]]:
    """Ways to do harm with the files of a run, by name. The canary is a file that must never come to be."""
    code, objects = _code(canary), _array_of_objects(canary)
    state = [f"{store.STATE}/state/{name}" for name in ("_METADATA", "manifest.ocdbt", "_sharding", "d/x")]
    inside = [store.META, manifest.NAME, *state, f"{store.STATE}/x.pkl", f"{store.STATE}/x.pt"]
    found: dict[str, Callable[[Run], None]] = {
        f"code in {name}": partial(_in_checkpoint, name, code) for name in inside
    }
    records = ["config.json", "plan.json", "rescues.json", "gates/grammar.json", "metrics.jsonl", str(TOKENIZER)]
    found |= {f"code in {name}": partial(_in_run, name, code) for name in [*records, "samples/99999999.json"]}
    arrays = "offsets", "bytes", "prompts"
    for name in (f"{split}.{array}.npy" for split in ("train", "validation") for array in arrays):
        found[f"objects in {name}"] = partial(_in_shard, name, objects)
        found[f"a huge {name}"] = partial(_in_shard, name, _huge_array())
    sizes = {"layers": 10**9, "dim": 2**40, "vocab_size": 2**62, "max_context": 10**12, "hidden_dim": 10**14}
    found |= {f"model.{field} = {value}": partial(_sized, field, value) for field, value in sizes.items()}
    told: dict[str, dict[str, Any]] = {
        "a field that names code": {"_target_": "os.system", "args": [f"touch {canary}"]},
        "a tokenizer with another digest": {"digests": {"tokenizer": "0"}},
        "an ancestor elsewhere": {"progress": {"ancestors": {"../../../../../../etc": "0" * 64}}},
        "an ancestor that is a device": {"progress": {"ancestors": {"/dev": "0" * 64}}},
        "a phase that is a path": {"phase": "../../x"},
        "a phase that is a command": {"phase": f"$(touch {canary})"},
        "an escape sequence for a phase": {"phase": ESCAPE},
        "an escape sequence for a version": {"versions": {"jax": ESCAPE}},
        "a step without end": {"step": 10**400},
        "a step below zero": {"step": -1},
        "decisions that are code": {"progress": {"decisions": [{"__class__": "os.system"}]}},
    }
    found |= {name: partial(_told, value) for name, value in told.items()}
    for path in ("../escaped", "/tmp/escaped", "state/../../escaped", "a" * 5000):
        found[f"a manifest that lists {path[:20]}"] = partial(_listing, path)
    found |= {
        "a link to a file": partial(_link, Path("/etc/passwd")),
        "a link to a device": partial(_link, Path("/dev/zero")),
        "a pipe that never ends": _pipe,
        "metadata nested without end": partial(_in_checkpoint, store.META, b"[" * 10**6),
        "metadata of many megabytes": partial(_in_checkpoint, store.META, b'{"step": "' + b"x" * (80 * 2**20) + b'"}'),
        "a number of a million digits": partial(_in_checkpoint, store.META, b'{"step": ' + b"9" * 10**6 + b"}"),
        "a manifest nested without end": partial(_in_checkpoint, manifest.NAME, b"[" * 10**6),
        "arrays that claim petabytes": _enlarged,
        **{
            f"a terabyte of {name}": partial(_terabyte, name)
            for name in ("config.json", "metrics.jsonl", str(TOKENIZER))
        },
        "a terabyte of manifest": _terabyte_of_manifest,
        "a script in the texts": partial(_in_run, "samples/99999999.json", _sample(SCRIPT)),
        "an escape sequence in the texts": partial(_in_run, "samples/99999999.json", _sample(ESCAPE)),
        "a script in a row": partial(_row, SCRIPT),
        "an escape sequence in a row": partial(_row, ESCAPE),
    }
    return found


def _listing(path: str, run: Run) -> None:
    folder = run.newest
    found = json.loads((folder / manifest.NAME).read_text(encoding="utf-8"))
    found.pop("sha256")
    found["files"][path] = {"bytes": 1, "sha256": "0" * 64}
    (folder / manifest.NAME).write_text(json.dumps(found | {"sha256": files.digest_of(found)}), encoding="utf-8")


def _link(target: Path, run: Run) -> None:
    path = run.newest / store.META
    path.unlink()
    path.symlink_to(target)


def _terabyte(name: str, run: Run) -> None:
    os.truncate(run.path / name, 2**40)  # which takes no room on the disk


def _terabyte_of_manifest(run: Run) -> None:
    os.truncate(run.newest / manifest.NAME, 2**40)


def _pipe(run: Run) -> None:
    path = run.newest / store.META
    path.unlink()
    os.mkfifo(path)


def _enlarged(run: Run) -> None:
    """What the stored arrays say about themselves is changed: the JSON files of Orbax, and its binary ones as text."""
    for path in (run.newest / store.STATE).rglob("*"):
        if path.is_file() and b'"shape"' in (data := path.read_bytes()):
            path.write_bytes(data.replace(b'"shape":[', b'"shape":[9').replace(b'"shape": [', b'"shape": [9'))
        elif path.name == "_METADATA":
            tree = json.loads(path.read_text(encoding="utf-8"))
            _enlarge(tree)
            path.write_text(json.dumps(tree), encoding="utf-8")
    reseal(run.newest)


def _enlarge(tree: Any) -> None:
    """Lets every shape in Orbax's metadata be a million times as large."""
    for value in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ():
        _enlarge(value)
    if isinstance(tree, dict):
        for key in [key for key in tree if "shape" in key and isinstance(tree[key], list)]:
            tree[key] = [n * 10**6 if isinstance(n, int) else n for n in tree[key]]


def _sample(text: str) -> bytes:
    texts = [{"prompt": text, "text": text, "tokens": 1, "ended": True, "seed": 0, "kind": "short"}]
    record = {"step": 99_999_999, "phase": "grammar", "choice": {}, "tokens_per_second": 1.0, "texts": texts}
    return json.dumps(record).encode()


def _row(text: str, run: Run) -> None:
    row = {"step": 1, "tokens": 1, "phase": "grammar", "stage": 0, "stopped": text}
    with (run.path / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def hostile(run: Run, track: Track, of: str = "") -> Iterator[str]:
    """Yields what the attacks have achieved, or those whose name begins in some way."""
    canary = run.path.parent / "canary"
    found = {name: attack for name, attack in attacks(canary).items() if name.startswith(of)}
    for name, attack in track(found.items(), "attacks", len(found)):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with tempfile.TemporaryDirectory(dir=run.path.parent) as home:
            copy = run.copied(Path(home))
            attack(copy)
            for fault in tried(copy):
                yield f"{name}: {fault}"
            with contextlib.suppress(Exception):
                page = report.write(history.read(copy.path)).read_text(encoding="utf-8")
                if SCRIPT in page or "\x1b" in page:
                    yield f"{name}: the report does what the text says"
            outside = [Path(home, "escaped"), run.path.parent / "escaped", Path("/tmp/escaped")]
            if any(path.exists() for path in outside):
                yield f"{name}: wrote elsewhere"
        if canary.exists():
            yield f"{name}: CODE WAS RUN"
            canary.unlink()
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        if grown > MEGABYTES:
            yield f"{name}: memory grew by {grown:.0f} MB"


def try_hostile(run: Run, track: Track) -> Result:
    wrong = list(hostile(run, track))
    count = len(attacks(run.path))

    def trusting(path: Path) -> np.ndarray:
        return np.load(path, **{"allow_" + "pickle": True})  # type: ignore[arg-type]

    def unescaped(**options: Any) -> jinja2.Environment:
        return jinja2.Environment(**options | {"autoescape": False})

    with mock.patch.object(files, "read_array", trusting):
        fired = sum("CODE WAS RUN" in one for one in hostile(run, track, "objects"))
    with mock.patch.object(pages, "Environment", unescaped):
        shown = sum("the report does" in one for one in hostile(run, track, "a script"))
    return Result(count, wrong, {"objects in arrays are read": fired, "nothing is escaped": shown})


# --- The command -----------------------------------------------------------------------------------------------------


def made(training: trial.Training, folder: Path) -> Run:
    """A finished run to be broken, few of its checkpoints kept."""
    trial.undisturbed(training, folder)
    whole, small = folder / "reference", folder / "small"
    shutil.rmtree(small, ignore_errors=True)
    shutil.copytree(whole, small, ignore=lambda place, names: names if Path(place).name == "checkpoints" else [])
    for one in [one for one in checkpoints.listed(whole) if one.parent.name == "checkpoints"][:2]:
        shutil.copytree(one, small / "checkpoints" / one.name)
    config = config_module.load(training.config, list(training.overrides), str(small))
    digest = json.loads((small / "config.json").read_text(encoding="utf-8"))["digests"]["tokenizer"]
    shard = next(
        path
        for path in Path(config.data_dir, "tokenized").glob(f"{config.phase[0].name}-*")
        if manifest.exists(path) and manifest.read(path)["identity"]["tokenizer"] == digest
    )
    return Run(small, shard, config)


def _do(options: argparse.Namespace) -> Result:
    track = terminal.Tracker(Interrupts(), quiet=options.json)
    if options.what == "configs":
        return try_configs(options.count or 1000, options.seed, track)
    options.folder.mkdir(parents=True, exist_ok=True)
    run = made(trial.training(options.config, options.set, options.steps), options.folder)
    if options.what == "files":
        return try_files(run, options.count or 200, options.seed, track)
    return try_hostile(run, track)


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line and returns its exit code."""
    parser = cli.parser(__doc__, EXAMPLES)
    parser.add_argument("what", choices=["configs", "files", "hostile"])
    parser.add_argument("config", type=Path, nargs="?", metavar="CONFIG", help="of the run whose files are broken")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="override any field")
    parser.add_argument("--count", type=int, metavar="N", help="how many (default 1000 configurations, 200 files)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of what is broken")
    parser.add_argument("--steps", type=int, default=5, metavar="N", help="of each phase of that run (default 5)")
    parser.add_argument("--folder", type=Path, default=Path("runs/fuzz_files"), help="where that run is kept")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    if (options.config is None) != (options.what == "configs"):
        parser.error("files and hostile need a CONFIG, and configs takes none")
    results: list[Result] = []

    def body() -> None:
        found = _do(options)
        results.append(found)
        if options.json:
            print(json.dumps(found._asdict(), indent=1))
            return
        terminal.say(f"{options.what}: {found.tried} tried, {len(found.wrong)} went wrong")
        for line in found.wrong[:20]:
            terminal.say(f"  {line}")
        for name, noticed in found.controls.items():
            terminal.say(f"control, {name}: {f'noticed {noticed} times' if noticed else 'NOT NOTICED'}")

    code = cli.guarded("fuzz_files.py", body)
    return code or int(any(result.wrong or not all(result.controls.values()) for result in results))


if __name__ == "__main__":
    sys.exit(main())
