"""Feed the program broken or hostile configurations and files of a run, and check that it refuses
them in order."""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import fuzz_attacks
import fuzz_configs
import fuzz_runs
import jinja2
import numpy as np
import trial
from fuzz_runs import BreakableRun

from llm60_jax.config import config as config_reader
from llm60_jax.errors import Failure, InputError
from llm60_jax.machine import cli, files, pages, terminal
from llm60_jax.machine.progress import Track
from llm60_jax.machine.signals import Interrupts
from llm60_jax.record import store

EXAMPLES = """examples:
  # 1,000 broken configurations: about 2 minutes
  python tools/fuzz_files.py configs
  # 200 broken files of a run, half of them with right digests
  python tools/fuzz_files.py files configs/tiny.toml
  # files that try to run code, fill the memory, write elsewhere, or command the terminal
  python tools/fuzz_files.py hostile configs/tiny.toml

The program must read each of them, or refuse it with one message: no traceback, no hang, no full
memory, no code run. Then the trial removes a protection, and must notice. The exit code is 0 if all
is right, else 1.
"""


class FuzzResult(NamedTuple):
    """How many inputs were tried, what went wrong, and for each control how often it was
    noticed."""

    tried: int
    wrong: list[str]
    controls: dict[str, int]

    @property
    def passed(self) -> bool:
        return not self.wrong and all(self.controls.values())


def try_configs(count: int, seed: int, track: Track) -> FuzzResult:
    """Try broken configurations; the control ignores unknown fields."""
    with tempfile.TemporaryDirectory() as home:
        wrong = list(fuzz_configs.configs(count, seed, track, Path(home)))
        with _unknown_fields_ignored():
            noticed = sum("was ignored" in line for line in fuzz_configs.configs(100, seed, track, Path(home)))
    return FuzzResult(count, wrong, {"unknown fields are dropped": noticed})


def _unknown_fields_ignored() -> Any:
    """Return the control: unknown fields are dropped."""
    real = config_reader.parse

    def parse(tree: dict[str, Any], origin: str) -> Any:
        for _ in range(8):
            try:
                return real(tree, origin)
            except Failure as failure:
                tree = _without(tree, str(failure))
        return real(tree, origin)

    return mock.patch.object(config_reader, "parse", parse)


def _without(tree: Any, message: str) -> Any:
    if isinstance(tree, dict):
        return {key: _without(value, message) for key, value in tree.items() if f"{key}:" not in message}
    return [_without(value, message) for value in tree] if isinstance(tree, list) else tree


def try_files(run: BreakableRun, count: int, seed: int, track: Track) -> FuzzResult:
    """Try broken files; the control does not check metadata."""
    wrong = list(fuzz_runs.break_files(run, count, seed, track))

    def trusting(folder: Path) -> dict[str, Any]:
        return dict(json.loads((folder / store.META).read_text(encoding="utf-8")))

    with mock.patch.object(store, "read_meta", trusting):
        noticed = len(list(fuzz_runs.break_files(run, 40, seed, track, store.META)))
    return FuzzResult(count, wrong, {"metadata is not checked": noticed})


def try_hostile(run: BreakableRun, track: Track) -> FuzzResult:
    """Try all attacks; the controls load objects from arrays, and escape nothing in the report."""
    wrong = list(fuzz_attacks.hostile(run, track))
    count = len(fuzz_attacks.attacks(run.path))

    def trusting(path: Path) -> np.ndarray:
        return np.load(path, **{"allow_" + "pickle": True})  # type: ignore[arg-type]

    def unescaped(**options: Any) -> jinja2.Environment:
        return jinja2.Environment(**options | {"autoescape": False})

    with mock.patch.object(files, "read_array", trusting):
        fired = sum("CODE WAS RUN" in line for line in fuzz_attacks.hostile(run, track, "objects"))
    with mock.patch.object(pages, "Environment", unescaped):
        shown = sum("the report obeys" in line for line in fuzz_attacks.hostile(run, track, "a script"))
    return FuzzResult(count, wrong, {"objects in arrays are read": fired, "nothing is escaped": shown})


def _try(options: argparse.Namespace, interrupts: Interrupts) -> FuzzResult:
    if (options.config is None) != (options.what == "configs"):
        raise InputError("files and hostile need a CONFIG, configs takes none")
    track = terminal.Tracker(interrupts, quiet=options.json)
    if options.what == "configs":
        return try_configs(options.count or 1000, options.seed, track)
    options.folder.mkdir(parents=True, exist_ok=True)
    run = fuzz_runs.small_run(trial.training(options.config, options.set, options.steps), options.folder)
    if options.what == "files":
        return try_files(run, options.count or 200, options.seed, track)
    return try_hostile(run, track)


def _show(what: str, result: FuzzResult) -> None:
    terminal.say(f"{what}: {result.tried} tried, {len(result.wrong)} went wrong")
    for line in result.wrong[:20]:
        terminal.say(f"  {line}")
    for name, noticed in result.controls.items():
        terminal.say(f"control, {name}: {f'noticed {noticed} times' if noticed else 'NOT NOTICED'}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = cli.parser(__doc__, EXAMPLES)
    parser.add_argument("what", choices=["configs", "files", "hostile"], help="what to feed the program")
    parser.add_argument("config", type=Path, nargs="?", metavar="CONFIG", help="configuration of the run to break")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="override any field")
    parser.add_argument(
        "--count", type=int, metavar="N", help="number of inputs (default 1000 configurations, 200 files)"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the damage (default 0)")
    parser.add_argument("--steps", type=int, default=5, metavar="N", help="steps of each phase of the run (default 5)")
    parser.add_argument(
        "--folder", type=Path, default=Path("runs/fuzz_files"), metavar="DIR",
        help="where that run stays (default runs/fuzz_files)",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    results: list[FuzzResult] = []

    def body(options: argparse.Namespace, interrupts: Interrupts) -> None:
        results.append(_try(options, interrupts))
        if options.json:
            print(json.dumps(results[0]._asdict(), indent=1))
        else:
            _show(options.what, results[0])

    code = cli.run_tool("fuzz_files.py", parser, arguments, body)
    return code or int(not all(result.passed for result in results))


if __name__ == "__main__":
    sys.exit(main())
