"""The speed of each stage and the time that the rest of the plan will take, without time asleep or stopped."""

import contextlib
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType

from llm60_jax import plan
from llm60_jax.config import Config
from llm60_jax.plan import Plan, Stage, StepKey, flops


class StageClock:
    """Measures seconds per step, stage by stage, without pauses.

    A linear ETA is wrong when the cost of a token changes from stage to stage. Stages to come are estimated by what
    their programs took before on this machine (training/costs.py), scaled by this run's speed so far. Stages never
    measured are estimated from the others by their operations.

    Args:
      now: a clock in seconds.
      measured: seconds of a step, by program, from before the run.
    """

    def __init__(
        self,
        config: Config,
        stage_plan: Plan,
        now: Callable[[], float] = time.monotonic,
        measured: Mapping[StepKey, float] = MappingProxyType({}),
    ):
        self._config, self._now, self._measured = config, now, measured
        self.replan(stage_plan)
        self._seconds: dict[Stage, float] = {}
        self._steps: dict[Stage, int] = {}
        self._last = self._now()
        self._hidden = False
        self._inside: dict[str, float] = {}
        self._aside: dict[str, float] = {}

    def replan(self, stage_plan: Plan) -> None:
        """Take over an amended plan."""
        self._plan = stage_plan
        self._cost = {}  # operations of one step
        self._known = {}  # seconds of one step, as measured before the run
        for stage in stage_plan.stages:
            key = plan.key(self._config, stage)
            self._cost[stage] = flops.step_flops(self._config.model, key)
            if key in self._measured:
                self._known[stage] = self._measured[key]

    def tick(self, stage: Stage) -> None:
        """Count a finished step. The first one of a stage in this process only sets the clock."""
        now = self._now()
        if stage in self._steps and not self._hidden:
            self._seconds[stage] = self._seconds.get(stage, 0.0) + now - self._last
            self._steps[stage] += 1
        self._steps.setdefault(stage, 0)
        self._last, self._hidden = now, False

    def hide(self) -> None:
        """Leave out the step under way: part of it ran while the clock was paused."""
        self._hidden = True

    @contextlib.contextmanager
    def paused(self, what: str) -> Iterator[None]:
        """Keep the block out of the measured speed; account for it under `what`."""
        start = self._now()
        try:
            yield
        finally:
            spent = self._now() - start
            self._last += spent
            self._aside[what] = self._aside.get(what, 0.0) + spent

    @contextlib.contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        """Account for the block under `what`, inside the measured speed."""
        start = self._now()
        yield
        self._inside[what] = self._inside.get(what, 0.0) + self._now() - start

    def account(self, stage: Stage | None = None) -> dict[str, float]:
        """Return the seconds since the last account by purpose; with a stage also those of its steps."""
        seconds_by_purpose = {**self._inside, **self._aside}
        if stage is not None:
            seconds_by_purpose["steps"] = max(0.0, self._seconds.get(stage, 0.0) - sum(self._inside.values()))
        self._inside, self._aside = {}, {}
        return {name: round(seconds, 3) for name, seconds in seconds_by_purpose.items()}

    def rate(self, stage: Stage) -> float:
        """Return the measured tokens per second of a stage; 0 before its second step."""
        seconds = self.step_seconds(stage)
        return self._plan.tokens_per_step / seconds if seconds else 0.0

    def step_seconds(self, stage: Stage) -> float:
        """Return the measured seconds of a step of a stage; 0 before its second step."""
        steps = self._steps.get(stage, 0)
        return self._seconds[stage] / steps if steps > 0 else 0.0

    def planned(self, stage: Stage) -> float | None:
        """Return the seconds that a stage should take by earlier measurement; None without one."""
        return stage.steps * self._known[stage] if stage in self._known else None

    def remaining(self, done: int) -> float:
        """Return the seconds from step `done` to the end of the plan; infinite before anything was measured."""
        seen = {stage: seconds for stage in self._steps if (seconds := self.step_seconds(stage))}
        changes = [seconds / self._known[stage] for stage, seconds in seen.items() if stage in self._known]
        change = statistics.median(changes) if changes else 1.0
        step_seconds = {stage: change * seconds for stage, seconds in self._known.items()} | seen
        if not step_seconds:
            return math.inf
        per_operation = statistics.fmean(seconds / self._cost[stage] for stage, seconds in step_seconds.items())
        return sum(
            max(0, stage.stop_step - max(done, stage.start_step))
            * (step_seconds.get(stage) or per_operation * self._cost[stage])
            for stage in self._plan.stages
        )
