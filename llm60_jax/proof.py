"""Evidence from the running program that a stage does what the plan says.

Schedules have been shipped elsewhere that silently did nothing. Here the first step of every stage reports what the
compiled program saw and changed; a difference from the plan stops the run with both values named.
"""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from llm60_jax.errors import TrainingError
from llm60_jax.plan import Stage
from llm60_jax.step import Metrics


@dataclasses.dataclass(frozen=True)
class Evidence:
    """What one step of a stage did, as its program reports it."""

    context: int  # tokens in a row, as the program saw them
    blocks_with_gradient: tuple[int, ...]  # numbers of the blocks whose gradient was not zero
    mask_coverage: float  # share of the causal pairs of positions that the document mask lets see each other
    state_bytes_updated: int  # optimizer state of the live groups
    state_bytes_untouched: int  # optimizer state of the frozen groups

    def to_row(self) -> dict[str, Any]:
        """As plain values for metrics.jsonl; blocks are counted."""
        return {**dataclasses.asdict(self), "blocks_with_gradient": len(self.blocks_with_gradient)}

    def describe(self, layers: int) -> str:
        """One sentence for a person."""
        return (
            f"context {self.context}, gradient in {len(self.blocks_with_gradient)} of {layers} blocks, optimizer state "
            f"{self.state_bytes_updated:,} bytes updated and {self.state_bytes_untouched:,} untouched, "
            f"{self.mask_coverage:.0%} of causal pairs inside a document"
        )


def gather(metrics: Metrics, opt_state: Mapping[str, Any], frozen: Collection[str]) -> Evidence:
    """Evidence from a step's metrics and from the optimizer state, whose `frozen` groups are left alone."""
    held = {name: sum(leaf.nbytes for leaf in jax.tree.leaves(group)) for name, group in opt_state.items()}
    return Evidence(
        context=int(metrics.context),
        blocks_with_gradient=tuple(np.flatnonzero(metrics.block_gradients).tolist()),
        mask_coverage=float(metrics.mask_coverage),
        state_bytes_updated=sum(size for name, size in held.items() if name not in frozen),
        state_bytes_untouched=sum(size for name, size in held.items() if name in frozen),
    )


def check(stage: Stage, layers: int, evidence: Evidence) -> None:
    """Raises TrainingError when the program differs from the plan."""
    where = f"phase {stage.phase}, stage {stage.index + 1}: the plan is not in effect"
    if evidence.context != stage.context:
        raise TrainingError(f"{where}: context {stage.context} planned, {evidence.context} in the program")
    planned = tuple(range(stage.frozen, layers))
    if evidence.blocks_with_gradient != planned:
        raise TrainingError(
            f"{where}: gradient in blocks {_span(planned)} planned, in {_span(evidence.blocks_with_gradient)} found"
        )
    if not 0 < evidence.mask_coverage <= 1:
        raise TrainingError(f"{where}: the document mask covers {evidence.mask_coverage:.3f} of the causal pairs")


def check_frozen(stage: Stage, before: str, after: str) -> None:
    """Raises TrainingError when the digest of the frozen parameters and their optimizer state has changed."""
    if before != after:
        raise TrainingError(
            f"phase {stage.phase}, stage {stage.index + 1}: the plan is not in effect: {stage.frozen} blocks are "
            f"frozen, but their digest went from {before[:16]} to {after[:16]}"
        )


def _span(blocks: Sequence[int]) -> str:
    if not blocks:
        return "none"
    whole = list(blocks) == list(range(blocks[0], blocks[-1] + 1))
    return (
        f"{blocks[0]} to {blocks[-1]}" if whole else f"{len(blocks)} of them ({', '.join(map(str, blocks[:8]))}, ...)"
    )
