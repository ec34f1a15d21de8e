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

_READ = grain.ReadOptions(num_threads=1, prefetch_buffer_size=2)  # batches; a thread is enough, see packing


@dataclass(frozen=True)
class Reading:
    """How a phase reads its rows. The defaults are neutral."""

    rows: Literal["stream", "fixed"] = "stream"
    token_weights: np.ndarray | None = None  # float32 [V], by target (weights.py)
    document_mask: bool = True  # False: a row counts as one document to attention
    prefix: Callable[[np.ndarray], np.ndarray] | None = None  # numbers of fixed rows -> activations [., T, D]


def rows_of(shard: TokenShard, stage: Stage, seed: int, kind: Literal["stream", "fixed"]) -> StageRows | FixedRows:
    """All rows of a stage, in the order of the stream or of their epochs."""
    make = FixedRows if kind == "fixed" else StageRows
    return make(shard, seed, stage.phase, stage.token_start, stage.steps * stage.sequences, stage.context)


def dataset(shard: TokenShard, stage: Stage, seed: int, reading: Reading = Reading()) -> grain.IterDataset[Rows]:
    """A stage's batches, one for each of its steps: dicts of arrays [G, B, T] (see `packing`).

    Rows of the stream are shuffled within the stage, so that no step is filled by one long document; fixed rows come
    in an order of their own in every epoch.
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
            name: array.reshape(stage.accumulation, stage.micro_batch, *array.shape[1:])
            for name, array in batch.items()
            if name != "row"
        }

    return rows.batch(stage.sequences, drop_remainder=True).map(to_micro_batches).to_iter_dataset(_READ)


def batches(shard: TokenShard, stage: Stage, seed: int, reading: Reading = Reading()) -> grain.DatasetIterator[Rows]:
    """Iterates over `dataset`. `get_state()` is a JSON value; `set_state()` resumes exactly after that batch.

    A state holds a position only. Give it back to an iterator over the same shard, stage, seed and reading.
    """
    return iter(dataset(shard, stage, seed, reading))


class Waste(NamedTuple):
    """Shares of a stage's positions from which nothing is learnt."""

    padding: float  # filled up: none in a stream, the end of the last row among fixed rows
    unlearnt: float  # not padded, but the target begins another document, or is part of a question
    rows: int  # that were counted


def waste(shard: TokenShard, stage: Stage, seed: int, kind: Literal["stream", "fixed"], rows: int = 256) -> Waste:
    """Counts positions that train nothing, in all rows of a stage, or in so many of them, evenly spread."""
    source = rows_of(shard, stage, seed, kind)
    numbers = np.unique(np.linspace(0, len(source) - 1, min(rows, len(source))).astype(int))
    read = [source[int(number)] for number in numbers]
    padding = np.mean([np.mean(row["segments"] == 0) for row in read])
    silent = np.mean([np.mean((row["weights"] == 0) & (row["segments"] > 0)) for row in read])
    return Waste(float(padding), float(silent), len(numbers))


def epochs(shard: TokenShard, tokens: int) -> float:
    """How often a budget of tokens goes through the shard."""
    return tokens / shard.token_count


def _shuffle_seed(seed: int, stage: Stage) -> int:
    digest = hashlib.sha256(f"{seed}/{stage.phase}/{stage.index}/rows".encode()).digest()
    return int.from_bytes(digest[:4], "little")
