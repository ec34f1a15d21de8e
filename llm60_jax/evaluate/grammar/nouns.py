"""Nouns and the words that go with them: determiners, articles, quantifiers, pronouns."""

from llm60_jax.evaluate.grammar import lexicon
from llm60_jax.evaluate.grammar.template import Pick, Test

# Number


def determiner(pick: Pick) -> Test:
    person, thing, verb = pick(lexicon.PEOPLE), pick(lexicon.THINGS + lexicon.ANIMALS), pick(("bought", "found", "saw"))
    singular, plural = pick((("this", "these"), ("that", "those")))
    return (
        f"the {person.singular} {verb} _ {thing.singular}.", singular,
        f"the {person.singular} {verb} _ {thing.plural}.", plural,
    )  # fmt: skip


def determiner_adjective(pick: Pick) -> Test:
    thing, quality = pick(lexicon.THINGS), pick(lexicon.VOWEL_QUALITIES + lexicon.CONSONANT_QUALITIES)
    singular, plural = pick((("this", "these"), ("that", "those")))
    verb = pick(("sold", "lost", "kept", "wanted"))
    return f"they {verb} _ {quality} {thing.singular}.", singular, f"they {verb} _ {quality} {thing.plural}.", plural


def number_of_noun(pick: Pick) -> Test:
    person, thing = pick(lexicon.PEOPLE), pick(lexicon.THINGS + lexicon.ANIMALS)
    each, several = pick(("one", "this", "every", "each")), pick(("two", "these", "several", "many", "five"))
    verb = pick(("bought", "saw", "painted", "wanted"))
    return (
        f"the {person.singular} {verb} {each} _.", thing.singular,
        f"the {person.singular} {verb} {several} _.", thing.plural,
    )  # fmt: skip


def irregular_noun(pick: Pick) -> Test:
    singular, plural = pick(lexicon.IRREGULAR_NOUNS).split("/")
    person, verb = pick(lexicon.PEOPLE), pick(("saw", "counted", "drew", "described", "noticed"))
    return (
        f"the {person.singular} {verb} {pick(('one', 'a single', 'only one'))} _.", singular,
        f"the {person.singular} {verb} {pick(('two', 'several', 'three', 'many'))} _.", plural,
    )  # fmt: skip


# Articles and quantifiers


def article(pick: Pick) -> Test:
    person, verb = pick(lexicon.PEOPLE), pick(("saw", "bought", "wanted", "remembered"))
    vowel, consonant = pick(lexicon.VOWEL_THINGS), pick(lexicon.CONSONANT_THINGS)
    return f"the {person.singular} {verb} _ {vowel}.", "an", f"the {person.singular} {verb} _ {consonant}.", "a"


def article_adjective(pick: Pick) -> Test:
    person, verb, thing = pick(lexicon.PEOPLE), pick(("saw", "bought", "wanted", "sold")), pick(lexicon.THINGS)
    vowel, consonant = pick(lexicon.VOWEL_QUALITIES), pick(lexicon.CONSONANT_QUALITIES)
    return (
        f"the {person.singular} {verb} _ {vowel} {thing.singular}.", "an",
        f"the {person.singular} {verb} _ {consonant} {thing.singular}.", "a",
    )  # fmt: skip


def much_many(pick: Pick) -> Test:
    person, mass, thing = pick(lexicon.PEOPLE), pick(lexicon.MASS), pick(lexicon.THINGS)
    verb = pick(("buy", "need", "see", "find"))
    negated, asked = (f"the {person.singular} did not {verb} _", "."), ("how _", f" did the {person.singular} {verb}?")
    before, end = pick((negated, asked))
    return f"{before} {mass}{end}", "much", f"{before} {thing.plural}{end}", "many"


def little_few(pick: Pick) -> Test:
    person, mass, thing = pick(lexicon.PEOPLE), pick(lexicon.MASS), pick(lexicon.THINGS)
    verb = pick(("bought", "found", "needed"))
    little, few = pick((("too little", "too few"), ("very little", "very few")))
    return f"the {person.singular} {verb} _ {mass}.", little, f"the {person.singular} {verb} _ {thing.plural}.", few


# Pronouns

# subject, object
_CASES = (("he", "him"), ("she", "her"), ("they", "them"), ("we", "us"), ("I", "me"))
# what people do to themselves
_REFLEXIVE = [verb for verb in lexicon.SOCIAL if verb.base in ("admire", "help", "praise", "trust", "blame")]


def pronoun_case(pick: Pick) -> Test:
    noun, verb, (subject, object_) = pick(lexicon.PEOPLE), pick(lexicon.SOCIAL), pick(_CASES)
    when = pick(("yesterday", "last week", "at the market", "after dinner", "in the village"))
    return f"_ {verb.past} the {noun.singular} {when}.", subject, f"the {noun.singular} {verb.past} _ {when}.", object_


def pronoun_case_in_clause(pick: Pick) -> Test:
    noun, verb, (subject, object_) = pick(lexicon.PEOPLE), pick(lexicon.SOCIAL), pick(_CASES)
    return (
        f"everybody knew that _ {verb.past} the {noun.singular}.", subject,
        f"everybody knew that the {noun.singular} {verb.past} _.", object_,
    )  # fmt: skip


def reflexive(pick: Pick) -> Test:
    he, she = pick(lexicon.MALE), pick(lexicon.FEMALE)
    verb = pick(_REFLEXIVE)
    end = pick(("", " again", " in the end", " after all", " every time"))
    return f"the {he} {verb.past} _{end}.", "himself", f"the {she} {verb.past} _{end}.", "herself"


def binding(pick: Pick) -> Test:
    """Test that a reflexive refers to the subject of its own clause, not to the subject outside."""
    he, she, says = pick(lexicon.MALE), pick(lexicon.FEMALE), pick(("said", "thought", "knew", "believed", "heard"))
    verb = pick(_REFLEXIVE)
    return (
        f"the {she} {says} that the {he} {verb.past} _.", "himself",
        f"the {he} {says} that the {she} {verb.past} _.", "herself",
    )  # fmt: skip
