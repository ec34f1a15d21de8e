"""All that is measured of a trained model by itself: minimal pairs, BLiMP, and how well it predicts texts."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from llm60_jax.data.clean import cleaning
from llm60_jax.data.read import sources
from llm60_jax.data.read.ledger import Ledger
from llm60_jax.data.tokens import packing, shards
from llm60_jax.data.tokens.shards import TokenShard
from llm60_jax.errors import InputError
from llm60_jax.evaluate import validation
from llm60_jax.evaluate.grammar import scoring, suite
from llm60_jax.evaluate.subject import Subject
from llm60_jax.machine.progress import Track


def judge(model: Subject, blimp: Path | None, texts: Sequence[Path], track: Track) -> dict[str, Any]:
    """What --json prints. `overall`, `groups` and `ties` are BLiMP's if it is there, else those of our own pairs;
    `bits_per_byte` is that of all texts together, None without any."""
    given = scoring.read_blimp(blimp) if blimp else None
    encoded = {str(path): _encoded(model, path) for path in texts}  # what cannot be read is told before an hour of work

    def score(sentences: list[str]) -> np.ndarray:
        context = model.config.model.max_context
        return scoring.log_probabilities(sentences, model.tokenizer, model.score_rows, context, track)

    own = scoring.judge((pair for some in suite.suite().values() for pair in some), score)
    found: dict[str, Any] = {
        "checkpoint": str(model.folder),
        "step": model.meta["step"],
        "phase": model.meta["phase"],
        "overall": float(np.mean([verdict.accuracy for verdict in own.values()])),
        "groups": {name: verdict.accuracy for name, verdict in own.items()},
        "ties": sum(verdict.ties for verdict in own.values()),
        "grammar": {name: verdict.to_tree() for name, verdict in own.items()},
        "blimp": None,
    }
    if given:
        paper = scoring.blimp(scoring.judge(given[0], score), given[1])
        found |= {"overall": paper.overall, "groups": paper.groups, "ties": paper.ties}
        found["blimp"] = {name: verdict.to_tree() for name, verdict in paper.paradigms.items()}
    measured = {name: _nats(model, shard, track) for name, shard in encoded.items()}
    whole = sum(shard.bytes.sum() for shard in encoded.values())
    found["bits_per_byte"] = sum(measured.values()) / math.log(2) / whole if measured else None
    found["texts"] = {name: nats / math.log(2) / int(encoded[name].bytes.sum()) for name, nats in measured.items()}
    return found


def _encoded(model: Subject, path: Path) -> TokenShard:
    """The documents of a file, cleaned as for training but for the exclusion rules, as tokens."""
    source = sources.folder(str(path))
    texts = [cleaning.clean(document.text) for document in sources.read(source, sources.inputs(source), Ledger(""))]
    texts = [text for text in texts if text]
    if not texts:
        raise InputError(f"--text: {path}: no text in it")
    return shards.in_memory(({"text": text} for text in texts), model.tokenizer)


def _nats(model: Subject, shard: TokenShard, track: Track) -> float:
    """The cross-entropy of a shard, summed, with windows of the model's longest context."""
    rows, _ = packing.validation_rows(shard, model.config.model.max_context, shard.token_count)
    total = 0.0
    starts = range(0, len(rows["tokens"]), validation.ROWS)
    for start in track(starts, "scoring text, by batches", len(starts)):
        part = {name: array[start : start + validation.ROWS] for name, array in rows.items()}
        nll = np.asarray(model.score_rows(validation.padded(part)), np.float64)[: len(part["tokens"])]
        total += float((nll * part["weights"]).sum())
    return total
