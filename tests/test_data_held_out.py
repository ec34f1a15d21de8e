"""What is held out for validation: shares, whole documents, parts of documents."""

import itertools
import random

import pytest
from conftest import WORDS
from hypothesis import given, settings
from hypothesis import strategies as st

from llm60_jax.data.corpus import held_out
from llm60_jax.data.corpus.held_out import Text


def prose(seed: int, words: int) -> str:
    """Return paragraphs of made-up sentences that no other seed repeats."""
    pick = random.Random(seed)
    made = [f"{pick.choice(WORDS)}{pick.randrange(1000)}" for _ in range(words)]
    sentences = [" ".join(made[at : at + 12]).capitalize() + "." for at in range(0, words, 12)]
    return "\n\n".join(" ".join(sentences[at : at + 5]) for at in range(0, len(sentences), 5))


@pytest.mark.parametrize(
    ("characters", "share"),
    [
        (4_000, 0.25),
        (10_000, 0.1),
        (65_000, 0.1),
        (200_000, 0.1),
        (400_000, 0.05),
        (1_000_000, 0.05),
        (10_000_000, 0.02),
        (10**9, 0.02),
    ],
)
def test_the_share_falls_from_a_tenth_to_two_percent(characters: int, share: float) -> None:
    assert held_out.target(characters) == share * characters


def test_the_target_never_falls_when_text_is_added() -> None:
    targets = [held_out.target(characters) for characters in range(0, 20_000_000, 9_973)]
    assert targets == sorted(targets)


def test_a_large_phase_holds_out_the_smallest_ids_with_enough_documents_and_characters() -> None:
    short = {f"{number:04}": 1 for number in range(30)}
    long = {f"{number:04}": 100_000 for number in range(30, 100)}
    chosen = held_out.documents(short | long)
    assert chosen == set(sorted(short | long)[:32])  # 200,000 characters: 5 % of seven million would be more
    few = {f"{number:05}": 1 for number in range(2000)}
    assert len(held_out.documents(few)) == max(40, held_out.target(2000))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(20, 2500), min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_parts_lose_nothing_and_hold_out_a_tenth(sizes: list[int], shuffle: random.Random) -> None:
    texts = [Text(prose(seed, words), "") for seed, words in enumerate(sizes)]
    cut = held_out.parts(texts)
    for text, parts in zip(texts, cut, strict=True):
        assert "".join("".join(part.text for part in parts).split()) == "".join(text.text.split())
        assert all(part.text == part.text.strip() for part in parts)
        trained = [not part.is_held_out for part in parts]
        assert not any(a and b for a, b in itertools.pairwise(trained))  # neighbours are joined
    whole = sum(len(text.text) for text in texts)
    out = {part.text for parts in cut for part in parts if part.is_held_out}
    if whole >= 12_000:
        assert 0.05 * whole <= sum(map(len, out)) <= 0.1 * whole
    shuffle.shuffle(texts)
    assert {part.text for parts in held_out.parts(texts) for part in parts if part.is_held_out} == out


def test_an_answer_stays_whole_with_its_question() -> None:
    texts = [Text(prose(seed, 400), "Why?" if seed % 2 else "") for seed in range(12)]
    for text, parts in zip(texts, held_out.parts(texts), strict=True):
        if text.prompt:
            assert [part.text for part in parts] == [text.text]


@pytest.mark.parametrize("sizes", [[1800] * 3, [900] * 5, [700, 2000], [600] * 40])
def test_a_few_long_answers_hold_out_one_of_them(sizes: list[int]) -> None:
    texts = [Text(prose(seed, words), "Why?") for seed, words in enumerate(sizes)]
    out = [part.text for parts in held_out.parts(texts) for part in parts if part.is_held_out]
    whole = sum(len(text.text) for text in texts)
    assert 1 <= len(out) < len(texts)
    assert sum(map(len, out)) <= max(held_out.target(whole), min(len(text.text) for text in texts))


def test_a_heading_alone_is_not_held_out() -> None:
    days = [f"What did I learn?\n\n{prose(seed, 30)}" for seed in range(120)]
    (parts,) = held_out.parts([Text("\n\n".join(days), "")])
    assert min(len(part.text) for part in parts if part.is_held_out) >= 200


def test_the_only_answer_is_not_held_out() -> None:
    ((part,),) = held_out.parts([Text(prose(1, 900), "Why?")])
    assert not part.is_held_out


def test_what_another_text_repeats_is_not_held_out() -> None:
    refrain = prose(1, 300)
    texts = [Text(f"{prose(seed, 200)}\n\n{refrain}", "") for seed in range(2, 14)]
    for parts in held_out.parts(texts):
        assert not any(part.is_held_out and part.text in refrain for part in parts)


def test_too_little_text_is_named_with_both_figures() -> None:
    message = held_out.problem("fine_tune", 2_000, 500)
    assert message.startswith("phase.fine_tune.sources: 2,000 characters of distinct text")
    assert "4,000 are needed" in message
    assert "add 2,000 characters (about 364 words)" in message
    assert held_out.problem("fine_tune", 4_000, 1_000) == ""
    assert "occurs twice" in held_out.problem("fine_tune", 20_000, 0)
