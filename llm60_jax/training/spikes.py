"""Refuse steps with a non-finite loss or gradient, or with a loss far above those before.

The compiled step applies no update above a limit (step.train_step). A step's limit ignores the step
just before it, which may still run at dispatch. So a resumed run has the same limits as an
uninterrupted one.

A large gradient alone does not refuse a step. Adafactor bounds the update whatever the gradient.
Skipping large gradients can trap the model in a steep region (docs/results/experiments.md).
"""

import math
import statistics
from collections.abc import Sequence

WINDOW_STEPS = 128  # a limit rests on at most this many steps
MIN_STEPS = 32  # with fewer steps, every finite step is applied
MAX_DEVIATIONS = 6.0  # standard deviations of the window above its mean


class Watch:
    """The applied steps of a phase that its limits rest on."""

    def __init__(self, steps: Sequence[tuple[int, float]] = ()):
        self._steps = list(steps)

    @property
    def steps(self) -> list[tuple[int, float]]:
        """Number and objective of each of them; `Watch(steps)` restores them."""
        return list(self._steps)

    def tell(self, step: int, objective: float) -> None:
        """Record an applied step."""
        self._steps = [*self._steps, (step, objective)][-WINDOW_STEPS - 1 :]

    def limit(self, step: int) -> float:
        """Return the largest objective to apply at step number `step`, counted from 1."""
        objectives = [objective for number, objective in self._steps if number <= step - 2][-WINDOW_STEPS:]
        if len(objectives) < MIN_STEPS:
            return math.inf
        return statistics.fmean(objectives) + MAX_DEVIATIONS * statistics.stdev(objectives)
