"""The batches of a stage, at the position where a session stands: rows, loss weights, cached prefix."""

import functools
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np

from llm60_jax.config import Phase
from llm60_jax.data.tokens import loader
from llm60_jax.data.tokens.packing import FixedRows
from llm60_jax.machine import terminal
from llm60_jax.model import groups
from llm60_jax.plan import Stage
from llm60_jax.record import store
from llm60_jax.run.clock import StageClock
from llm60_jax.run.session import Session
from llm60_jax.training import phase_groups, prefix_cache, step


def batches(session: Session, clock: StageClock, phase: Phase, stage: Stage) -> Any:
    """The stage's Grain iterator; takes up the session's position if the stage is under way."""
    reading = loader.Reading(
        rows=phase.rows,
        token_weights=session.data.token_weights(phase),
        document_mask=session.config.train.document_mask,
        prefix=_prefix(session, clock, phase, stage) if phase.prefix_cache else None,
    )
    found = loader.batches(session.data.shards[phase.name].train, stage, session.config.seed, reading)
    if session.iterator is not None and session.step > stage.start_step:
        found.set_state(session.iterator)
    session.iterator = None
    return found


def clear(session: Session, phase: Phase) -> None:
    """Frees the disk that a closed phase needs no longer."""
    shutil.rmtree(_prefix_folder(session, phase), ignore_errors=True)


def _prefix(session: Session, clock: StageClock, phase: Phase, stage: Stage) -> prefix_cache.PrefixCache:
    """What the frozen blocks compute for every row of the phase, computed now or found."""
    config, params = session.config, phase_groups.plain(session.state.params)
    rows = loader.rows_of(session.data.shards[phase.name].train, stage, config.seed, "fixed")
    assert isinstance(rows, FixedRows)
    stacks = [name for name, _, stop in config.model.named_stacks if stop <= stage.frozen_blocks]
    below = {"embedding", *(group for name in stacks for group in groups.stack_groups(name))}
    used = {name: params[name] for name in params if name in below}
    identity = {
        "weights": store.state_sha256(used, None),
        "data": session.data.shards[phase.name].digest,
        "rows": repr(rows),
        "document_mask": config.train.document_mask,
        "dtype": config.train.dtype,
    }
    forward = jax.jit(functools.partial(step.frozen_prefix, config.model, stage.frozen_blocks, config.train.dtype))

    def compute(tokens: np.ndarray, segments: np.ndarray) -> Any:
        return forward(params, tokens, segments if config.train.document_mask else np.minimum(segments, 1))

    folder, shape = _prefix_folder(session, phase), (stage.context, config.model.dim)
    with clock.paused("frozen prefix"):
        cache = prefix_cache.prepare(folder, identity, rows, shape, compute, terminal.Tracker(session.interrupts))
    terminal.say(f"{phase.name}: the frozen prefix takes {cache.bytes / 2**20:,.1f} MiB of disk until the phase closes")
    return cache


def _prefix_folder(session: Session, phase: Phase) -> Path:
    return session.workdir.path / "prefix_cache" / phase.name
