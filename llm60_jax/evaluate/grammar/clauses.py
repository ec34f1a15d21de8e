"""Clauses: relative clauses, complements, questions, negation, coordination."""

from llm60_jax.evaluate.grammar import lexicon
from llm60_jax.evaluate.grammar.template import Pick, Test

# Relative clauses and complements


def relative_pronoun(pick: Pick) -> Test:
    person, thing = pick(lexicon.PEOPLE), pick(lexicon.THINGS)
    verb = pick(("fell", "vanished", "came back", "stood there"))
    end = pick(("was old", "looked strange", "pleased everybody", "was soon forgotten"))
    return f"the {person.singular} _ {verb} {end}.", "who", f"the {thing.singular} _ {verb} {end}.", "which"


def relative_pronoun_of_object(pick: Pick) -> Test:
    person, other = pick.two(lexicon.PEOPLE)
    thing, end = pick(lexicon.THINGS), pick(("was old", "looked strange", "pleased everybody", "was soon forgotten"))
    return (
        f"the {person.singular} _ the {other.singular} saw {end}.", "who",
        f"the {thing.singular} _ the {other.singular} saw {end}.", "which",
    )  # fmt: skip


def complementizer(pick: Pick) -> Test:
    noun, other = pick.two(lexicon.PEOPLE)
    says, asks, mood = pick(lexicon.SAYS), pick(lexicon.ASKS), pick(lexicon.MOODS)
    return (
        f"the {noun.singular} {says} _ the {other.singular} is {mood}.", "that",
        f"the {noun.singular} {asks} _ the {other.singular} is {mood}.", "whether",
    )  # fmt: skip


def nested(pick: Pick) -> Test:
    """Test that each of two nested clauses has the verb of its own subject."""
    noun, other = pick.two(lexicon.PEOPLE)
    inner, (singular, plural), mood = pick(lexicon.SOCIAL), pick((("is", "are"), ("was", "were"))), pick(lexicon.MOODS)
    return (
        f"the {noun.singular} who {inner.past} the {other.plural} _ {mood}.", singular,
        f"the {noun.plural} who {inner.past} the {other.singular} _ {mood}.", plural,
    )  # fmt: skip


# Questions


def question_of_object(pick: Pick) -> Test:
    noun, (verb, _) = pick(lexicon.PEOPLE), pick(lexicon.IRREGULAR)
    asked, end = pick(("what", "which one")), pick(("", " yesterday", " last night"))
    statement = pick(("I know", "nobody remembers", "everybody saw", "we heard"))
    return (
        f"{asked} did the {noun.singular} _{end}?", verb.base,
        f"{statement} {asked} the {noun.singular} _{end}.", verb.past,
    )  # fmt: skip


def question_of_verb(pick: Pick) -> Test:
    noun, verb = pick(lexicon.PEOPLE), pick(lexicon.INTRANSITIVE)
    when = pick(("every day", "at night", "in the garden", "after dinner"))
    return (
        f"does the {noun.singular} _ {when}?", verb.base,
        f"it is true that the {noun.singular} _ {when}.", verb.third,
    )  # fmt: skip


def question_auxiliary(pick: Pick) -> Test:
    noun, (verb, things) = pick(lexicon.PEOPLE), pick(lexicon.IRREGULAR)
    thing = pick(things)
    return (
        f"did the {noun.singular} _ the {thing}?", verb.base,
        f"has the {noun.singular} _ the {thing}?", verb.participle,
    )  # fmt: skip


def question_of_number(pick: Pick) -> Test:
    (singular, plural), noun, mood = pick((("is", "are"), ("was", "were"))), pick(lexicon.PEOPLE), pick(lexicon.MOODS)
    return f"_ the {noun.singular} {mood}?", singular, f"_ the {noun.plural} {mood}?", plural


# Negation and polarity


def either_too(pick: Pick) -> Test:
    noun, other = pick.two(lexicon.PEOPLE)
    verb = pick(lexicon.INTRANSITIVE)
    return (
        f"the {noun.singular} did not {verb.base}, and the {other.singular} did not {verb.base} _.", "either",
        f"the {noun.singular} {verb.past}, and the {other.singular} {verb.past} _.", "too",
    )  # fmt: skip


def neither_so(pick: Pick) -> Test:
    noun, other = pick.two(lexicon.PEOPLE)
    verb = pick(lexicon.INTRANSITIVE)
    return (
        f"the {noun.singular} did not {verb.base}, and _ did the {other.singular}.", "neither",
        f"the {noun.singular} {verb.past}, and _ did the {other.singular}.", "so",
    )  # fmt: skip


def yet_already(pick: Pick) -> Test:
    noun, verb = pick(lexicon.PEOPLE), pick(lexicon.INTRANSITIVE)
    has, has_not = pick((("has", "has not"), ("had", "had not")))
    return (
        f"the {noun.singular} {has_not} {verb.participle} _.", "yet",
        f"the {noun.singular} {has} _ {verb.participle}.", "already",
    )  # fmt: skip


# Coordination


def pairing(pick: Pick) -> Test:
    noun, other = pick.two(lexicon.PEOPLE)
    verb = pick(lexicon.INTRANSITIVE)
    end = pick(("", " again", " for an hour", " yesterday")) if verb.base != "arrive" else " yesterday"
    return (
        f"both the {noun.singular} _ the {other.singular} {verb.past}{end}.", "and",
        f"either the {noun.singular} _ the {other.singular} {verb.past}{end}.", "or",
    )  # fmt: skip


def pairing_of_neither(pick: Pick) -> Test:
    noun, other = pick.two(lexicon.PEOPLE)
    verb = pick(lexicon.SOCIAL)
    return (
        f"neither the {noun.singular} _ the {other.singular} {verb.past} us.", "nor",
        f"both the {noun.singular} _ the {other.singular} {verb.past} us.", "and",
    )  # fmt: skip
