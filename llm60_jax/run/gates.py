"""A phase closes on recorded evidence (playbook, sections 1, 3.4, 4.4 and 5.5): `gates/<phase>.json`.

`judge` holds what was measured against what the configuration asks for (phase.Gate); `require` lets nothing go on from
a checkpoint whose phase was not judged. Pure, apart from the reading of that file.
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

MORE = 0.1  # share of a phase's tokens that a plateau is judged by
_LEAST = 4  # evaluations, for a plateau to be told
PLATEAU = "gain from 10 % more tokens"  # the one check that more steps can meet


class TextCounts(NamedTuple):
    """What was counted in texts, the model's or a person's."""

    prose: Prose
    parse_rate: float | None  # None without link-parser


@dataclasses.dataclass(frozen=True)
class Evidence:
    """All that was measured at the end of a phase. Losses are in nats per token."""

    tokens: int  # of the phase so far
    loss: float
    bits_per_byte: float
    fall: Mean  # of the loss on the phase's own held-out text since its start
    late: tuple[tuple[int, float], ...]  # (tokens of the phase, loss) where a plateau is looked for
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
        return sum(one.accuracy for one in self.grammar.values()) / max(1, len(self.grammar))

    def to_tree(self) -> dict[str, Any]:
        """As JSON values."""

        def written(found: TextCounts) -> dict[str, Any]:
            return {**found.prose.to_tree(), "parse_rate": found.parse_rate}

        return {
            "tokens": self.tokens,
            "validation_loss": self.loss,
            "bits_per_byte": self.bits_per_byte,
            "fall": _finite(self.fall),
            "late": [list(pair) for pair in self.late],
            "gain_of_more_tokens": _finite(expected_gain(self.late)),
            "grammar": {name: one.to_tree() for name, one in self.grammar.items()},
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
    """One thing that was asked for."""

    name: str
    found: float
    asked: str  # "at least 0.5"
    passed: bool
    remedy: str


@dataclasses.dataclass(frozen=True)
class Verdict:
    """Whether a phase may close, on what evidence, and what exactly it is about."""

    phase: str
    checks: tuple[Check, ...]
    evidence: Evidence
    state_sha256: str
    digests: dict[str, str]  # of data and tokenizer
    earlier_checkpoints: dict[str, str]  # path -> state_sha256 of those it builds on, verified when the phase closed
    override: str | None = None  # why a person let it pass

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
    """By how much the loss would fall with so many more tokens, as it fell of late: the slope of the loss over the
    logarithm of tokens, with the 95 % interval of a regression. Where the points are too few, all that is known is that
    no loss falls below 0."""
    tokens, losses = np.array(late, np.float64).reshape(-1, 2).T
    if not len(tokens):
        return Mean(math.nan, math.inf)
    if len(tokens) < _LEAST:
        return Mean(float(losses[-1]) / 2, float(losses[-1]) / 2)
    from scipy import special  # here, because it takes a third of a second to import, and a run needs it once a phase

    x = np.log(tokens) - np.log(tokens).mean()
    slope = float((x * losses).sum() / (x * x).sum())
    rest = losses - losses.mean() - slope * x
    freedom = len(x) - 2
    error = math.sqrt(float((rest * rest).sum()) / freedom / float((x * x).sum()))
    step = math.log(1 + more)
    return Mean(-slope * step, float(special.stdtrit(freedom, 0.975)) * error * step)


def judge(phase: Phase, found: Evidence) -> tuple[Check, ...]:
    """What the phase's gate asks for, held against the evidence. What is not a number never passes."""
    gate, name = phase.gate, phase.name
    gain, fall = expected_gain(found.late), found.fall
    more = math.ceil(MORE * found.tokens)
    # Only a phase that lacks nothing but a plateau is extended (closing.close).
    longer = f"train longer: in a new run (--workdir DIR) with --set phase.{name}.tokens={2 * phase.tokens}"
    extend = f"if all else is met, raise phase.{name}.gate.extend_up_to (now {gate.extend_up_to:g}); same command"
    cleaner = "restart phase 1 with cleaner or more text (tools/inspect_data.py shows it)"
    gentler = f"in a new run, lower phase.{name}.learning_rate or its tokens"
    checks = [
        _least("fall of validation loss", fall.value - fall.error, gate.min_fall, f"{longer}; or clean its text"),
        _most(PLATEAU, gain.value + gain.error, gate.min_gain, f"it still improves: {more:,} tokens more; {extend}"),
    ]
    for phenomenon, asked in gate.grammar.items():
        lower = found.grammar[phenomenon].lower if phenomenon in found.grammar else math.nan
        checks.append(_least(f"grammar: {phenomenon}", lower, asked, f"{longer}, or {cleaner}"))
    if gate.rare_words is not None:
        lower = found.rare_words.lower if found.rare_words else math.nan
        checks.append(_least("rare words in their context", lower, gate.rare_words, f"{longer}, or add richer text"))
    if found.grammar_before is not None:
        least = found.grammar_before - gate.max_grammar_loss
        checks.append(_least("minimal pairs, all", found.grammar_mean, least, gentler))
    for earlier, rise in found.forgotten.items():
        checks.append(_most(f"forgetting: {earlier}", rise.value + rise.error, gate.max_forgetting, gentler))
    checks += _of_texts(gate, found, f"{longer}, or {cleaner}")
    if gate.max_memorised is not None and found.memorised and found.memorised_by_chance:
        beyond = found.memorised.share - found.memorised_by_chance.share
        checks.append(_most("learnt by heart", beyond, gate.max_memorised, f"{gentler}, or add text"))
    return tuple(checks)


def _of_texts(gate: Gate, found: Evidence, remedy: str) -> list[Check]:
    """Slips of the model's texts beyond those of a person, and its vocabulary beside a person's."""
    own, human, checks = found.generated.prose.to_tree(), found.human.prose.to_tree(), []
    own["parse_rate"], human["parse_rate"] = found.generated.parse_rate, found.human.parse_rate
    for slip, most in gate.at_most.items():
        checks.append(_most(f"texts: {slip}, beyond held-out text", own[slip] - human[slip], most, remedy))
    for name, least in gate.at_least.items():
        if own[name] is not None and human[name]:  # the parser may not be installed
            checks.append(_least(f"texts: {name}, of that of held-out text", own[name] / human[name], least, remedy))
    return checks


def explain(verdict: Verdict) -> str:
    """For a person: one line where everything was met, else a table of what fell short and what to do."""
    name, checks = verdict.phase, verdict.checks
    if verdict.passed:
        return f"gate {name}: passed, all {len(checks)} checks"
    lines = [f"gate {name}: not passed: {len(verdict.failed)} of {len(checks)} checks fell short"]
    lines += [f"  {check.name}: {_show(check.found)}, asked for {check.asked}" for check in verdict.failed]
    lines += [f"  what to do: {remedy}" for remedy in dict.fromkeys(check.remedy for check in verdict.failed)]
    if verdict.override is not None:
        lines.append(f"  closed all the same, and recorded for good: {verdict.override}")
    else:
        lines.append(f"  The evidence is in gates/{name}.json. To close the phase against it: ")
        lines[-1] += f"--override-gate {name} --why '...'"
    return "\n".join(lines)


def check_names(phases: Sequence[Phase]) -> None:
    """Raises InputError for a phenomenon that no minimal pairs are there for."""
    known = suite.suite()
    for phase in phases:
        for name in phase.gate.grammar:
            if name not in known:
                raise InputError(f"phase.{phase.name}.gate.grammar: '{name}' is none of {', '.join(known)}")


def require(run: Path, phase: str, state_sha256: str, digests: Mapping[str, str] | None) -> None:
    """Lets a run go on from the end of a phase only if that was judged.

    Args:
      state_sha256: of the checkpoint to go on from.
      digests: of data and tokenizer now; None where the run is another one.

    Raises:
      GateError: the phase was not judged, or did not pass and nobody let it.
      DamageError: what was judged is something else.
    """
    path = run / "gates" / f"{phase}.json"
    again = f"to have it judged again, move {run / 'phases' / phase} away and run its command"
    try:
        told = dict(json.loads(path.read_text(encoding="utf-8")))
        passed, override, judged = told["passed"], told["override"], told["state_sha256"]
        before = dict(told["digests"])
    except FileNotFoundError:
        raise GateError(f"{path}: missing, so nothing may go on from phase {phase}; {again}") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DamageError(f"{path}: unreadable ({type(error).__name__}); {again}") from None
    if judged != state_sha256:
        raise DamageError(f"{path}: judged state {str(judged)[:16]}, the checkpoint has {state_sha256[:16]}; {again}")
    if digests is not None and before != dict(digests):
        raise DamageError(f"{path}: judged on other text or tokens than those of now; {again}")
    if not (passed is True or override):
        raise GateError(f"{path}: phase {phase} did not pass its gate, so nothing may go on from it")


def grammar_of(run: Path, phase: str) -> float | None:
    """The mean accuracy on minimal pairs that was recorded where a phase of a run closed."""
    try:
        told = json.loads((run / "gates" / f"{phase}.json").read_text(encoding="utf-8"))
        return float(told["evidence"]["grammar_mean"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def fall_since(start: Mapping[str, Any] | None, end: Mapping[str, Any], phase: str) -> Mean:
    """The fall of the loss on a phase's held-out text between two evaluations with `pieces`. Raises DamageError."""
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
