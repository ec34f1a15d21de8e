"""The units of a corpus on many machines, by datatrove (extra `cluster`): its step, and its three executors."""

import contextlib
import os
import re
import shlex
import socket
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from datatrove.executor.local import LocalPipelineExecutor
from datatrove.executor.slurm import SlurmPipelineExecutor
from datatrove.pipeline.base import PipelineStep

from llm60_jax.data.corpus import units
from llm60_jax.data.corpus.units import Unit
from llm60_jax.errors import Failure, InputError, MachineError

_PACKAGES = Path(__file__).resolve().parents[3]  # where this package is imported from
_STARTER = "launch_pickled_pipeline"  # datatrove's command in a Slurm task


class MakeUnits(PipelineStep):
    """Makes a share of the units: task r of n makes every n-th one, starting with the r-th.

    All machines see the same files. `corpus.prepare` joins the units: the same bytes as from one
    process. A unit that exists is skipped, so a pipeline can run twice.

    Args:
      work: each unit with the folder that it belongs into.
    """

    type = "Cleaning"
    name = "units of a corpus"

    def __init__(self, work: Sequence[tuple[Unit, Path]]):
        super().__init__()
        self.work = list(work)
        self._place = Path.cwd()  # relative paths of a configuration count from here

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> Iterator[Any]:
        """Make this task's share; documents of earlier steps pass unchanged.

        A unit that fails does not stop the others. Raise its Failure at the end.
        """
        failures: list[Failure] = []
        with contextlib.chdir(self._place):
            for unit, parent in self.work[rank::world_size]:
                try:
                    with self.track_time("unit"):
                        units.make_one(unit, parent)
                    self.stat_update("units")
                except Failure as failure:
                    failures.append(failure)
        if failures:
            raise failures[0]
        yield from data or ()


def local(step: MakeUnits, logs: Path, tasks: int, workers: int) -> LocalPipelineExecutor:
    """Return an executor whose tasks are processes of this machine."""
    return LocalPipelineExecutor(**_common(step, logs, tasks, workers))


def slurm(
    step: MakeUnits,
    logs: Path,
    tasks: int,
    workers: int,
    *,
    name: str,
    partition: str,
    time: str,
    memory: str,
    qos: str,
) -> SlurmPipelineExecutor:
    """Return an executor that submits an array of Slurm jobs called `name`, and does not wait for them.

    The tasks run with the Python of this process and its PYTHONPATH. Settings are as `sbatch` has
    them. Raise OSError.
    """
    # The environment's own starter may lie elsewhere, or have another Python in its first line.
    starter = logs / "bin" / _STARTER
    starter.parent.mkdir(parents=True)
    starter.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m datatrove.tools.{_STARTER} "$@"\n')
    starter.chmod(0o755)
    path = os.pathsep.join([str(starter.parent), str(Path(sys.executable).parent)])
    return _Slurm(
        **_common(step, logs, tasks, workers),
        job_name=name,
        partition=partition,
        time=time,
        qos=qos,
        sbatch_args={"mem-per-cpu": memory},
        env_command=f'export PATH={shlex.quote(path)}:"$PATH" PYTHONPATH={shlex.quote(_python_path())}',
    )


def ray(step: MakeUnits, logs: Path, tasks: int, workers: int, *, memory_bytes: int) -> Any:
    """Return an executor that runs tasks on the Ray cluster that RAY_ADDRESS names, or that this machine is part of.

    Raises:
      MachineError: there is no such cluster.
      InputError: no node of it has the memory.
    """
    import ray as engine
    from datatrove.executor.ray import RayPipelineExecutor

    address = os.environ.get("RAY_ADDRESS", "auto")
    try:
        if place := re.fullmatch(r"(?:ray://)?([^:/]+):(\d+)", address):  # Ray itself tries for minutes
            socket.create_connection((place[1], int(place[2])), timeout=10).close()
        environment = {"env_vars": {"PYTHONPATH": _python_path()}}
        engine.init(address=address, runtime_env=environment, log_to_driver=False)
    except (OSError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise MachineError(
            f"no Ray cluster can be reached at '{address}': {reason}; start one (ray start --head) or set RAY_ADDRESS"
        ) from None
    largest = max(node["Resources"].get("memory", 0) for node in engine.nodes() if node["Alive"])
    if largest < memory_bytes:  # Ray would wait for such a node for ever
        raise InputError(
            f"--mem: a task is to have {memory_bytes / 2**30:.1f} GiB, but the largest node of the Ray cluster has "
            f"{largest / 2**30:.1f} GiB"
        )
    return RayPipelineExecutor(**_common(step, logs, tasks, workers), mem_per_cpu_gb=memory_bytes / 2**30)


class _Slurm(SlurmPipelineExecutor):
    def launch_merge_stats(self) -> None:
        """Submit no job that merges statistics: it would wait in the queue for ever after a failed task."""


def _common(step: MakeUnits, logs: Path, tasks: int, workers: int) -> dict[str, Any]:
    return {
        "pipeline": [step],
        "tasks": tasks,
        "workers": workers,
        "logging_dir": str(logs),
        "skip_completed": False,  # the step itself skips finished units, and notices deleted ones
    }


def _python_path() -> str:
    return os.pathsep.join(filter(None, [str(_PACKAGES), os.environ.get("PYTHONPATH", "")]))
