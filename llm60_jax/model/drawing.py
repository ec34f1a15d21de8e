"""Draw tokens from logits: temperature, top-k, top-p and repetition penalty, of each row its own.

Shape suffixes: B rows, V vocabulary, K likeliest tokens that are sorted.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from llm60_jax.config import Sampling
from llm60_jax.model.matmul import Array

_RANKS = 64  # the least K; it then doubles, so few programs are compiled


class Choice(NamedTuple):
    """How to draw the tokens of a row. The defaults draw from the model's own distribution."""

    eos: int  # the token that ends a row
    temperature: float = 1.0  # 0 takes the likeliest token
    top_k: int = 0  # number of likeliest tokens to draw from; 0 is all
    top_p: float = 1.0  # likeliest tokens with this share of probability (Holtzman et al. 2020)
    repetition_penalty: float = 1.0  # lowers logits of tokens in the row (Keskar et al. 2019)

    @staticmethod
    def of(sampling: Sampling, eos: int) -> "Choice":
        """Return the choice for the configured sampling."""
        return Choice(eos, sampling.temperature, sampling.top_k, sampling.top_p, sampling.repetition_penalty)


class Choices(NamedTuple):
    """The choices of B rows."""

    eos_B: Array  # int32
    temperature_B: Array  # float32
    top_k_B: Array  # int32, from 1 to K; not read where K is 0
    top_p_B: Array  # float32
    penalty_B: Array  # float32
    # int32 [K]; its length is a part of the compiled program. Tokens are drawn among the K
    # likeliest; 0: among all.
    ranks_K: Array

    @staticmethod
    def of(choices: Sequence[Choice], vocab_size: int) -> "Choices":
        """Return the choices of several rows. The fewer they take `top_k` from, the faster a draw."""
        limits = np.array([min(choice.top_k or vocab_size, vocab_size) for choice in choices], np.int32)
        most = int(limits.max())
        candidates = 0 if limits.min() == vocab_size else min(vocab_size, max(_RANKS, 1 << (most - 1).bit_length()))
        return Choices(
            jnp.asarray([choice.eos for choice in choices], jnp.int32),
            jnp.asarray([choice.temperature for choice in choices], jnp.float32),
            jnp.asarray(limits),
            jnp.asarray([choice.top_p for choice in choices], jnp.float32),
            jnp.asarray([choice.repetition_penalty for choice in choices], jnp.float32),
            jnp.arange(candidates),
        )


def choose(choices: Choices, logits_BV: Array, seen_BV: Array, keys_B: Array) -> Array:
    """Draw a token for each row, int32 [B]: repetition penalty first, then temperature, top-k and
    top-p.

    Args:
      seen_BV: bool; the tokens to penalise.
      keys_B: PRNG key of each row.
    """
    penalty_B1, temperature_B1 = choices.penalty_B[:, None], choices.temperature_B[:, None]
    lowered_BV = jnp.where(logits_BV > 0, logits_BV / penalty_B1, logits_BV * penalty_B1)
    logits_BV = jnp.where(seen_BV, lowered_BV, logits_BV)
    is_greedy_B1 = temperature_B1 == 0
    draw = _among_likeliest if len(choices.ranks_K) else _among_all
    drawn_B = jax.lax.cond(
        is_greedy_B1.all(),
        lambda logits_BV: jnp.zeros(len(logits_BV), jnp.int32),
        lambda logits_BV: draw(choices, logits_BV / jnp.where(is_greedy_B1, 1, temperature_B1), keys_B),
        logits_BV,
    )
    return jnp.where(is_greedy_B1[:, 0], logits_BV.argmax(-1).astype(jnp.int32), drawn_B)


def _among_likeliest(choices: Choices, logits_BV: Array, keys_B: Array) -> Array:
    """Draw by top-k, then top-p, among the K likeliest tokens."""
    logits_BK, tokens_BK = jax.lax.top_k(logits_BV, len(choices.ranks_K))  # likeliest first
    logits_BK = jnp.where(choices.ranks_K < choices.top_k_B[:, None], logits_BK, -jnp.inf)
    probabilities_BK = jax.nn.softmax(logits_BK)
    before_BK = jnp.cumsum(probabilities_BK, -1) - probabilities_BK
    # A draw is a function of key and rank: a larger K changes none.
    kept_BK = jnp.where(before_BK < choices.top_p_B[:, None], logits_BK, -jnp.inf)
    drawn_B = jax.vmap(jax.random.categorical)(keys_B, kept_BK)
    return jnp.take_along_axis(tokens_BK, drawn_B[:, None], 1)[:, 0].astype(jnp.int32)


def _among_all(choices: Choices, logits_BV: Array, keys_B: Array) -> Array:
    """Draw by top-p among all tokens, without sorting them."""

    def limited(logits_BV: Array) -> Array:
        probabilities_BV = jax.nn.softmax(logits_BV)
        is_kept_BV = probabilities_BV >= _least_kept(probabilities_BV, choices.top_p_B)[:, None]
        return jnp.where(is_kept_BV | (choices.top_p_B[:, None] == 1), logits_BV, -jnp.inf)

    logits_BV = jax.lax.cond((choices.top_p_B < 1).any(), limited, lambda x: x, logits_BV)
    return jax.vmap(jax.random.categorical)(keys_B, logits_BV).astype(jnp.int32)


def _least_kept(probabilities_BV: Array, share_B: Array) -> Array:
    """Return the largest number, float32 [B], such that the tokens of at least this probability
    have this share of all.

    Bisects the bits of the number: those of floats above 0 are ordered as the floats are.
    """
    bits_BV = jax.lax.bitcast_convert_type(probabilities_BV, jnp.int32)
    wanted_B = share_B * probabilities_BV.sum(-1)

    def halve(_: int, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
        low_B, high_B = bounds
        middle_B = (low_B + high_B + 1) // 2
        is_enough_B = jnp.where(bits_BV >= middle_B[:, None], probabilities_BV, 0).sum(-1) >= wanted_B
        return jnp.where(is_enough_B, middle_B, low_B), jnp.where(is_enough_B, high_B, middle_B - 1)

    low_B = jnp.zeros(len(share_B), jnp.int32)
    one = np.float32(1).view(np.int32)
    found_B, _ = jax.lax.fori_loop(0, int(one).bit_length(), halve, (low_B, low_B + one))
    return jax.lax.bitcast_convert_type(found_B, jnp.float32)
