"""Diagnose a run, finished or not: symptom, measured evidence, likely cause, what to do."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from llm60_jax import config
from llm60_jax.machine import cli, terminal
from llm60_jax.machine.signals import Interrupts
from llm60_jax.record import doctor, history, report
from llm60_jax.record.history import History

EXAMPLES = """examples:
  # what is wrong, and where the time goes
  python tools/doctor.py runs/quickstart
  # the same for scripts
  python tools/doctor.py runs/quickstart --json
  # write report.html, a page with curves, gates and texts
  python tools/doctor.py runs/quickstart --html

Without --html it only reads, so you may use it while the run trains. The exit code is 0 with or
without findings.
"""


def as_json(run: History) -> dict[str, object]:
    """Return `findings`, each with symptom, phase, evidence, cause and fix, `time` by phase and
    activity, `departures` from the playbook, and `skipped`: a line for each file of which a part
    cannot be read."""
    return {
        "run": str(run.path),
        "findings": [finding._asdict() for finding in doctor.examine(run)],
        "time": {
            phase.name: {share.name: {"seconds": share.seconds, "share": share.share} for share in shares}
            for phase in run.begun
            if (shares := doctor.time_of(run, phase))
        },
        "departures": config.departures(run.config),
        "skipped": list(run.skipped),
    }


def as_text(run: History) -> str:
    """Return the same as text."""
    findings = doctor.examine(run)
    parts = [finding.explain() for finding in findings]
    parts = parts or [f"{run.path}: nothing is wrong, as far as it was measured"]
    for phase in run.begun:
        if shares := doctor.time_of(run, phase):
            spent = ", ".join(f"{share.name} {share.share:.1%}" for share in shares)
            total = terminal.duration(doctor.seconds_of(run, phase))
            parts.append(f"{phase.name}: {total}: {spent}")
    parts += [f"by choice: {line}" for line in config.departures(run.config)]
    return terminal.printable("\n".join(parts))


def write_page(run: Path) -> None:
    """Write a run's report.html anew, and print its path."""
    whole = history.read(run)
    _warn(whole)
    print(report.write(whole))


def _warn(run: History) -> None:
    for line in run.skipped:
        terminal.log.warning("%s: %s", run.path, line)


def _diagnose(options: argparse.Namespace, interrupts: Interrupts) -> None:
    if options.html:
        write_page(options.run)
        return
    run = history.read(options.run)
    _warn(run)
    print(json.dumps(as_json(run), indent=2) if options.json else as_text(run))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = cli.parser(__doc__, EXAMPLES)
    parser.add_argument("run", type=Path, metavar="RUN", help="a run directory")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON instead of text")
    form.add_argument("--html", action="store_true", help="write report.html into the run directory; print its path")
    return cli.run_tool("doctor.py", parser, arguments, _diagnose)


if __name__ == "__main__":
    sys.exit(main())
