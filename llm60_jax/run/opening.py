"""The way into a run: at its newest checkpoint, at its beginning, or at the checkpoint that `start` names."""

import dataclasses
from pathlib import Path

import jax
import numpy as np

from llm60_jax import checkpoint, plan
from llm60_jax.config import Config
from llm60_jax.data.prepare import Prepared
from llm60_jax.errors import DamageError, InputError
from llm60_jax.machine import compilation_cache, environment, facts, together
from llm60_jax.machine.awake import AwakeTime
from llm60_jax.machine.signals import Interrupts
from llm60_jax.machine.terminal import say
from llm60_jax.record import store
from llm60_jax.record.checkpoints import Checkpoints
from llm60_jax.record.metrics import MetricsLog
from llm60_jax.record.progress import Progress
from llm60_jax.record.workdir import WorkDir
from llm60_jax.run import amending
from llm60_jax.run.ancestry import Start
from llm60_jax.run.clock import StageClock
from llm60_jax.run.state import Run
from llm60_jax.training import costs, mesh, phase_groups, step
from llm60_jax.training.programs import CompiledSteps
from llm60_jax.training.step import TrainState


def open_run(
    config: Config,
    workdir: WorkDir,
    metrics: MetricsLog,
    data: Prepared,
    versions: dict[str, str],
    interrupts: Interrupts,
    start: Start | None,
) -> Run:
    """Return the run, ready for its next step. `metrics` outlives a rewind, with rows that the disk has refused.

    Raises:
      InputError: its checkpoint belongs to another text or configuration, or an older version wrote it.
      DamageError: no checkpoint is whole, or one that it builds on is not.
    """
    checkpoints = Checkpoints(workdir.path, config.train.keep_rolling)
    newest = checkpoints.newest()
    if newest is not None:
        state, progress = _resumed(newest, config, workdir, data, versions, start)
    else:
        state, progress = _fresh(config, workdir, start)
    stage_plan = plan.build(config, progress.decisions, progress.extensions)
    awake = AwakeTime()
    measured = {key: cost.middle for key, cost in costs.recall(config, stage_plan).items()}
    run = Run(
        config=config,
        workdir=workdir,
        metrics=metrics,
        data=data,
        versions=versions,
        interrupts=interrupts,
        checkpoints=checkpoints,
        cache=together.first_then_all(lambda: compilation_cache.open_in(Path(config.data_dir))),
        programs=CompiledSteps(config),
        awake=awake,
        clock=StageClock(config, stage_plan, awake, measured),
        plan=stage_plan,
        state=mesh.place(state, plan.sharing(config)),
        progress=progress,
    )
    together.require_same("the plan", {"stages": plan.to_rows(stage_plan, config), "step": run.step})
    if newest is not None:
        say(f"resumed at step {run.step:,} of {stage_plan.steps:,}")
    # Without a checkpoint no row counts: an earlier attempt never saved one, and may have had another start.
    run.metrics.rewind(run.step if newest is not None else -1)
    amending.take_rescues(run)
    return run


def _fresh(config: Config, workdir: WorkDir, start: Start | None) -> tuple[TrainState, Progress]:
    """Return a new run's state: random weights, or those of the checkpoint that `start` names."""
    if start is None:
        say(f"a new run in {workdir.path}: {config.model.parameter_count:,} parameters")
        return step.init(config), Progress()
    state, meta = store.read(start.folder, phase_groups.abstract(config, None))
    say(f"a new run in {workdir.path}, from {start.folder}")
    fresh = {"step": np.int32(0), "seed": np.uint32(config.seed), "reference": step.reference(config.model)}
    return dataclasses.replace(state, **fresh), Progress(ancestors={str(start.folder.absolute()): meta["state_sha256"]})


def _resumed(
    folder: Path, config: Config, workdir: WorkDir, data: Prepared, versions: dict[str, str], start: Start | None
) -> tuple[TrainState, Progress]:
    """Return the state and the progress of a checkpoint, after all that must agree with it."""
    meta = store.read_meta(folder)
    if meta["digests"] != data.digests:
        raise InputError(
            f"{workdir.path}: its checkpoints were trained on other text or tokens; "
            "restore the text, or start a new run: --workdir DIR"
        )
    workdir.compare(meta["config"], config)
    progress: Progress = meta["progress"]
    progress.ancestors = _as_started(progress.ancestors, start)
    state = checkpoint.read_state(folder, meta, config, checkpoint.base_of(workdir.path, meta))
    if not int(state.step) == progress.step == meta["step"]:
        steps = f"its state says step {int(state.step)}, its progress {progress.step}, its metadata {meta['step']}"
        raise DamageError(f"{folder}: {steps}")
    if meta["versions"] != versions:
        changed = facts.differences(meta["versions"], versions)
        say(f"resuming under other versions, so not bit for bit as before: {changed}")
    if not environment.is_repeatable(jax.default_backend()):
        flag = f"{environment.DETERMINISM}=true"
        say(f"resuming on a GPU without {flag} in XLA_FLAGS, so perhaps not bit for bit as before")
    return state, progress


def _as_started(ancestors: dict[str, str], start: Start | None) -> dict[str, str]:
    """Return the recorded ancestors, the checkpoint that `start` names under the path where it is now.

    Raises InputError when the run began from another one.
    """
    if start is None:
        return ancestors
    old = next((name for name in ancestors if Path(name).is_absolute()), None)
    digest = start.meta["state_sha256"]
    if old is None or ancestors[old] != digest:
        began = f"began from {old}, state {ancestors[old][:16]}" if old else "began from no checkpoint"
        raise InputError(
            f"start: {start.folder} has state {digest[:16]}, and this run {began}; name that one, or start a new run: "
            "--workdir DIR"
        )
    return {str(start.folder.absolute()) if name == old else name: sha for name, sha in ancestors.items()}
