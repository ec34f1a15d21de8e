"""Read a run from its directory: its configuration, its measurements and its gates. Nothing is written."""

import dataclasses
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from llm60_jax import config as config_module
from llm60_jax.config import Config, Phase
from llm60_jax.errors import DamageError, InputError
from llm60_jax.machine import files
from llm60_jax.plan import Stage
from llm60_jax.record import shapes
from llm60_jax.record.workdir import WorkDir


class History(NamedTuple):
    """A run as its files record it; made by `read`."""

    path: Path
    config: Config
    rows: list[dict[str, Any]]  # metrics.jsonl
    plan: list[dict[str, Any]]  # plan.json
    gates: dict[str, dict[str, Any]]  # gates/<phase>.json by phase, in the order of phases
    samples: list[dict[str, Any]]  # samples/*.json in the order of steps
    lacks: str = ""  # what the machine lacks for the native kernels, by the last start
    skipped: Sequence[str] = ()  # a line for each file of which a part cannot be read

    def of(self, phase: Phase, field: str) -> list[dict[str, Any]]:
        """Return the rows of a phase that have a field, in the order of steps."""
        rows = [row for row in self.rows if row["phase"] == phase.name and field in row]
        return sorted(rows, key=lambda row: row["step"])

    def stages(self, phase: Phase) -> list[Stage]:
        """Return the stages of a phase by the latest plan."""
        names = {field.name for field in dataclasses.fields(Stage)}
        rows = [row for row in self.plan if row["phase"] == phase.name]
        return [
            Stage(**{name: row[name] for name in names & row.keys()}, index=row["stage"], frozen_blocks=row["frozen"])
            for row in rows
        ]

    @property
    def was_extended(self) -> bool:
        """Whether a gate has given a phase more steps than the configuration says."""
        return any("extension" in row for row in self.rows)

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
        stored = dict(json.loads(files.read_text(workdir.config_path)))
        tree, lacks = stored["config"], str(dict(stored.get("kernels", {})).get("lacks", ""))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DamageError(f"{workdir.config_path}: unreadable ({type(error).__name__}); restore it") from None
    config = config_module.parse(tree, str(workdir.config_path))
    parts = _Parts(path, [])
    if rows is None:
        rows, skipped = workdir.read_rows()
        parts.skip(shapes.told(workdir.metrics_path.name, skipped))
    stages = parts.read("plan.json", lambda value: shapes.plan_problem(config, value)) or []
    plan = [{"blocks": config.model.layers} | row for row in stages]  # plans of older runs do not say it
    gates = {name: parts.read(f"gates/{name}.json", shapes.Gate) for name in config.phase_names}
    samples = [parts.read(f"samples/{file.name}", shapes.Sample) for file in path.glob("samples/*.json")]
    written = sorted(filter(None, samples), key=lambda sample: sample["step"])
    judged = {name: gate for name, gate in gates.items() if gate}
    return History(path, config, rows, plan, judged, written, lacks, parts.skipped)


class _Parts(NamedTuple):
    """Reads the JSON files of a run, and keeps a line for each that cannot be read."""

    path: Path
    skipped: list[str]

    def skip(self, why: str) -> None:
        if why:
            self.skipped.append(why)

    def read(self, name: str, problem: type[shapes.Shape] | Callable[[Any], str]) -> Any:
        """Return the content of a file; None if it is absent or skipped."""
        if not os.path.lexists(self.path / name):
            return None
        try:
            value = json.loads(files.read_text(self.path / name))
        except DamageError as error:
            self.skip(f"{name}: skipped: {str(error).removeprefix(str(self.path / name)).lstrip(': ')}")
        except (ValueError, RecursionError):
            self.skip(f"{name}: skipped: not JSON")
        else:
            why = shapes.problem(problem, value) if isinstance(problem, type) else problem(value)
            if not why:
                return value
            self.skip(f"{name}: skipped: {why}")
        return None


def without_time(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return rows without fields that depend on time or machine; two runs with equal training have equal rows."""
    stage_fields = ("frozen_leaves", "frozen_leaves_changed")
    timeless = [row for row in rows if "phase_end" not in row and "paused_seconds" not in row]
    return [
        {
            field: {name: value[name] for name in stage_fields} if field == "stage_end" else value
            for field, value in row.items()
            if field != "tokens_per_second"
        }
        for row in timeless
    ]
