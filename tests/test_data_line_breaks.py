"""Line breaks, judged block by block: which are joined and which stay."""

# ruff: noqa: E501

import random
import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm60_jax.data.clean.cleaning import clean

SEEDS = st.integers(0, 2**32)
WORDS = (
    "the of and to in that it was he for his with as not had at on her by she but they you which have this from all "
    "him were so we an are when river lantern schoolmaster remembered bridge willows morning ferryman question nothing "
    "grandmother oars village mill silence though"
).split()


def sentence(rng: random.Random) -> str:
    words = rng.choices(WORDS, k=rng.randint(4, 25))
    return " ".join(words).capitalize() + rng.choice(".?!")


def paragraph(rng: random.Random) -> str:
    return " ".join(sentence(rng) for _ in range(rng.randint(1, 8)))


def stanza(rng: random.Random) -> str:
    lines = (" ".join(rng.choices(WORDS[:30], k=rng.randint(5, 8))).capitalize() for _ in range(rng.choice((4, 6, 8))))
    return "\n".join(line + rng.choice((",", ";", "")) for line in lines)


def wrapped(text: str, width: int, indent: str = "") -> str:
    return textwrap.fill(text, width, initial_indent=indent, break_long_words=False, break_on_hyphens=False)


@given(SEEDS.map(random.Random), st.integers(40, 140))
def test_paragraphs_wrapped_at_any_width_come_back(rng: random.Random, width: int) -> None:
    texts = [paragraph(rng) for _ in range(rng.randint(4, 10))]
    lines = [wrapped(text, width) for text in texts]
    forms = {
        "blank lines": "\n\n".join(lines),
        "indents": "\n".join(wrapped(text, width, "    ") for text in texts),
        "double spacing": "\n\n\n\n".join(text.replace("\n", "\n\n") for text in lines),
        "two carriage returns": "\n\n".join(lines).replace("\n", "\r\r\n"),
        "a margin": textwrap.indent("\n\n".join(lines), "     "),
        "one line each": "\n\n".join(texts),
    }
    for name, text in forms.items():
        assert clean(text).split("\n\n") == texts, name


@given(SEEDS.map(random.Random))
def test_verse_keeps_its_lines(rng: random.Random) -> None:
    stanzas = [stanza(rng) for _ in range(6)]
    assert clean("\n\n".join(stanzas)).split("\n\n") == stanzas


@given(SEEDS.map(random.Random), st.integers(66, 110))
def test_verse_among_wrapped_prose_keeps_its_lines(rng: random.Random, width: int) -> None:
    prose = [" ".join(sentence(rng) for _ in range(12)) for _ in range(4)]
    texts = [*prose[:2], *(stanza(rng) for _ in range(8)), *prose[2:]]
    text = "\n\n".join(part if "\n" in part else wrapped(part, width) for part in texts)
    assert clean(text).split("\n\n") == texts


@given(SEEDS.map(random.Random), st.sampled_from(("\n", "\n\n")))
def test_one_line_a_paragraph_stays(rng: random.Random, between: str) -> None:
    texts = [" ".join(sentence(rng) for _ in range(rng.randint(2, 30))) for _ in range(8)]
    assert clean(between.join(texts)).split("\n\n") == texts


def test_the_last_line_does_not_decide_for_a_short_block() -> None:
    long = wrapped(" ".join(f"word{i} and then some of the others" for i in range(12)) + ".", 60)
    short = "He had not been there for longer than it takes to drink\ntea with the Duke."
    assert clean(f"{long}\n\n{short}").endswith("to drink tea with the Duke.")


def test_a_mail_of_two_lines_is_joined() -> None:
    mail = "Hi Tom,\n\nI wanted to let you know that the meeting has been moved to\nThursday at ten.\n\nBest,\nAnna"
    assert clean(mail).split("\n\n") == [
        "Hi Tom,",
        "I wanted to let you know that the meeting has been moved to Thursday at ten.",
        "Best,\nAnna",
    ]


def test_modern_verse_in_lower_case_keeps_its_lines() -> None:
    poem = "i left the lamp in the hall\nfor you, who never\ncame by that road again,\nor by any"
    prose = wrapped(" ".join(f"word{i} and then some of the others" for i in range(24)) + ".", 76)
    assert poem in clean(f"{prose}\n\n{poem}\n\n{prose}")


def test_one_sentence_a_line_becomes_paragraphs() -> None:
    first = ["The river had risen in the night, and nobody in the village had slept.", "Anna went down to the mill."]
    second = ["It lay on its side among the willows, painted green.", "Nobody could say whose it was, or had been."]
    text = "\n".join(first) + "\n\n" + "\n".join(second)
    assert clean(text) == " ".join(first) + "\n\n" + " ".join(second)


LONG = "The river had risen in the night, and nobody in the village had\nslept for the noise that it made under the bridge."
JOINED = LONG.replace("\n", " ")


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        (f"# The Boat\n{LONG}", f"The Boat\n\n{JOINED}"),
        (f"The Boat\n--------\n{LONG}", f"The Boat\n\n{JOINED}"),
        (f"{LONG}\n* * *\n{LONG}", f"{JOINED}\n\n{JOINED}"),
        (f"{LONG}\n- the boat, which was\n  green\n- the oars", f"{JOINED}\n\n- the boat, which was green\n- the oars"),
        (f"1. {LONG}\n2. the oars", f"1. {JOINED}\n2. the oars"),
        ("| a | b |\n|---|---|\n| c | d |", "a, b\nc, d"),
        (f"{LONG}\n\n```\nx = a*b*c\n\nreturn x\n```\n\n{LONG}", f"{JOINED}\n\nx = a*b*c\nreturn x\n\n{JOINED}"),
        (
            "The mill stands where it stood, and the man who keeps it has\n- so they say - not spoken for as long as I\nhave known him.",
            "The mill stands where it stood, and the man who keeps it has - so they say - not spoken for as long as I have "
            "known him.",
        ),
    ],
)
def test_headings_items_rows_and_code_are_not_joined_with_their_neighbours(text: str, cleaned: str) -> None:
    assert clean(text) == cleaned


def test_the_text_of_readers_passes_unharmed() -> None:
    text = "\n\n".join(
        [
            "The Boat",
            JOINED * 3,
            "And who would sit where no winds blow,\nand who would try the boat?",
            "- the boat\n- the oars, which were worth more than all of the rest of it together\n- the rope",
            "Kind regards,\nAnna",
            JOINED * 4,
        ]
    )
    assert clean(text) == text


@pytest.mark.slow
def test_hostile_lines_take_linear_time() -> None:
    for unit in (
        "a\n\n",
        "a a\n",
        "- a\n",
        "1. a\n",
        "|\n",
        "| a |\n",
        "=\n",
        "---\n",
        "# a\n",
        "a;\n",
        "a  5\n",
        "12\n",
    ):
        clean(unit * (200_000 // len(unit)))
