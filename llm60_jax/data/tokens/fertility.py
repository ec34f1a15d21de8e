"""How a vocabulary fits a text: tokens a word, characters spelt by bytes, unused pieces."""

import dataclasses
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from llm60_jax.data.corpus.corpus import SPLITS, Corpus
from llm60_jax.data.tokens.shards import TokenShard
from llm60_jax.data.tokens.tokenizer import Tokenizer
from llm60_jax.machine.progress import Track

_WORD = re.compile(r"[^\W\d_]+(?:['\u2019-][^\W\d_]+)*")
_EXAMPLES = 20  # unused pieces that are named
_CACHED_WORDS = 200_000  # the cache of words is emptied beyond this


@dataclasses.dataclass(frozen=True)
class Fit:
    """Counts over a set of texts."""

    words: int
    tokens: int  # without BOS and EOS
    bytes: int  # of the text in UTF-8
    byte_tokens: int  # tokens that spell a byte of a rare character
    whole_words: int  # words that are one token
    characters: int
    byte_characters: int  # characters that no piece holds, so that bytes spell them

    def to_tree(self) -> dict[str, Any]:
        """Return JSON values: the counts, and the usual ratios."""
        return {
            **dataclasses.asdict(self),
            "fertility": self.tokens / max(1, self.words),  # tokens a word, punctuation included
            "bytes_per_token": self.bytes / max(1, self.tokens),
            "whole_word_share": self.whole_words / max(1, self.words),
            "coverage": 1 - self.byte_characters / max(1, self.characters),
        }


def fit(texts: Iterable[str], tokenizer: Tokenizer) -> Fit:
    """Measure texts one by one, in bounded memory."""
    is_byte = tokenizer.byte_tokens
    covered: dict[str, bool] = {}  # character -> whether pieces spell it
    whole: dict[str, bool] = {}  # word -> whether it is one token
    counts: Counter[str] = Counter()
    for text in texts:
        ids = np.asarray(tokenizer.encode(text), np.int64)
        characters = Counter(text)
        for character in characters.keys() - covered.keys():
            covered[character] = not is_byte[tokenizer.encode(character)].any()
        words = Counter(_WORD.findall(text))
        if len(whole) > _CACHED_WORDS:
            whole.clear()
        for word in words.keys() - whole.keys():
            whole[word] = len(tokenizer.encode(word)) == 1
        counts.update(
            words=words.total(),
            tokens=len(ids),
            bytes=len(text.encode("utf-8")),
            byte_tokens=int(is_byte[ids].sum()),
            whole_words=sum(count for word, count in words.items() if whole[word]),
            characters=len(text),
            byte_characters=sum(count for character, count in characters.items() if not covered[character]),
        )
    return Fit(**{field.name: counts[field.name] for field in dataclasses.fields(Fit)})


def fits(corpora: Mapping[str, Corpus], tokenizer: Tokenizer, track: Track) -> dict[str, dict[str, Fit]]:
    """Return phase -> split -> how the vocabulary fits its text."""
    return {
        name: {
            split: fit(
                track(
                    (record["text"] for record in corpus.read(split)),
                    f"{name}: measuring the vocabulary on {split}",
                    len(corpus.ids(split)),
                ),
                tokenizer,
            )
            for split in SPLITS
        }
        for name, corpus in corpora.items()
    }


def unused(shards: Iterable[TokenShard], tokenizer: Tokenizer) -> dict[str, Any]:
    """Return the count, share and examples of pieces that no shard holds, as JSON values."""
    counts = np.zeros(tokenizer.vocab_size, np.int64)
    for shard in shards:
        counts += np.bincount(shard.tokens, minlength=tokenizer.vocab_size)
    pieces = tokenizer.pieces()
    is_piece = np.array([bool(piece) for piece in pieces])
    never = np.flatnonzero(is_piece & (counts == 0))
    return {
        "pieces": int(is_piece.sum()),
        "unused": len(never),
        "share": len(never) / max(1, int(is_piece.sum())),
        "examples": [pieces[token] for token in never[:_EXAMPLES]],
    }
