"""Near-duplicates: sketches, bounded memory, and many texts at once."""

import random
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm60_jax.data.clean import dedup
from llm60_jax.data.clean.dedup import Seen, Sketches, shingles, sketch_of

VOCABULARY = [f"w{number}" for number in range(3000)]


def words(seed: int, count: int) -> list[str]:
    return random.Random(seed).choices(VOCABULARY, k=count)


def sketch(text: str) -> np.ndarray:
    return sketch_of(shingles(text))


def contained(text: str, *before: str) -> bool:
    seen = Seen()
    for other in before:
        seen.add(sketch(other))
    return seen.contains(sketch(text))


def test_a_sketch_depends_on_words_only() -> None:
    text = " ".join(words(0, 400))
    assert np.array_equal(sketch(text), sketch("\n\n".join(f"{word.upper()}," for word in text.split())))
    assert len(sketch("five words are too few")) == 0
    size = len(sketch(text))
    assert size == pytest.approx(395 / dedup.SCALE, rel=0.5)
    assert np.all(np.diff(sketch(text).astype(object)) > 0)


def test_a_sketch_is_the_same_on_every_machine() -> None:
    text = (
        "It was the best of times, it was the worst of times, it was the age of wisdom, it was the age of foolishness"
    )
    assert sketch(text).tolist() == [
        3157323039439192328,
        10805015644643135264,
        14018942915898563568,
        15404731405245809856,
    ]


@pytest.mark.parametrize(("share", "expected"), [(1.0, True), (0.7, True), (0.3, False), (0.0, False)])
def test_half_a_text_seen_before_is_a_duplicate(share: float, expected: bool) -> None:
    old, new = words(1, 2000), words(2, 1000)
    cut = int(share * 1000)
    assert contained(" ".join(old[:cut] + new[cut:]), " ".join(old)) is expected


def test_a_short_text_inside_a_long_one_is_a_duplicate_and_the_long_one_is_not() -> None:
    long = words(3, 5000)
    short = long[2000:2300]
    assert contained(" ".join(short), " ".join(long))
    assert not contained(" ".join(long), " ".join(short))


def test_a_few_changed_words_do_not_hide_a_copy() -> None:
    old = words(4, 2000)
    edited = [word if number % 25 else "other" for number, word in enumerate(old)]
    assert contained(" ".join(edited), " ".join(old))


def test_a_very_short_text_is_no_near_duplicate() -> None:
    text = " ".join(words(5, 12))
    assert not contained(text, text)  # the digest of its text finds an exact copy


def test_memory_is_bounded_and_copies_are_still_found() -> None:
    seen = Seen(limit=1000)
    texts = [" ".join(words(seed, 1500)) for seed in range(30)]
    for text in texts:
        assert not seen.contains(sketch(text))
        seen.add(sketch(text))
        assert len(seen) <= 1000
    assert all(seen.contains(sketch(text)) for text in texts)


@given(st.lists(st.lists(st.integers(0, 60), max_size=12), max_size=30), st.sampled_from([8, 40, 10**6]))
def test_seen_equals_a_plain_set(texts: list[list[int]], limit: int) -> None:
    """The sketches have few different hashes and keep all of them up to the limit."""
    seen, plain, scale = Seen(limit), set[int](), dedup.SCALE
    for text in texts:
        hashes = np.unique(np.array(text, np.uint64) * np.uint64(dedup.SCALE))
        sample = [value for value in hashes.tolist() if value % scale == 0]
        expected = len(sample) >= 4 and 2 * sum(value in plain for value in sample) >= len(sample)
        assert seen.contains(hashes) == expected
        seen.add(hashes)
        plain.update(sample)
        while len(plain) > limit:
            scale *= 2
            plain = {value for value in plain if value % scale == 0}
        assert len(seen) == len(plain)


SIZES = st.lists(st.integers(0, 40), min_size=1, max_size=8)


@given(SIZES, SIZES, st.integers(0, 99))
def test_many_at_once_equals_one_by_one(sizes: list[int], others: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)

    def random_sketches(counts: list[int]) -> list[np.ndarray]:
        return [np.unique(rng.integers(0, 90, count, np.uint64)) for count in counts]

    def packed(sketches: list[np.ndarray]) -> Sketches:
        hashes = np.concatenate([np.empty(0, np.uint64), *sketches])
        return Sketches(hashes, np.array([len(sketch) for sketch in sketches], np.int64))

    ours, theirs = random_sketches(sizes), random_sketches(others)
    union = np.concatenate([np.empty(0, np.uint64), *theirs])
    everything = np.concatenate(ours)
    expected = [
        (len(our) >= 4 and 2 * np.isin(our, union).sum() >= len(our))
        or any(
            len(other) >= 4
            and 2 * np.isin(other, everything).sum() >= len(other)
            and 2 * np.isin(other, our).sum() >= len(other)
            for other in theirs
        )
        for our in ours
    ]
    with mock.patch.object(dedup, "BLOCK_HASHES", 7):  # blocks end inside texts
        assert packed(ours).like(packed(theirs)).tolist() == expected
    which = rng.random(len(ours)) < 0.5
    expected_part = packed([our for our, selected in zip(ours, which, strict=True) if selected])
    part = packed(ours).chosen(which)
    assert part.hashes.tolist() == expected_part.hashes.tolist()
    assert part.sizes.tolist() == expected_part.sizes.tolist()
