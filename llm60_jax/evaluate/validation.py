"""Validation loss on held-out documents: fixed rows, float32 scoring, every token once."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

ROWS = 8  # scored at a time; one compiled program for every evaluation of a run
RARITY_EDGES = (0.5, 0.75, 0.9, 0.97)  # shares of the training text that the commoner tokens make up
Z = 1.959964  # standard deviations on either side of a 95 % interval
_ROWS_NEEDED = ("tokens", "targets", "segments", "weights")

Pieces = Sequence[tuple[float, int]]  # summed loss in nats, and tokens, of each piece of a document inside a row


class Validation(NamedTuple):
    """What one evaluation found. `loss` is in nats per token, `bits_per_byte` is comparable across tokenizers."""

    loss: float
    error: float  # half of the 95 % interval of the loss, see `mean`
    perplexity: float
    bits_per_byte: float
    tokens: int
    loss_by_rarity: tuple[float | None, ...]  # commonest tokens first, see `rarity_bins`; None where there are none
    pieces: Pieces

    def to_row(self) -> dict[str, Any]:
        """As fields of metrics.jsonl."""
        known = math.isfinite(self.error)
        return {
            "validation_loss": self.loss,
            "validation_error": self.error if known else None,  # half of a 95 % interval
            "bits_per_byte": self.bits_per_byte,
            "bits_per_byte_error": self.error * self.bits_per_byte / self.loss if known and self.loss else None,
            "validation_tokens": self.tokens,
            "loss_by_rarity": list(self.loss_by_rarity),
        }


class Mean(NamedTuple):
    """A mean over tokens, and half of its 95 % interval; infinite where there is only one piece."""

    value: float
    error: float

    def __neg__(self) -> "Mean":
        return Mean(-self.value, self.error)


def mean(sums: np.ndarray, tokens: np.ndarray) -> Mean:
    """The mean over tokens of what pieces of text sum up to, with the spread between pieces as its error (the ratio
    estimator of survey sampling; Cochran 1977, section 6.4).

    Args:
      sums: of each piece, float64 [N].
      tokens: of each piece, [N].
    """
    total, count = max(1, tokens.sum()), len(sums)
    value = float(sums.sum() / total)
    if count < 2:
        return Mean(value, math.inf)
    spread = float(np.square(sums - value * tokens).sum()) * count / (count - 1)
    return Mean(value, Z * math.sqrt(spread) / total)


def fall(before: Pieces, after: Pieces) -> Mean:
    """By how much the loss on the same text fell, in nats per token, compared piece by piece: most of what makes one
    text harder than another drops out. Raises ValueError for two different texts."""
    old, new = np.asarray(before, np.float64).reshape(-1, 2), np.asarray(after, np.float64).reshape(-1, 2)
    if old.shape != new.shape or not np.array_equal(old[:, 1], new[:, 1]):
        raise ValueError("losses of two different texts cannot be compared piece by piece")
    return mean(old[:, 0] - new[:, 0], new[:, 1])


def describe(row: Mapping[str, Any]) -> str:
    """One phrase for a person, from the fields of `to_row`."""
    grammar = f", {row['minimal_pairs']:.0%} of minimal pairs right" if "minimal_pairs" in row else ""
    earlier = "".join(f", {name} {one['validation_loss']:.4f}" for name, one in row.get("earlier_phases", {}).items())
    error = "" if row["validation_error"] is None else f" ± {row['validation_error']:.3f}"
    return (
        f"validation loss {row['validation_loss']:.4f}{error} ({row['bits_per_byte']:.3f} bits per byte, "
        f"{row['validation_tokens']:,} tokens){grammar}{earlier}"
    )


def rarity_bins(counts: np.ndarray) -> np.ndarray:
    """Five bins of tokens by how often they are met in training, int64 [V].

    The commonest tokens, which make up half of the text, are bin 0; the next, up to 75 %, bin 1; then up to 90 %, up
    to 97 %, and the rest.
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
    """Mean loss over all rows.

    Args:
      score_rows: compiled (params, rows [ROWS, T]) -> cross-entropy of each target in nats, float32 [ROWS, T].
      params: the model's parameters.
      rows: tokens, targets, segments, weights, each [R, T]; targets with weight 0 do not count.
      text_bytes: UTF-8 bytes of the documents in the rows.
      bins: the rarity bin of each token, [V].
      check: called between pieces; may raise to interrupt.
    """
    totals, tokens = np.zeros(len(RARITY_EDGES) + 1), np.zeros(len(RARITY_EDGES) + 1)
    pieces: list[tuple[float, int]] = []
    for start in range(0, len(rows["tokens"]), ROWS):
        check()
        part = padded({name: rows[name][start : start + ROWS] for name in _ROWS_NEEDED})
        nll = np.asarray(score_rows(params, part), np.float64)
        counted = part["weights"] > 0
        found = bins[part["targets"][counted]]
        totals += np.bincount(found, nll[counted], len(totals))
        tokens += np.bincount(found, minlength=len(tokens))
        width = part["segments"].max() + 1  # a number for each piece of a document in each row
        numbers = (part["segments"] + width * np.arange(ROWS)[:, None])[counted]
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
    """Positions that attention sees from where it must not: 0, unless the mask is not in effect.

    One row is scored three times: as it is, with its first document changed, and with its second half changed. What
    belongs to later documents, and what stands before the change, must come out bit for bit the same.

    Args:
      score_rows, params, rows: as for `score`.
    """
    row = int(rows["segments"].max(1).argmax())  # the one with the most documents
    tokens, segments = rows["tokens"][row], rows["segments"][row]
    positions = np.arange(len(tokens))
    first, tail = segments == 1, positions >= len(tokens) // 2
    three = {name: np.repeat(array[row : row + 1], 3, axis=0) for name, array in rows.items()}
    for number, changed in ((1, first), (2, tail)):
        three["tokens"][number] = np.where(changed, np.roll(tokens, 1), tokens)
    plain, without_first, without_tail = np.asarray(score_rows(params, padded(three)))[:3]
    reached = (plain != without_first) & (segments > 1)
    seen = (plain != without_tail) & (positions < len(tokens) // 2)
    return int(reached.sum() + seen.sum())


def padded(rows: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """At most ROWS rows, filled up with rows of zeros: token 0 is padding, segment 0 no document, weight 0 no loss."""
    return {
        name: np.concatenate([array, np.zeros((ROWS - len(array), *array.shape[1:]), array.dtype)])
        for name, array in rows.items()
    }
