"""Break a run on purpose, by damaged checkpoints or full disks, and check that nothing committed is
lost."""

import argparse
import contextlib
import functools
import json
import logging
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import trial
from trial import Training

from llm60_jax import config as config_module
from llm60_jax.config import to_tree
from llm60_jax.errors import DamageError, Failure, InputError
from llm60_jax.machine import cli, manifest, terminal
from llm60_jax.machine.progress import Track
from llm60_jax.machine.remembered import Unfinished
from llm60_jax.machine.signals import Interrupts
from llm60_jax.record import checkpoints, store

EXAMPLES = """examples:
  # every file of a checkpoint, damaged in seven ways
  python tools/fault_trial.py configs/tiny.toml damage
  # 20 disks that fill up while a run saves (Linux, as root)
  sudo python tools/fault_trial.py configs/tiny.toml disk

damage: for any damaged file of a checkpoint, restoring must name the file, and the run must resume
from the checkpoint before. With all checkpoints damaged it must refuse.
disk: a training runs on a disk in memory, which another process fills until a few kilobytes, or
room for some checkpoints, are left. The training must continue, or stop with one message. Nothing
committed may be lost. With room again, the end must be the same, bit for bit.

Then the trial removes the protection, and the same checks must fail. The exit code is 0 if all is
right, else 1.
"""
DISK_SIZES = 20
_DISK_MEGABYTES = 256
_BIT_FLIPS = 3  # of each file, each at another place


# --- Damage ----------------------------------------------------------------------------------------------------------


def damages(content: bytes) -> Iterator[tuple[str, bytes | None]]:
    """Yield ways of damage, each with the file's content after it; None deletes the file."""
    yield "deleted", None
    yield "emptied", b""
    yield "halved", content[: len(content) // 2]
    yield "zeroed", bytes(len(content))
    for number in range(_BIT_FLIPS):
        if content:
            flipped = bytearray(content)
            flipped[(number * 7919 + len(content) // (number + 2)) % len(content)] ^= 1 << (number % 8)
            yield f"bit flipped ({number + 1})", bytes(flipped)


def try_damage(run: Path, track: Track, unfinished: Unfinished, name: str) -> tuple[int, list[str]]:
    """Damage each file of a run's newest checkpoint in turn. Return the number of trials and the
    faults. A finished file is kept under the name of the trial."""
    newest, second = checkpoints.listed(run)[:2]
    states = {folder.relative_to(run).as_posix(): _state(folder) for folder in checkpoints.listed(run)}
    files = sorted(path for path in newest.rglob("*") if path.is_file())
    done, wrong = 0, list[str]()

    def damaged(path: Path) -> tuple[int, list[str]]:
        content, count, faults = path.read_bytes(), 0, list[str]()
        for kind, result in damages(content):
            if result == content:
                continue
            count += 1
            with tempfile.TemporaryDirectory(dir=run.parent) as home:
                copy = Path(home, "run")
                shutil.copytree(run, copy, symlinks=True)
                place = copy / path.relative_to(run)
                place.unlink() if result is None else place.write_bytes(result)
                what = f"{path.relative_to(run)} {kind}"
                faults += [f"{what}: {fault}" for fault in _after_damage(copy, place, newest.name, states)]
        return count, faults

    for path in track(files, "files damaged", len(files)):
        count, faults = unfinished.part(f"{name}, {path.relative_to(run)}", functools.partial(damaged, path))
        done, wrong = done + count, wrong + faults
    return done + 1, wrong + list(_all_damaged(run, second))


def _state(folder: Path) -> str:
    state, meta = store.load(folder)
    return store.state_sha256(state, meta["progress"].iterator)


def _after_damage(run: Path, place: Path, newest: str, states: dict[str, str]) -> Iterator[str]:
    folder = next(parent for parent in place.parents if parent.name == newest)
    try:
        state, meta = store.load(folder)
        same = store.state_sha256(state, meta["progress"].iterator) == states[folder.relative_to(run).as_posix()]
        yield f"restored without a message, {'the same' if same else 'ANOTHER'} state"
    except DamageError as error:
        if place.name not in str(error):
            yield f"refused, but the file is not named: {error}"
    try:
        resumed = checkpoints.Checkpoints(run, 2).newest()
    except Failure as error:
        yield f"nothing to resume from: {error}"
        return
    if resumed is None or resumed == folder:
        yield f"resumed from {resumed}"
    elif _state(resumed) != states[resumed.relative_to(run).as_posix()]:
        yield f"resumed from {resumed} in another state"
    if folder.exists():
        yield "the damaged checkpoint is not set aside"


def _all_damaged(run: Path, second: Path) -> Iterator[str]:
    """Yield the faults of a run whose checkpoints are all damaged."""
    with tempfile.TemporaryDirectory(dir=run.parent) as home:
        copy = Path(home, "run")
        shutil.copytree(run, copy)
        for folder in checkpoints.listed(copy):
            (folder / store.META).write_bytes(b"{}")
        try:
            yield f"all damaged: resumed from {checkpoints.Checkpoints(copy, 2).newest()}"
        except DamageError as error:
            if second.name not in str(error):
                yield f"all damaged: refused, but not all are named: {error}"


def _unchecked() -> Any:
    """Return the control: manifests are trusted, no file is hashed."""
    return mock.patch.object(manifest, "verify", manifest.read)


def damage(training: Training, folder: Path, track: Track, unfinished: Unfinished) -> dict[str, Any]:
    """Run the trial of damage and its control."""
    trial.undisturbed(training, folder)
    run = folder / "three_checkpoints"
    shutil.rmtree(run, ignore_errors=True)
    for checkpoint in checkpoints.listed(folder / "reference")[:3]:
        shutil.copytree(checkpoint, run / checkpoint.relative_to(folder / "reference"))
    tried, wrong = try_damage(run, track, unfinished, "damage")
    with _unchecked():
        _, control = try_damage(run, track, unfinished, "control")
    return {"tried": tried, "wrong": wrong, "controls": {"files are not hashed": len(control)}}


# --- Disks that fill up ----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def small_disk(place: Path, megabytes: int) -> Iterator[Path]:
    """Mount a disk in memory. Raises InputError if the system refuses."""
    place.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=0700", "tmpfs", str(place)]
    if sys.platform != "linux" or os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode:
        raise InputError("disk: needs Linux and the right to mount a disk in memory; run it with sudo")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(place: Path, left: int) -> Path:
    """Write a file that leaves `left` bytes free, and return its path."""
    filler = place / "filler"
    with filler.open("wb") as file, contextlib.suppress(OSError):
        while (free := shutil.disk_usage(place).free) > left:
            file.write(bytes(max(1, min(free - left, 2**20))))
            file.flush()
    return filler


def try_disk(training: Training, folder: Path, left: int, through: tuple[str, ...] = ()) -> tuple[str, list[str]]:
    """Train on a disk that is full but for `left` bytes after the first checkpoint.

    Returns:
      How the training ended, and what went wrong.
    """
    reference, wrong = folder / "reference", []
    with small_disk(folder / "disk", _DISK_MEGABYTES) as place:
        run = place / "run"
        process = training.start(run, through=through)
        while process.poll() is None and not trial.committed(run):
            time.sleep(0.002)
        before = trial.committed(run)
        filler = fill(place, left)
        _, errors = process.communicate(timeout=600)
        ended = f"exit code {process.returncode}"
        if process.returncode not in (0, 5):
            wrong.append(f"{ended}: {errors[-600:]}")
        if "Traceback" in errors:
            wrong.append(f"a traceback: {errors[-600:]}")
        if process.returncode == 5 and "launch.py: " not in errors:
            wrong.append(f"no message: {errors[-600:]}")
        wrong += trial.faults(run, reference, before)
        filler.unlink()
        again = training.start(run)
        _, errors = again.communicate(timeout=600)
        if again.returncode:
            wrong.append(f"with room again: exit code {again.returncode}: {errors[-600:]}")
        else:
            wrong += trial.final_faults(run, reference)
    return ended, wrong


def _believe_every_save() -> None:
    """Apply the control: commit whatever a full disk has kept."""
    real = store.ocp.save

    def save(path: Any, state: Any) -> None:
        with contextlib.suppress(ValueError, OSError, RuntimeError):
            real(path, state)

    store.ocp.save = save
    store.require_room = lambda place, needed: None


SABOTAGES: dict[str, Callable[[], None]] = {"every save is believed": _believe_every_save}


def disk(training: Training, folder: Path, sizes: int, track: Track, unfinished: Unfinished) -> dict[str, Any]:
    """Run the trial over disks with room for nothing up to three checkpoints, and its control."""
    trial.undisturbed(training, folder)
    checkpoint = checkpoints.listed(folder / "reference")[0]
    whole = sum(path.stat().st_size for path in checkpoint.rglob("*"))
    # Bytes left, from 0 to three checkpoints; each room is larger than the last by the same factor.
    rooms = [0] + [round(whole * 0.05 * 60 ** (i / max(1, sizes - 2))) for i in range(sizes - 1)]
    wrong, ends = [], {}
    for room in track(rooms, "disks", len(rooms)):
        ends[room], room_faults = unfinished.part(f"{room}", functools.partial(try_disk, training, folder, room))
        wrong += [f"{room:,} bytes left: {fault}" for fault in room_faults]
    name = next(iter(SABOTAGES))
    through = (str(Path(__file__).resolve()), "--sabotaged", name)
    _, control = try_disk(training, folder, math.ceil(whole / 3), through)
    return {
        "tried": len(rooms),
        "checkpoint_bytes": whole,
        "ends": ends,
        "wrong": wrong,
        "controls": {name: len(control)},
    }


# --- The command -----------------------------------------------------------------------------------------------------


def passed(report: dict[str, Any]) -> bool:
    """Return whether nothing went wrong with the protection, and something did without it."""
    return not report["wrong"] and all(report["controls"].values())


def _try(options: argparse.Namespace, interrupts: Interrupts) -> dict[str, Any]:
    logging.getLogger("llm60_jax").setLevel(logging.ERROR)  # warnings of damage are expected here
    track = terminal.Tracker(interrupts, on_stderr=options.json)
    options.folder.mkdir(parents=True, exist_ok=True)
    training = trial.training(options.config, options.set, options.steps)
    config = config_module.load(options.config, options.set)
    identity = [to_tree(config), options.trial, options.steps, options.sizes, str(options.folder)]
    with Unfinished(config.data_dir, "fault_trial", identity, Path(__file__).parent, anew=options.anew) as unfinished:
        if options.trial == "damage":
            return damage(training, options.folder, track, unfinished)
        return disk(training, options.folder, options.sizes, track, unfinished)


def _show(name: str, report: dict[str, Any]) -> None:
    terminal.say(f"{name}: {report['tried']} tried, {len(report['wrong'])} went wrong")
    for line in report["wrong"][:20]:
        terminal.say(f"  {line}")
    for room, ended in report.get("ends", {}).items():
        terminal.say(f"  {room:>9,} bytes left: {ended}")
    for control, count in report["controls"].items():
        terminal.say(f"control, {control}: {f'{count} faults seen' if count else 'NOT NOTICED'}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["--sabotaged"]:
        trial.sabotaged(SABOTAGES, *arguments[1:])
        return 0
    parser = cli.config_parser(__doc__, EXAMPLES)
    parser.add_argument("trial", choices=["damage", "disk"], help="what to break")
    parser.add_argument("--steps", type=int, default=5, metavar="N", help="steps of each phase (default 5)")
    parser.add_argument(
        "--sizes", type=int, default=DISK_SIZES, metavar="N", help=f"number of disks (default {DISK_SIZES})"
    )
    parser.add_argument(
        "--folder", type=Path, default=Path("runs/fault_trial"), metavar="DIR",
        help="where the runs stay (default runs/fault_trial)",
    )  # fmt: skip
    cli.add_anew(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    reports: list[dict[str, Any]] = []

    def body(options: argparse.Namespace, interrupts: Interrupts) -> None:
        reports.append(_try(options, interrupts))
        if options.json:
            print(json.dumps(reports[0], indent=1))
        else:
            _show(options.trial, reports[0])

    return cli.run_tool("fault_trial.py", parser, arguments, body) or int(not all(map(passed, reports)))


if __name__ == "__main__":
    sys.exit(main())
