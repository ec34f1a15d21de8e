"""What a command does in odd surroundings: one row a trial, each in a process of its own.

A trial sets variables or limits, runs the tiny configuration, and expects an exit code and words of
the message. No trial may end in a traceback or an internal error, and none may print more than it
expects. docs/results/reliability.md shows the table.
"""

import itertools
import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from conftest import NOUNS, PROJECT, VERBS, state_of, tiny_tree, to_toml

from llm60_jax import config as config_module
from llm60_jax.data.prepare import prepare_text
from llm60_jax.errors import MachineError
from llm60_jax.machine import environment, facts, unfinished
from llm60_jax.machine.progress import silent

C_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
STRICT = {
    "JAX_ENABLE_X64": "1",
    "JAX_NUMPY_DTYPE_PROMOTION": "strict",
    "JAX_NUMPY_RANK_PROMOTION": "raise",
    "JAX_TRANSFER_GUARD": "disallow",
    "JAX_DEFAULT_DEVICE": "gpu",
    "JAX_ERROR_CHECKING_BEHAVIOR_NAN": "raise",
    "JAX_SCAN3": "1",
    "JAX_ENABLE_PGLE": "1",
}
# Sets limits of the system for itself, and becomes a command: {kind: most} and the command are its arguments.
_LIMITED = """
import os, resource, sys
for kind, most in eval(sys.argv[1]).items():
    resource.setrlimit(kind, (most, most))
os.execv(sys.argv[2], sys.argv[2:])
"""
QUIET: tuple[str, ...] = ()  # nothing on stderr


class Trial(NamedTuple):
    """Surroundings of a command, and how it must end."""

    name: str
    code: int
    words: tuple[str, ...]  # of the one message on stderr; none means that there is no message
    variables: dict[str, str] = {}  # noqa: RUF012
    limits: dict[int, int] = {}  # noqa: RUF012
    shell: str = ""  # what a shell does with the command, `"$@"`


# They end before anything is trained, or show the plan.
TRIALS = [
    Trial("no compilation", 5, ("JAX_DISABLE_JIT is '1'", "unset"), {"JAX_DISABLE_JIT": "1"}),
    Trial("no execution", 5, ("JAX_NO_EXECUTION is 'true'",), {"JAX_NO_EXECUTION": "true"}),
    Trial("unknown flag of XLA", 5, ("XLA_FLAGS", "--xla_no_such_flag"), {"XLA_FLAGS": "--xla_no_such_flag"}),
    Trial(
        "wrong value of a flag of XLA",
        5,
        ("XLA_FLAGS", "interpret value abc"),
        {"XLA_FLAGS": "--xla_backend_optimization_level=abc"},
    ),
    Trial(
        "wrong value of a variable of JAX",
        5,
        ("JAX_NUM_CPU_DEVICES", '"many"', "unset"),
        {"JAX_NUM_CPU_DEVICES": "many"},
    ),
    Trial("no such platform", 5, ("JAX_PLATFORMS=abacus", "JAX_PLATFORMS=cpu"), {"JAX_PLATFORMS": "abacus"}),
    Trial("1 GB of address space", 5, ("limited to 1.0 GB", "ulimit -v"), {}, {resource.RLIMIT_AS: 10**9}),
    Trial("2 GB of address space", 5, ("limited to 2.0 GB", "ulimit -v"), {}, {resource.RLIMIT_AS: 2 * 10**9}),
    Trial("64-bit numbers and strict rules", 0, ("ignored", *STRICT), STRICT),
    Trial("C locale", 0, QUIET, C_LOCALE),
]  # fmt: skip
# They train, and must come to the same bits as without.
TRAINED = [
    Trial("64-bit numbers and strict rules", 0, ("ignored",), STRICT),
    Trial("a compilation cache that cannot be written", 0, ("ignored",), {"JAX_COMPILATION_CACHE_DIR": "/proc/x"}),
    Trial("C locale", 0, QUIET, C_LOCALE),
    Trial("no home, optimized, warnings as errors", 0, QUIET, {
        "HOME": "", "PYTHONOPTIMIZE": "2", "PYTHONWARNINGS": "error", "PYTHONHASHSEED": "7",
    }),
    Trial("odd terminal, no place for temporary files", 0, QUIET, {
        "TERM": "odd", "COLUMNS": "1", "TMPDIR": "/nonexistent",
    }),
    Trial("32 open files", 0, QUIET, {}, {resource.RLIMIT_NOFILE: 32}),
    Trial("no stdin and no stdout", 0, QUIET, {}, {}, '"$@" <&- >&-'),
]  # fmt: skip


def one_phase(folder: Path, texts: Path) -> dict[str, Any]:
    """The tiny configuration with one phase of two steps, in folders whose names are not ASCII."""
    tree = tiny_tree(texts)
    short = {"tokens": 2 * 128, "context": [[0.0, 16]], "freeze": [[0.0, 0]]}
    places = {"workdir": str(folder / "läufe" / "ein"), "data_dir": str(folder / "dätä")}
    return tree | places | {"tokenizer": {"phases": ["grammar"]}, "phase": [tree["phase"][0] | short]}


@pytest.fixture(scope="module")
def file(texts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("use")
    path = folder / "größe.toml"
    path.write_text(to_toml(one_phase(folder, texts)), encoding="utf-8")
    return path


def run(trial: Trial, script: str, *arguments: object) -> "subprocess.CompletedProcess[str]":
    """Run a script in the surroundings of a trial, and check how it ends."""
    command = [sys.executable, str(PROJECT / script), *map(str, arguments)]
    if trial.shell:
        command = ["sh", "-c", trial.shell, "sh", *command]
    if trial.limits:
        command = [sys.executable, "-c", _LIMITED, repr(trial.limits), *command]
    done = subprocess.run(
        command,
        cwd=PROJECT,
        env=os.environ | trial.variables,
        capture_output=True,
        encoding="utf-8",
        timeout=300,
    )
    assert done.returncode == trial.code, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == bool(trial.words), done.stderr
    for line in lines:
        assert line.startswith("launch.py: ")
        assert "internal error" not in line
        assert all(word in line for word in trial.words), line
    return done


def rows(trials: list[Trial]) -> list[Any]:
    """Return a parameter for each trial; a whole dry run is slow, a refusal is not."""
    return [pytest.param(trial, id=trial.name, marks=() if trial.code else (pytest.mark.slow,)) for trial in trials]


@pytest.mark.parametrize("trial", rows(TRIALS))
def test_the_plan_or_one_message(trial, file):
    run(trial, "launch.py", file, "--dry-run", "--workdir", file.parent / "größer")


@pytest.fixture(scope="module")
def undisturbed(file: Path) -> str:
    """The state at the end of a run in plain surroundings."""
    done = run(Trial("plain", 0, QUIET), "tests/quick_launch.py", file, "--verbose")
    assert re.search(r"the first step begins after \d+\.\d s", done.stdout)
    return state_of(file.parent / "läufe" / "ein" / "phases" / "grammar")


@pytest.mark.slow
@pytest.mark.parametrize("trial", TRAINED, ids=lambda trial: trial.name)
def test_training_comes_to_the_same_bits(trial, file, undisturbed, tmp_path):
    run(trial, "tests/quick_launch.py", file, "--workdir", tmp_path / "größer")
    assert state_of(tmp_path / "größer" / "phases" / "grammar") == undisturbed


def test_too_few_threads_are_a_message(monkeypatch):
    started = []

    def start(thread):
        if len(started) == 3:
            raise RuntimeError("can't start new thread")
        started.append(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    monkeypatch.setattr(threading.Thread, "join", lambda thread: None)
    with pytest.raises(MachineError, match=r"can start only 3 threads, and JAX needs .*ulimit -u"):
        environment.settle(Path("unused"))


def test_xla_is_asked_once_about_its_flags(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(environment, "_fault", lambda: asked.append(os.environ["XLA_FLAGS"]))
    for flags in ("--xla_a=1", "--xla_a=1", "--xla_b=1"):
        monkeypatch.setenv("XLA_FLAGS", flags)
        environment.settle(tmp_path)
    assert asked == ["--xla_a=1", "--xla_b=1"]


def test_variables_that_change_the_bits_are_recorded(monkeypatch):
    plain = facts.versions()
    monkeypatch.setenv("JAX_DEFAULT_PRNG_IMPL", "rbg")
    assert facts.differences(plain, facts.versions()) == "JAX_DEFAULT_PRNG_IMPL None -> rbg"
    assert facts.differences(facts.versions(), plain) == "JAX_DEFAULT_PRNG_IMPL rbg -> None"


@pytest.mark.parametrize("year", [1970, 2040])
def test_the_clock_of_the_day_plays_no_part_in_the_age_of_a_process(monkeypatch, year):
    monkeypatch.setattr(time, "time", lambda: (year - 1970) * 365.25 * 86_400)
    assert 0 < facts.age() < time.monotonic()


def test_what_is_unfinished_goes_before_text_is_prepared(tree, tmp_path, caplog):
    data_dir = tmp_path / "data"
    left = [data_dir / kind / unfinished.name_of("x", "1") for kind in ("processed", "screened/y", "tokenized", "")]
    for path in left:
        path.mkdir(parents=True)
    (left[0] / "text").write_bytes(bytes(1_500_000))
    (data_dir / "raw").mkdir()
    text = data_dir / "raw" / unfinished.name_of("y", "1")  # the user's folder
    text.write_text("")
    config = config_module.parse(tree | {"data_dir": str(data_dir)}, "tree")
    prepare_text(config, silent, {})
    assert f"{data_dir}: 4 unfinished files and folders of an earlier process removed, 1.5 MB" in caplog.text
    assert list(data_dir.rglob("*.partial-*")) == [text]


@pytest.fixture
def cleaning(texts: Path, tmp_path: Path):
    """`cleaning(number)` sends a signal to a run while two processes clean text, and returns how it ended."""
    tree = one_phase(tmp_path, texts)
    tree["phase"][0]["sources"][0]["path"] = str(tmp_path / "text")
    path = tmp_path / "tiny.toml"
    path.write_text(to_toml(tree | {"processes": 2}), encoding="utf-8")
    (tmp_path / "text").mkdir()
    for part in range(4):
        nouns = itertools.permutations(NOUNS, 2)
        sentences = (f"The {a} {verb} the {b} {n} times." for a, b in nouns for verb in VERBS for n in range(80))
        (tmp_path / "text" / f"{part}.txt").write_text(f"Part {part}. " + " ".join(sentences), encoding="utf-8")

    def strike(number: int) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, str(PROJECT / "launch.py"), str(path)]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, start_new_session=True) as process:
            deadline = time.monotonic() + 100
            while process.poll() is None and time.monotonic() < deadline:
                if len(list((tmp_path / "dätä" / "screened").glob("*/.*/documents.jsonl"))) == 2:
                    break
                time.sleep(0.05)
            os.killpg(process.pid, number)
            output, errors = process.communicate(timeout=100)
        return subprocess.CompletedProcess(command, process.returncode, output, errors)

    strike.path = path
    return strike


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interruption_in_cleaning_leaves_neither_folders_nor_warnings(cleaning, tmp_path, number):
    done = cleaning(number)
    assert done.returncode == 128 + number
    stopping, message = (line for line in done.stderr.splitlines() if line)  # no semaphores
    assert stopping.startswith("Stopping at the next safe point")
    assert message.startswith("launch.py: interrupted by SIG")
    assert not list(tmp_path.rglob("*.partial-*"))


@pytest.mark.slow
def test_what_a_killed_process_left_of_its_cleaning_goes_at_the_next_start(cleaning, tmp_path):
    cleaning(signal.SIGKILL)
    left = len(list(tmp_path.rglob("*.partial-*")))
    assert left >= 3  # two parts, and the corpus
    command = [sys.executable, "tools/prepare_data.py", str(cleaning.path)]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"{left} unfinished files and folders of an earlier process removed" in done.stderr
    assert not list(tmp_path.rglob("*.partial-*"))
