"""Is my loss normal? The held-out losses of this project's own finished runs, to compare a run with.

`references.json`, beside this file, has one entry for each phase of such a run. `tools/reference.py` adds a run to it.
An entry is for runs that train the same model on as much of the same text by the same schedule. Sources are not
compared, because folders lie elsewhere on each machine; what the run measured of its text is.
"""

import dataclasses
import hashlib
import itertools
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from llm60_jax.config import Config, Phase, schema
from llm60_jax.errors import DamageError, InputError
from llm60_jax.machine import files
from llm60_jax.record.history import History

FILE = Path(__file__).with_name("references.json")
ABOVE = 0.25  # nats above a reference that are no chance; two seeds of the quickstart differ by 0.05
_UNSEEN = ("sources", "gate", "remat", "goal")  # fields of a phase that leave the loss at a step as it is
_OF_TRAIN = ("tokens_per_step", "dtype", "document_mask")  # fields of [train] that do not
_SAME_TEXT = 0.01  # largest difference of two texts: of lengths, as a share, and of entropies, in nats


class Point(NamedTuple):
    """What was measured after a number of a phase's tokens."""

    tokens: int
    loss: float  # held-out, nats per token
    bits_per_byte: float
    pairs: float | None  # share of minimal pairs that are right


class Reference(NamedTuple):
    """A phase of a finished run."""

    run: str  # the name of its configuration
    phase: str
    training: str  # digest of everything that decides the losses but the text
    text_tokens: int
    unigram_entropy: float  # nats
    points: tuple[Point, ...]  # in the order of tokens
    tokens_per_second: float
    memory_gb: float
    machine: str


def known() -> list[Reference]:
    """Return the references that came with the project. Raise DamageError if their file cannot be read."""
    try:
        return parsed(json.loads(files.read_text(FILE)))
    except (ValueError, TypeError, KeyError):
        raise DamageError(f"{FILE}: it is not what tools/reference.py writes; restore it from the project") from None


def parsed(entries: Sequence[dict[str, Any]]) -> list[Reference]:
    """Return references from the JSON values of their fields."""
    return [Reference(**{**entry, "points": tuple(Point(*point) for point in entry["points"])}) for entry in entries]


def measured(history: History, phase: Phase, name: str, machine: str) -> Reference:
    """Return what a finished phase measured, as a reference.

    Args:
      name: of the run's configuration.
      machine: in words, for the reader of a table.

    Raises:
      InputError: another run could not be compared with this one, or its record has gaps.
    """
    if _is_special(history):
        raise InputError(f"{history.path}: no reference, because it starts from a checkpoint or was extended")
    ends = {row["stage"]: row["stage_end"] for row in history.of(phase, "stage_end")}
    facts, stages, found = _facts(history, phase), history.stages(phase), points(history, phase)
    if facts is None or not found or not all(stage.index in ends for stage in stages):
        raise InputError(f"{history.path}: metrics.jsonl lacks rows of phase {phase.name}; train it again")
    # A stage of one or two steps has no speed.
    timed = [stage for stage in stages if ends[stage.index]["tokens_per_second"] > 0]
    seconds = sum(stage.tokens / ends[stage.index]["tokens_per_second"] for stage in timed)
    return Reference(
        run=name,
        phase=phase.name,
        training=training(history.config, phase),
        text_tokens=facts[0],
        unigram_entropy=round(facts[1], 4),
        points=tuple(found),
        tokens_per_second=round(sum(stage.tokens for stage in timed) / seconds) if timed else 0,
        memory_gb=round(max(end.get("peak_resident_bytes", 0) for end in ends.values()) / 1e9, 2),
        machine=machine,
    )


def points(history: History, phase: Phase) -> list[Point]:
    """Return the measurements of a phase on its own held-out text."""
    begins = history.stages(phase)[0].start_step if history.stages(phase) else 0
    return [
        Point(
            (row["step"] - begins) * history.config.train.tokens_per_step,
            round(row["validation_loss"], 4),
            round(row["bits_per_byte"], 4),
            round(row["minimal_pairs"], 4) if row.get("minimal_pairs") is not None else None,
        )
        for row in history.of(phase, "validation_loss")
        if row.get("bits_per_byte") is not None and row["validation_loss"] is not None
    ]


def training(config: Config, phase: Phase) -> str:
    """Return the digest of `decisive`."""
    parts = list(decisive(config, phase).values())
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def decisive(config: Config, phase: Phase) -> dict[str, Any]:
    """Return everything but the text and the seed that decides the losses of a phase, by its table in the file.

    Fields at their defaults are left out, so that a new field changes no digest.
    """
    phases = config.phase[: config.phase.index(phase) + 1]
    return {
        "model": _said(config.model),
        "optimizer": _said(config.optimizer),
        "train": {name: value for name, value in _said(config.train).items() if name in _OF_TRAIN},
        "tokenizer": _said(config.tokenizer) if config.tokenizer else {},
        "phase": [{name: x for name, x in _said(each).items() if name not in _UNSEEN} for each in phases],
    }


def matching(history: History, phase: Phase, references: Sequence[Reference]) -> Reference | None:
    """Return the reference that a phase may be compared with; None without one."""
    facts = _facts(history, phase)
    if facts is None or _is_special(history):
        return None
    digest, (tokens, entropy) = training(history.config, phase), facts
    for reference in references:
        same_length = abs(tokens / reference.text_tokens - 1) <= _SAME_TEXT
        if reference.training == digest and same_length and abs(entropy - reference.unigram_entropy) <= _SAME_TEXT:
            return reference
    return None


def loss_at(reference: Reference, tokens: int) -> float | None:
    """Return the held-out loss of a reference after a number of the phase's tokens.

    Between two measurements it lies on a line. It is None before the first one after the beginning, and after the last.
    """
    later = [point for point in reference.points if point.tokens > 0]
    for a, b in itertools.pairwise(later):
        if a.tokens <= tokens <= b.tokens and a.tokens < b.tokens:
            share = (tokens - a.tokens) / (b.tokens - a.tokens)
            return statistics.fmean([a.loss, b.loss], [1 - share, share])
    return next((point.loss for point in later if point.tokens == tokens), None)


def _facts(history: History, phase: Phase) -> tuple[int, float] | None:
    """Return the tokens of a phase's text and the entropy of single tokens; None where the run did not say them."""
    rows = history.of(phase, "data")
    tokens, entropy = (rows[-1]["data"].get(name) if rows else None for name in ("tokens", "unigram_entropy"))
    return None if not tokens or entropy is None else (tokens, entropy)


def _is_special(history: History) -> bool:
    """Return whether other weights or more steps than the configuration says were behind the losses."""
    return history.config.start is not None or history.was_extended


def _said(record: Any) -> dict[str, Any]:
    """Return the fields of a record that differ from their defaults, as plain values."""
    tree = schema.to_tree(record)
    return {
        field.name: tree[field.name]
        for field in dataclasses.fields(record)
        if field.default is dataclasses.MISSING or getattr(record, field.name) != field.default
    }
