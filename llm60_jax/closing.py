"""The end of a phase: saved first, then evidence, samples and the gate; only then the phase checkpoint."""

from llm60_jax import checkpoint, gates, manifest, phase_groups, samples
from llm60_jax.clock import StageClock
from llm60_jax.console import say
from llm60_jax.errors import DamageError, GateError
from llm60_jax.evaluate import validation
from llm60_jax.measures import Measures
from llm60_jax.phase import Phase
from llm60_jax.session import Session, has_adapters


def close(session: Session, measures: Measures, clock: StageClock, phase: Phase) -> None:
    """Closes a phase on recorded evidence.

    Raises:
      GateError: the evidence does not suffice; the state is saved, and the same command judges again.
      DamageError: a checkpoint that the run builds on is not what it was.
    """
    last = session.plan.phase_stages(phase.name)[-1]
    meta = session.meta(last, None, permanent=False)
    with clock.paused():
        session.save_rolling(meta)
    end = measures.evaluate(phase, last)
    say(f"{phase.name}: after {session.step:,} steps {validation.describe(end)}")
    with clock.paused():
        if session.phase_start is None:
            raise DamageError(f"phase {phase.name}: its checkpoint holds no evaluation of the phase's start")
        with_extras, session.state = session.state, phase_groups.end(phase, session.state)
        verdict = gates.judge(
            phase,
            loss_start=session.phase_start["validation_loss"],
            loss_end=end["validation_loss"],
            bits_per_byte_end=end["bits_per_byte"],
            state_sha256=checkpoint.state_sha256(session.state, None),
            earlier_checkpoints=session.verify_ancestors(),
        )
        session.workdir.write(f"gates/{phase.name}.json", manifest.dump(verdict.to_json()))
        samples.show(samples.keep(session, phase), phase)
        say(verdict.explain())
        if not verdict.passed:
            raise GateError(verdict.explain())
        kept = meta | {"permanent": True}
        if has_adapters(with_extras):
            folder = session.checkpoints.save_adapters(phase.name, phase_groups.without_base(with_extras), kept)
            say(f"the adapters alone: {folder}")
        folder = session.checkpoints.save_phase(phase.name, session.state, kept | {"closed": True})
        session.phase = None
    say(f"phase {phase.name} closed: {folder}")
    for name, digest in verdict.earlier_checkpoints.items():
        say(f"{name} is what it was: state {digest[:16]}")
