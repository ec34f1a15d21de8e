"""What the exclusion rules take out, and what looks like it and stays."""

import pytest
from sample_texts import ESSAY_WITH_A_LIST, EXCLUDED, KEPT

from llm60_jax.config import RULES, Exclude
from llm60_jax.data.clean import cleaning, gutenberg, screening


@pytest.mark.parametrize(("rule", "text"), [(rule, text) for rule, _, text in EXCLUDED], ids=[x[1] for x in EXCLUDED])
def test_what_is_no_prose_goes_for_the_right_reason(rule, text):
    found = screening.screen(text, Exclude())
    assert (found.text, found.reason) == ("", rule)
    assert rule in RULES
    assert sum(len(part.text.split()) for part in found.dropped) >= 0.9 * len(cleaning.clean(text).split())


@pytest.mark.parametrize("text", KEPT.values(), ids=list(KEPT))
def test_prose_that_looks_like_it_stays_whole(text):
    found = screening.screen(text, Exclude())
    assert (found.reason, found.dropped) == (None, ())
    assert found.text == cleaning.clean(text)


def test_a_list_in_a_good_essay_drops_the_list_and_not_the_essay():
    found = screening.screen(ESSAY_WITH_A_LIST, Exclude())
    assert [part.rule for part in found.dropped] == ["list"]
    assert found.dropped[0].text.split("\n") == ["- flour", "- thread, black", "- write to Agnes"]
    assert "It said:\n\nNobody in the family" in found.text
    whole = screening.screen(ESSAY_WITH_A_LIST, Exclude(rules=("code", "chat")))
    assert "- thread, black" in whole.text


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_that_a_phase_leaves_out_drops_nothing(rule):
    others = Exclude(rules=tuple(name for name in RULES if name != rule))
    for owner, _, text in EXCLUDED:
        if owner == rule:
            found = screening.screen(text, others)
            assert rule not in {part.rule for part in found.dropped}
            assert found.reason != rule


def test_a_book_that_is_one_line_loses_one_passage_and_not_itself():
    prose = " ".join(KEPT["dialogue"].split()) + " "
    notice = "Copyright 2019 Acme Inc. All rights reserved. Terms of use. Privacy policy. Click here. "
    found = screening.screen(prose * 60 + notice * 30 + prose * 60, Exclude(rules=("boilerplate",)))
    assert found.reason is None
    assert {part.rule for part in found.dropped} == {"boilerplate"}
    assert len(found.text) > 0.9 * 120 * len(prose)


def test_without_rules_screening_is_cleaning():
    for text in (*KEPT.values(), *(text for _, _, text in EXCLUDED)):
        assert screening.screen(text, Exclude(rules=())).text == cleaning.clean(text)


def test_an_answer_is_kept_or_dropped_with_its_question():
    prose = "The river rose in the night, and by morning the lower fields were under water."
    kept = screening.screen(prose, Exclude(), "What happened?")
    assert (kept.text, kept.prompt) == (prose, "What happened?")
    for prompt, text in (("Write a list", "1. one\n2. two\n3. three"), ("def f(x):\n    return x + 1", prose)):
        found = screening.screen(text, Exclude(), prompt)
        assert (found.text, found.prompt) == ("", "")
        assert found.reason in ("list", "code")


def test_rules_are_linear_in_hostile_lines():
    """No pattern goes back and forth over a long line; a backtracking one would take hours here."""
    for unit in (
        "a",
        "a ",
        "[",
        "1. ",
        "(",
        "@a ",
        "_a",
        "*",
        "a:",
        "<a ",
        "\\\\a{",
        "0.",
        "- ",
        "| ",
        "=",
        "x(",
        "a-\n",
    ):
        screening.screen(unit * (200_000 // len(unit)), Exclude())


HEADERS = {
    "since 2001": (
        "The Project Gutenberg EBook of A Walk, by B\n\n*** START OF THIS PROJECT GUTENBERG EBOOK A WALK ***\n",
        "End of Project Gutenberg's A Walk\n\n*** END OF THIS PROJECT GUTENBERG EBOOK A WALK ***\n\nmore",
    ),
    "since 2020": (
        "\ufeffThe Project Gutenberg eBook of A Walk\r\n\r\n*** START OF THE PROJECT GUTENBERG EBOOK A WALK ***\r\n",
        "*** END OF THE PROJECT GUTENBERG EBOOK A WALK ***\r\nUpdated editions will replace\r\n",
    ),
    "small print": (
        "**The Project Gutenberg Etext of A Walk**\n\n"
        "***START**THE SMALL PRINT!**FOR PUBLIC DOMAIN ETEXTS**START***\n"
        "Please read\n*END*THE SMALL PRINT! FOR PUBLIC DOMAIN ETEXTS*Ver.04.29.93*END*\n",
        "End of The Project Gutenberg Etext of A Walk\n",
    ),
}


@pytest.mark.parametrize("name", HEADERS)
def test_gutenberg_frames_of_any_vintage_are_taken_off(name):
    head, tail = HEADERS[name]
    book = "We set out at dawn.\n\nBy noon we were lost."
    body, taken = gutenberg.strip(cleaning.normalise(f"{head}\n{book}\n\n{tail}"))
    assert body.strip() == book
    assert len(taken) == 2


def test_other_books_keep_their_ends():
    text = "The end of this story is known.\n\nTHE FULL MOON\n\nIt rose."
    assert gutenberg.strip(text) == (text, [])
