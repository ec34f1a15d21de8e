"""run(): the only place where pure code meets I/O.

Raw text -> documents -> tokenizer -> shards -> every stage of every phase -> gates. Everything a restart needs is in
the newest checkpoint and in the prepared data, so running and resuming are the same call.
"""

import functools
import logging
import math
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from llm60_jax import (
    checkpoint,
    clock,
    compilation_cache,
    console,
    gates,
    generate,
    machine,
    manifest,
    plan,
    proof,
    step,
)
from llm60_jax.config import Config, Phase, to_tree
from llm60_jax.console import say
from llm60_jax.data import loader, packing
from llm60_jax.data.prepare import Prepared, prepare
from llm60_jax.errors import DamageError, GateError, InputError, Interrupted, TrainingError
from llm60_jax.evaluate import validation
from llm60_jax.interrupts import Interrupts
from llm60_jax.plan import Plan, Stage
from llm60_jax.workdir import WorkDir, opened

log = logging.getLogger("llm60_jax")


def run(config: Config, interrupts: Interrupts, resume_command: str) -> None:
    """Trains a configuration to the end of its last phase, from wherever its run directory stands.

    Args:
      config: the validated configuration.
      interrupts: looked at wherever stopping is safe.
      resume_command: what a person types to go on; part of the message on an interruption.

    Raises:
      Failure: any of `errors`; state is saved where there is any.
    """
    stage_plan = plan.build(config)
    machine.require(config, stage_plan)
    with opened(Path(config.workdir)) as workdir:
        workdir.check_identity(config)
        try:
            versions = machine.versions()  # finds the device, too, before hours of work rest on it
            prepared = prepare(config, console.Tracker(interrupts), workdir.check_digests)
            workdir.begin(config, prepared.digests, plan.to_rows(stage_plan, config), prepared.tokenizer.path)
            Trainer(config, stage_plan, workdir, prepared, versions, interrupts).train()
        except Interrupted as stop:
            raise Interrupted(f"{stop}. To go on: {resume_command}", stop.exit_code - 128) from None


class Trainer:
    """The training of one run: its state, and the order in which things happen."""

    def __init__(
        self,
        config: Config,
        stage_plan: Plan,
        workdir: WorkDir,
        prepared: Prepared,
        versions: dict[str, str],
        interrupts: Interrupts,
    ):
        self.config, self.plan, self.workdir = config, stage_plan, workdir
        self.data, self.versions, self.interrupts = prepared, versions, interrupts
        self.phase_start: dict[str, Any] | None = None  # evaluation at the start of the phase: the gate's evidence
        self.checkpoints = checkpoint.Checkpoints(workdir.path, config.train.keep_rolling)
        self.cache = compilation_cache.open_in(Path(config.data_dir))
        self.programs = step.CompiledSteps(config)
        self.clock = clock.StageClock(config, stage_plan)
        self.line = console.ProgressLine()
        self.pending: tuple[int, Stage, float, step.Metrics] | None = None
        self.proven: Stage | None = None  # the stage whose program has shown what it does
        self.coverage: float | None = None  # of the document mask, counted on the stage's first batch
        self.frozen_before: str | None = None  # digest of what the current stage leaves frozen
        self._eval = jax.jit(functools.partial(step.eval_step, config))
        self._restore()

    def train(self) -> None:
        """All phases that are not closed yet."""
        for phase in self.config.phase:
            say(self.data.describe(phase))
            for stage in self.plan.phase_stages(phase.name):
                if self.step < stage.stop_step:
                    self._train_stage(phase, stage)
            if manifest.exists(self.checkpoints.phase(phase.name)):
                continue
            if self.step > stage.stop_step:
                log.warning("%s is missing, though later phases are trained", self.checkpoints.phase(phase.name))
                continue
            self._close(phase)
        say(f"done: {self.step:,} steps, {self.plan.tokens:,} tokens. The model: {self.checkpoints.phase(phase.name)}")

    def _restore(self) -> None:
        abstract = step.abstract_state(self.config)
        found = self.checkpoints.newest(abstract)
        if found is None:
            self.state, self.step, self.iterator_state = step.init(self.config), 0, None
            say(f"a new run in {self.workdir.path}: {self.config.model.parameter_count:,} parameters")
        else:
            self.state, meta = found
            self.step, self.iterator_state = int(meta["step"]), meta["iterator"]
            if meta["digests"] != self.data.digests:
                raise InputError(
                    f"{self.workdir.path}: its checkpoints were trained on other text or tokens; "
                    "restore the text, or start a new run: --workdir DIR"
                )
            self.workdir.compare(meta["config"], self.config)
            if int(self.state.step) != self.step:
                raise DamageError(f"checkpoint of step {self.step}: its state says step {int(self.state.step)}")
            if meta["versions"] != self.versions:
                changed = machine.differences(meta["versions"], self.versions)
                say(f"resuming under other versions, so not bit for bit as before: {changed}")
            self.phase_start, self.frozen_before = meta["phase_start"], meta["frozen_sha256"]
            say(f"resumed at step {self.step:,} of {self.plan.steps:,}")
        self.workdir.rewind(self.step)

    def _train_stage(self, phase: Phase, stage: Stage) -> None:
        key = self._key(stage)
        asked = time.monotonic()
        program = self.programs[key]
        say(
            f"{phase.name} {stage.index + 1}: context {stage.context}, {stage.frozen} blocks frozen; compiled, or read "
            f"from the cache, in {self.programs.compile_seconds[key]:.1f} s, waited {time.monotonic() - asked:.1f} s; "
            f"temporaries {self.programs.temporary_bytes(key) / 2**20:.0f} MiB"
        )
        compilation_cache.seal(self.cache)
        following = self.plan.stage_at(min(stage.stop_step, self.plan.steps - 1))
        self.programs.prefetch(self._key(following))
        batches = self._batches(stage)
        if self.frozen_before is None or self.step == stage.start_step:
            self.frozen_before = self._frozen_digest(stage)
        # The order matters: evaluate and save before the iterator moves, so that a checkpoint's weights and data
        # position belong together; dispatch a step before reading the scalars of the one before it.
        while self.step < stage.stop_step:
            try:
                self.interrupts.check()
                self._evaluate_if_due(phase, stage)
            except Interrupted:
                self._save(stage, batches)
                self.line.end(f"saved at step {self.step:,}")
                raise
            self._save_if_due(stage, batches)
            rate = plan.learning_rate(self.plan, phase, self.step)
            batch = next(batches)
            if self.coverage is None:
                self.coverage = proof.mask_coverage(batch["segments"])
            self.state, metrics = program(self.state, jax.device_put(batch), np.float32(rate))
            self._log_pending()
            self.step += 1
            self.pending = (self.step, stage, rate, metrics)
        self._log_pending()
        self._check_frozen(stage)
        self.iterator_state = self.frozen_before = self.coverage = None
        self.line.end(
            f"{phase.name} {stage.index + 1}: {console.speed(self.clock.rate(stage))}, "
            f"peak memory {machine.peak_bytes() / 2**20:,.0f} MiB"
        )

    def _key(self, stage: Stage) -> step.StepKey:
        return step.StepKey.of(stage, self._phase(stage), self.config)

    def _check_frozen(self, stage: Stage) -> None:
        if self.frozen_before is not None:
            proof.check_frozen(stage, self.frozen_before, self._frozen_digest(stage))

    def _frozen_digest(self, stage: Stage) -> str:
        """One digest over the frozen parameters and their optimizer state."""
        frozen = step.frozen_groups(self._key(stage), self.config)
        held = {name: (self.state.params[name], self.state.opt_state[name]) for name in frozen}
        return checkpoint.state_sha256(held, None)

    def _prove(self, done: int, stage: Stage, metrics: step.Metrics) -> None:
        """Records what the stage's first step did and stops the run if that is not the plan."""
        key, model = self._key(stage), self.config.model
        frozen = step.frozen_groups(key, self.config)
        evidence = proof.gather(metrics, self.programs.flops[key], self.state.opt_state, frozen)
        assert self.coverage is not None
        proof.check(stage, model, key.remat, self.coverage, evidence)
        self.proven = stage
        known = [old for old in self.workdir.rows() if "proof" in old and old["phase"] == stage.phase]
        if stage.index not in [old["stage"] for old in known]:  # a resumed stage was recorded before
            self.workdir.append({**self._position(done, stage), "proof": evidence.to_row()})
        say(f"{stage.phase} {stage.index + 1}: in effect: {evidence.describe(model.layers)}")

    def _batches(self, stage: Stage) -> Any:
        """The stage's iterator, at the position where the state stands."""
        batches = loader.batches(self.data.shards[stage.phase].train, stage, self.config.seed)
        if self.iterator_state is not None and self.step > stage.start_step:
            batches.set_state(self.iterator_state)
        self.iterator_state = None
        return batches

    def _log_pending(self) -> None:
        """Reads the scalars of the step dispatched last. A loss that is not finite stops the run before any save."""
        if self.pending is None:
            return
        done, stage, rate, metrics = self.pending
        self.pending = None
        loss, grad_norm = float(metrics.loss), float(metrics.grad_norm)
        if not (math.isfinite(loss) and math.isfinite(grad_norm)):
            raise TrainingError(f"step {done}: loss {loss}, gradient norm {grad_norm}{self._remedy(stage)}")
        self.clock.tick(stage)
        if self.proven != stage:
            self._prove(done, stage, metrics)
        if done % self.config.train.log_every and done not in (1, stage.stop_step):
            return
        speed = self.clock.rate(stage)
        row = {
            **self._position(done, stage),
            "context": stage.context,
            "frozen": stage.frozen,
            "loss": loss,
            "learning_rate": rate,
            "tokens_per_second": round(speed, 1),
            "grad_norm": grad_norm,
        }
        self.workdir.append(row)
        self.line.show(row, self.plan, self.clock.remaining(done))

    def _position(self, done: int, stage: Stage) -> dict[str, Any]:
        """Where in the run something was measured or saved: the first fields of every row."""
        tokens = done * self.plan.tokens_per_step
        return {"step": done, "tokens": tokens, "phase": stage.phase, "stage": stage.index}

    def _phase(self, stage: Stage) -> Phase:
        return next(phase for phase in self.config.phase if phase.name == stage.phase)

    def _remedy(self, stage: Stage) -> str:
        """What to do when numbers stop being finite (playbook, section 14)."""
        return (
            f". The last good state is kept in {self.workdir.path}. In a new run, lower "
            f"phase.{stage.phase}.learning_rate or raise its warmup"
        )

    def _evaluate_if_due(self, phase: Phase, stage: Stage) -> None:
        if self.step == self.plan.phase_stages(phase.name)[0].start_step:
            self.phase_start = self._evaluate(phase, stage)
        elif self.step % self.config.train.evaluate_every == 0:
            self._evaluate(phase, stage)

    def _evaluate(self, phase: Phase, stage: Stage) -> dict[str, Any]:
        """Scores the phase's held-out documents and records the result; at a step scored before, just finds it."""
        self._log_pending()
        for row in self.workdir.rows():
            if row["step"] == self.step and row["phase"] == phase.name and "validation_loss" in row:
                return row
        with self.clock.paused():
            rows, text_bytes = packing.validation_rows(
                self.data.shards[phase.name].validation,
                self.config.model.max_context,
                self.config.train.validation_tokens,
            )
            found = validation.score(self._eval, self.state.params, rows, text_bytes, self.interrupts.check)
        if not math.isfinite(found.loss):
            raise TrainingError(
                f"step {self.step}, phase {phase.name}: validation loss {found.loss}{self._remedy(stage)}"
            )
        row = self._position(self.step, stage) | found.to_row()
        self.workdir.append(row)
        self.line.end(f"{phase.name}: after {self.step:,} steps {found.describe()}")
        return row

    def _save_if_due(self, stage: Stage, batches: Any) -> None:
        if self._freezes(stage):
            say(f"saving step {self.step:,} before {stage.frozen} blocks freeze")
            self._save(stage, batches)
        elif self.step and self.step % self.config.train.save_every == 0:
            self._save(stage, batches)

    def _freezes(self, stage: Stage) -> bool:
        """Whether more blocks are frozen from this step on than before it. Such a checkpoint is kept for ever."""
        if stage.index == 0 or self.step != stage.start_step:
            return False
        return stage.frozen > self.plan.stage_at(self.step - 1).frozen

    def _save(self, stage: Stage, batches: Any) -> None:
        self._log_pending()
        self._check_frozen(stage)
        with self.clock.paused():
            self._save_rolling(self._meta(stage, batches.get_state(), self._freezes(stage)))

    def _save_rolling(self, meta: dict[str, Any]) -> None:
        """Refuses to store weights that are not finite, so that the last checkpoint stays good."""
        if not all(bool(np.isfinite(leaf).all()) for leaf in jax.tree.leaves(self.state.params)):
            stage = self.plan.stage_at(self.step - 1)
            raise TrainingError(f"step {self.step}: weights that are not finite{self._remedy(stage)}")
        self.checkpoints.save_rolling(self.state, meta)

    def _meta(self, stage: Stage, iterator: Any, permanent: bool) -> dict[str, Any]:
        return {
            **self._position(self.step, stage),
            "permanent": permanent,
            "iterator": iterator,
            "config": to_tree(self.config),
            "plan": plan.to_rows(self.plan, self.config),
            "digests": self.data.digests,
            "versions": self.versions,
            "phase_start": self.phase_start,
            "frozen_sha256": self.frozen_before,
        }

    def _close(self, phase: Phase) -> None:
        """End of a phase: saved first, then evidence, samples and the gate; only then the phase checkpoint."""
        last = self.plan.phase_stages(phase.name)[-1]
        meta = self._meta(last, None, permanent=False)
        with self.clock.paused():
            self._save_rolling(meta)
            end = self._evaluate(phase, last)
            if self.phase_start is None or self.phase_start["phase"] != phase.name:
                raise DamageError(f"phase {phase.name}: its checkpoint holds no evaluation of the phase's start")
            verdict = gates.judge(
                phase,
                loss_start=self.phase_start["validation_loss"],
                loss_end=end["validation_loss"],
                bits_per_byte_end=end["bits_per_byte"],
                state_sha256=checkpoint.state_sha256(self.state, None),
            )
            self.workdir.write(f"gates/{phase.name}.json", manifest.dump(verdict.to_json()))
            self._sample(phase)
        say(verdict.explain())
        if not verdict.passed:
            raise GateError(verdict.explain())
        folder = self.checkpoints.save_phase(phase.name, self.state, {**meta, "permanent": True})
        say(f"phase {phase.name} closed: {folder}")

    def _sample(self, phase: Phase) -> None:
        texts = generate.sample_texts(
            self.config.model, self.state.params, self.data.tokenizer, self.config.sampling, self.config.seed
        )
        self.workdir.write(f"samples/{phase.name}.txt", "\n\n".join(texts) + "\n")
        say(f"samples at the end of phase {phase.name}:")
        for text in texts:
            say("  | " + text.replace("\n", " "))
