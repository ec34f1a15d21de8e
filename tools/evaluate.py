"""Measure a trained model: grammar by minimal pairs, our own and BLiMP's, and bits per byte of
texts."""

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llm60_jax.checkpoint import open_
from llm60_jax.errors import MachineError
from llm60_jax.evaluate import judgement
from llm60_jax.evaluate.grammar.scoring import PairScore
from llm60_jax.machine import cli, terminal
from llm60_jax.machine.remembered import Unfinished
from llm60_jax.machine.signals import Interrupts

EXAMPLES = """examples:
  # our own minimal pairs: 17 phenomena
  python tools/evaluate.py runs/quickstart
  # BLiMP too, for the end of a phase
  python tools/evaluate.py runs/quickstart/phases/grammar --blimp blimp/data
  # bits per byte of two texts
  python tools/evaluate.py runs/quickstart --text my/novel.txt my/essay.md
  # for scripts
  python tools/evaluate.py runs/quickstart --json

CHECKPOINT is a run directory (its newest checkpoint), the end of a phase, or a step:
runs/RUN/checkpoints/STEP. Get BLiMP from https://github.com/alexwarstadt/blimp; its .jsonl files
are in the folder data. Its scores are kept in RUN/evaluations/, for the card of an export.
"""
_LOG = logging.getLogger("llm60_jax")


def _evaluate(options: argparse.Namespace, interrupts: Interrupts) -> None:
    model = open_(options.checkpoint)
    track, identity = terminal.Tracker(interrupts, on_stderr=options.json), model.meta["state_sha256"]
    with Unfinished(model.config.data_dir, "evaluate", identity, anew=options.anew) as unfinished:
        results = judgement.judge(model, options.blimp, options.text, track, unfinished.part)
    try:
        judgement.keep(model, results)
    except (MachineError, OSError) as error:  # somebody else's run, perhaps
        _LOG.warning("the scores are not kept for the model card: %s", error)
    if options.json:
        print(json.dumps(results))
        return
    terminal.say(f"\n{results['checkpoint']}: step {results['step']:,}, phase {results['phase']}")
    _show("minimal pairs", results["grammar"])
    if results["blimp"]:
        _show("BLiMP, by paradigm", results["blimp"])
        rows = [(name, f"{accuracy:.1%}") for name, accuracy in results["groups"].items()]
        rows.append(("overall", f"{results['overall']:.1%}"))
        terminal.say(terminal.columns(("BLiMP, by group", "right"), rows) + "\n")
    for name, bits in results["texts"].items():
        terminal.say(f"{name}: {bits:.4f} bits per byte")


def _show(title: str, scores: dict[str, dict[str, Any]]) -> None:
    """Print the scores by name, and below them the mean accuracy and the score of all pairs
    together."""
    rows = [
        (name, f"{score['pairs']:,}", f"{score['accuracy']:.1%}", f"{score['lower']:.1%}", f"{score['ties']:,}")
        for name, score in scores.items()
    ]
    mean = sum(score["accuracy"] for score in scores.values()) / len(scores)
    total = PairScore(*(sum(score[field] for score in scores.values()) for field in ("pairs", "correct", "ties")))
    rows.append(("mean", f"{total.pairs:,}", f"{mean:.1%}", f"{total.lower:.1%}", f"{total.ties:,}"))
    terminal.say(terminal.columns((title, "pairs", "right", "at least (95 %)", "ties"), rows) + "\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = cli.parser(__doc__, EXAMPLES)
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="a run directory or a checkpoint")
    parser.add_argument("--blimp", type=Path, metavar="DIR", help="a folder with BLiMP's .jsonl files")
    parser.add_argument("--text", type=Path, nargs="+", default=[], metavar="FILE", help="texts to score")
    cli.add_anew(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return cli.run_tool("evaluate.py", parser, arguments, _evaluate)


if __name__ == "__main__":
    sys.exit(main())
