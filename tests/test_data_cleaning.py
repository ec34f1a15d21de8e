"""Cleaning and cutting: what changes, and that nothing else does."""

import sys
import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm60_jax.data.cleaning import clean, cut

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


def test_short_lines_stay_paragraphs_of_their_own() -> None:
    assert (
        clean("Hope is the thing\nwith feathers\nthat perches") == "Hope is the thing\n\nwith feathers\n\nthat perches"
    )


@given(WILD)
def test_clean_is_idempotent_and_leaves_nothing_invisible(text: str) -> None:
    once = clean(text)
    assert clean(once) == once
    assert not [c for c in once if c != "\n" and unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co")]
    assert "\n\n\n" not in once
    assert "  " not in once
    assert " \n" not in once
    assert "\n " not in once
    once.encode("utf-8")


def test_every_character_cleans_to_something_stable() -> None:
    for code in range(0, sys.maxunicode + 1, 3):
        once = clean(f"a{chr(code)}b")
        assert clean(once) == once, hex(code)


@given(PROSE, st.integers(1, 50))
def test_cut_loses_white_space_only(text: str, limit: int) -> None:
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
def test_cut_prefers_paragraphs_then_sentences_then_blanks(text: str, limit: int, pieces: list[str]) -> None:
    assert cut(text, limit) == pieces


def test_cut_is_linear_in_one_huge_line() -> None:
    start = time.perf_counter()
    assert len(cut("word " * 2_000_000)) == 500
    assert len(cut("x" * 10_000_000)) == 500
    assert time.perf_counter() - start < 5  # quadratic time would need minutes


def test_cut_refuses_a_limit_below_one() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        cut("text", 0)
