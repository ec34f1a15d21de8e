"""What is due between two steps: every "is it time?" of a run, in one place. No jax.

Evaluation is planned by tokens, not by the clock, so that a resumed run evaluates where an
uninterrupted one does. A token scored in float32 takes about as long as a trained token, whose
products are in bfloat16 (docs/results/performance.md). Without settings of its own, a phase scores
at most one token for every twenty that it trains, and at least enough for its gate.
"""

import math
from typing import NamedTuple

from llm60_jax.config import Config, Phase
from llm60_jax.plan.stages import LATE_EVALUATIONS, Plan

EVALUATION_SHARE = 0.05  # scored tokens for each trained token; half for fixed evaluations, half for regular ones
LEAST_SCORED, MOST_SCORED = 8_192, 32_768  # held-out tokens that one evaluation scores of each phase's text
LEAST_EVERY = 500  # steps


class Due(NamedTuple):
    """What happens before a step is taken, in this order."""

    look: bool  # compare representations with those before
    evaluate: bool  # score the held-out text of all phases so far, and minimal pairs
    plateau: bool  # score the phase's own held-out text, for the plateau test
    save: bool
    turn: bool  # blocks freeze or are added at this step, so the save before it must succeed

    @property
    def anything(self) -> bool:
        return self.look or self.evaluate or self.plateau or self.save


def due(config: Config, plan: Plan, phase: Phase, step: int) -> Due:
    """Return what is due before global step `step` of a phase."""
    stage, since = plan.stage_at(step), step - plan.phase_span(phase.name)[0]
    turn = step == stage.start_step and plan.turns(stage)
    return Due(
        look=since % plan.probe_every(phase.name) == 0,
        evaluate=since % evaluate_every(config, phase) == 0,
        plateau=plan.is_late_mark(phase.name, step),
        save=turn or (step > 0 and step % config.train.save_every == 0),
        turn=turn,
    )


def evaluate_every(config: Config, phase: Phase) -> int:
    """Return the steps between two evaluations of a phase: `train.evaluate_every`, or few enough for their share."""
    if config.train.evaluate_every is not None:
        return config.train.evaluate_every
    scored = _texts(config, phase) * validation_tokens(config, phase)
    return max(LEAST_EVERY, math.ceil(scored / (EVALUATION_SHARE / 2) / config.train.tokens_per_step))


def validation_tokens(config: Config, phase: Phase) -> int:
    """Return how many held-out tokens an evaluation inside a phase scores of each phase's text, at most.

    They are `train.validation_tokens`, or as many as let the fixed evaluations take their share: at
    both ends of the phase and for the plateau test.
    """
    if config.train.validation_tokens is not None:
        return config.train.validation_tokens
    fixed = 2 * _texts(config, phase) + LATE_EVALUATIONS
    return min(MOST_SCORED, max(LEAST_SCORED, int(EVALUATION_SHARE / 2 * phase.tokens / fixed)))


def _texts(config: Config, phase: Phase) -> int:
    """Return how many phases' held-out text an evaluation scores; a checkpoint brings two phases, as a rule."""
    return config.phase.index(phase) + (1 if config.start is None else 3)
