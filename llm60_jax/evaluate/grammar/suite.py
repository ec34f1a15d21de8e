"""Grammar from minimal pairs: sentences that differ in one form, of which one is English and the other is not.

Every test comes twice, in two contexts that ask for opposite forms: "The boy sings" not "sing", "The boys sing" not
"sings". So each form is as often the good one as the bad one, and a model that knows only how frequent words are is
right in half of the pairs. Made by templates from a lexicon of our own (lexicon.py); the same on every machine.

After BLiMP (Warstadt et al. 2020), whose scoring `minimal_pairs.py` follows; the sentences are ours.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeVar

from llm60_jax.evaluate.grammar import lexicon
from llm60_jax.evaluate.grammar.lexicon import Noun, Verb

T = TypeVar("T")
PAIRS = 100  # of each phenomenon


class Pair(NamedTuple):
    """Two sentences that differ in one word, or in one word's form."""

    phenomenon: str
    good: str
    bad: str


class _Pick:
    """Choices that are the same on every machine: a stream of digests."""

    def __init__(self, seed: str):
        self._seed, self._count = seed, 0

    def __call__(self, items: Sequence[T]) -> T:
        self._count += 1
        digest = hashlib.sha256(f"{self._seed}/{self._count}".encode()).digest()
        return items[int.from_bytes(digest[:8], "big") % len(items)]

    def two(self, items: Sequence[T]) -> tuple[T, T]:
        """Two different ones."""
        first = self(items)
        return first, self([item for item in items if item != first])


# A test: a sentence with a gap, the form it asks for; another, and the other form.
Test = tuple[str, str, str, str]
Maker = Callable[[_Pick], Test]


def suite() -> dict[str, list[Pair]]:
    """All pairs by phenomenon, `PAIRS` of each, no sentence pair twice."""
    return {name: list(_pairs(name, makers)) for name, makers in PHENOMENA.items()}


def _pairs(name: str, makers: Sequence[Maker]) -> Iterator[Pair]:
    pick, count = _Pick(name), 0
    met: set[Pair] = set()
    while count < PAIRS:
        first, form, second, other = makers[count // 2 % len(makers)](pick)
        pairs = (
            Pair(name, _filled(first, form), _filled(first, other)),
            Pair(name, _filled(second, other), _filled(second, form)),
        )
        if not met.intersection(pairs):
            met.update(pairs)
            count += 2
            yield from pairs


def _filled(sentence: str, form: str) -> str:
    text = sentence.replace("_", form, 1)
    return text[0].upper() + text[1:]


def _noun(pick: _Pick) -> Noun:
    return pick(lexicon.PEOPLE + lexicon.ANIMALS)


def _be(pick: _Pick) -> tuple[str, str]:
    return pick((("is", "are"), ("was", "were"), ("has been", "have been")))


# Agreement of subject and verb


def _agreement_verb(pick: _Pick) -> Test:
    noun, verb = pick(lexicon.PEOPLE), pick(lexicon.INTRANSITIVE)
    when = pick(("every day", "all morning", "here every evening", "when it rains", "in the garden"))
    return f"the {noun.one} _ {when}.", verb.third, f"the {noun.many} _ {when}.", verb.base


def _agreement_be(pick: _Pick) -> Test:
    noun, (one, many), mood = _noun(pick), _be(pick), pick(lexicon.MOODS)
    return f"the {noun.one} _ {mood}.", one, f"the {noun.many} _ {mood}.", many


def _attractor(pick: _Pick) -> Test:
    noun, (one, many), thing = pick(lexicon.PEOPLE), _be(pick), pick(lexicon.PLACES)
    where, mood = pick(("near", "behind", "beside", "in front of")), pick(lexicon.MOODS)
    return (
        f"the {noun.one} {where} the {thing.many} _ {mood}.", one,
        f"the {noun.many} {where} the {thing.one} _ {mood}.", many,
    )  # fmt: skip


def _attractor_of(pick: _Pick) -> Test:
    whole = pick((Noun("owner", "owners"), Noun("friend", "friends"), Noun("keeper", "keepers")))
    animal, (one, many), mood = pick(lexicon.ANIMALS), _be(pick), pick(lexicon.MOODS)
    return (
        f"the {whole.one} of the {animal.many} _ {mood}.", one,
        f"the {whole.many} of the {animal.one} _ {mood}.", many,
    )  # fmt: skip


def _across_relative(pick: _Pick) -> Test:
    noun, other = pick.two(lexicon.PEOPLE)
    verb, (one, many), mood = pick(lexicon.SOCIAL), _be(pick), pick(lexicon.MOODS)
    return (
        f"the {noun.one} that the {other.many} {verb.past} _ {mood}.", one,
        f"the {noun.many} that the {other.one} {verb.past} _ {mood}.", many,
    )  # fmt: skip


def _across_clause(pick: _Pick) -> Test:
    noun, other = pick.two(lexicon.PEOPLE)
    (one, many), mood, says = _be(pick), pick(lexicon.MOODS), pick(("said", "thought", "knew", "believed"))
    return (
        f"the {other.many} {says} that the {noun.one} _ {mood}.", one,
        f"the {other.one} {says} that the {noun.many} _ {mood}.", many,
    )  # fmt: skip


# Tense and aspect


def _tense_be(pick: _Pick) -> Test:
    noun, mood = _noun(pick), pick(lexicon.MOODS)
    before = pick(("last week", "a year ago", "yesterday morning", "two days ago"))
    now = pick(("at this very moment", "right now", "these days", "at present"))
    return f"{before} the {noun.one} _ {mood}.", "was", f"{now} the {noun.one} _ {mood}.", "is"


def _tense_auxiliary(pick: _Pick) -> Test:
    noun, verb = pick(lexicon.PEOPLE), pick(lexicon.INTRANSITIVE)
    before = pick(("last week", "a year ago", "yesterday", "two days ago"))
    now = pick(("tomorrow", "next week", "two days from now", "next summer"))
    rest = "for an hour" if verb.base != "arrive" else "at noon"
    return f"{before} the {noun.one} _ {rest}.", verb.past, f"{now} the {noun.one} _ {rest}.", f"will {verb.base}"


def _without(bases: str) -> list[Verb]:
    """Intransitive verbs but for some."""
    return [verb for verb in lexicon.INTRANSITIVE if verb.base not in bases.split()]


def _aspect(pick: _Pick) -> Test:
    noun, verb = pick(lexicon.PEOPLE), pick(_without("arrive walk work rest travel"))
    (has, be), end = pick((("has", "is"), ("had", "was"))), pick((" again", " all day", " in the garden", ""))
    return (
        f"the {noun.one} {has} _{end}.", verb.participle,
        f"the {noun.one} {be} _{end}.", verb.ing,
    )  # fmt: skip


def _modal(pick: _Pick) -> Test:
    noun, verb = pick(lexicon.PEOPLE), pick(_without("work rest sleep talk travel"))  # which are nouns as well
    modal, end = pick(("can", "must", "should", "may", "will")), pick((" again", " in the garden", " today", ""))
    return f"the {noun.one} {modal} _{end}.", verb.base, f"the {noun.one} has _{end}.", verb.participle


# Determiners and nouns


def _determiner(pick: _Pick) -> Test:
    person, thing, verb = pick(lexicon.PEOPLE), pick(lexicon.THINGS + lexicon.ANIMALS), pick(("bought", "found", "saw"))
    one, many = pick((("this", "these"), ("that", "those")))
    return f"the {person.one} {verb} _ {thing.one}.", one, f"the {person.one} {verb} _ {thing.many}.", many


def _determiner_adjective(pick: _Pick) -> Test:
    thing, quality = pick(lexicon.THINGS), pick(lexicon.VOWEL_QUALITIES + lexicon.CONSONANT_QUALITIES)
    one, many = pick((("this", "these"), ("that", "those")))
    verb = pick(("sold", "lost", "kept", "wanted"))
    return f"they {verb} _ {quality} {thing.one}.", one, f"they {verb} _ {quality} {thing.many}.", many


def _number_of_noun(pick: _Pick) -> Test:
    person, thing = pick(lexicon.PEOPLE), pick(lexicon.THINGS + lexicon.ANIMALS)
    one, many = pick(("one", "this", "every", "each")), pick(("two", "these", "several", "many", "five"))
    verb = pick(("bought", "saw", "painted", "wanted"))
    return (
        f"the {person.one} {verb} {one} _.", thing.one, f"the {person.one} {verb} {many} _.", thing.many,
    )  # fmt: skip


# Pronouns


_CASES = (("he", "him"), ("she", "her"), ("they", "them"), ("we", "us"), ("I", "me"))


def _case(pick: _Pick) -> Test:
    noun, verb, (subject, object_) = pick(lexicon.PEOPLE), pick(lexicon.SOCIAL), pick(_CASES)
    when = pick(("yesterday", "last week", "at the market", "after dinner", "in the village"))
    return f"_ {verb.past} the {noun.one} {when}.", subject, f"the {noun.one} {verb.past} _ {when}.", object_


def _case_in_clause(pick: _Pick) -> Test:
    noun, verb, (subject, object_) = pick(lexicon.PEOPLE), pick(lexicon.SOCIAL), pick(_CASES)
    return (
        f"everybody knew that _ {verb.past} the {noun.one}.", subject,
        f"everybody knew that the {noun.one} {verb.past} _.", object_,
    )  # fmt: skip


def _reflexive(pick: _Pick) -> Test:
    he, she = pick(lexicon.MALE), pick(lexicon.FEMALE)
    verb = pick([verb for verb in lexicon.SOCIAL if verb.base in ("admire", "help", "praise", "trust", "blame")])
    end = pick(("", " again", " in the end", " after all", " every time"))
    return f"the {he} {verb.past} _{end}.", "himself", f"the {she} {verb.past} _{end}.", "herself"


def _binding(pick: _Pick) -> Test:
    """A reflexive goes with the subject of its own clause, not with the one outside."""
    he, she, says = pick(lexicon.MALE), pick(lexicon.FEMALE), pick(("said", "thought", "knew", "believed", "heard"))
    verb = pick([verb for verb in lexicon.SOCIAL if verb.base in ("admire", "help", "praise", "trust", "blame")])
    return (
        f"the {she} {says} that the {he} {verb.past} _.", "himself",
        f"the {he} {says} that the {she} {verb.past} _.", "herself",
    )  # fmt: skip


# Irregular forms


def _irregular_verb(pick: _Pick) -> Test:
    person, (verb, things) = pick(lexicon.PEOPLE), pick(lexicon.IRREGULAR)
    thing, when = pick(things), pick(("yesterday", "last night", "a week ago"))
    return (
        f"{when} the {person.one} _ the {thing}.", verb.past,
        f"the {person.one} has _ the {thing}.", verb.participle,
    )  # fmt: skip


def _irregular_passive(pick: _Pick) -> Test:
    person, (verb, things) = pick(lexicon.PEOPLE), pick(lexicon.IRREGULAR)
    thing = pick(things)
    return f"the {thing} was _ by the {person.one}.", verb.participle, f"the {person.one} _ the {thing}.", verb.past


def _irregular_noun(pick: _Pick) -> Test:
    one, many = pick(lexicon.IRREGULAR_NOUNS).split("/")
    person, verb = pick(lexicon.PEOPLE), pick(("saw", "counted", "drew", "described", "noticed"))
    return (
        f"the {person.one} {verb} {pick(('one', 'a single', 'only one'))} _.", one,
        f"the {person.one} {verb} {pick(('two', 'several', 'three', 'many'))} _.", many,
    )  # fmt: skip


# Clauses


def _relative_pronoun(pick: _Pick) -> Test:
    person, thing, verb = (
        pick(lexicon.PEOPLE),
        pick(lexicon.THINGS),
        pick(("fell", "vanished", "came back", "stood there")),
    )
    end = pick(("was old", "looked strange", "pleased everybody", "was soon forgotten"))
    return f"the {person.one} _ {verb} {end}.", "who", f"the {thing.one} _ {verb} {end}.", "which"


def _relative_pronoun_of_object(pick: _Pick) -> Test:
    person, other = pick.two(lexicon.PEOPLE)
    thing, end = pick(lexicon.THINGS), pick(("was old", "looked strange", "pleased everybody", "was soon forgotten"))
    return (
        f"the {person.one} _ the {other.one} saw {end}.",
        "who",
        f"the {thing.one} _ the {other.one} saw {end}.",
        "which",
    )


def _complementizer(pick: _Pick) -> Test:
    noun, other = pick.two(lexicon.PEOPLE)
    says, asks, mood = pick(lexicon.SAYS), pick(lexicon.ASKS), pick(lexicon.MOODS)
    return (
        f"the {noun.one} {says} _ the {other.one} is {mood}.", "that",
        f"the {noun.one} {asks} _ the {other.one} is {mood}.", "whether",
    )  # fmt: skip


def _nested(pick: _Pick) -> Test:
    """Two clauses, one inside the other, each with the verb of its own subject."""
    noun, other = pick.two(lexicon.PEOPLE)
    inner, (one, many), mood = pick(lexicon.SOCIAL), pick((("is", "are"), ("was", "were"))), pick(lexicon.MOODS)
    return (
        f"the {noun.one} who {inner.past} the {other.many} _ {mood}.", one,
        f"the {noun.many} who {inner.past} the {other.one} _ {mood}.", many,
    )  # fmt: skip


# Questions


def _question_of_object(pick: _Pick) -> Test:
    noun, (verb, _) = pick(lexicon.PEOPLE), pick(lexicon.IRREGULAR)
    asked, end = pick(("what", "which one")), pick(("", " yesterday", " last night"))
    told = pick(("I know", "nobody remembers", "everybody saw", "we heard"))
    return f"{asked} did the {noun.one} _{end}?", verb.base, f"{told} {asked} the {noun.one} _{end}.", verb.past


def _question_of_verb(pick: _Pick) -> Test:
    noun, verb = pick(lexicon.PEOPLE), pick(lexicon.INTRANSITIVE)
    when = pick(("every day", "at night", "in the garden", "after dinner"))
    return f"does the {noun.one} _ {when}?", verb.base, f"it is true that the {noun.one} _ {when}.", verb.third


def _question_auxiliary(pick: _Pick) -> Test:
    noun, (verb, things) = pick(lexicon.PEOPLE), pick(lexicon.IRREGULAR)
    thing = pick(things)
    return f"did the {noun.one} _ the {thing}?", verb.base, f"has the {noun.one} _ the {thing}?", verb.participle


def _question_of_number(pick: _Pick) -> Test:
    (one, many), noun, mood = pick((("is", "are"), ("was", "were"))), pick(lexicon.PEOPLE), pick(lexicon.MOODS)
    return f"_ the {noun.one} {mood}?", one, f"_ the {noun.many} {mood}?", many


# Comparison


def _comparative(pick: _Pick) -> Test:
    noun, other = pick.two(lexicon.PEOPLE)
    plain, more, _ = pick(lexicon.SHORT)
    be = pick(("is", "was"))
    return (
        f"the {noun.one} {be} _ than the {other.one}.", more,
        f"the {noun.one} {be} as _ as the {other.one}.", plain,
    )  # fmt: skip


def _superlative(pick: _Pick) -> Test:
    noun, other = pick.two(lexicon.PEOPLE)
    _, more, most = pick(lexicon.SHORT)
    return (
        f"the {noun.one} is much _ than the {other.one}.", more,
        f"the {noun.one} is the _ of all the {other.many}.", most,
    )  # fmt: skip


def _comparative_long(pick: _Pick) -> Test:
    noun, other = pick.two(lexicon.PEOPLE)
    quality = pick(lexicon.LONG)
    return (
        f"the {noun.one} is _ {quality} than the {other.one}.", "more",
        f"the {noun.one} is the _ {quality} of all the {other.many}.", "most",
    )  # fmt: skip


def _than_as(pick: _Pick) -> Test:
    noun, other = pick.two(lexicon.PEOPLE)
    plain, more, _ = pick(lexicon.SHORT)
    return (
        f"the {noun.one} is {more} _ the {other.one}.",
        "than",
        f"the {noun.one} is as {plain} _ the {other.one}.",
        "as",
    )


# Negation and polarity


def _either_too(pick: _Pick) -> Test:
    noun, other = pick.two(lexicon.PEOPLE)
    verb = pick(lexicon.INTRANSITIVE)
    return (
        f"the {noun.one} did not {verb.base}, and the {other.one} did not {verb.base} _.", "either",
        f"the {noun.one} {verb.past}, and the {other.one} {verb.past} _.", "too",
    )  # fmt: skip


def _neither_so(pick: _Pick) -> Test:
    noun, other = pick.two(lexicon.PEOPLE)
    verb = pick(lexicon.INTRANSITIVE)
    return (
        f"the {noun.one} did not {verb.base}, and _ did the {other.one}.", "neither",
        f"the {noun.one} {verb.past}, and _ did the {other.one}.", "so",
    )  # fmt: skip


def _yet_already(pick: _Pick) -> Test:
    noun, verb, (has, hasnt) = (
        pick(lexicon.PEOPLE),
        pick(lexicon.INTRANSITIVE),
        pick((("has", "has not"), ("had", "had not"))),
    )
    return (
        f"the {noun.one} {hasnt} {verb.participle} _.",
        "yet",
        f"the {noun.one} {has} _ {verb.participle}.",
        "already",
    )


# Argument structure


def _transitivity(pick: _Pick) -> Test:
    noun, thing = pick(lexicon.PEOPLE), pick(lexicon.THINGS)
    verb, other = pick(lexicon.TRANSITIVE), pick(_without("cough wait talk walk work rest travel"))
    when = pick(("yesterday", "last night", "this morning", "on Monday"))
    return f"{when} the {noun.one} _ the {thing.one}.", verb.past, f"{when} the {noun.one} _.", other.past


def _passive(pick: _Pick) -> Test:
    """Only verbs with an object have a passive."""
    noun, thing = pick(lexicon.PEOPLE), pick(lexicon.THINGS)
    verb, other = pick(lexicon.TRANSITIVE), pick(_without("cough wait talk walk work rest travel"))
    return f"the {thing.one} was _ by the {noun.one}.", verb.participle, f"the {noun.one} has _.", other.participle


def _preposition(pick: _Pick) -> Test:
    noun = pick(lexicon.PEOPLE)
    first, second = pick(lexicon.WITH_OF), pick(lexicon.WITH_ON_OR_TO)
    tests = []
    for subject, verb, preposition, rest in (first, second):
        subject = subject.replace("person", noun.one)
        tests += [f"{subject} {verb} _ {rest}.", preposition]
    return tests[0], tests[1], tests[2], tests[3]


# Coordination


def _pairing(pick: _Pick) -> Test:
    noun, other = pick.two(lexicon.PEOPLE)
    verb = pick(lexicon.INTRANSITIVE)
    end = pick(("", " again", " for an hour", " yesterday")) if verb.base != "arrive" else " yesterday"
    return (
        f"both the {noun.one} _ the {other.one} {verb.past}{end}.", "and",
        f"either the {noun.one} _ the {other.one} {verb.past}{end}.", "or",
    )  # fmt: skip


def _pairing_of_neither(pick: _Pick) -> Test:
    noun, other = pick.two(lexicon.PEOPLE)
    verb = pick(lexicon.SOCIAL)
    return (
        f"neither the {noun.one} _ the {other.one} {verb.past} us.", "nor",
        f"both the {noun.one} _ the {other.one} {verb.past} us.", "and",
    )  # fmt: skip


def _agreement_of_pairs(pick: _Pick) -> Test:
    noun, other = pick.two(lexicon.PEOPLE)
    (one, many), mood = pick((("is", "are"), ("was", "were"))), pick(lexicon.MOODS)
    return (
        f"both the {noun.one} and the {other.one} _ {mood}.", many,
        f"either the {noun.one} or the {other.one} _ {mood}.", one,
    )  # fmt: skip


# Articles and quantifiers


def _article(pick: _Pick) -> Test:
    person, verb = pick(lexicon.PEOPLE), pick(("saw", "bought", "wanted", "remembered"))
    vowel, consonant = pick(lexicon.VOWEL_THINGS), pick(lexicon.CONSONANT_THINGS)
    return f"the {person.one} {verb} _ {vowel}.", "an", f"the {person.one} {verb} _ {consonant}.", "a"


def _article_adjective(pick: _Pick) -> Test:
    person, verb, thing = pick(lexicon.PEOPLE), pick(("saw", "bought", "wanted", "sold")), pick(lexicon.THINGS)
    vowel, consonant = pick(lexicon.VOWEL_QUALITIES), pick(lexicon.CONSONANT_QUALITIES)
    return (
        f"the {person.one} {verb} _ {vowel} {thing.one}.", "an",
        f"the {person.one} {verb} _ {consonant} {thing.one}.", "a",
    )  # fmt: skip


def _much_many(pick: _Pick) -> Test:
    person, mass, thing = pick(lexicon.PEOPLE), pick(lexicon.MASS), pick(lexicon.THINGS)
    verb = pick(("buy", "need", "see", "find"))
    before, end = pick(((f"the {person.one} did not {verb} _", "."), ("how _", f" did the {person.one} {verb}?")))
    return f"{before} {mass}{end}", "much", f"{before} {thing.many}{end}", "many"


def _little_few(pick: _Pick) -> Test:
    person, mass, thing = pick(lexicon.PEOPLE), pick(lexicon.MASS), pick(lexicon.THINGS)
    verb, (little, few) = (
        pick(("bought", "found", "needed")),
        pick((("too little", "too few"), ("very little", "very few"))),
    )
    return f"the {person.one} {verb} _ {mass}.", little, f"the {person.one} {verb} _ {thing.many}.", few


PHENOMENA: dict[str, tuple[Maker, ...]] = {
    "agreement": (_agreement_verb, _agreement_be),
    "agreement_with_attractors": (_attractor, _attractor_of),
    "agreement_across_clauses": (_across_relative, _across_clause),
    "tense": (_tense_be, _tense_auxiliary),
    "aspect": (_aspect, _modal),
    "determiner_noun": (_determiner, _determiner_adjective, _number_of_noun),
    "pronoun_case": (_case, _case_in_clause),
    "binding": (_reflexive, _binding),
    "irregular_forms": (_irregular_verb, _irregular_passive, _irregular_noun),
    "clauses": (_relative_pronoun, _relative_pronoun_of_object, _complementizer, _nested),
    "questions": (_question_of_object, _question_of_verb, _question_auxiliary, _question_of_number),
    "comparison": (_comparative, _superlative, _comparative_long, _than_as),
    "polarity": (_either_too, _neither_so, _yet_already),
    "argument_structure": (_transitivity, _passive, _preposition),
    "coordination": (_pairing, _pairing_of_neither, _agreement_of_pairs),
    "articles": (_article, _article_adjective),
    "quantifiers": (_much_many, _little_few),
}
