"""Shows what a checkpoint holds and where it comes from, after verifying every file of it; or what sets two apart."""

import json
import sys
from pathlib import Path
from typing import Any

from llm60_jax.errors import DamageError
from llm60_jax.machine import cli, manifest, terminal
from llm60_jax.record import checkpoints, store

EXAMPLES = """examples:
  python tools/inspect_checkpoint.py runs/quickstart                     its newest checkpoint
  python tools/inspect_checkpoint.py runs/quickstart/phases/grammar      the end of a phase
  python tools/inspect_checkpoint.py runs/quickstart --against runs/quickstart/phases/grammar
                                                                         what has changed since, array by array
  python tools/inspect_checkpoint.py runs/quickstart --json              for scripts, every array by itself;
                                                                         state_sha256 is one digest over the whole state
"""


def describe(folder: Path) -> dict[str, Any]:
    """Facts of a checkpoint; its digest is computed from the arrays as they are read. Raises DamageError."""
    state, meta = store.load(folder)
    leaves = _leaves(state["params"])
    groups = sorted({name.partition("/")[0] for name in leaves})
    optimizer = _leaves(state["opt_state"])
    return {
        "checkpoint": str(folder),
        "state_sha256": store.state_sha256(state, meta["progress"].iterator),
        "recorded_state_sha256": meta["state_sha256"],
        **{key: meta[key] for key in ("step", "tokens", "phase", "stage", "permanent", "closed")},
        "iterator": meta["progress"].iterator,
        "parameters": {name: sum(leaf.size for leaf in _of(name, leaves).values()) for name in groups},
        "statistics": {name: statistics(_of(name, leaves)) for name in groups},
        "arrays": {name: statistics({name: leaf}) for name, leaf in leaves.items()},
        "optimizer_bytes": sum(leaf.nbytes for leaf in optimizer.values()),
        "optimizer_not_finite": statistics(optimizer)["not_finite"],
        "lineage": lineage(folder, meta),
        "digests": meta["digests"],
        "versions": meta["versions"],
    }


def statistics(leaves: dict[str, Any]) -> dict[str, float]:
    """Of the numbers of some arrays together, in float64; those that are not finite are counted and left out."""
    import numpy as np

    flat = np.concatenate([np.empty(0), *(np.asarray(leaf, np.float64).ravel() for leaf in leaves.values())])
    finite = flat[np.isfinite(flat)]
    if not finite.size:
        return {"not_finite": int(flat.size)}
    return {
        "mean": float(finite.mean()),
        "std": float(finite.std()),
        "min": float(finite.min()),
        "max": float(finite.max()),
        "norm": float(np.linalg.norm(finite)),
        "zeros": float((finite == 0).mean()),
        "not_finite": int(flat.size - finite.size),
    }


def lineage(folder: Path, meta: dict[str, Any]) -> list[dict[str, Any]]:
    """The checkpoints that this one goes on from, oldest first, and whether they are where they were."""
    run = folder.absolute().parents[1]
    found = []
    for name, digest in meta["progress"].ancestors.items():
        place = run / name
        try:
            is_here = store.identity(place, manifest.read)[1] == digest
        except DamageError:
            is_here = False
        found.append({"checkpoint": name, "state_sha256": digest, "is_here": is_here})
    return found


def compare(folder: Path, other: Path) -> dict[str, Any]:
    """What sets a checkpoint apart from another one. Raises DamageError."""
    import numpy as np

    (state, meta), (old_state, old_meta) = store.load(folder), store.load(other)
    leaves, old = _leaves(state["params"]), _leaves(old_state["params"])
    arrays: dict[str, Any] = {}
    for name in sorted(leaves.keys() | old.keys()):
        if name not in leaves or name not in old or leaves[name].shape != old[name].shape:
            arrays[name] = {"shapes": [str(list(one[name].shape)) if name in one else "none" for one in (old, leaves)]}
            continue
        new, before = np.asarray(leaves[name], np.float64), np.asarray(old[name], np.float64)
        change, norm = new - before, float(np.linalg.norm(before))
        arrays[name] = {
            "changed": float((change != 0).mean()) if change.size else 0.0,
            "largest": float(np.abs(change).max(initial=0)),
            "relative": float(np.linalg.norm(change)) / norm if norm else float(bool(np.any(change))),
        }
    told, told_before = (
        _flat({key: one[key] for key in _COMPARED} | {"ancestors": one["progress"].ancestors})
        for one in (meta, old_meta)
    )
    facts = {
        key: [told_before.get(key), told.get(key)]
        for key in sorted(told.keys() | told_before.keys())
        if told.get(key) != told_before.get(key)
    }
    return {"checkpoint": str(folder), "against": str(other), "facts": facts, "arrays": arrays}


_COMPARED = ("step", "tokens", "phase", "stage", "closed", "config", "digests", "versions", "state_sha256")


def _leaves(tree: Any) -> dict[str, Any]:
    import jax

    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def _of(group: str, leaves: dict[str, Any]) -> dict[str, Any]:
    return {name: leaf for name, leaf in leaves.items() if name.partition("/")[0] == group}


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(tree, list) and tree and all(isinstance(one, dict) and "name" in one for one in tree):
        tree = {one["name"]: one for one in tree}
    if not isinstance(tree, dict):
        return {prefix: tree}
    dot = "." if prefix else ""
    return {name: leaf for key, value in tree.items() for name, leaf in _flat(value, f"{prefix}{dot}{key}").items()}


def _show(facts: dict[str, Any]) -> None:
    for key, value in facts.items():
        if key in ("statistics", "arrays"):
            continue
        if key == "lineage":
            told = [
                f"{one['checkpoint']}: {one['state_sha256'][:16]}{'' if one['is_here'] else ', NOT HERE'}"
                for one in value
            ]
            terminal.say("lineage: " + (" -> ".join(told) if told else "from the beginning"))
        elif isinstance(value, dict) and key != "iterator":
            terminal.say(f"{key}:")
            for name, entry in value.items():
                terminal.say(f"  {name}: {entry:,}" if isinstance(entry, int) else f"  {name}: {entry}")
        else:
            terminal.say(f"{key}: {value:,}" if type(value) is int else f"{key}: {value}")
    columns = ("mean", "std", "min", "max", "norm", "zeros", "not_finite")
    rows = [(name, *(f"{found.get(one, 0):.4g}" for one in columns)) for name, found in facts["statistics"].items()]
    terminal.say("\n" + terminal.columns(("parameters", *columns), rows))


def _show_differences(found: dict[str, Any]) -> None:
    terminal.say(f"{found['checkpoint']}, against {found['against']}")
    for key, (old, new) in found["facts"].items():
        terminal.say(f"  {key}: {old} -> {new}")
    same = [name for name, one in found["arrays"].items() if one.get("changed") == 0]
    others = {name: one for name, one in found["arrays"].items() if name not in same}
    rows = [
        (name, *(f"{one[key]:.4g}" for key in ("changed", "largest", "relative")))
        if "changed" in one
        else (name, *one["shapes"], "")
        for name, one in others.items()
    ]
    headings = ("array", "share changed", "largest change", "relative change")
    terminal.say("\n" + terminal.columns(headings, rows) if rows else "no array has changed")
    terminal.say(f"{len(same)} of {len(found['arrays'])} arrays are the same, bit for bit")


def main(arguments: list[str] | None = None) -> int:
    parser = cli.parser(__doc__, EXAMPLES)
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="a checkpoint folder or a run directory")
    parser.add_argument("--against", type=Path, metavar="OTHER", help="another one, to tell the differences from")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)

    def body() -> None:
        folder = checkpoints.find(options.checkpoint)
        found = compare(folder, checkpoints.find(options.against)) if options.against else describe(folder)
        if options.json:
            print(json.dumps(found, indent=1))
        else:
            _show_differences(found) if options.against else _show(found)

    return cli.guarded("inspect_checkpoint.py", body)


if __name__ == "__main__":
    sys.exit(main())
