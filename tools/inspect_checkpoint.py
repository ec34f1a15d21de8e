"""Shows what a checkpoint holds, after verifying every file of it."""

import json
import sys
from pathlib import Path
from typing import Any

from llm60_jax import console, store

EXAMPLES = """examples:
  python tools/inspect_checkpoint.py runs/quickstart                     its newest checkpoint
  python tools/inspect_checkpoint.py runs/quickstart/phases/grammar      the end of a phase
  python tools/inspect_checkpoint.py runs/quickstart --json              for scripts; state_sha256 is one digest
                                                                         over the whole training state
"""


def describe(folder: Path) -> dict[str, Any]:
    """Facts of a checkpoint; its digest is computed from the arrays as they are read. Raises DamageError."""
    import jax
    import numpy as np

    state, meta = store.load(folder)
    groups = {name: jax.tree.leaves(group) for name, group in state["params"].items()}
    return {
        "checkpoint": str(folder),
        "state_sha256": store.state_sha256(state, meta["iterator"]),
        "recorded_state_sha256": meta["state_sha256"],
        **{key: meta[key] for key in ("step", "tokens", "phase", "stage", "permanent", "iterator")},
        "parameters": {name: int(sum(np.size(leaf) for leaf in leaves)) for name, leaves in groups.items()},
        "optimizer_bytes": int(sum(np.asarray(leaf).nbytes for leaf in jax.tree.leaves(state["opt_state"]))),
        "digests": meta["digests"],
        "versions": meta["versions"],
    }


def main(arguments: list[str] | None = None) -> int:
    parser = console.parser(__doc__, EXAMPLES)
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="a checkpoint folder or a run directory")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    return console.guarded(
        "inspect_checkpoint.py", lambda: _show(describe(store.find(options.checkpoint)), options.json)
    )


def _show(facts: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(facts, indent=1))
        return
    for key, value in facts.items():
        if isinstance(value, dict):
            print(f"{key}:")
            for name, entry in value.items():
                print(f"  {name}: {entry:,}" if isinstance(entry, int) else f"  {name}: {entry}")
        else:
            print(f"{key}: {value:,}" if type(value) is int else f"{key}: {value}")


if __name__ == "__main__":
    sys.exit(main())
