"""Validation loss on held-out documents: fixed rows, float32 scoring."""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

ROWS = 8  # scored at a time; one compiled program for every evaluation of a run


class Validation(NamedTuple):
    """What one evaluation found. `loss` is in nats per token, `bits_per_byte` is comparable across tokenizers."""

    loss: float
    perplexity: float
    bits_per_byte: float
    tokens: int

    def to_row(self) -> dict[str, Any]:
        """As fields of metrics.jsonl."""
        return {"validation_loss": self.loss, "bits_per_byte": self.bits_per_byte, "validation_tokens": self.tokens}

    def describe(self) -> str:
        """One phrase for a person."""
        return (
            f"validation loss {self.loss:.4f} (perplexity {self.perplexity:,.1f}, {self.bits_per_byte:.3f} bits per "
            f"byte, {self.tokens:,} tokens)"
        )


def score(
    score_rows: Callable[[Any, Mapping[str, np.ndarray]], tuple[Any, Any]],
    params: Any,
    rows: Mapping[str, np.ndarray],
    text_bytes: int,
    check: Callable[[], None] = lambda: None,
) -> Validation:
    """Mean loss over all rows.

    Args:
      score_rows: compiled (params, rows [ROWS, T]) -> (sum of losses in nats, sum of weights).
      params: the model's parameters.
      rows: tokens, targets, segments, weights, each [R, T]; padding has weight 0.
      text_bytes: UTF-8 bytes of the documents in the rows.
      check: called between pieces; may raise to interrupt.
    """
    total = weight = 0.0
    count = len(rows["tokens"])
    for start in range(0, count, ROWS):
        check()
        piece = {name: _padded(array[start : start + ROWS]) for name, array in rows.items()}
        loss_sum, weight_sum = score_rows(params, piece)
        total, weight = total + float(loss_sum), weight + float(weight_sum)
    loss = total / max(weight, 1.0)
    perplexity = math.exp(loss) if loss < 700 else math.inf
    return Validation(loss, perplexity, total / math.log(2) / max(text_bytes, 1), int(weight))


def _padded(rows: np.ndarray) -> np.ndarray:
    """Rows of zeros at the end: token 0 is padding, segment 0 no document, weight 0 no loss."""
    return np.concatenate([rows, np.zeros((ROWS - len(rows), *rows.shape[1:]), rows.dtype)])
