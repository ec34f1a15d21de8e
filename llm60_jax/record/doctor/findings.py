"""A finding of the doctor, and what several checks share: measurements and remedies."""

import math
import statistics
from typing import Any, NamedTuple

from llm60_jax.config import Config, Phase
from llm60_jax.record.history import History

# What healthy and faulty runs measure is in docs/results/experiments.md.
_STUCK_FROM = 0.25  # share of a phase that is trained before the held-out loss is judged
_STUCK_VISITS = 10  # mean number of times that each token of the vocabulary was trained on before then
_STUCK_MARGIN = 0.05  # nats below the unigram entropy that count as progress
_STILL_FALLS = 0.15  # nats between the last two quarters of the training losses; such a model is not stuck yet


class Finding(NamedTuple):
    """One fault of a run. The same fault has the same `symptom` in every run."""

    symptom: str
    phase: str
    evidence: str
    cause: str
    fix: str

    def explain(self) -> str:
        """Return the finding as four lines of text."""
        return (
            f"{self.phase}: {self.symptom}\n  measured: {self.evidence}\n  likely cause: {self.cause}\n"
            f"  what to do: {self.fix}"
        )


class Stuck(NamedTuple):
    """A model that has learnt nothing beyond the frequencies of tokens. Both values are nats per token."""

    validation_loss: float
    unigram_entropy: float


# --- Measurements ----------------------------------------------------------------------------------------------------


def text_facts(history: History, phase: Phase) -> dict[str, Any]:
    """Return what the run recorded about a phase's text; empty for a run of an earlier version."""
    rows = history.of(phase, "data")
    return rows[-1]["data"] if rows else {}


def training_losses(history: History, phase: Phase) -> list[float]:
    """Return the finite training losses of a phase, in order."""
    return [row["loss"] for row in history.of(phase, "loss") if row["loss"] is not None and math.isfinite(row["loss"])]


def stuck(history: History, phase: Phase) -> Stuck | None:
    """Return both losses if a first phase stays above the unigram entropy after a fair start; else None.

    A loss that still falls fast does not stay.
    """
    entropy = text_facts(history, phase).get("unigram_entropy")
    scores = history.of(phase, "validation_loss")
    first = phase == history.config.phase[0] and history.config.start is None
    if not first or entropy is None or not scores or share_done(history, phase) < _STUCK_FROM:
        return None
    if share_done(history, phase) * phase.tokens < _STUCK_VISITS * history.config.model.vocab_size:
        return None
    losses = training_losses(history, phase)
    quarter = max(1, len(losses) // 4)
    before, now = losses[-2 * quarter : -quarter], losses[-quarter:]
    if before and statistics.fmean(before) - statistics.fmean(now) > _STILL_FALLS:
        return None
    loss = scores[-1]["validation_loss"]
    return Stuck(loss, entropy) if loss > entropy - _STUCK_MARGIN else None


def share_done(history: History, phase: Phase) -> float:
    """Return the share of a phase's tokens that are trained."""
    rows = history.of(phase, "tokens")
    return (rows[-1]["tokens"] - rows[0]["tokens"]) / phase.tokens if rows else 0.0


# --- Remedies --------------------------------------------------------------------------------------------------------


def new_run(*settings: str) -> str:
    """Return the advice to start a new run with these settings, because a run under way refuses them."""
    return "begin a new run with " + " ".join(f"--set {setting}" for setting in settings) + " --workdir runs/NEW"


def divided_rates(phase: Phase, divisor: float) -> str:
    """Return the setting that divides both learning rates of a phase."""
    peak, final = (f"{rate / divisor:.1e}" for rate in phase.learning_rate)
    return f"'phase.{phase.name}.learning_rate=[{peak},{final}]'"


def longer_warmup(phase: Phase, share: float) -> list[str]:
    """Return the setting that warms up over a share of the phase; none if the phase already does."""
    return [f"phase.{phase.name}.warmup={share:g}"] if share > phase.warmup else []


def without_cache(phase: Phase) -> list[str]:
    """Return the setting that a phase needs before its frozen blocks may change."""
    return [f"phase.{phase.name}.prefix_cache=false"] if phase.prefix_cache else []


def freezing(config: Config, phase: Phase) -> list[str]:
    """Return the settings for the playbook's freezing (section 7), at depths that this model can freeze."""
    third, two_thirds = thirds(config)
    settings = [f"'phase.{phase.name}.freeze=[[0.0,0],[0.2,{third}],[0.5,{two_thirds}]]'", *without_cache(phase)]
    if phase.remat:  # its fractions are those of the freezes of now
        settings.append(f"phase.{phase.name}.remat=")
    if phase.freeze_when == "converged" and phase.freeze_delay > 0.25:
        settings.append(f"phase.{phase.name}.freeze_delay=0.1")
    return settings


def longer(phase: Phase) -> str:
    """Return the advice to train a phase longer, or to add text where it is read too often already."""
    if phase.epochs is not None and phase.epochs > 4:
        return "add text"
    return f"train longer: --set {phase.times(2)}"


def thirds(config: Config) -> tuple[int, int]:
    """Return the inner stack boundaries nearest to one third and two thirds of the model's blocks."""
    inner, layers = config.model.boundaries[1:-1], config.model.layers
    first, second = (min(inner, key=lambda depth: abs(depth - part * layers / 3)) for part in (1, 2))
    return first, second
