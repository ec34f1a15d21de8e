"""Shows how a run's texts changed from checkpoint to checkpoint: the same prompt and seed, one below the other."""

import argparse
import json
import sys
import textwrap
from pathlib import Path
from typing import Any

from llm60_jax.errors import DamageError, InputError
from llm60_jax.machine import cli
from llm60_jax.machine.terminal import printable

EXAMPLES = """examples:
  python tools/compare_samples.py runs/quickstart
  python tools/compare_samples.py runs/quickstart --prompt "The people" --long
  python tools/compare_samples.py runs/quickstart --json
"""


def read(run: Path) -> list[dict[str, Any]]:
    """What `samples/` holds, in the order of steps. Raises InputError, DamageError."""
    found = []
    for path in sorted((run / "samples").glob("*.json")):
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            found.append({name: record[name] for name in ("step", "phase", "choice", "tokens_per_second", "texts")})
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DamageError(f"{path}: not a record of samples ({type(error).__name__}); delete it") from None
    if not found:
        raise InputError(f"{run}: no run directory with samples; they are written with its checkpoints")
    return found


def _do(options: argparse.Namespace) -> None:
    records, kind = read(options.run), "long" if options.long else "short"
    if options.json:
        print(json.dumps(records))
        return
    prompts = list(dict.fromkeys(text["prompt"] for record in records for text in record["texts"]))
    if options.prompt is not None and options.prompt not in prompts:
        raise InputError(f"--prompt: nothing was written after {options.prompt!r}; there are {prompts}")
    for prompt in prompts if options.prompt is None else [options.prompt]:
        for record in records:
            for text in record["texts"]:
                if (text["prompt"], text["kind"]) == (prompt, kind):
                    head = f"step {record['step']:>7,} {record['phase']:<12} "
                    body = printable(text["text"].replace("\n", " "))
                    print(textwrap.fill(head + body, 118, subsequent_indent=" " * len(head)))
        print()


def main(arguments: list[str] | None = None) -> int:
    parser = cli.parser(__doc__, EXAMPLES)
    parser.add_argument("run", type=Path, metavar="RUN", help="a run directory")
    parser.add_argument("--prompt", help="of this prompt only")
    parser.add_argument("--long", action="store_true", help="texts that fill the context, not the short ones")
    parser.add_argument("--json", action="store_true", help="print all records as JSON")
    options = parser.parse_args(arguments)
    return cli.guarded("compare_samples.py", lambda: _do(options))


if __name__ == "__main__":
    sys.exit(main())
