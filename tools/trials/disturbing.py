"""Disturb the processes of a training by signals, and check what they leave behind."""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import trial

from llm60_jax.errors import Failure
from llm60_jax.record import checkpoints
from llm60_jax.record.workdir import WorkDir

PATIENCE_SECONDS = 600.0  # limit for a process to reach the moment of its signal
_STARTED_SECONDS = 1.0  # until Python surely runs our code, with our signal handlers
LEAVES_WITHIN_SECONDS = 2.0  # limit for a process to end after a second signal


class Tally:
    """Counts and faults of the disturbed processes."""

    def __init__(
        self,
        disturbed: int = 0,
        while_saving: int = 0,
        completed: int = 0,
        seconds: Iterable[float] = (),
        faults: Iterable[str] = (),
    ) -> None:
        self.disturbed, self.while_saving, self.completed = disturbed, while_saving, completed
        self.seconds = list(seconds)  # from the signal to the end of each process
        self.faults = list(faults)

    def to_tree(self) -> dict[str, Any]:
        return {**vars(self), "seconds": [round(value, 2) for value in self.seconds]}


class Disturbance(NamedTuple):
    """A signal; `twice` sends a second one after the first."""

    signal: signal.Signals
    twice: bool = False


def disturb(
    training: trial.Training,
    folder: Path,
    way: Disturbance,
    count: int,
    rng: random.Random,
    fresh_data: bool,
    tally: Tally,
) -> Iterator[int]:
    """Disturb `count` processes of a training one after another, and count in `tally`. Yield after
    each.

    They share a run until it is complete; then a new run begins. The last run is completed.
    """
    workdir, reference = folder / way.signal.name.lower(), folder / "reference"
    data = folder / "data"
    more = (f"data_dir={data}",) if fresh_data else ()
    while tally.disturbed < count:
        shutil.rmtree(workdir, ignore_errors=True)
        shutil.rmtree(data, ignore_errors=True)
        is_complete = False
        while not is_complete:
            before = trial.committed(workdir)
            process, *others = rng.sample(started := training.start_all(workdir, *more), len(started))
            if tally.disturbed < count:
                before |= _wait(process, workdir, _moment(rng, workdir, fresh_data))
            seconds, errors = _strike(process, way, rng) if tally.disturbed < count else (0.0, process.communicate()[1])
            struck, is_complete = time.monotonic() - seconds, process.returncode == 0
            errors_of_others = [other.communicate()[1] for other in others]
            seconds = time.monotonic() - struck if others else seconds
            if is_complete:
                tally.completed += 1
                if tally.completed > 2 * count + 10:
                    raise Failure(f"{workdir}: processes end before their signal; use more --steps")
                tally.faults += trial.final_faults(workdir, reference)
                continue
            if tally.disturbed == count:
                raise Failure(f"{workdir}: the undisturbed rest of the run failed: {errors[-800:]}")
            tally.disturbed += 1
            tally.seconds.append(seconds)
            tally.while_saving += bool(trial.being_saved(workdir))
            tally.faults += [f"{way.signal.name}: {fault}" for fault in _answer(process, errors, way, workdir, seconds)]
            for other, messages in zip(others, errors_of_others, strict=True):
                tally.faults += [f"{way.signal.name}: {fault}" for fault in _answer_of_other(other, messages, way)]
            tally.faults += trial.faults(workdir, reference, before)
            yield tally.disturbed


def _wait(process: "subprocess.Popen[str]", workdir: Path, moment: Callable[[], bool]) -> dict[str, str]:
    """Wait for the moment to strike, or the end of the process, and return what is committed
    then."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while process.poll() is None and not moment() and time.monotonic() < deadline:
        time.sleep(0.001)
    return trial.committed(workdir) if process.poll() is None else {}


def _strike(process: "subprocess.Popen[str]", way: Disturbance, rng: random.Random) -> tuple[float, str]:
    """Send the signals, and return the seconds until the process ends, and its messages."""
    start = time.monotonic()
    with contextlib.suppress(ProcessLookupError):  # it has ended by itself
        os.killpg(process.pid, way.signal)
        if way.twice:
            time.sleep(rng.uniform(0, 1))
            start = time.monotonic()
            os.killpg(process.pid, way.signal)
    _, errors = process.communicate()
    return time.monotonic() - start, errors


def _moment(rng: random.Random, workdir: Path, from_the_beginning: bool) -> Callable[[], bool]:
    """Return when to strike: at any time, some time after a commit, or while a checkpoint is
    written."""
    kind = rng.choices(["any", "committed", "saving"], [0.2, 0.3, 0.5])[0]
    if kind == "any":
        return _after(rng.uniform(_STARTED_SECONDS, 40.0 if from_the_beginning else 12.0))
    earlier, wanted = {path.name for path in checkpoints.listed(workdir)}, rng.randint(1, 3)
    wait = rng.uniform(0, 2.0 if kind == "committed" else 0.05)
    met: set[str] = set()
    due: list[Callable[[], bool]] = []

    def struck() -> bool:
        if not due:
            now = (
                (path.name for path in checkpoints.listed(workdir))
                if kind == "committed"
                else trial.being_saved(workdir)
            )
            met.update(now)
            if len(met - earlier) >= wanted:
                due.append(_after(wait))
        return bool(due) and due[0]()

    return struck


def _after(seconds: float) -> Callable[[], bool]:
    end = time.monotonic() + seconds
    return lambda: time.monotonic() >= end


def _answer(
    process: "subprocess.Popen[str]", errors: str, way: Disturbance, workdir: Path, seconds: float
) -> Iterator[str]:
    """Yield what is wrong with a process's answer to its signals."""
    expected = -signal.SIGKILL if way.signal == signal.SIGKILL else 128 + way.signal
    if process.returncode != expected:
        yield f"exit code {process.returncode} instead of {expected}: {errors[-500:]}"
    if "Traceback" in errors:
        yield f"a traceback: {errors[-500:]}"
    if not _is_gone(process.pid):
        yield "left processes behind"
    if way.signal == signal.SIGKILL:
        return
    if way.twice:
        if seconds > LEAVES_WITHIN_SECONDS:
            yield f"took {seconds:.1f} s to leave at once"
        return
    if workdir.joinpath("metrics.jsonl").exists():
        done = max([row["step"] for row in WorkDir(workdir).rows() if "loss" in row], default=0)
        if trial.step_of(workdir) < done:
            yield f"step {done} was trained, but only step {trial.step_of(workdir)} is saved"


def _answer_of_other(process: "subprocess.Popen[str]", errors: str, way: Disturbance) -> Iterator[str]:
    """Yield what is wrong with the end of a process of the same run that got no signal itself.

    A lost process ends it with 5; JAX may be faster and abort it. A signal to one stops all.
    """
    lost, stopped = (5, -signal.SIGABRT), (128 + way.signal,)
    expected = (*lost, *stopped) if way.twice else lost if way.signal == signal.SIGKILL else stopped
    if process.returncode not in expected:
        yield f"exit code {process.returncode} of another process instead of {expected[0]}: {errors[-500:]}"
    if process.returncode == 5 and "gone" not in errors and "not come" not in errors and "not answer" not in errors:
        yield f"another process does not say who is gone: {errors[-500:]}"


def _is_gone(group: int) -> bool:
    """Return whether no process of a group is left; wait a moment for it."""
    for _ in range(100):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
        time.sleep(0.1)
    return False
