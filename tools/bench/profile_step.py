"""Time the compiled train steps of a configuration, and show where a step's time and memory go."""

import argparse
import functools
import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
from bench import chosen

from llm60_jax import config as config_module
from llm60_jax import plan
from llm60_jax.config import Config, Phase, to_tree
from llm60_jax.errors import InputError
from llm60_jax.kernels import library
from llm60_jax.machine import cli, devices, terminal
from llm60_jax.machine.remembered import Unfinished
from llm60_jax.machine.signals import Interrupts
from llm60_jax.plan import Stage, StepKey
from llm60_jax.training import costs, profiling, step, tuning

EXAMPLES = """examples:
  # every stage of the first phase
  python tools/profile_step.py configs/quickstart.toml
  # one stage
  python tools/profile_step.py configs/llm60.toml --stages 5
  # two stages, with traces for ui.perfetto.dev
  python tools/profile_step.py configs/llm60.toml --stages 1,5 --trace trace
  # another phase, fewer rounds
  python tools/profile_step.py configs/llm60.toml --phase fine_tune --rounds 3
  # with the prefix cache and without it, in pairs
  python tools/profile_step.py configs/cached.toml

The tables show a step's time by part of the model and by operation. Batches are random tokens and
the weights are
fresh: the arithmetic of a step does not depend on them. Each round times every stage in turn, so a
slow moment of the machine hits all of them; figures are medians over the rounds.
"""


class TimedStep(NamedTuple):
    """A step to time, with the name of its row."""

    name: str
    stage: Stage
    key: StepKey


def timed_steps(config: Config, phase: Phase, stages: Sequence[Stage]) -> list[TimedStep]:
    """Return the steps of some stages of a phase. One that reads a prefix cache comes again without
    the cache."""
    timed = []
    for stage in stages:
        key, name = plan.key(config, stage), str(stage.index + 1)
        timed.append(TimedStep(name, stage, key))
        if key.prefix_cached:
            timed.append(TimedStep(f"{name}, not cached", stage, key._replace(prefix_cached=False)))
    return timed


def profiled(steps: costs.Steps, timed: TimedStep, folder: Path) -> tuple[str, Any]:
    """Record one step, its batch packed by the loader; return its tables and its figures."""
    batches = costs.made_up_loader(steps.config, timed.stage)
    with profiling.recording(folder):
        with profiling.data():
            next(batches)
        steps.time(timed.key)
    tables = profiling.write(folder, steps.compiled, timed.key, 1)
    return tables, json.loads((folder / "profile.json").read_text(encoding="utf-8"))


def report(
    steps: costs.Steps, timed: Sequence[TimedStep], times: dict[StepKey, list[float]], optimizer: Sequence[float]
) -> list[dict[str, Any]]:
    """Return a row for each timed step, as plain values.

    Args:
      optimizer: seconds of the update of all blocks, then of that of each key of `times`.
    """
    whole, *partial = optimizer
    update_seconds = dict(zip(times, partial, strict=True))
    rows = []
    for name, _, key in timed:
        _ = steps.compiled[key]  # not yet, if an interrupted call has timed all rounds
        frozen_groups = step.frozen_groups_of(steps.config.model, key, steps.state.params)
        state_bytes = {
            group: sum(leaf.nbytes for leaf in jax.tree.leaves(leaves))
            for group, leaves in steps.state.opt_state.items()
        }
        seconds = statistics.median(times[key])
        paired = [b / a for a, b in zip(times[key], times[timed[0].key], strict=True)]
        rows.append(
            {
                "stage": name,
                "context": key.context,
                "frozen": key.frozen_blocks,
                "remat": key.remat,
                "step_seconds": seconds,
                "tokens_per_second": key.tokens / seconds,
                "speed_against_first": statistics.median(paired),
                "matmul_flops": steps.compiled.flops(key),
                "temporary_bytes": steps.compiled.temporary_bytes(key),
                "compile_seconds": steps.compiled.compile_seconds[key],
                "optimizer_seconds": update_seconds[key],
                "optimizer_seconds_saved": whole - update_seconds[key],
                "state_bytes_updated": sum(size for name, size in state_bytes.items() if name not in frozen_groups),
                "state_bytes_untouched": sum(size for name, size in state_bytes.items() if name in frozen_groups),
            }
        )
    return rows


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the rows as text."""
    headings = (
        "stage", "context", "frozen", "ms", "tokens/s", "speed", "GFLOP", "temporaries MiB", "compile s",
        "optimizer ms", "saved ms",
    )  # fmt: skip
    return terminal.columns(
        headings,
        [
            (
                row["stage"],
                str(row["context"]),
                str(row["frozen"]),
                f"{1e3 * row['step_seconds']:,.0f}",
                f"{row['tokens_per_second']:,.0f}",
                f"{row['speed_against_first']:.2f}",
                f"{row['matmul_flops'] / 1e9:,.1f}",
                f"{row['temporary_bytes'] / 2**20:,.0f}",
                f"{row['compile_seconds']:.1f}",
                f"{1e3 * row['optimizer_seconds']:.1f}",
                f"{1e3 * row['optimizer_seconds_saved']:.1f}",
            )
            for row in rows
        ],
    )


def _profile(options: argparse.Namespace, interrupts: Interrupts) -> None:
    if options.rounds < 1:
        raise InputError(f"--rounds: {options.rounds}, but it must be 1 or more")
    config = config_module.load(options.config, options.set)
    config, versions = devices.ready(config)
    device = versions["device"]
    config = tuning.recalled(library.settled(config))
    phase = cli.phase_of(config, options.phase) if options.phase else config.phase[0]
    timed = timed_steps(config, phase, chosen(config, phase, options.stages))
    steps, track = costs.Steps(config, phase), terminal.Tracker(interrupts, on_stderr=options.json)
    identity = [to_tree(config), phase.name, [subject.name for subject in timed], options.rounds, str(options.trace)]
    with (
        Unfinished(config.data_dir, "profile_step", identity, Path(__file__).parent, anew=options.anew) as unfinished,
        tempfile.TemporaryDirectory(prefix="profile") as scratch,
    ):
        times = steps.in_turn((subject.key for subject in timed), options.rounds, track, unfinished)
        # A step of all blocks, none frozen, is the reference for what the optimizer is saved.
        whole = timed[0].key._replace(frozen_blocks=0, embedding_frozen=phase.lora is not None, blocks=None)
        updates = unfinished.part("optimizer", lambda: steps.optimizer_seconds([whole, *times], options.rounds))
        rows, tables = report(steps, timed, times, updates), {}
        for row, subject in track(list(zip(rows, timed, strict=True)), "recording steps", len(timed)):
            folder = (options.trace or Path(scratch)) / f"stage {subject.name}".replace(", ", " ").replace(" ", "-")
            recording = functools.partial(profiled, steps, subject, folder)
            tables[subject.name], row["profile"] = unfinished.part(f"recorded, stage {subject.name}", recording)
    if options.json:
        print(json.dumps({"device": device, "phase": phase.name, "steps": rows}, indent=1))
        return
    terminal.say(f"{options.config}, phase {phase.name}, on {device}\n{table(rows)}")
    for name, text in tables.items():
        terminal.say(f"\nstage {name}: where its time goes\n\n{text}")
    if options.trace:
        terminal.say(f"traces, programs and tables: {options.trace}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = cli.config_parser(__doc__, EXAMPLES)
    parser.add_argument("--phase", metavar="NAME", help="the phase to time (default: the first)")
    parser.add_argument("--stages", default="", metavar="N,N", help="its stages, from 1 (default: all)")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="steps timed for each stage (default 5)")
    parser.add_argument("--trace", type=Path, metavar="DIR", help="keep the traces, in a folder for each stage")
    cli.add_anew(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return cli.run_tool("profile_step.py", parser, arguments, _profile)


if __name__ == "__main__":
    sys.exit(main())
