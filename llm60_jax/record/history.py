"""A run as its directory tells it: what was asked for, what was measured, how its phases closed. It only reads."""

import dataclasses
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from llm60_jax import config as config_module
from llm60_jax.config import Config, Phase
from llm60_jax.errors import DamageError, InputError
from llm60_jax.machine import files
from llm60_jax.plan import Stage
from llm60_jax.record.workdir import WorkDir


class History(NamedTuple):
    """Made by `read`. `rows` are those of metrics.jsonl, `gates` the files of gates/ by phase, in the order of phases,
    `samples` those of samples/ in the order of their steps, `plan` the rows of plan.json."""

    path: Path
    config: Config
    rows: list[dict[str, Any]]
    plan: list[dict[str, Any]]
    gates: dict[str, dict[str, Any]]
    samples: list[dict[str, Any]]

    def of(self, phase: Phase, field: str) -> list[dict[str, Any]]:
        """The rows of a phase that have a field, in the order of their steps."""
        found = [row for row in self.rows if row["phase"] == phase.name and field in row]
        return sorted(found, key=lambda row: row["step"])

    def stages(self, phase: Phase) -> list[Stage]:
        """The stages of a phase as they were planned last."""
        names = {field.name for field in dataclasses.fields(Stage)}
        return [
            Stage(**{name: row[name] for name in names & row.keys()}, index=row["stage"], frozen_blocks=row["frozen"])
            for row in self.plan
            if row["phase"] == phase.name
        ]

    @property
    def begun(self) -> Iterator[Phase]:
        """The phases of which anything was measured."""
        names = {row["phase"] for row in self.rows}
        return (phase for phase in self.config.phase if phase.name in names)


def read(path: Path, rows: list[dict[str, Any]] | None = None) -> History:
    """Reads a run directory, finished or not.

    Raises:
      InputError: it holds no run.
      DamageError: its config.json cannot be read.
    """
    workdir = WorkDir(path)
    if workdir.is_new:
        raise InputError(
            f"{path}: holds no run (config.json is missing); name a run directory, such as runs/quickstart"
        )
    try:
        told = dict(json.loads(files.read_text(workdir.config_path)))["config"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DamageError(f"{workdir.config_path}: unreadable ({type(error).__name__}); restore it") from None
    samples = [tree for file in sorted(path.glob("samples/*.json")) if (tree := _tree(file))]
    plan = _json(path / "plan.json")
    config = config_module.parse(told, str(workdir.config_path))
    gates = {one.name: tree for one in config.phase if (tree := _tree(path / "gates" / f"{one.name}.json"))}
    return History(
        path, config, workdir.rows() if rows is None else rows, plan if isinstance(plan, list) else [], gates, samples
    )


def without_time(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows without what depends on time and on the machine: of two runs with the same training they are equal."""
    counted = ("frozen_leaves", "frozen_leaves_changed", "temporary_bytes")
    kept = [row for row in rows if "phase_end" not in row and "paused_seconds" not in row]
    return [
        {key: {name: value[name] for name in counted} if key == "stage_end" else value for key, value in row.items()}
        for row in ({key: value for key, value in row.items() if key != "tokens_per_second"} for row in kept)
    ]


def _tree(path: Path) -> dict[str, Any]:
    found = _json(path)
    return found if isinstance(found, dict) else {}


def _json(path: Path) -> Any:
    """A file's value; None for one that is missing or cut short, which says nothing."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
