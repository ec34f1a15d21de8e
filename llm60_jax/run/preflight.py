"""Checks of this machine before a run begins."""

import itertools
import os
import shutil
from pathlib import Path

from llm60_jax.config import Config
from llm60_jax.errors import MachineError
from llm60_jax.machine.facts import memory_bytes
from llm60_jax.machine.files import standing


def require(config: Config) -> None:
    """Check that this machine can write and hold a run, before anything expensive.

    Raises:
      MachineError: a directory that cannot be written, too little disk for the checkpoints, too little memory.
    """
    for field, place in (("workdir", config.workdir), ("data_dir", config.data_dir)):
        nearest = standing(Path(place))
        if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
            raise MachineError(f"{field} {place}: {nearest} cannot be written; choose another place")
    weights = 4 * config.model.parameter_count  # bytes
    # Adafactor's state is a few per cent of the weights. AdamW has two moments of each weight, Muon one.
    state = {"adafactor": 1, "muon": 2, "adamw": 3}[config.optimizer.name] * weights
    memory = memory_bytes()
    if state + weights > memory:
        needed = (state + weights) / 1e9
        raise MachineError(
            f"model: {config.model.parameter_count:,} parameters, gradients and the optimizer's state need "
            f"{needed:,.1f} GB, and this machine has {memory / 1e9:.1f} GB of memory; choose a smaller model"
        )
    workdir = Path(config.workdir)
    existing = [p for kind in ("checkpoints", "phases") for p in workdir.glob(f"{kind}/*/manifest.json")]
    schedules = [schedule for phase in config.phase for schedule in (phase.freeze, phase.grow)]
    # Each change to more blocks keeps the checkpoint before it.
    turns = sum(b > a for schedule in schedules for (_, a), (_, b) in itertools.pairwise(schedule))
    to_come = config.train.keep_rolling + 1 + turns + len(config.phase) - len(existing)
    wanted = max(1, to_come) * state
    free = shutil.disk_usage(standing(workdir)).free
    if free < wanted:
        raise MachineError(
            f"workdir {config.workdir}: its checkpoints need {wanted / 1e9:,.1f} GB, and {free / 1e9:.1f} GB are "
            "free; make room, or choose another place with --workdir"
        )
