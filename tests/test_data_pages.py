"""Text that was set on pages: running heads, page numbers, broken words."""

# ruff: noqa: E501

import pytest

from llm60_jax.data.clean.cleaning import clean, normalise, unmark

PAGES = [
    "The river had risen in the night, and nobody in the village\nhad slept for the noise that it made under the",
    "bridge. In the morning Anna went down to the mill with her\nfather's lantern, though there was light enough to see by.",
    "She counted the planks that had come down from the sawmill,\nand there were forty of them, lying across one another like",
    "straws that a child had let fall. Nobody could say who was the\nfirst to see the boat, which lay among the willows.",
]
TEXT = " ".join(PAGES).replace("\n", " ")


def joined(text: str) -> str:
    return " ".join(clean(text).split("\n\n"))


@pytest.mark.parametrize(
    "head",
    [
        lambda n: f"THE BOAT AND THE BELL\n\n{{}}\n\n{n}\n",
        lambda n: f"THE BOAT {n}\n\n{{}}\n\n" if n % 2 else f"{n} A. BERG\n\n{{}}\n\n",
        lambda n: f"{{}}\n\n- {n} -\n\n",
        lambda n: "The Boat\nChapter 3\n\n{}\n",
    ],
    ids=["head and number", "left and right", "number in dashes", "two lines"],
)
def test_running_heads_go_and_sentences_go_on_over_the_page(head) -> None:
    text = "\f".join(head(n).format(page) for n, page in enumerate(PAGES, start=11))
    assert joined(text) == TEXT
    assert normalise(normalise(text)) == normalise(text)


def test_a_line_that_recurs_inside_pages_stays() -> None:
    pages = [f"{page}\nNobody knew.\n{page}" for page in PAGES]
    assert normalise("\f".join(pages)).count("Nobody knew.") == 4


@pytest.mark.parametrize("form", ["- {} -", "[{}]", "Page {} of 30", "p. {}", "{}"])
def test_page_numbers_between_lines_go_where_they_ascend(form: str) -> None:
    text = "".join(f"{page}\n{page}\n\n{form.format(n)}\n\n" for n, page in enumerate(PAGES, start=11))
    assert not any(form.format(n) in unmark(text) for n in range(11, 15))
    assert form.format(12) in unmark(text.replace(form.format(13), form.format(90)))


def test_numbers_of_chapters_stay() -> None:
    text = "\n\n".join(f"{n}\n\n{TEXT}" for n in range(1, 8))
    assert unmark(text) == text


def test_numbers_of_lines_in_the_margin_go() -> None:
    lines = [f"The lamp is lit, the wick is low {letter}" for letter in "abcdefghijkl"]
    numbered = [f"{line}        {n}" if n % 5 == 0 else line for n, line in enumerate(lines, start=1)]
    assert unmark("\n".join(numbered)) == "\n".join(lines)
    table = "\n".join(f"apples     {n}" for n in (5, 7, 10, 20))
    assert unmark(table) == table


@pytest.mark.parametrize("hyphen", ["\u00ad", "\u2010", "\u00ac", "-"])
def test_words_broken_at_line_ends_are_joined(hyphen: str) -> None:
    text = (
        f"The river had risen in the night, and nobody in the whole vil{hyphen}\nlage, or near it, had slept for the noise "
        f"that it made under the\nbridge, and in the morning Anna went down to the mill with the lan{hyphen}\ntern in her hand."
    )
    assert clean(text) == text.replace(f"{hyphen}\n", "").replace("\n", " ")
