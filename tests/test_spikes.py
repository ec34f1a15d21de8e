"""Steps that are not applied: limits, kept batches, and a run that goes on or stops."""

import copy
import math

import numpy as np
import pytest
from conftest import metrics, state_of, without_time
from hypothesis import given
from hypothesis import strategies as st

from llm60_jax.errors import TrainingError
from llm60_jax.training import spikes


def watched(steps, seed=0):
    rng, watch = np.random.default_rng(seed), spikes.Watch()
    for step in range(1, steps + 1):
        watch.tell(step, 4 + 0.1 * rng.normal())
    return watch


def test_limits_lie_six_deviations_above_the_window():
    watch = watched(500)
    assert watch.limit(502) == pytest.approx(4.6, abs=0.15)


def test_without_enough_steps_everything_finite_is_applied():
    assert watched(spikes.LEAST).limit(spikes.LEAST + 1) == math.inf
    assert watched(spikes.LEAST).limit(spikes.LEAST + 2) < math.inf


@given(st.integers(40, 300), st.integers(1, 3))
def test_limits_do_not_depend_on_what_is_known_already(steps, seed):
    """The last step may be read before or after the next one is dispatched; a saved state gives the same limits."""
    early, late = watched(steps, seed), watched(steps, seed)
    late.tell(steps + 1, 99.0)
    assert early.limit(steps + 2) == late.limit(steps + 2)
    assert spikes.Watch(late.to_state()).limit(steps + 3) == late.limit(steps + 3)


@pytest.fixture
def one(tree):
    tree["phase"], tree["tokenizer"] = tree["phase"][:1], {"phases": ["grammar"]}
    return tree


def test_a_bad_batch_is_named_and_kept_and_the_run_goes_on(one, train, poisoned):
    poisoned({1, 4, 5})  # the first step of the run, one at the start of a stage, and its neighbour
    workdir = train(one)
    refused = {row["step"]: row["refused"] for row in metrics(workdir) if "refused" in row}
    assert refused.keys() == {1, 4, 5}
    assert refused[4]["broken"] == ["weights"]
    assert refused[4]["loss"] == "nan"
    kept = np.load(workdir / "bad_batches" / refused[4]["batch"], allow_pickle=False)
    assert kept["weights"].shape == (2, 2, 32)
    assert np.isnan(kept["weights"]).sum() == 1
    assert [row["step"] for row in metrics(workdir) if "loss" in row] == [2, 3, 6, 7, 8, 9, 10]
    proven = [(row["step"], row["stage"]) for row in metrics(workdir) if "proof" in row]
    assert proven == [(2, 0), (3, 1), (6, 3), (8, 4)]  # by the first applied step; stage 2 had none
    assert (workdir / "phases" / "grammar").exists()


def test_three_in_a_row_stop_the_run_with_the_last_good_state_kept(one, train, poisoned):
    poisoned({6, 7, 8})
    with pytest.raises(TrainingError, match=r"step 8: not applied: its weights are not finite.*3 such steps in a row"):
        train(one)


def test_refused_steps_resume_bit_for_bit(one, train, poisoned, tmp_path):
    poisoned({3, 4})
    whole, cut = (copy.deepcopy(one) | {"workdir": str(tmp_path / name)} for name in ("whole", "cut"))
    reference = train(whole)
    train(cut, 3)
    workdir = train(cut)
    assert state_of(workdir / "phases" / "grammar") == state_of(reference / "phases" / "grammar")
    assert without_time(metrics(workdir)) == without_time(metrics(reference))


def test_a_spike_is_refused_with_its_limit(one, train, monkeypatch):
    monkeypatch.setattr(spikes.Watch, "limit", lambda self, step: 0.5 if step == 5 else math.inf)
    workdir = train(one)
    (row,) = [row for row in metrics(workdir) if "refused" in row]
    assert row["step"] == 5
    assert row["refused"]["limit"] == 0.5
    assert row["refused"]["loss"] > 0.5
    assert row["refused"]["broken"] == []
