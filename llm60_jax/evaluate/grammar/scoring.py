"""Score minimal pairs, our own (suite.py) and BLiMP's: which of two sentences does the model find
likelier?

As in the BLiMP paper (Warstadt et al. 2020): the score is the log-probability of the whole
sentence, its first token given BOS, summed and not divided by the length. A pair counts as correct
when the good sentence is strictly likelier. A tie does not.
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
from llm60_jax.machine import files
from llm60_jax.machine.progress import Track
from llm60_jax.machine.remembered import Keep, not_kept

_WIDTH_MULTIPLE = 4  # tokens; row widths are rounded up, so few programs are compiled
_TOKENS_PER_BATCH = 2048
_GROUP_OF = {"s-selection": "argument_structure"}  # the paper counts the two as one group


class PairScore(NamedTuple):
    """How many pairs of one kind the model judges right."""

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
        """Return the score as JSON values."""
        return {**self._asdict(), "accuracy": self.accuracy, "lower": self.lower}


class Blimp(NamedTuple):
    """The figures that the BLiMP paper reports."""

    paradigms: dict[str, PairScore]
    groups: dict[str, float]  # mean accuracy over the paradigms of a group
    overall: float  # mean accuracy over all paradigms
    ties: int


def log_probabilities(
    sentences: Sequence[str],
    tokenizer: Tokenizer,
    score_rows: Callable[[Rows], Any],
    max_context: int,
    track: Track,
    keep_part: Keep = not_kept,
) -> np.ndarray:
    """Return the log-probability of each sentence in nats, float64 [N].

    Args:
      score_rows: rows [B, T] (see `packing`) -> cross-entropy of each target in nats, float32 [B,
        T].
      max_context: the most tokens that a sentence may have, BOS not counted.
      keep_part: keeps the scores of each batch.

    Raises InputError for a longer sentence, and for an empty one.
    """
    encoded = [[tokenizer.bos, *tokenizer.encode(sentence)] for sentence in sentences]
    for sentence, ids in zip(sentences, encoded, strict=True):
        if not 1 < len(ids) <= max_context + 1:
            raise InputError(f"a sentence of {len(ids) - 1} tokens, but 1 to {max_context} can be scored: {sentence!r}")
    scores = np.zeros(len(sentences))
    for numbers in track(_batches([len(ids) for ids in encoded]), "scoring sentences, by batches"):
        batch = [encoded[number] for number in numbers]

        def scored(batch: list[list[int]] = batch) -> list[float]:
            rows = _rows(batch, tokenizer.pad)
            nll = np.asarray(score_rows(rows), np.float64)
            return (-(nll * rows["weights"]).sum(1)[: len(batch)]).tolist()

        scores[numbers] = keep_part(f"sentences {files.digest_of(batch)}", scored)
    return scores


def judge(pairs: Iterable[Pair], score: Callable[[list[str]], np.ndarray]) -> dict[str, PairScore]:
    """Return the score of each phenomenon. `score` returns the log-probabilities of sentences."""
    pairs = list(pairs)
    scores = score([sentence for pair in pairs for sentence in (pair.good, pair.bad)])
    good, bad = scores[::2], scores[1::2]
    names = [pair.phenomenon for pair in pairs]
    return {
        name: PairScore(int(mask.sum()), int((good[mask] > bad[mask]).sum()), int((good[mask] == bad[mask]).sum()))
        for name in dict.fromkeys(names)
        for mask in [np.array([other == name for other in names])]
    }


class Sample(NamedTuple):
    """Pairs packed into rows of the model's longest context, so that the program of validation
    scores them too.

    The good sentence of a pair comes first, then the bad one; each is a segment.
    """

    pairs: list[Pair]
    rows: Rows  # [R, T]
    owners: np.ndarray  # int64 [R, T], number of the sentence at each position, -1 for none

    @staticmethod
    def of(pairs: Iterable[Pair], tokenizer: Tokenizer, context: int) -> "Sample":
        """Pack the pairs whose sentences both fit into a row of `context` tokens."""
        packed: list[Pair] = []
        sentences: list[list[int]] = []
        for pair in pairs:
            both = [[tokenizer.bos, *tokenizer.encode(sentence)] for sentence in (pair.good, pair.bad)]
            if max(map(len, both)) <= context + 1:
                packed.append(pair)
                sentences += both
        ends: list[int] = []  # tokens in each row so far
        places = []
        for ids in sentences:
            if not ends or ends[-1] + len(ids) - 1 > context:
                ends.append(0)
            places.append((len(ends) - 1, ends[-1]))
            ends[-1] += len(ids) - 1
        rows = _empty_rows((max(1, len(ends)), context), 0)
        owners = np.full(rows["tokens"].shape, -1, np.int64)
        for number, (ids, (row, start)) in enumerate(zip(sentences, places, strict=True)):
            place = row, slice(start, start + len(ids) - 1)
            rows["tokens"][place], rows["targets"][place], rows["weights"][place] = ids[:-1], ids[1:], 1
            rows["segments"][place], owners[place] = number + 1, number
        return Sample(packed, rows, owners)

    def verdicts(self, score_rows: Callable[[Rows], Any], rows: int) -> dict[str, PairScore]:
        """Return the score of each phenomenon. One program scores `rows` rows at a time."""
        scores = np.zeros(2 * len(self.pairs))
        for start in range(0, len(self.owners), rows):
            part = {name: array[start : start + rows] for name, array in self.rows.items()}
            owners = self.owners[start : start + rows]
            missing = rows - len(owners)
            part = {name: np.pad(array, ((0, missing), (0, 0))) for name, array in part.items()}
            nll = np.asarray(score_rows(part), np.float64)[: len(owners)]
            is_owned = owners >= 0
            scores -= np.bincount(owners[is_owned], nll[is_owned], len(scores))
        return judge(self.pairs, lambda sentences: scores)


def read_blimp(folder: Path) -> tuple[list[Pair], dict[str, str]]:
    """Read a folder of BLiMP's .jsonl files; return the pairs and the group of each paradigm.

    Pairs of two equal sentences are skipped. Raises InputError naming the file and line that is not
    a pair.
    """
    paths = sorted(folder.glob("*.jsonl")) if folder.is_dir() else []
    if not paths:
        raise InputError(f"--blimp: {folder}: no folder with BLiMP's .jsonl files")
    pairs: list[Pair] = []
    groups: dict[str, str] = {}
    for path in paths:
        for number, record in enumerate(_records(path), start=1):
            try:
                name, term = record["UID"], record["linguistics_term"]
                pair = Pair(name, record["sentence_good"], record["sentence_bad"])
            except (KeyError, TypeError):
                raise InputError(f"--blimp: {path}:{number}: not a pair of BLiMP") from None
            groups[name] = _GROUP_OF.get(term, term)
            if pair.good != pair.bad:
                pairs.append(pair)
    return pairs, groups


def blimp(verdicts: Mapping[str, PairScore], groups: Mapping[str, str]) -> Blimp:
    """Return the paper's figures from the scores of the paradigms."""
    names = sorted(set(groups.values()))
    means = {
        name: float(np.mean([verdict.accuracy for paradigm, verdict in verdicts.items() if groups[paradigm] == name]))
        for name in names
    }
    overall = float(np.mean([verdict.accuracy for verdict in verdicts.values()]))
    return Blimp(dict(verdicts), means, overall, sum(verdict.ties for verdict in verdicts.values()))


def _records(path: Path) -> Iterator[Any]:
    try:
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                yield json.loads(line)
    except (OSError, ValueError) as error:
        raise InputError(f"--blimp: {path}: cannot be read: {error}") from None


def _batches(lengths: Sequence[int]) -> Iterator[np.ndarray]:
    """Yield the numbers of sentences to score together: all of one row width, in their order."""
    widths = np.array([_width(length) for length in lengths])
    for width in np.unique(widths):
        numbers = np.flatnonzero(widths == width)
        for start in range(0, len(numbers), _batch_size(int(width))):
            yield numbers[start : start + _batch_size(int(width))]


def _width(length: int) -> int:
    return -(-(length - 1) // _WIDTH_MULTIPLE) * _WIDTH_MULTIPLE


def _batch_size(width: int) -> int:
    return max(1, _TOKENS_PER_BATCH // width)


def _rows(sentences: Sequence[Sequence[int]], pad: int) -> Rows:
    """Return one sentence a row; padding rows give every batch of a width the same shape."""
    width = _width(max(map(len, sentences)))
    rows = _empty_rows((_batch_size(width), width), pad)
    for row, ids in enumerate(sentences):
        place = row, slice(len(ids) - 1)
        rows["tokens"][place], rows["targets"][place] = ids[:-1], ids[1:]
        rows["segments"][place], rows["weights"][place] = 1, 1
    return rows


def _empty_rows(shape: tuple[int, int], pad: int) -> Rows:
    return {
        "tokens": np.full(shape, pad, np.int32),
        "targets": np.full(shape, pad, np.int32),
        "segments": np.zeros(shape, np.int32),
        "weights": np.zeros(shape, np.float32),
    }
