"""How long the stages of a run take, from its files alone. Pure functions.

A token costs more or less from stage to stage, so no forecast here is linear in tokens: a stage that was not measured
is estimated by its operations.
"""

import functools
import math
import statistics

from llm60_jax import plan
from llm60_jax.config import Model
from llm60_jax.plan import Stage, StepKey, flops
from llm60_jax.record.history import History

Place = tuple[str, int]  # a phase and the index of a stage


def stage_seconds(run: History) -> dict[Place, float]:
    """Return the forecast seconds of each stage's steps, by phase and stage.

    A stage's program was measured before the run, or its time is estimated from the rate of the run's first stage.
    """
    ends = [row for row in run.rows if "stage_end" in row and row["stage_end"].get("planned_seconds") is not None]
    planned = {(row["phase"], row["stage"]): row["stage_end"]["planned_seconds"] for row in ends}
    return _by_operations(run) | planned


def _by_operations(run: History) -> dict[Place, float]:
    """Return the seconds of each stage's steps, from the measured rate of the first stage."""
    first = next((row["stage_end"] for row in run.rows if "stage_end" in row), None)
    if first is None or not first["tokens_per_second"]:
        return {}
    costs = {place: (step_cost(run, stage) * stage.steps, stage.tokens) for place, stage in _stages(run).items()}
    cost, tokens = next(iter(costs.values()), (0, 0))
    if not cost:
        return {}
    per_operation = tokens / first["tokens_per_second"] / cost
    return {place: cost * per_operation for place, (cost, _) in costs.items()}


def remaining(run: History, step: int) -> float:
    """Return the seconds that the steps after `step` will take; infinite before anything was measured.

    A stage goes on at the speed that it was last logged with. A stage that is not measured yet is estimated from the
    measured ones by its operations. Evaluation, samples and saving are not in it.
    """
    speeds = _speeds(run)
    stages = _stages(run)
    seconds = {  # of a step, by place
        place: stages[place].sequences * stages[place].context / speed
        for place, speed in speeds.items()
        if place in stages
    }
    if not seconds:
        return math.inf
    per_operation = statistics.fmean(spent / step_cost(run, stages[place]) for place, spent in seconds.items())
    return sum(
        left * (seconds.get(place) or per_operation * step_cost(run, stage))
        for place, stage in stages.items()
        if (left := stage.stop_step - max(step, stage.start_step)) > 0
    )


def step_cost(run: History, stage: Stage) -> int:
    """Return the operations of one step of a stage."""
    return _operations(run.config.model, plan.key(run.config, stage))


@functools.lru_cache(256)  # a page that watches a run asks again and again
def _operations(model: Model, key: StepKey) -> int:
    return flops.step_flops(model, key)


def _stages(run: History) -> dict[Place, Stage]:
    return {(phase.name, stage.index): stage for phase in run.config.phase for stage in run.stages(phase)}


def _speeds(run: History) -> dict[Place, float]:
    """Return the tokens per second of each stage as last measured; stages without a measurement are left out."""
    speeds: dict[Place, float] = {}
    for row in run.rows:
        speed = row["stage_end"]["tokens_per_second"] if "stage_end" in row else row.get("tokens_per_second")
        if speed:
            speeds[row["phase"], row["stage"]] = speed
    return speeds
