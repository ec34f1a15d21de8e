"""A phase closes on recorded evidence (playbook, sections 1 and 3.4): `gates/<phase>.json`.

The evidence today is the validation loss on the phase's held-out documents, at its start and at its end.
"""

import dataclasses
from typing import Any

from llm60_jax.phase import Phase


@dataclasses.dataclass(frozen=True)
class Verdict:
    """Whether a phase may close, and on what evidence."""

    phase: str
    passed: bool
    validation_loss_start: float
    validation_loss_end: float
    gain: float  # nats per token
    min_gain: float
    bits_per_byte_end: float
    state_sha256: str
    earlier_checkpoints: dict[str, str]  # path -> state_sha256 of those it builds on, verified when the phase closed

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def explain(self) -> str:
        """One sentence for a person, with the remedy when the phase may not close."""
        moved = f"validation loss {self.validation_loss_start:.4f} -> {self.validation_loss_end:.4f}"
        if self.passed:
            return f"gate {self.phase}: passed, {moved}"
        return (
            f"gate {self.phase}: not passed, {moved}: a gain of {self.gain:.4f} where {self.min_gain:.4f} is required. "
            f"Train the phase longer (phase.{self.phase}.tokens) or at another rate in a new run directory, clean its "
            f"text, or lower phase.{self.phase}.min_gain and run the same command again"
        )


def judge(
    phase: Phase,
    loss_start: float,
    loss_end: float,
    bits_per_byte_end: float,
    state_sha256: str,
    earlier_checkpoints: dict[str, str],
) -> Verdict:
    """Passed when the phase's validation loss fell by at least `phase.min_gain` nats. A loss that is not a number
    never passes."""
    gain = loss_start - loss_end
    return Verdict(
        phase=phase.name,
        passed=bool(gain >= phase.min_gain),
        validation_loss_start=loss_start,
        validation_loss_end=loss_end,
        gain=gain,
        min_gain=phase.min_gain,
        bits_per_byte_end=bits_per_byte_end,
        state_sha256=state_sha256,
        earlier_checkpoints=earlier_checkpoints,
    )
