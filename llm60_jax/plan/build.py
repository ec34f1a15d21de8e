"""Build the plan that follows from a configuration and all amendments so far."""

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
    """Merge the breakpoints of each phase into stages.

    Breakpoints and phase ends round to whole steps.

    Args:
      config: the phases, and how a step is cut into micro-batches.
      decisions: about freezes that may wait. Each wait becomes a stage of its own, so that a stage
        keeps its rows once it has begun.
      extensions: each becomes a stage at the end of its phase and delays later phases by its steps.
      rescues: each lowers the rates of its phase from its step on.

    Raises:
      InputError: a phase has too few tokens for one step a stage, or no room for a freeze to wait.
    """
    per_step = config.train.tokens_per_step
    stages: list[Stage] = []
    phase_start = 0
    for phase in config.phase:
        stages += _scheduled(config, phase, phase_start, decisions)
        for extension in (e for e in extensions if e.phase == phase.name):
            stages.append(_extended(stages[-1], extension))
        phase_start = stages[-1].stop_step
    return Plan(tuple(stages), per_step, tuple(rescues))


def _scheduled(config: Config, phase: Phase, phase_start: int, decisions: Sequence[Decision]) -> list[Stage]:
    """Return the stages of a phase that begins at step `phase_start`, without extensions.

    Raise InputError.
    """
    per_step = config.train.tokens_per_step
    if not phase.tokens:
        raise InputError(f"phase.{phase.name}.epochs: its text is not counted yet; give tokens instead")
    steps = nearest(phase.tokens / per_step)
    _require_steps(phase, steps, per_step)
    _require_room(phase, steps)
    # From here to the stages themselves, steps count inside the phase.
    waits = [dataclasses.replace(d, step=d.step - phase_start) for d in decisions if d.phase == phase.name]
    context_at = _in_steps(phase.context, steps)
    remat_at = _in_steps(phase.remat or ((0.0, config.train.policy),), steps)
    freeze_at = {
        start + sum(d.wait for d in waits if d.frozen_blocks == depth): depth
        for start, depth in _in_steps(phase.freeze, steps).items()
    }
    blocks_at = _in_steps(phase.grow or ((0.0, config.model.layers),), steps)
    edges = sorted({*context_at, *freeze_at, *blocks_at, *(d.step for d in waits), steps})
    reasons = {d.step: d.reason for d in waits}
    stages = []
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
                blocks=_value_at(blocks_at, start),
                frozen_blocks=_value_at(freeze_at, start),
                micro_batch=micro_batch,
                accumulation=per_step // (context * micro_batch),
                remat=_value_at(remat_at, start),
                reason=reasons.get(start, "scheduled"),
            )
        )
    return stages


def _extended(last: Stage, extension: Extension) -> Stage:
    """Return the stage that continues the last stage of a phase beyond its schedule."""
    return dataclasses.replace(
        last,
        index=last.index + 1,
        start_step=last.stop_step,
        stop_step=last.stop_step + extension.steps,
        token_start=last.token_start + last.tokens,
        reason=extension.reason,
        extends=True,
    )


def _require_steps(phase: Phase, steps: int, per_step: int) -> None:
    """Raise InputError unless every stage has at least one step."""
    fractions = phase.breakpoints
    edges = [nearest(fraction * steps) for fraction in fractions] + [steps]
    for fraction, (start, stop) in zip(fractions, itertools.pairwise(edges), strict=True):
        if stop <= start:
            least = _least_tokens(phase, per_step)
            if phase.epochs is None:
                given, remedy = f"tokens: {phase.tokens:,} tokens are", f"give the phase at least {least:,} tokens"
            else:
                given = f"epochs: {phase.epochs:g} epochs of its text, {phase.tokens:,} tokens, are"
                remedy = f"give it {math.ceil(10 * phase.epochs * least / phase.tokens) / 10:g} epochs, or add text"
            raise InputError(
                f"phase.{phase.name}.{given} {steps} steps of {per_step:,}, too few for its {len(fractions)} stages: "
                f"the stage from {fraction:.0%} has no step; {remedy}"
            )


def _require_room(phase: Phase, steps: int) -> None:
    """Raise InputError if a freeze could wait until the next freeze or the end of the phase."""
    if phase.freeze_when == "schedule":
        return
    longest = longest_wait(phase, steps)
    for start, following in itertools.pairwise([*list(_in_steps(phase.freeze, steps))[1:], steps]):
        if start + longest >= following:
            raise InputError(
                f"phase.{phase.name}.freeze_delay: {phase.freeze_delay} of {steps} steps are {longest}; a freeze at "
                f"step {start} of the phase that waits {longest} steps reaches the next freeze or the end of the phase "
                f"at step {following}; lower freeze_delay"
            )


def longest_wait(phase: Phase, steps: int) -> int:
    """Return the most steps that a freeze may wait in a phase of `steps` steps."""
    return math.floor(phase.freeze_delay * steps + 1e-9)


def _in_steps(pairs: Sequence[tuple[float, T]], steps: int) -> dict[int, T]:
    """Key the values of a piecewise setting by the step, inside the phase, from which they hold."""
    return {nearest(fraction * steps): value for fraction, value in pairs}


def _value_at(values: dict[int, T], step: int) -> T:
    return values[max(start for start in values if start <= step)]


def _least_tokens(phase: Phase, per_step: int) -> int:
    """Return the tokens that give the shortest stage a whole step, so that no stage is empty."""
    shortest = min(b - a for a, b in itertools.pairwise([*phase.breakpoints, 1.0]))
    return math.ceil(1 / shortest - 1e-9) * per_step
