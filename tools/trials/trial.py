"""What the trials share: a short training as a command, and its comparison with an undisturbed run.

Trials show how a run survives trouble, with real processes and real files.
"""

import contextlib
import json
import os
import runpy
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from llm60_jax import config as config_module
from llm60_jax.errors import DamageError, Failure
from llm60_jax.machine import manifest
from llm60_jax.machine.signals import SIGNALS
from llm60_jax.record import checkpoints, history, store
from llm60_jax.record.workdir import WorkDir

LAUNCH = Path(__file__).resolve().parents[2] / "launch.py"
BEGINNING = "checkpoints/0"  # saved by an early interruption, never by an undisturbed run
GATE = "{min_fall=-100.0,min_gain=100.0,max_grammar_loss=1.0,max_forgetting=100.0}"  # always passes


def command(
    config: Path, settings: Sequence[str], workdir: Path, script: Path = LAUNCH, through: Sequence[str] = ()
) -> list[str]:
    """Return the command line that trains a configuration; `through` is a program that runs the
    script."""
    overrides = [item for setting in settings for item in ("--set", setting)]
    return [sys.executable, *through, str(script), str(config), *overrides, "--workdir", str(workdir)]


class Training(NamedTuple):
    """A short training of a configuration, as a command."""

    config: Path
    overrides: tuple[str, ...]
    steps: int  # of all phases together
    script: Path = LAUNCH
    processes: int = 1  # that train it together

    def command(self, workdir: Path, *more: str, through: Sequence[str] = ()) -> list[str]:
        """Return the command line; `more` are settings, `through` is a program that runs the
        script."""
        return command(self.config, (*self.overrides, *more), workdir, self.script, through)

    def start_all(self, workdir: Path, *more: str) -> "list[subprocess.Popen[str]]":
        """Start all its processes as `start` does, each in a group of its own."""
        if self.processes == 1:
            return [self.start(workdir, *more)]
        with socket.create_server(("127.0.0.1", 0)) as door:
            port = door.getsockname()[1]
        meeting = ["--coordinator", f"127.0.0.1:{port}", "--processes", str(self.processes), "--heartbeat", "10"]
        return [
            self._started(workdir, [*self.command(workdir, *more), *meeting, "--process", str(number)])
            for number in range(self.processes)
        ]

    def start(self, workdir: Path, *more: str, through: Sequence[str] = ()) -> "subprocess.Popen[str]":
        """Start it in a process group of its own; its output goes to a file beside its run
        directory."""
        return self._started(workdir, self.command(workdir, *more, through=through))

    @staticmethod
    def _started(workdir: Path, words: list[str]) -> "subprocess.Popen[str]":
        workdir.parent.mkdir(parents=True, exist_ok=True)
        with workdir.with_suffix(".out").open("a", encoding="utf-8") as out:
            return subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )


def training(config: Path, settings: list[str], steps: int, script: Path = LAUNCH) -> Training:
    """Return a training of `steps` steps for each phase of a configuration. Raises InputError. Main
    thread only."""
    # A shell starts background jobs with Ctrl-C ignored; the trained processes would inherit that.
    for number in SIGNALS:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    # This process reads checkpoints with JAX, which would take most of a GPU's memory from the trained processes.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    loaded = config_module.load(config, settings)
    tokens = steps * loaded.train.tokens_per_step
    phases = [f"phase.{phase.name}.{entry}" for phase in loaded.phase for entry in (f"tokens={tokens}", f"gate={GATE}")]
    often = ["train.log_every=1", f"train.evaluate_every={max(1, steps // 2)}", "train.save_every=1"]
    short = Training(config, (*settings, *phases, *often), steps * len(loaded.phase), script)
    config_module.load(config, list(short.overrides))
    return short


# --- What a run has committed ----------------------------------------------------------------------------------------


def committed(workdir: Path) -> dict[str, str]:
    """Return the `state_sha256` of every finished checkpoint, by its path in the run. Raises
    DamageError."""
    digests = {}
    for folder in checkpoints.listed(workdir):
        try:
            digests[folder.relative_to(workdir).as_posix()] = store.identity(folder, manifest.read)[1]
        except DamageError:
            if manifest.exists(folder):  # else the run has just deleted it for a newer one
                raise
    return digests


def step_of(workdir: Path) -> int:
    """Return the step of a run's newest checkpoint; 0 before the first."""
    folders = checkpoints.listed(workdir)
    return store.identity(folders[0], manifest.read)[0] if folders else 0


def being_saved(workdir: Path) -> set[str]:
    """Return the names of checkpoints whose writing is under way or was cut short."""
    names = (path.name for kind in ("checkpoints", "phases", "adapters") for path in workdir.glob(f"{kind}/.*"))
    return {name for name in names if not name.endswith("removed")}


def _rows(workdir: Path) -> list[dict[str, Any]]:
    return history.without_time(WorkDir(workdir).rows())


def faults(workdir: Path, reference: Path, before: dict[str, str]) -> list[str]:
    """Return the faults of a disturbed run, compared with the undisturbed one; `before` was
    committed earlier."""
    wrong, right, now = [], committed(reference), committed(workdir)
    for name, digest in now.items():
        if digest != right.get(name, digest if name == BEGINNING else None):
            wrong.append(f"{name}: state {digest[:16]}, and {str(right.get(name))[:16]} in the undisturbed run")
        try:
            store.identity(workdir / name)  # every file of it
        except DamageError as error:
            wrong.append(str(error))
    newest = max([int(Path(name).name) for name in before if name.startswith("checkpoints/")], default=0)
    if step_of(workdir) < newest:
        wrong.append(f"step {newest} was committed, and the newest checkpoint now is of step {step_of(workdir)}")
    wrong += [f"{name}: was committed, and is lost" for name in before if "phases" in name and name not in now]
    expected = {json.dumps(row, sort_keys=True) for row in _rows(reference)}
    for row in _rows(workdir):
        if json.dumps(row, sort_keys=True) not in expected:
            wrong.append(f"metrics of step {row['step']} differ: {sorted(row.keys() - {'step', 'tokens'})}")
    return wrong


def final_faults(workdir: Path, reference: Path) -> list[str]:
    """Return the faults at the end of a run: arrays are hashed anew, and nothing may be missing."""
    wrong = faults(workdir, reference, {})
    for folder in checkpoints.listed(reference):
        if folder.parent.name == "phases":
            place = workdir / "phases" / folder.name
            states = [
                store.state_sha256(state, meta["progress"].iterator) for state, meta in map(store.load, (place, folder))
            ]
            if states[0] != states[1]:
                wrong.append(f"{place}: state {states[0][:16]}, and {states[1][:16]} in the undisturbed run")
    if _rows(workdir) != _rows(reference):
        wrong.append(f"{workdir}: the rows of its metrics are not those of the undisturbed run")
    return wrong


def undisturbed(wanted: Training, folder: Path) -> None:
    """Train the run that others are compared with, all its checkpoints kept, unless it is there.
    Raises Failure."""
    workdir = folder / "reference"
    done = folder / "reference.done"
    overrides = json.dumps(wanted.overrides)
    if done.exists() and done.read_text(encoding="utf-8") == overrides:
        return
    shutil.rmtree(workdir, ignore_errors=True)
    process = wanted.start(workdir, f"train.keep_rolling={wanted.steps + 1}")
    _, errors = process.communicate()
    if process.returncode:
        raise Failure(f"the undisturbed run ended with exit code {process.returncode}:\n{errors[-2000:]}")
    done.write_text(overrides, encoding="utf-8")


def sabotaged(sabotages: Mapping[str, Callable[[], None]], name: str, script: str, *arguments: str) -> None:
    """Run a script in this process after breaking something on purpose: a negative control."""
    sabotages[name]()
    sys.argv = [script, *arguments]
    sys.path.insert(0, str(LAUNCH.parent))
    runpy.run_path(script, run_name="__main__")


class TooSlow(BaseException):
    """The time is over. Not an Exception, because code that guards against broken files catches
    those."""


@contextlib.contextmanager
def limited(seconds: int) -> Iterator[None]:
    """Raise TooSlow in the block after `seconds`. Main thread only."""

    def ring(number: int, frame: Any) -> None:
        raise TooSlow(f"not done after {seconds} s")

    descriptor = signal.set_wakeup_fd(-1)  # else Interrupts takes the alarm for a request to stop
    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
        signal.set_wakeup_fd(descriptor, warn_on_full_buffer=False)
