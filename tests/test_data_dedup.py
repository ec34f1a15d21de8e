"""Near-duplicates: sketches, memory, and what leaves which phase."""

import random
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm60_jax.data.clean import dedup
from llm60_jax.data.clean.dedup import Seen, Sketches, sketch

VOCABULARY = [f"w{number}" for number in range(3000)]


def words(seed: int, count: int) -> list[str]:
    return random.Random(seed).choices(VOCABULARY, k=count)


def contained(text: str, *before: str) -> bool:
    seen = Seen()
    for other in before:
        seen.add(sketch(other))
    return seen.contains(sketch(text))


def test_a_sketch_looks_at_words_alone() -> None:
    text = " ".join(words(0, 400))
    assert np.array_equal(sketch(text), sketch("\n\n".join(f"{word.upper()}," for word in text.split())))
    assert len(sketch("five words are too few")) == 0
    size = len(sketch(text))
    assert size == pytest.approx(395 / dedup.SCALE, rel=0.5)
    assert np.all(np.diff(sketch(text).astype(object)) > 0)


def test_the_same_sketch_on_every_machine() -> None:
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


def test_a_short_text_inside_a_long_one_is_found_and_not_the_other_way_round() -> None:
    long = words(3, 5000)
    short = long[2000:2300]
    assert contained(" ".join(short), " ".join(long))
    assert not contained(" ".join(long), " ".join(short))


def test_changed_words_here_and_there_do_not_hide_a_copy() -> None:
    old = words(4, 2000)
    edited = [word if number % 25 else "other" for number, word in enumerate(old)]
    assert contained(" ".join(edited), " ".join(old))


def test_too_little_evidence_is_none() -> None:
    text = " ".join(words(5, 12))
    assert not contained(text, text)  # the digest of the whole finds exact copies


def test_memory_is_bounded_and_copies_are_found_all_the_same() -> None:
    seen = Seen(limit=1000)
    texts = [" ".join(words(seed, 1500)) for seed in range(30)]
    for text in texts:
        assert not seen.contains(sketch(text))
        seen.add(sketch(text))
        assert len(seen) <= 1000
    assert all(seen.contains(sketch(text)) for text in texts)


@given(st.lists(st.lists(st.integers(0, 60), max_size=12), max_size=30), st.sampled_from([8, 40, 10**6]))
def test_what_was_seen_is_what_a_plain_set_holds(texts: list[list[int]], limit: int) -> None:
    """Sketches of few different hashes, all of them kept until the limit."""
    seen, plain, scale = Seen(limit), set[int](), dedup.SCALE
    for text in texts:
        hashes = np.unique(np.array(text, np.uint64) * np.uint64(dedup.SCALE))
        kept = [value for value in hashes.tolist() if value % scale == 0]
        expected = len(kept) >= 4 and 2 * sum(value in plain for value in kept) >= len(kept)
        assert seen.contains(hashes) == expected
        seen.add(hashes)
        plain.update(kept)
        while len(plain) > limit:
            scale *= 2
            plain = {value for value in plain if value % scale == 0}
        assert len(seen) == len(plain)


SIZES = st.lists(st.integers(0, 40), min_size=1, max_size=8)


@given(SIZES, SIZES, st.integers(0, 99))
def test_many_at_once_equals_one_by_one(sizes: list[int], others: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)

    def some(counts: list[int]) -> list[np.ndarray]:
        return [np.unique(rng.integers(0, 90, count, np.uint64)) for count in counts]

    def packed(each: list[np.ndarray]) -> Sketches:
        return Sketches(np.concatenate([np.empty(0, np.uint64), *each]), np.array([len(one) for one in each], np.int64))

    ours, theirs = some(sizes), some(others)
    union = np.concatenate([np.empty(0, np.uint64), *theirs])
    everything = np.concatenate(ours)
    expected = [
        (len(one) >= 4 and 2 * np.isin(one, union).sum() >= len(one))
        or any(
            len(other) >= 4
            and 2 * np.isin(other, everything).sum() >= len(other)
            and 2 * np.isin(other, one).sum() >= len(other)
            for other in theirs
        )
        for one in ours
    ]
    with mock.patch.object(dedup, "_BLOCK", 7):  # the block borders lie inside texts
        assert packed(ours).like(packed(theirs)).tolist() == expected
    which = rng.random(len(ours)) < 0.5
    left = packed([one for one, mine in zip(ours, which, strict=True) if mine])
    found = packed(ours).chosen(which)
    assert found.hashes.tolist() == left.hashes.tolist()
    assert found.sizes.tolist() == left.sizes.tolist()
