"""Read a run from its directory: its configuration, its measurements and its gates. Nothing is written."""

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
    """A run as its files record it; made by `read`."""

    path: Path
    config: Config
    rows: list[dict[str, Any]]  # metrics.jsonl
    plan: list[dict[str, Any]]  # plan.json
    gates: dict[str, dict[str, Any]]  # gates/<phase>.json by phase, in the order of phases
    samples: list[dict[str, Any]]  # samples/*.json in the order of steps

    def of(self, phase: Phase, field: str) -> list[dict[str, Any]]:
        """Return the rows of a phase that have a field, in the order of steps."""
        rows = [row for row in self.rows if row["phase"] == phase.name and field in row]
        return sorted(rows, key=lambda row: row["step"])

    def stages(self, phase: Phase) -> list[Stage]:
        """Return the stages of a phase by the latest plan."""
        names = {field.name for field in dataclasses.fields(Stage)}
        return [
            Stage(**{name: row[name] for name in names & row.keys()}, index=row["stage"], frozen_blocks=row["frozen"])
            for row in self.plan
            if row["phase"] == phase.name
        ]

    @property
    def begun(self) -> Iterator[Phase]:
        """Return the phases with any measurement."""
        names = {row["phase"] for row in self.rows}
        return (phase for phase in self.config.phase if phase.name in names)


def read(path: Path, rows: list[dict[str, Any]] | None = None) -> History:
    """Read a run directory, finished or not. `rows` stand for those of metrics.jsonl, where they are in memory.

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
        tree = dict(json.loads(files.read_text(workdir.config_path)))["config"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DamageError(f"{workdir.config_path}: unreadable ({type(error).__name__}); restore it") from None
    samples = [sample for file in sorted(path.glob("samples/*.json")) if (sample := _tree(file))]
    plan = _json(path / "plan.json")
    config = config_module.parse(tree, str(workdir.config_path))
    gates = {phase.name: gate for phase in config.phase if (gate := _tree(path / "gates" / f"{phase.name}.json"))}
    if rows is None:
        rows = workdir.rows()
    return History(path, config, rows, plan if isinstance(plan, list) else [], gates, samples)


def without_time(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return rows without fields that depend on time or machine; two runs with equal training have equal rows."""
    stage_fields = ("frozen_leaves", "frozen_leaves_changed", "temporary_bytes")
    timeless = [row for row in rows if "phase_end" not in row and "paused_seconds" not in row]
    return [
        {
            field: {name: value[name] for name in stage_fields} if field == "stage_end" else value
            for field, value in row.items()
            if field != "tokens_per_second"
        }
        for row in timeless
    ]


def _tree(path: Path) -> dict[str, Any]:
    value = _json(path)
    return value if isinstance(value, dict) else {}


def _json(path: Path) -> Any:
    """Return a file's value, or None if it is missing or cut short."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
