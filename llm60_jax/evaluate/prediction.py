"""How a model predicts given tokens: their log-probabilities, and which are the likeliest."""

import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from llm60_jax.config import Model
from llm60_jax.data.tokens.tokenizer import Tokenizer
from llm60_jax.evaluate.subject import Subject
from llm60_jax.model import groups

ROWS = 32  # rows scored at a time
_LENGTH_MULTIPLE = 16  # tokens; row lengths are rounded up to it, so that few programs are compiled


def predict(trained: Subject, rows: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Score at most `ROWS` rows of tokens.

    Returns:
      The log-probability of each token after the first, in nats, float64 [n, T - 1], and whether it
      is the likeliest. T is the padded length.
    """
    longest = max(map(len, rows))
    length = min(trained.model.max_context, _LENGTH_MULTIPLE * math.ceil(longest / _LENGTH_MULTIPLE))
    filled = np.full((ROWS, max(length, 2)), trained.tokenizer.pad, np.int32)
    for row, ids in zip(filled, rows, strict=False):
        row[: len(ids)] = ids
    logs, is_likeliest = _predict(trained.model, trained.plain_params, filled)
    return np.asarray(logs, np.float64)[: len(rows)], np.asarray(is_likeliest)[: len(rows)]


def likeliest(trained: Subject, ids: Sequence[int], count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Score the tokens of one row after the first, and name the likeliest tokens in their places.

    Returns:
      The log-probability of each token, in nats, float32 [T - 1]; the `count` likeliest tokens of
      each place, likeliest first, int32 [T - 1, count]; and their log-probabilities.
    """
    filled = np.full((1, trained.model.max_context), trained.tokenizer.pad, np.int32)
    filled[0, : len(ids)] = ids
    scored = _likeliest(trained.model, count, trained.plain_params, filled)
    logs, tokens, their_logs = (np.asarray(array)[0, : len(ids) - 1] for array in scored)
    return logs, tokens, their_logs


def candidate_scores(trained: Subject, context: str, candidates: Sequence[str], max_prefix: int) -> np.ndarray:
    """Return log P(candidate | context) in nats, float64 [n].

    Args:
      max_prefix: tokens of the context that are used; earlier ones matter little and cost time.
    """
    tokenizer, max_context = trained.tokenizer, trained.model.max_context
    ids, rows, starts = _ids(tokenizer, context), [], []
    for candidate in candidates:
        whole = _ids(tokenizer, context + candidate)
        same = next((i for i, (a, b) in enumerate(zip(ids, whole, strict=False)) if a != b), min(len(ids), len(whole)))
        cut = max(0, min(same - 1, len(whole) - max_context))
        cut = max(cut, same - 1 - max_prefix)
        rows.append(whole[cut : cut + max_context])
        starts.append(same - 1 - cut)
    scores = np.empty(len(rows))
    for at in range(0, len(rows), ROWS):
        logs, _ = predict(trained, rows[at : at + ROWS])
        for i, row in enumerate(logs):
            length = len(rows[at + i]) - 1
            scores[at + i] = row[max(0, starts[at + i]) : length].sum()
    return scores


def _ids(tokenizer: Tokenizer, text: str) -> list[int]:
    return [tokenizer.bos, *(tokenizer.encode(text) if text else [])]


@functools.partial(jax.jit, static_argnums=0)
def _predict(config: Model, params: groups.Params, tokens_BT: Any) -> tuple[jax.Array, jax.Array]:
    logits_BTV = _logits(config, params, tokens_BT)
    targets_BT = tokens_BT[:, 1:]
    logs_BT = jnp.take_along_axis(jax.nn.log_softmax(logits_BTV), targets_BT[..., None], -1)[..., 0]
    return logs_BT, logits_BTV.argmax(-1) == targets_BT


@functools.partial(jax.jit, static_argnums=(0, 1))
def _likeliest(config: Model, count: int, params: groups.Params, tokens_BT: Any) -> tuple[jax.Array, ...]:
    logs_BTV = jax.nn.log_softmax(_logits(config, params, tokens_BT))
    logs_BTk, likeliest_BTk = jax.lax.top_k(logs_BTV, min(count, config.vocab_size))
    return jnp.take_along_axis(logs_BTV, tokens_BT[:, 1:, None], -1)[..., 0], likeliest_BTk, logs_BTk


def _logits(config: Model, params: groups.Params, tokens_BT: Any) -> jax.Array:
    """Return the logits of the next tokens, float32 [B, T - 1, V]."""
    network, float32 = groups.merge(config, params), jnp.dtype(jnp.float32)
    outputs = network(tokens_BT[:, :-1], jnp.ones_like(tokens_BT[:, :-1]), dtype=float32)
    return network.logits(outputs.hidden_BTD, float32)
