"""Find the fastest micro-batches and recomputation of every stage on this machine, within a memory
budget."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from llm60_jax import config as config_module
from llm60_jax.config import Config, to_tree
from llm60_jax.errors import InputError
from llm60_jax.kernels import library
from llm60_jax.machine import cli, compilation_cache, devices, terminal
from llm60_jax.machine.signals import Interrupts
from llm60_jax.training import tuning

EXAMPLES = """examples:
  # a few minutes
  python tools/tune.py configs/quickstart.toml
  # a memory budget of 6 GB
  python tools/tune.py configs/llm60.toml --memory-gb 6
  # micro-batches alone
  python tools/tune.py configs/llm60.toml --set train.remat=full
  # for scripts
  python tools/tune.py configs/llm60.toml --json > tuned.json

Tuning changes how a step is cut, not what it computes: tokens and gradient stay the same. The
answer is cached; runs whose configuration says `micro_batch = "auto"` or `remat = "auto"` use it,
or measure it themselves. The printed lines are the same settings, written out.

Every candidate runs whole steps. So the time depends on the machine: the tool says how many
programs it may try and, from the first step on, how long the rest takes at most. The 60 layers take
some ten minutes on two cores that have bfloat16 products, and hours on older ones.
"""


def lines_of(config: Config) -> list[str]:
    """Return the tuned settings as lines of a configuration."""
    lines = [f"train.micro_batch = {json.dumps(to_tree(config)['train']['micro_batch'])}"]
    for phase in config.phase:
        if phase.remat:
            lines.append(f"phase.{phase.name}.remat = {json.dumps(phase.remat)}")
    return lines


def table(trials: Sequence[tuning.Timed]) -> str:
    """Return all trials as text; a star marks the chosen ones."""
    headings = ("phase", "stage", "context", "frozen", "sequences", "remat", "MiB", "tokens/s", "")
    rows = [
        (
            trial.phase,
            str(trial.stage),
            str(trial.context),
            str(trial.frozen_blocks),
            str(trial.micro_batch),
            trial.remat,
            f"{trial.bytes / 2**20:,.0f}",
            "does not fit" if trial.tokens_per_second is None else f"{trial.tokens_per_second:,.0f}",
            "*" if trial.chosen else "",
        )
        for trial in trials
    ]
    return terminal.columns(headings, rows)


def _untuned(options: argparse.Namespace) -> Config:
    """Return the configuration with its "auto" fields; if it has none, with both fields set to
    "auto"."""
    budget = [] if options.memory_gb is None else [f"train.memory_gb={options.memory_gb}"]
    config = config_module.load(options.config, [*options.set, *budget])
    if config.train.is_auto:
        return config
    overridden = {text.partition("=")[0].strip() for text in options.set}
    free = [name for name in ("train.micro_batch", "train.remat") if name not in overridden]
    return config_module.load(options.config, [*options.set, *budget, *(f'{name}="auto"' for name in free)])


def _tune(options: argparse.Namespace, interrupts: Interrupts) -> None:
    if options.rounds < 1:
        raise InputError(f"--rounds: {options.rounds}, but it must be 1 or more")
    if options.memory_gb is not None and not options.memory_gb > 0:
        raise InputError(f"--memory-gb: {options.memory_gb:g}, but it must be above 0")
    config = _untuned(options)
    config, _ = devices.ready(config)
    config = library.settled(config)
    track = terminal.Tracker(interrupts, on_stderr=options.json)
    programs, seconds = tuning.forecast(config, options.rounds)
    known = f"some {terminal.duration(seconds)} of steps by what was measured before" if seconds else ""
    with terminal.hushed(options.json):
        terminal.say(
            f"up to {programs} programs, each compiled and timed with steps of {config.train.tokens_per_step:,} "
            f"tokens; {known or 'the first step shows how long it takes'}"
        )
    with compilation_cache.shared(Path(config.data_dir)):
        tuned, answer = tuning.tuned(config, track, options.rounds, options.anew)
    if options.json:
        trials = [trial._asdict() for trial in answer.trials]
        print(json.dumps({"micro_batch": answer.micro_batch, "remat": answer.remat, "trials": trials}, indent=1))
        return
    terminal.say(table(answer.trials))
    for line in lines_of(tuned):
        terminal.say(line)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = cli.config_parser(__doc__, EXAMPLES)
    parser.add_argument("--memory-gb", type=float, metavar="GB", help="memory that a run may use (train.memory_gb)")
    parser.add_argument("--rounds", type=int, default=2, metavar="N", help="steps of each candidate (default 2)")
    cli.add_anew(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return cli.run_tool("tune.py", parser, arguments, _tune)


if __name__ == "__main__":
    sys.exit(main())
