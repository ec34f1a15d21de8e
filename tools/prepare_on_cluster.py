"""Prepare the text of a configuration in many tasks, by datatrove: on this machine, by Slurm, or by
Ray."""

import argparse
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llm60_jax import config as config_module
from llm60_jax.data.corpus.corpus import Recipe
from llm60_jax.data.corpus.units import UNIT_BYTES
from llm60_jax.errors import InputError, MachineError
from llm60_jax.machine import cli, shipped, terminal
from llm60_jax.machine.signals import Interrupts

EXAMPLES = """examples:
  # here, 4 tasks at a time
  python tools/prepare_on_cluster.py CONFIG --tasks 8 --workers 4
  # by Slurm
  python tools/prepare_on_cluster.py CONFIG --tasks 200 --executor slurm --partition cpu --time 04:00:00
  # by Ray
  python tools/prepare_on_cluster.py CONFIG --tasks 200 --executor ray
  # afterwards: join the results
  python tools/prepare_data.py CONFIG

The tasks do the slow part, cleaning and screening. tools/prepare_data.py, or training, then joins
their results, which are the same to the byte as without tasks. All machines must see the same files
and the same data_dir. To repeat failed tasks, run the same command again; it skips finished ones.
"""


def executor(options: argparse.Namespace, step: Any, logs: Path) -> Any:
    """Return the datatrove executor that the options ask for."""
    common = {
        "pipeline": [step],
        "tasks": options.tasks,
        "workers": options.workers,
        "logging_dir": str(logs),
        "skip_completed": False,  # the step itself skips finished units, and notices deleted ones
    }
    if options.executor == "slurm":
        from datatrove.executor.slurm import SlurmPipelineExecutor

        return SlurmPipelineExecutor(**common, time=options.time, partition=options.partition, job_name="llm60_jax")
    if options.executor == "ray":
        from datatrove.executor.ray import RayPipelineExecutor

        return RayPipelineExecutor(**common)
    from datatrove.executor.local import LocalPipelineExecutor

    return LocalPipelineExecutor(**common)


def _check(options: argparse.Namespace) -> None:
    """Raise InputError for options or packages that do not fit."""
    if options.tasks < 1 or options.workers == 0 or options.workers < -1:
        raise InputError(f"--tasks {options.tasks}, --workers {options.workers}: both must be 1 or more")
    if options.executor == "slurm" and not options.partition:
        raise InputError("--executor slurm needs --partition NAME")
    if importlib.util.find_spec("datatrove") is None:
        raise InputError(f"datatrove is not installed: {shipped.extra('cluster')}")
    if options.executor == "ray" and importlib.util.find_spec("ray") is None:
        raise InputError("--executor ray: ray is not installed: pip install ray")


def _prepare(options: argparse.Namespace, interrupts: Interrupts) -> None:
    _check(options)
    from llm60_jax.data.corpus.cluster import MakeUnits

    config = config_module.load(options.config, options.set)
    phases = config.phase if options.phase is None else [cli.phase_of(config, options.phase)]
    data_dir = Path(config.data_dir).resolve()
    recipes = [Recipe(phase, data_dir, terminal.Tracker(interrupts), config.evaluation_text) for phase in phases]
    step = MakeUnits(recipes)
    terminal.say(f"{len(step.work):,} parts of {UNIT_BYTES / 1e6:g} MB or one file each, {options.tasks} tasks")
    logs = data_dir / "screened" / "-".join(["logs", *(recipe.digest[:8] for recipe in recipes), str(options.tasks)])
    try:
        executor(options, step, logs).run()
    except OSError as error:
        raise MachineError(f"the tasks cannot be started: {error}") from None
    terminal.say("when all tasks are done, join them: python tools/prepare_data.py with the same configuration")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = cli.config_parser(__doc__, EXAMPLES)
    parser.add_argument("--phase", metavar="NAME", help="this phase only")
    parser.add_argument(
        "--executor", choices=["local", "slurm", "ray"], default="local", help="who runs the tasks (default: local)"
    )
    parser.add_argument("--tasks", type=int, default=1, metavar="N", help="number of tasks (default 1)")
    parser.add_argument("--workers", type=int, default=-1, metavar="N", help="tasks at a time (default: all)")
    parser.add_argument("--partition", metavar="NAME", help="slurm: the partition")
    parser.add_argument("--time", default="24:00:00", metavar="HH:MM:SS", help="slurm: the limit (default 24:00:00)")
    return cli.run_tool("prepare_on_cluster.py", parser, arguments, _prepare, cli.PREPARED)


if __name__ == "__main__":
    sys.exit(main())
