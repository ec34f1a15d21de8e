"""Files of a run that mean harm: they try to run code, fill the memory, write elsewhere, command
the terminal."""

import contextlib
import json
import os
import resource
import struct
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from fuzz_runs import ESCAPE, BreakableRun, faults_of, reseal, rewrite_meta

from llm60_jax.machine import files, manifest
from llm60_jax.record import history, report, store
from llm60_jax.record.workdir import TOKENIZER

MEGABYTES = 500  # limit for the growth of the process by one attack
SCRIPT = "<script>alert(1)</script><img src=x onerror=alert(1)>"
Attack = Callable[[BreakableRun], None]


def attacks(canary: Path) -> dict[str, Attack]:
    """Return the attacks by name. The canary is a file that must never exist."""
    return {
        **_code_attacks(canary),
        **_size_attacks(),
        **_metadata_attacks(canary),
        **_file_attacks(),
        "a script in the texts": partial(_in_run, "samples/99999999.json", _sample(SCRIPT)),
        "an escape sequence in the texts": partial(_in_run, "samples/99999999.json", _sample(ESCAPE)),
        "a script in a row": partial(_row, SCRIPT),
        "an escape sequence in a row": partial(_row, ESCAPE),
    }


def attack(run: BreakableRun, name: str) -> Iterator[str]:
    """Run an attack by its name, and yield the harm it does."""
    canary = run.path.parent / "canary"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with tempfile.TemporaryDirectory(dir=run.path.parent) as home:
        copy = run.copied(Path(home))
        attacks(canary)[name](copy)
        for fault in faults_of(copy):
            yield f"{name}: {fault}"
        with contextlib.suppress(Exception):
            page = report.write(history.read(copy.path)).read_text(encoding="utf-8")
            if SCRIPT in page or "\x1b" in page:
                yield f"{name}: the report obeys the text"
        outside = [Path(home, "escaped"), run.path.parent / "escaped", Path("/tmp/escaped")]
        if any(path.exists() for path in outside):
            yield f"{name}: wrote elsewhere"
    if canary.exists():
        yield f"{name}: CODE WAS RUN"
        canary.unlink()
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    if grown > MEGABYTES:
        yield f"{name}: memory grew by {grown:.0f} MB"


# --- The attacks -----------------------------------------------------------------------------------------------------


def _code_attacks(canary: Path) -> dict[str, Attack]:
    code, objects = _code(canary), _array_of_objects(canary)
    state = [f"{store.STATE}/state/{name}" for name in ("_METADATA", "manifest.ocdbt", "_sharding", "d/x")]
    inside = [store.META, manifest.NAME, *state, f"{store.STATE}/x.pkl", f"{store.STATE}/x.pt"]
    records = ["config.json", "plan.json", "rescues.json", "gates/grammar.json", "metrics.jsonl", str(TOKENIZER)]
    by_name: dict[str, Attack] = {f"code in {name}": partial(_in_checkpoint, name, code) for name in inside}
    by_name |= {f"code in {name}": partial(_in_run, name, code) for name in [*records, "samples/99999999.json"]}
    arrays = "offsets", "bytes", "prompts"
    for name in (f"{split}.{array}.npy" for split in ("train", "validation") for array in arrays):
        by_name[f"objects in {name}"] = partial(_in_shard, name, objects)
        by_name[f"a huge {name}"] = partial(_in_shard, name, _huge_array())
    return by_name


def _size_attacks() -> dict[str, Attack]:
    sizes = {"layers": 10**9, "dim": 2**40, "vocab_size": 2**62, "max_context": 10**12, "hidden_dim": 10**14}
    return {f"model.{field} = {value}": partial(_sized, field, value) for field, value in sizes.items()}


def _metadata_attacks(canary: Path) -> dict[str, Attack]:
    values: dict[str, dict[str, Any]] = {
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
    return {name: partial(_with_meta, value) for name, value in values.items()}


def _file_attacks() -> dict[str, Attack]:
    paths = ("../escaped", "/tmp/escaped", "state/../../escaped", "a" * 5000)
    return {
        **{f"a manifest that lists {path[:20]}": partial(_listing, path) for path in paths},
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
    }


# --- What they write -------------------------------------------------------------------------------------------------


def _code(canary: Path) -> bytes:
    """Return a serialized object that runs a command if Python loads it."""
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


def _in_checkpoint(name: str, data: bytes, run: BreakableRun) -> None:
    _put(run.newest / name, data)
    if name != manifest.NAME:
        reseal(run.newest)


def _in_run(name: str | Path, data: bytes, run: BreakableRun) -> None:
    _put(run.path / name, data)


def _in_shard(name: str, data: bytes, run: BreakableRun) -> None:
    _put(run.shard / name, data)
    reseal(run.shard)


def _with_meta(value: dict[str, Any], run: BreakableRun) -> None:
    def change(meta: dict[str, Any]) -> None:
        meta["progress"] |= value.get("progress", {})
        meta |= {name: entry for name, entry in value.items() if name != "progress"}

    rewrite_meta(run, change)


def _sized(field: str, value: int, run: BreakableRun) -> None:
    rewrite_meta(run, lambda meta: meta["config"]["model"].update({field: value}))


def _listing(path: str, run: BreakableRun) -> None:
    folder = run.newest
    content = json.loads((folder / manifest.NAME).read_text(encoding="utf-8"))
    content.pop("sha256")
    content["files"][path] = {"bytes": 1, "sha256": "0" * 64}
    (folder / manifest.NAME).write_text(json.dumps(content | {"sha256": files.digest_of(content)}), encoding="utf-8")


def _link(target: Path, run: BreakableRun) -> None:
    path = run.newest / store.META
    path.unlink()
    path.symlink_to(target)


def _terabyte(name: str, run: BreakableRun) -> None:
    os.truncate(run.path / name, 2**40)  # a sparse file takes no room on the disk


def _terabyte_of_manifest(run: BreakableRun) -> None:
    os.truncate(run.newest / manifest.NAME, 2**40)


def _pipe(run: BreakableRun) -> None:
    path = run.newest / store.META
    path.unlink()
    os.mkfifo(path)


def _enlarged(run: BreakableRun) -> None:
    """Enlarge the shapes that the stored arrays claim, in the JSON files of Orbax and in its binary
    ones."""
    for path in (run.newest / store.STATE).rglob("*"):
        if path.is_file() and b'"shape"' in (data := path.read_bytes()):
            path.write_bytes(data.replace(b'"shape":[', b'"shape":[9').replace(b'"shape": [', b'"shape": [9'))
        elif path.name == "_METADATA":
            tree = json.loads(path.read_text(encoding="utf-8"))
            _enlarge(tree)
            path.write_text(json.dumps(tree), encoding="utf-8")
    reseal(run.newest)


def _enlarge(tree: Any) -> None:
    """Multiply every shape in Orbax's metadata by a million."""
    for value in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ():
        _enlarge(value)
    if isinstance(tree, dict):
        for key in [key for key in tree if "shape" in key and isinstance(tree[key], list)]:
            tree[key] = [n * 10**6 if isinstance(n, int) else n for n in tree[key]]


def _sample(text: str) -> bytes:
    texts = [{"prompt": text, "text": text, "tokens": 1, "ended": True, "seed": 0, "kind": "short"}]
    record = {"step": 99_999_999, "phase": "grammar", "choice": {}, "tokens_per_second": 1.0, "texts": texts}
    return json.dumps(record).encode()


def _row(text: str, run: BreakableRun) -> None:
    row = {"step": 1, "tokens": 1, "phase": "grammar", "stage": 0, "stopped": text}
    with (run.path / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
