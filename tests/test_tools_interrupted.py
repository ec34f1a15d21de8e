"""Tools that are interrupted say what they keep, and the same command goes on from there."""

import json
import signal
from pathlib import Path

import bench
import bench_data
import bench_pages
import bench_writing
import evaluate
import fuzz_data
import fuzz_files
import plan as plan_tool
import prepare_data
import pytest
import quiet
from conftest import to_toml

from llm60_jax.errors import Interrupted
from llm60_jax.machine import signals
from llm60_jax.machine.remembered import Unfinished
from llm60_jax.training import costs


@pytest.fixture
def path(tree, tmp_path) -> str:
    """The tiny configuration as a file, with a data directory of its own."""
    (tmp_path / "c.toml").write_text(to_toml(tree | {"data_dir": str(tmp_path / "data")}))
    return str(tmp_path / "c.toml")


@pytest.fixture
def ctrl_c(monkeypatch):
    """`ctrl_c(part)` lets Ctrl-C come once that part of a measurement is finished; None lets it come no more."""
    real = Unfinished.__setitem__
    at: list[int | None] = [None]
    measured: list[str] = []

    def keep(self, name, value):
        real(self, name, value)
        measured.append(name)
        if len(measured) == at[0]:
            raise Interrupted("interrupted by SIGINT", signal.SIGINT)

    monkeypatch.setattr(Unfinished, "__setitem__", keep)
    monkeypatch.setattr(signals.Interrupts, "install", lambda self: None)

    def come(number: int | None) -> list[str]:
        """Return the parts measured since the last call."""
        at[0], names = number, measured.copy()
        measured.clear()
        return names

    return come


def goes_on(main, command, ctrl_c, capsys, after=1) -> str:
    """Interrupt a tool after a part, run it again, and return what it prints then."""
    ctrl_c(after)
    assert main(command) == 130
    output = capsys.readouterr()
    assert output.out == ""
    parts = f"{after} finished part{'s' if after > 1 else ''}"
    assert f": interrupted by SIGINT; {parts} kept; the same command goes on from there" in output.err
    before = ctrl_c(None)
    assert len(before) == after
    assert main(command) == 0
    output = capsys.readouterr()
    assert f"goes on with {parts} of an interrupted call" in output.err
    rest = ctrl_c(None)
    assert rest
    assert not set(before) & set(rest)
    return output.out


class FakeSteps:
    """Steps that take no time to compile."""

    def __init__(self, config, phase):
        self.compiled = self

    def __getitem__(self, key):
        return key

    def release(self, keep):
        pass

    def temporary_bytes(self, key):
        return 10**6

    def time(self, key):
        return 1.0 + key.context, 0.0


def test_the_plan_keeps_measured_programs(path, ctrl_c, capsys, monkeypatch):
    monkeypatch.setattr(costs, "Steps", FakeSteps)
    report = json.loads(goes_on(plan_tool.main, [path, "--measure", "--json"], ctrl_c, capsys, after=3))
    assert all(row["step_seconds"]["median"] == 1.0 + row["context"] for row in report["stages"])
    assert plan_tool.main([path, "--measure", "--json"]) == 0
    assert len(ctrl_c(2)) == 5  # a finished measurement is measured anew
    assert plan_tool.main([path, "--measure", "--json"]) == 130
    ctrl_c(None)
    assert plan_tool.main([path, "--measure", "--json", "--anew"]) == 0
    assert len(ctrl_c(None)) == 5


class FakeSide:
    """JAX's process of the bench."""

    version = "0"

    def __init__(self, *command):
        pass

    def cpu_seconds(self):
        return 0.0

    def ask(self, do, index=0, **values):
        facts = {"context": 16, "frozen": 0, "blocks": 2, "micro_batch": 4, "remat": "full", "devices": 1, "steps": 3}
        facts |= {"tokens": 64, "kernels": "xla", "matmul_flops": 100, "compile_seconds": 1.0, "temporary_bytes": 1}
        writing = {"tokens_per_second": 1.0, "bandwidth_share": 0.5}
        return {
            "stage": facts,
            "ceiling": {"ceiling_flops": 1000.0, "register_flops": None},
            "step": {"seconds": 1.0 + index, "peak_bytes": 2},
            "generation": writing,
        }.get(do, {"seconds": 0.1})

    def close(self):
        pass


def test_the_bench_keeps_measured_stages(path, ctrl_c, capsys, monkeypatch):
    monkeypatch.setattr(bench, "WorkerProcess", FakeSide)
    monkeypatch.setattr(quiet, "busy_seconds", lambda: 0.0)
    report = json.loads(goes_on(bench.main, [path, "--json"], ctrl_c, capsys, after=2))
    assert [row["step_seconds"] for row in report["stages"]] == [1.0, 2.0, 3.0, 4.0, 5.0]


def test_the_benches_of_text_keep_rounds_kinds_and_pages(path, tmp_path, ctrl_c, capsys, monkeypatch):
    monkeypatch.setattr(bench_data, "datatrove_pipeline", lambda: None)
    result = json.loads(goes_on(bench_data.main, [path, "--megabytes", "0.002", "--json"], ctrl_c, capsys, after=2))
    assert result["rounds"] == 3
    command = [path, "--kinds", "text-wrapped-at-72", "diary-days", "--documents", "8", "--json"]
    tree = json.loads(goes_on(bench_writing.main, command, ctrl_c, capsys))
    assert tree["kinds"]["diary-days"]["own"] == 1.0
    monkeypatch.chdir(tmp_path)
    Path("pages").mkdir()
    for name in "ab":
        text = "It rained all day, and we stayed at home. " * 9
        Path("pages", f"{name}.html").write_text(f"<html><body><article><p>{text}</p></article></body></html>")
        Path("pages", f"{name}.txt").write_text(text)
    pytest.importorskip("trafilatura")
    assert "2 pages: precision 1.000, recall 1.000" in goes_on(bench_pages.main, ["pages"], ctrl_c, capsys)


@pytest.mark.slow
def test_fuzzers_keep_what_they_have_tried(path, tmp_path, ctrl_c, capsys):
    assert "3 corpora from 0 on" in goes_on(fuzz_data.main, [path, "--corpora", "3"], ctrl_c, capsys)
    command = [path, "configs", "--count", "4", "--json"]
    result = json.loads(goes_on(fuzz_files.main, command, ctrl_c, capsys, after=2))
    assert (result["tried"], result["wrong"]) == (4, [])


@pytest.mark.slow
def test_an_evaluation_keeps_scored_batches(base, tmp_path, ctrl_c, capsys):
    (tmp_path / "a.txt").write_text("The quiet river crossed the garden. " * 40)
    command = [str(base), "--text", str(tmp_path / "a.txt"), "--json"]
    assert evaluate.main(command) == 0
    whole = json.loads(capsys.readouterr().out)
    ctrl_c(None)
    assert json.loads(goes_on(evaluate.main, command, ctrl_c, capsys, after=2)) == whole


def test_prepared_text_is_kept_and_that_is_said(path, capsys, monkeypatch):
    monkeypatch.setattr(signals.Interrupts, "install", lambda self: setattr(self, "received", signal.SIGTERM))
    assert prepare_data.main([path]) == 143
    error = capsys.readouterr().err
    assert "interrupted by SIGTERM; finished parts of the text are kept; the same command goes on from there" in error
