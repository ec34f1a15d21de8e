"""Write several texts in one batch, and hand out each token as it is drawn.

This is the loop of `generate.stream` for many rows. A row's text does not depend on the others.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from llm60_jax import generate
from llm60_jax.checkpoint import Trained, open_
from llm60_jax.generate import FREE
from llm60_jax.model.drawing import Choice
from llm60_jax.serve.requests import MOST_ALTERNATIVES, MOST_ROWS
from llm60_jax.serve.texts import Alphabet, Odds

_SIZES = (1, 4, MOST_ROWS)  # rows; each size is a compiled program
_CHUNK = 8  # positions between two looks at rows that nobody follows token by token


class Loaded(NamedTuple):
    """A model in memory, ready to write."""

    trained: Trained
    params: Any  # of a plain model
    alphabet: Alphabet

    @staticmethod
    def of(trained: Trained) -> "Loaded":
        return Loaded(trained, trained.plain_params, Alphabet(trained.tokenizer))


class Row(NamedTuple):
    """A text to write."""

    ids: Sequence[int]  # BOS and the prompt
    end: int  # the most tokens, with the prompt
    seed: int
    choice: Choice
    is_followed: bool  # each token is wanted at once
    wants_odds: bool
    wants_prompt_odds: bool

    @property
    def needs_nothing(self) -> bool:
        """Return whether the answer needs no token of the model."""
        return len(self.ids) >= self.end and (self.end == 1 or not self.wants_prompt_odds)


class Token(NamedTuple):
    """The next token of a row."""

    row: int
    id: int
    is_given: bool  # by the prompt
    odds: Odds | None


def load(folder: Any) -> Loaded:
    """Read a checkpoint. Raises as `checkpoint.open_` does."""
    return Loaded.of(open_(folder))


def write(loaded: Loaded, rows: Sequence[Row], is_wanted: Callable[[int], bool]) -> Iterator[Token]:
    """Yield the tokens of rows as they are drawn, and given ones whose odds are wanted.

    EOS ends a row and is yielded.

    Args:
      is_wanted: says of a row, by its number, whether its next tokens are. The loop ends with the
        last wanted row.
    """
    config, length = loaded.trained.model, loaded.trained.model.max_context
    count = next(size for size in _SIZES if size >= len(rows))
    filled = [*rows, *[Row([0], 1, 0, rows[0].choice, False, False, False)] * (count - len(rows))]
    tokens_BS = np.full((count, length), FREE, np.int32)
    for ids_S, row in zip(tokens_BS, filled, strict=True):
        ids_S[: len(row.ids)] = row.ids
    ends = [row.end for row in filled]
    state = generate.begin(config, tokens_BS, ends, [row.seed for row in filled], [row.choice for row in filled])
    over_B = np.array([row.needs_nothing for row in filled])
    position = 0
    while True:
        over_B |= np.array([number >= len(rows) or not is_wanted(number) for number in range(count)])
        if over_B.all():
            return
        state = state._replace(ended_B=state.ended_B | over_B)
        until = _next_stop(filled, over_B, position)
        state = generate.advance(config, loaded.params, state, until)
        tokens_BS, reached = np.array(state.tokens_BS), int(state.position)
        odds = _odds_of(state, tokens_BS[:, reached], rows, over_B) if reached == position + 1 else {}
        for place in range(position + 1, reached + 1):
            for number, row in enumerate(rows):
                is_given, token = place < len(row.ids), int(tokens_BS[number, place])
                if over_B[number]:
                    continue
                if not is_given or row.wants_prompt_odds:
                    yield Token(number, token, is_given, odds.get(number))
                over_B[number] = place == row.end - 1 or (not is_given and token == row.choice.eos)
        position = reached


def _next_stop(rows: Sequence[Row], over_B: np.ndarray, position: int) -> int:
    """Return the position to which all rows may advance unseen."""
    live = [row for row, is_over in zip(rows, over_B, strict=True) if not is_over]
    if any(row.wants_prompt_odds or (row.wants_odds and position + 1 >= len(row.ids)) for row in live):
        return position + 1
    until = position + _CHUNK
    for row in live:
        if row.is_followed or row.wants_odds:
            # The last given token is not drawn: stop before the first one that is.
            until = min(until, max(position + 1, len(row.ids) - 1))
    return until


def _odds_of(
    state: generate.Decoding, tokens_B: np.ndarray, rows: Sequence[Row], over_B: np.ndarray
) -> dict[int, Odds]:
    """Return the odds of the newest tokens, of the rows that want them."""
    wanting = [number for number, row in enumerate(rows) if row.wants_odds and not over_B[number]]
    if not wanting:
        return {}
    count = min(MOST_ALTERNATIVES, state.logits_BV.shape[1])
    log_B, logs_BK, tokens_BK = map(np.asarray, _odds(state.logits_BV, tokens_B, count))
    return {
        number: Odds(float(log_B[number]), list(zip(tokens_BK[number].tolist(), logs_BK[number].tolist(), strict=True)))
        for number in wanting
    }


@functools.partial(jax.jit, static_argnames="count")
def _odds(logits_BV: jax.Array, tokens_B: Any, count: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return the log-probability of each token, and the `count` likeliest ones with theirs."""
    logs_BV = jax.nn.log_softmax(logits_BV)
    logs_BK, tokens_BK = jax.lax.top_k(logs_BV, count)
    return jnp.take_along_axis(logs_BV, tokens_B[:, None], 1)[:, 0], logs_BK, tokens_BK
