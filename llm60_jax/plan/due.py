"""What is due between two steps: every "is it time?" of a run, in one place."""

from typing import NamedTuple

from llm60_jax.config import Config, Phase
from llm60_jax.plan.stages import Plan


class Due(NamedTuple):
    """What happens before a step is taken, in this order."""

    look: bool  # compare representations with those before
    evaluate: bool
    save: bool
    freeze: bool  # more blocks freeze at this step, so the save before it must succeed

    @property
    def anything(self) -> bool:
        return self.look or self.evaluate or self.save


def due(config: Config, plan: Plan, phase: Phase, step: int) -> Due:
    """Return what is due before global step `step` of a phase."""
    stage, since = plan.stage_at(step), step - plan.phase_span(phase.name)[0]
    freeze = step == stage.start_step and plan.begins_freeze(stage)
    return Due(
        look=since % plan.probe_every(phase.name) == 0,
        evaluate=since % config.train.evaluate_every == 0 or plan.is_late_mark(phase.name, step),
        save=freeze or (step > 0 and step % config.train.save_every == 0),
        freeze=freeze,
    )
