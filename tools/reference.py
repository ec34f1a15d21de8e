"""Keep what a finished run measured as a reference for others ("is my loss normal?")."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from llm60_jax.errors import InputError
from llm60_jax.machine import cli, files
from llm60_jax.machine.signals import Interrupts
from llm60_jax.record import history, reference

EXAMPLES = """examples:
  # after a run of configs/quickstart.toml: add it to llm60_jax/record/references.json
  python tools/reference.py runs/quickstart --name quickstart --machine '2 cores of an AMD EPYC'
  # then write the table anew
  python tools/docs.py

Every phase whose gate has closed is kept; older entries of that name are replaced. The doctor compares
a run with a reference where model, schedule and text are the same.
"""


def _keep(options: argparse.Namespace, interrupts: Interrupts) -> None:
    run = history.read(options.run)
    closed = [phase for phase in run.begun if run.of(phase, "phase_end")]
    if not closed:
        raise InputError(f"{options.run}: no phase has ended, so there is nothing to keep")
    new = [reference.measured(run, phase, options.name, options.machine) for phase in closed]
    others = [entry for entry in reference.known() if entry.run != options.name]
    entries = sorted([*others, *new], key=lambda entry: entry.run)
    files.write_text(reference.FILE, json.dumps([entry._asdict() for entry in entries]) + "\n")
    print(f"{reference.FILE}: {len(new)} phases of {options.name}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = cli.parser(__doc__, EXAMPLES)
    parser.add_argument("run", type=Path, metavar="RUN", help="a finished run directory")
    parser.add_argument("--name", required=True, help="the name of its configuration, such as quickstart")
    parser.add_argument("--machine", required=True, help="where it ran, in words")
    return cli.run_tool("reference.py", parser, arguments, _keep)


if __name__ == "__main__":
    sys.exit(main())
