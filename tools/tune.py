"""Finds the fastest micro-batches and recomputation of every stage on this machine, within a budget of memory, and
remembers them for `micro_batch = "auto"` and `remat = "auto"`."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from llm60_jax import config as config_module
from llm60_jax.config import Config, to_tree
from llm60_jax.machine import cli, compilation_cache, devices, terminal
from llm60_jax.machine.signals import Interrupts
from llm60_jax.training import tuning

EXAMPLES = """examples:
  python tools/tune.py configs/quickstart.toml                            a minute or two
  python tools/tune.py configs/llm60.toml --memory-gb 6                   about ten minutes on two CPU cores
  python tools/tune.py configs/llm60.toml --set train.remat=full          micro-batches alone
  python tools/tune.py configs/llm60.toml --json > tuned.json

The step stays the same: it has the same tokens and the same gradient, cut otherwise. A run uses the answer where its
configuration says "auto" (and finds it by itself where there is none); the lines that are printed say the same as
settings.
"""


def lines_of(config: Config) -> list[str]:
    """What was found, as a configuration says it."""
    lines = [f"train.micro_batch = {json.dumps(to_tree(config)['train']['micro_batch'])}"]
    for phase in config.phase:
        if phase.remat:
            lines.append(f"phase.{phase.name}.remat = {json.dumps(phase.remat)}")
    return lines


def table(trials: list[tuning.Timed]) -> str:
    """Everything that was tried; what was chosen has a star."""
    headings = ("phase", "stage", "context", "frozen", "sequences", "remat", "MiB", "tokens/s", "")
    return terminal.columns(
        headings,
        [
            (
                one.phase,
                str(one.stage),
                str(one.context),
                str(one.frozen_blocks),
                str(one.micro_batch),
                one.remat,
                f"{one.bytes / 2**20:,.0f}",
                "does not fit" if one.tokens_per_second is None else f"{one.tokens_per_second:,.0f}",
                "*" if one.chosen else "",
            )
            for one in trials
        ],
    )


def main(arguments: list[str] | None = None) -> int:
    parser = cli.config_parser(__doc__, EXAMPLES)
    parser.add_argument("--memory-gb", type=float, metavar="GB", help="that a run may take (train.memory_gb)")
    parser.add_argument(
        "--rounds", type=int, default=2, metavar="N", help="steps of each that is in the race (default 2)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    if options.rounds < 1 or (options.memory_gb is not None and not options.memory_gb > 0):
        parser.error("--rounds must be 1 or more, and --memory-gb above 0")
    return cli.guarded("tune.py", lambda: _tune(options))


def _asked(options: argparse.Namespace) -> Config:
    """The configuration with what it leaves to measuring; all of it where it leaves nothing."""
    more = [] if options.memory_gb is None else [f"train.memory_gb={options.memory_gb}"]
    config = config_module.load(options.config, [*options.set, *more])
    if config.train.is_auto:
        return config
    named = {text.partition("=")[0].strip() for text in options.set}
    free = [name for name in ("train.micro_batch", "train.remat") if name not in named]
    return config_module.load(options.config, [*options.set, *more, *(f'{name}="auto"' for name in free)])


def _tune(options: argparse.Namespace) -> None:
    config = _asked(options)
    devices.ready(config)
    cache = compilation_cache.open_in(Path(config.data_dir))
    track = terminal.Tracker(Interrupts(), quiet=options.json)
    found, answer = tuning.tuned(config, track, options.rounds)
    compilation_cache.seal(cache)
    if options.json:
        told: dict[str, Any] = {"micro_batch": answer.micro_batch, "remat": answer.remat}
        print(json.dumps(told | {"trials": [one._asdict() for one in answer.trials]}, indent=1))
        return
    terminal.say(table(answer.trials))
    for line in lines_of(found):
        terminal.say(line)


if __name__ == "__main__":
    sys.exit(main())
