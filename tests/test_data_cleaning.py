"""Cleaning and cutting: what changes, and what stays."""

import sys
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from llm60_jax.data.clean.cleaning import clean, cut, normalise

WILD = st.text(alphabet=st.one_of(st.characters(), st.sampled_from("\n\r\t  ab.é\u0301\u200b\u00ad\u2028\u2581")))
PROSE = st.text(alphabet=st.sampled_from("abc. !?\n\"'"), max_size=400)


def without_space(text: str) -> str:
    return "".join(text.split())


@pytest.mark.parametrize(
    ("raw", "cleaned"),
    [
        ("one\r\ntwo\rthree", "one\n\ntwo\n\nthree"),
        ("a \t b  \n\n\n\n  c  ", "a b\n\nc"),
        ("nul\x00 bell\x07 soft\u00adhyphen zero\u200bwidth \ufeff", "nul bell softhyphen zerowidth"),
        ("\ufb01ne \u2460 wide\u00a0space", "fine 1 wide space"),
        ("cafe\u200d\u0301", "caf\u00e9"),
        ("half \ud800 pair", "half pair"),
        ("page\x0cbreak\u2028line\u2029paragraph", "page\n\nbreak\n\nline\n\nparagraph"),
        ("a\u2581b", "a_b"),
        ("one\r\r\ntwo", "one\n\ntwo"),
        ("\x1b[1mbold\x1b[0m and \x1b[38;5;12mblue", "bold and blue"),
        (
            "1\u00bd cups, 20 m\u00b2, 10\u00b3, 3\u20444, 100\u33a1",
            "1\u00bd cups, 20 m\u00b2, 10\u00b3, 3/4, 100m\u00b2",
        ),
        ("don\u00b4t, don`t, H\u2082O at 20 \u02daC", "don't, don't, H2O at 20 \u00b0C"),
        ("\u00c2 stands for ten, the sailor\u00e2\u20ac\u2122s wife", "\u00c2 stands for ten, the sailor\u2019s wife"),
        ("half past six\u00b3 it rained.\u00b9\u00b2", "half past six it rained."),
        ("\u00b3 The clock was late.", "The clock was late."),
        (" \n\t\r\n ", ""),
        ("", ""),
    ],
)
def test_clean_examples(raw: str, cleaned: str) -> None:
    assert clean(raw) == cleaned


def test_hard_wrapped_lines_join_into_paragraphs() -> None:
    first = (
        "It was the best of times, it was the worst of times, it was the\n"
        "age of wisdom, it was the age of foolishness, it was the epoch of\n"
        "belief."
    )
    second = "There were a king with a large jaw and a queen with a plain face,\non the throne of England."
    assert clean(f"{first}\n\n{second}") == first.replace("\n", " ") + "\n\n" + second.replace("\n", " ")


@pytest.mark.parametrize(
    "verse", ["the bird is a thing\nwith feathers\nthat waits", "The bus, the bus,\nit goes for us."]
)
def test_short_lines_that_begin_in_lower_case_are_verse(verse: str) -> None:
    assert clean(f"A word.\n\n{verse}\n\nAnother.") == f"A word.\n\n{verse}\n\nAnother."


@given(WILD)
def test_clean_leaves_nothing_invisible(text: str) -> None:
    once = clean(text)
    assert not [c for c in once if c != "\n" and unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co")]
    assert "\n\n\n" not in once
    assert "  " not in once
    assert " \n" not in once
    assert "\n " not in once
    once.encode("utf-8")


@given(WILD)
@example("\u00ac\x1b\u00d1")
@example("\u00d0\u00a7\u0150\u00a0")
def test_normalise_is_idempotent(text: str) -> None:
    assert normalise(normalise(text)) == normalise(text)


@pytest.mark.slow
def test_normalise_is_idempotent_for_every_character() -> None:
    for code in range(0, sys.maxunicode + 1, 3):
        once = normalise(f"a{chr(code)}b")
        assert normalise(once) == once, hex(code)


@pytest.mark.parametrize(
    ("raw", "cleaned"),
    [
        ("It was said[1] and denied [2, 3] often.[4-6]", "It was said and denied often."),
        ("See https://example.org/a?b=c for more, or www.example.org.", "See example.org for more, or example.org."),
        ("Source: http://example.org/a", "Source:"),
        ("It is known (http://example.org/a_(b)) and <http://example.org/c> now.", "It is known and example.org now."),
        ("Write to j.hart@example.org today.", "Write to today."),
        ("A **bold** word, an *old* one, a _new_ one and `code`.", "A bold word, an old one, a new one and code."),
        ('A [link](http://example.org "title") and ![a picture](x.png) here.', "A link and here."),
        ("# A heading", "A heading"),
        ("He <b>ran</b> &amp; fell.", "He ran & fell."),
        ("snake_case_name stays, 2 * 3 * 4 stays", "snake_case_name stays, 2 * 3 * 4 stays"),
        ("[Illustration: A bear.]", ""),
        ("The sailor\u00e2\u20ac\u2122s wife", "The sailor's wife"),
        ("* * * * *", ""),
    ],
)
def test_markup_and_markers_are_removed(raw: str, cleaned: str) -> None:
    assert clean(raw).replace("\u2019", "'") == cleaned


def test_words_broken_at_line_ends_are_joined_as_elsewhere_in_the_document() -> None:
    text = (
        "The carpenter who had lived alone for many years beside the mill re-\n"
        "membered the well-known story of the ferry, and told it to anyone who\n"
        "cared to listen; he remembered every word of it, the well-\n"
        "known ending too, and the old ferry- man in his boat, a ferryman's son.\n"
        "Two- and three-year terms were common among the ferrymen of that time,\n"
        "and a ferryman was proud of them."
    )
    cleaned = clean(text)
    assert "mill remembered the well-known" in cleaned
    assert "the well-known ending" in cleaned
    assert "the old ferryman in his" in cleaned
    assert "Two- and three-year" in cleaned


def test_a_wrapped_text_without_blank_lines_is_split_into_paragraphs() -> None:
    lines = [
        '"Who is apologizing? This is the first time I have crossed the ocean,',
        'and I have not been sick one little bit. No, sir!"',
        '"Oh, you are a high-grade machine, with the writing in plain sight," the',
        "other yawned. He had gone on deck early, and come down again when the",
        "first wave came over the side.",
        "The door banged, and a slight, slim-built boy leaned in over the high",
        "footway.",
    ]
    assert clean("\n".join(lines)) == "\n\n".join([" ".join(lines[:2]), " ".join(lines[2:5]), " ".join(lines[5:])])


def test_verse_keeps_its_lines() -> None:
    verse = "Whose woods these are I think I know.\nHis house is in the village though;"
    assert clean(f"{verse}\n\n{verse}") == f"{verse}\n\n{verse}"


@given(PROSE, st.integers(1, 50))
def test_cut_loses_only_white_space(text: str, limit: int) -> None:
    pieces = cut(text, limit)
    assert all(0 < len(piece) <= limit and piece == piece.strip() for piece in pieces)
    assert without_space("".join(pieces)) == without_space(text)


@pytest.mark.parametrize(
    ("text", "limit", "pieces"),
    [
        ("One two.\n\nThree. Four.\n\nFive", 24, ["One two.\n\nThree. Four.", "Five"]),
        ("One.\n\nTwo. Three four", 12, ["One.", "Two.", "Three four"]),
        ("One two. Three four! Five six", 24, ["One two. Three four!", "Five six"]),
        ('He said "no." She said yes', 20, ['He said "no."', "She said yes"]),
        ("one two three", 9, ["one two", "three"]),
        ("abcdefgh", 3, ["abc", "def", "gh"]),
        ("short", 5, ["short"]),
        ("", 5, []),
    ],
)
def test_cut_prefers_paragraphs_then_sentences_then_spaces(text: str, limit: int, pieces: list[str]) -> None:
    assert cut(text, limit) == pieces


def test_cut_takes_linear_time_for_one_huge_line() -> None:
    assert len(cut("word " * 2_000_000)) == 500
    assert len(cut("x" * 10_000_000)) == 500


def test_cut_refuses_a_limit_below_one() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        cut("text", 0)
