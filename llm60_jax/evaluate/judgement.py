"""Judge one trained model: our own minimal pairs, BLiMP, and bits per byte of texts."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from llm60_jax.data.clean import cleaning
from llm60_jax.data.read import sources
from llm60_jax.data.read.ledger import Ledger
from llm60_jax.data.tokens import packing, shards
from llm60_jax.data.tokens.shards import TokenShard
from llm60_jax.errors import DamageError, InputError
from llm60_jax.evaluate import privacy, validation
from llm60_jax.evaluate.grammar import scoring, suite
from llm60_jax.evaluate.subject import Subject
from llm60_jax.machine import files
from llm60_jax.machine.progress import Track
from llm60_jax.machine.remembered import Keep, not_kept


def judge(
    model: Subject, blimp: Path | None, texts: Sequence[Path], track: Track, keep_part: Keep = not_kept
) -> dict[str, Any]:
    """Return the object that `tools/evaluate.py --json` prints.

    `overall`, `groups` and `ties` are BLiMP's if its folder is given, else those of our own pairs.
    `bits_per_byte` is taken over all texts together; it is None without texts. `keep_part` keeps the
    scores of each batch.

    Raises InputError for pairs or texts that cannot be read, before any scoring.
    """
    blimp_pairs = scoring.read_blimp(blimp) if blimp else None
    encoded = {str(path): encode(model, path) for path in texts}

    def score(sentences: list[str]) -> np.ndarray:
        context = model.config.model.max_context
        return scoring.log_probabilities(sentences, model.tokenizer, model.score_rows, context, track, keep_part)

    verdicts = scoring.judge((pair for pairs in suite.suite().values() for pair in pairs), score)
    result: dict[str, Any] = {
        "checkpoint": str(model.folder),
        "step": model.meta["step"],
        "phase": model.meta["phase"],
        "overall": float(np.mean([verdict.accuracy for verdict in verdicts.values()])),
        "groups": {name: verdict.accuracy for name, verdict in verdicts.items()},
        "ties": sum(verdict.ties for verdict in verdicts.values()),
        "grammar": {name: verdict.to_tree() for name, verdict in verdicts.items()},
        "blimp": None,
    }
    if blimp_pairs:
        pairs, groups = blimp_pairs
        figures = scoring.blimp(scoring.judge(pairs, score), groups)
        result |= {"overall": figures.overall, "groups": figures.groups, "ties": figures.ties}
        result["blimp"] = {name: verdict.to_tree() for name, verdict in figures.paradigms.items()}
    nats = {name: total_nats(model, shard, track, keep_part) for name, shard in encoded.items()}
    total_bytes = sum(shard.bytes.sum() for shard in encoded.values())
    result["bits_per_byte"] = sum(nats.values()) / math.log(2) / total_bytes if nats else None
    result["texts"] = {name: value / math.log(2) / int(encoded[name].bytes.sum()) for name, value in nats.items()}
    return result


# --- The record -----------------------------------------------------------------------------------


class Blimp(NamedTuple):
    """BLiMP's scores of a checkpoint, as shares of pairs judged right."""

    overall: float  # mean of the paradigms
    groups: dict[str, float]
    paradigms: int
    pairs: int


def path_of(run: Path, folder: Path) -> Path:
    """Return the path of the record on a checkpoint of a run."""
    return run / "evaluations" / privacy.path_of(run, folder).name


def keep(model: Subject, result: dict[str, Any]) -> None:
    """Write BLiMP's scores beside the run, if they were measured. Raise MachineError."""
    if result["blimp"] is None:
        return
    pairs = sum(verdict["pairs"] for verdict in result["blimp"].values())
    scores = Blimp(result["overall"], result["groups"], len(result["blimp"]), pairs)
    path = path_of(model.folder.absolute().parents[1], model.folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_text(path, files.dump({"state_sha256": model.meta["state_sha256"], "blimp": scores._asdict()}))


def recorded(run: Path, folder: Path, state_sha256: str) -> Blimp | None:
    """Return BLiMP's scores of a checkpoint; None if they were not measured, or of another state."""
    try:
        record = json.loads(files.read_text(path_of(run, folder)))
        scores = Blimp(**record["blimp"])
        groups = {str(name): float(share) for name, share in scores.groups.items()}
        read = Blimp(float(scores.overall), groups, int(scores.paradigms), int(scores.pairs))
    except (DamageError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return None
    is_finite = all(math.isfinite(share) for share in (read.overall, *read.groups.values()))
    return read if is_finite and record.get("state_sha256") == state_sha256 else None


# --- Texts ----------------------------------------------------------------------------------------


def encode(model: Subject, path: Path) -> TokenShard:
    """Read a file or folder as tokens: cleaned as for training, but without the exclusion rules."""
    source = sources.folder(str(path))
    texts = [cleaning.clean(document.text) for document in sources.read(source, sources.inputs(source), Ledger(""))]
    texts = [text for text in texts if text]
    if not texts:
        raise InputError(f"--text: {path}: contains no text")
    return shards.in_memory(({"text": text} for text in texts), model.tokenizer)


def total_nats(model: Subject, shard: TokenShard, track: Track, keep_part: Keep = not_kept) -> float:
    """Return the summed cross-entropy of a shard in nats, in windows of the longest context."""
    rows, _ = packing.validation_rows(shard, model.config.model.max_context, shard.token_count)
    total = 0.0
    starts = range(0, len(rows["tokens"]), validation.ROWS)
    for start in track(starts, "scoring text, by batches", len(starts)):
        part = {name: array[start : start + validation.ROWS] for name, array in rows.items()}

        def scored(part: dict[str, np.ndarray] = part) -> float:
            nll = np.asarray(model.score_rows(validation.padded(part)), np.float64)[: len(part["tokens"])]
            return float((nll * part["weights"]).sum())

        total += keep_part(f"text {files.digest_of([part['tokens'].tolist(), part['segments'].tolist()])}", scored)
    return total
