"""Our own minimal pairs in 17 phenomena: two sentences that differ in one form, one of them wrong.

Every test comes in two contexts that ask for opposite forms: "The boy sings" not "sing", "The boys
sing" not "sings". Each form is therefore good as often as bad. A model that knows only word
frequencies is right in half of the pairs. The templates draw words from `lexicon`; the pairs are
the same on every machine.

Modelled on BLiMP (Warstadt et al. 2020), whose scoring `scoring` follows. The sentences are ours.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from llm60_jax.evaluate.grammar import agreement, clauses, comparison, nouns, verbs
from llm60_jax.evaluate.grammar.template import Pick, Template

PAIRS = 100  # pairs of each phenomenon

PHENOMENA: dict[str, tuple[Template, ...]] = {
    "agreement": (agreement.subject_verb, agreement.subject_be),
    "agreement_with_attractors": (agreement.attractor, agreement.attractor_of),
    "agreement_across_clauses": (agreement.across_relative, agreement.across_clause),
    "tense": (verbs.tense_be, verbs.tense_auxiliary),
    "aspect": (verbs.aspect, verbs.after_modal),
    "determiner_noun": (nouns.determiner, nouns.determiner_adjective, nouns.number_of_noun),
    "pronoun_case": (nouns.pronoun_case, nouns.pronoun_case_in_clause),
    "binding": (nouns.reflexive, nouns.binding),
    "irregular_forms": (verbs.irregular_verb, verbs.irregular_passive, nouns.irregular_noun),
    "clauses": (clauses.relative_pronoun, clauses.relative_pronoun_of_object, clauses.complementizer, clauses.nested),
    "questions": (
        clauses.question_of_object,
        clauses.question_of_verb,
        clauses.question_auxiliary,
        clauses.question_of_number,
    ),
    "comparison": (comparison.comparative, comparison.superlative, comparison.comparative_long, comparison.than_as),
    "polarity": (clauses.either_too, clauses.neither_so, clauses.yet_already),
    "argument_structure": (verbs.transitivity, verbs.passive, verbs.fixed_preposition),
    "coordination": (clauses.pairing, clauses.pairing_of_neither, agreement.two_nouns),
    "articles": (nouns.article, nouns.article_adjective),
    "quantifiers": (nouns.much_many, nouns.little_few),
}


class Pair(NamedTuple):
    """Two sentences that differ in one word, or in the form of one word."""

    phenomenon: str
    good: str
    bad: str


def suite() -> dict[str, list[Pair]]:
    """Return all pairs by phenomenon, `PAIRS` of each, none twice."""
    return {name: list(_pairs(name, templates)) for name, templates in PHENOMENA.items()}


def _pairs(phenomenon: str, templates: Sequence[Template]) -> Iterator[Pair]:
    """Yield two pairs of each template in turn, until there are `PAIRS`."""
    pick, count = Pick(phenomenon), 0
    seen: set[Pair] = set()
    while count < PAIRS:
        first, form, second, other_form = templates[count // 2 % len(templates)](pick)
        pairs = (
            Pair(phenomenon, _filled(first, form), _filled(first, other_form)),
            Pair(phenomenon, _filled(second, other_form), _filled(second, form)),
        )
        if not seen.intersection(pairs):
            seen.update(pairs)
            count += 2
            yield from pairs


def _filled(sentence: str, form: str) -> str:
    text = sentence.replace("_", form, 1)
    return text[0].upper() + text[1:]
