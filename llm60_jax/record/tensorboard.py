"""The scalars of a run as TensorBoard event files: `train.tensorboard = true`, with the extra `tensorboard`.

The scalars are copied from the rows of metrics.jsonl, which stays the source. After a resume TensorBoard drops the
steps that come again.
"""

import math
from pathlib import Path
from typing import Any

from llm60_jax.errors import InputError, MachineError
from llm60_jax.machine import shipped

FOLDER = "tensorboard"
_GROUPS = {
    "training": ("loss", "objective", "learning_rate", "grad_norm", "context", "blocks", "frozen", "tokens_per_second"),
    "validation": ("validation_loss", "bits_per_byte", "minimal_pairs"),
}


def scalars(row: dict[str, Any]) -> dict[str, float]:
    """Return a row of metrics.jsonl as named numbers; values that are not finite are left out."""
    values = {f"{group}/{name}": row[name] for group, names in _GROUPS.items() for name in names if name in row}
    values |= {f"grammar/{name}": value for name, value in row.get("minimal_pairs_by_phenomenon", {}).items()}
    values |= {f"rarity/{place}": value for place, value in enumerate(row.get("loss_by_rarity", []))}
    for name, score in row.get("earlier_phases", {}).items():
        values[f"earlier/{name}"] = score["validation_loss"]
    account = row.get("stage_end", {})
    values |= {f"stage/{name}": account[name] for name in ("resident_bytes", "temporary_bytes") if name in account}
    return {name: float(value) for name, value in values.items() if value is not None and math.isfinite(value)}


class Events:
    """A writer for the rows of a run after a step.

    Raises:
      InputError: the extra is not installed.
      MachineError: the files cannot be written.
    """

    def __init__(self, run: Path, step: int):
        try:
            from tensorboardX import SummaryWriter
        except ModuleNotFoundError:
            raise InputError(
                f"train.tensorboard: tensorboardX is not installed: {shipped.extra('tensorboard')}. Or leave it out"
            ) from None
        try:
            self._writer = SummaryWriter(str(run / FOLDER), purge_step=step + 1, flush_secs=10)
        except OSError as error:
            raise MachineError(f"{run / FOLDER}: cannot be written: {error.strerror or error}") from None

    def __call__(self, row: dict[str, Any]) -> None:
        for name, value in scalars(row).items():
            self._writer.add_scalar(name, value, row["step"])

    def close(self) -> None:
        self._writer.close()
