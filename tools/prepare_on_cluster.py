"""Prepare the text of a configuration in many tasks, by datatrove: on this machine, by Slurm, or by
Ray."""

import argparse
import importlib.util
import re
import subprocess
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from llm60_jax import config as config_module
from llm60_jax.data.corpus import units
from llm60_jax.data.corpus.corpus import Recipe
from llm60_jax.data.corpus.units import Unit
from llm60_jax.errors import InputError, Interrupted, MachineError
from llm60_jax.machine import cli, files, manifest, shipped, slurm, terminal
from llm60_jax.machine.progress import Track
from llm60_jax.machine.signals import Interrupts

EXAMPLES = """examples:
  # here, 4 tasks at a time
  python tools/prepare_on_cluster.py CONFIG --tasks 8 --workers 4
  # by Slurm; --wait returns when the jobs have ended
  python tools/prepare_on_cluster.py CONFIG --tasks 200 --executor slurm --partition cpu --time 04:00:00 --wait
  # by Ray, on the cluster that this machine is part of, or that RAY_ADDRESS names
  python tools/prepare_on_cluster.py CONFIG --tasks 200 --executor ray
  # what is missing; start nothing
  python tools/prepare_on_cluster.py CONFIG --check
  # afterwards: join the results
  python tools/prepare_data.py CONFIG

The tasks do the slow part, cleaning and screening. tools/prepare_data.py, or training, then joins
their results, which are the same to the byte as without tasks. All machines must see the same files
and the same data_dir, under the same paths. The same command again makes only the parts that are
missing. It ends with 5 if parts are missing afterwards, and names them.
"""
_SHOWN = 5  # missing parts that are named
_MEMORY = re.compile(r"(\d+)([MG])")
_BYTES = {"M": 2**20, "G": 2**30}
_SLURM_ONLY = ("partition", "time", "qos", "wait")  # options
Work = list[tuple[Unit, Path]]  # each unit with the folder that it belongs into


def _check(options: argparse.Namespace) -> None:
    """Raise InputError for options or packages that do not fit."""
    if options.tasks < 1 or options.workers == 0 or options.workers < -1:
        raise InputError(f"--tasks {options.tasks}, --workers {options.workers}: both must be 1 or more")
    if not _MEMORY.fullmatch(options.mem or "2G"):
        raise InputError(f"--mem {options.mem}: give a number and M or G, as in 500M or 4G")
    if options.executor != "slurm":
        for name in _SLURM_ONLY:
            if getattr(options, name):
                raise InputError(f"--{name} is for --executor slurm")
    if options.executor == "local" and options.mem:
        raise InputError("--mem is for --executor slurm and ray")
    if options.check:
        return
    if options.executor == "slurm" and not options.partition:
        raise InputError("--executor slurm needs --partition NAME; sinfo lists them")
    if importlib.util.find_spec("datatrove") is None:
        raise InputError(f"datatrove is not installed: {shipped.extra('cluster')}")
    if options.executor == "ray" and importlib.util.find_spec("ray") is None:
        raise InputError(f"--executor ray: ray is not installed: {shipped.extra('ray')}")
    if options.executor == "slurm":
        slurm.require()


def _recipes(options: argparse.Namespace, track: Track) -> list[Recipe]:
    """Return the recipes of the phases whose text is not prepared yet."""
    config = config_module.load(options.config, options.set)
    phases = config.phase if options.phase is None else [cli.phase_of(config, options.phase)]
    data_dir = Path(config.data_dir).resolve()
    recipes = [Recipe(phase, data_dir, track, config.evaluation_text) for phase in phases]
    for recipe in recipes:
        if manifest.exists(recipe.folder):
            terminal.say(f"phase {recipe.phase.name}: its text is prepared already")
    return [recipe for recipe in recipes if not manifest.exists(recipe.folder)]


def _present(work: Work) -> Work:
    """Return the units that are there, whole or damaged."""
    # A network disk shows what others made there once its folder is listed.
    folders = {path for parent in {parent for _, parent in work} if parent.is_dir() for path in parent.iterdir()}
    return [(unit, parent) for unit, parent in work if unit.folder(parent) in folders]


def _missing(work: Work, track: Track) -> Work:
    """Return the units that are not there, or damaged."""
    present = _present(work)
    tracked = track(present, "checking finished parts", len(present))
    whole = {unit.folder(parent) for unit, parent in tracked if units.is_whole(unit, parent)}
    return [(unit, parent) for unit, parent in work if unit.folder(parent) not in whole]


def _lack(missing: Work, total: int) -> str:
    """Return how many parts of `total` are missing, and the first ones by name."""
    named = "; ".join(f"{parent.name.rpartition('-')[0]}: {unit.name}" for unit, parent in missing[:_SHOWN])
    more = f"; and {len(missing) - _SHOWN:,} more" if len(missing) > _SHOWN else ""
    return f"{len(missing):,} of {total:,} parts are missing: {named}{more}"


def _executor(options: argparse.Namespace, missing: Work, logs: Path, name: str) -> Any:
    """Return the datatrove executor that the options ask for."""
    from llm60_jax.data.corpus import cluster

    common = cluster.MakeUnits(missing), logs, min(options.tasks, len(missing)), options.workers
    memory = options.mem or "2G"
    if options.executor == "slurm":
        limit, qos = options.time or "24:00:00", options.qos or ""
        return cluster.slurm(*common, name=name, partition=options.partition, time=limit, memory=memory, qos=qos)
    if options.executor == "ray":
        number, unit = _MEMORY.fullmatch(memory).groups()  # type: ignore[union-attr]
        return cluster.ray(*common, memory_bytes=int(number) * _BYTES[unit])
    return cluster.local(*common)


def _run(executor: Any) -> None:
    """Let the executor make the units; for Slurm, submit them."""
    try:
        executor.run()
    except OSError as error:
        raise MachineError(f"the tasks cannot be started: {error}") from None
    except subprocess.CalledProcessError:
        raise InputError("sbatch refused the job, see above; check --partition, --time, --mem and --qos") from None


def _make(options: argparse.Namespace, missing: Work, logs: Path, interrupts: Interrupts) -> bool:
    """Make units, or submit them to Slurm. Return whether the tasks have ended."""
    name, call_logs = logs.name.removeprefix("logs-"), logs / f"{datetime.now():%Y%m%d-%H%M%S-%f}"  # one of each call
    jobs = slurm.queued(name) if options.executor == "slurm" else []
    if jobs:
        terminal.say(f"An earlier call's tasks are still in the queue: {jobs[0].name}. No others are added.")
    else:
        _run(_executor(options, missing, call_logs, name))
    return options.executor != "slurm" or _look_after(options, missing, name, interrupts)


def _look_after(options: argparse.Namespace, missing: Work, name: str, interrupts: Interrupts) -> bool:
    """Wait for the Slurm jobs if that was asked for, else say how to. Return whether they have ended."""
    if not options.wait:
        terminal.say(
            f"The tasks are in Slurm's queue as {name}.\n"
            f"  watch them:          squeue --name={name}\n"
            f"  end them:            scancel --name={name}\n"
            "  see what is missing: the same command with --check (exit code 5 until all parts are there)\n"
            "  make what failed:    the same command, once the queue is empty"
        )
        return False
    try:
        slurm.wait(name, interrupts.check, lambda: f"{len(_present(missing)):,} of {len(missing):,} parts")
    except Interrupted as stop:
        stop.add_note(f"the tasks go on; scancel --name={name} ends them, the same command waits for them again")
        raise
    return True


def _prepare(options: argparse.Namespace, interrupts: Interrupts) -> None:
    _check(options)
    track = terminal.Tracker(interrupts)
    recipes = _recipes(options, track)
    work = [(unit, recipe.parts) for recipe in recipes for group in recipe.units(track) for unit in group]
    missing = _missing(work, track)
    if options.check and missing:
        raise MachineError(_lack(missing, len(work)))
    if missing:
        tasks = min(options.tasks, len(missing))
        terminal.say(
            f"{len(work):,} parts, {len(work) - len(missing):,} of them there; {tasks:,} tasks make the others"
        )
        name = f"llm60-{files.digest_of([recipe.digest for recipe in recipes])[:8]}"
        logs = recipes[0].data_dir / "screened" / f"logs-{name}"
        try:
            if not _make(options, missing, logs, interrupts):
                return
        except MachineError as failure:
            if (still := _missing(work, track)) != missing:
                failure.add_note(_lack(still, len(work)))
            raise
        if still := _missing(missing, track):
            raise MachineError(
                f"{_lack(still, len(work))}; the tasks' logs are in {logs}; the same command makes only what is missing"
            )
    if work:
        terminal.say(f"all {len(work):,} parts are there; join them: python tools/prepare_data.py, same configuration")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = cli.config_parser(__doc__, EXAMPLES)
    parser.add_argument("--phase", metavar="NAME", help="this phase only")
    parser.add_argument(
        "--executor", choices=["local", "slurm", "ray"], default="local", help="who runs the tasks (default: local)"
    )
    parser.add_argument("--tasks", type=int, default=1, metavar="N", help="number of tasks (default 1)")
    parser.add_argument("--workers", type=int, default=-1, metavar="N", help="tasks at a time (default: all)")
    parser.add_argument("--mem", metavar="SIZE", help="slurm, ray: memory of a task, as in 500M (default 2G)")
    parser.add_argument("--partition", metavar="NAME", help="slurm: the partition")
    parser.add_argument("--time", metavar="HH:MM:SS", help="slurm: the limit of a task (default 24:00:00)")
    parser.add_argument("--qos", metavar="NAME", help="slurm: the quality of service (default: Slurm's own)")
    parser.add_argument("--wait", action="store_true", help="slurm: return when the jobs have ended")
    parser.add_argument("--check", action="store_true", help="start nothing: count the parts and name those missing")
    return cli.run_tool("prepare_on_cluster.py", parser, arguments, _prepare, cli.PREPARED)


if __name__ == "__main__":
    sys.exit(main())
