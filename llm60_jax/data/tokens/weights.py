"""Loss weights of tokens (playbook, section 4.3): rare tokens up, common words down."""

import re
from collections.abc import Sequence

import numpy as np

from llm60_jax.config import Reweight
from llm60_jax.data.tokens.shards import TokenShard

_WORD_MARK = "\u2581"  # sentencepiece writes it for the blank before a word

_WORDS = """
a about above after again against all along also am among an and any are around as at be because been before being
below beside between beyond both but by can could did do does doing done down during each either every few for from
had has have having he her here hers herself him himself his how however i if in into is it its itself just least
less like many may me might mine more most much must my myself neither never no nor not now of off on once one only
onto or other others ought our ours ourselves out over own per quite rather same shall she should since so some such
than that the their theirs them themselves then there these they this those though through thus till to too toward
towards under until unto up upon us very was we were what when where whether which while who whom whose why will
with within without would yet you your yours yourself yourselves
"""
_FUNCTION_WORDS = frozenset(_WORDS.split())


def target_counts(shard: TokenShard, vocab_size: int) -> np.ndarray:
    """Count how often each token is a target of the loss in one epoch, int64 [V].

    BOS and questions never are.
    """
    is_target = np.ones(shard.token_count, bool)
    is_target[shard.offsets[:-1]] = False
    for document in np.flatnonzero(shard.prompts):
        start = shard.offsets[document]
        is_target[start : start + 1 + shard.prompts[document]] = False
    return np.bincount(shard.tokens[is_target], minlength=vocab_size)


def is_common(piece: str) -> bool:
    """Return whether a sentencepiece piece is punctuation or a whole function word."""
    word = piece.removeprefix(_WORD_MARK)
    if not re.search(r"\w", word):
        return True
    return piece != word and word.lower() in _FUNCTION_WORDS


def token_weights(counts: np.ndarray, pieces: Sequence[str], settings: Reweight) -> np.ndarray:
    """Return the weight of each token as a target, float32 [V].

    A weight is counts ** -rarity, times `common` for punctuation and function words, times a common
    factor, clipped to the bounds. The factor makes the mean weight over the text 1. A token that
    never occurs counts as occurring once.

    Args:
      counts: how often each token is a target in the phase's training text, [V].
      pieces: the text of each token; "" for tokens without text (control tokens).
    """
    raw = np.maximum(counts, 1).astype(np.float64) ** -settings.rarity
    raw *= [settings.common if piece and is_common(piece) else 1.0 for piece in pieces]
    shares = counts / max(counts.sum(), 1)
    low, high = settings.bounds

    def mean(factor: float) -> float:
        return float(shares @ np.clip(factor * raw, low, high))

    # Bisect for the factor: the mean rises with it, from `low` (below 1) to `high` (above 1).
    below, above = low / raw.max(), high / raw.min()
    for _ in range(200):
        middle = (below * above) ** 0.5
        below, above = (middle, above) if mean(middle) < 1 else (below, middle)
    return np.clip(above * raw, low, high).astype(np.float32)
