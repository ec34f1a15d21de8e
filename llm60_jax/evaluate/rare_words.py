"""Rare-word cloze: does a model prefer a rare word, in the sentence that held it, to another word as rare?

The sentences are held-out text. The other word ends alike, so that grammar gives no hint, and is about as frequent in
the training text, so that frequency gives none. A pair is judged like any minimal pair (minimal_pairs.py).
"""

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator

from llm60_jax.evaluate import prose
from llm60_jax.evaluate.grammar.suite import Pair
from llm60_jax.evaluate.words import Words

NAME = "rare_words"
_LEAST, _MOST = 6, 60  # words in a sentence
_ENDINGS = ("ing", "ed", "ly", "ness", "tion", "er", "s", "")
_LOWER = re.compile(r"(?<![\w'\u2019-])[a-z]{4,}(?![\w'\u2019-])")  # no names, and no parts of longer words


def pairs(texts: Iterable[str], words: Words, most: int) -> list[Pair]:
    """Up to so many pairs, one for a rare word, in the order of the texts; the same input gives the same pairs."""
    alike: dict[tuple[str, int], list[str]] = defaultdict(list)
    for word in sorted(words.rare):
        if words.counts[word] > 1 and _LOWER.fullmatch(word):  # met once, a word may be a slip of the pen
            alike[_kind(word, words.counts[word])].append(word)
    found, used = [], set[str]()
    for text in texts:
        for sentence in prose.sentences(text):
            if not _LEAST <= len(sentence.split()) <= _MOST:
                continue
            for pair in _pairs(sentence, words, alike, used):
                found.append(pair)
                if len(found) == most:
                    return found
    return found


def _pairs(sentence: str, words: Words, alike: dict[tuple[str, int], list[str]], used: set[str]) -> Iterator[Pair]:
    """A pair for each rare word of a sentence that was not met before."""
    for match in _LOWER.finditer(sentence):
        word = match[0]
        if word in used or word not in words.rare:
            continue
        others = [other for other in alike[_kind(word, words.counts[word])] if other != word]
        # What begins with another kind of sound would need another article.
        others = [other for other in others if (other[0] in "aeiou") == (word[0] in "aeiou")]
        if others:
            used.add(word)
            number = int.from_bytes(hashlib.sha256(f"{word} {sentence}".encode()).digest()[:8], "big")
            other = others[number % len(others)]
            yield Pair(NAME, sentence, sentence[: match.start()] + other + sentence[match.end() :])


def _kind(word: str, count: int) -> tuple[str, int]:
    """The ending, and how frequent: 2, 3, 4-5, 6-11, 12-23, ... occurrences."""
    ending = next(ending for ending in _ENDINGS if word.endswith(ending))
    return ending, count if count < 4 else 10 + (count // 3).bit_length()
