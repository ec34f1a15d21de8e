"""Measures the train steps of a configuration, stage by stage, and projects the hours of its whole plan; on request
against the same model and step in PyTorch, on the same machine, in turn."""

import argparse
import contextlib
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from llm60_jax import config as config_module
from llm60_jax import plan
from llm60_jax.config import Config, Phase
from llm60_jax.errors import InputError, MachineError
from llm60_jax.machine import cli, terminal
from llm60_jax.machine.progress import Track
from llm60_jax.machine.signals import Interrupts
from llm60_jax.training import tuning

EXAMPLES = """examples:
  python tools/bench.py --config configs/quickstart.toml                every stage of the first phase
  python tools/bench.py --set 'train.micro_batch=[[128,8],[256,4],[512,2]]' --set train.remat=products
  python tools/bench.py --against-torch --json > bench.json             some twenty minutes on two cores
  python tools/bench.py --against-torch --variants eager,remat --stages 1,5

Both sides are processes of their own with the same allocator setting, the same weights, micro-batches and document
mask. In every round each performs one whole step, so that a slow moment of the machine meets all of them; ratios are
medians over rounds. PyTorch counts with its best variant. --against-torch needs: pip install -e '.[torch]'
"""
VARIANTS = ("eager", "remat", "compiled")
_TOOLS = Path(__file__).parent
# First touches of fresh pages cost up to a quarter of a step on Linux; both sides get the same.
_ALLOCATOR = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}


class Worker:
    """A process that performs steps when it is asked to."""

    def __init__(self, script: str, *arguments: str):
        command = [sys.executable, str(_TOOLS / script), *arguments]
        environment = _ALLOCATOR | os.environ
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self._script = script
        self.version = self._answer()["ready"]

    def ask(self, do: str, **values: Any) -> dict[str, Any]:
        """What the process answers. Raises MachineError when it has ended."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps({"do": do, **values}) + "\n")
            self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait()
            raise MachineError(f"{self._script} ended with {code}; what it said is above")
        return json.loads(line)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


def serve(worker: Any, version: str) -> None:
    """The other end of a `Worker`: answers what is asked by calling the method of that name, until nobody asks."""
    print(json.dumps({"ready": version}), flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        print(json.dumps(getattr(worker, asked.pop("do"))(**asked)), flush=True)


def chosen(config: Config, phase: Phase, asked: str) -> list[plan.Stage]:
    """Stages of a phase by their numbers, from 1, as --stages has them; all where it is empty. Raises InputError."""
    stages = plan.build(config).phase_stages(phase.name)
    numbers = [int(part) for part in asked.split(",") if part] or list(range(1, len(stages) + 1))
    if absent := [number for number in numbers if not 1 <= number <= len(stages)]:
        raise InputError(f"--stages: phase {phase.name} has stages 1 to {len(stages)}, and no {absent}")
    return [stages[number - 1] for number in sorted(set(numbers))]


def facts_of(config: Config, phase: Phase) -> dict[str, Any]:
    """What PyTorch's side has to know of a configuration."""
    names = ("vocab_size", "dim", "layers", "heads", "hidden_dim", "rope_base")
    return {
        "model": {name: getattr(config.model, name) for name in names},
        "seed": config.seed,
        "dropout": phase.mlp_dropout,
        "learning_rate": phase.learning_rate[1],
        "optimizer": {name: getattr(config.optimizer, name) for name in ("weight_decay", "clip_rms", "decay_exponent")},
        "tokens_per_step": config.train.tokens_per_step,
    }


def torch_worker(config: Config, phase: Phase, folder: Path, weights: str) -> Worker:
    """PyTorch's process, with the model of a configuration and stored weights."""
    facts = facts_of(config, phase) | {"weights": weights}
    (folder / "facts.json").write_text(json.dumps(facts), encoding="utf-8")
    return Worker("bench_torch.py", str(folder / "facts.json"))


def require_torch(config: Config, phase: Phase, option: str) -> None:
    """Raises InputError where PyTorch is missing, or its side lacks what the configuration has."""
    if importlib.util.find_spec("torch") is None:
        raise InputError(f"{option}: PyTorch is not installed; pip install -e '.[torch]'")
    if config.model.enhancements or phase.lora or phase.deep_supervision:
        raise InputError(f"{option}: PyTorch's side has the plain model only, without enhancements")


@contextlib.contextmanager
def workers(config: Config, phase: Phase, options: argparse.Namespace) -> Iterator[tuple[Worker, Worker | None, Any]]:
    """The process of JAX, that of PyTorch if it is asked for, and the losses of both on the same weights and rows."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench")))
        jax_side = Worker("bench_jax.py", str(options.config), phase.name, *options.set)
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
    jax_side: Worker, torch_side: Worker | None, index: int, options: Any, track: Track
) -> dict[str, Any]:
    """A stage's figures as plain values; PyTorch's variants are measured one after another, each in turn with JAX."""
    facts = jax_side.ask("stage", index=index)
    side = {name: jax_side.ask(name, index=index)["seconds"] for name in ("optimizer", "input")}
    shape = {name: facts[name] for name in ("context", "frozen", "micro_batch")}
    ours: list[dict[str, Any]] = []
    ceilings: list[float] = []
    theirs: dict[str, dict[str, Any]] = {}
    for variant in options.variants if torch_side else ("",):
        begun = torch_side.ask("stage", **shape, variant=variant) if torch_side else {}
        answers: list[dict[str, Any]] = []
        for _ in track(range(options.rounds), f"stage {index + 1} {variant}", options.rounds):
            ceilings.append(jax_side.ask("ceiling")["flops"])
            ours.append(jax_side.ask("step", index=index))
            if torch_side:
                answers.append(torch_side.ask("step"))
        if answers:
            pairs = zip(answers, ours[-options.rounds :], strict=True)
            theirs[variant] = {
                **begun,
                "peak_bytes": answers[-1]["peak_bytes"],
                "step_seconds": statistics.median(answer["seconds"] for answer in answers),
                "ratio": statistics.median(a["seconds"] / b["seconds"] for a, b in pairs),
            }
    middle, ceiling = statistics.median(one["seconds"] for one in ours), statistics.median(ceilings)
    best = min(theirs, key=lambda name: theirs[name]["ratio"]) if theirs else None
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
        "peak_bytes": ours[-1]["peak_bytes"],
        "torch_tokens_per_second": facts["tokens"] / theirs[best]["step_seconds"] if best else None,
        "torch_variant": best,
        "torch": theirs or None,
        "ratio": theirs[best]["ratio"] if best else None,
        "ratios": {name: one["ratio"] for name, one in theirs.items()} or None,
    }


def against_flat(
    jax_side: Worker, torch_side: Worker, rows: list[dict[str, Any]], options: Any, track: Track
) -> tuple[float, float]:
    """PyTorch trained without a plan, the largest context and nothing frozen: seconds of its best step, and how many
    times as long it takes for the same tokens as all stages together. In every round one step of each, in turn."""
    context = max(row["context"] for row in rows)
    micro_batch = next(row["micro_batch"] for row in rows if row["context"] == context)
    steps = sum(row["steps"] for row in rows)
    found = []
    for variant in options.variants:
        torch_side.ask("stage", context=context, frozen=0, micro_batch=micro_batch, variant=variant)
        flat, ratios = [], []
        for _ in track(range(options.rounds), f"flat at {context} {variant}", options.rounds):
            flat.append(torch_side.ask("step")["seconds"])
            ours = sum(row["steps"] * jax_side.ask("step", index=row["stage"] - 1)["seconds"] for row in rows)
            ratios.append(steps * flat[-1] / ours)
        found.append((statistics.median(ratios), statistics.median(flat)))
    ratio, seconds = min(found)
    return seconds, ratio


def hours(config: Config, rows: list[dict[str, Any]]) -> tuple[dict[str, float], list[str]]:
    """Projected hours of every phase, training steps alone, at the speed measured for each context and depth; and the
    stages that are left out of them, because nothing was measured at theirs."""
    speeds = {(row["context"], row["frozen"]): row["step_seconds"] for row in rows}
    found: dict[str, float] = {}
    left_out = []
    for stage in plan.build(config).stages:
        if (stage.context, stage.frozen_blocks) not in speeds:
            left_out.append(f"{stage.phase} {stage.index + 1}")
            continue
        seconds = stage.steps * speeds[stage.context, stage.frozen_blocks]
        found[stage.phase] = found.get(stage.phase, 0.0) + seconds / 3600
    return found, left_out


def table(rows: list[dict[str, Any]]) -> str:
    """The report for a person."""
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


def main(arguments: list[str] | None = None) -> int:
    parser = cli.parser(__doc__, EXAMPLES)
    parser.add_argument("--config", type=Path, default=Path("configs/llm60.toml"), metavar="CONFIG")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="override any field")
    parser.add_argument("--phase", metavar="NAME", help="which phase (default: the first)")
    parser.add_argument("--stages", default="", metavar="N,N", help="stages of the phase, from 1 (default: all)")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="steps timed on each side (default 5)")
    parser.add_argument("--against-torch", action="store_true", help="measure PyTorch, too, in turn")
    parser.add_argument("--variants", default=",".join(VARIANTS), metavar="V,V", help="of PyTorch (default: all)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    options.variants = [part for part in options.variants.split(",") if part]
    if options.rounds < 1 or not all(part.isdecimal() for part in options.stages.split(",") if part):
        parser.error("--rounds must be 1 or more, and --stages numbers separated by commas")
    if not options.variants or not set(options.variants) <= set(VARIANTS):
        parser.error(f"--variants: some of {', '.join(VARIANTS)}")
    return cli.guarded("bench.py", lambda: _bench(options))


def _bench(options: argparse.Namespace) -> None:
    config = tuning.recalled(config_module.load(options.config, options.set))
    phase = cli.phase_of(config, options.phase) if options.phase else config.phase[0]
    if options.against_torch:
        require_torch(config, phase, "--against-torch")
    wanted = chosen(config, phase, options.stages)
    track = terminal.Tracker(Interrupts(), quiet=options.json)
    with workers(config, phase, options) as (jax_side, torch_side, losses):
        rows = [measure_stage(jax_side, torch_side, stage.index, options, track) for stage in wanted]
        flat, whole = against_flat(jax_side, torch_side, rows, options, track) if torch_side else (None, None)
        generation = jax_side.ask("generation")
        versions = {"jax": jax_side.version, "torch": torch_side.version if torch_side else None}
    projected, left_out = hours(config, rows)
    if options.json:
        found = {"versions": versions, "phase": phase.name, "stages": rows, "hours": projected, "losses": losses}
        found |= {"generation": generation, "not_in_hours": left_out}
        print(json.dumps({**found, "flat_torch_step_seconds": flat, "whole_playbook_ratio": whole}, indent=1))
        return
    terminal.say(f"{options.config}, phase {phase.name}; {rows[0]['remat']} remat, {rows[0]['devices']} device(s)")
    terminal.say(table(rows))
    told = ", ".join(f"{name} {value:,.1f}" for name, value in projected.items())
    terminal.say(f"hours at these speeds: {told}; {sum(projected.values()):,.1f} in all")
    if left_out:
        terminal.say(f"not in these hours, as their context and depth were not measured: {', '.join(left_out)}")
    terminal.say(
        f"writing one text: {generation['tokens_per_second']:,.1f} tokens/s, {generation['bandwidth_share']:.0%} of "
        "what the memory's bandwidth allows when every weight is read once a token"
    )
    if losses and whole:
        terminal.say(f"loss on the same weights and rows: {losses['jax']:.5f} here, {losses['torch']:.5f} in PyTorch")
        terminal.say(f"whole plan against PyTorch without freezing at the largest context: {whole:.2f}")


if __name__ == "__main__":
    sys.exit(main())
