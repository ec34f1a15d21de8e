"""Shows what a configuration will do, stage by stage: tokens, steps, operations, and the seconds, memory and hours that
are known of this machine; --measure finds them out."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from llm60_jax import config as config_module
from llm60_jax import plan
from llm60_jax.config import Config
from llm60_jax.machine import cli, compilation_cache, devices, terminal
from llm60_jax.machine.signals import Interrupts
from llm60_jax.plan import StepKey, flops
from llm60_jax.training import costs, tuning
from llm60_jax.training.costs import Cost

EXAMPLES = """examples:
  python tools/plan.py configs/llm60.toml                       at once: no step is run
  python tools/plan.py configs/llm60.toml --measure             some minutes: a few steps of every program
  python tools/plan.py configs/llm60.toml --measure --json --set train.remat=products > plan.json

What is measured is remembered below data_dir, and so is what stages of runs took: the next plan, and the time left that
a run shows, begin with it. Hours are those of training steps: evaluation, saving and texts come on top, a few per
cent. The range is that of the fastest and the slowest step seen; a machine that does other work, or grows hot, leaves
it.
"""


def rows_of(config: Config, known: dict[StepKey, Cost]) -> list[dict[str, Any]]:
    """A row a stage, as plain values; what is not known is None."""
    rows = []
    for stage in plan.build(config).stages:
        key = plan.key(config, stage)
        row: dict[str, Any] = {
            "phase": stage.phase,
            "stage": stage.index + 1,
            "context": stage.context,
            "frozen": stage.frozen_blocks,
            "micro_batch": stage.micro_batch,
            "accumulation": stage.accumulation,
            "remat": stage.remat,
            "steps": stage.steps,
            "tokens": stage.tokens,
            "matmul_flops": flops.step_flops(config.model, key),
            "step_seconds": None,
            "hours": None,
            "temporary_bytes": None,
            "peak_bytes": None,
        }
        if cost := known.get(key):
            spread = {"median": cost.middle, "least": min(cost.seconds), "most": max(cost.seconds)}
            row |= {"temporary_bytes": cost.temporary_bytes, "peak_bytes": cost.peak_bytes}
            row |= {"step_seconds": spread, "hours": {n: stage.steps * s / 3600 for n, s in spread.items()}}
        rows.append(row)
    return rows


def totals(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Hours of every phase of which all stages are known, and of `all` when all phases are."""
    found: dict[str, dict[str, float]] = {}
    for name in [*dict.fromkeys(row["phase"] for row in rows), "all"]:
        some = [row["hours"] for row in rows if name in (row["phase"], "all")]
        if None not in some:
            found[name] = {kind: sum(hours[kind] for hours in some) for kind in ("median", "least", "most")}
    return found


def table(rows: list[dict[str, Any]]) -> str:
    """The report for a person."""
    headings = ["phase", "stage", "context", "frozen", "micro-batches", "remat", "steps", "tokens", "GFLOP/step"]
    known = any(row["hours"] for row in rows)
    headings += ["s/step", "hours", "least", "most", "temporaries MiB", "resident MiB"] if known else []
    lines = []
    for row in rows:
        line = [
            row["phase"],
            str(row["stage"]),
            str(row["context"]),
            str(row["frozen"]),
            f"{row['accumulation']} of {row['micro_batch']}",
            row["remat"],
            f"{row['steps']:,}",
            f"{row['tokens']:,}",
            f"{row['matmul_flops'] / 1e9:,.1f}",
        ]
        if row["hours"]:
            line += [f"{row['step_seconds']['median']:.2f}"]
            line += [f"{row['hours'][kind]:.2f}" for kind in ("median", "least", "most")]
            line += [f"{row[kind] / 2**20:,.0f}" for kind in ("temporary_bytes", "peak_bytes")]
        lines.append((*line, *["-"] * (len(headings) - len(line))))
    return terminal.columns(headings, lines)


def main(arguments: list[str] | None = None) -> int:
    parser = cli.config_parser(__doc__, EXAMPLES)
    parser.add_argument("--measure", action="store_true", help="run a few steps of every program on this machine")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="steps measured of each program (default 3)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    if options.rounds < 1:
        parser.error("--rounds must be 1 or more")
    return cli.guarded("plan.py", lambda: _plan(options))


def _plan(options: argparse.Namespace) -> None:
    config = tuning.recalled(config_module.load(options.config, options.set))
    stage_plan = plan.build(config)
    if options.measure:
        devices.ready(config)
        cache = compilation_cache.open_in(Path(config.data_dir))
        track = terminal.Tracker(Interrupts(), quiet=options.json)
        costs.remember(config, costs.measure(config, stage_plan, options.rounds, track))
        compilation_cache.seal(cache)
    rows = rows_of(config, costs.recall(config, stage_plan))
    hours = totals(rows)
    if options.json:
        print(json.dumps({"stages": rows, "hours": hours}, indent=1))
        return
    terminal.say(table(rows))
    for name, sums in hours.items():
        terminal.say(f"{name}: {sums['median']:,.1f} hours of steps ({sums['least']:,.1f} to {sums['most']:,.1f})")
    if config.train.is_auto:
        terminal.say('"auto" is not measured on this machine yet: tools/tune.py does that, and so does a run')
    if "all" not in hours:
        terminal.say("--measure runs a few steps of every program and tells the hours on this machine")


if __name__ == "__main__":
    sys.exit(main())
