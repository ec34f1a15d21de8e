"""Saving between two steps, and what happens where the disk refuses."""

import contextlib
import logging
import time
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from llm60_jax import checkpoint
from llm60_jax.config import Phase
from llm60_jax.errors import Interrupted, MachineError, TrainingError
from llm60_jax.machine import together
from llm60_jax.machine.terminal import detail, say
from llm60_jax.plan import Stage
from llm60_jax.run.events import Saved
from llm60_jax.run.flight import Flight
from llm60_jax.run.state import Run
from llm60_jax.training import phase_groups, proof

log = logging.getLogger("llm60_jax")
RETRY_SECONDS = 60.0  # from a save that failed to the next try


def owes_a_save(run: Run) -> bool:
    """Return whether a save has failed and is to be tried again now."""
    return run.retry_save_at is not None and together.broadcast(time.monotonic() >= run.retry_save_at)


def save(run: Run, stage: Stage, batches: Any) -> None:
    """Save the state and the position in the data.

    A checkpoint from before blocks freeze or are added is kept for ever.

    Raises:
      TrainingError: a frozen parameter has changed, or weights are not finite.
      MachineError: the disk refuses.
    """
    check_frozen(run, stage)
    run.progress.iterator = batches.get_state()
    with run.clock.paused("saving"):
        store_rolling(run, stage, permanent=run.step == stage.start_step and run.plan.turns(stage))


def save_or_go_on(run: Run, phase: Phase, stage: Stage, batches: Any, *, must: bool) -> None:
    """Save; where that fails, go on and try again later, unless blocks freeze or are added now (`must`)."""
    if must:
        detail(f"saving step {run.step:,} before {_turn(run, stage)}")
    try:
        save(run, stage, batches)
    except MachineError as failure:
        if must:
            raise MachineError(
                f"{failure}\n  The run stops before {_turn(run, stage)}: the checkpoint before it could not be saved "
                "(playbook, section 12). Free some disk space and run the same command again"
            ) from None
        run.retry_save_at = time.monotonic() + RETRY_SECONDS
        saved = run.checkpoints.all()
        newest = f"the newest checkpoint is {saved[0]}" if saved else "there is no checkpoint yet"
        log.warning("STEP %s IS NOT SAVED: %s. Training goes on and will try again; %s", run.step, failure, newest)
        return
    run.retry_save_at = None
    run.tell(Saved(phase, run.step))


def _turn(run: Run, stage: Stage) -> str:
    """Return, as words, the change with which a stage begins and that nothing undoes."""
    if before := run.plan.grows_from(stage):
        return f"the model grows from {before} to {stage.blocks} blocks"
    return f"its lower {stage.frozen_blocks} blocks freeze"


@contextlib.contextmanager
def saved_if_interrupted(run: Run, stage: Stage, batches: Any, flight: Flight) -> Iterator[None]:
    """Save the state where a signal comes inside the block, and pass the signal on."""
    try:
        yield
    except Interrupted as stop:
        flight.land()
        try:
            save(run, stage, batches)
        except MachineError as failure:
            raise MachineError(f"{stop}, and step {run.step:,} could not be saved: {failure}") from None
        say(f"saved at step {run.step:,}")
        raise


def store_rolling(run: Run, stage: Stage, *, permanent: bool = False) -> None:
    """Write a rolling checkpoint; in a phase with adapters of those only, as the rest is in the one it began from.

    Refuses weights that are not finite, so that the last checkpoint stays good.
    """
    state = run.whole()
    if not all(bool(np.isfinite(leaf).all()) for leaf in jax.tree.leaves(state.params)):
        raise TrainingError(f"step {run.step}: weights that are not finite{run.remedy(stage.phase)}")
    kept = phase_groups.without_base(state) if checkpoint.has_adapters(state) else state
    run.checkpoints.save_rolling(kept, run.meta(stage, permanent=permanent))


def check_frozen(run: Run, stage: Stage) -> int:
    """Prove that what the stage leaves frozen has not changed by a bit; return the number of leaves."""
    before = run.progress.frozen_digests
    if before is None:
        return 0
    now = run.frozen_digests(stage)
    together.all_or_none(lambda: proof.check_frozen(stage, before, now))
    return len(before)
