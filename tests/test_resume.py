"""A run that stops where something changes, and goes on, equals one that never stopped: bit for bit."""

import copy
import json
from pathlib import Path

import pytest
from conftest import few_pairs, metrics, shared_programs, state_of, tiny_tree, without_time

from llm60_jax import config as config_module
from llm60_jax import plan
from llm60_jax.errors import InputError
from llm60_jax.machine.signals import Interrupts
from llm60_jax.plan import Decision
from llm60_jax.run import loop, measures


@pytest.fixture(scope="module")
def two_phases(texts, tmp_path_factory):
    """Two phases of five steps: two blocks freeze after 1, the context grows after 3."""
    tree = tiny_tree(texts) | {"workdir": str(tmp_path_factory.mktemp("two") / "run")}
    tree["phase"] = tree["phase"][:2]
    for phase in tree["phase"]:
        phase |= {"tokens": 5 * 128, "context": [[0.0, 16], [0.6, 32]], "freeze": [[0.0, 0], [0.2, 2]]}
    tree["phase"][1]["reweight"] = {}
    c = config_module.parse(tree, "x")
    with pytest.MonkeyPatch.context() as patch:
        few_pairs(patch)
        shared_programs(patch)
        loop.launch(c, Interrupts(), "again")
    return tree, Path(c.workdir)


@pytest.mark.parametrize("stop_after", [1, 3, 5], ids=["freeze", "context", "phase"])
def test_at_every_boundary(two_phases, train, tmp_path, stop_after):
    tree, reference = two_phases
    tree = copy.deepcopy(tree) | {"workdir": str(tmp_path / "run")}
    train(tree, stop_after)
    workdir = train(tree)
    for name in ("grammar", "vocabulary"):
        phase = reference / "phases" / name
        assert state_of(workdir / "phases" / name) == state_of(phase)
    assert without_time(metrics(workdir)) == without_time(metrics(reference))


def test_what_is_minimised_and_what_is_reported(two_phases):
    """Reweighting trains on the weighted loss and reports the plain one beside it."""
    rows = [row for row in metrics(two_phases[1]) if "loss" in row]
    assert all(row["loss"] == row["objective"] for row in rows if row["phase"] == "grammar")
    assert all(row["loss"] != row["objective"] for row in rows if row["phase"] == "vocabulary")


def test_stage_rows_account_for_memory_compilation_and_waiting(two_phases):
    ends = [row["stage_end"] for row in metrics(two_phases[1]) if "stage_end" in row]
    assert len(ends) == 6
    for end in ends:
        assert 0 < end["resident_bytes"] <= end["peak_resident_bytes"] * 1.05
        assert end["waited_seconds"] <= end["compile_seconds"] + 1
        assert end["frozen_leaves_changed"] == 0
    assert [end["frozen_leaves"] > 0 for end in ends] == [False, True, True] * 2


def test_drift_and_gradient_norms_are_logged_by_stack(two_phases):
    rows = metrics(two_phases[1])
    looks = [row for row in rows if "drift" in row]
    assert [row["step"] for row in looks] == [1, 2, 3, 4, 6, 7, 8, 9]
    segments = {"blocks_0_1", "blocks_2_3", "blocks_4_5"}
    assert all(row["drift"].keys() == segments for row in looks)
    assert all(0 < row["drift"]["blocks_4_5"] < 1 for row in looks)
    norms = [row["segment_grad_norms"].keys() for row in rows if "loss" in row]
    assert norms[0] == segments
    assert norms[1] == segments - {"blocks_0_1"}


def test_blocks_thaw_as_they_were_and_train_on(tree, train, tmp_path):
    tree["tokenizer"] = {"phases": ["grammar"]}
    thawing = {"context": [[0.0, 16]], "freeze": [[0.0, 0], [0.3, 4], [0.8, 0]]}
    tree["phase"] = [tree["phase"][0] | thawing]
    reference = train(tree)
    stages = [row["stage_end"]["frozen_leaves"] for row in metrics(reference) if "stage_end" in row]
    assert [leaves > 0 for leaves in stages] == [False, True, False]  # not a bit of them or of their state changed
    proofs = [row["proof"]["blocks_with_gradient"] for row in metrics(reference) if "proof" in row]
    assert proofs == [6, 2, 6]
    again = copy.deepcopy(tree) | {"workdir": str(tmp_path / "again")}
    train(again, 8)
    workdir = train(again)
    assert state_of(workdir / "phases" / "grammar") == state_of(reference / "phases" / "grammar")
    assert without_time(metrics(workdir)) == without_time(metrics(reference))


@pytest.mark.parametrize("other", [{"freeze_when": "converged"}, {"lora": {}}])
def test_blocks_do_not_thaw_where_freezes_wait_or_adapters_train(tuning, other):
    tuning["phase"][0] |= {"freeze": [[0.0, 2], [0.5, 0]], **other}
    with pytest.raises(InputError, match="freeze: depths must not fall where freezes wait or adapters train"):
        config_module.parse(tuning, "x")


@pytest.fixture
def converging(tree):
    """One phase of ten steps in which two blocks freeze from step 3 on, when converged, at most three steps later."""
    tree["tokenizer"] = {"phases": ["grammar"]}
    short = {"tokens": 10 * 128, "context": [[0.0, 16]], "freeze": [[0.0, 0], [0.3, 2]]}
    wait = {"freeze_when": "converged", "freeze_delay": 0.3, "settled_drift": 0.02}
    tree["phase"] = [tree["phase"][0] | short | wait]
    return tree


def drifting(monkeypatch, values):
    """Lets the lowest stack drift as told, look by look."""
    real = measures.look

    def look(run, phase, stage):
        real(run, phase, stage)
        if run.progress.look.drift is not None:
            run.progress.look.drift["blocks_0_1"] = values[run.step]

    monkeypatch.setattr(measures, "look", look)


def test_a_freeze_waits_until_its_blocks_have_settled(converging, train, monkeypatch):
    drifting(monkeypatch, {step: 0.5 if step < 5 else 0.01 for step in range(1, 10)})
    workdir = train(converging)
    steps = [row for row in metrics(workdir) if "loss" in row]
    assert [row["frozen"] for row in steps] == [0] * 5 + [2] * 5
    decisions = [row["decision"] for row in metrics(workdir) if "decision" in row]
    assert [(d["step"], d["wait"]) for d in decisions] == [(3, 1), (4, 1), (5, 0)]
    assert "drift 0.5000, above 0.02" in decisions[0]["reason"]
    assert "settled: drift 0.0100" in decisions[-1]["reason"]
    written = json.loads((workdir / "plan.json").read_text())
    assert [(row["start_step"], row["frozen"]) for row in written] == [(0, 0), (3, 0), (4, 0), (5, 2)]
    assert written[-1]["reason"].startswith("settled")
    proofs = [row["proof"]["blocks_with_gradient"] for row in metrics(workdir) if "proof" in row]
    assert proofs == [6, 6, 6, 4]
    assert (workdir / "checkpoints" / "5").exists()  # saved before the freeze, wherever it came


@pytest.mark.slow
def test_a_freeze_waits_no_longer_than_it_may(converging, train, monkeypatch):
    drifting(monkeypatch, dict.fromkeys(range(1, 10), 0.5))
    workdir = train(converging)
    assert [row["frozen"] for row in metrics(workdir) if "loss" in row] == [0] * 6 + [2] * 4
    last = [row["decision"] for row in metrics(workdir) if "decision" in row][-1]
    assert "waited 3 steps, the most allowed" in last["reason"]


@pytest.mark.slow
def test_a_freeze_whose_blocks_have_settled_comes_as_planned(converging, train, monkeypatch):
    drifting(monkeypatch, dict.fromkeys(range(1, 10), 0.0))
    workdir = train(converging)
    assert [row["frozen"] for row in metrics(workdir) if "loss" in row] == [0] * 3 + [2] * 7


@pytest.mark.slow
@pytest.mark.parametrize("stop_after", [3, 4])
def test_an_amended_plan_is_resumed(converging, train, monkeypatch, tmp_path, stop_after):
    drifting(monkeypatch, {step: 0.5 if step < 5 else 0.01 for step in range(1, 10)})
    reference = train(copy.deepcopy(converging) | {"workdir": str(tmp_path / "whole")})
    cut = copy.deepcopy(converging) | {"workdir": str(tmp_path / "cut")}
    train(cut, stop_after)
    workdir = train(cut)
    assert state_of(workdir / "phases" / "grammar") == state_of(reference / "phases" / "grammar")
    assert without_time(metrics(workdir)) == without_time(metrics(reference))
    assert (workdir / "plan.json").read_text() == (reference / "plan.json").read_text()


def test_decisions_move_one_freeze_and_nothing_else(converging):
    converging["phase"][0] |= {"freeze": [[0.0, 0], [0.3, 2], [0.65, 4]], "freeze_delay": 0.2}
    converging["phase"][0]["context"] = [[0.0, 16], [0.5, 32]]
    c = config_module.parse(converging, "x")
    made = plan.build(c, [Decision("grammar", 3, 2, 2, "waits"), Decision("grammar", 5, 2, 0, "settled")])
    found = [(s.start_step, s.context, s.frozen_blocks, s.token_start) for s in made.stages]
    assert found == [(0, 16, 0, 0), (3, 16, 0, 384), (5, 32, 2, 640), (7, 32, 4, 896)]
    assert [s.reason for s in made.stages] == ["scheduled", "waits", "settled", "scheduled"]
    assert made.tokens == plan.build(c).tokens


def test_a_delay_that_reaches_the_next_freeze_is_refused(converging):
    converging["phase"][0] |= {"freeze": [[0.0, 0], [0.3, 2], [0.5, 4]]}
    with pytest.raises(InputError, match=r"freeze_delay: a freeze at 0\.3 that waits 0\.3 reaches"):
        config_module.parse(converging, "x")
    converging["phase"][0] |= {
        "freeze": [[0.0, 0], [0.25, 2], [0.36, 4]],
        "freeze_delay": 0.1,
    }  # apart, yet not in steps
    with pytest.raises(InputError, match=r"freeze_delay: 0\.1 of 10 steps are 1; a freeze at step 3 .* at step 4"):
        plan.build(config_module.parse(converging, "x"))
