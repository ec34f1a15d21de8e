"""Says what is wrong with a run, finished or not: symptom, measured evidence, likely cause, what to do."""

import json
import sys
from pathlib import Path

from llm60_jax.machine import cli, terminal
from llm60_jax.record import doctor, history
from llm60_jax.record.history import History

EXAMPLES = """examples:
  python tools/doctor.py runs/quickstart
  python tools/doctor.py runs/quickstart --json

It reads the run directory and changes nothing, so it may look at a run that is under way. The exit code is 0 whether
or not something is wrong.
"""


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line and returns its exit code."""
    parser = cli.parser(__doc__, EXAMPLES)
    parser.add_argument("run", type=Path, metavar="RUN", help="a run directory")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    options = parser.parse_args(arguments)

    def body() -> None:
        found = history.read(options.run)
        print(json.dumps(as_json(found), indent=2) if options.json else as_text(found))

    return cli.guarded("doctor.py", body)


def as_json(run: History) -> dict[str, object]:
    """`findings`, each with symptom, phase, evidence, cause and fix; `time`, phase -> what -> seconds and share."""
    return {
        "run": str(run.path),
        "findings": [finding._asdict() for finding in doctor.examine(run)],
        "time": {
            phase.name: {share.name: {"seconds": share.seconds, "share": share.share} for share in shares}
            for phase in run.begun
            if (shares := doctor.time_of(run, phase))
        },
    }


def as_text(run: History) -> str:
    """For a person."""
    found = doctor.examine(run)
    parts = [finding.explain() for finding in found] or [f"{run.path}: nothing is wrong, as far as it was measured"]
    for phase in run.begun:
        if shares := doctor.time_of(run, phase):
            told = ", ".join(f"{share.name} {share.share:.1%}" for share in shares)
            whole = terminal.duration(doctor.seconds_of(run, phase))
            parts.append(f"{phase.name}: {whole}: {told}")
    return terminal.printable("\n".join(parts))


if __name__ == "__main__":
    sys.exit(main())
