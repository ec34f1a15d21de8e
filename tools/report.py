"""Write a run's report.html anew, a page to open in a browser; short for `doctor.py RUN --html`."""

import sys
from collections.abc import Sequence
from pathlib import Path

import doctor

from llm60_jax.machine import cli

EXAMPLES = """examples:
  # write the page and print its path
  python tools/report.py runs/quickstart

A run writes its report itself at the end of every phase. The page needs no network and no scripts.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = cli.parser(__doc__, EXAMPLES)
    parser.add_argument("run", type=Path, metavar="RUN", help="a run directory")
    return cli.run_tool("report.py", parser, arguments, lambda options, interrupts: doctor.write_page(options.run))


if __name__ == "__main__":
    sys.exit(main())
