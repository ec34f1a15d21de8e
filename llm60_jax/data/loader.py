"""Batches of a stage, through Grain. G micro-batches, B sequences, T context."""

import hashlib

import grain
import numpy as np

from llm60_jax.data.packing import Rows, StageRows
from llm60_jax.data.shards import TokenShard
from llm60_jax.plan import Stage

_READ = grain.ReadOptions(num_threads=1, prefetch_buffer_size=2)  # batches; a thread is enough, see packing


def dataset(shard: TokenShard, stage: Stage, seed: int) -> grain.IterDataset[Rows]:
    """A stage's batches, one for each of its steps: dicts of arrays [G, B, T] (see `packing.StageRows`).

    The rows are shuffled within the stage, so that no step is filled by one long document.
    """
    rows = StageRows(shard, seed, stage.phase, stage.token_start, stage.steps * stage.sequences, stage.context)
    shape = (stage.accumulation, stage.micro_batch, stage.context)

    def to_micro_batches(batch: Rows) -> Rows:
        return {name: np.reshape(array, shape) for name, array in batch.items()}

    return (
        grain.MapDataset.source(rows)
        .seed(_shuffle_seed(seed, stage))
        .shuffle()
        .batch(stage.sequences, drop_remainder=True)
        .map(to_micro_batches)
        .to_iter_dataset(_READ)
    )


def batches(shard: TokenShard, stage: Stage, seed: int) -> grain.DatasetIterator[Rows]:
    """Iterates over `dataset`. `get_state()` is a JSON value; `set_state()` resumes exactly after that batch.

    A state holds a position only. Give it back to an iterator over the same shard, stage and seed.
    """
    return iter(dataset(shard, stage, seed))


def epochs(shard: TokenShard, tokens: int) -> float:
    """How often a budget of tokens goes through the shard."""
    return tokens / shard.token_count


def _shuffle_seed(seed: int, stage: Stage) -> int:
    digest = hashlib.sha256(f"{seed}/{stage.phase}/{stage.index}/rows".encode()).digest()
    return int.from_bytes(digest[:4], "little")
