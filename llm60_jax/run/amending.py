"""Changes of a run's plan while it lasts: a freeze that waits, a phase that gets more steps, a lower rate."""

import dataclasses

from llm60_jax import plan
from llm60_jax.config import Phase
from llm60_jax.machine import files, together
from llm60_jax.machine.terminal import say
from llm60_jax.plan import Extension, Rescue, Stage
from llm60_jax.record import store
from llm60_jax.record.workdir import RESCUES
from llm60_jax.run.state import Run


def is_undecided(run: Run, stage: Stage) -> bool:
    """Return whether the run stands at a freeze on which nothing is decided."""
    if run.step != stage.start_step or not run.plan.begins_freeze(stage):
        return False
    return all(decision.step != stage.start_step for decision in run.progress.decisions)


def decide(run: Run, phase: Phase, stage: Stage) -> None:
    """Decide whether the freeze that `stage` begins comes now or waits, by the drift of its blocks."""
    highest = next(name for name, _, end in run.config.model.named_stacks if end == stage.frozen_blocks)
    drifts = (run.progress.look.drift if run.progress.look else None) or {}
    decision = plan.decide(run.plan, phase, stage, drifts.get(highest), run.progress.decisions)
    run.progress.decisions.append(decision)
    run.replan()
    position = run.position(run.step, run.plan.stage_at(decision.step))
    run.record({**position, "decision": dataclasses.asdict(decision)})
    say(f"{phase.name}: freezing {decision.frozen_blocks} blocks at step {decision.step:,}: {decision.reason}")


def extend(run: Run, extension: Extension) -> None:
    """Give a phase more steps."""
    run.progress.extensions.append(extension)
    run.replan()
    stage = run.plan.phase_stages(extension.phase)[-1]
    entry = dataclasses.asdict(extension)
    if not run.metrics.find("extension", step=run.step, extension=entry):  # a resume repeats the decision
        run.record({**run.position(run.step, stage), "extension": entry})
    say(f"{extension.phase}: {extension.steps:,} more steps: {extension.reason}")


def rescue(run: Run, phase: Phase) -> bool:
    """Write down that the run goes back to its newest checkpoint of the phase and on at a lower rate.

    `opening.open_run` then does it. Returns False where the configuration or the checkpoints do not allow it.
    """
    if len(run.plan.rescues) >= run.config.train.rewinds:
        return False
    newest = run.checkpoints.newest()
    saved = store.read_meta(newest)["progress"].step if newest else 0
    if saved < run.plan.phase_span(phase.name)[0]:
        return False
    rescues = [*run.plan.rescues, plan.rescue(run.plan, phase, saved)]
    run.workdir.write(RESCUES, files.dump([dataclasses.asdict(entry) for entry in rescues]))
    return True


def take_rescues(run: Run) -> None:
    """Plan with all rescues that are written down, and record those that begin here."""
    run.replan([Rescue(**entry) for entry in together.on_first(run.workdir.rescues)])
    for entry in run.plan.rescues:
        if entry.step == run.step and not run.metrics.find("rescue", rescue=dataclasses.asdict(entry)):
            position = run.position(run.step, run.plan.stage_at(run.step))
            run.record({**position, "rescue": dataclasses.asdict(entry)})
            say(
                f"{entry.phase}: from step {entry.step:,} on at {entry.factor:g} times the rate, "
                f"warmed up over {entry.warmup:,} steps"
            )
