"""Agreement of a verb with its subject, beside other nouns and across clauses."""

from llm60_jax.evaluate.grammar import lexicon
from llm60_jax.evaluate.grammar.lexicon import Noun
from llm60_jax.evaluate.grammar.template import Pick, Test, be, person_or_animal

# Subject and verb side by side


def subject_verb(pick: Pick) -> Test:
    noun, verb = pick(lexicon.PEOPLE), pick(lexicon.INTRANSITIVE)
    when = pick(("every day", "all morning", "here every evening", "when it rains", "in the garden"))
    return f"the {noun.singular} _ {when}.", verb.third, f"the {noun.plural} _ {when}.", verb.base


def subject_be(pick: Pick) -> Test:
    noun, (singular, plural), mood = person_or_animal(pick), be(pick), pick(lexicon.MOODS)
    return f"the {noun.singular} _ {mood}.", singular, f"the {noun.plural} _ {mood}.", plural


# A noun of the other number in between


def attractor(pick: Pick) -> Test:
    noun, (singular, plural), thing = pick(lexicon.PEOPLE), be(pick), pick(lexicon.PLACES)
    where, mood = pick(("near", "behind", "beside", "in front of")), pick(lexicon.MOODS)
    return (
        f"the {noun.singular} {where} the {thing.plural} _ {mood}.", singular,
        f"the {noun.plural} {where} the {thing.singular} _ {mood}.", plural,
    )  # fmt: skip


def attractor_of(pick: Pick) -> Test:
    whole = pick((Noun("owner", "owners"), Noun("friend", "friends"), Noun("keeper", "keepers")))
    animal, (singular, plural), mood = pick(lexicon.ANIMALS), be(pick), pick(lexicon.MOODS)
    return (
        f"the {whole.singular} of the {animal.plural} _ {mood}.", singular,
        f"the {whole.plural} of the {animal.singular} _ {mood}.", plural,
    )  # fmt: skip


# Other clauses


def across_relative(pick: Pick) -> Test:
    noun, other = pick.two(lexicon.PEOPLE)
    verb, (singular, plural), mood = pick(lexicon.SOCIAL), be(pick), pick(lexicon.MOODS)
    return (
        f"the {noun.singular} that the {other.plural} {verb.past} _ {mood}.", singular,
        f"the {noun.plural} that the {other.singular} {verb.past} _ {mood}.", plural,
    )  # fmt: skip


def across_clause(pick: Pick) -> Test:
    noun, other = pick.two(lexicon.PEOPLE)
    (singular, plural), mood, says = be(pick), pick(lexicon.MOODS), pick(("said", "thought", "knew", "believed"))
    return (
        f"the {other.plural} {says} that the {noun.singular} _ {mood}.", singular,
        f"the {other.singular} {says} that the {noun.plural} _ {mood}.", plural,
    )  # fmt: skip


# Subjects of two nouns


def two_nouns(pick: Pick) -> Test:
    noun, other = pick.two(lexicon.PEOPLE)
    (singular, plural), mood = pick((("is", "are"), ("was", "were"))), pick(lexicon.MOODS)
    return (
        f"both the {noun.singular} and the {other.singular} _ {mood}.", plural,
        f"either the {noun.singular} or the {other.singular} _ {mood}.", singular,
    )  # fmt: skip
