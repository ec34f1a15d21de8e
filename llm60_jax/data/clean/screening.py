"""Clean and screen one document: what is kept, and what each rule drops. Pure functions."""

import itertools
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from llm60_jax.config import Exclude, Rule
from llm60_jax.data.clean import cleaning, gutenberg, rules
from llm60_jax.data.clean.paragraph_rules import Paragraph

_MAX_PARAGRAPH_CHARACTERS = 20_000  # longer paragraphs are cut
_CUT_CHARACTERS = 2_000  # ... into pieces of at most this


class Dropped(NamedTuple):
    """A part of a document that a rule dropped, before its markup is removed."""

    rule: Rule
    text: str


class Screened(NamedTuple):
    """A screened document. If all of it is dropped, `text` is "" and `reason` says why."""

    text: str  # the clean text that is kept
    prompt: str
    reason: Rule | None
    dropped: tuple[Dropped, ...]


def screen(text: str, limits: Exclude, prompt: str = "") -> Screened:
    """Clean a document and drop what the rules of its phase exclude.

    Args:
      text: a document as its source gives it.
      limits: which rules apply, and their thresholds.
      prompt: the question, if the document is an answer. Both are kept or dropped as a whole, since
        an answer with a part missing is no answer. Their length does not matter.
    """
    if prompt:
        return _screen_answer(text, limits, prompt)
    text = cleaning.normalise(text)
    dropped: list[Dropped] = []
    if "boilerplate" in limits.rules:
        text, frame = gutenberg.strip(text)
        dropped += (Dropped("boilerplate", part.strip()) for part in frame)
    text = _unmark(text, limits)
    characters = _characters(text)
    prose, parts = _apply_rules(text, limits)
    dropped += parts
    reason = _reason(prose, characters, dropped, limits)
    if reason is None:
        return Screened(prose, "", None, tuple(dropped))
    return Screened("", "", reason, (*dropped, Dropped(reason, prose)) if prose else tuple(dropped))


def _screen_answer(text: str, limits: Exclude, prompt: str) -> Screened:
    """Keep or drop a question and its answer."""
    for part in (prompt, text):
        _, dropped = _apply_rules(_unmark(cleaning.normalise(part), limits), limits)
        if dropped:
            return Screened("", "", dropped[0].rule, (Dropped(dropped[0].rule, text),))
    return Screened(cleaning.clean(text), cleaning.clean(prompt), None, ())


def _unmark(text: str, limits: Exclude) -> str:
    """Take markup off before the rules look.

    The rule `code` needs to see the source of a web page that stands in the text.
    """
    return cleaning.unmark(text, keep_source="code" in limits.rules)


def _apply_rules(text: str, limits: Exclude) -> tuple[str, list[Dropped]]:
    """Apply the rules for lines and paragraphs. Return the clean text and the dropped parts."""
    dropped: list[Dropped] = []
    lines = text.split("\n")
    for line_rule in (rule for rule in rules.LINES if rule in limits.rules):
        mask = rules.LINES[line_rule](lines, limits)
        if any(mask):
            dropped += (Dropped(line_rule, cleaning.shown(part)) for part in _runs(lines, mask))
            # A blank line replaces each dropped one: the text around it must not be joined.
            lines = ["" if drop else line for line, drop in zip(lines, mask, strict=True)]
    applied = [rule for rule in rules.PARAGRAPHS if rule in limits.rules]
    prose = []
    for block in _cut_long(map(cleaning.strip_marks, cleaning.paragraphs("\n".join(lines)))):
        paragraph = Paragraph.of(block)
        reason = next((rule for rule in applied if rules.PARAGRAPHS[rule](paragraph, limits)), None)
        if reason is not None:
            dropped.append(Dropped(reason, cleaning.shown(block)))
        elif clean := cleaning.inline(block):
            prose.append(clean)
    return "\n\n".join(prose), dropped


def _cut_long(paragraphs: Iterable[str]) -> Iterator[str]:
    """Yield paragraphs, with very long ones cut at sentence ends.

    A book may be a single line, and one careless sentence must not drop all of it.
    """
    for paragraph in paragraphs:
        if len(paragraph) > _MAX_PARAGRAPH_CHARACTERS:
            yield from cleaning.cut(paragraph, _CUT_CHARACTERS)
        else:
            yield paragraph


def _reason(prose: str, characters: int, dropped: list[Dropped], limits: Exclude) -> Rule | None:
    """Return why the whole document is dropped, or None if it is not.

    Args:
      prose: the rest of the document.
      characters: the document's size before the rules, without Project Gutenberg's frame.
    """
    kept, lost = _characters(prose), sum(_characters(part.text) for part in dropped)
    # `kept + lost` leaves out what cleaning removes, as links are long.
    if dropped and kept < limits.min_prose * min(characters, kept + lost):
        return _main_rule(dropped)
    for rule in (rule for rule in rules.DOCUMENTS if rule in limits.rules):
        if rules.DOCUMENTS[rule](prose, limits):
            return _main_rule(dropped) if rule == "too_short" and lost > kept else rule
    return None


def _main_rule(dropped: list[Dropped]) -> Rule:
    """Return the rule that dropped the most characters."""
    weights: dict[Rule, int] = {}
    for part in dropped:
        weights[part.rule] = weights.get(part.rule, 0) + _characters(part.text)
    return max(weights, key=lambda rule: weights[rule])


def _runs(lines: list[str], mask: list[bool]) -> list[str]:
    """Return each run of marked lines as one text."""
    groups = itertools.groupby(zip(lines, mask, strict=True), key=lambda pair: pair[1])
    runs = ("\n".join(line for line, _ in group).strip("\n") for drop, group in groups if drop)
    return [text for text in runs if text]


def _characters(text: str) -> int:
    """Count the characters that are not white space, the number that cleaning changes least."""
    return sum(map(len, text.split()))
