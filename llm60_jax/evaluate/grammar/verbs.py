"""Forms of verbs: tense, aspect, irregular forms, and the arguments that a verb takes."""

from llm60_jax.evaluate.grammar import lexicon
from llm60_jax.evaluate.grammar.template import Pick, Test, person_or_animal, verbs_but

# Tense and aspect


def tense_be(pick: Pick) -> Test:
    noun, mood = person_or_animal(pick), pick(lexicon.MOODS)
    before = pick(("last week", "a year ago", "yesterday morning", "two days ago"))
    now = pick(("at this very moment", "right now", "these days", "at present"))
    return f"{before} the {noun.singular} _ {mood}.", "was", f"{now} the {noun.singular} _ {mood}.", "is"


def tense_auxiliary(pick: Pick) -> Test:
    noun, verb = pick(lexicon.PEOPLE), pick(lexicon.INTRANSITIVE)
    before = pick(("last week", "a year ago", "yesterday", "two days ago"))
    now = pick(("tomorrow", "next week", "two days from now", "next summer"))
    rest = "for an hour" if verb.base != "arrive" else "at noon"
    return (
        f"{before} the {noun.singular} _ {rest}.", verb.past,
        f"{now} the {noun.singular} _ {rest}.", f"will {verb.base}",
    )  # fmt: skip


def aspect(pick: Pick) -> Test:
    noun, verb = pick(lexicon.PEOPLE), pick(verbs_but("arrive walk work rest travel"))
    (has, be), end = pick((("has", "is"), ("had", "was"))), pick((" again", " all day", " in the garden", ""))
    return (
        f"the {noun.singular} {has} _{end}.", verb.participle,
        f"the {noun.singular} {be} _{end}.", verb.ing,
    )  # fmt: skip


def after_modal(pick: Pick) -> Test:
    # the verbs left out are nouns as well
    noun, verb = pick(lexicon.PEOPLE), pick(verbs_but("work rest sleep talk travel"))
    modal, end = pick(("can", "must", "should", "may", "will")), pick((" again", " in the garden", " today", ""))
    return f"the {noun.singular} {modal} _{end}.", verb.base, f"the {noun.singular} has _{end}.", verb.participle


# Irregular forms


def irregular_verb(pick: Pick) -> Test:
    person, (verb, things) = pick(lexicon.PEOPLE), pick(lexicon.IRREGULAR)
    thing, when = pick(things), pick(("yesterday", "last night", "a week ago"))
    return (
        f"{when} the {person.singular} _ the {thing}.", verb.past,
        f"the {person.singular} has _ the {thing}.", verb.participle,
    )  # fmt: skip


def irregular_passive(pick: Pick) -> Test:
    person, (verb, things) = pick(lexicon.PEOPLE), pick(lexicon.IRREGULAR)
    thing = pick(things)
    return (
        f"the {thing} was _ by the {person.singular}.", verb.participle,
        f"the {person.singular} _ the {thing}.", verb.past,
    )  # fmt: skip


# Argument structure


def transitivity(pick: Pick) -> Test:
    noun, thing = pick(lexicon.PEOPLE), pick(lexicon.THINGS)
    verb, other = pick(lexicon.TRANSITIVE), pick(verbs_but("cough wait talk walk work rest travel"))
    when = pick(("yesterday", "last night", "this morning", "on Monday"))
    return (
        f"{when} the {noun.singular} _ the {thing.singular}.",
        verb.past,
        f"{when} the {noun.singular} _.",
        other.past,
    )


def passive(pick: Pick) -> Test:
    """Test that only a verb with an object has a passive."""
    noun, thing = pick(lexicon.PEOPLE), pick(lexicon.THINGS)
    verb, other = pick(lexicon.TRANSITIVE), pick(verbs_but("cough wait talk walk work rest travel"))
    return (
        f"the {thing.singular} was _ by the {noun.singular}.", verb.participle,
        f"the {noun.singular} has _.", other.participle,
    )  # fmt: skip


def fixed_preposition(pick: Pick) -> Test:
    noun = pick(lexicon.PEOPLE)
    first, second = pick(lexicon.WITH_OF), pick(lexicon.WITH_ON_OR_TO)
    sentences = [
        f"{subject.replace('person', noun.singular)} {verb} _ {rest}." for subject, verb, _, rest in (first, second)
    ]
    return sentences[0], first[2], sentences[1], second[2]
