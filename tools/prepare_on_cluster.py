"""Cleans and screens the text of a configuration in many tasks, by datatrove: on this machine, by Slurm, or by Ray.

The slow part of preparing text, shared out. tools/prepare_data.py, or training itself, then joins what the tasks made:
the result is the same to the byte as without them. All machines must see the same files and the same data_dir."""

import argparse
import importlib.util
import sys
from pathlib import Path
from typing import Any

from llm60_jax import config as config_module
from llm60_jax.config import Config
from llm60_jax.data.corpus.corpus import Recipe
from llm60_jax.data.corpus.units import UNIT_BYTES
from llm60_jax.errors import InputError, MachineError
from llm60_jax.machine import cli, terminal
from llm60_jax.machine.signals import Interrupts

EXAMPLES = """examples:
  python tools/prepare_on_cluster.py CONFIG --tasks 8 --workers 4                     here, 4 tasks at a time
  python tools/prepare_on_cluster.py CONFIG --tasks 200 --executor slurm --partition cpu --time 04:00:00
  python tools/prepare_on_cluster.py CONFIG --tasks 200 --executor ray
  python tools/prepare_data.py CONFIG                                                 then: joins what they made

A task that failed is made again by the same command; those that are done are not.
"""


def executor(options: argparse.Namespace, step: Any, logs: Path) -> Any:
    """The datatrove executor that the options ask for."""
    common = {
        "pipeline": [step],
        "tasks": options.tasks,
        "workers": options.workers,
        "logging_dir": str(logs),
        "skip_completed": False,  # units that are there are skipped, and they can have been removed since
    }
    if options.executor == "slurm":
        from datatrove.executor.slurm import SlurmPipelineExecutor

        return SlurmPipelineExecutor(**common, time=options.time, partition=options.partition, job_name="llm60_jax")
    if options.executor == "ray":
        from datatrove.executor.ray import RayPipelineExecutor

        return RayPipelineExecutor(**common)
    from datatrove.executor.local import LocalPipelineExecutor

    return LocalPipelineExecutor(**common)


def _do(config: Config, options: argparse.Namespace) -> None:
    if importlib.util.find_spec("datatrove") is None:
        raise InputError("datatrove is not installed: pip install '.[cluster]'")
    if options.executor == "ray" and importlib.util.find_spec("ray") is None:
        raise InputError("--executor ray: ray is not installed: pip install ray")
    from llm60_jax.data.corpus.cluster import MakeUnits

    phases = config.phase if options.phase is None else [cli.phase_of(config, options.phase)]
    track = terminal.Tracker(Interrupts())
    data_dir = Path(config.data_dir).resolve()
    plans = [Recipe(phase, data_dir, track, config.evaluation_text) for phase in phases]
    step = MakeUnits(plans)
    terminal.say(f"{len(step.work):,} parts of {UNIT_BYTES / 1e6:g} MB or one file each, {options.tasks} tasks")
    logs = data_dir / "screened" / "-".join(["logs", *(plan.digest[:8] for plan in plans), str(options.tasks)])
    try:
        executor(options, step, logs).run()
    except OSError as error:
        raise MachineError(f"the tasks cannot be started: {error}") from None
    terminal.say("now join them: python tools/prepare_data.py with the same configuration, once all tasks are done")


def main(arguments: list[str] | None = None) -> int:
    parser = cli.config_parser(__doc__, EXAMPLES)
    parser.add_argument("--phase", metavar="NAME", help="this phase only")
    parser.add_argument("--executor", choices=["local", "slurm", "ray"], default="local", help="default: local")
    parser.add_argument("--tasks", type=int, default=1, metavar="N", help="into how many tasks (default 1)")
    parser.add_argument("--workers", type=int, default=-1, metavar="N", help="tasks at a time (default: all)")
    parser.add_argument("--partition", metavar="NAME", help="slurm: the partition")
    parser.add_argument("--time", default="24:00:00", metavar="HH:MM:SS", help="slurm: the limit (default 24:00:00)")
    options = parser.parse_args(arguments)
    if options.tasks < 1 or options.workers == 0 or options.workers < -1:
        parser.error("--tasks and --workers must be 1 or more")
    if options.executor == "slurm" and not options.partition:
        parser.error("--executor slurm needs --partition")
    return cli.guarded("prepare_on_cluster.py", lambda: _do(config_module.load(options.config, options.set), options))


if __name__ == "__main__":
    sys.exit(main())
