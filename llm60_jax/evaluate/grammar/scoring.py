"""Scores minimal pairs: which of two sentences the model finds likelier. Our own suite (pairs.py), and BLiMP's files.

As in the paper (Warstadt et al. 2020): the log-probability of the whole sentence, its first token given BOS, summed and
not divided by the length. A pair counts when the good sentence is strictly likelier; a tie is no success.
"""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from llm60_jax.data.tokens.packing import Rows
from llm60_jax.data.tokens.tokenizer import Tokenizer
from llm60_jax.errors import InputError
from llm60_jax.evaluate import validation
from llm60_jax.evaluate.grammar.suite import Pair
from llm60_jax.machine.progress import Track

_WIDTH = 4  # rows are as long as their sentence, rounded up to so many tokens: few shapes to compile, little padding
_TOKENS = 2048  # scored at a time
_GROUP_OF = {"s-selection": "argument_structure"}  # which the paper counts as one


class PairScore(NamedTuple):
    """How many pairs of one kind the model judged right."""

    pairs: int
    correct: int
    ties: int

    @property
    def accuracy(self) -> float:
        return self.correct / max(1, self.pairs)

    @property
    def lower(self) -> float:
        """The lower end of the 95 % interval of the accuracy (Wilson 1927)."""
        n, z = max(1, self.pairs), validation.Z
        middle = self.accuracy + z * z / (2 * n)
        spread = z * math.sqrt(self.accuracy * (1 - self.accuracy) / n + z * z / (4 * n * n))
        return (middle - spread) / (1 + z * z / n)

    def to_tree(self) -> dict[str, Any]:
        return {**self._asdict(), "accuracy": self.accuracy, "lower": self.lower}


class Blimp(NamedTuple):
    """The paper's figures: `groups` are means of their paradigms, `overall` is the mean of all paradigms."""

    paradigms: dict[str, PairScore]
    groups: dict[str, float]
    overall: float
    ties: int


def log_probabilities(
    sentences: Sequence[str],
    tokenizer: Tokenizer,
    score_rows: Callable[[Rows], Any],
    max_context: int,
    track: Track,
) -> np.ndarray:
    """The log-probability of each sentence in nats, float64 [N].

    Args:
      score_rows: rows [B, T] (see `packing`) -> cross-entropy of each target in nats, float32 [B, T].
      max_context: a sentence may have so many tokens, BOS included.

    Raises InputError for a sentence that is longer, or empty.
    """
    encoded = [[tokenizer.bos, *tokenizer.encode(sentence)] for sentence in sentences]
    for sentence, ids in zip(sentences, encoded, strict=True):
        if not 1 < len(ids) <= max_context + 1:
            raise InputError(f"a sentence of {len(ids) - 1} tokens, and 1 to {max_context} can be scored: {sentence!r}")
    found = np.zeros(len(sentences))
    for numbers in track(_batches([len(ids) for ids in encoded]), "scoring sentences, by batches"):
        rows = _rows([encoded[number] for number in numbers], tokenizer.pad)
        nll = np.asarray(score_rows(rows), np.float64)
        found[numbers] = -(nll * rows["weights"]).sum(1)[: len(numbers)]
    return found


def judge(pairs: Iterable[Pair], score: Callable[[list[str]], np.ndarray]) -> dict[str, PairScore]:
    """The verdict on each phenomenon. `score` gives the log-probabilities of sentences."""
    pairs = list(pairs)
    scored = score([sentence for pair in pairs for sentence in (pair.good, pair.bad)])
    good, bad = scored[::2], scored[1::2]
    names = [pair.phenomenon for pair in pairs]
    return {
        name: PairScore(int(own.sum()), int((good[own] > bad[own]).sum()), int((good[own] == bad[own]).sum()))
        for name in dict.fromkeys(names)
        for own in [np.array([other == name for other in names])]
    }


class Sample(NamedTuple):
    """Some pairs packed into rows of a model's longest context, so that the program of validation scores them too. Of
    each pair first the good sentence, then the bad one, each a segment of its own."""

    pairs: list[Pair]
    rows: Rows  # [R, T]
    owners: np.ndarray  # int64 [R, T], the number of the sentence that a position belongs to, -1 for none

    @staticmethod
    def of(pairs: Iterable[Pair], tokenizer: Tokenizer, context: int) -> "Sample":
        """Packs those pairs whose sentences fit into a row."""
        kept, sentences = [], []
        for pair in pairs:
            both = [[tokenizer.bos, *tokenizer.encode(sentence)] for sentence in (pair.good, pair.bad)]
            if max(map(len, both)) <= context + 1:
                kept.append(pair)
                sentences += both
        ends: list[int] = []  # of each row so far
        places = []
        for ids in sentences:
            if not ends or ends[-1] + len(ids) - 1 > context:
                ends.append(0)
            places.append((len(ends) - 1, ends[-1]))
            ends[-1] += len(ids) - 1
        shape = max(1, len(ends)), context
        rows = {name: np.zeros(shape, np.int32) for name in ("tokens", "targets", "segments")}
        rows |= {"weights": np.zeros(shape, np.float32)}
        owners = np.full(shape, -1, np.int64)
        for number, (ids, (row, start)) in enumerate(zip(sentences, places, strict=True)):
            own = row, slice(start, start + len(ids) - 1)
            rows["tokens"][own], rows["targets"][own], rows["weights"][own] = ids[:-1], ids[1:], 1
            rows["segments"][own], owners[own] = number + 1, number
        return Sample(kept, rows, owners)

    def verdicts(self, score_rows: Callable[[Rows], Any], rows: int) -> dict[str, PairScore]:
        """The verdict on each phenomenon; so many rows are scored at a time, by one program."""
        found = np.zeros(2 * len(self.pairs))
        for start in range(0, len(self.owners), rows):
            part = {name: array[start : start + rows] for name, array in self.rows.items()}
            owners = self.owners[start : start + rows]
            missing = rows - len(owners)
            part = {name: np.pad(array, ((0, missing), (0, 0))) for name, array in part.items()}
            nll = np.asarray(score_rows(part), np.float64)[: len(owners)]
            there = owners >= 0
            found -= np.bincount(owners[there], nll[there], len(found))
        return judge(self.pairs, lambda sentences: found)


def read_blimp(folder: Path) -> tuple[list[Pair], dict[str, str]]:
    """The pairs of all paradigms in a folder of BLiMP's .jsonl files, those of two equal sentences left out; and the
    group of each paradigm. Raises InputError naming the file and line that is not of that form."""
    files = sorted(folder.glob("*.jsonl")) if folder.is_dir() else []
    if not files:
        raise InputError(f"--blimp: {folder}: no folder with BLiMP's .jsonl files")
    pairs, groups = [], {}
    for file in files:
        for number, record in enumerate(_records(file), start=1):
            try:
                name, term = record["UID"], record["linguistics_term"]
                pair = Pair(name, record["sentence_good"], record["sentence_bad"])
            except (KeyError, TypeError):
                raise InputError(f"--blimp: {file}:{number}: not a pair of BLiMP") from None
            groups[name] = _GROUP_OF.get(term, term)
            if pair.good != pair.bad:
                pairs.append(pair)
    return pairs, groups


def blimp(verdicts: Mapping[str, PairScore], groups: Mapping[str, str]) -> Blimp:
    """The paper's figures from the verdicts on the paradigms."""
    names = sorted(set(groups.values()))
    means = {
        name: float(np.mean([verdict.accuracy for own, verdict in verdicts.items() if groups[own] == name]))
        for name in names
    }
    overall = float(np.mean([verdict.accuracy for verdict in verdicts.values()]))
    return Blimp(dict(verdicts), means, overall, sum(verdict.ties for verdict in verdicts.values()))


def _records(file: Path) -> Iterator[Any]:
    try:
        with file.open(encoding="utf-8") as lines:
            for line in lines:
                yield json.loads(line)
    except (OSError, ValueError) as error:
        raise InputError(f"--blimp: {file}: cannot be read: {error}") from None


def _batches(lengths: Sequence[int]) -> Iterator[np.ndarray]:
    """The numbers of sentences that are scored together: of about the same length, in their order else."""
    width = np.array([_width(length) for length in lengths])
    for size in np.unique(width):
        numbers = np.flatnonzero(width == size)
        for start in range(0, len(numbers), _many(int(size))):
            yield numbers[start : start + _many(int(size))]


def _width(length: int) -> int:
    return -(-(length - 1) // _WIDTH) * _WIDTH


def _many(width: int) -> int:
    return max(1, _TOKENS // width)


def _rows(sentences: Sequence[Sequence[int]], pad: int) -> Rows:
    """One sentence a row; rows of padding make the batch as large as any of its width."""
    width = _width(max(map(len, sentences)))
    shape = _many(width), width
    rows = {
        "tokens": np.full(shape, pad, np.int32),
        "targets": np.full(shape, pad, np.int32),
        "segments": np.zeros(shape, np.int32),
        "weights": np.zeros(shape, np.float32),
    }
    for row, ids in enumerate(sentences):
        own = row, slice(len(ids) - 1)
        rows["tokens"][own], rows["targets"][own] = ids[:-1], ids[1:]
        rows["segments"][own], rows["weights"][own] = 1, 1
    return rows
