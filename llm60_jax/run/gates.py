"""A phase closes on recorded evidence (playbook, sections 1, 3.4, 4.4 and 5.5): `gates/<phase>.json`.

`judge` compares the evidence with what the configuration asks for (config.Gate). `require` refuses a checkpoint whose
phase was not judged. Pure, apart from reading that file.
"""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from llm60_jax.config import Gate, Phase
from llm60_jax.errors import DamageError, GateError, InputError
from llm60_jax.evaluate import validation
from llm60_jax.evaluate.grammar import suite
from llm60_jax.evaluate.grammar.scoring import PairScore
from llm60_jax.evaluate.overlap import Overlap
from llm60_jax.evaluate.prose import Prose
from llm60_jax.evaluate.validation import Mean

MORE = 0.1  # a plateau is judged by the gain that this share of more tokens would bring
_LEAST = 4  # evaluations that a plateau test needs
PLATEAU = "gain from 10 % more tokens"  # the one check that more steps can pass


class TextCounts(NamedTuple):
    """Counts of slips and of vocabulary in texts, the model's or a person's."""

    prose: Prose
    parse_rate: float | None  # None without link-parser


@dataclasses.dataclass(frozen=True)
class Evidence:
    """All that was measured at the end of a phase. Losses are in nats per token."""

    tokens: int  # of the phase so far
    loss: float
    bits_per_byte: float
    fall: Mean  # of the loss on the phase's own held-out text since its start
    late: tuple[tuple[int, float], ...]  # (tokens of the phase, loss) for the plateau test
    grammar: dict[str, PairScore]  # by phenomenon
    grammar_before: float | None  # mean accuracy at the end of the phase before
    forgotten: dict[str, Mean]  # rise of the loss on the held-out text of earlier phases since this one began
    rare_words: PairScore | None  # cloze; None where the text has too few rare words
    generated: TextCounts
    human: TextCounts  # held-out text
    memorised: Overlap | None  # of generated text; only of fine-tuning
    memorised_by_chance: Overlap | None  # of held-out text

    @property
    def grammar_mean(self) -> float:
        return sum(score.accuracy for score in self.grammar.values()) / max(1, len(self.grammar))

    def to_tree(self) -> dict[str, Any]:
        """Return the evidence as JSON values."""

        def written(counts: TextCounts) -> dict[str, Any]:
            return {**counts.prose.to_tree(), "parse_rate": counts.parse_rate}

        return {
            "tokens": self.tokens,
            "validation_loss": self.loss,
            "bits_per_byte": self.bits_per_byte,
            "fall": _finite(self.fall),
            "late": [list(pair) for pair in self.late],
            "gain_of_more_tokens": _finite(expected_gain(self.late)),
            "grammar": {name: score.to_tree() for name, score in self.grammar.items()},
            "grammar_mean": self.grammar_mean,
            "grammar_before": self.grammar_before,
            "forgotten": {name: _finite(rise) for name, rise in self.forgotten.items()},
            "rare_words": self.rare_words.to_tree() if self.rare_words else None,
            "generated": written(self.generated),
            "human": written(self.human),
            "memorised": self.memorised.to_tree() if self.memorised else None,
            "memorised_by_chance": self.memorised_by_chance.to_tree() if self.memorised_by_chance else None,
        }


class Check(NamedTuple):
    """One requirement of a gate, and whether it is met."""

    name: str
    found: float
    asked: str  # "at least 0.5"
    passed: bool
    remedy: str


@dataclasses.dataclass(frozen=True)
class Verdict:
    """Whether a phase may close, the evidence for it, and the state and data that were judged."""

    phase: str
    checks: tuple[Check, ...]
    evidence: Evidence
    state_sha256: str
    digests: dict[str, str]  # of data and tokenizer
    earlier_checkpoints: dict[str, str]  # path -> state_sha256 of its ancestors, verified when the phase closed
    override: str | None = None  # why a person closed it against the gate

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)

    @property
    def failed(self) -> list[Check]:
        return [check for check in self.checks if not check.passed]

    def to_json(self) -> dict[str, Any]:
        return {
            "phase": self.phase,
            "passed": self.passed,
            "override": self.override,
            "checks": [{**check._asdict(), "found": _number(check.found)} for check in self.checks],
            "state_sha256": self.state_sha256,
            "digests": self.digests,
            "earlier_checkpoints": self.earlier_checkpoints,
            "evidence": self.evidence.to_tree(),
        }


def expected_gain(late: Sequence[tuple[int, float]], more: float = MORE) -> Mean:
    """Predict the fall of the loss from `more` tokens (a share), by its recent slope over log(tokens).

    The error is the 95 % interval of the regression. With too few points the only bound is that no loss falls below 0.
    """
    tokens, losses = np.array(late, np.float64).reshape(-1, 2).T
    if not len(tokens):
        return Mean(math.nan, math.inf)
    if len(tokens) < _LEAST:
        return Mean(float(losses[-1]) / 2, float(losses[-1]) / 2)
    from scipy import special  # its import takes a third of a second, and a run needs it once a phase

    x = np.log(tokens) - np.log(tokens).mean()
    slope = float((x * losses).sum() / (x * x).sum())
    rest = losses - losses.mean() - slope * x
    freedom = len(x) - 2
    error = math.sqrt(float((rest * rest).sum()) / freedom / float((x * x).sum()))
    step = math.log(1 + more)
    return Mean(-slope * step, float(special.stdtrit(freedom, 0.975)) * error * step)


def judge(phase: Phase, evidence: Evidence) -> tuple[Check, ...]:
    """Compare the evidence with what the phase's gate asks for. A value that is not a number never passes."""
    gate, name = phase.gate, phase.name
    gain, fall = expected_gain(evidence.late), evidence.fall
    more = math.ceil(MORE * evidence.tokens)
    # A phase is extended only if the plateau is all that it lacks (closing.judge).
    longer = f"train longer: in a new run (--workdir DIR) with --set {phase.times(2)}"
    extend = f"if only this check fails, raise phase.{name}.gate.extend_up_to (now {gate.extend_up_to:g}) and run again"
    at_rest = phase.learning_rate[1] == 0  # an extension would go on at that rate
    onward = longer if at_rest else f"train {more:,} more tokens; {extend}"
    cleaner = "restart phase 1 with cleaner or more text (python tools/inspect_data.py shows it)"
    gentler = f"in a new run, lower phase.{name}.learning_rate or make the phase shorter"
    checks = [
        _least("fall of validation loss", fall.value - fall.error, gate.min_fall, f"{longer}; or clean its text"),
        _most(PLATEAU, gain.value + gain.error, gate.min_gain, f"it still improves: {onward}"),
    ]
    for phenomenon, asked in gate.grammar.items():
        lower = evidence.grammar[phenomenon].lower if phenomenon in evidence.grammar else math.nan
        checks.append(_least(f"grammar: {phenomenon}", lower, asked, f"{longer}, or {cleaner}"))
    if gate.rare_words is not None:
        lower = evidence.rare_words.lower if evidence.rare_words else math.nan
        checks.append(_least("rare words in their context", lower, gate.rare_words, f"{longer}, or add richer text"))
    if evidence.grammar_before is not None:
        least = evidence.grammar_before - gate.max_grammar_loss
        checks.append(_least("minimal pairs, all", evidence.grammar_mean, least, gentler))
    for earlier, rise in evidence.forgotten.items():
        checks.append(_most(f"forgetting: {earlier}", rise.value + rise.error, gate.max_forgetting, gentler))
    checks += _of_texts(gate, evidence, f"{longer}, or {cleaner}")
    if gate.max_memorised is not None and evidence.memorised and evidence.memorised_by_chance:
        beyond = evidence.memorised.share - evidence.memorised_by_chance.share
        checks.append(_most("learnt by heart", beyond, gate.max_memorised, f"{gentler}, or add text"))
    return tuple(checks)


def _of_texts(gate: Gate, evidence: Evidence, remedy: str) -> list[Check]:
    """Compare slips and vocabulary of the model's texts with those of held-out text."""
    model, human, checks = evidence.generated.prose.to_tree(), evidence.human.prose.to_tree(), []
    model["parse_rate"], human["parse_rate"] = evidence.generated.parse_rate, evidence.human.parse_rate
    for slip, most in gate.at_most.items():
        checks.append(_most(f"texts: {slip}, beyond held-out text", model[slip] - human[slip], most, remedy))
    for name, least in gate.at_least.items():
        if model[name] is not None and human[name]:  # the parser may not be installed
            checks.append(_least(f"texts: {name}, of that of held-out text", model[name] / human[name], least, remedy))
    return checks


def explain(verdict: Verdict) -> str:
    """Return one line if everything passed, else a table of what fell short and what to do."""
    name, checks = verdict.phase, verdict.checks
    if verdict.passed:
        return f"gate {name}: passed, all {len(checks)} checks"
    lines = [f"gate {name}: not passed: {len(verdict.failed)} of {len(checks)} checks fell short"]
    lines += [f"  {check.name}: {_show(check.found)}, asked for {check.asked}" for check in verdict.failed]
    lines += [f"  what to do: {remedy}" for remedy in dict.fromkeys(check.remedy for check in verdict.failed)]
    if verdict.override is not None:
        lines.append(f"  closed by an override, which stays on record: {verdict.override}")
    else:
        lines.append(f"  The evidence is in gates/{name}.json. To close the phase against it: ")
        lines[-1] += f"--override-gate {name} --why '...'"
    return "\n".join(lines)


def check_names(phases: Sequence[Phase]) -> None:
    """Raise InputError for a phenomenon without minimal pairs."""
    phenomena = suite.suite()
    for phase in phases:
        for name in phase.gate.grammar:
            if name not in phenomena:
                raise InputError(f"phase.{phase.name}.gate.grammar: '{name}' is none of {', '.join(phenomena)}")


def require(run: Path, phase: str, state_sha256: str, digests: Mapping[str, str] | None) -> None:
    """Raise unless the phase passed its gate or the gate was overridden.

    Args:
      state_sha256: the digest of the phase's checkpoint.
      digests: today's digests of data and tokenizer; None for another run.

    Raises:
      GateError: the phase was not judged, or did not pass and was not overridden.
      DamageError: the judgement is of another state or other data.
    """
    path = run / "gates" / f"{phase}.json"
    again = f"to judge it again, move {run / 'phases' / phase} away and run its command again"
    try:
        record = dict(json.loads(path.read_text(encoding="utf-8")))
        passed, override, judged = record["passed"], record["override"], record["state_sha256"]
        before = dict(record["digests"])
    except FileNotFoundError:
        raise GateError(f"{path}: missing, so no run can continue from phase {phase}; {again}") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DamageError(f"{path}: unreadable ({type(error).__name__}); {again}") from None
    if judged != state_sha256:
        raise DamageError(f"{path}: judged state {str(judged)[:16]}, the checkpoint has {state_sha256[:16]}; {again}")
    if digests is not None and before != dict(digests):
        raise DamageError(f"{path}: judged on other text or tokens than those of now; {again}")
    if not (passed is True or override):
        raise GateError(f"{path}: phase {phase} did not pass its gate, so no run can continue from it")


def grammar_of(run: Path, phase: str) -> float | None:
    """Return the mean accuracy on minimal pairs that was recorded when a phase closed; None if it cannot be read."""
    try:
        record = json.loads((run / "gates" / f"{phase}.json").read_text(encoding="utf-8"))
        return float(record["evidence"]["grammar_mean"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def fall_since(start: Mapping[str, Any] | None, end: Mapping[str, Any], phase: str) -> Mean:
    """Return the fall of a phase's held-out loss between two evaluations with `pieces`. Raise DamageError."""
    try:
        return validation.fall((start or {})["pieces"][phase], end["pieces"][phase])
    except (KeyError, ValueError) as error:
        raise DamageError(
            f"phase {phase}: its checkpoint lacks evaluations of the phase's own held-out text where it begins and "
            f"ends ({type(error).__name__})"
        ) from None


def _least(name: str, found: float, asked: float, remedy: str) -> Check:
    return Check(name, found, f"at least {asked:.4g}", bool(found >= asked), remedy)


def _most(name: str, found: float, asked: float, remedy: str) -> Check:
    return Check(name, found, f"at most {asked:.4g}", bool(found <= asked), remedy)


def _show(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) else "not known yet"


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _finite(mean: Mean) -> dict[str, float | None]:
    return {"value": _number(mean.value), "error": _number(mean.error)}
