"""Slurm's queue, as its command `squeue` shows it."""

import getpass
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from llm60_jax.errors import InputError, MachineError
from llm60_jax.machine import terminal

_FIRST_SECONDS, _MOST_SECONDS = 1.0, 20.0  # between two looks at the queue: they cost its controller time
_LINES_APART_SECONDS = 60.0
_LOST_SECONDS = 600.0  # without an answer of the controller


class Job(NamedTuple):
    """A job that has not ended. An array's waiting tasks are one job."""

    name: str  # "12", or "12_[3-7]"
    state: str  # "RUNNING", "PENDING", ...
    reason: str  # why it waits; "None" if it does not


def require() -> None:
    """Raise InputError unless Slurm's commands are here."""
    missing = [command for command in ("sbatch", "squeue") if shutil.which(command) is None]
    if missing:
        raise InputError(f"{' and '.join(missing)} not found: run this where jobs are submitted to Slurm")


def queued(name: str) -> list[Job]:
    """Return this user's jobs of a name that wait or run.

    Raise MachineError if the controller does not answer.
    """
    command = ["squeue", "--noheader", f"--user={getpass.getuser()}", f"--name={name}", "--format=%i|%T|%r"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MachineError(f"squeue: {error}") from None
    if result.returncode:
        raise MachineError(f"squeue: {' '.join(result.stderr.split())[:300]}")
    return [Job(*line.split("|", 2)) for line in result.stdout.splitlines()]


def wait(name: str, check: Callable[[], None], done: Callable[[], str]) -> None:
    """Return when no job of a name waits or runs any more.

    Args:
      check: called twice a second; may raise.
      done: returns what is done so far, for the lines that are shown now and then.

    Raises:
      MachineError: all jobs that are left are held, so that they never run by themselves; or the
        controller does not answer for ten minutes.
    """
    pause, shown, due, answered = _FIRST_SECONDS, "", 0.0, time.monotonic()
    while True:
        check()
        try:
            jobs = queued(name)
            answered = time.monotonic()
        except MachineError:
            if time.monotonic() - answered > _LOST_SECONDS:
                raise
            _pause(pause, check)
            continue
        if not jobs:
            return
        if all("held" in job.reason.lower() for job in jobs):
            raise MachineError(
                f"Slurm holds the jobs that are left ({jobs[0].reason}); see scontrol show job {jobs[0].name}, then "
                f"let them run (scontrol release) or end them (scancel --name={name})"
            )
        kinds = Counter(job.state.lower() + ("" if job.reason == "None" else f" ({job.reason})") for job in jobs)
        if ", ".join(sorted(kinds)) != shown or time.monotonic() > due:
            shown, due = ", ".join(sorted(kinds)), time.monotonic() + _LINES_APART_SECONDS
            terminal.say(f"Slurm: {shown}; {done()}")
        _pause(pause, check)
        pause = min(2 * pause, _MOST_SECONDS)


def _pause(seconds: float, check: Callable[[], None]) -> None:
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        check()
        time.sleep(min(left, 0.5))
