"""Makes the report of a run anew: report.html in its directory, one file to look at in a browser."""

import sys
from pathlib import Path

from llm60_jax.machine import cli
from llm60_jax.record import history, report

EXAMPLES = """examples:
  python tools/report.py runs/quickstart

A run writes its report itself at the end of every phase. The page needs no network and no scripts.
"""


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line and returns its exit code."""
    parser = cli.parser(__doc__, EXAMPLES)
    parser.add_argument("run", type=Path, metavar="RUN", help="a run directory")
    options = parser.parse_args(arguments)
    return cli.guarded("report.py", lambda: print(report.write(history.read(options.run))))


if __name__ == "__main__":
    sys.exit(main())
