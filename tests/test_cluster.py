"""The units of a corpus made by tasks: of this machine, of a Slurm of one node, of a Ray of one node."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import prepare_on_cluster
import pytest
from conftest import PROJECT, to_toml
from one_node_slurm import free_ports, slurm  # noqa: F401

from llm60_jax import config as config_module
from llm60_jax.config import Phase
from llm60_jax.data.corpus import corpus, units
from llm60_jax.data.read import sources
from llm60_jax.errors import Interrupted, MachineError
from llm60_jax.machine import slurm as queue
from llm60_jax.machine import terminal
from llm60_jax.machine.progress import silent
from llm60_jax.machine.signals import Interrupts

PHASES = ("grammar", "vocabulary", "fine_tune")  # a unit each


@pytest.fixture
def place(tree: dict[str, Any], texts: Path, tmp_path: Path, monkeypatch) -> Path:
    """A folder with a configuration whose paths are relative; the tests run in it."""
    (tmp_path / "text").symlink_to(texts / "text")
    for phase in tree["phase"]:
        phase["sources"] = [{"kind": "folder", "path": f"text/{phase['name']}"}]
    tree["data_dir"] = "data"
    (tmp_path / "shared.toml").write_text(to_toml(tree))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def recipes(place: Path) -> list[corpus.Recipe]:
    return [corpus.Recipe(phase, place / "data", silent) for phase in phases(place)]


def phases(place: Path) -> tuple[Phase, ...]:
    return config_module.load(place / "shared.toml", []).phase


def folders(place: Path) -> list[Path]:
    """The folders of all units."""
    return [unit.folder(recipe.parts) for recipe in recipes(place) for unit in recipe.units()[0]]


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def tool(*options: str) -> int:
    return prepare_on_cluster.main(["shared.toml", *options])


def lacking(*missing: int) -> str:
    named = "; ".join(f"{PHASES[number]}: 000.txt to 059.txt (60 files)" for number in missing)
    return f"{len(missing)} of 3 parts are missing: {named}"


def test_tasks_give_the_same_bytes(place: Path, monkeypatch) -> None:
    pytest.importorskip("datatrove")
    from llm60_jax.data.corpus.cluster import MakeUnits

    step = MakeUnits([(unit, recipe.parts) for recipe in recipes(place) for unit in recipe.units()[0]])
    monkeypatch.chdir("/")  # another machine's task begins elsewhere
    for rank in (1, 0, 1, 1):
        assert list(step.run(iter(["passes"]), rank, 2)) == ["passes"]
    assert step.stats["units"].total == 5
    monkeypatch.chdir(place)
    first = phases(place)[0]
    expected = content(corpus.prepare(first, place / "one", silent).folder)
    monkeypatch.setattr(sources, "read", None)  # nothing is read again
    assert content(corpus.prepare(first, place / "data", silent).folder) == expected


def test_a_unit_that_fails_does_not_stop_the_others_of_its_task(place: Path) -> None:
    pytest.importorskip("datatrove")
    from llm60_jax.data.corpus.cluster import MakeUnits

    made = folders(place)
    made[0].parent.mkdir(parents=True)
    made[0].touch()
    step = MakeUnits([(unit, recipe.parts) for recipe in recipes(place) for unit in recipe.units()[0]])
    with pytest.raises(MachineError, match="cannot write the cleaned text"):
        list(step.run())
    assert [folder.is_dir() for folder in made] == [False, True, True]


def test_check_names_the_missing_parts(place: Path, capsys) -> None:
    assert tool("--check") == 5
    assert lacking(0, 1, 2) in capsys.readouterr().err
    for recipe in recipes(place)[:2]:
        units.make(recipe.units()[0], recipe.parts, silent, "")
    damaged = folders(place)[1] / "documents.jsonl"
    damaged.write_bytes(damaged.read_bytes()[:-10])
    assert tool("--check") == 5
    assert lacking(1, 2) in capsys.readouterr().err
    for recipe in recipes(place)[1:]:
        units.make(recipe.units()[0], recipe.parts, silent, "")
    assert tool("--check") == 0
    assert "all 3 parts are there; join them" in capsys.readouterr().out
    corpus.prepare(phases(place)[0], place / "data", silent)
    assert tool("--check") == 0
    assert "phase grammar: its text is prepared already" in capsys.readouterr().out


def test_parts_of_a_large_file_are_named_by_their_bytes(place: Path) -> None:
    (file,) = sources.inputs(sources.folder("text/grammar/000.txt"))
    source = phases(place)[0].sources[0]
    parts = [(sources.InputFile(file.path, file.name, file.kind, sources.Part(2_000, 3_500, 7)), "")]
    unit = units.Unit(source, phases(place)[0].exclude, (), tuple(parts))
    assert unit.name == "000.txt, bytes 2,000 to 3,500"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--tasks", "0"], "--tasks"),
        (["--phase", "gramar"], "gramar"),
        (["--executor", "slurm"], "--partition"),
        (["--wait"], "--wait is for --executor slurm"),
        (["--executor", "ray", "--qos", "long"], "--qos is for --executor slurm"),
        (["--mem", "4G"], "--mem is for --executor slurm and ray"),
        (["--executor", "ray", "--mem", "4"], "--mem 4: give a number and M or G"),
        (["--executor", "slurm", "--partition", "cpu"], "sbatch and squeue not found"),
    ],
)
def test_wrong_options_for_tasks_are_refused(tiny_file: Path, options: list[str], words: str, capsys, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    try:
        code = prepare_on_cluster.main([str(tiny_file), *options])
    except SystemExit as stopped:
        code = stopped.code
    assert code == 2
    assert words in capsys.readouterr().err


def test_the_script_of_slurm_tasks_asks_for_what_the_user_said_and_starts_this_environment(tmp_path: Path) -> None:
    pytest.importorskip("datatrove")
    from llm60_jax.data.corpus import cluster

    settings = {"partition": "cpu", "time": "00:10:00", "memory": "900M", "qos": ""}
    executor = cluster.slurm(cluster.MakeUnits([]), tmp_path, 1, -1, name="llm60-test", **settings)
    script = executor.get_launch_file_contents(executor.get_sbatch_args(), "true")
    lines = script.splitlines()
    for line in ("partition=cpu", "time=00:10:00", "mem-per-cpu=900M", "job-name=llm60-test"):
        assert f"#SBATCH --{line}" in lines
    assert "qos" not in script
    bare = {"PATH": "/usr/bin:/bin"}
    show = f'{executor.env_command}; type -P python; echo "$PYTHONPATH"; launch_pickled_pipeline --help'
    shown = subprocess.run(["bash", "-c", show], env=bare, capture_output=True, text=True, check=True)
    python, path, *usage = shown.stdout.splitlines()
    assert Path(python).parent == Path(sys.executable).parent
    assert path.split(os.pathsep)[0] == str(PROJECT)
    assert "executor.pik" in " ".join(usage)


@pytest.fixture
def answers(tmp_path: Path, monkeypatch) -> Callable[..., None]:
    """Let `squeue` give some answers, one after the other; then the queue is empty."""

    def give(*texts: str) -> None:
        (tmp_path / "bin").mkdir()
        for number, text in enumerate(texts):
            (tmp_path / f"{number:02}.answer").write_text(text)
        script = (
            '#!/bin/bash\ncd "$(dirname "$0")/.."; next=$(ls *.answer 2>/dev/null | head -1); [ "$next" ] || exit 0\n'
            'mv "$next" last; grep -q fails last && { cat last >&2; exit 1; }; cat last\n'
        )
        (tmp_path / "bin" / "squeue").write_text(script)
        (tmp_path / "bin" / "squeue").chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
        monkeypatch.setattr(queue, "_FIRST_SECONDS", 0.0)

    return give


def test_a_wait_ends_with_the_last_job(answers, capsys) -> None:
    answers("7_[1-3]|PENDING|Resources\n7_0|RUNNING|None\n", "it fails\n", "7_3|RUNNING|None\n", "7_3|RUNNING|None\n")
    queue.wait("x", lambda: None, lambda: "1 of 3 parts")
    shown = capsys.readouterr().out.splitlines()
    assert shown == ["Slurm: pending (Resources), running; 1 of 3 parts", "Slurm: running; 1 of 3 parts"]


def test_jobs_that_never_run_end_the_wait(answers) -> None:
    answers("7_[1-3]|PENDING|launch failed requeued held\n")
    with pytest.raises(MachineError, match=r"launch failed requeued held.*scontrol show job 7.*scancel --name=x"):
        queue.wait("x", lambda: None, lambda: "")


def test_a_controller_that_does_not_answer_ends_the_wait_after_a_while(answers, monkeypatch) -> None:
    monkeypatch.setattr(queue, "_LOST_SECONDS", -1.0)
    answers("Unable to contact the controller: it fails\n")
    with pytest.raises(MachineError, match="squeue: Unable to contact"):
        queue.wait("x", lambda: None, lambda: "")


def test_an_interrupted_wait_says_that_the_jobs_go_on(answers, place: Path, capsys, monkeypatch) -> None:
    pytest.importorskip("datatrove")
    real, lines = terminal.say, list[str]()

    def say(text: str) -> None:
        lines.append(text)
        real(text)

    def check(interrupts: Interrupts) -> None:
        if lines and lines[-1].startswith("Slurm: running"):
            raise Interrupted("interrupted by SIGINT", 2)

    answers(*["7_0|RUNNING|None\n"] * 9)
    (place / "bin" / "sbatch").symlink_to(place / "bin" / "squeue")
    monkeypatch.setattr(terminal, "say", say)
    monkeypatch.setattr(Interrupts, "check", check)
    assert tool("--executor", "slurm", "--partition", "cpu", "--wait") == 130
    output = capsys.readouterr()
    assert "An earlier call's tasks are still in the queue: 7_0. No others are added." in output.out
    assert "the tasks go on; scancel --name=llm60-" in output.err


def test_a_ray_cluster_that_cannot_be_reached_is_one_message(place: Path, capsys, monkeypatch) -> None:
    for package in ("datatrove", "ray"):
        pytest.importorskip(package)
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{free_ports(1)[0]}")
    assert tool("--executor", "ray") == 5
    assert "no Ray cluster can be reached at '127.0.0.1:" in capsys.readouterr().err


# Real engines


@pytest.fixture(scope="module")
def ray() -> Iterator[dict[str, str]]:
    """Start a Ray of one node, and yield the environment in which its clients find it."""
    pytest.importorskip("ray")
    (port,) = free_ports(1)
    folder = Path(tempfile.mkdtemp(prefix="ray"))  # short: a socket's path has at most 107 characters
    command = ["ray", "start", "--head", "--block", f"--port={port}", f"--temp-dir={folder}", "--num-cpus=2",
               "--memory=2000000000", "--object-store-memory=100000000", "--include-dashboard=false",
               "--disable-usage-stats", "--node-ip-address=127.0.0.1"]  # fmt: skip
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "TMPDIR": str(folder)}
    with (folder / "output").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 60
        while b"--block" not in (folder / "output").read_bytes():
            assert process.poll() is None, (folder / "output").read_text()
            assert time.monotonic() < end, (folder / "output").read_text()
            time.sleep(0.2)
        yield environment | {"RAY_ADDRESS": f"127.0.0.1:{port}"}
    finally:
        process.terminate()
        process.wait(60)
        shutil.rmtree(folder, ignore_errors=True)


ENGINES = {
    "local": ["--tasks", "2", "--workers", "2"],
    "slurm": [
        "--tasks",
        "2",
        "--executor",
        "slurm",
        "--partition",
        "cpu",
        "--time",
        "00:05",
        "--mem",
        "900M",
        "--wait",
    ],
    "ray": ["--tasks", "2", "--executor", "ray", "--mem", "500M"],
}


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_an_engine_makes_what_is_missing_and_tells_what_failed(
    place: Path, engine: str, request: pytest.FixtureRequest
) -> None:
    """The tool runs as a user starts it, in an environment that is not activated."""
    pytest.importorskip("datatrove")
    environment = dict(os.environ) if engine == "local" else request.getfixturevalue(engine)
    elsewhere = [folder for folder in environment["PATH"].split(":") if Path(folder) != Path(sys.executable).parent]
    environment = environment | {"PATH": ":".join(elsewhere)}

    def run(*options: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(PROJECT / "tools" / "prepare_on_cluster.py"), "shared.toml", *ENGINES[engine]]
        return subprocess.run([*command, *options], env=environment, capture_output=True, text=True, timeout=120)

    made = folders(place)
    made[1].parent.mkdir(parents=True)
    made[1].touch()  # in the place of a folder: this unit cannot be made
    failed = run()
    assert failed.returncode == 5, failed.stderr
    assert "vocabulary: 000.txt to 059.txt (60 files)" in failed.stderr
    if engine != "local":  # it stops at the first failure
        assert lacking(1) in failed.stderr
    made[1].unlink()
    before = {folder: folder.stat().st_mtime_ns for folder in made if folder.is_dir()}
    repeated = run()
    assert repeated.returncode == 0, repeated.stderr
    assert f"3 parts, {len(before)} of them there" in repeated.stdout
    assert "all 3 parts are there" in repeated.stdout
    assert before == {folder: folder.stat().st_mtime_ns for folder in before}
    for recipe in recipes(place):
        (unit,) = recipe.units()[0]
        units.make_one(unit, place / "here")
        assert content(unit.folder(recipe.parts)) == content(unit.folder(place / "here"))


@pytest.mark.slow
def test_slurm_tasks_are_submitted_once_and_can_be_waited_for_later(
    place: Path,
    slurm: dict[str, str],  # noqa: F811
    monkeypatch,
    capfd,
) -> None:
    pytest.importorskip("datatrove")
    for name in ("PATH", "SLURM_CONF"):
        monkeypatch.setenv(name, slurm[name])

    def control(*words: str) -> None:
        subprocess.run(["scontrol", *words], check=True)

    options = ["--tasks", "2", "--executor", "slurm", "--partition", "cpu"]
    assert tool(*options, "--time", "soon") == 2
    assert "sbatch refused the job" in capfd.readouterr().err
    control("update", "partition=cpu", "state=down")
    try:
        assert tool(*options) == 0
        said = capfd.readouterr().out
        assert "squeue --name=llm60-" in said
        assert "the same command with --check" in said
        assert tool(*options) == 0
        assert "An earlier call's tasks are still in the queue" in capfd.readouterr().out
        (job,) = {job.name.split("_")[0] for job in queue.queued(said.split("--name=")[1].split()[0])}
        control("hold", job)
        assert tool(*options, "--wait") == 5
        assert f"scontrol show job {job}" in capfd.readouterr().err
    finally:
        control("update", "partition=cpu", "state=up")
    control("release", job)
    assert tool(*options, "--wait") == 0
    assert "all 3 parts are there" in capfd.readouterr().out
