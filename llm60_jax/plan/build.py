"""The plan that follows from a configuration and all decisions so far."""

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import TypeVar

from llm60_jax.config import Config, Phase
from llm60_jax.errors import InputError
from llm60_jax.plan.stages import Decision, Extension, Plan, Rescue, Stage, nearest

T = TypeVar("T")


def build(
    config: Config,
    decisions: Sequence[Decision] = (),
    extensions: Sequence[Extension] = (),
    rescues: Sequence[Rescue] = (),
) -> Plan:
    """Merges each phase's breakpoints into stages; breakpoints and phase ends fall on the nearest whole step.

    Args:
      config: the phases and how a step is cut.
      decisions: on freezes of phases that freeze when converged. Each wait becomes a stage of its own, so that no
        stage's rows change once it has begun.
      extensions: each becomes a stage after those of its phase; later phases begin so much later.
      rescues: each lowers the rates of its phase from its step on.

    Raises:
      InputError: a phase is too short for its stages to have a step each.
    """
    per_step = config.train.tokens_per_step
    stages: list[Stage] = []
    phase_start = 0
    for phase in config.phase:
        steps = nearest(phase.tokens / per_step)
        _require_steps(phase, steps, per_step)
        _require_room(phase, steps)
        made = [
            dataclasses.replace(d, step=d.step - phase_start) for d in decisions if d.phase == phase.name
        ]  # steps inside the phase
        context_at = _in_steps(phase.context, steps)
        remat_at = _in_steps(phase.remat or ((0.0, config.train.policy),), steps)
        freeze_at = {
            start + sum(d.wait for d in made if d.frozen_blocks == depth): depth
            for start, depth in _in_steps(phase.freeze, steps).items()
        }
        edges = sorted({*context_at, *freeze_at, *(d.step for d in made), steps})
        reasons = {d.step: d.reason for d in made}
        for index, (start, stop) in enumerate(itertools.pairwise(edges)):
            context = _value_at(context_at, start)
            micro_batch = config.train.sequences(context)
            assert micro_batch is not None  # the configuration was validated
            stages.append(
                Stage(
                    phase=phase.name,
                    index=index,
                    start_step=phase_start + start,
                    stop_step=phase_start + stop,
                    token_start=start * per_step,
                    context=context,
                    frozen_blocks=_value_at(freeze_at, start),
                    micro_batch=micro_batch,
                    accumulation=per_step // (context * micro_batch),
                    remat=_value_at(remat_at, start),
                    reason=reasons.get(start, "scheduled"),
                )
            )
        phase_start += steps
        for extension in (one for one in extensions if one.phase == phase.name):
            last, stop = stages[-1], phase_start + extension.steps
            stages.append(
                dataclasses.replace(
                    last,
                    index=last.index + 1,
                    start_step=phase_start,
                    stop_step=stop,
                    token_start=last.token_start + last.tokens,
                    reason=extension.reason,
                    extends=True,
                )
            )
            phase_start = stop
    return Plan(tuple(stages), per_step, tuple(rescues))


def _require_steps(phase: Phase, steps: int, per_step: int) -> None:
    fractions = phase.breakpoints
    edges = [nearest(fraction * steps) for fraction in fractions] + [steps]
    for fraction, (start, stop) in zip(fractions, itertools.pairwise(edges), strict=True):
        if stop <= start:
            raise InputError(
                f"phase.{phase.name}.tokens: {phase.tokens:,} tokens are {steps} steps of {per_step:,}, too few "
                f"for its {len(fractions)} stages (the one from {fraction:.0%} on has none); "
                f"give the phase at least {_least_tokens(phase, per_step):,} tokens"
            )


def _require_room(phase: Phase, steps: int) -> None:
    """A freeze that waits as long as it may still comes before the next one and before the phase ends, in steps too."""
    if phase.freeze_when == "schedule":
        return
    longest = longest_wait(phase, steps)
    for start, following in itertools.pairwise([*list(_in_steps(phase.freeze, steps))[1:], steps]):
        if start + longest >= following:
            raise InputError(
                f"phase.{phase.name}.freeze_delay: {phase.freeze_delay} of {steps} steps are {longest}, and a freeze "
                f"at step {start} of the phase that waits so long reaches what follows at {following}; lower it"
            )


def longest_wait(phase: Phase, steps: int) -> int:
    return math.floor(phase.freeze_delay * steps + 1e-9)


def _in_steps(pairs: Sequence[tuple[float, T]], steps: int) -> dict[int, T]:
    """A piecewise setting by the step, inside its phase, from which a value holds."""
    return {nearest(fraction * steps): value for fraction, value in pairs}


def _value_at(values: dict[int, T], step: int) -> T:
    return values[max(start for start in values if start <= step)]


def _least_tokens(phase: Phase, per_step: int) -> int:
    """Tokens with which the shortest stage spans a whole step, so that rounding leaves none empty."""
    shortest = min(b - a for a, b in itertools.pairwise([*phase.breakpoints, 1.0]))
    return math.ceil(1 / shortest - 1e-9) * per_step
