"""Show what a checkpoint holds and where it comes from, or how two checkpoints differ."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llm60_jax.errors import DamageError
from llm60_jax.machine import cli, environment, manifest, terminal
from llm60_jax.machine.signals import Interrupts
from llm60_jax.record import checkpoints, store
from llm60_jax.record.workdir import flat

EXAMPLES = """examples:
  # the newest checkpoint of a run
  python tools/inspect_checkpoint.py runs/quickstart
  # the end of a phase
  python tools/inspect_checkpoint.py runs/quickstart/phases/grammar
  # what has changed since then, array by array
  python tools/inspect_checkpoint.py runs/quickstart --against runs/quickstart/phases/grammar
  # for scripts: every array; state_sha256 is one digest over the whole state
  python tools/inspect_checkpoint.py runs/quickstart --json

Every file of a checkpoint is verified before anything is shown.
"""
_COMPARED = ("step", "tokens", "phase", "stage", "closed", "config", "digests", "versions", "state_sha256")


def describe(folder: Path) -> dict[str, Any]:
    """Return the facts of a checkpoint; its digest is computed from the arrays as read. Raises
    DamageError."""
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
    """Return statistics over the numbers of some arrays, in float64; numbers that are not finite
    are only counted."""
    import numpy as np

    numbers = np.concatenate([np.empty(0), *(np.asarray(leaf, np.float64).ravel() for leaf in leaves.values())])
    finite = numbers[np.isfinite(numbers)]
    if not finite.size:
        return {"not_finite": int(numbers.size)}
    return {
        "mean": float(finite.mean()),
        "std": float(finite.std()),
        "min": float(finite.min()),
        "max": float(finite.max()),
        "norm": float(np.linalg.norm(finite)),
        "zeros": float((finite == 0).mean()),
        "not_finite": int(numbers.size - finite.size),
    }


def lineage(folder: Path, meta: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the checkpoints that this one continues, oldest first, and whether each is still in
    its place."""
    run = folder.absolute().parents[1]
    ancestors = []
    for name, digest in meta["progress"].ancestors.items():
        try:
            is_here = store.identity(run / name, manifest.read)[1] == digest
        except DamageError:
            is_here = False
        ancestors.append({"checkpoint": name, "state_sha256": digest, "is_here": is_here})
    return ancestors


def compare(folder: Path, other: Path) -> dict[str, Any]:
    """Return how a checkpoint differs from another one. Raises DamageError."""
    (state, meta), (old_state, old_meta) = store.load(folder), store.load(other)
    leaves, old_leaves = _leaves(state["params"]), _leaves(old_state["params"])
    new, old = (
        flat({key: facts[key] for key in _COMPARED} | {"ancestors": facts["progress"].ancestors})
        for facts in (meta, old_meta)
    )
    return {
        "checkpoint": str(folder),
        "against": str(other),
        "facts": {
            key: [old.get(key), new.get(key)] for key in sorted(new.keys() | old.keys()) if new.get(key) != old.get(key)
        },
        "arrays": {
            name: _difference(leaves.get(name), old_leaves.get(name))
            for name in sorted(leaves.keys() | old_leaves.keys())
        },
    }


def _difference(new: Any, old: Any) -> dict[str, Any]:
    """Return how an array changed: its shapes where they differ, else shares and sizes of the
    change."""
    import numpy as np

    if new is None or old is None or new.shape != old.shape:
        return {"shapes": ["none" if leaf is None else str(list(leaf.shape)) for leaf in (old, new)]}
    before = np.asarray(old, np.float64)
    change, norm = np.asarray(new, np.float64) - before, float(np.linalg.norm(before))
    return {
        "changed": float((change != 0).mean()) if change.size else 0.0,
        "largest": float(np.abs(change).max(initial=0)),
        "relative": float(np.linalg.norm(change)) / norm if norm else float(bool(np.any(change))),
    }


def _leaves(tree: Any) -> dict[str, Any]:
    import jax

    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def _of(group: str, leaves: dict[str, Any]) -> dict[str, Any]:
    return {name: leaf for name, leaf in leaves.items() if name.partition("/")[0] == group}


def _show(facts: dict[str, Any]) -> None:
    for key, value in facts.items():
        if key in ("statistics", "arrays"):
            continue
        if key == "lineage":
            steps = [
                f"{entry['checkpoint']}: {entry['state_sha256'][:16]}{'' if entry['is_here'] else ', NOT HERE'}"
                for entry in value
            ]
            terminal.say("lineage: " + (" -> ".join(steps) if steps else "from the beginning"))
        elif isinstance(value, dict) and key != "iterator":
            terminal.say(f"{key}:")
            for name, entry in value.items():
                terminal.say(f"  {name}: {entry:,}" if isinstance(entry, int) else f"  {name}: {entry}")
        else:
            terminal.say(f"{key}: {value:,}" if type(value) is int else f"{key}: {value}")
    columns = ("mean", "std", "min", "max", "norm", "zeros", "not_finite")
    rows = [(name, *(f"{row.get(column, 0):.4g}" for column in columns)) for name, row in facts["statistics"].items()]
    terminal.say("\n" + terminal.columns(("parameters", *columns), rows))


def _show_differences(differences: dict[str, Any]) -> None:
    terminal.say(f"{differences['checkpoint']}, against {differences['against']}")
    for key, (old, new) in differences["facts"].items():
        terminal.say(f"  {key}: {old} -> {new}")
    arrays = differences["arrays"]
    changed = {name: change for name, change in arrays.items() if change.get("changed") != 0}
    rows = [
        (name, *(f"{change[key]:.4g}" for key in ("changed", "largest", "relative")))
        if "changed" in change
        else (name, *change["shapes"], "")
        for name, change in changed.items()
    ]
    headings = ("array", "share changed", "largest change", "relative change")
    terminal.say("\n" + terminal.columns(headings, rows) if rows else "no array has changed")
    terminal.say(f"{len(arrays) - len(changed)} of {len(arrays)} arrays are the same, bit for bit")


def _inspect(options: argparse.Namespace, interrupts: Interrupts) -> None:
    environment.settle()
    folder = checkpoints.find(options.checkpoint)
    facts = compare(folder, checkpoints.find(options.against)) if options.against else describe(folder)
    if options.json:
        print(json.dumps(facts, indent=1))
    elif options.against:
        _show_differences(facts)
    else:
        _show(facts)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = cli.parser(__doc__, EXAMPLES)
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="a checkpoint folder or a run directory")
    parser.add_argument("--against", type=Path, metavar="OTHER", help="another checkpoint to compare with")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return cli.run_tool("inspect_checkpoint.py", parser, arguments, _inspect)


if __name__ == "__main__":
    sys.exit(main())
