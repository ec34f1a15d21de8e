"""Is my loss normal? The held-out losses of this project's own finished runs, to compare a run with.

`references.json`, beside this file, has one entry for each phase of such a run. `tools/reference.py` adds a run to it.
An entry is for runs that train the same model on as much of the same text by the same schedule. Sources are not
compared, because folders lie elsewhere on each machine; what the run measured of its text is.
"""

import hashlib
import importlib.resources
import itertools
import json
import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple

from llm60_jax import config as config_module
from llm60_jax.config import Phase
from llm60_jax.record.history import History

FILE = "references.json"
_UNSEEN = ("sources", "gate", "remat", "goal")  # fields of a phase that leave the loss at a step as it is
_SAME_TEXT = 0.01  # largest difference of two texts' lengths, and of their entropies in nats


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
    unigram_entropy: float
    points: tuple[Point, ...]  # in the order of tokens
    tokens_per_second: float
    memory_gb: float
    machine: str


def known() -> list[Reference]:
    """Return the references that came with the project."""
    return parsed(json.loads(importlib.resources.files(__package__).joinpath(FILE).read_text(encoding="utf-8")))


def parsed(entries: Sequence[dict[str, Any]]) -> list[Reference]:
    """Return references from the JSON values of their fields."""
    return [Reference(**{**entry, "points": tuple(Point(*point) for point in entry["points"])}) for entry in entries]


def measured(history: History, phase: Phase, name: str, machine: str) -> Reference:
    """Return what a finished phase measured, as a reference.

    Args:
      name: of the run's configuration.
      machine: in words, for the reader of a table.
    """
    facts = history.of(phase, "data")[-1]["data"]
    ends = [row["stage_end"] for row in history.of(phase, "stage_end")]
    seconds = sum(end["seconds"]["steps"] for end in ends)
    return Reference(
        run=name,
        phase=phase.name,
        training=training(history, phase),
        text_tokens=facts["tokens"],
        unigram_entropy=round(facts["unigram_entropy"], 4),
        points=tuple(points(history, phase)),
        tokens_per_second=round(phase.tokens / seconds),
        memory_gb=round(max(end["peak_resident_bytes"] for end in ends) / 1e9, 2),
        machine=machine,
    )


def points(history: History, phase: Phase) -> list[Point]:
    """Return the measurements of a phase on its own held-out text."""
    return [
        Point(
            row["tokens"] - _begins(history, phase),
            round(row["validation_loss"], 4),
            round(row["bits_per_byte"], 4),
            round(row["minimal_pairs"], 4) if "minimal_pairs" in row else None,
        )
        for row in history.of(phase, "validation_loss")
    ]


def training(history: History, phase: Phase) -> str:
    """Return the digest of everything but the text and the seed that decides the losses of a phase."""
    config = config_module.to_tree(history.config)
    names = history.config.phase_names
    phases = config["phase"][: names.index(phase.name) + 1]
    train = {name: config["train"][name] for name in ("tokens_per_step", "dtype", "document_mask")}
    parts = [
        {**config["model"], **config["optimizer"], **train},
        [{name: value for name, value in each.items() if name not in _UNSEEN} for each in phases],
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def matching(history: History, phase: Phase, references: Sequence[Reference]) -> Reference | None:
    """Return the reference that a phase may be compared with; None without one."""
    rows = history.of(phase, "data")
    if not rows:
        return None
    facts = rows[-1]["data"]
    for reference in references:
        if (
            reference.training == training(history, phase)
            and abs(facts["tokens"] / reference.text_tokens - 1) <= _SAME_TEXT
            and abs(facts["unigram_entropy"] - reference.unigram_entropy) <= _SAME_TEXT
        ):
            return reference
    return None


def loss_at(reference: Reference, tokens: int) -> float | None:
    """Return a reference's held-out loss after so many tokens of the phase, on a line between two measurements.

    None before the first measurement after the beginning, and after the last.
    """
    later = [point for point in reference.points if point.tokens > 0]
    for a, b in itertools.pairwise(later):
        if a.tokens <= tokens <= b.tokens:
            share = (tokens - a.tokens) / (b.tokens - a.tokens)
            return statistics.fmean([a.loss, b.loss], [1 - share, share])
    return next((point.loss for point in later if point.tokens == tokens), None)


def _begins(history: History, phase: Phase) -> int:
    """Return the tokens that were trained before a phase."""
    return min(row["tokens"] for row in history.rows if row["phase"] == phase.name)
