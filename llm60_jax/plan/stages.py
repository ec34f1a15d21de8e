"""The stages of a plan, and its amendments. No jax.

A stage is a part of one phase with constant context, frozen depth and number of blocks. Steps count
over the whole run (`step`), tokens inside a phase (`token_start`), so that each stage owns a disjoint
span of its phase's text.

In a phase with `freeze_when = "converged"`, a freeze that is due may wait. A `Decision` records for
how many steps and why. `build` returns the plan that follows from the configuration and all
decisions.
"""

import dataclasses
import math

from llm60_jax.config.schema import Remat

LATE = 0.4  # share of a phase, at its end, in which the plateau test measures the slope of the loss
LATE_EVALUATIONS = 6  # evaluations in that share, without the one at its end
PROBES_PER_PHASE = 50  # measurements of representation drift (evaluate/drift.py)


@dataclasses.dataclass(frozen=True)
class Decision:
    """The decision when a freeze was due: to wait for `wait` more steps, or (0) to freeze."""

    phase: str
    step: int  # global step at which the freeze was due
    frozen_blocks: int  # blocks frozen after it
    wait: int
    reason: str


@dataclasses.dataclass(frozen=True)
class Extension:
    """Steps beyond a phase's schedule: its last stage continues at the final rate."""

    phase: str
    steps: int
    reason: str


@dataclasses.dataclass(frozen=True)
class Rescue:
    """A rewind to a checkpoint, because steps could not be applied.

    Training continues from it at a lower rate.
    """

    phase: str
    step: int  # the first step with the lower rate
    factor: float
    warmup: int  # steps until the rate has risen again


@dataclasses.dataclass(frozen=True)
class Stage:
    """Constant settings inside a phase.

    Steps are global, half-open: `start_step <= step < stop_step`.
    """

    phase: str
    index: int  # inside the phase, from 0
    start_step: int
    stop_step: int
    token_start: int  # inside the phase's stream of concatenated epochs
    context: int
    blocks: int  # blocks that the model has so far; all, unless the phase grows
    frozen_blocks: int  # blocks without gradient, counted from the bottom
    micro_batch: int  # sequences in one forward and backward
    accumulation: int  # micro-batches in one step
    remat: Remat  # recomputation policy of the live blocks
    reason: str = "scheduled"  # why its freeze happens or waits, or why the phase was extended
    extends: bool = False  # lies beyond the schedule of the phase

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

    def begins_freeze(self, stage: Stage) -> bool:
        """Whether this stage has more frozen blocks than the stage before it in the same phase."""
        before = self._before(stage)
        return before is not None and before.phase == stage.phase and before.frozen_blocks < stage.frozen_blocks

    def grows_from(self, stage: Stage) -> int | None:
        """Return the number of blocks before this stage where it has more; else None."""
        before = self._before(stage)
        return before.blocks if before is not None and before.blocks < stage.blocks else None

    def turns(self, stage: Stage) -> bool:
        """Whether this stage begins with a change that nothing undoes: blocks freeze, or are added."""
        return self.begins_freeze(stage) or self.grows_from(stage) is not None

    def blocks_after(self, step: int) -> int:
        """Return the blocks of the state after `step` steps. A stage adds its blocks before its first step."""
        return self.stage_at(max(0, step - 1)).blocks

    def _before(self, stage: Stage) -> Stage | None:
        number = self.stages.index(stage)
        return self.stages[number - 1] if number else None

    def stage_at(self, step: int) -> Stage:
        """Return the stage that performs `step`. Raise IndexError unless 0 <= step < steps."""
        if step >= 0:
            for stage in self.stages:
                if step < stage.stop_step:
                    return stage
        raise IndexError(f"step {step} is outside the plan's {self.steps} steps")

    def phase_stages(self, phase: str) -> tuple[Stage, ...]:
        return tuple(stage for stage in self.stages if stage.phase == phase)

    def phase_span(self, phase: str) -> tuple[int, int]:
        """Return the first step of a phase and the step after its last."""
        stages = self.phase_stages(phase)
        return stages[0].start_step, stages[-1].stop_step

    def scheduled_span(self, phase: str) -> tuple[int, int]:
        """Return the span of a phase without its extensions."""
        stages = [stage for stage in self.phase_stages(phase) if not stage.extends]
        return stages[0].start_step, stages[-1].stop_step

    def late_stages(self, phase: str) -> list[tuple[int, int]]:
        """Return the spans of steps of the plateau test: the late part and each extension.

        The late part is the last 40 % of the phase (`LATE`), without steps before its last stage:
        inside it neither context, frozen depth nor the number of blocks changes. A stage that adds
        blocks counts from its second step: what is measured before its first is of the smaller model.
        """
        start, stop = self.scheduled_span(phase)
        stages = self.phase_stages(phase)
        last = next(stage for stage in stages if stage.stop_step == stop)
        begins = last.start_step + (self.grows_from(last) is not None)
        late = max(begins, stop - nearest(LATE * (stop - start)))
        return [(late, stop), *((stage.start_step, stage.stop_step) for stage in stages if stage.extends)]

    def is_late_mark(self, phase: str, step: int) -> bool:
        """Whether the plateau test needs a held-out loss at this step."""
        spans = self.late_stages(phase)
        return any(
            step == start + nearest(part * (stop - start) / parts)
            for (start, stop), parts in zip(spans, [LATE_EVALUATIONS, *[2] * len(spans)], strict=False)
            for part in range(parts)
        )

    def probe_every(self, phase: str) -> int:
        """Return the steps between two measurements of representation drift."""
        start, stop = self.scheduled_span(phase)
        return max(1, nearest((stop - start) / PROBES_PER_PHASE))


def nearest(value: float) -> int:
    """Round to the nearest whole number, halves up.

    The allowance sends 0.3 * 50 = 15 - 2e-15 and 14.5 to 15.
    """
    return math.floor(value + 0.5 + 1e-9)
