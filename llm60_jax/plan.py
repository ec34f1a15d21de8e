"""The plan: phases -> stages, and the learning rate. Pure functions of tokens seen; no jax.

A stage is a stretch of one phase with constant context and frozen depth. All percent arithmetic of the project
happens here, once; everything else asks the plan. Steps are counted over the whole run (`step`), tokens inside a
phase (`token_start`), so that a stage owns a disjoint span of its phase's text.
"""

import dataclasses
import itertools
import math
from typing import Any

from llm60_jax.config import Config, Model, Phase
from llm60_jax.errors import InputError


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

    @property
    def steps(self) -> int:
        return self.stages[-1].stop_step

    @property
    def tokens(self) -> int:
        return self.steps * self.tokens_per_step

    @property
    def freezes(self) -> int:
        """How often blocks freeze; a checkpoint is kept before each."""
        return sum(a.frozen < b.frozen for a, b in itertools.pairwise(self.stages) if a.phase == b.phase)

    def stage_at(self, step: int) -> Stage:
        """The stage that performs `step`. Raises IndexError outside 0 <= step < steps."""
        if step >= 0:
            for stage in self.stages:
                if step < stage.stop_step:
                    return stage
        raise IndexError(f"step {step} is outside the plan's {self.steps} steps")

    def phase_stages(self, phase: str) -> tuple[Stage, ...]:
        return tuple(stage for stage in self.stages if stage.phase == phase)


def build(config: Config) -> Plan:
    """Merges each phase's breakpoints into stages; breakpoints and phase ends fall on the nearest whole step.

    Raises:
      InputError: a phase is too short for its stages to have a step each.
    """
    per_step = config.train.tokens_per_step
    micro_batch = dict(config.train.micro_batch)
    stages: list[Stage] = []
    phase_start = 0
    for phase in config.phase:
        steps = _nearest(phase.tokens / per_step)
        fractions = phase.breakpoints
        edges = [_nearest(fraction * steps) for fraction in fractions] + [steps]
        for index, fraction in enumerate(fractions):
            start, stop = edges[index], edges[index + 1]
            if stop <= start:
                raise InputError(
                    f"phase.{phase.name}.tokens: {phase.tokens:,} tokens are {steps} steps of {per_step:,}, too few "
                    f"for its {len(fractions)} stages (the one from {fraction:.0%} on has none); "
                    f"give the phase at least {_least_tokens(phase, per_step):,} tokens"
                )
            context = _value_at(phase.context, fraction)
            stages.append(
                Stage(
                    phase=phase.name,
                    index=index,
                    start_step=phase_start + start,
                    stop_step=phase_start + stop,
                    token_start=start * per_step,
                    context=context,
                    frozen=_value_at(phase.freeze, fraction),
                    micro_batch=micro_batch[context],
                    accumulation=per_step // (context * micro_batch[context]),
                )
            )
        phase_start += steps
    return Plan(tuple(stages), per_step)


def learning_rate(plan: Plan, phase: Phase, step: int) -> float:
    """Linear warm-up, then cosine from peak to final over the phase (playbook, section 8).

    A function of the tokens of the phase that the step completes, so context changes leave it smooth: the first
    step's rate is above 0, the last step's is exactly the final rate.
    """
    stages = plan.phase_stages(phase.name)
    start, stop = stages[0].start_step, stages[-1].stop_step
    total = (stop - start) * plan.tokens_per_step
    done = (step + 1 - start) * plan.tokens_per_step
    peak, final = phase.learning_rate
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
            "learning_rate_first": learning_rate(plan, phases[stage.phase], stage.start_step),
            "learning_rate_last": learning_rate(plan, phases[stage.phase], stage.stop_step - 1),
        }
        for stage in plan.stages
    ]


def _nearest(value: float) -> int:
    """Nearest whole number, halves up. The small allowance keeps 0.3 * 50 (= 15 - 2e-15) at 15 and 14.5 at 15."""
    return math.floor(value + 0.5 + 1e-9)


def _value_at(pairs: tuple[tuple[float, int], ...], fraction: float) -> int:
    return [value for start, value in pairs if start <= fraction][-1]


def _least_tokens(phase: Phase, per_step: int) -> int:
    """Tokens with which the shortest stage spans a whole step, so that rounding leaves none empty."""
    shortest = min(b - a for a, b in itertools.pairwise([*phase.breakpoints, 1.0]))
    return math.ceil(1 / shortest - 1e-9) * per_step


def flops_per_token(model: Model, stage: Stage) -> float:
    """Arithmetic of one training token in a stage, full remat counted as work: what the ETA scales by.

    Frozen blocks cost one forward pass; live blocks a forward, a second one for remat, and a backward of two. The head
    costs a forward and a backward. A causal product is counted whole.
    """
    block = 2 * (4 * model.dim**2 + 2 * model.dim * model.hidden_dim) + 4 * stage.context * model.dim
    live = model.layers - stage.frozen
    return block * (stage.frozen + 4 * live) + 6 * model.vocab_size * model.dim
