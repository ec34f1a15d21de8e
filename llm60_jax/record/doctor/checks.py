"""The table of all checks, in the order of their findings."""

from collections.abc import Callable, Iterator, Sequence

from llm60_jax.config import Phase
from llm60_jax.record.doctor import text, time, training
from llm60_jax.record.doctor.findings import Finding
from llm60_jax.record.history import History

CHECKS: Sequence[Callable[[History, Phase], Iterator[Finding]]] = (
    training.refused_steps,
    training.not_in_effect,
    training.diverges,
    text.no_order,
    training.no_progress,
    text.duplicated,
    text.foreign_tokenizer,
    training.frozen_from_start,
    time.slow,
    time.without_native_kernels,
    time.mostly_not_training,
    training.idle_depth,
    training.overfitting,
    training.forgetting,
    text.poor_grammar,
    text.repetition,
    training.above_reference,
)


def examine(history: History) -> list[Finding]:
    """Return all findings of a run, finished or not, phase by phase."""
    return [finding for phase in history.begun for check in CHECKS for finding in check(history, phase)]
