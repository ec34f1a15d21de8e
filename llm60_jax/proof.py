"""Evidence from the running program that a stage does what the plan says.

Schedules have been shipped elsewhere that silently did nothing. Here the first step of every stage reports what the
compiled program saw and changed; a difference from the plan stops the run with both values named.
"""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from llm60_jax import arithmetic
from llm60_jax.config import Model
from llm60_jax.errors import TrainingError
from llm60_jax.plan import Stage
from llm60_jax.step import Metrics
from llm60_jax.step_key import StepKey


@dataclasses.dataclass(frozen=True)
class Evidence:
    """What one step of a stage did, as its program reports it."""

    context: int  # tokens in a row, as the program saw them
    blocks_with_gradient: tuple[int, ...]  # numbers of the blocks whose gradient was not zero
    mask_coverage: float  # share of the causal pairs of positions that the document mask leaves open
    matmul_flops: int  # operations of matrix products in one step, counted in the program
    state_bytes_updated: int  # optimizer state of the live groups
    state_bytes_untouched: int  # optimizer state of the frozen groups

    def to_row(self) -> dict[str, Any]:
        """As plain values for metrics.jsonl; blocks are counted."""
        return {**dataclasses.asdict(self), "blocks_with_gradient": len(self.blocks_with_gradient)}

    def describe(self, layers: int) -> str:
        """One sentence for a person."""
        return (
            f"context {self.context}, gradient in {len(self.blocks_with_gradient)} of {layers} blocks, "
            f"{self.matmul_flops / 1e9:,.1f} GFLOP a step, {self.mask_coverage:.0%} of causal pairs inside a document, "
            f"optimizer state {self.state_bytes_updated:,} bytes updated and {self.state_bytes_untouched:,} untouched"
        )


def gather(metrics: Metrics, matmul_flops: int, opt_state: Mapping[str, Any], frozen: Collection[str]) -> Evidence:
    """Evidence from a step's metrics, its traced program, and the optimizer state, whose `frozen` groups stay."""
    held = {name: sum(leaf.nbytes for leaf in jax.tree.leaves(group)) for name, group in opt_state.items()}
    return Evidence(
        context=int(metrics.context),
        blocks_with_gradient=tuple(np.flatnonzero(metrics.block_gradients).tolist()),
        mask_coverage=float(metrics.mask_coverage),
        matmul_flops=matmul_flops,
        state_bytes_updated=sum(size for name, size in held.items() if name not in frozen),
        state_bytes_untouched=sum(size for name, size in held.items() if name in frozen),
    )


def mask_coverage(segments: np.ndarray) -> float:
    """Share of the causal pairs of positions that lie in one document, counted on the host; segments [..., T]."""
    rows = segments.reshape(-1, segments.shape[-1])
    length = rows.shape[-1]
    seen = sum(int(np.tril(row[:, None] == row[None, :]).sum()) for row in rows)
    return seen / (len(rows) * length * (length + 1) / 2)


def check(stage: Stage, model: Model, key: StepKey, coverage: float, evidence: Evidence) -> None:
    """Raises TrainingError when the program differs from the plan; `coverage` is `mask_coverage` of its batch."""
    where = f"phase {stage.phase}, stage {stage.index + 1}: the plan is not in effect"
    if evidence.context != stage.context:
        raise TrainingError(f"{where}: context {stage.context} planned, {evidence.context} in the program")
    planned = tuple(range(stage.frozen, model.layers))
    if evidence.blocks_with_gradient != planned:
        raise TrainingError(
            f"{where}: gradient in blocks {_span(planned)} planned, in {_span(evidence.blocks_with_gradient)} found"
        )
    least, most = arithmetic.step_flops(model, key)
    if not least <= evidence.matmul_flops <= most:
        raise TrainingError(
            f"{where}: {stage.frozen} frozen blocks leave {most:,} operations in a step, the program has "
            f"{evidence.matmul_flops:,}"
        )
    if abs(evidence.mask_coverage - coverage) > 1e-4:
        raise TrainingError(
            f"{where}: the document mask leaves {coverage:.4f} of the causal pairs open, the program's "
            f"{evidence.mask_coverage:.4f}"
        )


def check_frozen(stage: Stage, before: Mapping[str, str], after: Mapping[str, str]) -> None:
    """Raises TrainingError when the digest of a frozen parameter, or of its optimizer state, has changed."""
    changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    if changed:
        first = changed[0]
        raise TrainingError(
            f"phase {stage.phase}, stage {stage.index + 1}: the plan is not in effect: {stage.frozen} blocks are "
            f"frozen, but {len(changed)} of {len(before)} frozen leaves changed, the first of them {first}: its digest "
            f"went from {str(before.get(first))[:16]} to {str(after.get(first))[:16]}"
        )


def by_segment(model: Model, block_gradients: Any) -> dict[str, float]:
    """Gradient norm of each segment that has one, from those of its blocks."""
    squares = np.square(np.asarray(block_gradients, np.float64))
    norms = {name: float(np.sqrt(squares[start:stop].sum())) for name, start, stop in model.named_segments}
    return {name: norm for name, norm in norms.items() if norm > 0}


def _span(blocks: Sequence[int]) -> str:
    if not blocks:
        return "none"
    whole = list(blocks) == list(range(blocks[0], blocks[-1] + 1))
    return (
        f"{blocks[0]} to {blocks[-1]}" if whole else f"{len(blocks)} of them ({', '.join(map(str, blocks[:8]))}, ...)"
    )
