"""The batches of a stage, at the position where a run stands: rows, loss weights, cached prefix."""

import functools
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np

from llm60_jax.config import Phase
from llm60_jax.data.tokens import loader
from llm60_jax.data.tokens.packing import FixedRows
from llm60_jax.machine import together
from llm60_jax.machine.terminal import Tracker, detail
from llm60_jax.model import groups
from llm60_jax.plan import Stage
from llm60_jax.record import store
from llm60_jax.run.state import Run
from llm60_jax.training import phase_groups, prefix_cache, step


def batches(run: Run, phase: Phase, stage: Stage) -> Any:
    """Return the stage's Grain iterator, at the run's position if the stage is under way."""
    reading = loader.Reading(
        rows=phase.rows,
        token_weights=run.data.token_weights(phase),
        document_mask=run.config.train.document_mask,
        prefix=_prefix(run, phase, stage) if phase.prefix_cache else None,
    )
    share = loader.Share(together.index(), together.count())
    iterator = loader.batches(run.data.shards[phase.name].train, stage, run.config.seed, reading, share)
    if run.progress.iterator is not None and run.step > stage.start_step:
        iterator.set_state(run.progress.iterator)
    return iterator


def clear(run: Run, phase: Phase) -> None:
    """Free the disk that a closed phase no longer needs."""
    if together.is_first():
        shutil.rmtree(_prefix_folder(run, phase), ignore_errors=True)


def _prefix(run: Run, phase: Phase, stage: Stage) -> prefix_cache.PrefixCache:
    """Return what the frozen blocks compute for every row of the phase: computed now, or read from the disk."""
    config, params = run.config, phase_groups.plain(run.whole().params)
    rows = loader.rows_of(run.data.shards[phase.name].train, stage, config.seed, "fixed")
    assert isinstance(rows, FixedRows)
    stacks = [name for name, _, stop in config.model.named_stacks if stop <= stage.frozen_blocks]
    below = {"embedding", *(group for name in stacks for group in groups.stack_groups(name))}
    identity = {
        "weights": store.state_sha256({name: params[name] for name in params if name in below}, None),
        "data": run.data.shards[phase.name].digest,
        "rows": repr(rows),
        "document_mask": config.train.document_mask,
        "dtype": config.train.dtype,
    }
    forward = jax.jit(functools.partial(step.frozen_prefix, config.model, stage.frozen_blocks, config.train.dtype))

    def compute(tokens: np.ndarray, segments: np.ndarray) -> Any:
        return forward(params, tokens, segments if config.train.document_mask else np.minimum(segments, 1))

    folder, shape = _prefix_folder(run, phase), (stage.context, config.model.dim)
    with run.clock.paused("frozen prefix"):
        track = Tracker(run.interrupts)
        cache = together.first_then_all(lambda: prefix_cache.prepare(folder, identity, rows, shape, compute, track))
    detail(f"{phase.name}: the frozen prefix takes {cache.bytes / 2**20:,.1f} MiB of disk until the phase closes")
    return cache


def _prefix_folder(run: Run, phase: Phase) -> Path:
    return run.workdir.path / "prefix_cache" / phase.name
