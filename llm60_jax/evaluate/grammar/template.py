"""Templates of minimal pairs: their input `Pick`, their result `Test`, and shared choices."""

import hashlib
from collections.abc import Callable, Sequence
from typing import TypeVar

from llm60_jax.evaluate.grammar import lexicon
from llm60_jax.evaluate.grammar.lexicon import Noun, Verb

T = TypeVar("T")


class Pick:
    """Pseudorandom choices from a stream of digests: the same on every machine."""

    def __init__(self, seed: str):
        self._seed, self._count = seed, 0

    def __call__(self, items: Sequence[T]) -> T:
        """Choose one item."""
        self._count += 1
        digest = hashlib.sha256(f"{self._seed}/{self._count}".encode()).digest()
        return items[int.from_bytes(digest[:8], "big") % len(items)]

    def two(self, items: Sequence[T]) -> tuple[T, T]:
        """Choose two different items."""
        first = self(items)
        return first, self([item for item in items if item != first])


# Two sentences with a gap `_`, each followed by its right form. The other's form is the wrong one.
Test = tuple[str, str, str, str]
Template = Callable[[Pick], Test]


def person_or_animal(pick: Pick) -> Noun:
    """Choose a noun for a living being."""
    return pick(lexicon.PEOPLE + lexicon.ANIMALS)


def be(pick: Pick) -> tuple[str, str]:
    """Choose a form of "to be", singular and plural."""
    return pick((("is", "are"), ("was", "were"), ("has been", "have been")))


def verbs_but(bases: str) -> list[Verb]:
    """Return the intransitive verbs except the named ones."""
    return [verb for verb in lexicon.INTRANSITIVE if verb.base not in bases.split()]
