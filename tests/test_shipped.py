"""The command `llm60`: the same mains as launch.py and tools/, also from a wheel, configurations by name."""

import json
import os
import signal
import subprocess
import sys

import pytest
from conftest import PROJECT

from llm60_jax.machine import shipped

SCRIPTS = shipped.scripts()


@pytest.fixture
def started():
    """Lets a test say how this process was started, and takes it back."""
    before = list(shipped._started)
    yield shipped.started_by
    shipped._started[:] = before


def run(*command, cwd, path=PROJECT):
    environment = os.environ | {"PYTHONPATH": str(path)}
    return subprocess.run([sys.executable, *command], cwd=cwd, env=environment, capture_output=True, text=True)


def test_every_script_has_a_command_and_a_purpose():
    for script in PROJECT.glob("tools/*.py"):
        assert (script.stem in SCRIPTS) != (script.stem in ("docs", "config_page", "reference")), script
    assert SCRIPTS["train"] == PROJECT / "launch.py"
    assert SCRIPTS["bench"] == PROJECT / "tools" / "bench" / "bench.py"  # not the short name that starts it
    for name, script in SCRIPTS.items():
        assert "\ndef main(" in script.read_text(encoding="utf-8"), name
        assert 10 < len(shipped.purpose(script)) < 140, name


def test_commands_are_named_as_the_user_starts_them(started):
    text = (
        "look: python tools/inspect_data.py, python launch.py configs/quickstart.toml, python launch.py configs/x.toml"
    )
    assert shipped.spoken(text) == text
    started("llm60", "train")
    assert shipped.spoken(text) == "look: llm60 inspect-data, llm60 train quickstart, llm60 train configs/x.toml"
    assert shipped.spoken("configs/quickstart.toml: wrong") == "configs/quickstart.toml: wrong"
    assert shipped.program() == "llm60 train"


def test_a_file_comes_before_a_configuration_of_that_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert shipped.config_file("quickstart") == PROJECT / "configs" / "quickstart.toml"
    (tmp_path / "quickstart").touch()
    assert str(shipped.config_file("quickstart")) == "quickstart"


def test_the_module_runs_a_script_with_its_messages_and_exit_code(tmp_path):
    helped = run("-m", "llm60_jax", "doctor", "--help", cwd=tmp_path)
    assert helped.returncode == 0
    assert "usage: python -m llm60_jax doctor" in helped.stdout
    assert "python -m llm60_jax doctor runs/quickstart --json" in helped.stdout
    refused = run("-m", "llm60_jax", "doctor", "nowhere", cwd=tmp_path)
    assert refused.returncode == 2
    assert refused.stderr.startswith("python -m llm60_jax doctor: nowhere: holds no run")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([], 0, "llm60_jax COMMAND"),
        (["--version"], 0, "llm60_jax 0."),
        (["trian"], 2, "did you mean 'train'?"),
        (["xyzzy"], 2, "there is no command 'xyzzy'; `python -m llm60_jax --help` lists all"),
        (["my.toml"], 2, "to train this configuration: python -m llm60_jax train my.toml"),
        (["quickstart"], 2, "python -m llm60_jax train quickstart"),
        (["train", "quikstart"], 2, "did you mean 'quickstart'?"),
        (["train", "other"], 2, "those are bench_data,"),
        (["train", "missing.toml"], 2, "missing.toml: no such configuration file"),
    ],
)
def test_what_is_not_there_is_named(arguments, code, words, tmp_path):
    done = run("-m", "llm60_jax", *arguments, cwd=tmp_path)
    assert done.returncode == code
    assert words in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


_TOOL = """
import sys
from llm60_jax.machine import cli
def body(options, interrupts):
    for _ in range(%d):
        print("x" * 1000)
sys.exit(cli.run_tool("x.py", cli.parser("", ""), [], body))
"""


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("arguments", [["-m", "llm60_jax"], ["-c", _TOOL % 1], ["-c", _TOOL % 100]])
def test_a_reader_that_goes_away_ends_a_command_quietly(arguments, unbuffered, tmp_path):
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, *arguments]
    environment = os.environ | {"PYTHONPATH": str(PROJECT), "PYTHONUNBUFFERED": unbuffered}
    done = subprocess.run(command, cwd=tmp_path, env=environment, stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert done.stderr == ""
    assert done.returncode in (141, -signal.SIGPIPE)


def test_a_result_that_cannot_be_written_is_an_error(tmp_path):
    environment = os.environ | {"PYTHONUNBUFFERED": ""}
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-c", _TOOL % 1]
        done = subprocess.run(command, env=environment, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 5
    assert done.stderr == "x.py: the system: No space left on device\n"


def test_windows_gets_one_message(tmp_path):
    done = run("-c", "import sys; sys.platform = 'win32'; import llm60_jax", cwd=tmp_path)
    assert done.returncode == 5
    assert done.stderr.count("\n") == 1
    assert "WSL 2" in done.stderr


@pytest.mark.slow
def test_a_wheel_has_the_command_the_tools_and_the_configurations(tmp_path):
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    wheel = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path / "wheel"), str(PROJECT)]
    subprocess.run(wheel, check=True, capture_output=True)
    site = tmp_path / "site"
    [file] = (tmp_path / "wheel").glob("*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", str(site), str(file)], check=True, capture_output=True)
    away = tmp_path / "away"
    away.mkdir()
    assert (site / "bin" / "llm60").exists()
    kernels = [{path.name for path in (place / "llm60_jax/kernels/sources").glob("*")} for place in (site, PROJECT)]
    assert kernels[0] == kernels[1]
    for kind in ("html", "css", "js", "svg"):  # templates, and the page of tools/serve.py
        there, here = (
            {path.relative_to(place).as_posix() for path in (place / "llm60_jax").rglob(f"*.{kind}")}
            for place in (site, PROJECT)
        )
        assert there == here != set()
    for name in SCRIPTS:
        done = run("-m", "llm60_jax", name.replace("_", "-"), "--help", cwd=away, path=site)
        assert done.returncode == 0, done.stderr
        assert "python tools/" not in done.stdout, name
    plan = run("-m", "llm60_jax", "plan", "llm60", "--json", cwd=away, path=site)
    assert len(json.loads(plan.stdout)["stages"]) == 15
    dry = run("-m", "llm60_jax", "train", "quickstart", "--dry-run", cwd=away, path=site)
    assert dry.returncode == 0, dry.stderr
    assert list(away.iterdir()) == []
