"""Batches: shapes, coverage, order, and exact resumption."""

import dataclasses
import json

import grain
import numpy as np
import pytest

from llm60_jax.data.tokens import loader
from llm60_jax.data.tokens.shards import TokenShard
from llm60_jax.plan import Stage


@pytest.fixture(scope="module")
def shard() -> TokenShard:
    """Return 40 documents in which every token differs, so that repeats and gaps show."""
    lengths = [20 + 7 * (number % 9) for number in range(40)]
    tokens = np.arange(sum(lengths), dtype=np.uint16)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return TokenShard(tokens, offsets, np.array(lengths, np.int64), np.zeros(len(lengths), np.int64))


def stage(start: int, steps: int, token_start: int, context: int, micro_batch: int, accumulation: int) -> Stage:
    return Stage(
        phase="grammar",
        index=start,
        start_step=start,
        stop_step=start + steps,
        token_start=token_start,
        context=context,
        blocks=6,
        frozen_blocks=0,
        micro_batch=micro_batch,
        accumulation=accumulation,
        remat="full",
    )


def test_a_stage_yields_its_steps_in_the_shape_of_its_micro_batches(shard: TokenShard) -> None:
    batches = list(loader.batches(shard, stage(0, 6, 0, 16, 3, 2), seed=1))
    assert len(batches) == 6
    for batch in batches:
        assert {name: (array.dtype.name, array.shape) for name, array in batch.items()} == {
            "tokens": ("int32", (2, 3, 16)),
            "targets": ("int32", (2, 3, 16)),
            "segments": ("int32", (2, 3, 16)),
            "weights": ("float32", (2, 3, 16)),
        }


def test_the_stages_of_a_phase_read_each_token_once_an_epoch(shard: TokenShard) -> None:
    per_step = 64
    stages = [stage(0, 20, 0, 16, 2, 2), stage(20, 11, 20 * per_step, 32, 1, 2)]
    tokens = [batch["tokens"].reshape(-1) for each in stages for batch in loader.batches(shard, each, seed=1)]
    counts = np.bincount(np.concatenate(tokens), minlength=shard.token_count)
    assert counts.sum() == 31 * per_step
    assert shard.token_count < 31 * per_step < 2 * shard.token_count
    assert set(counts.tolist()) == {1, 2}


def test_rows_are_shuffled_by_seed_within_the_stage(shard: TokenShard) -> None:
    def order(seed: int) -> list[int]:
        return [
            int(n) for batch in loader.batches(shard, stage(0, 10, 0, 16, 2, 2), seed) for n in batch["tokens"].flat
        ]

    assert order(1) == order(1)
    assert order(1) != order(2)
    rows = np.array(order(1)).reshape(-1, 16)
    neighbours = np.mean(np.abs(rows[1:, 0] - rows[:-1, -1]) == 1)
    assert neighbours < 0.3  # unshuffled, most rows would continue the row before


def test_each_stage_shuffles_its_rows_differently(shard: TokenShard) -> None:
    first = stage(0, 10, 0, 16, 2, 2)
    second = dataclasses.replace(first, index=1)
    starts = [[int(n) for b in loader.batches(shard, s, 1) for n in b["tokens"][..., 0].flat] for s in (first, second)]
    assert starts[0] != starts[1]
    assert sorted(starts[0]) == sorted(starts[1])
    seeds = {loader._shuffle_seed(seed, s) for seed in (1, 2) for s in (first, second)}
    assert len(seeds) == 4


def test_a_state_is_json_and_resumes_exactly(shard: TokenShard) -> None:
    nine_steps = stage(0, 9, 64, 16, 2, 2)
    whole = [batch["tokens"] for batch in loader.batches(shard, nine_steps, seed=4)]
    iterator = loader.batches(shard, nine_steps, seed=4)
    for _ in range(4):
        next(iterator)
    state = json.loads(json.dumps(iterator.get_state()))
    fresh = loader.batches(shard, nine_steps, seed=4)
    fresh.set_state(state)
    rest = [batch["tokens"] for batch in fresh]
    assert np.array_equal(np.stack(rest), np.stack(whole[4:]))


def test_grain_finds_every_checkpoint_equal(shard: TokenShard) -> None:
    grain.experimental.assert_equal_output_after_checkpoint(loader.dataset(shard, stage(0, 5, 0, 16, 2, 1), seed=4))


def test_epochs_counts_how_often_a_budget_reads_the_text(shard: TokenShard) -> None:
    assert loader.epochs(shard, 3 * shard.token_count) == 3.0


@pytest.mark.parametrize("kind", ["stream", "fixed"])
@pytest.mark.parametrize("processes", [2, 4, 8])
def test_the_shares_of_all_processes_are_the_batch_of_one(shard: TokenShard, kind, processes) -> None:
    """Faults row 52: no row twice, none left out, in the order of one process."""
    steps, reading = stage(0, 7, 0, 16, 1, 8), loader.Reading(rows=kind)
    whole = loader.batches(shard, steps, 3, reading)
    shares = [loader.batches(shard, steps, 3, reading, loader.Share(n, processes)) for n in range(processes)]
    for batch in whole:
        parts = [next(share) for share in shares]
        for name, array in batch.items():
            np.testing.assert_array_equal(np.concatenate([part[name] for part in parts]), array)
        assert [share.get_state() for share in shares] == [whole.get_state()] * processes
    assert [next(share, None) for share in shares] == [None] * processes


def test_another_number_of_processes_goes_on_at_the_same_place(shard: TokenShard) -> None:
    """Faults row 48: 1 -> 2 -> 4 -> 1 processes in the middle of a stage."""
    steps = stage(0, 9, 0, 16, 1, 4)
    expected = [batch["tokens"] for batch in loader.batches(shard, steps, 4)]
    position, seen = None, []
    for processes in (1, 2, 4, 1):
        shares = [loader.batches(shard, steps, 4, share=loader.Share(n, processes)) for n in range(processes)]
        for share in shares:
            if position is not None:
                share.set_state(position)
        for _ in range(2):
            seen.append(np.concatenate([next(share)["tokens"] for share in shares]))
        (position,) = {json.dumps(share.get_state()): share.get_state() for share in shares}.values()
    for actual, wanted in zip(seen, expected, strict=False):
        np.testing.assert_array_equal(actual, wanted)
