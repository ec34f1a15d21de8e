"""Judges a trained model: grammar by minimal pairs, our own and BLiMP's, and how well it predicts a text."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from llm60_jax.checkpoint import open_
from llm60_jax.evaluate import judgement
from llm60_jax.evaluate.grammar.scoring import PairScore
from llm60_jax.machine import cli, terminal
from llm60_jax.machine.signals import Interrupts

EXAMPLES = """examples:
  python tools/evaluate.py runs/quickstart                              our own minimal pairs, 17 phenomena
  python tools/evaluate.py runs/quickstart/phases/grammar --blimp blimp/data   and all of BLiMP
  python tools/evaluate.py runs/quickstart --text my/novel.txt my/essay.md      bits per byte of texts
  python tools/evaluate.py runs/quickstart --json

CHECKPOINT is a run directory (its newest checkpoint), the end of a phase, or a step: runs/RUN/checkpoints/STEP. BLiMP
is at https://github.com/alexwarstadt/blimp, its .jsonl files in the folder data.
"""


def _do(options: argparse.Namespace) -> None:
    interrupts = Interrupts()
    interrupts.install()
    model = open_(options.checkpoint)
    found = judgement.judge(model, options.blimp, options.text, terminal.Tracker(interrupts, quiet=options.json))
    if options.json:
        print(json.dumps(found))
        return
    terminal.say(f"\n{found['checkpoint']}: step {found['step']:,}, phase {found['phase']}")
    _show("minimal pairs", found["grammar"])
    if found["blimp"]:
        _show("BLiMP, by paradigm", found["blimp"])
        rows = [(name, f"{accuracy:.1%}") for name, accuracy in found["groups"].items()]
        terminal.say(
            terminal.columns(("BLiMP, by group", "right"), [*rows, ("overall", f"{found['overall']:.1%}")]) + "\n"
        )
    for name, bits in found["texts"].items():
        terminal.say(f"{name}: {bits:.4f} bits per byte")


def _show(title: str, verdicts: dict[str, dict[str, Any]]) -> None:
    rows = [
        (name, f"{one['pairs']:,}", f"{one['accuracy']:.1%}", f"{one['lower']:.1%}", f"{one['ties']:,}")
        for name, one in verdicts.items()
    ]
    mean = sum(one["accuracy"] for one in verdicts.values()) / len(verdicts)
    whole = PairScore(*(sum(one[field] for one in verdicts.values()) for field in ("pairs", "correct", "ties")))
    rows.append(("mean", f"{whole.pairs:,}", f"{mean:.1%}", f"{whole.lower:.1%}", f"{whole.ties:,}"))
    terminal.say(terminal.columns((title, "pairs", "right", "at least (95 %)", "ties"), rows) + "\n")


def main(arguments: list[str] | None = None) -> int:
    parser = cli.parser(__doc__, EXAMPLES)
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="a run directory or a checkpoint")
    parser.add_argument("--blimp", type=Path, metavar="DIR", help="a folder with BLiMP's .jsonl files")
    parser.add_argument("--text", type=Path, nargs="+", default=[], metavar="FILE", help="texts to be predicted")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    return cli.guarded("evaluate.py", lambda: _do(options))


if __name__ == "__main__":
    sys.exit(main())
