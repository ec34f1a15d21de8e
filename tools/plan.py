"""Show the plan of a configuration, stage by stage: tokens, steps, operations, seconds, memory and
hours."""

import argparse
import contextlib
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llm60_jax import config as config_module
from llm60_jax import plan
from llm60_jax.config import Config, to_tree
from llm60_jax.data import first_look
from llm60_jax.data.corpus import units
from llm60_jax.data.first_look import Look
from llm60_jax.data.read import sources
from llm60_jax.errors import DamageError, InputError
from llm60_jax.kernels import library
from llm60_jax.machine import cli, compilation_cache, devices, manifest, terminal
from llm60_jax.machine.remembered import Unfinished
from llm60_jax.machine.signals import Interrupts
from llm60_jax.plan import Stage, StepKey, flops, hours
from llm60_jax.training import ahead, costs, tuning
from llm60_jax.training.costs import Cost

EXAMPLES = """examples:
  # at once: no step runs
  python tools/plan.py configs/llm60.toml
  # measure a few steps of every program: some minutes
  python tools/plan.py configs/llm60.toml --measure
  # memory and communication on 16 TPU chips that are not here, or on 64 devices
  python tools/plan.py configs/llm60_1b.toml --for v5e:4x4
  python tools/plan.py configs/llm60_1b.toml --for cpu:64
  # measure other settings, for scripts
  python tools/plan.py configs/llm60.toml --measure --json --set train.remat=products > plan.json

One epoch trains on each token of a phase's training text once. The plan says how many epochs the
tokens of a phase are, if its length is given in epochs or its text is prepared
(tools/prepare_data.py). Tokens of text are estimated from its characters.

Measurements are cached below data_dir, and so are the step times of runs. Later plans and the ETA
of a run use them. Hours count training steps only; evaluation, saving and texts add a few per cent.
"least" and "most" come from the fastest and the slowest step so far. A machine that does other
work, or runs hot, can be slower.

--for compiles the step of every stage and runs none. cpu:64 is this CPU cut into 64 devices; the
layout and the communication are those of 64 devices of any kind, the temporaries are a CPU's. The
topology of TPUs needs the extra `tpu`, which brings their compiler, and no TPU. Sizes are for each
device; "state" is what it holds between steps. A step sends by the programs' own collectives,
before XLA changes any. Compiling takes some minutes a stage.
"""
_KINDS = ("median", "least", "most")
_SENT_BY = {
    "all_gather": "all-gathers",
    "ppermute": "exchanges",
    "psum": "all-reduces",
    "reduce_scatter": "reduce-scatters",
}


def rows_of(stages: Sequence[Stage], config: Config, measured: Mapping[StepKey, Cost]) -> list[dict[str, Any]]:
    """Return a row for each stage, as plain values; None where nothing was measured."""
    rows = []
    for stage in stages:
        key = plan.key(config, stage)
        row: dict[str, Any] = {
            "phase": stage.phase,
            "stage": stage.index + 1,
            "context": stage.context,
            "blocks": stage.blocks,
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
        if cost := measured.get(key):
            spread = {"median": cost.middle, "least": min(cost.seconds), "most": max(cost.seconds)}
            row |= {"temporary_bytes": cost.temporary_bytes, "peak_bytes": cost.peak_bytes}
            row |= {"step_seconds": spread, "hours": {n: stage.steps * s / 3600 for n, s in spread.items()}}
        rows.append(row)
    return rows


def totals(stages: Sequence[Stage], rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Return the hours of each phase whose stages are all measured, and of `all` when every phase
    is."""
    measured = [(stage, row["step_seconds"]) for stage, row in zip(stages, rows, strict=True) if row["step_seconds"]]
    sums: dict[str, dict[str, float]] = {}
    for kind in _KINDS:
        by_phase, unmeasured = hours.by_phase(stages, {stage: spread[kind] for stage, spread in measured}.get)
        for stage in unmeasured:
            by_phase.pop(stage.phase, None)
        if not unmeasured:
            by_phase["all"] = sum(by_phase.values())
        for name, value in by_phase.items():
            sums.setdefault(name, {})[kind] = value
    return sums


def table(rows: list[dict[str, Any]]) -> str:
    """Return the rows as text; columns of measurements only where there are any."""
    headings = "phase stage context blocks frozen micro-batches remat steps tokens GFLOP/step".split()
    if any(row["hours"] for row in rows):
        headings += ["s/step", "hours", "least", "most", "temporaries MiB", "resident MiB"]
    lines = []
    for row in rows:
        line = [
            row["phase"],
            str(row["stage"]),
            str(row["context"]),
            str(row["blocks"]),
            str(row["frozen"]),
            f"{row['accumulation']} of {row['micro_batch']}",
            row["remat"],
            f"{row['steps']:,}",
            f"{row['tokens']:,}",
            f"{row['matmul_flops'] / 1e9:,.1f}",
        ]
        if row["hours"]:
            line += [f"{row['step_seconds']['median']:.2f}"]
            line += [f"{row['hours'][kind]:.2f}" for kind in _KINDS]
            line += [f"{row[kind] / 2**20:,.0f}" for kind in ("temporary_bytes", "peak_bytes")]
        lines.append((*line, *["-"] * (len(headings) - len(line))))
    return terminal.columns(headings, lines)


def with_prepared_text(look: Look) -> Look:
    """Return a look that counts the text of more phases: what was prepared from files of the same names.

    It reads the record of the newest such text, and lists the files of the sources.
    """
    tokens = dict(look.tokens)
    for phase in look.config.phase:
        prepared = Path(look.config.data_dir, "processed").glob(f"{phase.name}-*")
        for folder in sorted(prepared, key=lambda path: path.stat().st_mtime):
            # unfinished, or of another version, or the sources are gone
            with contextlib.suppress(DamageError, InputError, OSError, KeyError, TypeError):
                record = manifest.read(folder)
                if _sources_of(record) == [
                    [json.loads(json.dumps(units.spec(s))), [f.name for f in sources.inputs(s)]] for s in phase.sources
                ]:
                    characters = record["facts"]["splits"]["train"]["characters"]
                    tokens[phase.name] = first_look.tokens_of(characters)
    return look._replace(tokens=tokens)


def _sources_of(record: dict[str, Any]) -> list[list[Any]]:
    """Return the settings and the file names of the sources that a prepared text records."""
    return [[source["spec"], [name for name, _ in source["files"]]] for source in record["identity"]["sources"]]


def elsewhere(config: Config, text: str, as_json: bool) -> None:
    """Print what the step of each stage needs on devices that are not here. Stages that share a program share a row.

    Args:
      text: as `ahead.devices` takes it.
    """
    devices.settle("cpu", Path(config.data_dir))  # opens no other device of this machine
    there = ahead.devices(text)
    config = config_module.with_devices(config, len(there))
    if not as_json:
        terminal.say(f"{len(there)} devices of {there[0].device_kind}; for each device and step, times: MiB sent")
    outlooks = {}
    for key in dict.fromkeys(plan.key(config, stage) for stage in plan.build(config).stages):
        outlook = outlooks[key] = ahead.compiled(config, key, there)
        terminal.detail(f"context {key.context}, {key.frozen_blocks} frozen: {outlook.seconds:.0f} s to compile")
    if as_json:
        rows = [{"key": key._asdict(), **outlook._asdict()} for key, outlook in outlooks.items()]
        print(json.dumps({"devices": len(there), "kind": there[0].device_kind, "programs": rows}, indent=1))
        return
    kinds = sorted({kind for outlook in outlooks.values() for kind in outlook.sent})
    lines = []
    for key, outlook in outlooks.items():
        sent = [outlook.sent.get(kind, ahead.Sent(0, 0)) for kind in kinds]
        mib = (f"{number / 2**20:,.0f}" for number in (outlook.state_bytes, outlook.peak_bytes))
        each = (f"{one.times:,}: {one.bytes / 2**20:,.1f}" for one in sent)
        lines.append((f"{key.context:,}", str(key.blocks or config.model.layers), str(key.frozen_blocks), *mib, *each))
    headings = ["context", "blocks", "frozen", "state MiB", "peak MiB", *(_SENT_BY[kind] for kind in kinds)]
    terminal.say(terminal.columns(headings, lines))


def _plan(options: argparse.Namespace, interrupts: Interrupts) -> None:
    if options.rounds < 1:
        raise InputError(f"--rounds: {options.rounds}, but it must be 1 or more")
    given = config_module.load(options.config, options.set)
    if options.elsewhere is not None:
        elsewhere(given, options.elsewhere, options.json)
        return
    look = first_look.look(given, terminal.Tracker(interrupts, on_stderr=options.json), epochs_only=True)
    look = with_prepared_text(look)
    config, kernels = library.expected(look.config)
    if options.measure:
        config, _ = devices.ready(look.config)
        config, kernels = library.settled(config), library.active()
    config = tuning.recalled(config)
    stage_plan = plan.build(config)
    if options.measure:
        track, identity = terminal.Tracker(interrupts, on_stderr=options.json), [to_tree(config), options.rounds]
        with (
            compilation_cache.shared(Path(config.data_dir)),
            Unfinished(config.data_dir, "plan", identity, anew=options.anew) as unfinished,
        ):
            costs.measure(config, stage_plan, options.rounds, track, unfinished)
    rows = rows_of(stage_plan.stages, config, costs.recall(config, stage_plan))
    sums = totals(stage_plan.stages, rows)
    epochs = {phase.name: phase.tokens / n for phase in config.phase if (n := look.tokens.get(phase.name))}
    if options.json:
        result = {"stages": rows, "hours": sums, "kernels": kernels.kernels, "reason": kernels.reason}
        print(json.dumps({**result, "text_tokens": look.tokens, "epochs": epochs}, indent=1))
        return
    terminal.say(table(rows))
    for line in look.describe():
        terminal.say(line)
    if epochs:
        terminal.say("one epoch: each token of the phase's training text once")
    terminal.say(kernels.reason if options.measure else f"on a CPU {kernels.reason}")
    for name, spread in sums.items():
        terminal.say(
            f"{name}: {spread['median']:,.1f} hours of steps ({spread['least']:,.1f} to {spread['most']:,.1f})"
        )
    most, step_tokens = config.most_devices, config.train.tokens_per_step
    terminal.say(f"a step of {step_tokens:,} tokens keeps at most {most} devices busy: a row of full length each")
    if config.train.is_auto:
        terminal.say('"auto" is not measured on this machine yet; tools/tune.py measures it, and so does a run')
    if "all" not in sums:
        terminal.say("--measure runs a few steps of every program and shows the hours on this machine")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = cli.config_parser(__doc__, EXAMPLES)
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--measure", action="store_true", help="run a few steps of every program on this machine")
    how.add_argument(
        "--for", dest="elsewhere", metavar="DEVICES", help="compile for these devices instead: v5e:4x4, cpu:64"
    )
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="steps measured of each program (default 3)")
    cli.add_anew(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return cli.run_tool("plan.py", parser, arguments, _plan)


if __name__ == "__main__":
    sys.exit(main())
