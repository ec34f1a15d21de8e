"""The learning rate of a step (playbook, section 8)."""

import math

from llm60_jax.config import Phase
from llm60_jax.plan.stages import Plan


def learning_rate(plan: Plan, phase: Phase, step: int) -> float:
    """Return the rate of a step. Each rescue lowers the scheduled rate and warms it up again."""
    rate = _scheduled_rate(plan, phase, step)
    for rescue in plan.rescues:
        if rescue.phase == phase.name and step >= rescue.step:
            rate *= rescue.factor * min(1.0, (step + 1 - rescue.step) / rescue.warmup)
    return rate


def _scheduled_rate(plan: Plan, phase: Phase, step: int) -> float:
    """Return the rate of linear warm-up, then the peak for `hold`, then the decay to the final rate.

    The rate is a function of the phase's tokens at the end of the step, so it stays smooth when the
    context changes. The first step has a rate above 0. The last step has exactly the final rate,
    and so have the steps of extensions.
    """
    start, stop = plan.scheduled_span(phase.name)
    total = (stop - start) * plan.tokens_per_step
    done = (step + 1 - start) * plan.tokens_per_step
    peak, final = phase.learning_rate
    if done > total:
        return final
    warmup, hold = phase.warmup * total, phase.hold * total
    if done < warmup:
        return peak * done / warmup
    progress = max(0.0, done - warmup - hold) / (total - warmup - hold)
    return final + (peak - final) * _SHAPES[phase.decay](progress)


# What is left of the way from the peak to the final rate, after a share of the decay.
_SHAPES = {"cosine": lambda progress: 0.5 * (1 + math.cos(math.pi * progress)), "linear": lambda progress: 1 - progress}
