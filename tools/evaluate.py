"""Judges a trained model: grammar by minimal pairs, our own and BLiMP's, and how well it predicts a text."""

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from llm60_jax import console
from llm60_jax.checkpoint import Trained, open_
from llm60_jax.data import cleaning, packing, shards, sources
from llm60_jax.data.ledger import Ledger
from llm60_jax.data.progress import Track
from llm60_jax.data.shards import TokenShard
from llm60_jax.errors import InputError
from llm60_jax.evaluate import minimal_pairs, pairs, validation
from llm60_jax.evaluate.minimal_pairs import Verdict
from llm60_jax.interrupts import Interrupts

EXAMPLES = """examples:
  python tools/evaluate.py runs/quickstart                              our own minimal pairs, 17 phenomena
  python tools/evaluate.py runs/quickstart/phases/grammar --blimp blimp/data   and all of BLiMP
  python tools/evaluate.py runs/quickstart --text my/novel.txt my/essay.md      bits per byte of texts
  python tools/evaluate.py runs/quickstart --json

CHECKPOINT is a run directory (its newest checkpoint), the end of a phase, or a step: runs/RUN/checkpoints/STEP. BLiMP
is at https://github.com/alexwarstadt/blimp, its .jsonl files in the folder data.
"""


def evaluate(model: Trained, blimp: Path | None, texts: Sequence[Path], track: Track) -> dict[str, Any]:
    """What --json prints. `overall`, `groups` and `ties` are BLiMP's if it is there, else those of our own pairs;
    `bits_per_byte` is that of all texts together, None without any."""
    given = minimal_pairs.read_blimp(blimp) if blimp else None
    encoded = {str(path): _encoded(model, path) for path in texts}  # what cannot be read is told before an hour of work

    def score(sentences: list[str]) -> np.ndarray:
        context = model.config.model.max_context
        return minimal_pairs.log_probabilities(sentences, model.tokenizer, model.score_rows, context, track)

    own = minimal_pairs.judge((pair for some in pairs.suite().values() for pair in some), score)
    found: dict[str, Any] = {
        "checkpoint": str(model.folder),
        "step": model.meta["step"],
        "phase": model.meta["phase"],
        "overall": float(np.mean([verdict.accuracy for verdict in own.values()])),
        "groups": {name: verdict.accuracy for name, verdict in own.items()},
        "ties": sum(verdict.ties for verdict in own.values()),
        "grammar": {name: verdict.to_tree() for name, verdict in own.items()},
        "blimp": None,
    }
    if given:
        paper = minimal_pairs.blimp(minimal_pairs.judge(given[0], score), given[1])
        found |= {"overall": paper.overall, "groups": paper.groups, "ties": paper.ties}
        found["blimp"] = {name: verdict.to_tree() for name, verdict in paper.paradigms.items()}
    measured = {name: _nats(model, shard, track) for name, shard in encoded.items()}
    whole = sum(shard.bytes.sum() for shard in encoded.values())
    found["bits_per_byte"] = sum(measured.values()) / math.log(2) / whole if measured else None
    found["texts"] = {name: nats / math.log(2) / int(encoded[name].bytes.sum()) for name, nats in measured.items()}
    return found


def _encoded(model: Trained, path: Path) -> TokenShard:
    """The documents of a file, cleaned as for training but for the exclusion rules, as tokens."""
    source = sources.folder(str(path))
    texts = [cleaning.clean(document.text) for document in sources.read(source, sources.inputs(source), Ledger(""))]
    texts = [text for text in texts if text]
    if not texts:
        raise InputError(f"--text: {path}: no text in it")
    return shards.in_memory(({"text": text} for text in texts), model.tokenizer)


def _nats(model: Trained, shard: TokenShard, track: Track) -> float:
    """The cross-entropy of a shard, summed, with windows of the model's longest context."""
    rows, _ = packing.validation_rows(shard, model.config.model.max_context, shard.token_count)
    total = 0.0
    starts = range(0, len(rows["tokens"]), validation.ROWS)
    for start in track(starts, "scoring text, by batches", len(starts)):
        part = {name: array[start : start + validation.ROWS] for name, array in rows.items()}
        nll = np.asarray(model.score_rows(validation.padded(part)), np.float64)[: len(part["tokens"])]
        total += float((nll * part["weights"]).sum())
    return total


def _do(options: argparse.Namespace) -> None:
    interrupts = Interrupts()
    interrupts.install()
    model = open_(options.checkpoint)
    found = evaluate(model, options.blimp, options.text, console.Tracker(interrupts, quiet=options.json))
    if options.json:
        print(json.dumps(found))
        return
    console.say(f"\n{found['checkpoint']}: step {found['step']:,}, phase {found['phase']}")
    _show("minimal pairs", found["grammar"])
    if found["blimp"]:
        _show("BLiMP, by paradigm", found["blimp"])
        rows = [(name, f"{accuracy:.1%}") for name, accuracy in found["groups"].items()]
        console.say(
            console.columns(("BLiMP, by group", "right"), [*rows, ("overall", f"{found['overall']:.1%}")]) + "\n"
        )
    for name, bits in found["texts"].items():
        console.say(f"{name}: {bits:.4f} bits per byte")


def _show(title: str, verdicts: dict[str, dict[str, Any]]) -> None:
    rows = [
        (name, f"{one['pairs']:,}", f"{one['accuracy']:.1%}", f"{one['lower']:.1%}", f"{one['ties']:,}")
        for name, one in verdicts.items()
    ]
    mean = sum(one["accuracy"] for one in verdicts.values()) / len(verdicts)
    whole = Verdict(*(sum(one[field] for one in verdicts.values()) for field in ("pairs", "correct", "ties")))
    rows.append(("mean", f"{whole.pairs:,}", f"{mean:.1%}", f"{whole.lower:.1%}", f"{whole.ties:,}"))
    console.say(console.columns((title, "pairs", "right", "at least (95 %)", "ties"), rows) + "\n")


def main(arguments: list[str] | None = None) -> int:
    parser = console.parser(__doc__, EXAMPLES)
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="a run directory or a checkpoint")
    parser.add_argument("--blimp", type=Path, metavar="DIR", help="a folder with BLiMP's .jsonl files")
    parser.add_argument("--text", type=Path, nargs="+", default=[], metavar="FILE", help="texts to be predicted")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    return console.guarded("evaluate.py", lambda: _do(options))


if __name__ == "__main__":
    sys.exit(main())
