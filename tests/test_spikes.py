"""Refused steps: their limits, their stored batches, and a run that continues or stops."""

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
    """Return a watch after this many applied steps with noisy losses near 4."""
    rng, watch = np.random.default_rng(seed), spikes.Watch()
    for step in range(1, steps + 1):
        watch.tell(step, 4 + 0.1 * rng.normal())
    return watch


def test_limits_lie_six_deviations_above_the_window():
    watch = watched(500)
    assert watch.limit(502) == pytest.approx(4.6, abs=0.15)


def test_without_enough_steps_everything_finite_is_applied():
    watch = watched(spikes.MIN_STEPS)
    assert watch.limit(spikes.MIN_STEPS + 1) == math.inf
    assert watch.limit(spikes.MIN_STEPS + 2) < math.inf


@given(st.integers(40, 300), st.integers(1, 3))
def test_limits_ignore_the_step_just_before(steps, seed):
    """The last step may end before or after the next dispatch; a restored watch agrees."""
    early, late = watched(steps, seed), watched(steps, seed)
    late.tell(steps + 1, 99.0)
    assert early.limit(steps + 2) == late.limit(steps + 2)
    assert spikes.Watch(late.steps).limit(steps + 3) == late.limit(steps + 3)


@pytest.fixture
def one_phase(tree):
    """The tiny configuration with its first phase alone."""
    tree["phase"], tree["tokenizer"] = tree["phase"][:1], {"phases": ["grammar"]}
    return tree


@pytest.mark.slow
def test_a_bad_batch_is_named_and_stored_and_the_run_continues(one_phase, train, poisoned):
    poisoned({1, 4, 5})  # the run's first step, and all steps of stage 2
    workdir = train(one_phase)
    refused = {row["step"]: row["refused"] for row in metrics(workdir) if "refused" in row}
    assert refused.keys() == {1, 4, 5}
    assert refused[4]["broken"] == ["weights"]
    assert refused[4]["loss"] == "nan"
    stored = np.load(workdir / "bad_batches" / refused[4]["batch"], allow_pickle=False)
    assert stored["weights"].shape == (2, 2, 32)
    assert np.isnan(stored["weights"]).sum() == 1
    assert [row["step"] for row in metrics(workdir) if "loss" in row] == [2, 3, 6, 7, 8, 9, 10]
    proven = [(row["step"], row["stage"]) for row in metrics(workdir) if "proof" in row]
    assert proven == [(2, 0), (3, 1), (6, 3), (8, 4)]  # by the first applied step; stage 2 has none
    assert (workdir / "phases" / "grammar").exists()


@pytest.mark.slow
def test_three_refused_steps_in_a_row_stop_the_run(one_phase, train, poisoned):
    poisoned({6, 7, 8})
    with pytest.raises(TrainingError, match=r"step 8: not applied: its weights are not finite.*3 such steps in a row"):
        train(one_phase)


@pytest.mark.slow
def test_refused_steps_resume_bit_for_bit(one_phase, train, poisoned, tmp_path):
    poisoned({3, 4})
    whole, cut = (copy.deepcopy(one_phase) | {"workdir": str(tmp_path / name)} for name in ("whole", "cut"))
    reference = train(whole)
    train(cut, 3)
    workdir = train(cut)
    assert state_of(workdir / "phases" / "grammar") == state_of(reference / "phases" / "grammar")
    assert without_time(metrics(workdir)) == without_time(metrics(reference))


@pytest.mark.slow
def test_a_spike_is_refused_with_its_limit(one_phase, train, monkeypatch):
    monkeypatch.setattr(spikes.Watch, "limit", lambda self, step: 0.5 if step == 5 else math.inf)
    workdir = train(one_phase)
    (row,) = [row for row in metrics(workdir) if "refused" in row]
    assert row["step"] == 5
    assert row["refused"]["limit"] == 0.5
    assert row["refused"]["loss"] > 0.5
    assert row["refused"]["broken"] == []
