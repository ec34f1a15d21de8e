"""Feed the program broken or hostile configurations and files of a run, and check that it refuses
them in order."""

import argparse
import functools
import json
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
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

from llm60_jax import config as config_module
from llm60_jax.config import config as config_reader
from llm60_jax.config import to_tree
from llm60_jax.errors import Failure
from llm60_jax.machine import cli, files, pages, terminal
from llm60_jax.machine.progress import Track
from llm60_jax.machine.remembered import Unfinished
from llm60_jax.machine.signals import Interrupts
from llm60_jax.record import store

EXAMPLES = """examples:
  # 1,000 broken forms of a configuration whose dry run passes
  python tools/fuzz_files.py configs/quickstart.toml configs
  # 200 broken files of a run, half of them with right digests
  python tools/fuzz_files.py configs/tiny.toml files
  # files that try to run code, fill the memory, write elsewhere, or command the terminal
  python tools/fuzz_files.py configs/tiny.toml hostile

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


class Trials:
    """Inputs tried one by one; the faults of each are kept until all are done."""

    def __init__(self, track: Track, unfinished: Unfinished):
        self._track, self._unfinished = track, unfinished

    def faults(self, what: str, inputs: Collection[Any], one: Callable[[Any], Iterable[str]]) -> list[str]:
        """Return the faults of all inputs; `one` yields those of one input."""
        wrong = []
        for item in self._track(inputs, what, len(inputs)):
            wrong += self._unfinished.part(f"{what}, {item}", functools.partial(_listed, one, item))
        return wrong


def _listed(one: Callable[[Any], Iterable[str]], item: Any) -> list[str]:
    return list(one(item))


def try_configs(config: Path, count: int, seed: int, trials: Trials) -> FuzzResult:
    """Try broken configurations; the control ignores unknown fields."""
    original = config.read_text(encoding="utf-8")

    def one(number: int) -> Iterator[str]:
        return fuzz_configs.try_one(original, number, seed)

    wrong = trials.faults("configurations", range(count), one)
    with _unknown_fields_ignored():
        noticed = sum("was ignored" in line for line in trials.faults("control", range(50), one))
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


def try_files(run: BreakableRun, count: int, seed: int, trials: Trials) -> FuzzResult:
    """Try broken files; the control does not check metadata."""
    wrong = trials.faults("files", range(count), lambda number: fuzz_runs.break_file(run, number, seed))

    def trusting(folder: Path) -> dict[str, Any]:
        return dict(json.loads((folder / store.META).read_text(encoding="utf-8")))

    with mock.patch.object(store, "read_meta", trusting):
        noticed = trials.faults(
            "control", range(40), lambda number: fuzz_runs.break_file(run, number, seed, store.META)
        )
    return FuzzResult(count, wrong, {"metadata is not checked": len(noticed)})


def try_hostile(run: BreakableRun, trials: Trials) -> FuzzResult:
    """Try all attacks; the controls load objects from arrays, and escape nothing in the report."""
    names = list(fuzz_attacks.attacks(run.path))
    attack = functools.partial(fuzz_attacks.attack, run)
    wrong = trials.faults("attacks", names, attack)

    def trusting(path: Path) -> np.ndarray:
        return np.load(path, **{"allow_" + "pickle": True})  # type: ignore[arg-type]

    make_environment = pages._environment.__wrapped__  # does not keep what it makes

    def unescaped(folder: Path) -> jinja2.Environment:
        environment: jinja2.Environment = make_environment(folder)
        environment.autoescape = False
        return environment

    objects, scripts = ([name for name in names if name.startswith(start)] for start in ("objects", "a script"))
    with mock.patch.object(files, "read_array", trusting):
        fired = sum("CODE WAS RUN" in line for line in trials.faults("control of arrays", objects, attack))
    with mock.patch.object(pages, "_environment", unescaped):
        shown = sum("the report obeys" in line for line in trials.faults("control of pages", scripts, attack))
    return FuzzResult(len(names), wrong, {"objects in arrays are read": fired, "nothing is escaped": shown})


def _try(options: argparse.Namespace, interrupts: Interrupts) -> FuzzResult:
    config = config_module.load(options.config, options.set)
    track, what = terminal.Tracker(interrupts, on_stderr=options.json), options.what
    identity = [to_tree(config), what, options.count, options.seed, options.steps, str(options.folder)]
    with Unfinished(config.data_dir, "fuzz_files", identity, Path(__file__).parent, anew=options.anew) as unfinished:
        trials = Trials(track, unfinished)
        if what == "configs":
            return try_configs(options.config, options.count or 1000, options.seed, trials)
        options.folder.mkdir(parents=True, exist_ok=True)
        run = fuzz_runs.small_run(trial.training(options.config, options.set, options.steps), options.folder)
        if what == "files":
            return try_files(run, options.count or 200, options.seed, trials)
        return try_hostile(run, trials)


def _show(what: str, result: FuzzResult) -> None:
    terminal.say(f"{what}: {result.tried} tried, {len(result.wrong)} went wrong")
    for line in result.wrong[:20]:
        terminal.say(f"  {line}")
    for name, noticed in result.controls.items():
        terminal.say(f"control, {name}: {f'noticed {noticed} times' if noticed else 'NOT NOTICED'}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = cli.config_parser(__doc__, EXAMPLES)
    parser.add_argument("what", choices=["configs", "files", "hostile"], help="what to break and feed the program")
    parser.add_argument(
        "--count", type=int, metavar="N", help="number of inputs (default 1000 configurations, 200 files)"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the damage (default 0)")
    parser.add_argument("--steps", type=int, default=5, metavar="N", help="steps of each phase of the run (default 5)")
    parser.add_argument(
        "--folder", type=Path, default=Path("runs/fuzz_files"), metavar="DIR",
        help="where that run stays (default runs/fuzz_files)",
    )  # fmt: skip
    cli.add_anew(parser)
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
