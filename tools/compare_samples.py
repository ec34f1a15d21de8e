"""Show how a run's sample texts changed from checkpoint to checkpoint, grouped by prompt."""

import argparse
import json
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llm60_jax.errors import DamageError, InputError
from llm60_jax.machine import cli
from llm60_jax.machine.signals import Interrupts
from llm60_jax.machine.terminal import printable
from llm60_jax.record import history

EXAMPLES = """examples:
  # every prompt, the short texts
  python tools/compare_samples.py runs/quickstart
  # one prompt, the texts that fill the context
  python tools/compare_samples.py runs/quickstart --prompt "The people" --long
  # all records, for scripts
  python tools/compare_samples.py runs/quickstart --json
"""
_FIELDS = ("step", "phase", "choice", "tokens_per_second", "texts")


def read(run: Path) -> list[dict[str, Any]]:
    """Return the records of a run's `samples/`, in the order of steps.

    Raises:
      InputError: there is no run, or it has no samples.
      DamageError: a record lacks a field.
    """
    records = history.read(run).samples
    if not records:
        raise InputError(f"{run}: the run has no samples yet; each checkpoint adds some")
    for record in records:
        if absent := [name for name in _FIELDS if name not in record]:
            step = record.get("step", "unknown")
            raise DamageError(f"{run / 'samples'}: the record of step {step} lacks {absent}; delete its file")
    return [{name: record[name] for name in _FIELDS} for record in records]


def _compare_samples(options: argparse.Namespace, interrupts: Interrupts) -> None:
    records, kind = read(options.run), "long" if options.long else "short"
    if options.json:
        print(json.dumps(records))
        return
    prompts = list(dict.fromkeys(text["prompt"] for record in records for text in record["texts"]))
    if options.prompt is not None and options.prompt not in prompts:
        raise InputError(f"--prompt: the run has no texts for {options.prompt!r}; it has texts for {prompts}")
    for prompt in prompts if options.prompt is None else [options.prompt]:
        for record in records:
            for text in record["texts"]:
                if (text["prompt"], text.get("kind", "short")) == (prompt, kind):
                    head = f"step {record['step']:>7,} {record['phase']:<12} "
                    body = printable(text["text"].replace("\n", " "))
                    print(textwrap.fill(head + body, 118, subsequent_indent=" " * len(head)))
        print()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = cli.parser(__doc__, EXAMPLES)
    parser.add_argument("run", type=Path, metavar="RUN", help="a run directory")
    parser.add_argument("--prompt", metavar="TEXT", help="show this prompt only")
    parser.add_argument("--long", action="store_true", help="show the texts that fill the context, not the short ones")
    parser.add_argument("--json", action="store_true", help="print all records as JSON")
    return cli.run_tool("compare_samples.py", parser, arguments, _compare_samples)


if __name__ == "__main__":
    sys.exit(main())
