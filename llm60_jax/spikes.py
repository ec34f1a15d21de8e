"""Steps that must not count: a loss or a gradient that is not a number, or far above those of the steps before.

The compiled step applies no update above the limits it is given (step.train_step). The limits of a step come from the
steps up to the one before the last, because the last one may still be on its way when it is dispatched; so a resumed
run has the same limits as one that was never interrupted.
"""

import math
import statistics
from collections.abc import Sequence
from typing import Any

WINDOW = 128  # steps that a limit is made from
LEAST = 32  # without so many, everything finite is applied
DEVIATIONS = 6.0  # above the mean of the window

Limits = tuple[float, float]  # of the objective, and of the gradient's norm


class Watch:
    """The steps of a phase that were applied, as far as limits rest on them."""

    def __init__(self, steps: Sequence[Sequence[float]] = ()):
        self._steps = [tuple(step) for step in steps]  # (step, objective, gradient norm)

    def to_state(self) -> list[Any]:
        """As JSON values; `Watch(state)` goes on from there."""
        return [list(step) for step in self._steps]

    def tell(self, step: int, objective: float, norm: float) -> None:
        """A step whose update was applied."""
        self._steps = [*self._steps, (step, objective, norm)][-WINDOW - 1 :]

    def limits(self, step: int) -> Limits:
        """For the step of that number, counted from 1."""
        known = [one for one in self._steps if one[0] <= step - 2][-WINDOW:]
        if len(known) < LEAST:
            return math.inf, math.inf
        return _limit([one[1] for one in known]), _limit([one[2] for one in known])


def _limit(values: Sequence[float]) -> float:
    return statistics.fmean(values) + DEVIATIONS * statistics.stdev(values)
