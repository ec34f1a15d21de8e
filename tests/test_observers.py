"""Observers see a run and can neither change nor end it."""

import logging

import pytest
from conftest import few_pairs, metrics, shared_programs, state_of, without_time

from llm60_jax import config as config_module
from llm60_jax.errors import Interrupted, MachineError
from llm60_jax.machine.signals import Interrupts
from llm60_jax.plan import stages
from llm60_jax.run import events, loop, observers
from llm60_jax.run.events import Observers, RowAdded


@pytest.fixture
def short(tree):
    """One phase of four steps in two stages."""
    tree["tokenizer"] = {"phases": ["grammar"]}
    tree["phase"] = [tree["phase"][0] | {"tokens": 4 * 128, "context": [[0.0, 16]], "freeze": [[0.0, 0], [0.5, 2]]}]
    return tree


def train(tree, workdir, monkeypatch, *watching):
    with monkeypatch.context() as patch:
        few_pairs(patch)
        shared_programs(patch)
        config = config_module.parse(tree | {"workdir": str(workdir)}, "x")
        loop.launch(config, Interrupts(), "again", watching=watching)
    return workdir


def test_a_run_without_observers_or_with_broken_ones_is_the_same_run(short, tmp_path, monkeypatch, caplog):
    reference = train(short, tmp_path / "reference", monkeypatch)

    def broken(event):
        raise ZeroDivisionError(type(event).__name__)

    with caplog.at_level(logging.WARNING, "llm60_jax"):
        noisy = train(short, tmp_path / "noisy", monkeypatch, broken)
    assert "the run goes on, and its log.txt has the traceback" in caplog.text
    monkeypatch.setattr(observers, "of", lambda *arguments: [])
    blind = train(short, tmp_path / "blind", monkeypatch)
    for run in (noisy, blind):
        assert state_of(run / "phases" / "grammar") == state_of(reference / "phases" / "grammar")
        assert without_time(metrics(run)) == without_time(metrics(reference))


def test_events_come_in_the_order_of_the_playbook(short, tmp_path, monkeypatch):
    monkeypatch.setattr(stages, "PROBES_PER_PHASE", 1)  # a look at the start of the phase only
    seen = []
    train(short, tmp_path / "run", monkeypatch, lambda event: seen.append(type(event).__name__))
    order = [name for name in seen if name in ("StageBegins", "StageProved", "StageEnds", "PhaseJudged", "PhaseEnds")]
    assert order == ["StageBegins", "StageProved", "StageEnds"] * 2 + ["PhaseJudged", "PhaseEnds"]
    steps = [name for name in seen if name in ("StepBegins", "StepLanded")]
    # Step 2 is dispatched before step 1 is read. Steps 3 and 4 wait for a save and an evaluation.
    assert steps == [*["StepBegins"] * 2, *["StepLanded"] * 2, *["StepBegins", "StepLanded"] * 2]


def test_every_event_has_a_name_in_the_union():
    classes = {value for value in vars(events).values() if getattr(value, "__module__", "") == events.__name__}
    classes = {value for value in classes if isinstance(value, type)}
    assert classes - {Observers} == set(events.Event.__args__)


@pytest.mark.parametrize("failure", [MachineError("no space"), Interrupted("a signal", 2), KeyError("x")])
def test_what_an_observer_raises_stays_with_it(failure, caplog):
    seen = []

    def failing(event):
        raise failure

    with caplog.at_level(logging.WARNING, "llm60_jax"):
        Observers([failing, seen.append])(RowAdded({}))
    assert seen == [RowAdded({})]
    assert bool(caplog.records) is not isinstance(failure, Interrupted)  # which the run asks for again
