"""Which rounds of the bench count, with made-up figures."""

import importlib.util
import json
import time
from typing import NamedTuple

import bench
import bench_report
import pytest
import quiet
from conftest import to_toml

from llm60_jax.errors import MachineError
from llm60_jax.machine.progress import silent

LIMIT = 0.06


class Script:
    """Sides whose steps take the given seconds, beside processes that use the given shares of a core.

    The last figure of a side is repeated.
    """

    def __init__(self, **figures):
        self.figures, self.done = {name: list(values) for name, values in figures.items()}, []
        self.steps = {name: lambda name=name: self.step(name) for name in figures}

    def step(self, name):
        self.done.append(name)
        values = self.figures[name]
        seconds, foreign = values.pop(0) if len(values) > 1 else values[0]
        return {"seconds": seconds, "peak_bytes": len(self.done)}, foreign

    def rounds(self, rounds, contenders=()):
        result = quiet.Rounds("stage 7", self.steps, contenders, rounds, LIMIT)
        result.run(silent)
        return result


def test_a_disturbed_round_ends_at_once_is_left_out_and_repeated():
    script = Script(jax=[(7.0, 0.0), (15.0, 0.5), (8.0, 0.06)], torch=[(9.0, 0.0), (30.0, 0.07), (12.0, 0.01)])
    rounds = script.rounds(3)
    assert script.done == ["jax", "torch", "jax", "jax", "torch", "jax", "torch", "jax", "torch"]
    assert rounds.disturbed == [0.5, 0.07]
    assert [[answers[name]["seconds"] for name in ("jax", "torch")] for answers in rounds.clean] == [
        [7.0, 9.0],
        [8.0, 12.0],
        [8.0, 12.0],
    ]
    assert rounds.middle("torch") == 12.0
    assert rounds.ratio("torch", "jax") == 1.5  # of paired steps, not 12 / 8 of medians of other rounds
    assert rounds.last("torch")["peak_bytes"] == 9


def test_too_many_disturbed_rounds_are_one_message():
    script = Script(jax=[(7.0, 0.0), (7.0, 0.9), (7.0, 0.3)])
    with pytest.raises(MachineError) as caught:
        script.rounds(2)
    assert len(script.done) == 1 + 2 + quiet.SPARE_ROUNDS + 1
    for words in ("stage 7", "30% to 90% of a core in 6 rounds", "1 of 2 rounds", "up to 6%", "--foreign-percent"):
        assert words in str(caught.value)
    # as many disturbed rounds as are allowed
    script = Script(jax=[(7.0, 0.9)] * (2 + quiet.SPARE_ROUNDS) + [(7.0, 0.0)])
    assert len(script.rounds(2).clean) == 2


def test_a_contender_that_is_clearly_slower_stops_early():
    script = Script(
        jax=[(50.0, 0.0)],
        eager=[(13.0, 0.0), (10.0, 0.0)],  # 1.3 times the fastest after one round
        remat=[(11.5, 0.0)],  # 1.15 times
        compiled=[(10.4, 0.0), (10.2, 0.0)],
        written=[(10.0, 0.0)],
    )
    rounds = script.rounds(4, ("eager", "remat", "compiled", "written"))
    assert [rounds.count(name) for name in ("jax", "eager", "remat", "compiled", "written")] == [4, 1, 2, 4, 4]
    alone = Script(jax=[(5.0, 0.0)], eager=[(90.0, 0.0)])
    assert alone.rounds(3, ("eager",)).count("eager") == 3


def test_a_disturbed_round_stops_nobody():
    script = Script(eager=[(40.0, 0.2), (10.0, 0.0)], compiled=[(10.0, 0.0)])
    assert script.rounds(3, ("eager", "compiled")).count("eager") == 3


def test_the_best_variant_took_part_to_the_end():
    lucky = {"ratio": 1.2, "rounds": 1, "step_seconds": 9.0}
    steady = {"ratio": 1.3, "rounds": 5, "step_seconds": 10.0}
    best = bench._best_of({"eager": lucky, "written": steady}, 100)
    assert (best["torch_variant"], best["ratio"], best["torch_tokens_per_second"]) == ("written", 1.3, 10.0)
    assert bench._best_of({}, 100)["ratio"] is None


class Side:
    """A process that uses CPU time of its own while it works."""

    def __init__(self, system, own, others):
        self.system, self.own, self.others, self.used = system, own, others, 0.0

    def cpu_seconds(self):
        return self.used

    def ask(self, do, **values):
        self.used += self.own
        self.system[0] += self.own + self.others
        return {"seconds": 1.0, "do": do, **values}


@pytest.mark.parametrize("others", [0.0, 3.0])
def test_what_the_side_did_not_use_itself_is_foreign(monkeypatch, others):
    """Also what the waiting sides use: their processes are others."""
    system, clock = [100.0], iter((0.0, 10.0))
    monkeypatch.setattr(quiet, "busy_seconds", lambda: system[0])
    monkeypatch.setattr(quiet.time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(quiet, "_cores", lambda: [0, 1])
    answer, foreign = quiet.watched(Side(system, 19.0, others), "step", index=4)
    assert answer == {"seconds": 1.0, "do": "step", "index": 4}
    assert foreign == pytest.approx(max(0.0, others - 0.04) / 10)


def test_ticks_of_the_system_disturb_nothing():
    assert quiet.foreign_share(0.04, 0.1, cores=2) == 0.0
    assert quiet.foreign_share(-0.02, 0.1, cores=2) == 0.0
    assert quiet.foreign_share(0.14, 1.0, cores=2) == pytest.approx(0.1)


class Times(NamedTuple):
    """CPU times of a core, in seconds."""

    user: float
    system: float
    idle: float
    iowait: float
    steal: float
    guest: float  # part of user


def test_only_work_on_these_cores_counts(monkeypatch):
    cores = [Times(100.0, 100.0, 100.0, 100.0, 100.0, 100.0), Times(5.0, 2.0, 300.0, 40.0, 1.0, 3.0)]
    monkeypatch.setattr(quiet.psutil, "cpu_times", lambda percpu: cores)
    monkeypatch.setattr(quiet, "_cores", lambda: [1])
    assert quiet.busy_seconds() == 5 + 2 + 1


def test_work_on_these_cores_is_counted():
    busy, own = quiet.busy_seconds(), time.process_time()
    while time.process_time() - own < 0.3:
        pass
    assert quiet.busy_seconds() - busy > 0.2


class NativeSide:
    """A process of the bench: native kernels, XLA with the setting for it, or PyTorch."""

    version = "0"

    def __init__(self, *command):
        self.seconds = 3.0 if "train.kernels=xla" in command else 2.0

    def cpu_seconds(self):
        return 0.0

    def close(self):
        pass

    def ask(self, do, index=0, variant="", **values):
        facts = {"context": 16, "frozen": 0, "micro_batch": 4, "remat": "full", "devices": 1, "steps": 3, "tokens": 64}
        facts |= {"blocks": 6, "kernels": "native", "matmul_flops": 600, "compile_seconds": 1.0, "temporary_bytes": 1}
        return {
            "stage": facts,
            "ceiling": {"ceiling_flops": 1000.0, "register_flops": 400.0},
            "step": {"seconds": {"": self.seconds, "eager": 6.0, "written": 4.0}[variant], "peak_bytes": 2},
            "generation": {"tokens_per_second": 1.0, "bandwidth_share": 0.5},
            "export": {"loss": 10.0},
            "loss": {"loss": 10.5},
        }.get(do, {"seconds": 0.1, "compile_seconds": 5.0})


@pytest.fixture
def sides(tree, tmp_path, monkeypatch):
    for name in ("WorkerProcess", "torch_worker"):
        monkeypatch.setattr(bench, name, NativeSide)
    monkeypatch.setattr(quiet, "busy_seconds", lambda: 0.0)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: True)
    (tmp_path / "c.toml").write_text(to_toml(tree | {"data_dir": str(tmp_path / "data")}))
    return [str(tmp_path / "c.toml"), "--against-xla", "--against-torch", "--variants", "eager,written"]


def test_native_kernels_stand_against_xla_and_pytorch(sides, capsys):
    assert bench.main([*sides, "--json"]) == 0
    output = capsys.readouterr()
    report, row = json.loads(output.out), json.loads(output.out)["stages"][0]
    assert (row["kernels"], row["xla_ratio"], row["ratio"], row["torch_variant"]) == ("native", 1.5, 2.0, "written")
    assert (row["register_peak_flops_per_second"], row["register_peak_share"], row["ceiling_share"]) == (400, 0.75, 0.3)
    assert row["torch"]["eager"]["rounds"] == 1
    assert report["losses"] == {"jax": 10.0, "xla": 10.0, "torch": 10.5}
    assert (report["whole_playbook_ratio"], report["flat_torch_variant"]) == (2.0, "written")
    assert report["disturbed_rounds"] == 0
    assert "stage 1: preparing PyTorch" in output.err
    text = bench_report.table(report["stages"])
    assert "native" in text
    assert "75%" in text
    assert "times XLA" in text
    plain = [dict(row, register_peak_share=None, xla_ratio=None, torch_variant=None, ratio=None)]
    assert not any(words in bench_report.table(plain) for words in ("register", "times XLA", "torch", "ratio"))
    assert bench.main([*sides]) == 0
    assert "10.00000 here, 10.00000 in plain XLA, 10.50000 in PyTorch" in capsys.readouterr().out


def test_a_machine_that_is_not_quiet_ends_the_bench(sides, capsys, monkeypatch):
    ticks = iter(range(10**6))
    monkeypatch.setattr(quiet, "busy_seconds", lambda: float(next(ticks)))
    assert bench.main([*sides, "--stages", "2"]) == MachineError.exit_code
    error = capsys.readouterr().err
    assert "bench.py: stage 2: other processes used" in error
    assert "0 of 3 rounds were clean" in error
