"""Steps that must not count: a loss or a gradient that is not a number, or a loss far above those of the steps before.

The compiled step applies no update above the limit it is given (step.train_step). The limit of a step comes from the
steps up to the one before the last, because the last one may still be on its way when it is dispatched; so a resumed
run has the same limits as one that was never interrupted.

A large gradient is no reason to refuse a step: Adafactor bounds the update whatever the gradient is, and a model that
is refused its way out of a steep place stays there (docs/experiments.md has the run that was stopped by it).
"""

import math
import statistics
from collections.abc import Sequence

WINDOW = 128  # steps that a limit is made from
LEAST = 32  # without so many, everything finite is applied
DEVIATIONS = 6.0  # above the mean of the window


class Watch:
    """The steps of a phase that were applied, as far as limits rest on them."""

    def __init__(self, steps: Sequence[tuple[int, float]] = ()):
        self._steps = list(steps)

    @property
    def steps(self) -> list[tuple[int, float]]:
        """Number and objective of each step that limits rest on; `Watch(steps)` goes on from there."""
        return list(self._steps)

    def tell(self, step: int, objective: float) -> None:
        """A step whose update was applied."""
        self._steps = [*self._steps, (step, objective)][-WINDOW - 1 :]

    def limit(self, step: int) -> float:
        """The largest objective that is applied, for the step of that number, counted from 1."""
        known = [objective for number, objective in self._steps if number <= step - 2][-WINDOW:]
        if len(known) < LEAST:
            return math.inf
        return statistics.fmean(known) + DEVIATIONS * statistics.stdev(known)
