"""Quality for equal time: a configuration's first phase as it is planned, against the same model in PyTorch, trained
flat (the longest context from the start, nothing frozen), both for so many minutes of steps on this machine."""

import argparse
import contextlib
import dataclasses
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from bench import Worker, require_torch, torch_worker
from bench_jax import flat, unflat
from experiments import LAUNCH
from optimizations import schedules

from llm60_jax import config as config_module
from llm60_jax import plan
from llm60_jax.checkpoint import Trained, open_
from llm60_jax.config import Config
from llm60_jax.data.prepare import Prepared, prepare
from llm60_jax.data.tokens import loader, packing
from llm60_jax.errors import Failure, InputError
from llm60_jax.evaluate import judgement, validation
from llm60_jax.machine import cli, devices, files, terminal
from llm60_jax.machine.progress import Track
from llm60_jax.machine.signals import Interrupts
from llm60_jax.record.workdir import WorkDir
from llm60_jax.training import costs, step

EXAMPLES = """examples:
  python tools/quality.py configs/quality.toml --set phase.grammar.sources.0.path=my/books
  python tools/quality.py configs/quality.toml --minutes 10 --seeds 1,2,3 --blimp blimp/data

The minutes are those of train steps and of waiting for data; compiling, evaluating and saving are left out on both
sides. Ours runs first, with as many tokens as fit by measurement; PyTorch, as fast as it goes here (compiled, if that
pays), gets the seconds that ours took. Same weights to begin with, text, rows at the longest context, optimizer, peak
and final rate. Leave the machine alone meanwhile. What is finished is kept in the --dir, and the same command goes on.
"""
_TRIAL_SECONDS = 10.0  # in which PyTorch's variants show their speed
_HELD_OUT = 131_072  # tokens, at most, that both sides are judged on


def fitting(config: Config, seconds: float, track: Track) -> int:
    """Tokens of the phase as planned that train in so many seconds."""
    stage_plan = plan.build(config)
    measured = costs.measure(config, stage_plan, 3, track)
    whole = sum(
        stage.steps * measured[key].middle
        for stage, key in zip(stage_plan.stages, costs.keys_of(config, stage_plan), strict=True)
    )
    return round(seconds / (whole / stage_plan.steps)) * stage_plan.tokens_per_step


def train_ours(options: argparse.Namespace, tokens: int, seed: int, workdir: Path) -> float:
    """Trains one run by the command that a user types; returns the seconds of its steps. Raises Failure."""
    phase = config_module.load(options.config, options.set).phase[0].name
    settings = *options.set, f"seed={seed}", f"phase.{phase}.tokens={tokens}"
    overrides = [item for setting in settings for item in ("--set", setting)]
    command = [sys.executable, str(LAUNCH), str(options.config), *overrides, "--workdir", str(workdir)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise Failure(f"{workdir}: ended with exit code {done.returncode}:\n{done.stderr[-2000:]}")
    ends = [row["stage_end"]["seconds"] for row in WorkDir(workdir).rows() if "stage_end" in row]
    return sum(end["steps"] + end.get("data", 0.0) for end in ends)


def flat_rows(config: Config, prepared: Prepared, steps: int, path: Path) -> None:
    """Stores the batches of a flat training, int32 [steps, G, B, T]; targets that do not count are -100."""
    phase = config.phase[0]
    (stage,) = plan.build(schedules(config)["freezing and ramp"]).stages
    stage = dataclasses.replace(stage, stop_step=steps)
    found: dict[str, list[np.ndarray]] = {"tokens": [], "targets": [], "stacks": []}
    for batch in loader.batches(prepared.shards[phase.name].train, stage, config.seed):
        found["tokens"].append(batch["tokens"])
        found["targets"].append(np.where(batch["weights"] > 0, batch["targets"], -100))
        found["segments"].append(batch["segments"])
    np.savez(path, **{name: np.stack(arrays).astype(np.int32) for name, arrays in found.items()})  # type: ignore[arg-type]


def train_theirs(
    config: Config, worker: Worker, rows: Path, seconds: float, weights: Path, variant: str | None
) -> dict[str, Any]:
    """Trains PyTorch's model by a variant, or by the faster one."""
    phase = config.phase[0]
    common = {"rows": str(rows), "rates": list(phase.learning_rate), "warmup": phase.warmup, "weights": str(weights)}
    speeds = {}
    for name in ("eager", "compiled") if variant is None else ():
        tried = worker.ask("train", **common, variant=name, seconds=_TRIAL_SECONDS)
        speeds[name] = tried["steps"] / tried["seconds"]
        worker.ask("restore", weights=str(weights.with_name("initial.npz")))
    variant = variant or max(speeds, key=lambda name: speeds[name])
    return {**worker.ask("train", **common, variant=variant, seconds=seconds), "variant": variant}


def judged(model: Trained, prepared: Prepared, blimp: Path | None, track: Track) -> dict[str, Any]:
    """Loss on held-out text, and grammar."""
    shard, context = prepared.shards[model.config.phase[0].name].validation, model.config.model.max_context
    rows, size = packing.validation_rows(shard, context, _HELD_OUT)
    bins = np.zeros(model.config.model.vocab_size, np.int64)
    held_out = validation.score(lambda _, rows: model.score_rows(rows), None, rows, size, bins)
    grammar = judgement.judge(model, blimp, [], track)
    pairs = [one["accuracy"] for one in grammar["grammar"].values()]
    return {
        "bits_per_byte": held_out.bits_per_byte,
        "validation_loss": held_out.loss,
        "minimal_pairs": statistics.fmean(pairs),
        "blimp": grammar["overall"] if blimp else None,
    }


def compare(
    options: argparse.Namespace, seed: int, tokens: int, variant: str | None, track: Track
) -> list[dict[str, Any]]:
    """Both sides with one seed, as rows; `variant` of PyTorch, if it is known which is the faster one."""
    workdir = options.dir / f"ours-{seed}"
    config = config_module.load(options.config, [*options.set, f"seed={seed}"])
    phase = config.phase[0]
    seconds = train_ours(options, tokens, seed, workdir)
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
        told = train_theirs(config, worker, folder / "rows.npz", seconds, folder / "trained.npz", variant)
        arrays = dict(np.load(folder / "trained.npz", allow_pickle=False))
    theirs = ours._replace(params=unflat(config.model, arrays))
    rows.append({"side": "torch", "seed": seed, **told, **judged(theirs, prepared, options.blimp, track)})
    return rows


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The comparison for a person."""
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
    """Means and sample standard deviations of bits per byte, and of the difference, seed by seed."""
    found: dict[str, Any] = {}
    values = {side: [row["bits_per_byte"] for row in rows if row["side"] == side] for side in ("ours", "torch")}
    values["difference"] = [a - b for a, b in zip(values["ours"], values["torch"], strict=True)]
    for name, some in values.items():
        found[name] = {"mean": statistics.fmean(some), "deviation": statistics.stdev(some) if len(some) > 1 else None}
    return found


def main(arguments: list[str] | None = None) -> int:
    parser = cli.config_parser(__doc__, EXAMPLES)
    parser.add_argument(
        "--minutes", type=float, default=3.0, metavar="M", help="of steps, for each training (default 3)"
    )
    parser.add_argument("--seeds", default="1,2,3", metavar="N,N", help="trainings of each side (default 1,2,3)")
    parser.add_argument("--blimp", type=Path, metavar="DIR", help="a folder with BLiMP's .jsonl files")
    parser.add_argument("--dir", type=Path, default=Path("runs/quality"), metavar="DIR", help="where runs go")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    if options.minutes <= 0 or not all(part.isdecimal() for part in options.seeds.split(",")):
        parser.error("--minutes must be above 0, and --seeds numbers separated by commas")
    return cli.guarded("quality.py", lambda: _compare(options))


def _compare(options: argparse.Namespace) -> None:
    config = config_module.load(options.config, options.set)
    require_torch(config, config.phase[0], "quality.py")
    if len(config.phase) > 1:
        raise InputError(
            f"{options.config}: has {len(config.phase)} phases, and one is trained and compared; leave one"
        )
    devices.ready(config)
    interrupts = Interrupts()
    interrupts.install()
    track = terminal.Tracker(interrupts, quiet=options.json)
    options.dir.mkdir(parents=True, exist_ok=True)
    kept = options.dir / "quality.json"
    rows: list[dict[str, Any]] = json.loads(kept.read_text(encoding="utf-8"))["rows"] if kept.exists() else []
    tokens = fitting(config, 60 * options.minutes, track)
    for seed in map(int, options.seeds.split(",")):
        if seed not in [row["seed"] for row in rows]:
            variant = next((row["variant"] for row in rows if row["side"] == "torch"), None)
            rows += compare(options, seed, tokens, variant, track)
            files.write_text(kept, files.dump({"rows": rows, "summary": summary(rows)}))
    if options.json:
        print(json.dumps({"rows": rows, "summary": summary(rows)}, indent=1))
        return
    terminal.say(table(rows))
    for name, found in summary(rows).items():
        spread = "" if found["deviation"] is None else f" ± {found['deviation']:.4f}"
        terminal.say(f"{name}: {found['mean']:.4f}{spread} bits per byte")


if __name__ == "__main__":
    sys.exit(main())
