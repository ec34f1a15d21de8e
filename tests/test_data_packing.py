"""Packed rows equal a reference that concatenates all documents."""

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm60_jax.data.tokens.packing import StageRows, _splitmix64, document_order, validation_rows
from llm60_jax.data.tokens.shards import TokenShard
from llm60_jax.data.tokens.tokenizer import BOS, EOS, PAD

LENGTHS = st.lists(st.integers(2, 30), min_size=1, max_size=12)


def shard_of(lengths: list[int]) -> TokenShard:
    """Return documents whose inner tokens all differ (from 4 up), between BOS and EOS."""
    inner = iter(range(4, 65_536))
    documents = [[BOS, *(next(inner) for _ in range(length - 2)), EOS] for length in lengths]
    tokens = np.array([token for document in documents for token in document], np.uint16)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return TokenShard(tokens, offsets, np.array(lengths, np.int64) * 3, np.zeros(len(lengths), np.int64))


def reference(shard: TokenShard, seed: int, phase: str, start: int, context: int) -> dict[str, list[Any]]:
    """Return one row, from a stream of (token, document number in the stream)."""
    stream: list[tuple[int, int]] = []
    epoch = number = 0
    while len(stream) < start + context + 1:
        for document in document_order(shard.documents, seed, phase, epoch):
            number += 1
            span = shard.tokens[shard.offsets[document] : shard.offsets[document + 1]]
            stream += [(int(token), number) for token in span]
        epoch += 1
    inputs, following = stream[start : start + context], stream[start + 1 : start + context + 1]
    return {
        "tokens": [token for token, _ in inputs],
        "targets": [token for token, _ in following],
        "segments": [owner - inputs[0][1] + 1 for _, owner in inputs],
        "weights": [float(a[1] == b[1]) for a, b in zip(inputs, following, strict=True)],
    }


@given(LENGTHS, st.integers(1, 40), st.integers(0, 300), st.integers(0, 3))
def test_rows_equal_the_reference(lengths: list[int], context: int, start: int, seed: int) -> None:
    shard = shard_of(lengths)
    rows = StageRows(shard, seed, "p", start, 3, context)
    assert len(rows) == 3
    for index in (2, 0, 1):
        row = rows[index]
        expected = reference(shard, seed, "p", start + index * context, context)
        assert {name: array.tolist() for name, array in row.items()} == expected
        assert {name: (array.dtype.name, array.shape) for name, array in row.items()} == {
            "tokens": ("int32", (context,)),
            "targets": ("int32", (context,)),
            "segments": ("int32", (context,)),
            "weights": ("float32", (context,)),
        }


@given(LENGTHS, st.integers(1, 3))
def test_stages_with_growing_contexts_read_every_token_once(lengths: list[int], epochs: int) -> None:
    shard = shard_of(lengths)
    total = epochs * shard.token_count
    spans, start = [], 0
    for context in (3, 5, 1):  # the last context reads the rest
        rows = (total // 3 if context > 1 else total - start) // context
        spans.append(StageRows(shard, 7, "p", start, rows, context))
        start += rows * context
    assert start == total
    inputs = np.concatenate([stage[i]["tokens"] for stage in spans for i in range(len(stage))])
    learnt = [row["targets"][row["weights"] > 0] for stage in spans for row in (stage[i] for i in range(len(stage)))]
    assert sorted(inputs.tolist()) == sorted(np.tile(shard.tokens, epochs).tolist())
    # Every token but BOS is a target exactly once an epoch.
    assert sorted(np.concatenate(learnt).tolist()) == sorted(t for t in shard.tokens.tolist() * epochs if t != BOS)


def test_every_epoch_is_another_permutation() -> None:
    orders = [document_order(1000, seed, phase, e) for seed in (0, 1) for phase in ("a", "b") for e in (0, 1)]
    assert all(sorted(order.tolist()) == list(range(1000)) for order in orders)
    assert len({tuple(order.tolist()) for order in orders}) == len(orders)
    moved = np.mean([np.abs(order - np.arange(1000)).mean() for order in orders])
    assert 300 < moved < 370  # a random permutation moves a document by a third of the length


def test_the_order_of_documents_is_fixed_for_all_time() -> None:
    # The published first outputs of SplitMix64 from state 0.
    assert _splitmix64(0, 3).tolist() == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    assert document_order(10, 0, "grammar", 0).tolist() == [0, 4, 8, 7, 2, 5, 6, 3, 1, 9], (
        "with another order, a resumed run would not read the text that it planned"
    )


def test_same_seed_same_rows_other_seed_other_rows() -> None:
    shard = shard_of([7] * 50)

    def inputs(seed: int, phase: str) -> list[int]:
        return StageRows(shard, seed, phase, 0, 1, 350)[0]["tokens"].tolist()

    assert inputs(1, "a") == inputs(1, "a")
    assert len({tuple(inputs(1, "a")), tuple(inputs(2, "a")), tuple(inputs(1, "b"))}) == 3


def test_rows_outside_the_stage_are_an_index_error() -> None:
    rows = StageRows(shard_of([5, 5]), 0, "p", 0, 2, 4)
    for index in (-1, 2):
        with pytest.raises(IndexError, match="of a stage with 2 rows"):
            rows[index]
    assert rows[np.int64(1)]["tokens"].shape == (4,)


def test_repr_tells_rows_apart() -> None:
    shard = shard_of([5, 5])
    shown = {repr(StageRows(shard, *given)) for given in [(0, "p", 0, 2, 4), (1, "p", 0, 2, 4), (0, "p", 8, 2, 4)]}
    assert len(shown) == 3
    assert not any("0x" in text for text in shown)


def test_threads_read_the_same_rows() -> None:
    shard = shard_of([2 + number % 29 for number in range(400)])
    expected = [StageRows(shard, 3, "p", 0, 200, 64)[i]["tokens"].tolist() for i in range(200)]
    rows = StageRows(shard, 3, "p", 0, 200, 64)
    with ThreadPoolExecutor(8) as pool:
        assert [row["tokens"].tolist() for row in pool.map(rows.__getitem__, range(200))] == expected


def test_random_access_is_fast() -> None:
    rows = StageRows(shard_of([120] * 500), 0, "p", 0, 2000, 512)
    order = np.random.default_rng(0).permutation(2000)
    for index in order:
        rows[index]  # computes the order of every epoch
    start = time.perf_counter()
    for index in order:
        rows[index]
    assert (time.perf_counter() - start) / 2000 < 1e-3  # about 20 microseconds on one core


@given(LENGTHS, st.integers(1, 40), st.integers(1, 200))
def test_validation_rows_hold_whole_documents_in_order(lengths: list[int], context: int, limit: int) -> None:
    shard = shard_of(lengths)
    rows, size = validation_rows(shard, context, limit)
    taken = max([1] + [n for n in range(1, len(lengths) + 1) if sum(lengths[:n]) <= limit])
    total = sum(lengths[:taken])
    flat = {name: array.reshape(-1) for name, array in rows.items()}
    assert rows["tokens"].shape == (-(-total // context), context)
    assert flat["tokens"][:total].tolist() == shard.tokens[:total].tolist()
    assert size == int(shard.bytes[:taken].sum())
    scored = flat["targets"][flat["weights"] > 0].tolist()
    assert scored == [token for token in shard.tokens[:total].tolist() if token != BOS]
    assert set(flat["tokens"][total:].tolist()) <= {PAD}
    assert set(flat["targets"][total - 1 :].tolist()) == {PAD}
    assert not flat["weights"][total:].any()
    assert not flat["segments"][total:].any()
    owner = np.repeat(np.arange(taken), lengths[:taken])
    for number, segments in enumerate(rows["segments"]):
        owners = owner[number * context : (number + 1) * context]
        assert segments[: len(owners)].tolist() == (owners - owners[0] + 1).tolist()
    assert {name: array.dtype.name for name, array in rows.items()} == {
        "tokens": "int32", "targets": "int32", "segments": "int32", "weights": "float32",
    }  # fmt: skip
