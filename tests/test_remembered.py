"""Measurements that are interrupted go on from their finished parts, all tools by one mechanism."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import PROJECT

from llm60_jax.errors import InputError, Interrupted
from llm60_jax.machine import facts, remembered
from llm60_jax.machine.remembered import Unfinished

IDENTITY = {"steps": 3}


@pytest.fixture
def code(tmp_path) -> Path:
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "tool.py").write_text("x = 1\n")
    return folder


def measure(data_dir, *code, parts=("first",), end: Exception | None = None):
    """Measure some parts, and let an exception end the measurement."""
    with Unfinished(data_dir, "test", IDENTITY, *code) as unfinished:
        for name in parts:
            unfinished.part(name, lambda: {"seconds": (1.5, 2.5)})
        if end is not None:
            raise end


def interrupted(data_dir, *code, parts=("first",)):
    """Measure some parts, and receive a signal in the next."""
    with pytest.raises(Interrupted) as stop:
        measure(data_dir, *code, parts=parts, end=Interrupted("interrupted by SIGINT", signal.SIGINT))
    return stop.value


def files_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_a_finished_part_is_kept_and_the_message_says_so(tmp_path, capsys):
    stop = interrupted(tmp_path)
    assert stop.__notes__ == ["1 finished part kept; the same command goes on from there"]
    assert capsys.readouterr().err == ""
    with Unfinished(tmp_path, "test", IDENTITY) as unfinished:
        assert "first" in unfinished
        assert unfinished.part("first", lambda: pytest.fail("measured again")) == {"seconds": [1.5, 2.5]}
    assert capsys.readouterr().err == "test: goes on with 1 finished part of an interrupted call\n"


def test_a_finished_measurement_is_forgotten(tmp_path):
    interrupted(tmp_path)
    with Unfinished(tmp_path, "test", IDENTITY) as unfinished:
        assert "first" in unfinished
    assert files_below(tmp_path) == []
    assert "first" not in Unfinished(tmp_path, "test", IDENTITY)


def test_a_failure_keeps_the_parts_too(tmp_path):
    with pytest.raises(InputError):
        measure(tmp_path, end=InputError("no"))
    assert "first" in Unfinished(tmp_path, "test", IDENTITY)


def test_nothing_finished_is_told_apart(tmp_path):
    assert interrupted(tmp_path, parts=()).__notes__ == ["no part was finished; the same command starts again"]


def test_parts_of_other_code_settings_or_machines_are_not_mixed(tmp_path, code, monkeypatch):
    interrupted(tmp_path, code)
    assert "first" in Unfinished(tmp_path, "test", IDENTITY, code)
    assert "first" not in Unfinished(tmp_path, "test", {"steps": 4}, code)
    assert "first" not in Unfinished(tmp_path, "other", IDENTITY, code)
    (code / "tool.py").write_text("x = 2\n")
    assert "first" not in Unfinished(tmp_path, "test", IDENTITY, code)
    (code / "tool.py").write_text("x = 1\n")
    assert "first" in Unfinished(tmp_path, "test", IDENTITY, code)
    monkeypatch.setattr(facts, "fingerprint", lambda: ["another machine"])
    assert "first" not in Unfinished(tmp_path, "test", IDENTITY, code)


def test_a_change_of_the_package_is_another_code(tmp_path, monkeypatch):
    interrupted(tmp_path)
    monkeypatch.setattr(remembered, "_digest_of_code", lambda place: f"changed {place}")
    assert "first" not in Unfinished(tmp_path, "test", IDENTITY)


def test_anew_forgets_what_was_kept(tmp_path):
    interrupted(tmp_path)
    assert "first" not in Unfinished(tmp_path, "test", IDENTITY, anew=True)
    assert files_below(tmp_path) == []


@pytest.mark.parametrize("text", ["", "{", "[1]", "null"])
def test_a_damaged_file_costs_a_measurement(tmp_path, text):
    interrupted(tmp_path)
    (path,) = files_below(tmp_path)
    path.write_text(text)
    with Unfinished(tmp_path, "test", IDENTITY) as unfinished:
        assert unfinished.part("first", lambda: 7) == 7


def test_a_killed_process_loses_at_most_the_last_seconds(tmp_path):
    script = (
        "import os, sys\nfrom llm60_jax.machine import remembered\n"
        "remembered._WRITES_APART_SECONDS = 0.0\n"
        "with remembered.Unfinished(sys.argv[1], 'test', {'steps': 3}) as unfinished:\n"
        "    unfinished['first'] = 1\n    os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], cwd=PROJECT)
    assert done.returncode == -signal.SIGKILL
    assert Unfinished(tmp_path, "test", IDENTITY)["first"] == 1


def test_many_short_parts_are_written_together(tmp_path, monkeypatch):
    written = []
    monkeypatch.setattr(remembered, "add", lambda path, entries: written.append(dict(entries)))
    names = [str(number) for number in range(1000)]
    interrupted(tmp_path, parts=names)
    assert len(written) < 10
    assert [name for part in written for name in part] == names
