"""The cost of steps: measured, cached, and used for the remaining time."""

import collections
import dataclasses
import functools
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import metrics

from llm60_jax import config as config_module
from llm60_jax import plan
from llm60_jax.machine import memory
from llm60_jax.machine.progress import silent
from llm60_jax.machine.remembered import Unfinished
from llm60_jax.plan import flops
from llm60_jax.run import clock
from llm60_jax.training import costs, programs
from llm60_jax.training.costs import Cost


@pytest.fixture
def alone(tree, tmp_path):
    """The first phase of the tiny configuration, with a data directory of its own."""
    short = tree["phase"][0] | {"context": [[0.0, 16], [0.5, 32]], "freeze": [[0.0, 0]]}
    tree |= {"data_dir": str(tmp_path / "data"), "phase": [short], "tokenizer": {"phases": ["grammar"]}}
    return config_module.parse(tree, "alone")


@pytest.mark.slow
def test_every_program_is_measured_once_and_cached(alone):
    stage_plan = plan.build(alone)
    assert costs.recall(alone, stage_plan) == {}
    with Unfinished(alone.data_dir, "test", []) as unfinished:
        measured = costs.measure(alone, stage_plan, 2, silent, unfinished)
    assert set(measured) == set(costs.keys_of(alone, stage_plan))
    for cost in measured.values():
        assert len(cost.seconds) == 2
        assert min(cost.seconds) > 0
        assert cost.temporary_bytes > 0
    assert costs.recall(alone, stage_plan) == measured


def test_cached_costs_depend_on_model_optimizer_and_program(alone, tree):
    stage_plan = plan.build(alone)
    key = costs.keys_of(alone, stage_plan)[0]
    costs.remember(alone, {key: Cost((1.0,), 2, 3)})
    assert costs.recall(alone, stage_plan) == {key: Cost((1.0,), 2, 3)}
    base = tree | {"data_dir": alone.data_dir}
    for other in (
        base | {"model": tree["model"] | {"hidden_dim": 96}},
        base | {"optimizer": {"name": "adamw"}},
        base | {"train": tree["train"] | {"remat": "none"}},
        base | {"train": tree["train"] | {"dtype": "float32"}},
    ):
        changed = config_module.parse(other, "other")
        assert costs.recall(changed, plan.build(changed)) == {}
    renamed = config_module.parse(base | {"seed": 99, "workdir": "elsewhere"}, "renamed")
    assert key in costs.recall(renamed, plan.build(renamed))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"x": 1}'])
def test_a_damaged_cache_is_empty(alone, text):
    stage_plan = plan.build(alone)
    key = costs.keys_of(alone, stage_plan)[0]
    costs.remember(alone, {key: Cost((1.0,), 2, 3)})
    (path,) = Path(alone.data_dir).rglob("steps.json")
    path.write_text(text)
    assert costs.recall(alone, stage_plan) == {}
    costs.remember(alone, {key: Cost((4.0,), 2, 3)})
    assert costs.recall(alone, stage_plan) == {key: Cost((4.0,), 2, 3)}


@pytest.mark.parametrize("entry", [{}, {"seconds": []}, {"seconds": [0]}, {"seconds": "x"}, [1], None, {"seconds": 3}])
def test_malformed_entries_are_ignored(alone, entry):
    stage_plan = plan.build(alone)
    key = costs.keys_of(alone, stage_plan)[0]
    costs.remember(alone, {key: Cost((1.0,), 2, 3)})
    (path,) = Path(alone.data_dir).rglob("steps.json")
    path.write_text(json.dumps(dict.fromkeys(json.loads(path.read_text()), entry)))
    assert costs.recall(alone, stage_plan) == {}


def test_the_remaining_time_starts_from_cached_costs_and_is_corrected(tiny):
    stage_plan, now = plan.build(tiny), [0.0]
    keys = dict(zip(stage_plan.stages, costs.keys_of(tiny, stage_plan), strict=True))
    seconds = {key: 2.0 + number for number, key in enumerate(dict.fromkeys(keys.values()))}
    stage_clock = clock.StageClock(tiny, stage_plan, lambda: now[0], seconds)
    assert stage_clock.remaining(0) == sum(stage.steps * seconds[key] for stage, key in keys.items())
    first = stage_plan.stages[0]
    assert stage_clock.planned(first) == first.steps * seconds[keys[first]]
    for _ in range(2):  # this run is three times slower
        now[0] += 3 * seconds[keys[first]]
        stage_clock.tick(first)
    others = sum(stage.steps * seconds[key] for stage, key in keys.items() if stage != first)
    assert stage_clock.remaining(2) == pytest.approx(3 * others)
    assert first.steps == 2


def test_unmeasured_stages_are_estimated_by_their_operations(tiny):
    stage_plan = plan.build(tiny)
    second = stage_plan.stages[1]
    keys = costs.keys_of(tiny, stage_plan)
    stage_clock = clock.StageClock(tiny, stage_plan, lambda: 0.0, {keys[0]: 5.0})
    per_operation = 5.0 / flops.step_flops(tiny.model, keys[0])
    expected = sum(
        stage.steps * (5.0 if key == keys[0] else per_operation * flops.step_flops(tiny.model, key))
        for stage, key in zip(stage_plan.stages, keys, strict=True)
    )
    assert stage_clock.remaining(0) == pytest.approx(expected)
    assert stage_clock.planned(second) is None


@pytest.mark.slow
def test_a_run_caches_its_stage_times_and_the_next_run_plans_with_them(tree, tmp_path, train):
    short = tree["phase"][0] | {"context": [[0.0, 16], [0.5, 32]], "freeze": [[0.0, 0]]}
    tree |= {"data_dir": str(tmp_path / "data"), "phase": [short], "tokenizer": {"phases": ["grammar"]}}
    first = train(tree)
    ends = [row["stage_end"] for row in metrics(first) if "stage_end" in row]
    assert {end["planned_seconds"] for end in ends} == {None}
    c = config_module.parse(tree, "tree")
    assert costs.recall(c, plan.build(c))
    second = train(tree | {"workdir": str(tmp_path / "second")})
    planned = [row["stage_end"]["planned_seconds"] for row in metrics(second) if "stage_end" in row]
    assert all(planned)
    assert " planned, " in (second / "log.txt").read_text()


@pytest.mark.slow
def test_steps_of_any_phase_can_be_measured(tuning):
    """Measure a phase with adapters and a prefix cache."""
    tuning["phase"][0] |= {"rows": "fixed", "prefix_cache": True, "lora": {"rank": 2}}
    c = config_module.parse(tuning, "tuning")
    (key,) = set(costs.keys_of(c, plan.build(c)))
    assert key.prefix_cached
    with Unfinished(c.data_dir, "test", []) as unfinished:
        (cost,) = costs.measure(c, plan.build(c), 1, silent, unfinished).values()
    assert cost.middle > 0
    plain = dataclasses.asdict(c.phase[0])["lora"]
    assert plain["rank"] == 2


@pytest.mark.slow
def test_steps_begin_again_after_one_that_ran_out_of_memory(tiny, monkeypatch):
    """Such a step has given its state away: the computer's own message, and the arrays that are left."""
    steps, key = costs.Steps(tiny, tiny.phase[0]), costs.keys_of(tiny, plan.build(tiny))[0]
    before = [np.array(x) for x in jax.tree.leaves(steps.state)]
    result = collections.namedtuple("Metrics", "loss")

    @functools.partial(jax.jit, donate_argnums=0)
    def greedy(state, batch, rate, limit):
        return state, result(jnp.ones((2**22, 2**22)).cumsum(0).sum() + rate)  # 70 TB

    monkeypatch.setattr(programs.CompiledSteps, "__getitem__", lambda self, key: greedy)
    with pytest.raises(jax.errors.JaxRuntimeError) as failure:
        steps.time(key)
    assert memory.is_exhausted(failure.value)
    with pytest.raises((RuntimeError, jax.errors.JaxRuntimeError)):
        jax.tree.map(np.asarray, steps.state)
    steps.renew()
    for x, y in zip(jax.tree.leaves(steps.state), before, strict=True):
        np.testing.assert_array_equal(x, y)
