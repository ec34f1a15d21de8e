"""What steps cost here: measured, remembered, and used for the time that is left."""

import dataclasses
import json
from pathlib import Path

import pytest
from conftest import metrics

from llm60_jax import config as config_module
from llm60_jax import plan
from llm60_jax.machine.progress import silent
from llm60_jax.run import clock
from llm60_jax.training import costs
from llm60_jax.training.costs import Cost


@pytest.fixture
def alone(tree, tmp_path):
    """The first phase of the tiny configuration, with a data directory of its own."""
    short = tree["phase"][0] | {"context": [[0.0, 16], [0.5, 32]], "freeze": [[0.0, 0]]}
    tree |= {"data_dir": str(tmp_path / "data"), "phase": [short], "tokenizer": {"phases": ["grammar"]}}
    return config_module.parse(tree, "alone")


def test_every_program_is_measured_once_and_remembered(alone):
    stage_plan = plan.build(alone)
    assert costs.recall(alone, stage_plan) == {}
    found = costs.measure(alone, stage_plan, 2, silent)
    assert set(found) == set(costs.keys_of(alone, stage_plan))
    assert all(len(cost.seconds) == 2 and min(cost.seconds) > 0 and cost.temporary_bytes > 0 for cost in found.values())
    costs.remember(alone, found)
    assert costs.recall(alone, stage_plan) == found


def test_what_is_remembered_belongs_to_model_optimizer_and_program(alone, tree):
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
def test_a_damaged_memory_is_no_memory(alone, text):
    stage_plan = plan.build(alone)
    key = costs.keys_of(alone, stage_plan)[0]
    costs.remember(alone, {key: Cost((1.0,), 2, 3)})
    (path,) = Path(alone.data_dir).rglob("steps.json")
    path.write_text(text)
    assert costs.recall(alone, stage_plan) == {}
    costs.remember(alone, {key: Cost((4.0,), 2, 3)})
    assert costs.recall(alone, stage_plan) == {key: Cost((4.0,), 2, 3)}


@pytest.mark.parametrize("entry", [{}, {"seconds": []}, {"seconds": [0]}, {"seconds": "x"}, [1], None, {"seconds": 3}])
def test_entries_that_are_not_ours_say_nothing(alone, entry):
    stage_plan = plan.build(alone)
    key = costs.keys_of(alone, stage_plan)[0]
    costs.remember(alone, {key: Cost((1.0,), 2, 3)})
    (path,) = Path(alone.data_dir).rglob("steps.json")
    path.write_text(json.dumps(dict.fromkeys(json.loads(path.read_text()), entry)))
    assert costs.recall(alone, stage_plan) == {}


def test_time_left_begins_with_what_is_known_and_is_corrected(tiny):
    stage_plan, now = plan.build(tiny), [0.0]
    keys = dict(zip(stage_plan.stages, costs.keys_of(tiny, stage_plan), strict=True))
    seconds = {key: 2.0 + number for number, key in enumerate(dict.fromkeys(keys.values()))}
    found = clock.StageClock(tiny, stage_plan, lambda: now[0], seconds)
    assert found.remaining(0) == sum(stage.steps * seconds[key] for stage, key in keys.items())
    first = stage_plan.stages[0]
    assert found.planned(first) == first.steps * seconds[keys[first]]
    for _ in range(2):  # this run is three times slower
        now[0] += 3 * seconds[keys[first]]
        found.tick(first)
    others = sum(stage.steps * seconds[key] for stage, key in keys.items() if stage != first)
    assert found.remaining(2) == pytest.approx(3 * others)
    assert first.steps == 2


def test_stages_that_were_never_measured_are_estimated_by_their_arithmetic(tiny):
    stage_plan = plan.build(tiny)
    first, second = stage_plan.stages[:2]
    keys = costs.keys_of(tiny, stage_plan)
    found = clock.StageClock(tiny, stage_plan, lambda: 0.0, {keys[0]: 5.0})
    per_operation = 5.0 / found._cost[first]
    unknown = [stage for stage, key in zip(stage_plan.stages, keys, strict=True) if key != keys[0]]
    known = sum(stage.steps for stage in stage_plan.stages) - sum(stage.steps for stage in unknown)
    expected = 5.0 * known + sum(stage.steps * per_operation * found._cost[stage] for stage in unknown)
    assert found.remaining(0) == pytest.approx(expected)
    assert found.planned(second) is None


def test_a_run_remembers_what_its_stages_took_and_the_next_one_plans_with_it(tree, tmp_path, train):
    short = tree["phase"][0] | {"context": [[0.0, 16], [0.5, 32]], "freeze": [[0.0, 0]]}
    tree |= {"data_dir": str(tmp_path / "data"), "phase": [short], "tokenizer": {"phases": ["grammar"]}}
    first = train(tree)
    ends = [row["stage_end"] for row in metrics(first) if "stage_end" in row]
    assert {end["planned_seconds"] for end in ends} == {None}
    known = costs.recall(config_module.parse(tree, "tree"), plan.build(config_module.parse(tree, "tree")))
    assert known
    second = train(tree | {"workdir": str(tmp_path / "second")})
    planned = [row["stage_end"]["planned_seconds"] for row in metrics(second) if "stage_end" in row]
    assert all(planned)
    assert " planned, " in (second / "log.txt").read_text()


def test_steps_of_any_phase_can_be_measured(tuning):
    """Adapters, and a prefix cache, too."""
    tuning["phase"][0] |= {"rows": "fixed", "prefix_cache": True, "lora": {"rank": 2}}
    c = config_module.parse(tuning, "tuning")
    (key,) = set(costs.keys_of(c, plan.build(c)))
    assert key.prefix_cached
    (cost,) = costs.measure(c, plan.build(c), 1, silent).values()
    assert cost.middle > 0
    plain = dataclasses.asdict(c.phase[0])["lora"]
    assert plain["rank"] == 2
