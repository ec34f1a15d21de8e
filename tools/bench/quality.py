"""Compare quality for equal time: a configuration's planned training, against PyTorch trained
without a plan."""

import argparse
import contextlib
import dataclasses
import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from bench_jax import flat, unflat
from experiments import ArmRun, train
from optimizations import schedules
from worker_process import WorkerProcess, require_torch, torch_worker

from llm60_jax import config as config_module
from llm60_jax import plan
from llm60_jax.checkpoint import Trained, open_
from llm60_jax.config import Config
from llm60_jax.data.prepare import Prepared, prepare
from llm60_jax.data.tokens import loader, packing
from llm60_jax.errors import InputError
from llm60_jax.evaluate import judgement, validation
from llm60_jax.kernels import library
from llm60_jax.machine import cli, devices, files, terminal
from llm60_jax.machine.progress import Track
from llm60_jax.machine.remembered import Unfinished
from llm60_jax.machine.signals import Interrupts
from llm60_jax.record.workdir import WorkDir
from llm60_jax.training import costs, step

EXAMPLES = """examples:
  # 3 minutes of steps for each training, on your own text
  python tools/quality.py configs/quality.toml --set phase.grammar.sources.0.path=my/books
  # longer, and BLiMP too
  python tools/quality.py configs/quality.toml --minutes 10 --seeds 1,2,3 --blimp blimp/data

PyTorch trains the same model at the longest context from the start, with nothing frozen. Minutes
count train steps and waiting for data, not compiling, evaluating or saving. Our side runs first,
with the tokens that fit by measurement. PyTorch then gets the seconds that our side took, in its
faster variant (compiled, if that pays). Initial weights, text, rows at the longest context,
optimizer, peak and final rate are the same. Leave the machine alone meanwhile. Finished trainings
stay in --dir; run the same command to resume.
"""
_TRIAL_SECONDS = 10.0  # for each variant of PyTorch, to find the faster one
_HELD_OUT = 131_072  # tokens at most that both sides are scored on


def fitting(config: Config, seconds: float, track: Track) -> int:
    """Return the tokens of the planned phase that train in `seconds`."""
    stage_plan = plan.build(config)
    with Unfinished(config.data_dir, "quality", config_module.to_tree(config)) as unfinished:
        measured = costs.measure(config, stage_plan, 3, track, unfinished)
    whole = sum(
        stage.steps * measured[key].middle
        for stage, key in zip(stage_plan.stages, costs.keys_of(config, stage_plan), strict=True)
    )
    return round(seconds / (whole / stage_plan.steps)) * stage_plan.tokens_per_step


def train_ours(options: argparse.Namespace, tokens: int, seed: int, workdir: Path, interrupts: Interrupts) -> float:
    """Train one run by the command that a user types, and return the seconds of its steps. Raises
    Failure."""
    phase = config_module.load(options.config, options.set).phase[0].name
    settings = *options.set, f"seed={seed}", f"phase.{phase}.tokens={tokens}"
    overrides = [item for setting in settings for item in ("--set", setting)]
    arguments = str(options.config), *overrides, "--workdir", str(workdir)
    train([ArmRun("ours", seed, workdir, arguments, None)], 1, interrupts)
    ends = [row["stage_end"]["seconds"] for row in WorkDir(workdir).rows() if "stage_end" in row]
    return sum(end["steps"] + end.get("data", 0.0) for end in ends)


def flat_rows(config: Config, prepared: Prepared, steps: int, path: Path) -> None:
    """Store the batches of a training without a plan, int32 [steps, G, B, T]; targets without a
    loss are -100."""
    phase = config.phase[0]
    (stage,) = plan.build(schedules(config)["freezing and ramp"]).stages
    stage = dataclasses.replace(stage, stop_step=steps)
    arrays: dict[str, list[np.ndarray]] = {"tokens": [], "targets": [], "segments": []}
    for batch in loader.batches(prepared.shards[phase.name].train, stage, config.seed):
        arrays["tokens"].append(batch["tokens"])
        arrays["targets"].append(np.where(batch["weights"] > 0, batch["targets"], -100))
        arrays["segments"].append(batch["segments"])
    np.savez(path, **{name: np.stack(parts).astype(np.int32) for name, parts in arrays.items()})  # type: ignore[arg-type]


def train_theirs(
    config: Config, worker: WorkerProcess, rows: Path, seconds: float, weights: Path, variant: str | None
) -> dict[str, Any]:
    """Train PyTorch's model by a variant; by the faster one if `variant` is None."""
    phase = config.phase[0]
    common = {"rows": str(rows), "rates": list(phase.learning_rate), "warmup": phase.warmup, "weights": str(weights)}
    speeds = {}
    for name in ("eager", "compiled") if variant is None else ():
        trial = worker.ask("train", **common, variant=name, seconds=_TRIAL_SECONDS)
        speeds[name] = trial["steps"] / trial["seconds"]
        worker.ask("restore", weights=str(weights.with_name("initial.npz")))
    variant = variant or max(speeds, key=lambda name: speeds[name])
    return {**worker.ask("train", **common, variant=variant, seconds=seconds), "variant": variant}


def judged(model: Trained, prepared: Prepared, blimp: Path | None, track: Track) -> dict[str, Any]:
    """Return the loss on held-out text, and the accuracy on minimal pairs."""
    shard, context = prepared.shards[model.config.phase[0].name].validation, model.config.model.max_context
    rows, size = packing.validation_rows(shard, context, _HELD_OUT)
    bins = np.zeros(model.config.model.vocab_size, np.int64)
    held_out = validation.score(lambda _, rows: model.score_rows(rows), None, rows, size, bins)
    grammar = judgement.judge(model, blimp, [], track)
    pairs = [score["accuracy"] for score in grammar["grammar"].values()]
    return {
        "bits_per_byte": held_out.bits_per_byte,
        "validation_loss": held_out.loss,
        "minimal_pairs": statistics.fmean(pairs),
        "blimp": grammar["overall"] if blimp else None,
    }


def compare(
    options: argparse.Namespace, seed: int, tokens: int, variant: str | None, track: Track, interrupts: Interrupts
) -> list[dict[str, Any]]:
    """Train and score both sides with one seed, and return their rows.

    Args:
      variant: PyTorch's faster variant, if an earlier seed has found it.
    """
    workdir = options.dir / f"ours-{seed}"
    config = config_module.load(options.config, [*options.set, f"seed={seed}"])
    phase = config.phase[0]
    seconds = train_ours(options, tokens, seed, workdir, interrupts)
    ours = open_(workdir)
    steps = int(ours.meta["step"])
    prepared = prepare(config, track, lambda digests: None, None)
    rows = [{"side": "ours", "seed": seed, "seconds": seconds, "steps": steps, "variant": "planned"}]
    rows[0] |= judged(ours, prepared, options.blimp, track)
    with tempfile.TemporaryDirectory(prefix="quality") as scratch, contextlib.ExitStack() as stack:
        folder = Path(scratch)
        np.savez(folder / "initial.npz", **flat(config.model, step.init(config).params))  # type: ignore[arg-type]
        flat_rows(config, prepared, 2 * steps, folder / "rows.npz")
        worker = torch_worker(config, phase, folder, str(folder / "initial.npz"))
        stack.callback(worker.close)
        facts = train_theirs(config, worker, folder / "rows.npz", seconds, folder / "trained.npz", variant)
        arrays = dict(np.load(folder / "trained.npz", allow_pickle=False))
    theirs = ours._replace(params=unflat(config.model, arrays))
    rows.append({"side": "torch", "seed": seed, **facts, **judged(theirs, prepared, options.blimp, track)})
    return rows


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the rows as text."""
    headings = ("side", "seed", "variant", "seconds", "steps", "bits/byte", "nats/token", "our pairs", "BLiMP")
    return terminal.columns(
        headings,
        [
            (
                row["side"],
                str(row["seed"]),
                row["variant"],
                f"{row['seconds']:.0f}",
                f"{row['steps']:,}",
                f"{row['bits_per_byte']:.4f}",
                f"{row['validation_loss']:.4f}",
                f"{row['minimal_pairs']:.1%}",
                "-" if row["blimp"] is None else f"{row['blimp']:.1%}",
            )
            for row in rows
        ],
    )


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return means and sample standard deviations of bits per byte, and of the difference by
    seed."""
    result: dict[str, Any] = {}
    values = {side: [row["bits_per_byte"] for row in rows if row["side"] == side] for side in ("ours", "torch")}
    values["difference"] = [a - b for a, b in zip(values["ours"], values["torch"], strict=True)]
    for name, bits in values.items():
        result[name] = {"mean": statistics.fmean(bits), "deviation": statistics.stdev(bits) if len(bits) > 1 else None}
    return result


def _compare(options: argparse.Namespace, interrupts: Interrupts) -> None:
    if not options.minutes > 0:
        raise InputError(f"--minutes: {options.minutes:g}, but it must be above 0")
    if not all(part.isdecimal() for part in options.seeds.split(",")):
        raise InputError(f"--seeds: {options.seeds!r}, but it must be numbers separated by commas")
    config = config_module.load(options.config, options.set)
    require_torch(config, config.phase[0], "quality.py")
    if config.phase[0].decay != "cosine" or config.phase[0].hold:
        raise InputError(
            "quality.py: PyTorch's side has a cosine decay only; --set its phase's decay=cosine and hold=0"
        )
    if len(config.phase) > 1:
        raise InputError(f"{options.config}: has {len(config.phase)} phases, but the tool compares one; leave one")
    config, _ = devices.ready(config)
    config = library.settled(config)
    track = terminal.Tracker(interrupts, on_stderr=options.json)
    options.dir.mkdir(parents=True, exist_ok=True)
    path = options.dir / "quality.json"
    # All seeds train on as many tokens, so they are measured once for the folder.
    record: dict[str, Any] = {"minutes": options.minutes, "tokens": None, "rows": []}
    if path.exists():
        record |= json.loads(path.read_text(encoding="utf-8"))
    if record["minutes"] != options.minutes:
        raise InputError(f"--minutes: {options.minutes:g}, but {path} has {record['minutes']:g}; choose another --dir")
    rows = record["rows"]
    with terminal.hushed(options.json):
        record["tokens"] = record["tokens"] or fitting(config, 60 * options.minutes, track)
        files.write_text(path, files.dump(record))
        seeds = [int(part) for part in options.seeds.split(",")]
        for seed in track(seeds, "seeds", len(seeds)):
            if seed not in [row["seed"] for row in rows]:
                variant = next((row["variant"] for row in rows if row["side"] == "torch"), None)
                rows += compare(options, seed, record["tokens"], variant, track, interrupts)
                files.write_text(path, files.dump(record | {"summary": summary(rows)}))
    if options.json:
        print(json.dumps({"rows": rows, "summary": summary(rows)}, indent=1))
        return
    terminal.say(table(rows))
    for name, value in summary(rows).items():
        spread = "" if value["deviation"] is None else f" ± {value['deviation']:.4f}"
        terminal.say(f"{name}: {value['mean']:.4f}{spread} bits per byte")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = cli.config_parser(__doc__, EXAMPLES)
    parser.add_argument(
        "--minutes", type=float, default=3.0, metavar="M", help="minutes of steps for each training (default 3)"
    )
    parser.add_argument(
        "--seeds", default="1,2,3", metavar="N,N", help="seeds, one training of each side (default 1,2,3)"
    )
    parser.add_argument("--blimp", type=Path, metavar="DIR", help="a folder with BLiMP's .jsonl files")
    parser.add_argument(
        "--dir", type=Path, default=Path("runs/quality"), metavar="DIR", help="where runs go (default runs/quality)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    finished = "finished trainings and runs under way are kept in --dir; the same command goes on from there"
    return cli.run_tool("quality.py", parser, arguments, _compare, finished)


if __name__ == "__main__":
    sys.exit(main())
