"""Proves that a run which is killed or interrupted goes on bit for bit, by doing it: real processes, real signals."""

import argparse
import contextlib
import dataclasses
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import trial

from llm60_jax.errors import DamageError, Failure, InputError
from llm60_jax.machine import cli, manifest, terminal
from llm60_jax.machine.signals import Interrupts
from llm60_jax.record import checkpoints
from llm60_jax.record.workdir import WorkDir

EXAMPLES = """examples:
  python tools/verify_resume.py configs/tiny.toml                        10 kills, about 3 minutes
  python tools/verify_resume.py configs/tiny.toml --kills 200 --folder runs/kills
  python tools/verify_resume.py configs/tiny.toml --kills 0 --interrupts 50 --signal TERM --fresh-data
  python tools/verify_resume.py configs/llm60.toml --kills 3             the real model, on your machine: hours

A short training of the configuration's phases (--steps each, gates open) runs once undisturbed. Then it runs again and
again, and is killed at random: anywhere, or while a checkpoint is being written. Every checkpoint it commits must have
the state of the undisturbed run at that step: weights, optimizer, random numbers, position in the data. None that was
committed may be lost, and at the end all rows of metrics must be equal too.

Last come negative controls, processes that resume wrongly on purpose: each must be found out. The exit code is 0 if
everything is as it should be, else 1.
"""
PATIENCE = 600.0  # seconds that a process may take to come to where it is to be disturbed
_BEGUN = 1.0  # seconds after which Python is sure to run our code; before, it answers signals in its own way
LEAVES_WITHIN = 2.0  # seconds after a second signal


# --- Disturbing a run ------------------------------------------------------------------------------------------------


class Tally:
    """What was done and what came of it."""

    def __init__(self) -> None:
        self.disturbed = self.while_saving = self.completed = 0
        self.seconds: list[float] = []  # from a signal to the end of the process
        self.faults: list[str] = []

    def to_tree(self) -> dict[str, Any]:
        return {**vars(self), "seconds": [round(one, 2) for one in self.seconds]}


class Way(NamedTuple):
    """How a run is disturbed. `twice`: a second signal follows the first."""

    signal: signal.Signals
    twice: bool = False


def disturb(
    training: trial.Training, folder: Path, way: Way, count: int, rng: random.Random, fresh_data: bool, tally: Tally
) -> Iterator[int]:
    """Disturbs so many processes of a training, one after the other on the same run until that is complete, then on a
    new one; the last run is completed. Yields after each, and keeps the tally."""
    workdir, reference = folder / way.signal.name.lower(), folder / "reference"
    data = folder / "data"
    more = (f"data_dir={data}",) if fresh_data else ()
    while tally.disturbed < count:
        shutil.rmtree(workdir, ignore_errors=True)
        shutil.rmtree(data, ignore_errors=True)
        is_complete = False
        while not is_complete:
            before = trial.committed(workdir)
            process = training.start(workdir, *more)
            if tally.disturbed < count:
                before |= _wait(process, workdir, _moment(rng, workdir, fresh_data))
            seconds, errors = _strike(process, way, rng) if tally.disturbed < count else (0.0, process.communicate()[1])
            is_complete = process.returncode == 0
            if is_complete:
                tally.completed += 1
                if tally.completed > 2 * count + 10:
                    raise Failure(f"{workdir}: processes end before they can be disturbed; ask for more --steps")
                tally.faults += trial.final_faults(workdir, reference)
                continue
            if tally.disturbed == count:
                raise Failure(f"{workdir}: does not come to its end: {errors[-800:]}")
            tally.disturbed += 1
            tally.seconds.append(seconds)
            tally.while_saving += bool(trial.being_saved(workdir))
            tally.faults += [f"{way.signal.name}: {fault}" for fault in _answer(process, errors, way, workdir, seconds)]
            tally.faults += trial.faults(workdir, reference, before)
            yield tally.disturbed


def _wait(process: "subprocess.Popen[str]", workdir: Path, moment: Callable[[], bool]) -> dict[str, str]:
    """Waits for the moment to strike, or the end of the process, and returns what is committed then."""
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and not moment() and time.monotonic() < deadline:
        time.sleep(0.001)
    return trial.committed(workdir) if process.poll() is None else {}


def _strike(process: "subprocess.Popen[str]", way: Way, rng: random.Random) -> tuple[float, str]:
    """Sends the signals, and returns how long the process took to end, and what it said."""
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
    """When to strike: at any time; some time after something was committed; or while a checkpoint is written."""
    kind = rng.choices(["any", "committed", "saving"], [0.2, 0.3, 0.5])[0]
    if kind == "any":
        return _after(rng.uniform(_BEGUN, 40.0 if from_the_beginning else 12.0))
    known, wanted = {path.name for path in checkpoints.listed(workdir)}, rng.randint(1, 3)
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
            if len(met - known) >= wanted:
                due.append(_after(wait))
        return bool(due) and due[0]()

    return struck


def _after(seconds: float) -> Callable[[], bool]:
    end = time.monotonic() + seconds
    return lambda: time.monotonic() >= end


def _answer(process: "subprocess.Popen[str]", errors: str, way: Way, workdir: Path, seconds: float) -> Iterator[str]:
    """What is wrong with how a process took a signal."""
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
        if seconds > LEAVES_WITHIN:
            yield f"took {seconds:.1f} s to leave at once"
        return
    if workdir.joinpath("metrics.jsonl").exists():
        done = max([row["step"] for row in WorkDir(workdir).rows() if "loss" in row], default=0)
        if trial.step_of(workdir) < done:
            yield f"step {done} was trained, and only step {trial.step_of(workdir)} is saved"


def _is_gone(group: int) -> bool:
    """Whether no process of a group is left, or will be in a moment."""
    for _ in range(100):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
        time.sleep(0.1)
    return False


# --- Negative controls -----------------------------------------------------------------------------------------------


def _lose_iterator() -> None:
    from llm60_jax.run import loop

    real = loop.open_run

    def open_run(*arguments: Any) -> Any:
        run = real(*arguments)
        run.progress.iterator = None
        return run

    loop.open_run = open_run  # type: ignore[assignment]


def _change_state(change: Callable[[Any], Any]) -> None:
    from llm60_jax import checkpoint

    real = checkpoint.read_state
    checkpoint.read_state = lambda *arguments: change(real(*arguments))


def _lose_rng() -> None:
    _change_state(lambda state: dataclasses.replace(state, seed=state.seed + 1))


def _lose_optimizer() -> None:
    import jax

    _change_state(lambda state: dataclasses.replace(state, opt_state=jax.tree.map(lambda x: 0 * x, state.opt_state)))


def _skip_a_batch() -> None:
    from llm60_jax.run import feed

    real = feed.batches

    def batches(*arguments: Any) -> Any:
        found = real(*arguments)
        next(found)
        return found

    feed.batches = batches  # type: ignore[assignment]


SABOTAGES: dict[str, Callable[[], None]] = {
    "iterator": _lose_iterator,
    "rng": _lose_rng,
    "optimizer": _lose_optimizer,
    "batch": _skip_a_batch,
}


def controls(training: trial.Training, folder: Path, names: list[str]) -> Iterator[tuple[str, list[str]]]:
    """For each sabotage what was found about a run resumed under it; nothing found is a failure of this test."""
    reference, cut = folder / "reference", folder / "cut"
    middle = _middle_of_a_stage(reference)
    shutil.rmtree(cut, ignore_errors=True)
    _run_until(training, cut, middle, None)
    for name in names:
        workdir = folder / f"without_{name}"
        shutil.rmtree(workdir, ignore_errors=True)
        shutil.copytree(cut, workdir)
        try:
            _run_until(training, workdir, middle + 1, name)
            yield name, trial.faults(workdir, reference, {})
        except DamageError as error:
            yield name, [str(error)]


def _middle_of_a_stage(reference: Path) -> int:
    for row in json.loads((reference / "plan.json").read_text(encoding="utf-8")):
        if row["stop_step"] - row["start_step"] >= 3:
            return int(row["start_step"]) + 1
    raise InputError("--steps: no stage has three steps, so that one could be cut in its middle; ask for more")


def _run_until(training: trial.Training, workdir: Path, step: int, sabotage: str | None) -> None:
    """Trains until a step is saved, and kills the process. Raises DamageError where it ends before."""
    through = [str(Path(__file__).resolve()), "--sabotaged", sabotage] if sabotage else []
    process = training.start(workdir, through=through)
    while process.poll() is None and not manifest.exists(workdir / "checkpoints" / str(step)):
        time.sleep(0.002)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    _, errors = process.communicate()
    if not manifest.exists(workdir / "checkpoints" / str(step)):
        raise DamageError(f"{workdir}: ended before step {step}: {errors[-800:]}")


# --- The command -----------------------------------------------------------------------------------------------------


def verify(training: trial.Training, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Everything that is asked for, as JSON values. Raises Failure."""
    folder.mkdir(parents=True, exist_ok=True)
    terminal.say(f"the undisturbed run, in {folder / 'reference'}")
    trial.undisturbed(training, folder)
    rng = random.Random(options.seed)
    found: dict[str, Any] = {}
    number = signal.Signals[f"SIG{options.signal}"]
    for what, way, count in (
        ("kills", Way(signal.SIGKILL), options.kills),
        (f"{number.name}", Way(number), options.interrupts),
        (f"{number.name} twice", Way(number, twice=True), options.twice),
    ):
        tally = Tally()
        if count:
            done = disturb(training, folder, way, count, rng, options.fresh_data, tally)
            list(terminal.Tracker(Interrupts())(done, what, count))
            found[what] = tally.to_tree()
    if not options.no_controls:
        names = terminal.Tracker(Interrupts())(controls(training, folder, list(SABOTAGES)), "controls", len(SABOTAGES))
        found["controls"] = dict(names)
    return found


def passed(found: dict[str, Any]) -> bool:
    """Whether nothing is wrong, and every sabotage was found out."""
    tallies = [tally for name, tally in found.items() if name != "controls"]
    return not any(tally["faults"] for tally in tallies) and all(found.get("controls", {"none": ["run"]}).values())


def as_text(found: dict[str, Any]) -> str:
    lines = []
    for name, tally in found.items():
        if name == "controls":
            for key, told in tally.items():
                lines.append(f"control, {key} not restored: {f'found out: {told[0]}' if told else 'NOT FOUND OUT'}")
            continue
        took = f"{statistics.median(tally['seconds']):.1f} s at the median, {max(tally['seconds']):.1f} s at most"
        lines.append(
            f"{name}: {tally['disturbed']} processes, {tally['while_saving']} of them while saving; "
            f"{tally['completed']} runs completed; from the signal to the end {took}; {len(tally['faults'])} faults"
        )
        lines += [f"  {fault}" for fault in tally["faults"][:20]]
    equal = "resumed runs equal the undisturbed one, bit for bit"
    lines.append(f"verdict: {equal if passed(found) else 'NOT AS IT SHOULD BE'}")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line and returns its exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["--sabotaged"]:  # a process of a negative control
        trial.sabotaged(SABOTAGES, *arguments[1:])
        return 0
    parser = cli.config_parser(__doc__, EXAMPLES)
    parser.add_argument("--kills", type=int, default=10, metavar="N", help="processes to kill (default 10)")
    parser.add_argument("--interrupts", type=int, default=0, metavar="N", help="processes to interrupt (default 0)")
    parser.add_argument("--twice", type=int, default=0, metavar="N", help="processes to interrupt twice (default 0)")
    parser.add_argument("--signal", choices=["INT", "TERM", "HUP"], default="INT", help="to interrupt by (default INT)")
    parser.add_argument("--fresh-data", action="store_true", help="prepare the text anew, to be disturbed in that too")
    parser.add_argument("--steps", type=int, default=10, metavar="N", help="of each phase (default 10)")
    parser.add_argument("--folder", type=Path, default=Path("runs/verify_resume"), help="where the runs are kept")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--no-controls", action="store_true", help="leave out the negative controls")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    if min(options.kills, options.interrupts, options.twice) < 0 or options.steps < 1:
        parser.error("--kills, --interrupts and --twice must be 0 or more, --steps 1 or more")
    found: dict[str, Any] = {}

    def body() -> None:
        with terminal.hushed(options.json):
            found.update(verify(trial.training(options.config, options.set, options.steps), options.folder, options))
        print(json.dumps(found, indent=1)) if options.json else terminal.say(as_text(found))

    return cli.guarded("verify_resume.py", body) or int(not passed(found))


if __name__ == "__main__":
    sys.exit(main())
