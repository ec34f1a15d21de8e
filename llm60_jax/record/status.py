"""Whether a run is under way, from its files alone. The lock is never taken, and nothing is written."""

import platform
import re
import time
from pathlib import Path
from typing import Literal, NamedTuple

import psutil

from llm60_jax.machine import manifest, terminal
from llm60_jax.record.history import History
from llm60_jax.record.workdir import QUIET_SECONDS

Word = Literal["under way", "finished", "stopped", "interrupted"]
_MOST_BYTES = 200  # of a lock's file
_LATER = 5  # seconds by which the clock of the disk may be behind


class Status(NamedTuple):
    """The state of a run, and why."""

    word: Word
    reason: str = ""
    pid: int | None = None  # of the process that trains, if it is on this computer


class Holder(NamedTuple):
    """The process that a lock's file names (machine/locks.py)."""

    pid: int
    computer: str


def of(run: History) -> Status:
    """Return the state of a run by its lock's text, its gates, its phase checkpoints and its last row."""
    process = holder(run.path)
    if process and is_alive(run.path, process):
        here = process.computer == platform.node()
        where = "" if here else f" on {process.computer}"
        return Status("under way", f"process {process.pid}{where}", process.pid if here else None)
    if all(manifest.exists(run.path / "phases" / name) for name in run.config.phase_names):
        return Status("finished")
    if run.rows and (reason := run.rows[-1].get("stopped")):
        return Status("stopped", reason)
    for name, gate in run.gates.items():
        if not gate["passed"] and not gate.get("override"):
            unmet = [check["name"] for check in gate.get("checks", []) if not check["passed"]]
            return Status("stopped", f"the gate of {name} did not pass" + (f": {', '.join(unmet)}" if unmet else ""))
    if process:
        return Status("interrupted", f"its process ({process.pid}) was killed; the same command resumes it")
    return Status("interrupted", "the same command resumes it")


def holder(path: Path) -> Holder | None:
    """Return the process that the lock of a run directory names, alive or not."""
    try:
        if not (path / "lock").is_file():  # reading a pipe would wait for ever
            return None
        with (path / "lock").open("rb") as file:
            text = file.read(_MOST_BYTES).decode("utf-8", "replace")
    except OSError:
        return None
    named = re.fullmatch(r"pid (\d{1,9}) on (.+), since [\d: -]+", text.strip())
    return Holder(int(named[1]), terminal.printable(named[2])) if named else None


def is_alive(path: Path, process: Holder) -> bool:
    """Return whether a holder still runs. One on another computer does if the log has had a line a short while ago."""
    try:
        if process.computer != platform.node():
            return abs(time.time() - (path / "log.txt").stat().st_mtime) < QUIET_SECONDS
        running = psutil.Process(process.pid)
        # A later process may have been given the same number.
        signed = (path / "lock").stat().st_mtime
        return running.status() != psutil.STATUS_ZOMBIE and bool(running.create_time() <= signed + _LATER)
    except (OSError, psutil.Error):
        return False
