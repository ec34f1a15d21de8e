"""Speed of each stage, and the time the rest of the plan will take; time asleep or stopped is neither."""

import contextlib
import math
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType

from llm60_jax import arithmetic
from llm60_jax.config import Config
from llm60_jax.plan import Plan, Stage
from llm60_jax.step_key import StepKey


class AwakeTime:
    """A clock of seconds in which this process could work. Calling it reads it.

    It never jumps: the time of day plays no part. A computer that sleeps stops `time.monotonic` by itself; a process
    that is stopped (Ctrl-Z, a suspended machine) is noticed by a thread that looks every second and has not.
    """

    _EVERY, _GAP = 1.0, 10.0  # seconds between two looks; beyond which one was missed

    def __init__(
        self, monotonic: Callable[[], float] = time.monotonic, with_sleep: Callable[[], float] | None = None
    ) -> None:
        self._monotonic, self._with_sleep = monotonic, with_sleep or _since_boot
        self._lock = threading.Lock()
        self._looked = monotonic(), self._with_sleep()
        self._stopped = self._untold = 0.0

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Keeps the thread inside the block; without it only the caller looks."""
        done = threading.Event()
        thread = threading.Thread(target=self._watch, args=(done,), name="awake", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def __call__(self) -> float:
        with self._lock:
            now, now_with_sleep = self._monotonic(), self._with_sleep()
            passed = now - self._looked[0]
            asleep = max(0.0, now_with_sleep - self._looked[1] - passed)
            self._looked = now, now_with_sleep
            if passed > self._GAP:
                self._stopped += passed - self._EVERY
                self._untold += passed - self._EVERY
            if asleep > self._GAP:
                self._untold += asleep
            return now - self._stopped

    def take_pause(self) -> float:
        """Seconds asleep or stopped since this was asked last."""
        self()
        with self._lock:
            found, self._untold = self._untold, 0.0
        return found

    def _watch(self, done: threading.Event) -> None:
        while not done.wait(self._EVERY):
            self()


def _since_boot() -> float:
    """Seconds that count sleep, of a clock that nobody sets."""
    name = "CLOCK_MONOTONIC" if sys.platform == "darwin" else "CLOCK_BOOTTIME"
    return time.clock_gettime(getattr(time, name)) if hasattr(time, name) else time.monotonic()


class StageClock:
    """Measures seconds per step, stage by stage, pauses left out.

    A linear ETA is wrong when the cost of a token changes from stage to stage: stages not yet seen are estimated from
    what their programs took before on this machine (speed.py), times how much faster or slower this run is than that;
    those never measured from stages that were, by their arithmetic.

    Args:
      measured: seconds of a step, by program, as known before the run.
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
        """Goes on with an amended plan."""
        phases = {phase.name: phase for phase in self._config.phase}
        self._plan = stage_plan
        self._cost = {}  # operations of one step
        self._known = {}  # seconds of one step, as measured before the run
        for stage in stage_plan.stages:
            key = StepKey.of(stage, phases[stage.phase], self._config)
            self._cost[stage] = arithmetic.step_flops(self._config.model, key)
            if key in self._measured:
                self._known[stage] = self._measured[key]

    def tick(self, stage: Stage) -> None:
        """A step of `stage` has finished. The first one since the start of a stage only sets the clock."""
        now = self._now()
        if stage in self._steps and not self._hidden:
            self._seconds[stage] = self._seconds.get(stage, 0.0) + now - self._last
            self._steps[stage] += 1
        self._steps.setdefault(stage, 0)
        self._last, self._hidden = now, False

    def hide(self) -> None:
        """Leaves the step that is under way out: some of it ran while the clock was paused."""
        self._hidden = True

    @contextlib.contextmanager
    def paused(self, what: str) -> Iterator[None]:
        """Keeps evaluation, sampling and saving out of the measured speed, and in an account of their own."""
        start = self._now()
        try:
            yield
        finally:
            spent = self._now() - start
            self._last += spent
            self._aside[what] = self._aside.get(what, 0.0) + spent

    @contextlib.contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        """Time inside the measured speed that has a name of its own."""
        start = self._now()
        yield
        self._inside[what] = self._inside.get(what, 0.0) + self._now() - start

    def account(self, stage: Stage | None = None) -> dict[str, float]:
        """Seconds since the last account by what they went into; with a stage also those of its steps."""
        found = {**self._inside, **self._aside}
        if stage is not None:
            found["steps"] = max(0.0, self._seconds.get(stage, 0.0) - sum(self._inside.values()))
        self._inside, self._aside = {}, {}
        return {name: round(seconds, 3) for name, seconds in found.items()}

    def rate(self, stage: Stage) -> float:
        """Measured tokens per second of a stage; 0.0 before its second step."""
        seconds = self.step_seconds(stage)
        return self._plan.tokens_per_step / seconds if seconds else 0.0

    def step_seconds(self, stage: Stage) -> float:
        """Measured seconds of a step of a stage; 0.0 before its second step."""
        steps = self._steps.get(stage, 0)
        return self._seconds[stage] / steps if steps > 0 else 0.0

    def planned(self, stage: Stage) -> float | None:
        """Seconds that a stage should take, by what its program took before the run; None where that is not known."""
        return stage.steps * self._known[stage] if stage in self._known else None

    def remaining(self, done: int) -> float:
        """Seconds from step `done` to the end of the plan; infinite before anything was measured."""
        seen = {stage: seconds for stage in self._steps if (seconds := self.step_seconds(stage))}
        changes = [seconds / self._known[stage] for stage, seconds in seen.items() if stage in self._known]
        change = statistics.median(changes) if changes else 1.0
        known = {stage: change * seconds for stage, seconds in self._known.items()} | seen
        if not known:
            return math.inf
        per_operation = statistics.fmean(seconds / self._cost[stage] for stage, seconds in known.items())
        return sum(
            max(0, stage.stop_step - max(done, stage.start_step))
            * (known.get(stage) or per_operation * self._cost[stage])
            for stage in self._plan.stages
        )
