"""The two ends of a phase: it is entered on the evidence of the one before, and closed on its own.

Judging saves first, then measures and writes `gates/<phase>.json`; only then is the phase checkpoint written.
"""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from llm60_jax import checkpoint, generate, plan
from llm60_jax.config import Phase
from llm60_jax.data.clean import private
from llm60_jax.data.corpus.corpus import Split
from llm60_jax.errors import DamageError
from llm60_jax.evaluate import link_parser, prose, rare_words, validation, words
from llm60_jax.evaluate.grammar import suite
from llm60_jax.evaluate.overlap import overlap
from llm60_jax.generate import Choice, Request
from llm60_jax.machine import files, together
from llm60_jax.machine.terminal import Tracker, detail, say
from llm60_jax.plan import Extension
from llm60_jax.record import store
from llm60_jax.run import gates, measures, saving
from llm60_jax.run.gates import Evidence, TextCounts, Verdict
from llm60_jax.run.state import Run
from llm60_jax.training import phase_groups
from llm60_jax.training.step import TrainState

_TEXT_TOKENS = 4096  # generated for the counts of slips, about
_LEAST_TEXTS, _MOST_TEXTS = 8, 32
_HUMAN_WORDS = 20_000  # of held-out text, which the model's texts are compared with
_CLOZE_PAIRS = 200


class Judgement(NamedTuple):
    """What a gate has come to."""

    closes: bool
    explanation: str
    override: str | None  # why a person closes the phase against its gate
    ancestors: dict[str, str]  # path -> state_sha256, verified now
    plain: TrainState | None  # the state as a plain model: adapters merged, added heads gone; None with an extension
    extension: Extension | None  # the phase only lacks a plateau, and its gate allows more steps


def enter(run: Run, phase: Phase) -> None:
    """Enter a phase, unless the run stands inside it or at its end.

    The phase before must be closed on its evidence (golden rule 1). The phase's own parameter groups are added.

    Raises:
      GateError: the phase before was not judged, or did not pass.
      DamageError: its checkpoint ends at another step.
    """
    start, stop = run.plan.phase_span(phase.name)
    if run.step == stop:
        return
    if run.progress.phase != phase.name:
        before = run.config.phase[: run.config.phase.index(phase)]
        if before:
            name = before[-1].name
            run.progress.ancestors[f"phases/{name}"] = together.on_first(lambda: _closed_state(run, name))
        run.become(phase_groups.begin(run.config, phase, run.whole()))
        run.progress.enter(phase.name)
    if not run.metrics.find("data", phase=phase.name):
        text = run.data.facts(phase)
        if run.config.goal(phase) == "fine_tune" and (strings := run.data.private(phase)):
            text["private"] = strings
            listed = ", ".join(private.described(strings))
            say(f"{phase.name}: its text holds {listed}; what the model keeps of them: tools/check_privacy.py")
        run.record({**run.position(start, run.plan.stage_at(start)), "data": text})


def _closed_state(run: Run, name: str) -> str:
    """Return the `state_sha256` of a phase that the run stands at the end of. Raise as `enter`."""
    folder = run.checkpoints.phase(name)
    ends, digest = store.identity(folder)
    if ends != run.step:
        raise DamageError(f"{folder}: ends at step {ends}, and the run stands at {run.step}")
    gates.require(run.workdir.path, name, digest, run.data.digests)
    return digest


def judge(run: Run, phase: Phase, asked_for: str | None) -> Judgement:
    """Save, measure, and hold a phase's evidence against its gate; write it to `gates/<phase>.json`.

    Args:
      asked_for: why the phase shall close, whatever its gate says.

    Raises:
      DamageError: a checkpoint that the run builds on has changed.
    """
    last = run.plan.phase_stages(phase.name)[-1]
    with run.clock.paused("saving"):
        saving.store_rolling(run, last)
    end = measures.evaluate(run, phase, last)
    detail(f"{phase.name}: after {run.step:,} steps {validation.describe(end)}")
    measures.depth(run, phase, last)
    state = run.whole()
    plain = phase_groups.end(phase, state)

    def judged() -> list[Any]:
        evidence = _gather(run, phase, state, plain, end)
        checks = gates.judge(phase, evidence)
        verdict = Verdict(
            phase=phase.name,
            checks=checks,
            evidence=evidence,
            state_sha256=store.state_sha256(plain, None),
            digests=run.data.digests,
            earlier_checkpoints=verify_ancestors(run),
            override=None if all(check.passed for check in checks) else asked_for,
        )
        run.workdir.write(f"gates/{phase.name}.json", files.dump(verdict.to_json()))
        lacks_plateau = [check.name for check in verdict.failed] == [gates.PLATEAU] and verdict.override is None
        closes = verdict.passed or verdict.override is not None
        return [closes, gates.explain(verdict), verdict.override, verdict.earlier_checkpoints, lacks_plateau]

    with run.clock.paused("gate"):
        closes, explanation, override, ancestors, lacks_plateau = together.on_first(judged)
    extension = plan.extend(run.plan, phase, "it still improves") if lacks_plateau else None
    return Judgement(closes, explanation, override, ancestors, plain if extension is None else None, extension)


def close(run: Run, phase: Phase, judgement: Judgement) -> None:
    """Write the phase checkpoint, and the adapters alone where there are any."""
    last = run.plan.phase_stages(phase.name)[-1]
    with run.clock.paused("gate"):
        if judgement.override is not None:
            run.progress.overrides[phase.name] = judgement.override
        state = run.whole()
        if checkpoint.has_adapters(state):
            adapters = phase_groups.without_base(state)
            folder = run.checkpoints.save_adapters(phase.name, adapters, run.meta(last, permanent=True))
            say(f"the adapters alone: {folder}")
        assert judgement.plain is not None, "a phase that is extended does not close"
        run.progress.phase = None
        run.become(judgement.plain)
        folder = run.checkpoints.save_phase(phase.name, judgement.plain, run.meta(last, permanent=True, closed=True))
    detail(f"phase {phase.name} is closed: {folder}")
    for name, digest in judgement.ancestors.items():
        detail(f"{name}: unchanged (state {digest[:16]})")


def account(run: Run, phase: Phase) -> None:
    """Record the seconds that the end of a phase took."""
    last = run.plan.phase_stages(phase.name)[-1]
    run.record({**run.position(run.step, last), "phase_end": {"seconds": run.clock.account()}})


def verify_ancestors(run: Run) -> dict[str, str]:
    """Prove that the checkpoints which this run builds on are unchanged; return them with their digests.

    Raises DamageError naming one that has changed.
    """
    for name, recorded in run.progress.ancestors.items():
        checkpoint.verify_state(run.workdir.path / name, recorded)
    return dict(run.progress.ancestors)


def _gather(run: Run, phase: Phase, state: TrainState, plain: TrainState, end: dict[str, Any]) -> Evidence:
    """Measure everything that a gate may ask for, beside what the evaluation at the phase's `end` holds."""
    config, start = run.config, run.progress.phase_start
    begin = run.plan.phase_span(phase.name)[0]
    vocabulary = words.prepare(run.data.corpora, Path(config.data_dir), Tracker(run.interrupts))
    cloze = rare_words.pairs(_texts(run, phase, "validation"), vocabulary, _CLOZE_PAIRS)
    grammar = [pair for pairs in suite.suite().values() for pair in pairs]
    scores = measures.judge(run, phase, state.params, grammar + cloze)
    written = _write(run, plain)
    generated = [text.text for text in written.texts]
    human = list(_first_words(_texts(run, phase, "validation"), _HUMAN_WORDS))
    fine_tunes = config.goal(phase) == "fine_tune"

    def counts(texts: list[tuple[str, bool]]) -> TextCounts:
        return TextCounts(
            prose.measure(texts, vocabulary.counts.keys(), vocabulary.rare),
            link_parser.parse_rate([text for text, _ in texts]),
        )

    return Evidence(
        tokens=(run.step - begin) * run.plan.tokens_per_step,
        loss=end["validation_loss"],
        bits_per_byte=end["bits_per_byte"],
        fall=gates.fall_since(start, end, phase.name),
        late=_late_losses(run, phase),
        grammar={name: score for name, score in scores.items() if name != rare_words.NAME},
        grammar_before=_grammar_before(run),
        forgotten={name: -gates.fall_since(start, end, name) for name in run.data.before(phase.name)},
        rare_words=scores.get(rare_words.NAME),
        generated=counts([(text.text, not text.ended) for text in written.texts]),
        human=counts([(text, False) for text in human]),
        memorised=overlap(generated, _texts(run, phase, "train")) if fine_tunes else None,
        memorised_by_chance=overlap(human, _texts(run, phase, "train")) if fine_tunes else None,
    )


def _grammar_before(run: Run) -> float | None:
    """Return the minimal-pair accuracy of the checkpoint that the phase began from, of this run or another."""
    if not run.progress.ancestors:
        return None
    folder = run.workdir.path / list(run.progress.ancestors)[-1]
    return gates.grammar_of(folder.parents[1], folder.name)


def _late_losses(run: Run, phase: Phase) -> tuple[tuple[int, float], ...]:
    """Return the losses that tell a plateau, by the tokens of the phase. In an extended phase the latest count."""
    begin = run.plan.phase_span(phase.name)[0]
    latest = run.step - plan.LATE * (run.step - begin)
    return tuple(
        ((step - begin) * run.plan.tokens_per_step, loss) for step, loss in run.progress.late_losses if step >= latest
    )


def _write(run: Run, plain: TrainState) -> generate.Written:
    """Return texts of the model that fill its context, enough of them to count slips in."""
    config, tokenizer = run.config, run.data.tokenizer
    context = config.model.max_context
    count = min(_MOST_TEXTS, max(_LEAST_TEXTS, _TEXT_TOKENS // context))
    requests = [
        Request(prompt, context, config.seed + number)
        for number, prompt in zip(range(count), itertools.cycle(config.sampling.prompts), strict=False)
    ]
    choice = Choice.of(config.sampling, tokenizer.eos)
    return generate.write(run.model, plain.params, tokenizer, requests, choice, run.interrupts.check)


def _texts(run: Run, phase: Phase, split: Split) -> Iterator[str]:
    return (record["text"] for record in run.data.corpora[phase.name].read(split))


def _first_words(texts: Iterator[str], most: int) -> Iterator[str]:
    """Yield whole texts until they have `most` words."""
    for text in texts:
        yield text
        most -= len(text.split())
        if most <= 0:
            return
