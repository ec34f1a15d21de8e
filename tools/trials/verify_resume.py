"""Kill and interrupt a training again and again, and check that it resumes bit for bit."""

import argparse
import contextlib
import dataclasses
import json
import os
import random
import shutil
import signal
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import trial
from disturbing import Disturbance, Tally, disturb

from llm60_jax import config as config_module
from llm60_jax.config import to_tree
from llm60_jax.errors import DamageError, InputError
from llm60_jax.machine import cli, manifest, terminal
from llm60_jax.machine.progress import Track
from llm60_jax.machine.remembered import Unfinished
from llm60_jax.machine.signals import Interrupts

EXAMPLES = """examples:
  # 10 kills: about 3 minutes
  python tools/verify_resume.py configs/tiny.toml
  # 200 kills, in a folder of their own
  python tools/verify_resume.py configs/tiny.toml --kills 200 --folder runs/kills
  # 50 interruptions by SIGTERM, while data is prepared too
  python tools/verify_resume.py configs/tiny.toml --kills 0 --interrupts 50 --signal TERM --fresh-data
  # two processes train together, and a random one of them is killed; the undisturbed run has one
  python tools/verify_resume.py configs/tiny.toml --kills 20 --processes 2 --folder runs/together
  # the real model on your machine: hours
  python tools/verify_resume.py configs/llm60.toml --kills 3

A short training of the configuration's phases (--steps each, gates open) runs once undisturbed.
Then it runs again and again and is killed at random: anywhere, or while it writes a checkpoint.
Every checkpoint it commits must have the state of the undisturbed run at that step: weights,
optimizer, random numbers, position in the data. No committed checkpoint may be lost, and at the end
all rows of metrics must be equal too.

Last come negative controls, processes that resume wrongly on purpose; the checks must notice each.
The exit code is 0 if all is right, else 1.
"""

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
        stream = real(*arguments)
        next(stream)
        return stream

    feed.batches = batches  # type: ignore[assignment]


SABOTAGES: dict[str, Callable[[], None]] = {
    "iterator": _lose_iterator,
    "rng": _lose_rng,
    "optimizer": _lose_optimizer,
    "batch": _skip_a_batch,
}


def controls(training: trial.Training, folder: Path, names: list[str]) -> Iterator[tuple[str, list[str]]]:
    """Yield each sabotage with the faults of a run resumed under it; the checks fail if there are
    none."""
    if not names:
        return
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
    raise InputError("--steps: no stage has three steps, to be cut in its middle; use more")


def _run_until(training: trial.Training, workdir: Path, step: int, sabotage: str | None) -> None:
    """Train until a step is saved, and kill the process. Raises DamageError if it ends before."""
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


def verify(
    training: trial.Training, folder: Path, options: argparse.Namespace, track: Track, unfinished: Unfinished
) -> dict[str, Any]:
    """Run the trials that the options ask for, and return JSON values. Raises Failure.

    The tally of a trial is kept after each process, and each control.
    """
    folder.mkdir(parents=True, exist_ok=True)
    terminal.say(f"the undisturbed run, in {folder / 'reference'}")
    trial.undisturbed(training, folder)
    report: dict[str, Any] = {}
    number = signal.Signals[f"SIG{options.signal}"]
    for what, way, count in (
        ("kills", Disturbance(signal.SIGKILL), options.kills),
        (number.name, Disturbance(number), options.interrupts),
        (f"{number.name} twice", Disturbance(number, twice=True), options.twice),
    ):
        tally = Tally(**unfinished.part(what, dict))
        if count:
            rng = random.Random(f"{options.seed} {what} {tally.disturbed}")
            done = disturb(training, folder, way, count, rng, options.fresh_data, tally)
            for _ in track(done, what, count - tally.disturbed):
                unfinished[what] = tally.to_tree()
            report[what] = unfinished[what] = tally.to_tree()
    if not options.no_controls:
        to_do = [name for name in SABOTAGES if f"control, {name}" not in unfinished]
        for name, faults in track(controls(training, folder, to_do), "controls", len(to_do)):
            unfinished[f"control, {name}"] = faults
        report["controls"] = {name: unfinished[f"control, {name}"] for name in SABOTAGES}
    return report


def passed(report: dict[str, Any]) -> bool:
    """Return whether nothing is wrong, and every sabotage was noticed."""
    tallies = [tally for name, tally in report.items() if name != "controls"]
    return not any(tally["faults"] for tally in tallies) and all(report.get("controls", {"none": ["run"]}).values())


def as_text(report: dict[str, Any]) -> str:
    """Return the report as text."""
    lines = []
    for name, tally in report.items():
        if name == "controls":
            for key, faults in tally.items():
                lines.append(f"control, {key} not restored: {f'noticed: {faults[0]}' if faults else 'NOT NOTICED'}")
            continue
        took = f"{statistics.median(tally['seconds']):.1f} s at the median, {max(tally['seconds']):.1f} s at most"
        lines.append(
            f"{name}: {tally['disturbed']} processes, {tally['while_saving']} of them while saving; "
            f"{tally['completed']} runs completed; from the signal to the end {took}; {len(tally['faults'])} faults"
        )
        lines += [f"  {fault}" for fault in tally["faults"][:20]]
    equal = "resumed runs equal the undisturbed one, bit for bit"
    lines.append(f"verdict: {equal if passed(report) else 'FAILED'}")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["--sabotaged"]:  # a process of a negative control
        trial.sabotaged(SABOTAGES, *arguments[1:])
        return 0
    parser = cli.config_parser(__doc__, EXAMPLES)
    parser.add_argument("--kills", type=int, default=10, metavar="N", help="processes to kill (default 10)")
    parser.add_argument("--interrupts", type=int, default=0, metavar="N", help="processes to interrupt (default 0)")
    parser.add_argument("--twice", type=int, default=0, metavar="N", help="processes to interrupt twice (default 0)")
    parser.add_argument(
        "--signal", choices=["INT", "TERM", "HUP"], default="INT", help="interrupting signal (default INT)"
    )
    parser.add_argument(
        "--processes", type=int, default=1, metavar="N", help="processes that train together (default 1)"
    )
    parser.add_argument("--fresh-data", action="store_true", help="prepare the text anew, and disturb that too")
    parser.add_argument("--steps", type=int, default=10, metavar="N", help="steps of each phase (default 10)")
    parser.add_argument(
        "--folder", type=Path, default=Path("runs/verify_resume"), metavar="DIR",
        help="where the runs stay (default runs/verify_resume)",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the moments to strike (default 0)")
    parser.add_argument("--no-controls", action="store_true", help="leave out the negative controls")
    cli.add_anew(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    reports: list[dict[str, Any]] = []

    def body(options: argparse.Namespace, interrupts: Interrupts) -> None:
        for name, least in (("kills", 0), ("interrupts", 0), ("twice", 0), ("steps", 1), ("processes", 1)):
            if getattr(options, name) < least:
                raise InputError(f"--{name}: {getattr(options, name)}, but it must be {least} or more")
        training = trial.training(options.config, options.set, options.steps)._replace(processes=options.processes)
        config, track = config_module.load(options.config, options.set), terminal.Tracker(interrupts, options.json)
        changing = {"anew", "json", "config", "set", "folder"}
        asked = {name: value for name, value in vars(options).items() if name not in changing}
        identity, here = [to_tree(config), asked, str(options.folder)], Path(__file__).parent
        with (
            terminal.hushed(options.json),
            Unfinished(config.data_dir, "verify_resume", identity, here, anew=options.anew) as unfinished,
        ):
            reports.append(verify(training, options.folder, options, track, unfinished))
        print(json.dumps(reports[0], indent=1)) if options.json else terminal.say(as_text(reports[0]))

    return cli.run_tool("verify_resume.py", parser, arguments, body) or int(not all(map(passed, reports)))


if __name__ == "__main__":
    sys.exit(main())
