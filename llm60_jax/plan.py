"""The plan: phases -> stages, and the learning rate. Pure functions of tokens seen; no jax.

A stage is a stretch of one phase with constant context and frozen depth. All percent arithmetic of the project
happens here, once; everything else asks the plan. Steps are counted over the whole run (`step`), tokens inside a
phase (`token_start`), so that a stage owns a disjoint span of its phase's text.

Where a phase has `freeze_when = "converged"`, a freeze that is due may be put off: a `Decision` says by how many steps
and why, and `build` gives the plan that follows from the configuration and all decisions so far.
"""

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import Any, TypeVar

from llm60_jax.config import Config
from llm60_jax.errors import InputError
from llm60_jax.fields import Remat
from llm60_jax.phase import Phase

T = TypeVar("T")
LATE = 0.4  # share of a phase in which a plateau is looked for
MARKS = 6  # evaluations in it, beside the one at its end
PROBES = 50  # times in a phase that its representations are compared with those before (plasticity.py)


@dataclasses.dataclass(frozen=True)
class Decision:
    """What was decided when a freeze was due: to wait `wait` steps more, or (0) to freeze."""

    phase: str
    step: int  # global step at which it was due
    frozen: int  # blocks that were to freeze
    wait: int
    reason: str


@dataclasses.dataclass(frozen=True)
class Extension:
    """Steps that a phase is given beyond its schedule, because it still improves: its last stage goes on, at the final
    learning rate."""

    phase: str
    steps: int
    reason: str


@dataclasses.dataclass(frozen=True)
class Rescue:
    """The run went back to a checkpoint, because steps could not be applied, and on from there at a lower rate."""

    phase: str
    step: int  # from which on the rate is lower
    factor: float
    warmup: int  # steps over which the rate rises again


@dataclasses.dataclass(frozen=True)
class Stage:
    """Constant settings inside a phase. Steps are global, half-open: `start_step <= step < stop_step`."""

    phase: str
    index: int  # inside the phase, from 0
    start_step: int
    stop_step: int
    token_start: int  # inside the phase's stream of concatenated epochs
    context: int
    frozen: int  # blocks without gradient, counted from the bottom
    micro_batch: int  # sequences in one forward and backward
    accumulation: int  # micro-batches in one step
    remat: Remat  # recomputation policy of the live blocks
    reason: str = "scheduled"  # why its freeze came, or why it waits; why the phase goes on
    extends: bool = False  # beyond the phase's schedule

    @property
    def steps(self) -> int:
        return self.stop_step - self.start_step

    @property
    def sequences(self) -> int:
        """Sequences in one step."""
        return self.micro_batch * self.accumulation

    @property
    def tokens(self) -> int:
        return self.steps * self.sequences * self.context


@dataclasses.dataclass(frozen=True)
class Plan:
    """All stages of a run, in order. Built by `build`."""

    stages: tuple[Stage, ...]
    tokens_per_step: int
    rescues: tuple[Rescue, ...] = ()

    @property
    def steps(self) -> int:
        return self.stages[-1].stop_step

    @property
    def tokens(self) -> int:
        return self.steps * self.tokens_per_step

    @property
    def freezes(self) -> int:
        """How often blocks freeze; a checkpoint is kept before each."""
        return sum(self.begins_freeze(stage) for stage in self.stages)

    def begins_freeze(self, stage: Stage) -> bool:
        """Whether more blocks are frozen from this stage on than before it, inside its phase."""
        before = self.stages[: self.stages.index(stage)]
        return bool(before) and before[-1].phase == stage.phase and before[-1].frozen < stage.frozen

    def stage_at(self, step: int) -> Stage:
        """The stage that performs `step`. Raises IndexError outside 0 <= step < steps."""
        if step >= 0:
            for stage in self.stages:
                if step < stage.stop_step:
                    return stage
        raise IndexError(f"step {step} is outside the plan's {self.steps} steps")

    def phase_stages(self, phase: str) -> tuple[Stage, ...]:
        return tuple(stage for stage in self.stages if stage.phase == phase)

    def phase_span(self, phase: str) -> tuple[int, int]:
        """The first step of a phase and the one past its last."""
        stages = self.phase_stages(phase)
        return stages[0].start_step, stages[-1].stop_step

    def scheduled_span(self, phase: str) -> tuple[int, int]:
        """The same, without extensions."""
        stages = [stage for stage in self.phase_stages(phase) if not stage.extends]
        return stages[0].start_step, stages[-1].stop_step

    def late_stages(self, phase: str) -> list[tuple[int, int]]:
        """The spans of steps in which it is looked for a plateau: the last two fifths of the phase as far as its
        context and its frozen depth no longer change, and each extension."""
        start, stop = self.scheduled_span(phase)
        stages = self.phase_stages(phase)
        last = next(stage for stage in stages if stage.stop_step == stop)
        late = max(last.start_step, stop - _nearest(LATE * (stop - start)))
        return [(late, stop), *((stage.start_step, stage.stop_step) for stage in stages if stage.extends)]

    def is_late_mark(self, phase: str, step: int) -> bool:
        """Whether the held-out text is scored at this step, so that a plateau can be told."""
        spans = self.late_stages(phase)
        return any(
            step == start + _nearest(part * (stop - start) / parts)
            for (start, stop), parts in zip(spans, [MARKS, *[2] * len(spans)], strict=False)
            for part in range(parts)
        )

    def probe_every(self, phase: str) -> int:
        """Steps between two looks at the representations of a phase."""
        start, stop = self.scheduled_span(phase)
        return max(1, _nearest((stop - start) / PROBES))


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
        steps = _nearest(phase.tokens / per_step)
        _require_steps(phase, steps, per_step)
        _require_room(phase, steps)
        made = [
            dataclasses.replace(d, step=d.step - phase_start) for d in decisions if d.phase == phase.name
        ]  # steps inside the phase
        context_at = _in_steps(phase.context, steps)
        remat_at = _in_steps(phase.remat or ((0.0, config.train.policy),), steps)
        freeze_at = {
            start + sum(d.wait for d in made if d.frozen == depth): depth
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
                    frozen=_value_at(freeze_at, start),
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


def learning_rate(plan: Plan, phase: Phase, step: int) -> float:
    """The rate of a step: as scheduled, lowered by every rescue of the phase, and warmed up again after each."""
    rate = _scheduled_rate(plan, phase, step)
    for rescue in plan.rescues:
        if rescue.phase == phase.name and step >= rescue.step:
            rate *= rescue.factor * min(1.0, (step + 1 - rescue.step) / rescue.warmup)
    return rate


def rescue(plan: Plan, phase: Phase, step: int) -> Rescue:
    """Half the rate from a step on, warmed up for twice as long as the phase was at its beginning (playbook, section
    14: "lower LR, longer warmup")."""
    start, stop = plan.scheduled_span(phase.name)
    return Rescue(phase.name, step, 0.5, max(1, _nearest(2 * phase.warmup * (stop - start))))


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


def to_rows(plan: Plan, config: Config) -> list[dict[str, Any]]:
    """The stage table as plain values, one dict a stage: what `--dry-run` prints and `plan.json` holds."""
    phases = {phase.name: phase for phase in config.phase}
    return [
        {
            "phase": stage.phase,
            "stage": stage.index,
            "start_step": stage.start_step,
            "stop_step": stage.stop_step,
            "steps": stage.steps,
            "tokens": stage.tokens,
            "token_start": stage.token_start,
            "context": stage.context,
            "sequences": stage.sequences,
            "micro_batch": stage.micro_batch,
            "accumulation": stage.accumulation,
            "frozen": stage.frozen,
            "remat": stage.remat,
            "reason": stage.reason,
            "learning_rate_first": learning_rate(plan, phases[stage.phase], stage.start_step),
            "learning_rate_last": learning_rate(plan, phases[stage.phase], stage.stop_step - 1),
        }
        for stage in plan.stages
    ]


def decide(plan: Plan, phase: Phase, stage: Stage, drift: float | None, decisions: Sequence[Decision]) -> Decision:
    """Whether the freeze that `stage` begins may come, or has to wait, and why.

    Args:
      plan: the plan with all `decisions` so far.
      stage: the stage due now, in which more blocks are frozen than before it.
      drift: of the blocks to freeze, as last measured; None before there was a second look.

    Returns:
      A decision to freeze (`wait` 0), when the blocks have settled or the wait is as long as it may be; else one to
      wait until the next look.
    """
    start, stop = plan.phase_span(phase.name)
    longest = _longest_wait(phase, stop - start)
    waited = sum(d.wait for d in decisions if (d.phase, d.frozen) == (phase.name, stage.frozen))
    measured = "not measured yet" if drift is None else f"{drift:.4f}"
    if drift is not None and drift <= phase.settled_drift:
        wait, why = 0, f"settled: drift {measured}, at most {phase.settled_drift} asked for"
    elif waited >= longest:
        wait, why = 0, f"waited {waited} steps, the most allowed, with a drift of {measured}"
    else:
        wait = min(plan.probe_every(phase.name), longest - waited)
        why = f"{stage.frozen} blocks wait {wait} steps: drift {measured}, above {phase.settled_drift}"
    return Decision(phase.name, stage.start_step, stage.frozen, wait, why)


def extend(plan: Plan, phase: Phase, reason: str) -> Extension | None:
    """A tenth of the phase's scheduled steps more, or what its gate still allows; None when that is nothing."""
    start, stop = plan.scheduled_span(phase.name)
    steps = stop - start
    used = plan.phase_span(phase.name)[1] - start
    more = min(max(1, _nearest(steps / 10)), math.floor(phase.gate.extend_up_to * steps + 1e-9) - used)
    return Extension(phase.name, more, reason) if more > 0 else None


def _require_steps(phase: Phase, steps: int, per_step: int) -> None:
    fractions = phase.breakpoints
    edges = [_nearest(fraction * steps) for fraction in fractions] + [steps]
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
    longest = _longest_wait(phase, steps)
    for start, following in itertools.pairwise([*list(_in_steps(phase.freeze, steps))[1:], steps]):
        if start + longest >= following:
            raise InputError(
                f"phase.{phase.name}.freeze_delay: {phase.freeze_delay} of {steps} steps are {longest}, and a freeze "
                f"at step {start} of the phase that waits so long reaches what follows at {following}; lower it"
            )


def _longest_wait(phase: Phase, steps: int) -> int:
    return math.floor(phase.freeze_delay * steps + 1e-9)


def _in_steps(pairs: Sequence[tuple[float, T]], steps: int) -> dict[int, T]:
    """A piecewise setting by the step, inside its phase, from which a value holds."""
    return {_nearest(fraction * steps): value for fraction, value in pairs}


def _value_at(values: dict[int, T], step: int) -> T:
    return values[max(start for start in values if start <= step)]


def _nearest(value: float) -> int:
    """Nearest whole number, halves up. The small allowance keeps 0.3 * 50 (= 15 - 2e-15) at 15 and 14.5 at 15."""
    return math.floor(value + 0.5 + 1e-9)


def _least_tokens(phase: Phase, per_step: int) -> int:
    """Tokens with which the shortest stage spans a whole step, so that rounding leaves none empty."""
    shortest = min(b - a for a, b in itertools.pairwise([*phase.breakpoints, 1.0]))
    return math.ceil(1 / shortest - 1e-9) * per_step
