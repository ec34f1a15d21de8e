"""The steps of one stage in the air: step n + 1 is dispatched before the numbers of step n are read.

The device then never waits for the host. `Flight.land` reads the numbers of the step under way: it was refused, or it
proves the stage, and from time to time it becomes a row.
"""

import logging
import math
from typing import Any, NamedTuple

import numpy as np

from llm60_jax import plan
from llm60_jax.config import Phase
from llm60_jax.data.tokens import bigrams
from llm60_jax.errors import TrainingError
from llm60_jax.machine import together
from llm60_jax.machine.signals import GRACE
from llm60_jax.plan import Stage, StepKey, flops
from llm60_jax.run import amending, measures
from llm60_jax.run.events import Paused, StageProved, StepBegins, StepLanded, StepLogged
from llm60_jax.run.state import Run
from llm60_jax.training import growing, mesh, proof, step
from llm60_jax.training.programs import Program
from llm60_jax.training.spikes import Watch

log = logging.getLogger("llm60_jax")
_GRACE_STEPS = 3  # steps that a signal may take, at least


class Rewind(Exception):
    """Too many steps in a row were not applied, and the configuration allows going back."""


class _Pending(NamedTuple):
    """A step that was dispatched and whose numbers have not been read."""

    number: int  # from 1
    rate: float
    limit: float  # largest objective that is applied
    metrics: step.Metrics  # on the device
    batch: dict[str, Any]  # on the host
    coverage: float | None  # of the document mask in the batch, while the stage has yet to prove itself
    signal: Any  # the largest signal that a process has received; 0 without one


class Flight:
    """Takes the steps of a stage: `prepare` announces one, `take_off` dispatches it, `land` reads it."""

    def __init__(self, run: Run, phase: Phase, stage: Stage, program: Program):
        self._run, self._phase, self._stage, self._program = run, phase, stage, program
        self._key: StepKey = run.key(stage)
        self._pending: _Pending | None = None
        self._proved = False
        self._before: proof.Digests = {}  # of the parameter groups, before the stage's first step
        self._grows_from = run.plan.grows_from(stage) if run.step == stage.start_step else None
        self._copied = 0  # added blocks that are copies, before the stage's first step
        self._first_batches: list[dict[str, np.ndarray]] = []  # enough to tell whether they are text

    def prepare(self) -> None:
        """Announce the next step, before its batch is read."""
        number = self._run.step + 1
        if self._run.tell.needs_rest(number):
            self.land()
        self._run.tell(StepBegins(number, self._key))

    def take_off(self, batch: dict[str, Any], on_device: step.Batch) -> None:
        """Dispatch the next step, then read the one before it."""
        run = self._run
        number = run.step + 1
        rate = plan.learning_rate(run.plan, self._phase, run.step)
        limit = Watch(run.progress.objectives).limit(number)
        self._keep_first(batch)
        coverage = None
        if not self._proved:
            parts = together.gather(proof.mask_coverage(batch["tokens"], run.config.train.document_mask))
            coverage = sum(parts) / len(parts)  # processes have equal shares
            if not self._before:
                self._before = run.group_digests()
                self._copied = self._copies()
        run.state, metrics = self._program(run.state, on_device, np.float32(rate), np.float32(limit))
        signal = mesh.largest(run.interrupts.received or 0, run.sharing)
        self.land()
        run.progress.step = number
        self._pending = _Pending(number, rate, limit, metrics, batch, coverage, signal)

    def land(self) -> None:
        """Read the numbers of the step under way, if there is one.

        Raises:
          Rewind: too many steps in a row were refused, and the run goes back to a checkpoint.
          TrainingError: they were refused and it may not, or the step did not do what the plan says.
        """
        if self._pending is None:
            return
        run = self._run
        pending, self._pending = self._pending, None
        objective, grad_norm = float(pending.metrics.objective), float(pending.metrics.grad_norm)
        run.interrupts.agreed = int(pending.signal) or None
        run.clock.tick(self._stage)
        run.tell(StepLanded(pending.number, self._stage))
        if not bool(pending.metrics.applied):
            self._refuse(pending, objective, grad_norm)
            return
        watch = Watch(run.progress.objectives)
        watch.tell(pending.number, objective)
        run.progress.objectives, run.progress.refused = watch.steps, 0
        if not self._proved:
            self._prove(pending)
        last = pending.number in (1, self._stage.stop_step)
        if last or pending.number % run.config.train.log_every == 0:
            self._log(pending, objective, grad_norm)

    def order(self) -> bigrams.Order | None:
        """Return how much the order of tokens in the first batches tells, to see that they are text."""
        kept = [{name: array.tolist() for name, array in batch.items()} for batch in self._first_batches]
        shares = together.gather(kept)
        return bigrams.of_batches(
            [
                {name: np.concatenate([np.asarray(share[name], np.int32) for share in parts]) for name in parts[0]}
                for parts in zip(*shares, strict=True)
            ]
        )

    def _copies(self) -> int:
        """Return how many of the blocks that the stage has added are copies of those that they should be."""
        if self._grows_from is None:
            return 0
        run = self._run
        return growing.copies(run.config.model, run.whole().params, self._grows_from, self._stage.blocks)

    def _keep_first(self, batch: dict[str, Any]) -> None:
        if together.count() * sum(kept["tokens"].size for kept in self._first_batches) < bigrams.SAMPLE:
            self._first_batches.append({name: np.asarray(batch[name]) for name in ("tokens", "segments")})

    def _log(self, pending: _Pending, objective: float, grad_norm: float) -> None:
        """Record a step as a row."""
        run, stage, metrics = self._run, self._stage, pending.metrics
        position = run.position(pending.number, stage)
        if seconds := run.awake.take_pause():
            run.record({**position, "paused_seconds": round(seconds, 1)})
            run.tell(Paused(seconds))
        speed = run.clock.rate(stage)
        if speed:  # a slow machine needs longer to finish a step and save
            run.interrupts.grace = max(GRACE, _GRACE_STEPS * run.plan.tokens_per_step / speed)
        row = {
            **position,
            "context": stage.context,
            "blocks": stage.blocks,
            "frozen": stage.frozen_blocks,
            "loss": float(metrics.loss),
            "objective": objective,
            **{name: float(value) for name, value in metrics.terms.items()},
            "learning_rate": pending.rate,
            "tokens_per_second": round(speed, 1),
            "grad_norm": grad_norm,
            "segment_grad_norms": proof.by_stack(run.model, metrics.block_gradients),
        }
        run.record(row)
        run.tell(StepLogged(row, run.clock.remaining(pending.number)))

    def _prove(self, pending: _Pending) -> None:
        """Record what the stage's first applied step did, and stop the run if that is not the plan."""
        run, stage, model = self._run, self._stage, self._run.config.model
        frozen_groups = step.frozen_groups_of(model, self._key, run.state.params)
        with run.clock.paused("proof"):
            after = run.group_digests()
        evidence = proof.gather(
            pending.metrics,
            run.programs.counted_flops(self._key),
            measures.leaks(run, self._phase, self._key),
            run.whole().opt_state,
            self._before,
            after,
            flops.native_counts(model, self._key),
            self._copied,
        )
        assert pending.coverage is not None
        expected = proof.Expected(
            coverage=pending.coverage,
            reweighted=self._phase.reweight is not None,
            live=tuple(sorted(run.state.params.keys() - frozen_groups)) if pending.rate else (),
            added=self._stage.blocks - self._grows_from if self._grows_from else 0,
            every_block=not self._phase.drop_path,
        )
        together.all_or_none(lambda: proof.check(stage, model, self._key, expected, evidence))
        self._proved = True
        run.clock.hide()  # the next step was dispatched before the proof, and ran beside it
        if not run.metrics.find("proof", phase=stage.phase, stage=stage.index):  # a resumed stage has its row
            run.record({**run.position(pending.number, stage), "proof": evidence.to_row()})
        run.tell(StageProved(stage, evidence.describe(stage.blocks)))

    def _refuse(self, pending: _Pending, objective: float, grad_norm: float) -> None:
        """Name and keep the batch of a step that was not applied. After too many in a row the run goes back or stops,
        before any save."""
        run, most = self._run, self._run.config.train.most_refused
        run.progress.refused += 1
        path = run.workdir.keep_batch(pending.number, pending.batch)
        broken = [name for name, array in pending.batch.items() if not np.isfinite(np.asarray(array, np.float32)).all()]
        numbers = {"loss": objective, "grad_norm": grad_norm}
        row: dict[str, Any] = {name: value if math.isfinite(value) else str(value) for name, value in numbers.items()}
        row |= {"limit": pending.limit if math.isfinite(pending.limit) else None, "batch": path.name, "broken": broken}
        run.record({**run.position(pending.number, self._stage), "refused": row})
        cause = "; ".join(
            [f"its {name} are not finite" for name in broken]
            or [f"loss {objective:.4g} where {pending.limit:.4g} is the limit, gradient norm {grad_norm:.4g}"]
        )
        message = f"step {pending.number}: not applied: {cause}; its batch is kept in {path}"
        if run.progress.refused < most:
            log.warning("%s", message)
        elif amending.rescue(run, self._phase):
            log.warning("%s. %d such steps in a row: going back", message, most)
            raise Rewind
        else:
            remedy = run.remedy(self._phase.name)
            raise TrainingError(f"{message}. {most} such steps in a row (train.most_refused){remedy}")
