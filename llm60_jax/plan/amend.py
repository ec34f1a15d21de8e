"""Amendments of a plan: a freeze that waits, more steps, a lower rate after a rewind."""

import math
from collections.abc import Sequence

from llm60_jax.config import Phase
from llm60_jax.plan.build import longest_wait
from llm60_jax.plan.stages import Decision, Extension, Plan, Rescue, Stage, nearest


def rescue(plan: Plan, phase: Phase, step: int) -> Rescue:
    """Return the rescue that halves the rate from a step on, with twice the phase's warm-up.

    The playbook asks for it in section 14: "lower LR, longer warmup".
    """
    start, stop = plan.scheduled_span(phase.name)
    return Rescue(phase.name, step, 0.5, max(1, nearest(2 * phase.warmup * (stop - start))))


def decide(plan: Plan, phase: Phase, stage: Stage, drift: float | None, decisions: Sequence[Decision]) -> Decision:
    """Decide whether the freeze at the beginning of `stage` happens now or waits.

    Args:
      plan: the plan with all `decisions` so far.
      stage: the stage that is due now. It freezes more blocks than the stage before it.
      drift: the last measured drift of the blocks to freeze. None before the second measurement.
      decisions: all decisions so far.

    Returns:
      A decision to freeze (`wait` is 0) if the blocks have settled or have waited as long as they
      may. Else a decision to wait until the next measurement.
    """
    start, stop = plan.phase_span(phase.name)
    longest = longest_wait(phase, stop - start)
    waited = sum(d.wait for d in decisions if (d.phase, d.frozen_blocks) == (phase.name, stage.frozen_blocks))
    measured = "not measured yet" if drift is None else f"{drift:.4f}"
    if drift is not None and drift <= phase.settled_drift:
        wait, why = 0, f"settled: drift {measured}, at most {phase.settled_drift} asked for"
    elif waited >= longest:
        wait, why = 0, f"waited {waited} steps, the most allowed, with a drift of {measured}"
    else:
        wait = min(plan.probe_every(phase.name), longest - waited)
        why = f"{stage.frozen_blocks} blocks wait {wait} steps: drift {measured}, above {phase.settled_drift}"
    return Decision(phase.name, stage.start_step, stage.frozen_blocks, wait, why)


def extend(plan: Plan, phase: Phase, reason: str) -> Extension | None:
    """Extend a phase by a tenth of its scheduled steps, or by what its gate still allows.

    None if that is nothing.
    """
    start, stop = plan.scheduled_span(phase.name)
    steps = stop - start
    used = plan.phase_span(phase.name)[1] - start
    more = min(max(1, nearest(steps / 10)), math.floor(phase.gate.extend_up_to * steps + 1e-9) - used)
    return Extension(phase.name, more, reason) if more > 0 else None
