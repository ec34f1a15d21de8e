"""Speed of each stage, and the time the rest of the plan will take; time asleep or stopped is neither."""

import contextlib
import math
import sys
import threading
import time
from collections.abc import Callable, Iterator

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
    those seen, by their arithmetic.
    """

    def __init__(self, config: Config, stage_plan: Plan, now: Callable[[], float] = time.monotonic):
        self._config, self._now = config, now
        self.replan(stage_plan)
        self._seconds: dict[Stage, float] = {}
        self._steps: dict[Stage, int] = {}
        self._last = self._now()
        self._inside: dict[str, float] = {}
        self._aside: dict[str, float] = {}

    def replan(self, stage_plan: Plan) -> None:
        """Goes on with an amended plan."""
        phases = {phase.name: phase for phase in self._config.phase}
        self._plan = stage_plan
        self._cost = {}  # operations of one token
        for stage in stage_plan.stages:
            key = StepKey.of(stage, phases[stage.phase], self._config)
            self._cost[stage] = arithmetic.step_flops(self._config.model, key) / key.tokens

    def tick(self, stage: Stage) -> None:
        """A step of `stage` has finished. The first one since the start of a stage only sets the clock."""
        now = self._now()
        if stage in self._steps:
            self._seconds[stage] = self._seconds.get(stage, 0.0) + now - self._last
        self._steps[stage] = self._steps.get(stage, -1) + 1
        self._last = now

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
        steps = self._steps.get(stage, 0)
        return steps * self._plan.tokens_per_step / self._seconds[stage] if steps > 0 else 0.0

    def remaining(self, done: int) -> float:
        """Seconds from step `done` to the end of the plan; infinite before anything was measured."""
        measured = [(stage, self.rate(stage)) for stage in self._steps if self.rate(stage) > 0]
        if not measured:
            return math.inf
        flops_per_second = sum(rate * self._cost[stage] for stage, rate in measured) / len(measured)
        total = 0.0
        for stage in self._plan.stages:
            steps = max(0, stage.stop_step - max(done, stage.start_step))
            speed = self.rate(stage) or flops_per_second / self._cost[stage]
            total += steps * self._plan.tokens_per_step / speed
        return total
