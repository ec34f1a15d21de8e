"""run(): the only place where pure code meets I/O.

Raw text -> documents -> tokenizer -> shards -> every stage of every phase -> gates. Everything a restart needs is in
the newest checkpoint and in the prepared data, so running and resuming are the same call.
"""

import contextlib
import dataclasses
import functools
import logging
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from llm60_jax import config as config_module
from llm60_jax import plan
from llm60_jax.config import Config, Phase
from llm60_jax.data.prepare import prepare
from llm60_jax.data.tokens import bigrams
from llm60_jax.errors import DamageError, GateError, InputError, Interrupted, MachineError, TrainingError
from llm60_jax.evaluate import validation
from llm60_jax.machine import awake, compilation_cache, devices, facts, manifest, terminal
from llm60_jax.machine.signals import GRACE, Interrupts
from llm60_jax.machine.terminal import say
from llm60_jax.plan import Stage
from llm60_jax.record import checkpoints, doctor, history, report, store, tensorboard
from llm60_jax.record.workdir import opened
from llm60_jax.run import ancestry, clock, closing, feed, gates, preflight, progress_line, samples
from llm60_jax.run.measures import Measures
from llm60_jax.run.session import Session
from llm60_jax.training import costs, profiling, programs, proof, step, tuning

log = logging.getLogger("llm60_jax")
_GRACE_STEPS = 3  # that a signal may take, at least
_RETRY_SAVE = 60.0  # seconds from a save that failed to the next one


class _Rewind(Exception):
    """Too many steps in a row were not applied, and the configuration allows to go back."""


class Override(NamedTuple):
    """A person's decision to close a phase against its gate."""

    phase: str
    why: str


def run(
    config: Config,
    interrupts: Interrupts,
    resume_command: str,
    override: Override | None = None,
    back_to: int | None = None,
    span: profiling.Span | None = None,
) -> None:
    """Trains a configuration to the end of its last phase, from wherever its run directory stands.

    Args:
      config: the validated configuration.
      interrupts: looked at wherever stopping is safe.
      resume_command: what a person types to go on; part of the message on an interruption.
      override: of a gate, recorded for good.
      back_to: a step that the run goes back to; what it has committed after that is set aside.
      span: steps to record with the profiler.

    Raises:
      Failure: any of `errors`; state is saved where there is any.
    """
    preflight.require(config, plan.build(config))
    gates.check_names(config.phase)
    with opened(Path(config.workdir)) as workdir:
        workdir.check_identity(config)
        if back_to is not None and (branch := checkpoints.set_aside_after(workdir.path, back_to)):
            workdir.forget_rescues(back_to)
            say(f"going back to step {back_to:,}; what came after it is in {branch}")
        if workdir.is_new:
            ancestry.check_baseline(config)
            for line in config_module.departures(config):
                say(f"note: {line}")
        start = ancestry.start(config)
        try:
            versions = devices.ready(config)  # before hours of work rest on them
            config = tuning.settled(config, terminal.Tracker(interrupts))
            told = start.data if start else None
            prepared = prepare(config, terminal.Tracker(interrupts), workdir.check_digests, told)
            workdir.begin(config, prepared.digests, prepared.tokenizer.path)
            with awake.kept_awake(config.train.keep_awake):
                stand = functools.partial(Session.open, config, workdir, prepared, versions, interrupts, start)
                while not _trained(stand(), override, span):
                    pass  # from the checkpoint before, at a lower rate
        except Interrupted as stop:
            raise Interrupted(f"{stop}. To go on: {resume_command}", stop.exit_code - 128) from None


def _trained(session: Session, override: Override | None, span: profiling.Span | None) -> bool:
    """Trains to the end; False where the run has to go back."""
    workdir = session.workdir
    if span is not None and not session.step < span.first <= span.last <= session.plan.steps:
        raise InputError(
            f"--profile {span.first}:{span.last}: the run stands at step {session.step:,} of {session.plan.steps:,}, "
            "and what is recorded must lie between"
        )
    with contextlib.ExitStack() as stack:
        if session.config.train.tensorboard:
            workdir.mirror = stack.enter_context(contextlib.closing(tensorboard.Events(workdir.path, session.step)))
        trainer = Trainer(session, override, span)
        stack.enter_context(trainer.awake.watching())
        try:
            trainer.train()
        except _Rewind:
            return False
        except TrainingError as failure:
            trainer.keep_end(failure)
            raise
        finally:
            workdir.mirror = None
    return True


@contextlib.contextmanager
def _never_ending_the_run(what: str) -> Iterator[None]:
    """What only looks at a run must not end it, whatever is wrong with it; the traceback is in the run's log."""
    try:
        yield
    except Exception:
        log.exception("%s failed", what)
        log.warning("%s failed; the run goes on, and its log.txt has the traceback", what)


class Pending(NamedTuple):
    """A step that was dispatched and whose scalars have not been read yet."""

    done: int  # the number of the step, from 1
    stage: Stage
    rate: float
    limit: float
    metrics: step.Metrics
    batch: dict[str, Any]
    coverage: float | None  # of the document mask, counted in the batch, while the stage has yet to show what it does


class Trainer:
    """The training of one run, and the order in which things happen."""

    def __init__(self, session: Session, override: Override | None = None, span: profiling.Span | None = None):
        self.session, self.override = session, override
        self.cache = compilation_cache.open_in(Path(session.config.data_dir))
        self.programs = programs.CompiledSteps(session.config)
        self.awake = awake.AwakeTime()
        self.recorder = profiling.Recorder(span, session.workdir.path, self.programs)
        measured = {key: cost.middle for key, cost in costs.recall(session.config, session.plan).items()}
        self.clock = clock.StageClock(session.config, session.plan, self.awake, measured)
        self.measures = Measures(session, self.clock)
        self.line = progress_line.ProgressLine()
        self.pending: Pending | None = None
        self.proven: Stage | None = None  # the stage whose program has shown what it does
        self.cpu_seconds = facts.cpu_seconds()  # when the stage began
        self.before: proof.Digests = {}  # what the stage's parameters were
        self.seen: list[dict[str, np.ndarray]] = []  # the stage's first batches, as many as tell whether they are text
        self.told: set[tuple[str, str]] = set()  # phases and symptoms that were told
        self.strained: set[str] = set()  # what is short on the machine, as told
        self.has_stepped = False
        self.retry_save: float | None = None  # when a save that failed is to be tried again

    def train(self) -> None:
        """All phases that are not closed yet."""
        session = self.session
        for phase in session.config.phase:
            say(session.data.describe(phase))
            stop = self._train_phase(phase)
            folder = session.checkpoints.phase(phase.name)
            if manifest.exists(folder):
                ends, _ = store.identity(folder, manifest.read)
                if ends != stop:
                    raise DamageError(f"{folder}: ends at step {ends}, and the phase at {stop}; it is not of this run")
                feed.clear(session, phase)
                continue
            if session.step > stop:
                log.warning("%s is missing, though later phases are trained", folder)
                continue
            why = self.override.why if self.override and self.override.phase == phase.name else None
            try:
                while not closing.close(session, self.measures, self.clock, phase, why):
                    self.clock.replan(session.plan)
                    self._train_phase(phase)
            except GateError:
                self._end_phase(phase)
                raise
            self._end_phase(phase)
            feed.clear(session, phase)
        say(f"done: {session.step:,} steps, {session.plan.tokens:,} tokens. The model: {folder}")

    def _end_phase(self, phase: Phase) -> None:
        """What a phase has come to, as a report and for a person, whether its gate passed or not."""
        session = self.session
        row = session.position(session.step, session.plan.phase_stages(phase.name)[-1])
        session.workdir.append({**row, "phase_end": {"seconds": self.clock.account()}})
        self._diagnose()
        with _never_ending_the_run("the report"):
            found = history.read(session.workdir.path)
            say(report.summary(found, phase))
            say(f"the report: {report.write(found)}")

    def keep_end(self, failure: TrainingError) -> None:
        """Records why training stopped itself."""
        session = self.session
        stage = session.plan.stage_at(min(session.step, session.plan.steps - 1))
        session.workdir.append({**session.position(session.step, stage), "stopped": str(failure)})
        self._diagnose()

    def _train_phase(self, phase: Phase) -> int:
        """Trains to the end of a phase as it is planned now, and returns the step that this is."""
        session = self.session
        stop = session.plan.phase_span(phase.name)[1]
        if session.step < stop and session.phase != phase.name:
            session.begin(phase)
        if session.step < stop:
            session.describe(phase)
        while session.step < stop:
            stage = session.plan.stage_at(session.step)
            if phase.freeze_when == "converged" and self._is_due(stage):
                self._look_if_due(phase, stage)
                self._decide(phase, stage)
            else:
                self._train_stage(phase, stage)
        return stop

    def _is_due(self, stage: Stage) -> bool:
        """Whether the stage begins a freeze on which nothing is decided yet."""
        if self.session.step != stage.start_step or not self.session.plan.begins_freeze(stage):
            return False
        return all(decision.step != stage.start_step for decision in self.session.decisions)

    def _decide(self, phase: Phase, stage: Stage) -> None:
        session = self.session
        highest = next(name for name, _, end in session.config.model.named_stacks if end == stage.frozen_blocks)
        drift = session.looks.get("drift", {}).get(highest)
        session.decide(plan.decide(session.plan, phase, stage, drift, session.decisions))
        self.clock.replan(session.plan)

    def _train_stage(self, phase: Phase, stage: Stage) -> None:
        session, key = self.session, self.session.key(stage)
        asked = time.monotonic()
        program = self.programs[key]
        waited = time.monotonic() - asked
        say(
            f"{phase.name} {stage.index + 1}: context {stage.context}, {stage.frozen_blocks} blocks frozen; compiled, "
            f"or read from the cache, in {self.programs.compile_seconds[key]:.1f} s, waited {waited:.1f} s; "
            f"temporaries {self.programs.temporary_bytes(key) / 2**20:.0f} MiB"
        )
        compilation_cache.seal(self.cache)
        coming = self._coming(phase, stage)
        self.programs.release({key, *coming})  # the programs of past stages, and what they hold
        for following in coming:
            self.programs.prefetch(following)
        batches = feed.batches(session, self.clock, phase, stage)
        if session.frozen_before is None or session.step == stage.start_step:
            session.frozen_before = session.frozen_digests(stage)
        # The order matters: measure and save before the iterator moves, so that a checkpoint's weights and data
        # position belong together; dispatch a step before reading the scalars of the one before it.
        while session.step < stage.stop_step:
            self._look_if_due(phase, stage)  # first, as what it keeps is a part of the state that an interruption saves
            try:
                session.interrupts.check()
                self._evaluate_if_due(phase, stage)
            except Interrupted as stop:
                try:
                    self._save(stage, batches)
                except MachineError as failure:
                    raise MachineError(f"{stop}, and step {session.step:,} could not be saved: {failure}") from None
                self.line.end(f"saved at step {session.step:,}")
                raise
            self._save_if_due(stage, batches)
            rate = plan.learning_rate(session.plan, phase, session.step)
            limit = session.watch.limit(session.step + 1)
            if self.recorder.is_due(session.step + 1):
                self._log_pending()  # so that no step is under way while tables are written
                with self.clock.paused("profile"):
                    self.recorder.before(session.step + 1, key, session.state)
            with self.clock.waiting("data"), profiling.data():
                batch = next(batches)
                on_device = self.programs.put(batch)
            self._keep_order(batch)
            coverage = None
            if self.proven != stage:
                coverage = proof.mask_coverage(batch["tokens"], session.config.train.document_mask)
                self.before = self.before or session.group_digests()
            session.state, metrics = program(session.state, on_device, np.float32(rate), np.float32(limit))
            self._log_pending()
            session.step += 1
            self.pending = Pending(session.step, stage, rate, limit, metrics, batch, coverage)
        self._log_pending()
        self.recorder.close(session.step, session.state)
        self._end_stage(stage, waited)

    def _coming(self, phase: Phase, stage: Stage) -> list[Any]:
        """Keys of the programs that the next stage may need."""
        following = self.session.plan.stage_at(min(stage.stop_step, self.session.plan.steps - 1))
        waits = dataclasses.replace(following, frozen_blocks=stage.frozen_blocks)  # if its freeze is put off
        maybe = following.phase == phase.name and phase.freeze_when == "converged"
        return [self.session.key(one) for one in ([following, waits] if maybe else [following])]

    def _end_stage(self, stage: Stage, waited: float) -> None:
        """The stage's last proof, and its account as a row."""
        session, key = self.session, self.session.key(stage)
        unchanged = self._check_frozen(stage)
        order, self.seen = bigrams.of_batches(self.seen), []
        session.iterator = session.frozen_before = None
        self.before = {}
        account: dict[str, Any] = {
            "tokens_per_second": round(self.clock.rate(stage), 1),
            "frozen_leaves": unchanged,
            "frozen_leaves_changed": 0,
            "compile_seconds": round(self.programs.compile_seconds[key], 2),
            "waited_seconds": round(waited, 2),
            "seconds": {"compile": round(waited, 3), **self.clock.account(stage)},
            "planned_seconds": self.clock.planned(stage),
            "order": order.to_tree() if order else None,
            "cpu_seconds": round(facts.cpu_seconds() - self.cpu_seconds, 2),
            "temporary_bytes": self.programs.temporary_bytes(key),
            "resident_bytes": facts.resident_bytes(),
            "peak_resident_bytes": facts.peak_bytes(),
        }
        self.cpu_seconds = facts.cpu_seconds()
        session.workdir.append({**session.position(session.step, stage), "stage_end": account})
        self._remember(stage, account)
        kept = f"{unchanged} frozen leaves unchanged, " if unchanged else ""
        self.line.end(
            f"{stage.phase} {stage.index + 1}: {terminal.speed(self.clock.rate(stage))}, {kept}"
            f"resident memory {account['resident_bytes'] / 2**20:,.0f} MiB, at its peak "
            f"{account['peak_resident_bytes'] / 2**20:,.0f} MiB"
        )

    def _remember(self, stage: Stage, account: dict[str, Any]) -> None:
        """Keeps what the stage's program took, for the next run's plan."""
        if seconds := self.clock.step_seconds(stage):
            cost = costs.Cost((seconds,), account["temporary_bytes"], account["peak_resident_bytes"])
            costs.remember(self.session.config, {self.session.key(stage): cost})

    def _keep_order(self, batch: dict[str, Any]) -> None:
        if sum(kept["tokens"].size for kept in self.seen) < bigrams.SAMPLE:
            self.seen.append({name: np.asarray(batch[name]) for name in ("tokens", "segments")})

    def _diagnose(self) -> None:
        """Tells what the doctor finds, each trouble once."""
        with _never_ending_the_run("the doctor"):
            for finding in doctor.examine(history.read(self.session.workdir.path)):
                if (finding.phase, finding.symptom) not in self.told:
                    self.told.add((finding.phase, finding.symptom))
                    self.line.end(f"doctor: {finding.explain()}")

    def _check_frozen(self, stage: Stage) -> int:
        """Proves that what the stage leaves frozen is bit for bit what it was; returns the number of leaves."""
        if self.session.frozen_before is None:
            return 0
        proof.check_frozen(stage, self.session.frozen_before, self.session.frozen_digests(stage))
        return len(self.session.frozen_before)

    def _prove(self, pending: Pending) -> None:
        """Records what the stage's first applied step did and stops the run if that is not the plan."""
        done, stage, rate, metrics = pending.done, pending.stage, pending.rate, pending.metrics
        session, key, model = self.session, self.session.key(stage), self.session.config.model
        phase = session.config.phase_named(stage.phase)
        frozen_groups = step.frozen_groups_of(model, key, session.state.params)
        with self.clock.paused("proof"):
            after = session.group_digests()
        leaks = self.measures.leaks(phase)
        evidence = proof.gather(metrics, self.programs.flops(key), leaks, session.state.opt_state, self.before, after)
        assert pending.coverage is not None
        expected = proof.Expected(
            coverage=pending.coverage,
            reweighted=phase.reweight is not None,
            live=tuple(sorted(session.state.params.keys() - frozen_groups)) if rate else (),
            every_block=not phase.drop_path,
        )
        proof.check(stage, model, key, expected, evidence)
        self.proven = stage
        self.clock.hide()  # the next step was dispatched before the proof, and ran beside it
        known = [old for old in session.workdir.rows() if "proof" in old and old["phase"] == stage.phase]
        if stage.index not in [old["stage"] for old in known]:  # a resumed stage was recorded before
            session.workdir.append({**session.position(done, stage), "proof": evidence.to_row()})
        say(f"{stage.phase} {stage.index + 1}: in effect: {evidence.describe(model.layers)}")

    def _log_pending(self) -> None:
        """Reads the scalars of the step dispatched last."""
        if self.pending is None:
            return
        pending, self.pending = self.pending, None
        done, stage, rate, metrics = pending.done, pending.stage, pending.rate, pending.metrics
        session = self.session
        objective, grad_norm = float(metrics.objective), float(metrics.grad_norm)
        self.clock.tick(stage)
        if not self.has_stepped:
            self.has_stepped = True
            self.line.end(f"first step after {facts.age():.1f} s")
        if not bool(metrics.applied):
            self._refuse(pending, objective, grad_norm)
            return
        session.refused = 0
        session.watch.tell(done, objective)
        if self.proven != stage:
            self._prove(pending)
        if done % session.config.train.log_every and done not in (1, stage.stop_step):
            return
        self._tell_pause(done, stage)
        speed = self.clock.rate(stage)
        if speed:  # a slow machine needs longer to finish a step and save
            session.interrupts.grace = max(GRACE, _GRACE_STEPS * session.plan.tokens_per_step / speed)
        row = {
            **session.position(done, stage),
            "context": stage.context,
            "frozen": stage.frozen_blocks,
            "loss": float(metrics.loss),
            "objective": objective,
            **{name: float(value) for name, value in metrics.terms.items()},
            "learning_rate": rate,
            "tokens_per_second": round(speed, 1),
            "grad_norm": grad_norm,
            "segment_grad_norms": proof.by_stack(session.config.model, metrics.block_gradients),
        }
        session.workdir.append(row)
        self.line.show(row, session.plan, self.clock.remaining(done))

    def _refuse(self, pending: Pending, objective: float, grad_norm: float) -> None:
        """Names and keeps the batch of a step that was not applied; after too many in a row the run stops, before any
        save."""
        session, most = self.session, self.session.config.train.most_refused
        session.refused += 1
        path = session.workdir.keep_batch(pending.done, pending.batch)
        broken = [name for name, array in pending.batch.items() if not np.isfinite(np.asarray(array, np.float32)).all()]
        found = {"loss": objective, "grad_norm": grad_norm}
        told = {name: value if math.isfinite(value) else str(value) for name, value in found.items()}
        row = {**told, "limit": pending.limit if math.isfinite(pending.limit) else None, "batch": path.name}
        session.workdir.append({**session.position(pending.done, pending.stage), "refused": row | {"broken": broken}})
        cause = "; ".join(
            [f"its {name} are not finite" for name in broken]
            or [f"loss {objective:.4g} where {pending.limit:.4g} is the limit, gradient norm {grad_norm:.4g}"]
        )
        message = f"step {pending.done}: not applied: {cause}; its batch is kept in {path}"
        if session.refused >= most and session.rescue(pending.stage):
            log.warning("%s. %d such steps in a row: going back", message, most)
            raise _Rewind
        if session.refused >= most:
            remedy = session.remedy(pending.stage.phase)
            raise TrainingError(f"{message}. {most} such steps in a row (train.most_refused){remedy}")
        log.warning("%s", message)

    def _evaluate_if_due(self, phase: Phase, stage: Stage) -> None:
        session = self.session
        start = session.plan.phase_span(phase.name)[0]
        regular = (session.step - start) % session.config.train.evaluate_every == 0
        if regular or session.plan.is_late_mark(phase.name, session.step):
            self._log_pending()
            row = self.measures.evaluate(phase, stage)
            if session.step == start:
                session.phase_start = row
            self.line.end(f"{phase.name}: after {session.step:,} steps {validation.describe(row)}")
            self._diagnose()
            self._warn_of_strain()

    def _look_if_due(self, phase: Phase, stage: Stage) -> None:
        session = self.session
        start = session.plan.phase_span(phase.name)[0]
        if (session.step - start) % session.plan.probe_every(phase.name) == 0:
            self._log_pending()
            self.measures.look(phase, stage)

    def _save_if_due(self, stage: Stage, batches: Any) -> None:
        session = self.session
        freezes = session.step == stage.start_step and session.plan.begins_freeze(stage)
        if freezes:
            say(f"saving step {session.step:,} before {stage.frozen_blocks} blocks freeze")
        elif not session.step or not (self._is_save_due() or session.step % session.config.train.save_every == 0):
            return
        try:
            self._save(stage, batches)
        except MachineError as failure:
            if freezes:
                raise MachineError(
                    f"{failure}\n  The lower {stage.frozen_blocks} blocks are to freeze now, and not without a "
                    "checkpoint from before (playbook, section 12); the same command goes on from the newest one"
                ) from None
            self._unsaved(failure)
            return
        self.retry_save = None
        if session.step == session.plan.phase_span(stage.phase)[0]:
            return  # the phase before has written its last texts with the same weights
        # A signal while they are written is not lost: it is looked at again after the next step.
        with self.clock.paused("samples"), contextlib.suppress(Interrupted):
            try:
                samples.keep(session, session.config.phase_named(stage.phase))
            except MachineError as failure:
                log.warning("%s", failure)

    def _is_save_due(self) -> bool:
        """Whether a save that failed is to be tried again."""
        return self.retry_save is not None and time.monotonic() >= self.retry_save

    def _unsaved(self, failure: MachineError) -> None:
        """A save has failed: that is no reason to throw away what has been trained."""
        self.retry_save = time.monotonic() + _RETRY_SAVE
        newest = self.session.checkpoints.all()
        kept = f"the newest checkpoint is {newest[0]}" if newest else "there is no checkpoint yet"
        number = self.session.step
        log.warning("STEP %s IS NOT SAVED: %s. Training goes on, saving is tried again; %s", number, failure, kept)

    def _warn_of_strain(self) -> None:
        """Disk and memory that are running short, told once until they no longer are."""
        needed = store.nbytes(self.session.state)
        found = facts.strain(self.session.workdir.path, needed)
        for what in found.keys() - self.strained:
            log.warning("%s", found[what])
        self.strained = set(found)

    def _tell_pause(self, done: int, stage: Stage) -> None:
        """Notes that the computer slept, or the process was stopped."""
        seconds = self.awake.take_pause()
        if seconds:
            self.session.workdir.append({**self.session.position(done, stage), "paused_seconds": round(seconds, 1)})
            self.line.end(f"paused {terminal.duration(seconds)}: the computer slept, or the process was stopped")

    def _save(self, stage: Stage, batches: Any) -> None:
        """Saves between two steps. A checkpoint from before a freeze is kept for ever."""
        self._log_pending()
        self._check_frozen(stage)
        session = self.session
        with self.clock.paused("saving"):
            permanent = session.step == stage.start_step and session.plan.begins_freeze(stage)
            session.save_rolling(session.meta(stage, batches.get_state(), permanent=permanent))
