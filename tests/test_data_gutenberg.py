"""Project Gutenberg's frames: every book's text survives, and nothing of the frames does."""

# ruff: noqa: E501

import random
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm60_jax.data.clean import cleaning, gutenberg

LICENCE = "\n\n".join(
    [
        "Updated editions will replace the previous one--the old editions will be renamed.",
        "START: FULL LICENSE",
        "By reading any part of this Project Gutenberg-tm electronic work, you agree to the terms of the license.",
        "LIMITED WARRANTY. You agree that the Foundation has no liability to you for damages of any kind.",
        "This Web site tells how to subscribe to our email newsletter to hear about new eBooks.",
    ]
)
SMALL_PRINT = (
    "***START**THE SMALL PRINT!**FOR PUBLIC DOMAIN ETEXTS**START***\n"
    'Why is this "Small Print!" statement here? You know: lawyers.\n\nPlease do not remove this.\n\n'
    "*END*THE SMALL PRINT! FOR PUBLIC DOMAIN ETEXTS*Ver.04.29.93*END*"
)
CREDITS = [
    "Produced by A. Berg and the Online Distributed\nProofreading Team",
    "E-text prepared by A. Berg",
    "This etext was produced from the 1908 Lane edition by A. Berg",
    "This file was produced from images generously made available",
    "Further corrections by A. Berg",
    "Note: Project Gutenberg also has an HTML version of this\n      file which includes the original illustrations.\n"
    "      See 12345-h.htm or 12345-h.zip",
    "Transcribed from the 1891 edition by A. Berg",
]
NOISE = ("gutenberg", "etext", "ebook", "small print", "berg", "images", "foundation", "newsletter")


def body(rng: random.Random) -> str:
    words = "the river had risen in night and nobody village slept for noise under bridge".split()
    lines = (" ".join(rng.choices(words, k=11)).capitalize() + "." for _ in range(rng.randint(4, 60)))
    return "\n\n".join(lines)


def framed(rng: random.Random, text: str) -> str:
    """Return a book in the frame of a random year."""
    credit = "".join(f"\n\n{part}" for part in rng.sample(CREDITS, rng.randint(0, 2)))
    by = f"The River, by A. Nobody, number {rng.randint(1, 99)}"
    return rng.choice(
        [
            f"The Project Gutenberg EBook of {by}\n\nThis eBook is for the use of anyone.\n\n"
            f"*** START OF THIS PROJECT GUTENBERG EBOOK THE RIVER ***{credit}\n\n{text}\n\n"
            f"End of Project Gutenberg's {by}\n\n*** END OF THIS PROJECT GUTENBERG EBOOK THE RIVER ***\n\n{LICENCE}",
            f"The Project Gutenberg eBook of {by}\n\n*** START OF THE PROJECT GUTENBERG EBOOK THE RIVER ***{credit}\n\n"
            f"{text}\n\n*** END OF THE PROJECT GUTENBERG EBOOK THE RIVER ***\n{LICENCE}",
            f"**The Project Gutenberg Etext of {by}**\n\nCopyright laws are changing all over the world.\n\n{SMALL_PRINT}"
            f"{credit}\n\n{text}\n\nEnd of The Project Gutenberg Etext of {by}",
            f"*** START OF THE PROJECT GUTENBERG EBOOK, THE RIVER ***{credit}\n\n{text}\n\n"
            f"*** END OF THE PROJECT GUTENBERG EBOOK, THE RIVER ***\n\nMore information about this book is at the top of "
            f"this file. We are now releasing all our eBooks one year in advance.\n\n{SMALL_PRINT}",
            f"{text}\n\nEnd of the Project Gutenberg Etext of {by}\n\n**The Project Gutenberg Etext of {by}**\n\n{SMALL_PRINT}",
            f"The Project Gutenberg EBook of {by}\n\n*** START OF THIS PROJECT GUTENBERG EBOOK THE RIVER ***{credit}\n\n"
            f"{text}",  # the end is missing
        ]
    )


@given(st.integers(0, 2**32), st.integers(1, 6))
def test_every_book_of_a_file_survives_whole_and_no_licence_does(seed: int, count: int) -> None:
    rng = random.Random(seed)
    books = [body(rng) for _ in range(count)]
    text = "\n\n\n".join(framed(rng, book) for book in books)
    kept, removed = gutenberg.strip(cleaning.normalise(text))
    assert re.split(r"\n{2,}", kept) == "\n\n".join(books).split("\n\n")
    assert not any(word in kept.lower() for word in NOISE)
    assert "".join(kept.split()) not in "".join(removed)


def test_the_end_of_a_part_ends_no_book() -> None:
    first, second = body(random.Random(1)) * 9, body(random.Random(2)) * 9
    text = framed(random.Random(3), f"{first}\n\nEnd of this Etext of the First Part\n\n{second}")
    kept, _ = gutenberg.strip(text)
    assert kept == f"{first}\n\n{second}"


@pytest.mark.parametrize("cut", [0, 85, 140, 300])
def test_a_part_of_a_file_may_begin_in_a_licence(cut: int) -> None:
    rng = random.Random(4)
    book = body(rng)
    whole = (
        f"{LICENCE}\n\nThe Project Gutenberg EBook of A Walk, by B\n\n*** START OF THE PROJECT GUTENBERG EBOOK A ***"
    )
    kept, _ = gutenberg.strip(f"{whole[cut:]}\n\n{book}\n\n")
    assert kept.strip() == book


def test_other_text_below_a_licence_stays() -> None:
    mine = "I wrote this myself.\n\nIt is not a licence."
    kept, _ = gutenberg.strip(f"{framed(random.Random(0), 'It rained.')}\n\n{LICENCE}\n\n{mine}")
    assert kept.endswith(mine)


def test_books_of_the_shared_corpus_survive_in_one_file() -> None:
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    files = sorted(folder.glob("phase[23]/pg*.txt"))
    if not files:
        pytest.skip("needs the shared corpus")
    texts = [cleaning.normalise(path.read_bytes().decode("utf-8-sig", errors="replace")) for path in files]
    alone = [gutenberg.strip(text)[0] for text in texts]
    assert all(len(book) > 0.88 * len(text) for book, text in zip(alone, texts, strict=True))
    assert gutenberg.strip("\n\n".join(reversed(texts)))[0] == "\n\n".join(reversed(alone))
