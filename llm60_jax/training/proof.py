"""Evidence from the running program that a stage does what the plan says.

Schedules have been shipped elsewhere that silently did nothing. Here the first step of every stage reports what the
compiled program saw and changed; a difference from the plan stops the run with both values named.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from llm60_jax.config import Model
from llm60_jax.data.tokens.tokenizer import BOS, PAD
from llm60_jax.errors import TrainingError
from llm60_jax.model import attention
from llm60_jax.plan import Stage, StepKey, flops
from llm60_jax.training.step import Metrics


@dataclasses.dataclass(frozen=True)
class Observed:
    """What the first steps of a stage did, as the program reports it and as its state shows."""

    context: int  # tokens in a row, as the program saw them
    blocks_with_gradient: tuple[int, ...]  # numbers of the blocks whose gradient was not zero
    mask_coverage: float  # share of the causal pairs of positions that the model's mask leaves open
    leaks: int  # held-out positions that saw another document, or what comes after them
    weights: tuple[float, float]  # least and largest weight of a token in the loss
    matmul_flops: int  # operations of matrix products in one step, counted in the program
    groups_changed: tuple[str, ...]  # whose parameters are no longer, bit for bit, what they were
    state_bytes_updated: int  # optimizer state of the groups whose state changed
    state_bytes_untouched: int  # ... and of those whose state is bit for bit what it was

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


Digests = Mapping[str, tuple[str, str]]  # group -> digest of its parameters, digest of the optimizer's state for them


def gather(
    metrics: Metrics, matmul_flops: int, leaks: int, opt_state: Mapping[str, Any], before: Digests, after: Digests
) -> Observed:
    """Evidence from a step's metrics, its traced program, and the state before and after it."""
    held = {name: sum(leaf.nbytes for leaf in jax.tree.leaves(group)) for name, group in opt_state.items()}
    updated = sum(size for name, size in held.items() if before[name][1] != after[name][1])
    return Observed(
        context=int(metrics.context),
        blocks_with_gradient=tuple(np.flatnonzero(metrics.block_gradients).tolist()),
        mask_coverage=float(metrics.mask_coverage),
        leaks=leaks,
        weights=(float(metrics.weights[0]), float(metrics.weights[1])),
        matmul_flops=matmul_flops,
        groups_changed=tuple(sorted(name for name in after if before[name][0] != after[name][0])),
        state_bytes_updated=updated,
        state_bytes_untouched=sum(held.values()) - updated,
    )


def mask_coverage(tokens: np.ndarray, document_mask: bool) -> float:
    """Share of the causal pairs of positions that lie in one document, counted on the host.

    Args:
      tokens: [..., T]. Every document begins with BOS; that is all this rests on, not what packing says.
      document_mask: whether documents are kept apart; without, a row is one.
    """
    rows = tokens.reshape(-1, tokens.shape[-1])
    documents = np.cumsum(rows == BOS, axis=1) if document_mask else np.zeros_like(rows)
    documents = np.where(rows == PAD, -1, documents)
    length = rows.shape[-1]
    seen = sum(int(np.tril(row[:, None] == row[None, :]).sum()) for row in documents)
    return seen / (len(rows) * length * (length + 1) / 2)


@dataclasses.dataclass(frozen=True)
class Expected:
    """What the evidence must show beside what the stage and its key say."""

    coverage: float  # `mask_coverage` of the step's batch
    reweighted: bool  # whether tokens differ in weight
    live: tuple[str, ...]  # groups that train, sorted; () where the rate is 0 and nothing moves
    every_block: bool = True  # False where noise may leave a live block out of a whole step


def check(stage: Stage, model: Model, key: StepKey, expected: Expected, evidence: Observed) -> None:
    """Raises TrainingError, with both values, when the program differs from the plan."""

    def differs(what: str) -> TrainingError:
        return TrainingError(f"phase {stage.phase}, stage {stage.index + 1}: the plan is not in effect: {what}")

    if evidence.context != stage.context:
        raise differs(f"context {stage.context} planned, {evidence.context} in the program")
    planned, found = tuple(range(stage.frozen_blocks, model.layers)), evidence.blocks_with_gradient
    if found != planned if expected.every_block else not set(found) <= set(planned):
        raise differs(f"gradient in blocks {_span(planned)} planned, in {_span(found)} found")
    planned_flops = flops.step_flops(model, key, attention.is_fused(key.context))
    if evidence.matmul_flops != planned_flops:
        raise differs(
            f"{stage.frozen_blocks} frozen blocks leave {planned_flops:,} operations in a step, the program has "
            f"{evidence.matmul_flops:,}"
        )
    if abs(evidence.mask_coverage - expected.coverage) > 1e-4:
        raise differs(
            f"the document mask leaves {expected.coverage:.4f} of the causal pairs open, the program's "
            f"{evidence.mask_coverage:.4f}"
        )
    if evidence.leaks:
        raise differs(f"0 positions may see beyond their document or ahead, {evidence.leaks} do")
    if (evidence.weights[0] != evidence.weights[1]) != expected.reweighted:
        some = "different weights" if expected.reweighted else "one weight"
        raise differs(f"{some} of tokens planned, from {evidence.weights[0]:.3f} to {evidence.weights[1]:.3f} found")
    if expected.live and evidence.groups_changed != expected.live:
        raise differs(f"training of {', '.join(expected.live)} planned, of {_names(evidence.groups_changed)} found")


def _names(groups: Sequence[str]) -> str:
    return ", ".join(groups) or "nothing"


def check_frozen(stage: Stage, before: Mapping[str, str], after: Mapping[str, str]) -> None:
    """Raises TrainingError when the digest of a frozen parameter, or of its optimizer state, has changed."""
    changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    if changed:
        first = changed[0]
        raise TrainingError(
            f"phase {stage.phase}, stage {stage.index + 1}: the plan is not in effect: {stage.frozen_blocks} blocks "
            f"are frozen, but {len(changed)} of {len(before)} frozen leaves changed, the first of them {first}: its "
            f"digest went from {str(before.get(first))[:16]} to {str(after.get(first))[:16]}"
        )


def by_stack(model: Model, block_gradients: Any) -> dict[str, float]:
    """Gradient norm of each stack that has one, from those of its blocks."""
    squares = np.square(np.asarray(block_gradients, np.float64))
    norms = {name: float(np.sqrt(squares[start:stop].sum())) for name, start, stop in model.named_stacks}
    return {name: norm for name, norm in norms.items() if norm > 0}


def _span(blocks: Sequence[int]) -> str:
    if not blocks:
        return "none"
    whole = list(blocks) == list(range(blocks[0], blocks[-1] + 1))
    return (
        f"{blocks[0]} to {blocks[-1]}" if whole else f"{len(blocks)} of them ({', '.join(map(str, blocks[:8]))}, ...)"
    )
