"""Shows what a configuration will do, stage by stage: tokens, steps, operations; with --measure also seconds, memory
and hours on this machine."""

import argparse
import json
import statistics
import sys
from typing import Any

from bench import Worker

from llm60_jax import arithmetic, console, plan
from llm60_jax import config as config_module
from llm60_jax.config import Config
from llm60_jax.data.progress import Track, silent
from llm60_jax.errors import InputError
from llm60_jax.interrupts import Interrupts
from llm60_jax.step_key import StepKey

EXAMPLES = """examples:
  python tools/plan.py configs/llm60.toml                       at once: no step is run
  python tools/plan.py configs/llm60.toml --measure             some minutes: a few steps of every program
  python tools/plan.py configs/llm60.toml --measure --json --set train.remat=products > plan.json

Hours are those of training steps: evaluation, saving and texts come on top, a few per cent. The range is that of the
fastest and the slowest step seen; a machine that does other work, or grows hot, leaves it.
"""


def measure(config: Config, options: argparse.Namespace, track: Track) -> dict[StepKey, dict[str, Any]]:
    """Seconds of a few steps, temporary and resident memory, of every program of the plan."""
    found: dict[StepKey, dict[str, Any]] = {}
    for phase in config.phase:
        stages = plan.build(config).phase_stages(phase.name)
        wanted = {StepKey.of(stage, phase, config): stage.index for stage in stages}
        wanted = {key: index for key, index in wanted.items() if key not in found}
        if not wanted:
            continue
        worker = Worker("bench_jax.py", str(options.config), phase.name, *options.set)
        try:
            for key, index in track(wanted.items(), f"{phase.name}: programs", len(wanted)):
                facts = worker.ask("stage", index=index)
                steps = [worker.ask("step", index=index) for _ in range(options.rounds)]
                found[key] = {
                    "seconds": [one["seconds"] for one in steps],
                    "temporary_bytes": facts["temporary_bytes"],
                    "peak_bytes": steps[-1]["peak_bytes"],
                }
        finally:
            worker.close()
    return found


def rows_of(config: Config, measured: dict[StepKey, dict[str, Any]]) -> list[dict[str, Any]]:
    """A row a stage, as plain values; what was not measured is None."""
    rows = []
    for stage in plan.build(config).stages:
        phase = config.phase_named(stage.phase)
        key = StepKey.of(stage, phase, config)
        row: dict[str, Any] = {
            "phase": stage.phase,
            "stage": stage.index + 1,
            "context": stage.context,
            "frozen": stage.frozen,
            "micro_batch": stage.micro_batch,
            "accumulation": stage.accumulation,
            "steps": stage.steps,
            "tokens": stage.tokens,
            "matmul_flops": arithmetic.step_flops(config.model, key),
            "step_seconds": None,
            "hours": None,
            "temporary_bytes": None,
            "peak_bytes": None,
        }
        if key in measured:
            seconds = measured[key]["seconds"]
            spread = {"median": statistics.median(seconds), "least": min(seconds), "most": max(seconds)}
            row |= {name: measured[key][name] for name in ("temporary_bytes", "peak_bytes")}
            row |= {"step_seconds": spread, "hours": {n: stage.steps * s / 3600 for n, s in spread.items()}}
        rows.append(row)
    return rows


def totals(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Hours of every phase and of `all`, where they were measured."""
    found: dict[str, dict[str, float]] = {}
    for row in rows:
        for name in (row["phase"], "all") if row["hours"] else ():
            sums = found.setdefault(name, dict.fromkeys(row["hours"], 0.0))
            for kind, value in row["hours"].items():
                sums[kind] += value
    return found


def table(rows: list[dict[str, Any]]) -> str:
    """The report for a person."""
    headings = ["phase", "stage", "context", "frozen", "micro-batches", "steps", "tokens", "GFLOP/step"]
    measured = any(row["hours"] for row in rows)
    headings += ["s/step", "hours", "least", "most", "temporaries MiB", "resident MiB"] if measured else []
    lines = []
    for row in rows:
        line = [
            row["phase"],
            str(row["stage"]),
            str(row["context"]),
            str(row["frozen"]),
            f"{row['accumulation']} of {row['micro_batch']}",
            f"{row['steps']:,}",
            f"{row['tokens']:,}",
            f"{row['matmul_flops'] / 1e9:,.1f}",
        ]
        if row["hours"]:
            line += [f"{row['step_seconds']['median']:.2f}"]
            line += [f"{row['hours'][kind]:.2f}" for kind in ("median", "least", "most")]
            line += [f"{row[kind] / 2**20:,.0f}" for kind in ("temporary_bytes", "peak_bytes")]
        lines.append(tuple(line))
    return console.columns(headings, lines)


def main(arguments: list[str] | None = None) -> int:
    parser = console.config_parser(__doc__, EXAMPLES)
    parser.add_argument("--measure", action="store_true", help="run a few steps of every program on this machine")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="steps measured of each program (default 3)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    if options.rounds < 1:
        parser.error("--rounds must be 1 or more")
    return console.guarded("plan.py", lambda: _plan(options))


def _plan(options: argparse.Namespace) -> None:
    config = config_module.load(options.config, options.set)
    if any(phase.prefix_cache for phase in config.phase) and options.measure:
        raise InputError("--measure: a phase with prefix_cache cannot be measured yet; leave --measure out")
    track = silent if options.json else console.Tracker(Interrupts())
    rows = rows_of(config, measure(config, options, track) if options.measure else {})
    hours = totals(rows)
    if options.json:
        print(json.dumps({"stages": rows, "hours": hours}, indent=1))
        return
    console.say(table(rows))
    for name, sums in hours.items():
        console.say(f"{name}: {sums['median']:,.1f} hours of steps ({sums['least']:,.1f} to {sums['most']:,.1f})")
    if not options.measure:
        console.say("--measure runs a few steps of every program and tells the hours on this machine")


if __name__ == "__main__":
    sys.exit(main())
