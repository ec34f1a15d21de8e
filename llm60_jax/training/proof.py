"""Prove from the running program that a stage follows the plan.

Other trainers have shipped schedules that silently did nothing. Here the first step of every stage
reports what the compiled program saw and changed. A difference from the plan stops the run; the
error names both values.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from llm60_jax.config import Model
from llm60_jax.data.tokens.tokenizer import BOS, PAD
from llm60_jax.errors import TrainingError
from llm60_jax.model import attention
from llm60_jax.model.native import total
from llm60_jax.plan import Stage, StepKey, flops
from llm60_jax.training.step import Metrics

_SIGMAS = 8  # standard deviations that a share of dropout may differ by chance


@dataclasses.dataclass(frozen=True)
class Observed:
    """The evidence of a stage's first step: its metrics, its program and its change of state."""

    context: int  # tokens in a row of the program
    blocks_with_gradient: tuple[int, ...]  # numbers of the blocks with a non-zero gradient
    mask_coverage: float  # share of the causal pairs of positions that the model's mask allows
    leaks: int  # held-out positions that saw another document or a later position
    weights: tuple[float, float]  # least and largest weight of a token in the loss
    matmul_flops: int  # operations of matrix products in one step, counted in the program and by the native kernels
    groups_changed: tuple[str, ...]  # groups with any changed bit in their parameters
    state_bytes_updated: int  # optimizer state of the groups whose state changed
    state_bytes_untouched: int  # optimizer state of the groups whose state kept every bit
    # By the native kernels' own counts: shares of the MLPs' elements that dropout set to 0 in the forward and in the
    # backward pass, and of the causal pairs that the backward pass used.
    dropped: tuple[float, float] | None = None
    backward_coverage: float | None = None
    blocks_copied: int = 0  # blocks that were added before the step, and equalled those that they are copies of

    def to_row(self) -> dict[str, Any]:
        """Return JSON values for metrics.jsonl, with the number of blocks instead of their list."""
        return {**dataclasses.asdict(self), "blocks_with_gradient": len(self.blocks_with_gradient)}

    def describe(self, layers: int) -> str:
        """Return the evidence in one line of text."""
        return (
            f"context {self.context}, gradient in {len(self.blocks_with_gradient)} of {layers} blocks, "
            f"{self.matmul_flops / 1e9:,.1f} GFLOP a step, {self.mask_coverage:.0%} of causal pairs inside a document, "
            f"optimizer state {self.state_bytes_updated:,} bytes updated and {self.state_bytes_untouched:,} untouched"
        )


Digests = Mapping[str, tuple[str, str]]  # group -> digests of its parameters and optimizer state


def gather(
    metrics: Metrics,
    matmul_flops: int,
    leaks: int,
    opt_state: Mapping[str, Any],
    before: Digests,
    after: Digests,
    native: flops.NativeCounts = flops.NativeCounts(0, 0),
    blocks_copied: int = 0,
) -> Observed:
    """Return the evidence from a step's metrics, its program, and the digests before and after it.

    Args:
      matmul_flops: operations counted in the program (counted_flops.by_part), those of native calls
        left out.
      leaks: counted by evaluate/validation.py.
      opt_state: optimizer state by group, for its size.
      native: what the native kernels had to count (flops.native_counts).
      blocks_copied: counted by growing.copies.
    """
    state_bytes = {name: sum(leaf.nbytes for leaf in jax.tree.leaves(group)) for name, group in opt_state.items()}
    updated = sum(size for name, size in state_bytes.items() if before[name][1] != after[name][1])
    forward, backward = (total(counts) for counts in metrics.counts)
    return Observed(
        context=int(metrics.context),
        blocks_with_gradient=tuple(np.flatnonzero(metrics.block_gradients).tolist()),
        mask_coverage=float(metrics.mask_coverage),
        leaks=leaks,
        weights=(float(metrics.weights[0]), float(metrics.weights[1])),
        matmul_flops=matmul_flops + forward[0] + backward[0],
        groups_changed=tuple(sorted(name for name in after if before[name][0] != after[name][0])),
        state_bytes_updated=updated,
        state_bytes_untouched=sum(state_bytes.values()) - updated,
        dropped=(forward[2] / native.elements, backward[2] / native.elements) if native.elements else None,
        backward_coverage=backward[1] / native.pairs if native.pairs else None,
        blocks_copied=blocks_copied,
    )


def mask_coverage(tokens: np.ndarray, document_mask: bool) -> float:
    """Return the share of the causal pairs of positions inside one document, counted on the host.

    Args:
      tokens: token ids [..., T]. Documents are found by their BOS, independently of packing.
      document_mask: whether documents are kept apart; if not, a row counts as one document.
    """
    rows = tokens.reshape(-1, tokens.shape[-1])
    documents = np.cumsum(rows == BOS, axis=1) if document_mask else np.zeros_like(rows)
    documents = np.where(rows == PAD, -1, documents)
    length = rows.shape[-1]
    seen = sum(int(np.tril(row[:, None] == row[None, :]).sum()) for row in documents)
    return seen / (len(rows) * length * (length + 1) / 2)


@dataclasses.dataclass(frozen=True)
class Expected:
    """The expected evidence, beyond the stage and its key."""

    coverage: float  # `mask_coverage` of the step's batch
    reweighted: bool  # whether tokens differ in weight
    live: tuple[str, ...]  # groups that train, sorted; () if the learning rate is 0
    added: int = 0  # blocks that the model grew by before the step
    every_block: bool = True  # False if drop-path may skip a live block for a whole step


def check(stage: Stage, model: Model, key: StepKey, expected: Expected, evidence: Observed) -> None:
    """Raise TrainingError, with both values, if the program differs from the plan."""

    def differs(difference: str) -> TrainingError:
        return _not_in_effect(stage, difference)

    if evidence.context != stage.context:
        raise differs(f"context {stage.context} planned, {evidence.context} in the program")
    if evidence.blocks_copied != expected.added:
        raise differs(f"{expected.added} blocks added as copies planned, {evidence.blocks_copied} found")
    live_blocks, observed = tuple(range(stage.frozen_blocks, stage.blocks)), evidence.blocks_with_gradient
    if observed != live_blocks if expected.every_block else not set(observed) <= set(live_blocks):
        raise differs(f"gradient in blocks {_span(live_blocks)} planned, in {_span(observed)} found")
    planned_flops = flops.step_flops(model, key, attention.is_fused(key.context, key.dtype))
    if evidence.matmul_flops != planned_flops:
        raise differs(
            f"{planned_flops:,} operations in a step planned with {stage.frozen_blocks} of {stage.blocks} blocks "
            f"frozen, {evidence.matmul_flops:,} in the program"
        )
    if abs(evidence.mask_coverage - expected.coverage) > 1e-4:
        raise differs(
            f"document mask over {expected.coverage:.4f} of the causal pairs planned, "
            f"{evidence.mask_coverage:.4f} in the program"
        )
    rate, elements = key.noise.mlp, flops.native_counts(model, key).elements
    for share in evidence.dropped or ():
        if abs(share - rate) > _SIGMAS * math.sqrt(rate / elements):
            raise differs(f"dropout of {rate:.2%} of the MLPs' elements planned, of {share:.2%} found")
    if evidence.backward_coverage is not None and abs(evidence.backward_coverage - expected.coverage) > 1e-4:
        raise differs(
            f"document mask over {expected.coverage:.4f} of the causal pairs planned, "
            f"{evidence.backward_coverage:.4f} in the backward pass"
        )
    if evidence.leaks:
        raise differs(f"no position may see another document or a later position, {evidence.leaks} do")
    if (evidence.weights[0] != evidence.weights[1]) != expected.reweighted:
        planned = "different weights" if expected.reweighted else "equal weights"
        raise differs(f"{planned} of tokens planned, {evidence.weights[0]:.3f} to {evidence.weights[1]:.3f} found")
    if expected.live and evidence.groups_changed != expected.live:
        changed = ", ".join(evidence.groups_changed) or "nothing"
        raise differs(f"training of {', '.join(expected.live)} planned, of {changed} found")


def check_frozen(stage: Stage, before: Mapping[str, str], after: Mapping[str, str]) -> None:
    """Raise TrainingError if the digest of a frozen parameter or of its optimizer state changed."""
    changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    if changed:
        first = changed[0]
        raise _not_in_effect(
            stage,
            f"{stage.frozen_blocks} of {stage.blocks} blocks are frozen, but {len(changed)} of {len(before)} frozen "
            f"leaves changed; the first is {first}, its digest went from {str(before.get(first))[:16]} to "
            f"{str(after.get(first))[:16]}",
        )


def _not_in_effect(stage: Stage, difference: str) -> TrainingError:
    """Return the error for a difference from the plan."""
    return TrainingError(f"phase {stage.phase}, stage {stage.index + 1}: the plan is not in effect: {difference}")


def by_stack(model: Model, block_gradients: Any) -> dict[str, float]:
    """Return the gradient norm of each stack with a gradient, from the norms of its blocks."""
    squares = np.square(np.asarray(block_gradients, np.float64))
    norms = {name: float(np.sqrt(squares[start:stop].sum())) for name, start, stop in model.named_stacks}
    return {name: norm for name, norm in norms.items() if norm > 0}


def _span(blocks: Sequence[int]) -> str:
    """Return block numbers as text: `2 to 5`, `3 of them (0, 2, 5, ...)` or `none`."""
    if not blocks:
        return "none"
    if list(blocks) == list(range(blocks[0], blocks[-1] + 1)):
        return f"{blocks[0]} to {blocks[-1]}"
    return f"{len(blocks)} of them ({', '.join(map(str, blocks[:8]))}, ...)"
