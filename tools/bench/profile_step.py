"""Times the compiled train steps of a configuration, stage by stage and in turn, and tells where a step's time goes: by
part of the model and by operation, with its memory."""

import argparse
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
from llm60_jax.config import Config, Phase
from llm60_jax.machine import cli, devices, terminal
from llm60_jax.machine.signals import Interrupts
from llm60_jax.plan import Stage, StepKey
from llm60_jax.training import costs, profiling, step, tuning

EXAMPLES = """examples:
  python tools/profile_step.py configs/quickstart.toml                  every stage of the first phase
  python tools/profile_step.py configs/llm60.toml --stage 5             one stage, and where its time goes
  python tools/profile_step.py configs/llm60.toml --stage 1,5 --trace trace    keeps the traces, for ui.perfetto.dev
  python tools/profile_step.py configs/llm60.toml --phase fine_tune --rounds 3
  python tools/profile_step.py configs/cached.toml                      with the prefix cache against without, in pairs

Batches are random tokens and the weights are fresh: the arithmetic of a step does not depend on them. Each round times
every stage in turn, so that a slow moment of the machine meets all of them; figures are medians over the rounds.
"""


class Subject(NamedTuple):
    """One step under the clock."""

    name: str
    stage: Stage
    key: StepKey


def subjects(config: Config, phase: Phase, stages: Sequence[Stage]) -> list[Subject]:
    """The steps of some of a phase's stages; one that reads a prefix cache appears a second time without it."""
    found = []
    for stage in stages:
        key, name = plan.key(config, stage), str(stage.index + 1)
        found.append(Subject(name, stage, key))
        if key.prefix_cached:
            found.append(Subject(f"{name}, not cached", stage, key._replace(prefix_cached=False)))
    return found


def profiled(steps: costs.Steps, subject: Subject, folder: Path) -> str:
    """Records one step, its batch packed by the loader, and gives its tables."""
    batches = costs.made_up_loader(steps.config, subject.stage)
    with profiling.recording(folder):
        with profiling.data():
            next(batches)
        steps.time(subject.key)
    return profiling.write(folder, steps.compiled, subject.key, 1)


def report(
    steps: costs.Steps, some: Sequence[Subject], times: dict[StepKey, list[float]], optimizer: dict[int, float]
) -> list[dict[str, Any]]:
    """A row a subject, as plain values."""
    rows = []
    for subject in some:
        key = subject.key
        frozen_groups = step.frozen_groups_of(steps.config.model, key, steps.state.params)
        held = {
            name: sum(leaf.nbytes for leaf in jax.tree.leaves(group)) for name, group in steps.state.opt_state.items()
        }
        seconds = statistics.median(times[key])
        paired = [b / a for a, b in zip(times[key], times[some[0].key], strict=True)]
        rows.append(
            {
                "stage": subject.name,
                "context": key.context,
                "frozen": key.frozen_blocks,
                "remat": key.remat,
                "step_seconds": seconds,
                "tokens_per_second": key.tokens / seconds,
                "speed_against_first": statistics.median(paired),
                "matmul_flops": steps.compiled.flops(key),
                "temporary_bytes": steps.compiled.temporary_bytes(key),
                "compile_seconds": steps.compiled.compile_seconds[key],
                "optimizer_seconds": optimizer[key.frozen_blocks],
                "optimizer_seconds_saved": optimizer[0] - optimizer[key.frozen_blocks],
                "state_bytes_updated": sum(size for name, size in held.items() if name not in frozen_groups),
                "state_bytes_untouched": sum(size for name, size in held.items() if name in frozen_groups),
            }
        )
    return rows


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The report for a person."""
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


def main(arguments: list[str] | None = None) -> int:
    parser = cli.config_parser(__doc__, EXAMPLES)
    parser.add_argument("--phase", metavar="NAME", help="which phase (default: the first)")
    parser.add_argument("--stage", "--stages", default="", metavar="N,N", help="its stages, from 1 (default: all)")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="steps timed for each stage (default 5)")
    parser.add_argument("--trace", type=Path, metavar="DIR", help="keep the traces, in a folder for each stage")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    if options.rounds < 1 or not all(part.isdecimal() for part in options.stage.split(",") if part):
        parser.error("--rounds must be 1 or more, and --stage numbers separated by commas")
    return cli.guarded("profile_step.py", lambda: _profile(options))


def _profile(options: argparse.Namespace) -> None:
    config = tuning.recalled(config_module.load(options.config, options.set))
    phase = cli.phase_of(config, options.phase) if options.phase else config.phase[0]
    some = subjects(config, phase, chosen(config, phase, options.stage))
    device = devices.ready(config)["device"]
    steps, track = costs.Steps(config, phase), terminal.Tracker(Interrupts(), quiet=options.json)
    times = steps.in_turn((subject.key for subject in some), options.rounds, track)
    # What freezing saves the optimizer is told against nothing frozen.
    whole = some[0].key._replace(frozen_blocks=0, embedding_frozen=phase.lora is not None)
    optimizer = steps.optimizer_seconds([whole, *times], options.rounds)
    rows = report(steps, some, times, optimizer)
    told = {}
    with tempfile.TemporaryDirectory(prefix="profile") as scratch:
        for row, subject in zip(rows, some, strict=True):
            folder = (options.trace or Path(scratch)) / f"stage {subject.name}".replace(", ", " ").replace(" ", "-")
            told[subject.name] = profiled(steps, subject, folder)
            row["profile"] = json.loads((folder / "profile.json").read_text(encoding="utf-8"))
    if options.json:
        print(json.dumps({"device": device, "phase": phase.name, "steps": rows}, indent=1))
        return
    terminal.say(f"{options.config}, phase {phase.name}, on {device}\n{table(rows)}")
    for name, tables in told.items():
        terminal.say(f"\nstage {name}: where its time goes\n\n{tables}")
    if options.trace:
        terminal.say(f"traces, programs and tables: {options.trace}")


if __name__ == "__main__":
    sys.exit(main())
