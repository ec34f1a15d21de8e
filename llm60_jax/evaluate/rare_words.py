"""Rare-word cloze: does a model prefer a rare word, in its own sentence, to another word that is
equally rare?

The sentences are held-out text. The other word has the same ending, so grammar gives no hint. It is
about as frequent in the training text, so frequency gives none. A pair is judged like any minimal
pair (grammar/scoring.py).
"""

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator

from llm60_jax.evaluate import prose
from llm60_jax.evaluate.grammar.suite import Pair
from llm60_jax.evaluate.words import Words

NAME = "rare_words"
_MIN_WORDS, _MAX_WORDS = 6, 60  # words of a sentence
_ENDINGS = ("ing", "ed", "ly", "ness", "tion", "er", "s", "")
# no names, and no parts of longer words
_LOWER = re.compile(r"(?<![\w'\u2019-])[a-z]{4,}(?![\w'\u2019-])")


def pairs(texts: Iterable[str], words: Words, most: int) -> list[Pair]:
    """Return at most `most` pairs, one a rare word, in the order of the texts. Deterministic."""
    alike: dict[tuple[str, int], list[str]] = defaultdict(list)
    for word in sorted(words.rare):
        # a word that occurs once may be a typing error
        if words.counts[word] > 1 and _LOWER.fullmatch(word):
            alike[_kind(word, words.counts[word])].append(word)
    chosen: list[Pair] = []
    used = set[str]()
    for text in texts:
        for sentence in prose.sentences(text):
            if not _MIN_WORDS <= len(sentence.split()) <= _MAX_WORDS:
                continue
            for pair in _pairs(sentence, words, alike, used):
                chosen.append(pair)
                if len(chosen) == most:
                    return chosen
    return chosen


def _pairs(sentence: str, words: Words, alike: dict[tuple[str, int], list[str]], used: set[str]) -> Iterator[Pair]:
    """Yield a pair for each rare word of a sentence that is not yet in `used`; add the word."""
    for match in _LOWER.finditer(sentence):
        word = match[0]
        if word in used or word not in words.rare:
            continue
        others = [other for other in alike[_kind(word, words.counts[word])] if other != word]
        # a word with another kind of first sound would need another article
        others = [other for other in others if (other[0] in "aeiou") == (word[0] in "aeiou")]
        if others:
            used.add(word)
            number = int.from_bytes(hashlib.sha256(f"{word} {sentence}".encode()).digest()[:8], "big")
            other = others[number % len(others)]
            yield Pair(NAME, sentence, sentence[: match.start()] + other + sentence[match.end() :])


def _kind(word: str, count: int) -> tuple[str, int]:
    """Return the ending and the class of frequency: 2, 3, 4-5, 6-11, 12-23, ... occurrences."""
    ending = next(ending for ending in _ENDINGS if word.endswith(ending))
    return ending, count if count < 4 else 10 + (count // 3).bit_length()
