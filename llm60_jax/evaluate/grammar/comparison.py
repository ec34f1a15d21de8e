"""Comparison: comparatives, superlatives, and the words that follow them."""

from llm60_jax.evaluate.grammar import lexicon
from llm60_jax.evaluate.grammar.template import Pick, Test


def comparative(pick: Pick) -> Test:
    noun, other = pick.two(lexicon.PEOPLE)
    plain, more, _ = pick(lexicon.SHORT)
    be = pick(("is", "was"))
    return (
        f"the {noun.singular} {be} _ than the {other.singular}.", more,
        f"the {noun.singular} {be} as _ as the {other.singular}.", plain,
    )  # fmt: skip


def superlative(pick: Pick) -> Test:
    noun, other = pick.two(lexicon.PEOPLE)
    _, more, most = pick(lexicon.SHORT)
    return (
        f"the {noun.singular} is much _ than the {other.singular}.", more,
        f"the {noun.singular} is the _ of all the {other.plural}.", most,
    )  # fmt: skip


def comparative_long(pick: Pick) -> Test:
    noun, other = pick.two(lexicon.PEOPLE)
    quality = pick(lexicon.LONG)
    return (
        f"the {noun.singular} is _ {quality} than the {other.singular}.", "more",
        f"the {noun.singular} is the _ {quality} of all the {other.plural}.", "most",
    )  # fmt: skip


def than_as(pick: Pick) -> Test:
    noun, other = pick.two(lexicon.PEOPLE)
    plain, more, _ = pick(lexicon.SHORT)
    return (
        f"the {noun.singular} is {more} _ the {other.singular}.", "than",
        f"the {noun.singular} is as {plain} _ the {other.singular}.", "as",
    )  # fmt: skip
