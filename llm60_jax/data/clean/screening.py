"""One document, cleaned and screened: what of it is kept, and what each rule dropped. Pure functions."""

import itertools
from collections.abc import Iterator
from typing import NamedTuple

from llm60_jax.config import Exclude, Rule
from llm60_jax.data.clean import cleaning, gutenberg, rules
from llm60_jax.data.clean.paragraph_rules import Paragraph

_LONGEST_PARAGRAPH = 20_000  # characters; beyond it a paragraph is cut
_PARAGRAPH_CHARACTERS = 2_000  # ... into pieces of at most this


class Dropped(NamedTuple):
    """A part of a document that a rule dropped, as it stood there."""

    rule: Rule
    text: str


class Screened(NamedTuple):
    """`text` is what is kept, "" where `reason` says why the document goes as a whole. `dropped` are the parts that go,
    in that case all of it."""

    text: str
    prompt: str
    reason: Rule | None
    dropped: tuple[Dropped, ...]


def screen(text: str, limits: Exclude, prompt: str = "") -> Screened:
    """Cleans a document and drops from it what the rules of its phase exclude.

    Args:
      text: a document as its source gives it.
      limits: which rules apply, and their thresholds.
      prompt: the question, if the document is an answer. Both are kept or dropped as they are: with a hole in it an
        answer is none. How short they are plays no part.
    """
    if prompt:
        return _screen_answer(text, limits, prompt)
    text = cleaning.normalise(text)
    dropped: list[Dropped] = []
    if "boilerplate" in limits.rules:
        text, taken = gutenberg.strip(text)
        dropped += (Dropped("boilerplate", part.strip()) for part in taken)
    whole = _characters(text)
    left, parts = _parts_kept(text, limits)
    reason = _reason(left, whole, dropped + parts, limits)
    dropped += parts
    if reason is None:
        return Screened(left, "", None, tuple(dropped))
    return Screened("", "", reason, (*dropped, Dropped(reason, left)) if left else tuple(dropped))


def _screen_answer(text: str, limits: Exclude, prompt: str) -> Screened:
    for part in (prompt, text):
        _, dropped = _parts_kept(cleaning.normalise(part), limits)
        if dropped:
            return Screened("", "", dropped[0].rule, (Dropped(dropped[0].rule, text),))
    return Screened(cleaning.clean(text), cleaning.clean(prompt), None, ())


def _parts_kept(text: str, limits: Exclude) -> tuple[str, list[Dropped]]:
    """What the rules for lines and paragraphs leave of a normalised text, clean, and what they drop."""
    dropped: list[Dropped] = []
    lines = text.split("\n")
    for line_rule in (rule for rule in rules.LINES if rule in limits.rules):
        gone = rules.LINES[line_rule](lines, limits)
        if any(gone):
            dropped += (Dropped(line_rule, part) for part in _runs(lines, gone))
            # A blank line in the place of each: what stood on either side must not grow together.
            lines = ["" if out else line for line, out in zip(lines, gone, strict=True)]
    applied = [rule for rule in rules.PARAGRAPHS if rule in limits.rules]
    kept = []
    for block in _of_bounded_length(cleaning.paragraphs("\n".join(lines))):
        paragraph = Paragraph.of(block)
        found = next((rule for rule in applied if rules.PARAGRAPHS[rule](paragraph, limits)), None)
        if found is not None:
            dropped.append(Dropped(found, block))
        elif clean := cleaning.inline(block):
            kept.append(clean)
    return "\n\n".join(kept), dropped


def _of_bounded_length(paragraphs: list[str]) -> Iterator[str]:
    """Paragraphs, those that no author has written cut at sentence ends: a book may come as a single line, and one
    careless sentence must not take all of it along."""
    for paragraph in paragraphs:
        yield from (
            cleaning.cut(paragraph, _PARAGRAPH_CHARACTERS) if len(paragraph) > _LONGEST_PARAGRAPH else [paragraph]
        )


def _reason(left: str, whole: int, dropped: list[Dropped], limits: Exclude) -> Rule | None:
    """Why a document goes as a whole, or None if what is left of it makes one.

    Args:
      whole: characters before the rules, a publisher's frame around the text apart.
    """
    kept, lost = _characters(left), sum(_characters(part.text) for part in dropped)
    if dropped and kept < limits.min_prose * min(whole, kept + lost):  # not what cleaning took: links are long
        return _main_rule(dropped)
    for rule in (rule for rule in rules.DOCUMENTS if rule in limits.rules):
        if rules.DOCUMENTS[rule](left, limits):
            return _main_rule(dropped) if rule == "too_short" and lost > kept else rule
    return None


def _main_rule(dropped: list[Dropped]) -> Rule:
    weights: dict[Rule, int] = {}
    for part in dropped:
        weights[part.rule] = weights.get(part.rule, 0) + _characters(part.text)
    return max(weights, key=lambda rule: weights[rule])


def _runs(lines: list[str], gone: list[bool]) -> list[str]:
    """The runs of lines that go, each as one text."""
    groups = itertools.groupby(zip(lines, gone, strict=True), key=lambda pair: pair[1])
    found = ("\n".join(line for line, _ in group).strip("\n") for out, group in groups if out)
    return [text for text in found if text]


def _characters(text: str) -> int:
    """Characters that are not white space: what cleaning changes least."""
    return sum(map(len, text.split()))
