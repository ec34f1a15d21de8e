"""Batches of a stage, through Grain. G micro-batches, B sequences, T context, V vocabulary."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import grain
import numpy as np

from llm60_jax.data.tokens.packing import FixedRows, Rows, StageRows
from llm60_jax.data.tokens.shards import TokenShard
from llm60_jax.plan import Stage

# The buffer is in batches. One thread suffices, because packing is fast.
_READ = grain.ReadOptions(num_threads=1, prefetch_buffer_size=2)


@dataclass(frozen=True)
class Reading:
    """How a phase reads its rows. The defaults change nothing."""

    rows: Literal["stream", "fixed"] = "stream"
    token_weights: np.ndarray | None = None  # float32 [V], by target (weights.py)
    document_mask: bool = True  # False: attention sees a row as one document
    # numbers of fixed rows -> activations [., T, D]
    prefix: Callable[[np.ndarray], np.ndarray] | None = None


class Share(NamedTuple):
    """The part of every step that one of several processes reads: as many rows each, side by side."""

    number: int = 0  # of the process
    of: int = 1  # processes


class _SharedRows:
    """The rows of a share, in their order, of rows that all shares have in the same order."""

    def __init__(self, rows: grain.MapDataset[Rows], per_step: int, share: Share):
        self._rows, self._per_step, self._each = rows, per_step, per_step // share.of
        self._first = share.number * self._each

    def __len__(self) -> int:
        return len(self._rows) // self._per_step * self._each

    def __getitem__(self, number: int) -> Rows:
        step, place = divmod(int(number), self._each)
        row = self._rows[step * self._per_step + self._first + place]
        assert row is not None
        return row


def rows_of(shard: TokenShard, stage: Stage, seed: int, kind: Literal["stream", "fixed"]) -> StageRows | FixedRows:
    """Return all rows of a stage, in the order of the stream or of their epochs."""
    make = FixedRows if kind == "fixed" else StageRows
    return make(shard, seed, stage.phase, stage.token_start, stage.steps * stage.sequences, stage.context)


def dataset(
    shard: TokenShard, stage: Stage, seed: int, reading: Reading = Reading(), share: Share = Share()
) -> grain.IterDataset[Rows]:
    """Return a stage's batches, one for each step: dicts of arrays [G, B, T] (see `packing`).

    A share is [G / processes, B, T]. All shares, one after the other, are the batch of a single process.

    Rows of the stream are shuffled within the stage, so that no long document fills a whole step.
    Fixed rows come in another order in each epoch.
    """
    rows = grain.MapDataset.source(rows_of(shard, stage, seed, reading.rows))
    if reading.rows == "stream":
        rows = rows.seed(_shuffle_seed(seed, stage)).shuffle()

    def to_micro_batches(batch: Rows) -> Rows:
        if reading.token_weights is not None:
            batch["weights"] = batch["weights"] * reading.token_weights[batch["targets"]]
        if not reading.document_mask:
            batch["segments"] = np.minimum(batch["segments"], 1)
        if reading.prefix is not None:
            batch["prefix"] = reading.prefix(batch["row"])
        return {
            name: array.reshape(stage.accumulation // share.of, stage.micro_batch, *array.shape[1:])
            for name, array in batch.items()
            if name != "row"
        }

    if share.of > 1:
        rows = grain.MapDataset.source(_SharedRows(rows, stage.sequences, share))
    per_step = stage.sequences // share.of
    return rows.batch(per_step, drop_remainder=True).map(to_micro_batches).to_iter_dataset(_READ)


def batches(
    shard: TokenShard, stage: Stage, seed: int, reading: Reading = Reading(), share: Share = Share()
) -> grain.DatasetIterator[Rows]:
    """Iterate over `dataset`.

    `get_state()` is a JSON value; `set_state()` resumes exactly after that batch. A state is only a
    position, the same in every share. Use it with the same shard, stage, seed and reading.
    """
    return iter(dataset(shard, stage, seed, reading, share))


class Waste(NamedTuple):
    """Shares of a stage's positions that train nothing."""

    padding: float  # a stream has none, fixed rows have some in the last row
    unlearnt: float  # not padding, but the target begins another document or is part of a question
    rows: int  # that were counted


def waste(shard: TokenShard, stage: Stage, seed: int, kind: Literal["stream", "fixed"], rows: int = 256) -> Waste:
    """Count the positions that train nothing, in at most `rows` evenly spread rows."""
    source = rows_of(shard, stage, seed, kind)
    numbers = np.unique(np.linspace(0, len(source) - 1, min(rows, len(source))).astype(int))
    sample = [source[int(number)] for number in numbers]
    padding = np.mean([np.mean(row["segments"] == 0) for row in sample])
    unlearnt = np.mean([np.mean((row["weights"] == 0) & (row["segments"] > 0)) for row in sample])
    return Waste(float(padding), float(unlearnt), len(numbers))


def epochs(shard: TokenShard, tokens: int) -> float:
    """Return how many epochs of the shard a budget of tokens makes."""
    return tokens / shard.token_count


def _shuffle_seed(seed: int, stage: Stage) -> int:
    digest = hashlib.sha256(f"{seed}/{stage.phase}/{stage.index}/rows".encode()).digest()
    return int.from_bytes(digest[:4], "little")
