"""Vocabulary, slips and loops of a text, rare words, and the cloze pairs made from them."""

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm60_jax.evaluate import prose, rare_words, words


def test_hdd_is_the_mean_over_all_samples():
    """By definition: count the distinct words of every possible sample, for a short text and a small sample."""
    text = "a b a c d a b e".split()
    samples = list(itertools.combinations(text, 4))
    expected = sum(len(set(sample)) for sample in samples) / len(samples) / 4
    assert prose.hdd(text, sample=4) == pytest.approx(expected)
    assert prose.hdd(["x"] * 41) == 0.0
    assert prose.hdd([str(n) for n in range(100)]) == pytest.approx(1.0)


def test_mtld_by_hand():
    # a b a a: 2 types in 4 words fall to 0.5, at the third word to 0.67: a factor is complete after 3 words.
    assert prose.mtld_one_way("a b a".split()) == 3.0
    assert prose.mtld_one_way("a b a a b a".split()) == 3.0
    # after one factor, the rest "c d" has only distinct words and counts (1 - 1) / 0.28 = 0
    assert prose.mtld_one_way("a b a c d".split()) == 5.0
    assert prose.mtld("too short".split()) == 0.0


@given(st.integers(0, 1000))
def test_vocabulary_does_not_depend_on_length(seed):
    rng = random.Random(seed)
    drawn = [str(int(rng.paretovariate(0.9))) for _ in range(6000)]
    short, long = prose.hdd(drawn[:1500]), prose.hdd(drawn)
    assert abs(short - long) < 0.06


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("He saw the the dog.", 1),
        ("He had had enough of that that he knew, very very much.", 0),
        ("The dog. The cat. It was his. His was it.", 0),
        ("The The end", 1),
        ("It is is's turn", 0),
    ],
)
def test_doubled_words(text, count):
    assert prose.doubled(text) == count


@pytest.mark.parametrize("good", ["an hour", "a house", "a one", "a European", "a unit", "an uncle", "an unusual day",
                                  "a university", "an honest man", "a useful thing", "an egg", "a ewe", "an FBI man",
                                  "an unimportant man", "a once great man", "an heir", "a unanimous vote"])  # fmt: skip
def test_articles(good):
    article, rest = good.split(" ", 1)
    assert prose.wrong_articles(good) == 0
    if not rest.split()[0].isupper():
        assert prose.wrong_articles(f"{'a' if article == 'an' else 'an'} {rest}") == 1


def test_quotes_and_ends():
    assert prose.unclosed('He said "no')
    assert not prose.unclosed('He said "no" and "yes"')
    assert prose.unclosed("\u201cOpen, and never closed")
    found = prose.measure(
        [("It ends.\nIt does not\n\u201cIt does!\u201d", False)], {"it", "ends", "does", "not"}, set()
    )
    assert found.unfinished_sentences == pytest.approx(1000 / 7)


def test_a_text_that_was_cut_off_ends_with_its_last_sentence():
    text = 'One sentence is whole. "Two," he said. And the third is n'
    found = prose.measure([(text, True)], set(prose.words(text)), set())
    assert (found.words, found.unfinished_sentences, found.unclosed_quotes) == (7, 0, 0)


def test_loops():
    assert prose.looped("he went and he went and he went and he slept".split()) == 10  # "he" begins a fourth
    assert prose.looped("no no no yes".split()) == 3
    assert prose.looped("he went and he went and she slept".split()) == 0


@given(st.lists(st.sampled_from("abc"), max_size=40))
def test_loops_are_those_of_a_slow_search(tokens):
    slow = set()
    for length in range(1, 9):
        for start in range(len(tokens) - 3 * length + 1):
            first, second, third = (tokens[start + i * length : start + (i + 1) * length] for i in range(3))
            if first == second == third:
                slow |= set(range(start, start + 3 * length))
    assert prose.looped(tokens) == len(slow)


def test_invented_and_rare():
    found = prose.measure([("the cat ate the glorb", False)], {"the", "cat", "ate"}, {"ate"})
    assert found.invented_words == pytest.approx(200)
    assert found.rare_types == pytest.approx(1 / 4)


def test_rare_words_make_up_three_per_cent():
    counts = {"the": 900, "dog": 75, "cur": 15, "whelp": 10}
    assert words.of(counts).rare == {"whelp", "cur"}
    assert words.of(counts | {"whelp": 20}).rare == {"whelp"}
    assert words.of({}).rare == frozenset()


def test_cloze_pairs_are_matched():
    rng = random.Random(0)
    nouns = [f"{a}{b}{c}ing" for a in "bcdfg" for b in "aeiou" for c in "lmnrst"]
    counts = dict.fromkeys(["the", "old", "man", "was", "and", "slow", "here"], 10_000)
    counts |= {noun: rng.randint(2, 9) for noun in nouns}
    counts = dict(sorted(counts.items(), key=lambda pair: -pair[1]))
    counted = words.of(counts)
    texts = [f"The old man was {noun} and slow here." for noun in nouns]
    pairs = rare_words.pairs(texts, counted, 50)
    assert len(pairs) == 50
    assert pairs == rare_words.pairs(texts, counted, 50)
    for pair in pairs:
        good, bad = (sentence.split()[4] for sentence in (pair.good, pair.bad))
        assert pair.good.replace(good, bad) == pair.bad
        assert good != bad
        assert {good, bad} <= counted.rare
        assert rare_words._kind(good, counts[good]) == rare_words._kind(bad, counts[bad])
        assert max(counts[good], counts[bad]) < 2 * min(counts[good], counts[bad])
    assert len({pair.good for pair in pairs}) == 50
    assert not rare_words.pairs(["The Glorbing man was old and slow here."], counted, 5)


def test_words_are_counted_once_and_then_cached(tmp_path, texts, tiny):
    from llm60_jax.data import prepare

    corpora = prepare.prepare_text(tiny, lambda items, *rest: items, {})
    found = words.prepare(corpora, tmp_path, lambda items, *rest: items)
    slow = {}
    for corpus in corpora.values():
        for record in corpus.read("train"):
            for word in prose.words(record["text"]):
                slow[word] = slow.get(word, 0) + 1
    assert found.counts == slow
    assert list(found.counts.values()) == sorted(slow.values(), reverse=True)

    def never(items, *rest):
        raise AssertionError("counted again")

    assert words.prepare(corpora, tmp_path, never) == found
