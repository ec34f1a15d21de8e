"""What the exclusion rules drop, and the similar prose that they keep."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rule_texts import AFTER, BEFORE, GOES, STAYS
from sample_texts import ESSAY_WITH_A_LIST, EXCLUDED, KEPT

from llm60_jax.config import RULES, Exclude
from llm60_jax.data.clean import cleaning, gutenberg, screening


@pytest.mark.parametrize(("rule", "text"), [(rule, text) for rule, _, text in EXCLUDED], ids=[x[1] for x in EXCLUDED])
def test_non_prose_is_dropped_for_the_right_reason(rule, text):
    screened = screening.screen(text, Exclude())
    assert (screened.text, screened.reason) == ("", rule)
    assert rule in RULES
    assert sum(len(part.text.split()) for part in screened.dropped) >= 0.9 * len(cleaning.clean(text).split())


@pytest.mark.parametrize("text", KEPT.values(), ids=list(KEPT))
def test_prose_that_resembles_excluded_text_is_kept_whole(text):
    screened = screening.screen(text, Exclude())
    assert (screened.reason, screened.dropped) == (None, ())
    assert screened.text == cleaning.clean(text)


STAYING = [pytest.param(text, id=f"{rule}: {name}") for rule in STAYS for name, text in STAYS[rule].items()]
GOING = [pytest.param(rule, text, id=f"{rule}: {name}") for rule in GOES for name, text in GOES[rule].items()]


@pytest.mark.parametrize("text", STAYING)
def test_writing_with_a_mark_of_one_kind_is_kept_whole(text):
    screened = screening.screen(text, Exclude())
    assert [part for part in screened.dropped if re.search(r"[^\W\d_]", part.text)] == []
    assert screened.reason is None


@pytest.mark.parametrize(("rule", "text"), GOING)
def test_what_a_rule_is_for_goes(rule, text):
    screened = screening.screen(text, Exclude())
    assert (screened.text, screened.reason) == ("", rule)


@pytest.mark.parametrize(("rule", "text"), [x for x in GOING if "source" not in x.id])
def test_what_a_rule_is_for_goes_from_between_prose(rule, text):
    """A TeX source is judged as a whole; anything else leaves the prose around it alone."""
    screened = screening.screen(f"{BEFORE}\n\n{text}\n\n{AFTER}", Exclude())
    assert screened.text == f"{BEFORE}\n\n{AFTER}"


PROSE = [text for name in ("interview novel", "questions of an essay", "numbers history") for text in [KEPT[name]]]
PROSE = [*(" ".join(text.split()) for text in (*PROSE, KEPT["email story"].split("\n\n")[0])), BEFORE, AFTER]
INSERTED = [
    "> A shelf is a promise.",
    "> A shelf is a promise.\n> I know of no better rule.",
    "Update: the boat has been found.",
    "Edit: it was blue.",
    "As Montaigne says:",
    "On March 3, 1905, Mr. Wells wrote:",
    "Posted by Anna on March 3, 2019 at 10:15",
    "3 comments",
    "Share",
    "Location: Bern",
    "Re: the boat",
    "Sent from my kitchen",
    "tl;dr: we found it.",
    "9:15 -- Left for the mill.",
    "10:40 Walk: to the weir.",
    "12:30 Lunch: soup.",
    "Woke 7:10",
    "I went down to the mill.",
    "I came home.",
    "What is a man to do?",
    "The sun came out \U0001f31e and went in again \U0001f327.",
    "It was \\$40, or $3 a week, \\[he said\\].",
    "The essay (https://a.example/1) and the reply (https://b.example/2) are both right.",
    "Nobody reads the terms of service.",
    "“I dunno. I'm gonna ask my dad!!”",
]


@given(st.lists(st.tuples(st.sampled_from(PROSE), st.lists(st.sampled_from(INSERTED), max_size=4)), min_size=3))
def test_no_marks_between_paragraphs_cost_an_author_a_paragraph(parts):
    text = "\n\n".join(piece for prose, inserted in parts for piece in (prose, *inserted))
    # Few paragraphs in many copies are repetitive, and rightly so.
    limits = Exclude(rules=tuple(rule for rule in RULES if rule != "repetitive"))
    dropped = "\n".join(part.text for part in screening.screen(text, limits).dropped)
    assert [prose for prose, _ in parts if prose in dropped] == []


@pytest.mark.parametrize(
    ("text", "dropped"),
    [
        ("Thanks for reading The Weir! Subscribe for free to receive new posts and support my work.", True),
        ("Leave a comment", True),
        ("5 min read", True),
        ("Filed under: Writing | Tagged: drafts, river | 3 Comments", True),
        ("Filed under the bed | that is where I kept it, and on the whole it was safe there.", False),
        ("Share it, he said.", False),
        ("I had a comment to make, but I did not receive the new posts for the fence in time to make it.", False),
    ],
)
def test_what_a_blog_asks_of_its_readers_goes(text, dropped):
    screened = screening.screen(f"{PROSE[0]}\n\n{text}\n\n{PROSE[1]}", Exclude(rules=("boilerplate",)))
    assert [part.text for part in screened.dropped] == [text] * dropped


def test_short_lists_of_a_changelog_go():
    part = "[1.4.{0}] - 2021-03-04\n\nAdded\n\n- Support for --verbose\n\nFixed\n\n- Crash when the list is empty"
    changelog = "\n\n".join(part.format(number) for number in range(3))
    assert screening.screen(f"Changelog\n\n{changelog}", Exclude()).reason == "list"
    kept = screening.screen(f"{PROSE[0]}\n\nAdded\n\n- a door\n\nFixed\n\n- a roof\n\n{PROSE[1]}", Exclude())
    assert "- a door" in kept.text


def test_a_list_in_a_good_essay_drops_the_list_and_not_the_essay():
    screened = screening.screen(ESSAY_WITH_A_LIST, Exclude())
    assert [part.rule for part in screened.dropped] == ["list"]
    assert screened.dropped[0].text.split("\n") == ["- flour", "- thread, black", "- write to Agnes"]
    assert "It said:\n\nNobody in the family" in screened.text
    whole = screening.screen(ESSAY_WITH_A_LIST, Exclude(rules=("code", "chat")))
    assert "- thread, black" in whole.text


def test_a_list_ends_at_a_short_line_where_each_line_is_a_paragraph():
    text = f"What I took along:\n- a knife\n- a rope\n- the letter\n{BEFORE}\n{AFTER}"
    screened = screening.screen(text, Exclude())
    assert [part.text for part in screened.dropped] == ["- a knife\n- a rope\n- the letter"]
    assert screened.text == f"What I took along:\n\n{BEFORE}\n\n{AFTER}"


@pytest.mark.parametrize("rule", RULES)
def test_a_disabled_rule_drops_nothing(rule):
    others = Exclude(rules=tuple(name for name in RULES if name != rule))
    for owner, _, text in EXCLUDED:
        if owner == rule:
            screened = screening.screen(text, others)
            assert rule not in {part.rule for part in screened.dropped}
            assert screened.reason != rule


def test_a_book_in_one_line_loses_only_one_passage():
    prose = " ".join(KEPT["dialogue"].split()) + " "
    notice = "Copyright 2019 Acme Inc. All rights reserved. Terms of use. Privacy policy. Click here. "
    screened = screening.screen(prose * 60 + notice * 30 + prose * 60, Exclude(rules=("boilerplate",)))
    assert screened.reason is None
    assert {part.rule for part in screened.dropped} == {"boilerplate"}
    assert len(screened.text) > 0.9 * 120 * len(prose)


def test_screening_without_rules_is_cleaning():
    for text in (*KEPT.values(), *(text for _, _, text in EXCLUDED)):
        assert screening.screen(text, Exclude(rules=())).text == cleaning.clean(text)


def test_an_answer_is_kept_or_dropped_with_its_question():
    prose = "The river rose in the night, and by morning the lower fields were under water."
    answer = screening.screen(prose, Exclude(), "What happened?")
    assert (answer.text, answer.prompt) == (prose, "What happened?")
    for prompt, text in (("Write a list", "1. one\n2. two\n3. three"), ("def f(x):\n    return x + 1", prose)):
        screened = screening.screen(text, Exclude(), prompt)
        assert (screened.text, screened.prompt) == ("", "")
        assert screened.reason in ("list", "code")


@pytest.mark.slow
def test_rules_take_linear_time_for_hostile_lines():
    """A pattern that backtracks over a long line would take hours here."""
    units = ("a", "a ", "[", "1. ", "(", "@a ", "_a", "*", "a:", "<a ", "\\\\a{", "0.", "- ", "| ", "=", "x(", "a-\n")
    units += (
        "$a",
        "3 points\n",
        "reply 3d ",
        "9:15 a: b\n",
        "1 ago ",
        "x wrote:\n",
        "~~~\n",
        "FAQ\n",
        "a?\n",
        "I. a\n",
    )
    units += ("on a wrote: ", "by clicking ", "licensed under ", "gutenberg ", "\u201c", "#a ", "https://a ", "u/abc ")
    for unit in units:
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
def test_gutenberg_headers_and_licences_of_any_year_are_removed(name):
    head, tail = HEADERS[name]
    book = "We set out at dawn.\n\nBy noon we were lost."
    body, removed = gutenberg.strip(cleaning.normalise(f"{head}\n{book}\n\n{tail}"))
    assert body.strip() == book
    assert len(removed) == 2


def test_other_books_keep_their_ends():
    text = "The end of this story is known.\n\nTHE FULL MOON\n\nIt rose."
    assert gutenberg.strip(text) == (text, [])
