"""Packing: the training text of a phase as an endless stream of tokens, read in rows by number.

The stream is epoch 0, then epoch 1, and so on. An epoch is all documents of the shard, in an order
that the seed, the phase and the epoch determine. Row i of a stage reads the stream from
`token_start + i * context`. The spans of a phase's stages are disjoint, so together the stages read
every token exactly once. T is the context, R a number of rows.

A phase with fixed rows packs one epoch once (`FixedRows`). Later epochs reorder the same rows.

A row is a dict of arrays of length T:
  tokens: int32, the inputs.
  targets: int32, the token that follows each input in the stream.
  segments: int32, 1, 2, 3, ... for the documents in the row, 0 for padding; attention stays inside
    a segment.
  weights: float32, 0 where the target begins another document (the input is EOS), is part of a
    question, or is padding; else 1.
"""

import abc
import functools
import hashlib
import operator
from collections.abc import Callable

import numpy as np

from llm60_jax.data.tokens.shards import TokenShard
from llm60_jax.data.tokens.tokenizer import PAD

Rows = dict[str, np.ndarray]


class _Rows(abc.ABC):
    """The rows of one stage: a random-access source for Grain.

    Reading is deterministic and thread-safe.
    """

    def __init__(self, shard: TokenShard, seed: int, phase: str, token_start: int, rows: int, context: int):
        self._about = f"seed={seed}, phase={phase!r}, token_start={token_start}, rows={rows}, context={context}"
        self._start, self._rows, self._context = token_start, rows, context
        self._stream = _Stream(shard, lambda epoch: document_order(shard.documents, seed, phase, epoch))

    def __len__(self) -> int:
        return self._rows

    def __getitem__(self, index: int) -> Rows:
        index = operator.index(index)
        if not 0 <= index < self._rows:
            raise IndexError(f"row {index} of a stage with {self._rows} rows")
        return self._read(self._start + index * self._context)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._about}, {self._stream!r})"

    @abc.abstractmethod
    def _read(self, position: int) -> Rows:
        """Return the row that begins at a position of the phase, in tokens."""


class StageRows(_Rows):
    """Rows cut from one stream of documents. Each epoch orders the documents anew."""

    def _read(self, position: int) -> Rows:
        return self._stream.read(position, self._context)


class FixedRows(_Rows):
    """Rows packed once. Each epoch orders them anew.

    Each row also has `row`, its number among the packed rows, int32.
    """

    def __init__(self, shard: TokenShard, seed: int, phase: str, token_start: int, rows: int, context: int):
        super().__init__(shard, seed, phase, token_start, rows, context)
        self._tokens = shard.token_count
        self.packed = -(-shard.token_count // context)
        self._order = functools.cache(lambda epoch: document_order(self.packed, seed, f"{phase}/rows", epoch))

    def _read(self, position: int) -> Rows:
        epoch, place = divmod(position // self._context, self.packed)
        return self.row(int(self._order(epoch)[place]))

    def row(self, number: int) -> Rows:
        """Return a packed row by its number, 0 <= number < packed. The last one ends in padding."""
        start = number * self._context
        row = self._stream.read(start, self._context)
        _pad(row, self._tokens - start)
        return {**row, "row": np.asarray(number, np.int32)}


def document_order(documents: int, seed: int, phase: str, epoch: int) -> np.ndarray:
    """Return the order of an epoch: int64 [documents], a permutation.

    It depends on no machine and no NumPy version.
    """
    key = hashlib.sha256(f"{seed}/{phase}/{epoch}".encode()).digest()[:8]
    return np.argsort(_splitmix64(int.from_bytes(key, "little"), documents), kind="stable")


def validation_rows(shard: TokenShard, context: int, max_tokens: int) -> tuple[Rows, int]:
    """Pack the first whole documents of a shard, in stored order, as in training.

    Args:
      max_tokens: the most tokens of these documents; the first document is taken in any case.

    Returns:
      Arrays [R, T] as in `StageRows`, the last row filled up with PAD (segment 0, weight 0, target
      PAD), and the UTF-8 bytes of the documents, for bits per byte.
    """
    documents = max(1, int(np.searchsorted(shard.offsets, max_tokens, side="right")) - 1)
    total = int(shard.offsets[documents])
    first = slice(documents)
    part = TokenShard(shard.tokens[:total], shard.offsets[: documents + 1], shard.bytes[first], shard.prompts[first])
    stream = _Stream(part, lambda epoch: np.arange(documents))
    rows = -(-total // context)
    arrays = stream.read(0, rows * context)
    _pad(arrays, total)
    arrays = {name: array.reshape(rows, context) for name, array in arrays.items()}
    # Read as one long row; as in training, the segments of every row start at 1.
    padding = arrays["segments"] == 0
    arrays["segments"] = np.where(padding, 0, arrays["segments"] - arrays["segments"][:, :1] + 1)
    return arrays, int(part.bytes.sum())


def _pad(row: Rows, tokens: int) -> None:
    """Turn everything from position `tokens` on into padding, in place.

    The token before it has no target.
    """
    for name, fill in (("tokens", PAD), ("targets", PAD), ("segments", 0), ("weights", 0)):
        row[name][tokens:] = fill
    if 0 < tokens <= len(row["targets"]):
        row["targets"][tokens - 1] = PAD
        row["weights"][tokens - 1] = 0


class _Stream:
    """The epochs of a shard, one after the other.

    `order(epoch)` returns the documents of an epoch.
    """

    def __init__(self, shard: TokenShard, order: Callable[[int], np.ndarray]):
        self._shard = shard
        self._order = order
        # 16 bytes a document and epoch. Rows are read in random order, so every epoch stays.
        self._epoch = functools.cache(self._load_epoch)

    def _load_epoch(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the documents in order, and where each ends in the epoch, in tokens."""
        order = self._order(epoch)
        return order, np.cumsum(np.diff(self._shard.offsets)[order])

    def read(self, start: int, length: int) -> Rows:
        """Return the row that begins at stream position `start`."""
        tokens = np.empty(length + 1, np.int32)  # one more: the target of the last input
        segments = np.empty(length + 1, np.int32)
        weights = np.ones(length + 1, np.float32)
        epoch, position = divmod(start, self._shard.token_count)
        order, ends = self._epoch(epoch)
        place = int(np.searchsorted(ends, position, side="right"))
        filled, segment = 0, 1
        while filled <= length:
            if place == len(order):
                epoch, place, position = epoch + 1, 0, 0
                order, ends = self._epoch(epoch)
            left = int(ends[place]) - position  # tokens of this document still to come
            count = min(left, length + 1 - filled)
            begin, end = (int(x) for x in self._shard.offsets[order[place] : order[place] + 2])
            stop = end - left + count
            tokens[filled : filled + count] = self._shard.tokens[stop - count : stop]
            segments[filled : filled + count] = segment
            # targets that still belong to the question
            prompt_left = int(self._shard.prompts[order[place]]) - (stop - count - begin)
            weights[filled : filled + max(0, min(prompt_left, count))] = 0
            filled += count
            if count == left:
                weights[filled - 1] = 0
            position += count
            place += 1
            segment += 1
        return {
            "tokens": tokens[:-1],
            "targets": tokens[1:].copy(),
            "segments": segments[:-1],
            "weights": weights[:-1],
        }

    def __repr__(self) -> str:
        return f"documents={self._shard.documents}, tokens={self._shard.token_count}"


def _splitmix64(key: int, count: int) -> np.ndarray:
    """Return the first `count` outputs of SplitMix64 from state `key`: uint64 [count]."""
    z = np.uint64(key) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
