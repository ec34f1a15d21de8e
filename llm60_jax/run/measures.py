"""What a run measures of its model between steps: held-out loss, minimal pairs, and how much blocks change.

Their time is kept out of the measured speed.
"""

import functools
import math
from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np

from llm60_jax import plan
from llm60_jax.config import Phase
from llm60_jax.data.tokens import packing
from llm60_jax.errors import TrainingError
from llm60_jax.evaluate import depth as depths
from llm60_jax.evaluate import drift, validation
from llm60_jax.evaluate.grammar import suite
from llm60_jax.evaluate.grammar.scoring import PairScore, Sample
from llm60_jax.evaluate.grammar.suite import Pair
from llm60_jax.evaluate.validation import Validation
from llm60_jax.machine import together
from llm60_jax.model.groups import Params
from llm60_jax.plan import Stage, StepKey
from llm60_jax.record.metrics import Row
from llm60_jax.record.progress import Look
from llm60_jax.run.events import EvaluationBegins
from llm60_jax.run.state import Run
from llm60_jax.training import phase_groups, step

_PAIRS = 10  # of each phenomenon at every evaluation: about as many tokens as a tenth of the held-out text
_EVAL = jax.jit(step.eval_step, static_argnums=(0, 1), static_argnames=("dtype", "kernels"))
_LOOK = jax.jit(drift.look, static_argnums=(0, 1))


def evaluate(run: Run, phase: Phase, stage: Stage, *, own_only: bool = False) -> Row:
    """Score the held-out documents of the phase and of those before it, and record the result as a row.

    Phases before it are those of this run and of the runs that it starts from, so that forgetting shows. Where a phase
    begins or ends the row also has `pieces`, the losses that two evaluations are compared by (`validation.fall`), by
    phase. A step that is scored already returns its row.

    Random weights are scored on a few rows only, and not on minimal pairs: their loss is that of a guess, and a person
    waits for the first step.

    Args:
      own_only: score the phase's own text alone.
    """
    row = together.broadcast(run.metrics.find("validation_loss", step=run.step, phase=phase.name))
    if row is None:
        run.tell(EvaluationBegins())
        params = run.whole().params
        row = together.on_first(lambda: _evaluated(run, phase, stage, params, own_only=own_only))
        run.record(row)
    _keep_late_loss(run, row)
    return row


def judge(run: Run, phase: Phase, params: Params, pairs: Iterable[Pair]) -> dict[str, PairScore]:
    """Score minimal pairs by phenomenon, without those that do not fit into the context."""
    return _scores(run, phase, params, _sample(run, pairs))


def depth(run: Run, phase: Phase, stage: Stage) -> None:
    """Record what each block of the model does for some of the phase's held-out text (evaluate/depth.py)."""
    if together.broadcast(bool(run.metrics.find("depth", step=run.step, phase=phase.name))):
        return
    rows = _few_rows(run, phase, "tokens", "targets", "segments", "weights")
    params = run.whole().params

    def measure() -> Any:
        return depths.measure(run.model, phase_groups.merged(params, phase.lora), rows).to_tree()

    with run.clock.paused("gate"):
        measured = together.on_first(measure)
    run.record({**run.position(run.step, stage), "depth": measured})


def leaks(run: Run, phase: Phase, key: StepKey) -> int:
    """Count held-out positions that see what attention must hide from them (`validation.leaks`), scored as a step
    computes."""
    score = functools.partial(_score(run, phase), dtype=key.dtype, kernels=key.kernels)
    params = run.whole().params
    with run.clock.paused("proof"):
        return together.on_first(lambda: validation.leaks(score, params, _own_rows(run, phase)))


def look(run: Run, phase: Phase, stage: Stage) -> None:
    """Compare representations with those of the look before, record the drift of each stack, and keep today's.

    The first look of a phase has nothing to compare with. A step that was looked at is not looked at again.
    """
    previous = run.progress.look
    if previous is not None and previous.step == run.step:
        return
    model, state = run.model, run.whole()
    with run.clock.paused("evaluation"):  # each process by itself: all keep the representations, and JAX compares them
        rows = _few_rows(run, phase, "tokens", "segments")
        reference, drifts = _LOOK(model, phase.lora, state.params, state.reference, rows)
    run.keep_reference(reference)
    run.progress.look = Look(step=run.step)
    if previous is not None:
        names = [name for name, _, _ in model.named_stacks]
        run.progress.look.drift = together.broadcast(dict(zip(names, np.asarray(drifts).tolist(), strict=True)))
        run.record({**run.position(run.step, stage), "drift": run.progress.look.drift})


def _evaluated(run: Run, phase: Phase, stage: Stage, params: Params, *, own_only: bool) -> Row:
    names = [phase.name] if own_only else [*run.data.before(phase.name), phase.name]
    with run.clock.paused("evaluation"):
        grammar = {} if own_only or _is_untrained(run) else _grammar(run, phase, params)
        scores = {name: _validate(run, phase, params, name) for name in names}
    own = scores.pop(phase.name)
    row = run.position(run.step, stage) | own.to_row() | grammar
    if scores:
        row["earlier_phases"] = {name: score.to_row() for name, score in scores.items()}
    if run.step in run.plan.phase_span(phase.name):
        pieces = {name: score.pieces for name, score in (scores | {phase.name: own}).items()}
        row["pieces"] = {name: [[round(nll, 3), size] for nll, size in some] for name, some in pieces.items()}
    return row


def _keep_late_loss(run: Run, row: Row) -> None:
    """Remember the loss of an evaluation that the plateau test uses."""
    progress, step_, phase = run.progress, row["step"], row["phase"]
    first_late = run.plan.late_stages(phase)[0][0]
    is_new = step_ not in [known for known, _ in progress.late_losses]
    if first_late <= step_ and is_new and step_ > run.plan.phase_span(phase)[0]:
        progress.late_losses.append((step_, row["validation_loss"]))


def _validate(run: Run, phase: Phase, params: Params, held_out: str) -> Validation:
    """Score the held-out documents of a phase, by the program of the phase that trains."""
    context = run.config.model.max_context
    tokens = plan.validation_tokens(run.config, phase)
    if _is_untrained(run):
        tokens = min(tokens, validation.ROWS * context)
    rows, text_bytes = packing.validation_rows(run.data.held_out[held_out], context, tokens)
    score = _score(run, phase)
    bins, check = _rarity_bins(run, phase, held_out), run.interrupts.check
    result = validation.score(score, params, rows, text_bytes, bins, check)
    if not math.isfinite(result.loss):
        where = f"step {run.step}, phase {phase.name}"
        remedy = run.remedy(phase.name)
        raise TrainingError(f"{where}: validation loss {result.loss} on the text of phase {held_out}{remedy}")
    return result


def _rarity_bins(run: Run, phase: Phase, held_out: str) -> np.ndarray:
    """Return the rarity bin of each token, counted in the training text once a run.

    The training text of earlier runs is not counted: their tokens count as rare as they are in this phase's text.
    """
    if held_out not in run.rarity_bins:
        counted = held_out if held_out in run.data.shards else phase.name
        run.rarity_bins[held_out] = validation.rarity_bins(run.data.target_counts(counted))
    return run.rarity_bins[held_out]


def _grammar(run: Run, phase: Phase, params: Params) -> dict[str, Any]:
    """Return the share of a fixed sample of minimal pairs that the model judges right, in all and by phenomenon.

    These are fields of metrics.jsonl; empty if no pair fits into the model's context.
    """
    if run.evaluation_pairs is None:
        run.evaluation_pairs = _sample(run, (pair for pairs in suite.suite().values() for pair in pairs[:_PAIRS]))
    sample = run.evaluation_pairs
    scores = _scores(run, phase, params, sample)
    if not scores:
        return {}
    right = sum(score.correct for score in scores.values()) / len(sample.pairs)
    by_phenomenon = {name: score.accuracy for name, score in scores.items()}
    return {"minimal_pairs": right, "minimal_pairs_by_phenomenon": by_phenomenon}


def _sample(run: Run, pairs: Iterable[Pair]) -> Sample:
    return Sample.of(pairs, run.data.tokenizer, run.config.model.max_context)


def _scores(run: Run, phase: Phase, params: Params, sample: Sample) -> dict[str, PairScore]:
    return sample.verdicts(functools.partial(_score(run, phase), params), validation.ROWS)


def _score(run: Run, phase: Phase) -> Callable[..., Any]:
    """Return (params, rows) -> loss of each token, with the phase's adapters if they are in the state."""
    return functools.partial(_EVAL, run.model, phase.lora if run.progress.phase == phase.name else None)


def _few_rows(run: Run, phase: Phase, *names: str) -> dict[str, np.ndarray]:
    """Return the held-out rows whose representations are looked at; rows of segment 0 fill up and do not count."""
    rows = _own_rows(run, phase)
    return {name: _of_length(rows[name], step.probe_rows(run.config.model)) for name in names}


def _own_rows(run: Run, phase: Phase) -> packing.Rows:
    """Return the rows of the phase's own held-out text that an evaluation scores."""
    tokens = plan.validation_tokens(run.config, phase)
    return packing.validation_rows(run.data.held_out[phase.name], run.config.model.max_context, tokens)[0]


def _is_untrained(run: Run) -> bool:
    """Return whether the run stands at random weights."""
    return run.step == 0 and run.config.start is None


def _of_length(rows: np.ndarray, count: int) -> np.ndarray:
    """Return the first `count` rows, with padding where there are fewer."""
    return np.concatenate([rows[:count], np.zeros((max(0, count - len(rows)), *rows.shape[1:]), rows.dtype)])
