"""The learning rate of a step (playbook, section 8)."""

import math

from llm60_jax.config import Phase
from llm60_jax.plan.stages import Plan


def learning_rate(plan: Plan, phase: Phase, step: int) -> float:
    """The rate of a step: as scheduled, lowered by every rescue of the phase, and warmed up again after each."""
    rate = _scheduled_rate(plan, phase, step)
    for rescue in plan.rescues:
        if rescue.phase == phase.name and step >= rescue.step:
            rate *= rescue.factor * min(1.0, (step + 1 - rescue.step) / rescue.warmup)
    return rate


def _scheduled_rate(plan: Plan, phase: Phase, step: int) -> float:
    """Linear warm-up, then cosine from peak to final over the phase (playbook, section 8).

    A function of the tokens of the phase that the step completes, so context changes leave it smooth: the first
    step's rate is above 0, the last step's is exactly the final rate, which also holds for extensions.
    """
    start, stop = plan.scheduled_span(phase.name)
    total = (stop - start) * plan.tokens_per_step
    done = (step + 1 - start) * plan.tokens_per_step
    peak, final = phase.learning_rate
    if done > total:
        return final
    warmup = phase.warmup * total
    if done < warmup:
        return peak * done / warmup
    progress = (done - warmup) / (total - warmup)
    return final + (peak - final) * 0.5 * (1 + math.cos(math.pi * progress))
