"""The end of a phase: saved first, then evidence, samples and the gate; only then the phase checkpoint."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from llm60_jax import generate, plan
from llm60_jax.checkpoint import has_adapters
from llm60_jax.config import Phase
from llm60_jax.data.corpus.corpus import Split
from llm60_jax.errors import GateError
from llm60_jax.evaluate import link_parser, prose, rare_words, validation, words
from llm60_jax.evaluate.grammar import suite
from llm60_jax.evaluate.overlap import overlap
from llm60_jax.generate import Choice, Request
from llm60_jax.machine import files
from llm60_jax.machine.terminal import Tracker, say
from llm60_jax.record import store
from llm60_jax.run import gates, samples
from llm60_jax.run.clock import StageClock
from llm60_jax.run.gates import Evidence, TextCounts, Verdict
from llm60_jax.run.measures import Measures
from llm60_jax.run.session import Session
from llm60_jax.training import phase_groups
from llm60_jax.training.step import TrainState

_TOKENS = 4096  # of the texts that are measured, about
_TEXTS = 8, 32  # of them, at least and at most
_HUMAN_WORDS = 20_000  # of the held-out text that they are held against
_CLOZE = 200  # pairs


def close(session: Session, measures: Measures, clock: StageClock, phase: Phase, override: str | None) -> bool:
    """Closes a phase on recorded evidence; or gives it more steps, where it lacks a plateau only and its gate allows
    for more. Returns whether it is closed.

    Args:
      override: why the phase shall close, whatever its gate says.

    Raises:
      GateError: the evidence does not suffice; the state is saved, and the same command judges again.
      DamageError: a checkpoint that the run builds on is not what it was.
    """
    last = session.plan.phase_stages(phase.name)[-1]
    meta = session.meta(last, None, permanent=False)
    with clock.paused("saving"):
        session.save_rolling(meta)
    end = measures.evaluate(phase, last)
    say(f"{phase.name}: after {session.step:,} steps {validation.describe(end)}")
    with clock.paused("gate"):
        measures.depth(phase, last)
        plain = phase_groups.end(phase, session.state)
        evidence = _gather(session, measures, phase, plain, end)
        checks = gates.judge(phase, evidence)
        if all(check.passed for check in checks):
            override = None  # nobody had to let it pass
        verdict = Verdict(
            phase=phase.name,
            checks=checks,
            evidence=evidence,
            state_sha256=store.state_sha256(plain, None),
            digests=session.data.digests,
            earlier_checkpoints=session.verify_ancestors(),
            override=override,
        )
        session.workdir.write(f"gates/{phase.name}.json", files.dump(verdict.to_json()))
        samples.show(samples.keep(session, phase), phase)
        told = gates.explain(verdict)
        if verdict.passed or override is not None:
            say(told)
            if override is not None:
                session.overrides[phase.name] = override
            _keep(session, phase, plain, verdict)
            return True
        more = plan.extend(session.plan, phase, "it still improves")
        if more is None or [check.name for check in verdict.failed] != [gates.PLATEAU]:
            raise GateError(told)
        say(told)
        session.extend(more)
        return False


def _keep(session: Session, phase: Phase, plain: TrainState, verdict: Verdict) -> None:
    """The phase checkpoint, and the adapters alone where there are any."""
    meta = session.meta(session.plan.phase_stages(phase.name)[-1], None, permanent=True)
    if has_adapters(session.state):
        folder = session.checkpoints.save_adapters(phase.name, phase_groups.without_base(session.state), meta)
        say(f"the adapters alone: {folder}")
    session.state, session.phase = plain, None
    folder = session.checkpoints.save_phase(phase.name, plain, meta | {"closed": True})
    say(f"phase {phase.name} closed: {folder}")
    for name, digest in verdict.earlier_checkpoints.items():
        say(f"{name} is what it was: state {digest[:16]}")


def _gather(session: Session, measures: Measures, phase: Phase, plain: TrainState, end: dict[str, Any]) -> Evidence:
    """Measures everything that a gate may ask for, beside what the evaluation at the phase's `end` has found."""
    config = session.config
    begin = session.plan.phase_span(phase.name)[0]
    earlier = session.data.before(phase.name)
    known = words.prepare(session.data.corpora, Path(config.data_dir), Tracker(session.interrupts))
    rare = rare_words.pairs(_texts(session, phase, "validation"), known, _CLOZE)
    grammar = [pair for found in suite.suite().values() for pair in found]
    judged = measures.judge(phase, grammar + rare)
    drawn = _write(session, plain)
    texts = [text.text for text in drawn.texts]
    human = list(_first_words(_texts(session, phase, "validation"), _HUMAN_WORDS))
    tunes = config.goal(phase) == "fine_tune"
    return Evidence(
        tokens=(session.step - begin) * session.plan.tokens_per_step,
        loss=end["validation_loss"],
        bits_per_byte=end["bits_per_byte"],
        fall=gates.fall_since(session.phase_start, end, phase.name),
        late=_late(session, phase),
        grammar={name: verdict for name, verdict in judged.items() if name != rare_words.NAME},
        grammar_before=_grammar_before(session),
        forgotten={name: -gates.fall_since(session.phase_start, end, name) for name in earlier},
        rare_words=judged.get(rare_words.NAME),
        generated=TextCounts(
            prose.measure([(text.text, not text.ended) for text in drawn.texts], known.counts.keys(), known.rare),
            link_parser.parse_rate(texts),
        ),
        human=TextCounts(
            prose.measure([(text, False) for text in human], known.counts.keys(), known.rare),
            link_parser.parse_rate(human),
        ),
        memorised=overlap(texts, _texts(session, phase, "train")) if tunes else None,
        memorised_by_chance=overlap(human, _texts(session, phase, "train")) if tunes else None,
    )


def _grammar_before(session: Session) -> float | None:
    """What the checkpoint that the phase began from knew of minimal pairs, this run's or another's."""
    if not session.ancestors:
        return None
    folder = session.workdir.path / list(session.ancestors)[-1]
    return gates.grammar_of(folder.parents[1], folder.name)


def _late(session: Session, phase: Phase) -> tuple[tuple[int, float], ...]:
    """Losses where a plateau is looked for, by the tokens of the phase. Of an extended phase the latest count."""
    begin, now = session.plan.phase_span(phase.name)[0], session.step
    per_step = session.plan.tokens_per_step
    latest = now - plan.LATE * (now - begin)
    return tuple(((step - begin) * per_step, loss) for step, loss in session.late if step >= latest)


def _write(session: Session, plain: TrainState) -> generate.Written:
    """Texts of the model that fill its context, enough of them to count slips in."""
    config, tokenizer = session.config, session.data.tokenizer
    context = config.model.max_context
    count = min(_TEXTS[1], max(_TEXTS[0], _TOKENS // context))
    wanted = [
        Request(prompt, context, config.seed + number)
        for number, prompt in zip(range(count), itertools.cycle(config.sampling.prompts), strict=False)
    ]
    choice = Choice.of(config.sampling, tokenizer.eos)
    return generate.write(config.model, plain.params, tokenizer, wanted, choice, session.interrupts.check)


def _texts(session: Session, phase: Phase, split: Split) -> Iterator[str]:
    return (record["text"] for record in session.data.corpora[phase.name].read(split))


def _first_words(texts: Iterator[str], most: int) -> Iterator[str]:
    """Whole texts, until they have so many words."""
    for text in texts:
        yield text
        most -= len(text.split())
        if most <= 0:
            return
