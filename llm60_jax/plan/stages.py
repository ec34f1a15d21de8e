"""The plan: phases -> stages, and the learning rate. Pure functions of tokens seen; no jax.

A stage is a stretch of one phase with constant context and frozen depth. All percent arithmetic of the project
happens here, once; everything else asks the plan. Steps are counted over the whole run (`step`), tokens inside a
phase (`token_start`), so that a stage owns a disjoint span of its phase's text.

Where a phase has `freeze_when = "converged"`, a freeze that is due may be put off: a `Decision` says by how many steps
and why, and `build` gives the plan that follows from the configuration and all decisions so far.
"""

import dataclasses
import math

from llm60_jax.config.schema import Remat

LATE = 0.4  # share of a phase in which a plateau is looked for
MARKS = 6  # evaluations in it, beside the one at its end
PROBES = 50  # times in a phase that its representations are compared with those before (plasticity.py)


@dataclasses.dataclass(frozen=True)
class Decision:
    """What was decided when a freeze was due: to wait `wait` steps more, or (0) to freeze."""

    phase: str
    step: int  # global step at which it was due
    frozen_blocks: int  # blocks that were to freeze
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
    frozen_blocks: int  # blocks without gradient, counted from the bottom
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
        return bool(before) and before[-1].phase == stage.phase and before[-1].frozen_blocks < stage.frozen_blocks

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
        late = max(last.start_step, stop - nearest(LATE * (stop - start)))
        return [(late, stop), *((stage.start_step, stage.stop_step) for stage in stages if stage.extends)]

    def is_late_mark(self, phase: str, step: int) -> bool:
        """Whether the held-out text is scored at this step, so that a plateau can be told."""
        spans = self.late_stages(phase)
        return any(
            step == start + nearest(part * (stop - start) / parts)
            for (start, stop), parts in zip(spans, [MARKS, *[2] * len(spans)], strict=False)
            for part in range(parts)
        )

    def probe_every(self, phase: str) -> int:
        """Steps between two looks at the representations of a phase."""
        start, stop = self.scheduled_span(phase)
        return max(1, nearest((stop - start) / PROBES))


def nearest(value: float) -> int:
    """Nearest whole number, halves up. The small allowance keeps 0.3 * 50 (= 15 - 2e-15) at 15 and 14.5 at 15."""
    return math.floor(value + 0.5 + 1e-9)
