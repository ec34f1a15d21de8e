"""Loss weights of tokens, questions without loss, fixed rows."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm60_jax.config import Reweight
from llm60_jax.data.read.instructions import pairs
from llm60_jax.data.tokens import loader, weights
from llm60_jax.data.tokens.packing import FixedRows, StageRows
from llm60_jax.data.tokens.shards import TokenShard
from llm60_jax.data.tokens.tokenizer import BOS, EOS, PAD
from llm60_jax.plan import Stage

COUNTS = st.lists(st.integers(0, 10_000), min_size=3, max_size=40).filter(lambda counts: sum(counts) > 0)


def shard_of(documents, prompts=None):
    offsets = np.cumsum([0, *map(len, documents)])
    prompts = np.asarray(prompts if prompts is not None else [0] * len(documents), np.int32)
    return TokenShard(np.concatenate(documents).astype(np.uint16), offsets, np.ones(len(documents), np.int64), prompts)


def stage_of(steps, context, sequences):
    return Stage("p", 0, 0, steps, 0, context, 6, 0, sequences, 1, "full")


@settings(deadline=None)
@given(COUNTS, st.floats(0, 1), st.floats(0.1, 1))
def test_weights_have_mean_one_over_the_text_and_stay_within_bounds(counts, rarity, common):
    reweight = Reweight(rarity=rarity, common=common, bounds=(0.5, 2.0))
    pieces = [f"\u2581w{i}" if i % 3 else "," for i in range(len(counts))]
    counts = np.asarray(counts)
    table = weights.token_weights(counts, pieces, reweight)
    assert table.dtype == np.float32
    assert (counts * table).sum() / counts.sum() == pytest.approx(1, abs=1e-5)
    assert 0.5 <= table.min() <= table.max() <= 2.0
    content = [i for i in range(len(counts)) if i % 3]
    by_rarity = sorted(content, key=lambda i: counts[i])
    assert all(table[a] >= table[b] for a, b in itertools.pairwise(by_rarity))


def test_rare_tokens_weigh_more_and_common_words_less():
    pieces = ["\u2581the", "\u2581obelisk", "\u2581river", ",", ""]
    table = weights.token_weights(np.array([100, 1, 100, 100, 100]), pieces, Reweight(bounds=(0.1, 10)))
    the, obelisk, river, comma, control = table.tolist()
    assert the == comma < river == control < obelisk
    assert the / river == pytest.approx(0.7, rel=1e-6)
    assert obelisk / river == pytest.approx(100**0.15, rel=1e-6)


@pytest.mark.parametrize(
    ("piece", "common"),
    [("\u2581the", True), ("\u2581The", True), ("the", False), (".", True), ("\u2581(", True), ("\u2581theory", False),
     ("\u2581", True), ("\u25811945", False), ("<0x0A>", False)],
)  # fmt: skip
def test_common_are_punctuation_and_whole_function_words(piece, common):
    assert weights.is_common(piece) is common


def test_targets_are_counted_without_bos_and_questions():
    shard = shard_of([[BOS, 7, 8, 9, EOS], [BOS, 7, 7, EOS]], prompts=[2, 0])
    counts = weights.target_counts(shard, 10)
    assert {token: int(n) for token, n in enumerate(counts) if n} == {EOS: 2, 7: 2, 9: 1}


def test_the_weights_of_an_epoch_of_batches_average_one():
    rng = np.random.default_rng(0)
    shard = shard_of([[BOS, *rng.zipf(1.5, 30).clip(4, 59), EOS] for _ in range(32)])
    table = weights.token_weights(weights.target_counts(shard, 60), ["\u2581w"] * 60, Reweight(rarity=0.5))
    stage = stage_of(steps=16, context=64, sequences=1)
    plain, weighted = (
        np.concatenate([b["weights"].ravel() for b in loader.batches(shard, stage, 0, reading)])
        for reading in (loader.Reading(), loader.Reading(token_weights=table))
    )
    # 32 documents of 32 tokens in 16 rows of 64: every target occurs once, but for one at the end
    # of each row.
    assert weighted[plain > 0].mean() == pytest.approx(1, abs=0.01)
    assert not weighted[plain == 0].any()


def test_a_question_carries_no_loss_and_its_answer_does():
    shard = shard_of([[BOS, 10, 11, 12, 20, 21, EOS], [BOS, 30, 31, EOS]], prompts=[3, 0])
    epoch = StageRows(shard, 0, "p", 0, 1, 11)[0]
    scored = sorted(epoch["targets"][epoch["weights"] > 0].tolist())
    assert [token for token in scored if token in (10, 11, 12)] == []
    assert {20, 21, 30, 31} <= set(scored)


def test_a_question_split_between_two_rows_carries_no_loss_in_either():
    document = [BOS, *range(100, 110), 200, 201, EOS]
    shard = shard_of([document], prompts=[10])
    rows = [StageRows(shard, 0, "p", 0, 2, 7)[i] for i in range(2)]
    scored = [token for row in rows for token in row["targets"][row["weights"] > 0].tolist()]
    assert scored == [200, 201, EOS]


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"prompt": "Q", "response": "A"}, [("Q", "A")]),
        ({"instruction": "Do", "output": "Done"}, [("Do", "Done")]),
        ({"instruction": "Do", "input": "it", "output": "Done"}, [("Do\n\nit", "Done")]),
        ({"instruction": "Do", "instances": [{"input": "", "output": "A"}, {"input": "x", "output": "B"}]},
         [("Do", "A"), ("Do\n\nx", "B")]),
        ({"instruction": "Do", "input": None, "output": "Done"}, [("Do", "Done")]),
        ({"text": "prose"}, []),
        ({"prompt": 3, "response": "A"}, []),
        ({"prompt": "Q", "response": "  "}, []),
        ({"instruction": "Do", "instances": 5}, []),
        ({"instruction": None, "output": "A"}, []),
    ],
)  # fmt: skip
def test_instruction_records(record, expected):
    assert pairs(record) == expected


@given(st.lists(st.integers(2, 20), min_size=1, max_size=12), st.integers(1, 16), st.integers(1, 3))
def test_fixed_rows_are_the_same_in_every_epoch_and_lose_no_token(lengths, context, epochs):
    documents = [[BOS, *range(10, 8 + length), EOS] for length in lengths]
    shard = shard_of(documents)
    packed = -(-shard.token_count // context)
    rows = FixedRows(shard, 3, "p", 0, epochs * packed, context)
    assert rows.packed == packed
    for epoch in range(epochs):
        epoch_rows = [rows[epoch * packed + i] for i in range(packed)]
        assert sorted(int(row["row"]) for row in epoch_rows) == list(range(packed))
        inputs = sorted(t for row in epoch_rows for t in row["tokens"][row["segments"] > 0].tolist())
        assert inputs == sorted(t for document in documents for t in document)
        for row in epoch_rows:
            again = rows.row(int(row["row"]))
            assert all((again[name] == row[name]).all() for name in row)
            assert (row["tokens"][row["segments"] == 0] == PAD).all()
            assert not row["weights"][row["segments"] == 0].any()


def test_fixed_rows_come_in_another_order_in_each_epoch():
    rows = FixedRows(shard_of([[BOS, *range(10, 40), EOS]] * 20), 0, "p", 0, 40, 32)
    orders = [[int(rows[20 * epoch + i]["row"]) for i in range(20)] for epoch in range(2)]
    assert orders[0] != orders[1]


def test_without_a_document_mask_a_row_is_one_document():
    shard = shard_of([[BOS, 10, 11, EOS]] * 8)
    masked, open_ = (
        next(loader.batches(shard, stage_of(1, 16, 2), 0, loader.Reading(document_mask=mask))) for mask in (True, False)
    )
    assert masked["segments"].max() == 4
    assert (open_["segments"] == 1).all()
    assert (open_["tokens"] == masked["tokens"]).all()
