"""What a run measures of its model on held-out text between steps: validation loss, and how much blocks change."""

import functools
import math
from collections.abc import Iterable
from typing import Any

import jax
import numpy as np

from llm60_jax.config import Phase
from llm60_jax.data.tokens import packing
from llm60_jax.errors import TrainingError
from llm60_jax.evaluate import depth, drift, validation
from llm60_jax.evaluate.grammar import suite
from llm60_jax.evaluate.grammar.scoring import PairScore, Sample
from llm60_jax.evaluate.grammar.suite import Pair
from llm60_jax.evaluate.validation import Validation
from llm60_jax.plan import Stage
from llm60_jax.run.clock import StageClock
from llm60_jax.run.session import Session
from llm60_jax.training import phase_groups, step

_PAIRS = 10  # of each phenomenon, scored at every evaluation: about as many tokens as one in ten of the held-out text
_EVAL = jax.jit(step.eval_step, static_argnums=(0, 1))
_LOOK = jax.jit(drift.look, static_argnums=(0, 1))


class Measures:
    """The measurements of one run; their time is kept out of the measured speed."""

    def __init__(self, session: Session, clock: StageClock):
        self._session, self._clock = session, clock
        self._pairs: Sample | None = None
        self._bins: dict[str, np.ndarray] = {}  # of rarity, by phase

    def evaluate(self, phase: Phase, stage: Stage) -> dict[str, Any]:
        """Scores the held-out documents of the phase and of those before it, in this run and in the ones that it starts
        from, so that forgetting is seen, and records the result as a row; at a step scored before, finds it.

        Where a phase begins or ends the row also has `pieces`, the losses that two evaluations are compared by
        (`validation.fall`), by phase.
        """
        session = self._session
        for row in session.workdir.rows():
            if row["step"] == session.step and row["phase"] == phase.name and "validation_loss" in row:
                session.keep_late(row)
                return row
        names = [*session.data.before(phase.name), phase.name]
        with self._clock.paused("evaluation"):
            grammar = self._grammar(phase)
            found = {name: self._validate(phase, name) for name in names}
        own = found.pop(phase.name)
        row = session.position(session.step, stage) | own.to_row() | grammar
        if found:
            row["earlier_phases"] = {name: score.to_row() for name, score in found.items()}
        if session.step in session.plan.phase_span(phase.name):
            pieces = {name: score.pieces for name, score in (found | {phase.name: own}).items()}
            row["pieces"] = {name: [[round(nll, 3), size] for nll, size in some] for name, some in pieces.items()}
        session.workdir.append(row)
        session.keep_late(row)
        return row

    def _validate(self, phase: Phase, held_out: str) -> Validation:
        """The score on the held-out documents of a phase, by the program of the phase that trains."""
        session = self._session
        rows, text_bytes = self._rows(held_out, session.config.train.validation_tokens)
        if held_out not in self._bins:
            # The training text of earlier runs is not counted: their tokens are as rare as they are here.
            known = held_out if held_out in session.data.shards else phase.name
            self._bins[held_out] = validation.rarity_bins(session.data.target_counts(known))
        score, params, check = self._score(phase), session.state.params, session.interrupts.check
        found = validation.score(score, params, rows, text_bytes, self._bins[held_out], check)
        if not math.isfinite(found.loss):
            told = f"validation loss {found.loss} on the text of phase {held_out}"
            raise TrainingError(f"step {session.step}, phase {phase.name}: {told}{session.remedy(phase.name)}")
        return found

    def _grammar(self, phase: Phase) -> dict[str, Any]:
        """Fields of metrics.jsonl: the share of a fixed sample of minimal pairs that the model judges right, in all and
        by phenomenon. Empty if no pair fits into the model's context."""
        if self._pairs is None:
            self._pairs = self._sample(pair for found in suite.suite().values() for pair in found[:_PAIRS])
        verdicts = self._verdicts(phase, self._pairs)
        if not verdicts:
            return {}
        right = sum(verdict.correct for verdict in verdicts.values()) / len(self._pairs.pairs)
        by_phenomenon = {name: verdict.accuracy for name, verdict in verdicts.items()}
        return {"minimal_pairs": right, "minimal_pairs_by_phenomenon": by_phenomenon}

    def judge(self, phase: Phase, some: Iterable[Pair]) -> dict[str, PairScore]:
        """The verdict on each phenomenon of some minimal pairs, those left out that do not fit into the context."""
        return self._verdicts(phase, self._sample(some))

    def _sample(self, some: Iterable[Pair]) -> Sample:
        return Sample.of(some, self._session.data.tokenizer, self._session.config.model.max_context)

    def _verdicts(self, phase: Phase, sample: Sample) -> dict[str, PairScore]:
        score = functools.partial(self._score(phase), self._session.state.params)
        return sample.verdicts(score, validation.ROWS)

    def depth(self, phase: Phase, stage: Stage) -> None:
        """Records what each block of the model does for some of the phase's held-out text (depth.py), as a row."""
        session = self._session
        few = self._few_rows(phase, "tokens", "targets", "segments", "weights")
        found = depth.measure(session.config.model, phase_groups.merged(session.state.params, phase.lora), few)
        row = {**session.position(session.step, stage), "depth": found.to_tree()}
        if row not in session.workdir.rows():
            session.workdir.append(row)

    def leaks(self, phase: Phase) -> int:
        """Held-out positions that see what attention must not show them (`validation.leaks`)."""
        with self._clock.paused("proof"):
            rows, _ = self._rows(phase.name, self._session.config.train.validation_tokens)
            return validation.leaks(self._score(phase), self._session.state.params, rows)

    def _score(self, phase: Phase) -> Any:
        lora = phase.lora if self._session.phase == phase.name else None
        return functools.partial(_EVAL, self._session.config.model, lora)

    def look(self, phase: Phase, stage: Stage) -> dict[str, float] | None:
        """Compares representations with the look before, records the drift of each stack, and keeps those of now.

        Returns the drift by stack; None at the first look of a phase, or when this step has been looked at.
        """
        session = self._session
        if session.looks.get("step") == session.step:
            return None
        first = not session.looks
        with self._clock.paused("evaluation"):
            few = self._few_rows(phase, "tokens", "segments")
            reference, drifts = _LOOK(
                session.config.model, phase.lora, session.state.params, session.state.reference, few
            )
        session.looks = {"step": session.step}
        session.keep_reference(reference)
        if first:
            return None
        names = [name for name, _, _ in session.config.model.named_stacks]
        found = dict(zip(names, np.asarray(drifts).tolist(), strict=True))
        session.looks["drift"] = found
        session.workdir.append({**session.position(session.step, stage), "drift": found})
        return found

    def _few_rows(self, phase: Phase, *names: str) -> dict[str, np.ndarray]:
        """As many held-out rows as representations are looked at in; those of segment 0, as the last may be, do not
        count."""
        rows, _ = self._rows(phase.name, self._session.config.train.validation_tokens)
        return {name: _of_length(rows[name], step.probe_rows(self._session.config.model)) for name in names}

    def _rows(self, phase: str, tokens: int) -> tuple[packing.Rows, int]:
        shard = self._session.data.held_out[phase]
        return packing.validation_rows(shard, self._session.config.model.max_context, tokens)


def _of_length(rows: np.ndarray, count: int) -> np.ndarray:
    """The first `count` rows; padding where there are fewer."""
    return np.concatenate([rows[:count], np.zeros((max(0, count - len(rows)), *rows.shape[1:]), rows.dtype)])
