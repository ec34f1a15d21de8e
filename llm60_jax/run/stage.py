"""One stage, from its program to its account. The loop in `train_stage` holds the order that resume rests on."""

import dataclasses
import time

from llm60_jax import plan
from llm60_jax.config import Phase
from llm60_jax.machine import compilation_cache, facts, memory
from llm60_jax.plan import Stage, StepKey
from llm60_jax.run import feed, measures, saving
from llm60_jax.run.events import Evaluated, StageBegins, StageEnds, StageTrained
from llm60_jax.run.flight import Flight
from llm60_jax.run.state import Run
from llm60_jax.training import mesh, profiling
from llm60_jax.training.programs import Program


def train_stage(run: Run, phase: Phase, stage: Stage) -> None:
    """Train the steps of a stage that are left.

    Raises:
      Interrupted: a signal came; the state is saved.
      TrainingError, Rewind: see `Flight.land`.
      MachineError: blocks were to freeze or to be added, and the checkpoint before it could not be saved.
    """
    cpu_seconds = facts.cpu_seconds()
    program, waited = _program(run, phase, stage)
    batches = feed.batches(run, phase, stage)
    if run.progress.frozen_digests is None or run.step == stage.start_step:
        run.progress.frozen_digests = run.frozen_digests(stage)
    flight = Flight(run, phase, stage, program)
    while run.step < stage.stop_step:
        # THE ORDER IS THE RESUME CONTRACT.
        # 1. Look, evaluate and save see the state before the iterator moves, so that the weights and the data
        #    position of a checkpoint belong together.
        # 2. The look comes before the question for signals: what it keeps is part of the state that is then saved.
        # 3. Evaluate comes before save, so that a checkpoint remembers what was measured at its step.
        # 4. Blocks are added after the save, so that a checkpoint holds a state as the step before left it.
        # 5. Step n + 1 is dispatched before the numbers of step n are read, unless something is due between them.
        due = plan.due(run.config, run.plan, phase, run.step)
        save = due.save or saving.owes_a_save(run)
        if due.anything or save:
            flight.land()
        if due.look:
            measures.look(run, phase, stage)
        with saving.saved_if_interrupted(run, stage, batches, flight):
            run.interrupts.check()
            if due.evaluate or due.plateau:
                evaluate(run, phase, stage, own_only=not due.evaluate)
        if save:
            saving.save_or_go_on(run, phase, stage, batches, must=due.turn)
        if due.turn:
            run.grow(stage)
        flight.prepare()
        with run.clock.waiting("data"), profiling.data():
            batch = next(batches)
            on_device = mesh.put(batch, run.key(stage).sharing)
        flight.take_off(batch, on_device)
    flight.land()
    run.tell(StageTrained(stage))
    _end(run, stage, flight, waited, cpu_seconds)


def evaluate(run: Run, phase: Phase, stage: Stage, *, own_only: bool) -> None:
    """Score the held-out text. The evaluation at the start of a phase is evidence for its gate."""
    row = measures.evaluate(run, phase, stage, own_only=own_only)
    if run.step == run.plan.phase_span(phase.name)[0]:
        run.progress.phase_start = row
    run.tell(Evaluated(row))


def _program(run: Run, phase: Phase, stage: Stage) -> tuple[Program, float]:
    """Return the compiled step of a stage and the seconds waited for it; begin to compile those of the next stage."""
    key, asked = run.key(stage), time.monotonic()
    program = run.programs[key]
    waited = time.monotonic() - asked
    run.tell(StageBegins(stage, run.programs.compile_seconds[key], waited, run.programs.temporary_bytes(key)))
    compilation_cache.seal(run.cache)
    coming = _coming(run, phase, stage)
    run.programs.release({key, *coming})  # programs of past stages, and the memory they hold
    for next_key in coming:
        run.programs.prefetch(next_key)
    return program, waited


def _coming(run: Run, phase: Phase, stage: Stage) -> list[StepKey]:
    """Return the keys of the programs that the next stage may need."""
    next_stage = run.plan.stage_at(min(stage.stop_step, run.plan.steps - 1))
    keys = [run.key(next_stage)]
    if next_stage.phase == phase.name and phase.freeze_when == "converged":  # its freeze may wait
        keys.append(run.key(dataclasses.replace(next_stage, frozen_blocks=stage.frozen_blocks)))
    return keys


def _end(run: Run, stage: Stage, flight: Flight, waited: float, cpu_seconds: float) -> None:
    """Check the frozen parameters a last time and record what the stage took."""
    key = run.key(stage)
    leaves, order = saving.check_frozen(run, stage), flight.order()
    run.progress.iterator = run.progress.frozen_digests = None
    account = {
        "tokens_per_second": round(run.clock.rate(stage), 1),
        "frozen_leaves": leaves,
        "frozen_leaves_changed": 0,
        "compile_seconds": round(run.programs.compile_seconds[key], 2),
        "waited_seconds": round(waited, 2),
        "seconds": {"compile": round(waited, 3), **run.clock.account(stage)},
        "planned_seconds": run.clock.planned(stage),
        "order": order.to_tree() if order else None,
        "cpu_seconds": round(facts.cpu_seconds() - cpu_seconds, 2),
        "temporary_bytes": run.programs.temporary_bytes(key),
        "resident_bytes": memory.in_use(),
        "peak_resident_bytes": memory.peak(),
    }
    run.record({**run.position(run.step, stage), "stage_end": account})
    run.tell(StageEnds(stage, key, account, run.clock.step_seconds(stage)))
