"""Breaks a run on purpose and sees that it is noticed: damaged checkpoints, and disks that fill up."""

import argparse
import contextlib
import json
import logging
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import trial
from trial import Training

from llm60_jax.errors import DamageError, Failure, InputError
from llm60_jax.machine import cli, manifest, terminal
from llm60_jax.machine.progress import Track
from llm60_jax.machine.signals import Interrupts
from llm60_jax.record import checkpoints, store

EXAMPLES = """examples:
  python tools/fault_trial.py damage configs/tiny.toml       every file of a checkpoint, damaged in seven ways
  sudo python tools/fault_trial.py disk configs/tiny.toml    20 disks that fill up while a run saves (Linux, as root)

damage: whatever happens to a file of a checkpoint, restoring must name it, and the run must go on from the checkpoint
before; with all of them damaged it must refuse.
disk: a training runs on a disk in memory that something else fills up to a few kilobytes or some checkpoints' worth. It
must go on or stop with one message; nothing committed may be lost; with room again it must come to the same end, bit
for bit.

Then the protection is taken away, and the same must be found wanting. The exit code is 0 if all is as it should be,
else 1.
"""
SIZES = 20  # of disks
_DISK_MEGABYTES = 256
_FLIPS = 3  # bits of each file, at random places


# --- Damage ----------------------------------------------------------------------------------------------------------


def damages(content: bytes) -> Iterator[tuple[str, bytes | None]]:
    """Names and results of damage to a file; None deletes it."""
    yield "deleted", None
    yield "emptied", b""
    yield "halved", content[: len(content) // 2]
    yield "zeroed", bytes(len(content))
    for number in range(_FLIPS):
        if content:
            flipped = bytearray(content)
            flipped[(number * 7919 + len(content) // (number + 2)) % len(content)] ^= 1 << (number % 8)
            yield f"bit flipped ({number + 1})", bytes(flipped)


def try_damage(run: Path, track: Track) -> tuple[int, list[str]]:
    """Damages every file of the newest checkpoint of a run, one at a time. Returns how often, and what went wrong."""
    newest, second = checkpoints.listed(run)[:2]
    known = {folder.relative_to(run).as_posix(): _states(folder) for folder in checkpoints.listed(run)}
    files = sorted(path for path in newest.rglob("*") if path.is_file())
    done, wrong = 0, []
    for path in track(files, "files damaged", len(files)):
        content = path.read_bytes()
        for name, result in damages(content):
            if result == content:
                continue
            done += 1
            with tempfile.TemporaryDirectory(dir=run.parent) as home:
                copy = Path(home, "run")
                shutil.copytree(run, copy, symlinks=True)
                place = copy / path.relative_to(run)
                place.unlink() if result is None else place.write_bytes(result)
                what = f"{path.relative_to(run)} {name}"
                wrong += [f"{what}: {fault}" for fault in _after_damage(copy, place, newest.name, known)]
    return done + 1, wrong + list(_all_damaged(run, second))


def _states(folder: Path) -> str:
    state, meta = store.load(folder)
    return store.state_sha256(state, meta["progress"].iterator)


def _after_damage(run: Path, place: Path, newest: str, known: dict[str, str]) -> Iterator[str]:
    folder = next(parent for parent in place.parents if parent.name == newest)
    try:
        state, meta = store.load(folder)
        same = store.state_sha256(state, meta["progress"].iterator) == known[folder.relative_to(run).as_posix()]
        yield f"restored without a word, {'the same' if same else 'ANOTHER'} state"
    except DamageError as error:
        if place.name not in str(error):
            yield f"refused, and the file is not named: {error}"
    try:
        found = checkpoints.Checkpoints(run, 2).newest()
    except Failure as error:
        yield f"nothing to go on from: {error}"
        return
    if found is None or found == folder:
        yield f"went on from {found}"
    elif _states(found) != known[found.relative_to(run).as_posix()]:
        yield f"went on from {found} in another state"
    if folder.exists():
        yield "the damaged checkpoint is not set aside"


def _all_damaged(run: Path, second: Path) -> Iterator[str]:
    """A run none of whose checkpoints is whole."""
    with tempfile.TemporaryDirectory(dir=run.parent) as home:
        copy = Path(home, "run")
        shutil.copytree(run, copy)
        for folder in checkpoints.listed(copy):
            (folder / store.META).write_bytes(b"{}")
        try:
            yield f"all damaged: went on from {checkpoints.Checkpoints(copy, 2).newest()}"
        except DamageError as error:
            if second.name not in str(error):
                yield f"all damaged: refused, and not all are named: {error}"


def _unchecked() -> Any:
    """The control: manifests are believed, no file is hashed."""
    return mock.patch.object(manifest, "verify", manifest.read)


def damage(training: Training, folder: Path, track: Track) -> dict[str, Any]:
    """The trial and its control."""
    trial.undisturbed(training, folder)
    run = folder / "three_checkpoints"
    shutil.rmtree(run, ignore_errors=True)
    for one in checkpoints.listed(folder / "reference")[:3]:
        shutil.copytree(one, run / one.relative_to(folder / "reference"))
    tried, wrong = try_damage(run, track)
    with _unchecked():
        _, control = try_damage(run, track)
    return {"tried": tried, "wrong": wrong, "controls": {"files are not hashed": len(control)}}


# --- Disks that fill up ----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def small_disk(place: Path, megabytes: int) -> Iterator[Path]:
    """A disk in memory. Raises InputError where none can be had."""
    place.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=0700", "tmpfs", str(place)]
    if sys.platform != "linux" or os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode:
        raise InputError("disk: this needs Linux and the rights to mount a disk in memory (root)")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(place: Path, left: int) -> Path:
    """Writes a file that leaves so many bytes free, and returns it."""
    filler = place / "filler"
    with filler.open("wb") as file, contextlib.suppress(OSError):
        while (free := shutil.disk_usage(place).free) > left:
            file.write(bytes(max(1, min(free - left, 2**20))))
            file.flush()
    return filler


def try_disk(training: Training, folder: Path, left: int, through: tuple[str, ...] = ()) -> tuple[str, list[str]]:
    """A training whose disk is filled up to `left` bytes after its first checkpoint. Returns how it ended, and what
    went wrong."""
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
    """The control: whatever a full disk has kept is committed."""
    real = store.ocp.save

    def save(path: Any, state: Any) -> None:
        with contextlib.suppress(ValueError, OSError, RuntimeError):
            real(path, state)

    store.ocp.save = save
    store.require_room = lambda place, needed: None


SABOTAGES: dict[str, Callable[[], None]] = {"every save is believed": _believe_every_save}


def disk(training: Training, folder: Path, sizes: int, track: Track) -> dict[str, Any]:
    """The trial over disks with room for nothing up to three checkpoints, and its control."""
    trial.undisturbed(training, folder)
    checkpoint = checkpoints.listed(folder / "reference")[0]
    whole = sum(path.stat().st_size for path in checkpoint.rglob("*"))
    # From nothing to three checkpoints, each room larger than the one before by the same factor.
    rooms = [0] + [round(whole * 0.05 * 60 ** (i / max(1, sizes - 2))) for i in range(sizes - 1)]
    wrong, ends = [], {}
    for room in track(rooms, "disks", len(rooms)):
        ends[room], found = try_disk(training, folder, room)
        wrong += [f"{room:,} bytes left: {fault}" for fault in found]
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


def passed(found: dict[str, Any]) -> bool:
    """Whether nothing went wrong, and everything did without the protection."""
    return not found["wrong"] and all(found["controls"].values())


def _do(options: argparse.Namespace, found: dict[str, Any]) -> None:
    logging.getLogger("llm60_jax").setLevel(logging.ERROR)  # what is damaged is meant to be
    interrupts = Interrupts()
    track = terminal.Tracker(interrupts, quiet=options.json)
    options.folder.mkdir(parents=True, exist_ok=True)
    training = trial.training(options.config, options.set, options.steps)
    found.update(
        damage(training, options.folder, track)
        if options.trial == "damage"
        else disk(training, options.folder, options.sizes, track)
    )
    if options.json:
        print(json.dumps(found, indent=1))
        return
    terminal.say(f"{options.trial}: {found['tried']} tried, {len(found['wrong'])} went wrong")
    for line in found["wrong"][:20]:
        terminal.say(f"  {line}")
    for room, ended in found.get("ends", {}).items():
        terminal.say(f"  {room:>9,} bytes left: {ended}")
    for name, count in found["controls"].items():
        terminal.say(f"control, {name}: {f'{count} found wanting' if count else 'NOT NOTICED'}")


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line and returns its exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["--sabotaged"]:
        trial.sabotaged(SABOTAGES, *arguments[1:])
        return 0
    parser = cli.parser(__doc__, EXAMPLES)
    parser.add_argument("trial", choices=["damage", "disk"])
    parser.add_argument("config", type=Path, metavar="CONFIG", help="a TOML file; see configs/")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="override any field")
    parser.add_argument("--steps", type=int, default=5, metavar="N", help="of each phase (default 5)")
    parser.add_argument("--sizes", type=int, default=SIZES, metavar="N", help=f"of disks (default {SIZES})")
    parser.add_argument("--folder", type=Path, default=Path("runs/fault_trial"), help="where the runs are kept")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    found: dict[str, Any] = {"wrong": [], "controls": {}}
    return cli.guarded("fault_trial.py", lambda: _do(options, found)) or int(not passed(found))


if __name__ == "__main__":
    sys.exit(main())
