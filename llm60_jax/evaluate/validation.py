"""Validation loss on held-out documents: fixed rows, float32 scoring, every token once."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

ROWS = 8  # rows scored at a time, so that one compiled program serves all evaluations of a run
RARITY_EDGES = (0.5, 0.75, 0.9, 0.97)  # cumulative shares of the training text, by frequency
Z = 1.959964  # standard deviations from the mean to either end of a 95 % interval
_FIELDS = ("tokens", "targets", "segments", "weights")

# Summed loss in nats and number of tokens of each piece: the part of a document inside one row.
Pieces = Sequence[tuple[float, int]]


class Validation(NamedTuple):
    """The result of one evaluation."""

    loss: float  # nats per token
    error: float  # half the width of the 95 % interval of the loss, see `mean`
    perplexity: float
    bits_per_byte: float  # comparable across tokenizers
    tokens: int
    loss_by_rarity: tuple[float | None, ...]  # by `rarity_bins`; None for an empty bin
    pieces: Pieces

    def to_row(self) -> dict[str, Any]:
        """Return the result as fields of metrics.jsonl."""
        has_error = math.isfinite(self.error)
        return {
            "validation_loss": self.loss,
            "validation_error": self.error if has_error else None,
            "bits_per_byte": self.bits_per_byte,
            "bits_per_byte_error": self.error * self.bits_per_byte / self.loss if has_error and self.loss else None,
            "validation_tokens": self.tokens,
            "loss_by_rarity": list(self.loss_by_rarity),
        }


class Mean(NamedTuple):
    """A mean over tokens, and half the width of its 95 % interval."""

    value: float
    error: float  # infinite for a single piece

    def __neg__(self) -> "Mean":
        return Mean(-self.value, self.error)


def mean(sums: np.ndarray, tokens: np.ndarray) -> Mean:
    """Return the mean over tokens. Its error follows from the spread between pieces of text.

    This is the ratio estimator of survey sampling (Cochran 1977, section 6.4).

    Args:
      sums: the sum over the tokens of each piece, float64 [N].
      tokens: the number of tokens of each piece, [N].
    """
    total, count = max(1, tokens.sum()), len(sums)
    value = float(sums.sum() / total)
    if count < 2:
        return Mean(value, math.inf)
    spread = float(np.square(sums - value * tokens).sum()) * count / (count - 1)
    return Mean(value, Z * math.sqrt(spread) / total)


def fall(before: Pieces, after: Pieces) -> Mean:
    """Return how much the loss on the same text fell, in nats per token.

    The comparison is made piece by piece: most of the difference in difficulty between texts
    cancels. One evaluation may score more of the text than the other; what both scored is compared.
    Raises ValueError for two different texts.
    """
    both = min(len(before), len(after))
    old, new = (np.asarray(some[:both], np.float64).reshape(-1, 2) for some in (before, after))
    if both == 0 or old.shape != new.shape or not np.array_equal(old[:, 1], new[:, 1]):
        raise ValueError("losses of two different texts cannot be compared piece by piece")
    return mean(old[:, 0] - new[:, 0], new[:, 1])


def describe(row: Mapping[str, Any]) -> str:
    """Return the fields of `to_row` as one phrase."""
    grammar = f", {row['minimal_pairs']:.0%} of minimal pairs right" if "minimal_pairs" in row else ""
    others = row.get("earlier_phases", {})
    earlier = "".join(f", {name} {other['validation_loss']:.4f}" for name, other in others.items())
    error = "" if row["validation_error"] is None else f" ± {row['validation_error']:.3f}"
    return (
        f"validation loss {row['validation_loss']:.4f}{error} ({row['bits_per_byte']:.3f} bits per byte, "
        f"{row['validation_tokens']:,} tokens){grammar}{earlier}"
    )


def rarity_bins(counts: np.ndarray) -> np.ndarray:
    """Return the bin of each token by its frequency in training, int64 [V].

    Bin 0 has the commonest tokens, up to half of the training text; the next bins end at 75, 90 and
    97 % of it. Bin 4 has the rest.
    """
    order = np.argsort(-counts, kind="stable")
    before = np.cumsum(counts[order]) - counts[order]
    bins = np.empty(len(counts), np.int64)
    bins[order] = np.searchsorted(np.asarray(RARITY_EDGES) * max(counts.sum(), 1), before, side="right")
    return bins


def score(
    score_rows: Callable[[Any, Mapping[str, np.ndarray]], Any],
    params: Any,
    rows: Mapping[str, np.ndarray],
    text_bytes: int,
    bins: np.ndarray,
    check: Callable[[], None] = lambda: None,
) -> Validation:
    """Evaluate all rows.

    Args:
      score_rows: compiled (params, rows [ROWS, T]) -> cross-entropy of each target in nats, float32
        [ROWS, T].
      params: the model's parameters.
      rows: tokens, targets, segments, weights, each [R, T]; targets of weight 0 do not count.
      text_bytes: UTF-8 bytes of the documents in the rows.
      bins: the rarity bin of each token, [V].
      check: called before each batch; may raise to interrupt.
    """
    totals, tokens = np.zeros(len(RARITY_EDGES) + 1), np.zeros(len(RARITY_EDGES) + 1)
    pieces: list[tuple[float, int]] = []
    for start in range(0, len(rows["tokens"]), ROWS):
        check()
        part = padded({name: rows[name][start : start + ROWS] for name in _FIELDS})
        nll = np.asarray(score_rows(params, part), np.float64)
        counted = part["weights"] > 0
        target_bins = bins[part["targets"][counted]]
        totals += np.bincount(target_bins, nll[counted], len(totals))
        tokens += np.bincount(target_bins, minlength=len(tokens))
        stride = part["segments"].max() + 1  # gives each piece of each row a number of its own
        numbers = (part["segments"] + stride * np.arange(ROWS)[:, None])[counted]
        sums, sizes = np.bincount(numbers, nll[counted]), np.bincount(numbers)
        pieces += [(float(sums[n]), int(sizes[n])) for n in np.flatnonzero(sizes)]
    loss = totals.sum() / max(tokens.sum(), 1)
    each = np.asarray(pieces, np.float64).reshape(-1, 2)
    return Validation(
        loss=float(loss),
        error=mean(each[:, 0], each[:, 1]).error,
        pieces=pieces,
        perplexity=math.exp(loss) if loss < 700 else math.inf,
        bits_per_byte=float(totals.sum() / math.log(2) / max(text_bytes, 1)),
        tokens=int(tokens.sum()),
        loss_by_rarity=tuple(float(t / n) if n else None for t, n in zip(totals, tokens, strict=True)),
    )


def leaks(
    score_rows: Callable[[Any, Mapping[str, np.ndarray]], Any], params: Any, rows: Mapping[str, np.ndarray]
) -> int:
    """Count the positions whose loss depends on tokens that attention must not see.

    The count is 0 if the attention mask is in effect.

    One row is scored three times: unchanged, with its first document changed, and with its second
    half changed. Later documents must be bitwise unaffected by the first change, and the first half
    by the second.

    Args:
      score_rows, params, rows: as for `score`.
    """
    row = int(rows["segments"].max(1).argmax())  # the row with the most documents
    tokens, segments = rows["tokens"][row], rows["segments"][row]
    positions = np.arange(len(tokens))
    first, tail = segments == 1, positions >= len(tokens) // 2
    copies = {name: np.repeat(array[row : row + 1], 3, axis=0) for name, array in rows.items()}
    for number, changed in ((1, first), (2, tail)):
        copies["tokens"][number] = np.where(changed, np.roll(tokens, 1), tokens)
    plain, other_first, other_tail = np.asarray(score_rows(params, padded(copies)))[:3]
    across_documents = (plain != other_first) & (segments > 1)
    from_future = (plain != other_tail) & (positions < len(tokens) // 2)
    return int(across_documents.sum() + from_future.sum())


def padded(rows: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Add rows of zeros up to ROWS: token 0 is padding, segment 0 no document, weight 0 no loss."""
    return {
        name: np.concatenate([array, np.zeros((ROWS - len(array), *array.shape[1:]), array.dtype)])
        for name, array in rows.items()
    }
