"""Time the train steps of a configuration, stage by stage, on request against the same model in
PyTorch."""

import argparse
import contextlib
import functools
import json
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from worker_process import WorkerProcess, require_torch, torch_worker

from llm60_jax import config as config_module
from llm60_jax import plan
from llm60_jax.config import Config, Phase, to_tree
from llm60_jax.errors import InputError
from llm60_jax.machine import cli, terminal
from llm60_jax.machine.progress import Track
from llm60_jax.machine.remembered import Unfinished
from llm60_jax.machine.signals import Interrupts
from llm60_jax.plan import hours
from llm60_jax.training import tuning

EXAMPLES = """examples:
  # every stage of the first phase
  python tools/bench.py configs/quickstart.toml
  # other settings
  python tools/bench.py --set 'train.micro_batch=[[128,8],[256,4],[512,2]]' --set train.remat=products
  # against PyTorch: some twenty minutes on two cores
  python tools/bench.py --against-torch --json > bench.json
  # two stages, two variants of PyTorch
  python tools/bench.py --against-torch --variants eager,remat --stages 1,5

The report ends with the hours of the whole plan at these speeds. Both sides are processes of their
own, with the same allocator setting, weights, micro-batches and document mask. In every round each
does one whole step, so a slow moment of the machine hits both; ratios are medians over rounds.
PyTorch counts with its best variant. --against-torch needs: pip install -e '.[torch]'
"""
VARIANTS = ("eager", "remat", "compiled")


def chosen(config: Config, phase: Phase, numbers_text: str) -> list[plan.Stage]:
    """Return the stages that --stages names by number, from 1; all of them for an empty text.
    Raises InputError."""
    parts = [part for part in numbers_text.split(",") if part]
    if not all(part.isdecimal() for part in parts):
        raise InputError(f"--stages: {numbers_text!r}, but it must be numbers separated by commas")
    stages = plan.build(config).phase_stages(phase.name)
    numbers = list(map(int, parts)) or list(range(1, len(stages) + 1))
    if absent := [number for number in numbers if not 1 <= number <= len(stages)]:
        raise InputError(f"--stages: phase {phase.name} has stages 1 to {len(stages)}, and no {absent}")
    return [stages[number - 1] for number in sorted(set(numbers))]


@contextlib.contextmanager
def workers(
    config: Config, phase: Phase, options: argparse.Namespace
) -> Iterator[tuple[WorkerProcess, WorkerProcess | None, Any]]:
    """Yield JAX's process, PyTorch's if the options ask for it, and the losses of both on the same
    weights and rows."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench")))
        overrides = [item for setting in options.set for item in ("--set", setting)]
        jax_side = WorkerProcess("bench_jax.py", str(options.config), "--phase", phase.name, *overrides)
        stack.callback(jax_side.close)
        if not options.against_torch:
            yield jax_side, None, None
            return
        weights, batch = str(folder / "weights.npz"), str(folder / "batch.npz")
        losses = {"jax": jax_side.ask("export", weights=weights, batch=batch)["loss"]}
        torch_side = torch_worker(config, phase, folder, weights)
        stack.callback(torch_side.close)
        losses["torch"] = torch_side.ask("loss", batch=batch)["loss"]
        yield jax_side, torch_side, losses


def measure_stage(
    jax_side: WorkerProcess,
    torch_side: WorkerProcess | None,
    index: int,
    rounds: int,
    variants: Sequence[str],
    track: Track,
) -> dict[str, Any]:
    """Return a stage's figures as plain values. PyTorch's variants run one after another, each in
    turn with JAX."""
    facts = jax_side.ask("stage", index=index)
    side = {name: jax_side.ask(name, index=index)["seconds"] for name in ("optimizer", "input")}
    shape = {name: facts[name] for name in ("context", "frozen", "micro_batch")}
    jax_steps: list[dict[str, Any]] = []
    ceilings: list[float] = []
    torch: dict[str, dict[str, Any]] = {}
    for variant in variants if torch_side else ("",):
        begun = torch_side.ask("stage", **shape, variant=variant) if torch_side else {}
        torch_steps: list[dict[str, Any]] = []
        for _ in track(range(rounds), f"stage {index + 1} {variant}", rounds):
            ceilings.append(jax_side.ask("ceiling")["flops"])
            jax_steps.append(jax_side.ask("step", index=index))
            if torch_side:
                torch_steps.append(torch_side.ask("step"))
        if torch_steps:
            pairs = zip(torch_steps, jax_steps[-rounds:], strict=True)
            torch[variant] = {
                **begun,
                "peak_bytes": torch_steps[-1]["peak_bytes"],
                "step_seconds": statistics.median(answer["seconds"] for answer in torch_steps),
                "ratio": statistics.median(a["seconds"] / b["seconds"] for a, b in pairs),
            }
    middle, ceiling = statistics.median(answer["seconds"] for answer in jax_steps), statistics.median(ceilings)
    return {
        "stage": index + 1,
        **facts,
        "step_seconds": middle,
        "tokens_per_second": facts["tokens"] / middle,
        "flops_per_second": facts["matmul_flops"] / middle,
        "ceiling_flops_per_second": ceiling,
        "ceiling_share": facts["matmul_flops"] / middle / ceiling,
        "optimizer_share": side["optimizer"] / middle,
        "input_share": side["input"] / middle,
        "peak_bytes": jax_steps[-1]["peak_bytes"],
        **_best_of(torch, facts["tokens"]),
    }


def _best_of(torch: dict[str, dict[str, Any]], tokens: int) -> dict[str, Any]:
    """Return a stage's figures of PyTorch, by its variant with the lowest ratio; None without
    any."""
    best = min(torch, key=lambda name: torch[name]["ratio"]) if torch else None
    return {
        "torch_tokens_per_second": tokens / torch[best]["step_seconds"] if best else None,
        "torch_variant": best,
        "torch": torch or None,
        "ratio": torch[best]["ratio"] if best else None,
        "ratios": {name: figures["ratio"] for name, figures in torch.items()} or None,
    }


def against_flat(
    jax_side: WorkerProcess,
    torch_side: WorkerProcess,
    rows: list[dict[str, Any]],
    rounds: int,
    variants: Sequence[str],
    track: Track,
    unfinished: Unfinished,
) -> tuple[float, float]:
    """Time PyTorch trained without a plan: at the largest context, with nothing frozen.

    Returns:
      The seconds of its best step, and its time for the same tokens, relative to all stages
      together. Each round times one step of each, in turn.
    """
    context = max(row["context"] for row in rows)
    micro_batch = next(row["micro_batch"] for row in rows if row["context"] == context)
    steps = sum(row["steps"] for row in rows)

    def measured(variant: str) -> tuple[float, float]:
        torch_side.ask("stage", context=context, frozen=0, micro_batch=micro_batch, variant=variant)
        flat, ratios = [], []
        for _ in track(range(rounds), f"flat at {context} {variant}", rounds):
            flat.append(torch_side.ask("step")["seconds"])
            ours = sum(row["steps"] * jax_side.ask("step", index=row["stage"] - 1)["seconds"] for row in rows)
            ratios.append(steps * flat[-1] / ours)
        return statistics.median(ratios), statistics.median(flat)

    ratio, seconds = min(
        unfinished.part(f"flat, {variant}", functools.partial(measured, variant)) for variant in variants
    )
    return seconds, ratio


def projected_hours(config: Config, rows: list[dict[str, Any]]) -> tuple[dict[str, float], list[str]]:
    """Return the hours of every phase at the speed measured for each context and depth, and the
    stages left out.

    The hours count training steps only. A stage is left out if its context and depth were not
    measured.
    """
    speeds = {(row["context"], row["frozen"]): row["step_seconds"] for row in rows}
    by_phase, unmeasured = hours.by_phase(
        plan.build(config).stages, lambda stage: speeds.get((stage.context, stage.frozen_blocks))
    )
    return by_phase, [f"{stage.phase} {stage.index + 1}" for stage in unmeasured]


def table(rows: list[dict[str, Any]]) -> str:
    """Return the rows as text."""
    headings = [
        "stage", "context", "frozen", "tokens/s", "GFLOP/s", "of ceiling", "compile s", "temporaries MiB",
        "resident MiB", "optimizer", "input",
    ]  # fmt: skip
    against = rows[0]["ratio"] is not None
    headings += ["torch tokens/s", "best", "ratio"] if against else []
    lines = []
    for row in rows:
        line = [
            str(row["stage"]),
            str(row["context"]),
            str(row["frozen"]),
            f"{row['tokens_per_second']:,.0f}",
            f"{row['flops_per_second'] / 1e9:,.0f}",
            f"{row['ceiling_share']:.0%}",
            f"{row['compile_seconds']:.1f}",
            f"{row['temporary_bytes'] / 2**20:,.0f}",
            f"{row['peak_bytes'] / 2**20:,.0f}",
            f"{row['optimizer_share']:.1%}",
            f"{row['input_share']:.2%}",
        ]
        if against:
            line += [f"{row['torch_tokens_per_second']:,.0f}", row["torch_variant"], f"{row['ratio']:.2f}"]
        lines.append(tuple(line))
    return terminal.columns(headings, lines)


def _bench(options: argparse.Namespace, interrupts: Interrupts) -> None:
    variants = [part for part in options.variants.split(",") if part]
    if options.rounds < 1:
        raise InputError(f"--rounds: {options.rounds}, but it must be 1 or more")
    if not variants or not set(variants) <= set(VARIANTS):
        raise InputError(f"--variants: {options.variants!r}, but it must be some of {', '.join(VARIANTS)}")
    config = tuning.recalled(config_module.load(options.config, options.set))
    phase = cli.phase_of(config, options.phase) if options.phase else config.phase[0]
    if options.against_torch:
        require_torch(config, phase, "--against-torch")
    stages = chosen(config, phase, options.stages)
    track = terminal.Tracker(interrupts, on_stderr=options.json)
    asked = [phase.name, options.rounds, options.against_torch and variants]
    identity, here = [to_tree(config), *asked], Path(__file__).parent
    with (
        Unfinished(config.data_dir, "bench", identity, here, anew=options.anew) as unfinished,
        workers(config, phase, options) as (jax_side, torch_side, losses),
    ):
        rows = [
            unfinished.part(
                f"stage {stage.index + 1}",
                functools.partial(measure_stage, jax_side, torch_side, stage.index, options.rounds, variants, track),
            )
            for stage in stages
        ]
        flat, whole = None, None
        if torch_side:
            flat, whole = against_flat(jax_side, torch_side, rows, options.rounds, variants, track, unfinished)
        generation = unfinished.part("generation", lambda: jax_side.ask("generation"))
        versions = {"jax": jax_side.version, "torch": torch_side.version if torch_side else None}
    projected, left_out = projected_hours(config, rows)
    report = {
        "versions": versions,
        "phase": phase.name,
        "stages": rows,
        "hours": projected,
        "losses": losses,
        "generation": generation,
        "not_in_hours": left_out,
        "flat_torch_step_seconds": flat,
        "whole_playbook_ratio": whole,
    }
    if options.json:
        print(json.dumps(report, indent=1))
    else:
        _show(report, options.config)


def _show(report: dict[str, Any], config: Path) -> None:
    rows, projected, generation = report["stages"], report["hours"], report["generation"]
    terminal.say(f"{config}, phase {report['phase']}; {rows[0]['remat']} remat, {rows[0]['devices']} device(s)")
    terminal.say(table(rows))
    sums = ", ".join(f"{name} {value:,.1f}" for name, value in projected.items())
    terminal.say(f"hours at these speeds: {sums}; {sum(projected.values()):,.1f} in all")
    if report["not_in_hours"]:
        terminal.say(f"not in these hours, because not measured: {', '.join(report['not_in_hours'])}")
    terminal.say(
        f"writing one text: {generation['tokens_per_second']:,.1f} tokens/s, {generation['bandwidth_share']:.0%} of "
        "what the memory's bandwidth allows when every weight is read once a token"
    )
    losses, whole = report["losses"], report["whole_playbook_ratio"]
    if losses and whole:
        terminal.say(f"loss on the same weights and rows: {losses['jax']:.5f} here, {losses['torch']:.5f} in PyTorch")
        terminal.say(f"whole plan against PyTorch without freezing at the largest context: {whole:.2f}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = cli.config_parser(__doc__, EXAMPLES, default="llm60")
    parser.add_argument("--phase", metavar="NAME", help="the phase to time (default: the first)")
    parser.add_argument("--stages", default="", metavar="N,N", help="stages of the phase, from 1 (default: all)")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="steps timed on each side (default 5)")
    parser.add_argument("--against-torch", action="store_true", help="time PyTorch too, in turn")
    parser.add_argument(
        "--variants", default=",".join(VARIANTS), metavar="V,V", help="variants of PyTorch (default: all)"
    )
    cli.add_anew(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return cli.run_tool("bench.py", parser, arguments, _bench)


if __name__ == "__main__":
    sys.exit(main())
