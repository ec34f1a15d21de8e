"""What a checkpoint remembers beside the arrays: `Progress`, the one list of it.

Only `run/` changes it. It goes into `meta.json` and is validated when it is read back, so a field is added
here and nowhere else.
"""

from dataclasses import field
from typing import Any

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from llm60_jax.config.schema import Count
from llm60_jax.plan import Decision, Extension

_STRICT = ConfigDict(extra="forbid", strict=True)


@dataclass(kw_only=True, config=_STRICT)
class Look:
    """The last comparison of representations (evaluate/drift.py)."""

    step: Count
    drift: dict[str, float] | None = None  # by stack; None at the first look of a phase


@dataclass(kw_only=True, config=_STRICT)
class Progress:
    """Where a run stands, and every fact that a later decision rests on."""

    step: Count = 0  # optimizer updates over all phases
    phase: str | None = None  # whose parameter groups the state has; None between phases
    iterator: dict[str, Any] | None = None  # position in the data of the stage under way
    decisions: list[Decision] = field(default_factory=list)  # on freezes
    extensions: list[Extension] = field(default_factory=list)
    overrides: dict[str, str] = field(default_factory=dict)  # phase closed against its gate -> reason
    phase_start: dict[str, Any] | None = None  # evaluation at the start of the phase: evidence for its gate
    late_losses: list[tuple[int, float]] = field(default_factory=list)  # steps and held-out losses, for the plateau
    objectives: list[tuple[int, float]] = field(default_factory=list)  # last applied steps; they set the loss limit
    refused: Count = 0  # steps in a row that were not applied
    frozen_digests: dict[str, str] | None = None  # leaves that the stage under way leaves frozen
    look: Look | None = None
    ancestors: dict[str, str] = field(default_factory=dict)  # checkpoints built on -> state_sha256, oldest first

    def enter(self, phase: str) -> None:
        """Forget what belongs to the phase before."""
        self.phase = phase
        self.iterator = self.phase_start = self.frozen_digests = self.look = None
        self.late_losses, self.objectives, self.refused = [], [], 0
