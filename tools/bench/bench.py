"""Time the train steps of a configuration, stage by stage, on request against the same model in
PyTorch, and against plain XLA."""

import argparse
import contextlib
import functools
import json
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import bench_report
from quiet import Rounds, Step, watched
from worker_process import WorkerProcess, require_torch, torch_worker

from llm60_jax import config as config_module
from llm60_jax import plan
from llm60_jax.config import Config, Phase, to_tree
from llm60_jax.errors import InputError
from llm60_jax.kernels import library
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
  # against PyTorch: some twenty minutes on two cores; progress is on stderr
  python tools/bench.py --against-torch --json > bench.json
  # one stage, some three minutes
  python tools/bench.py --against-torch --stages 1
  # native kernels against XLA, beside two variants of PyTorch
  python tools/bench.py --against-xla --against-torch --variants compiled,written --stages 1,5
  # XLA alone
  python tools/bench.py --set train.kernels=xla

Without --stages the report has also the time of the whole phase against PyTorch without a plan, and
the speed of writing text. It ends with the hours of the whole plan at these speeds.

Every side is a process of its own, with the same allocator setting, weights, micro-batches and
document mask. In every round each does two whole steps, and the second is timed: after a pause the
system has to give memory back. Ratios are medians over rounds. A round
counts only if other processes used at most 6 % of one core in each of its steps. Other rounds are
left out, counted and repeated. With too many of them the bench fails with exit code 5.

PyTorch counts with its best variant: eager; remat (checkpointed blocks); compiled; written
(compiled, with attention by its definition and a head in chunks). A variant that is clearly slower
than the best one stops early. --against-torch needs: pip install -e '.[torch]'
"""
VARIANTS = ("eager", "remat", "compiled", "written")
_PLAIN = "train.kernels=xla"  # the setting of the second side of --against-xla


class Way(NamedTuple):
    """How stages are timed."""

    rounds: int
    limit: float  # share of one core that other processes may use
    variants: Sequence[str]  # of PyTorch
    track: Track

    def timed(self, what: str, steps: Mapping[str, Step]) -> Rounds:
        """Return clean rounds of steps, in which the variants of PyTorch compete."""
        rounds = Rounds(what, steps, self.variants, self.rounds, self.limit)
        rounds.run(self.track)
        return rounds

    def torch_steps(self, what: str, side: WorkerProcess, **shape: int) -> tuple[dict[str, Any], dict[str, Step]]:
        """Set a stage up in PyTorch. Return facts of each variant, and what does its step."""
        side.ask("stage", **shape)
        facts = {}
        for variant in self.track(self.variants, f"{what}: preparing PyTorch", len(self.variants)):
            facts[variant] = side.ask("warm_up", variant=variant)
        return facts, {name: functools.partial(watched, side, "step", variant=name) for name in self.variants}


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
    config: Config, phase: Phase, options: argparse.Namespace, track: Track
) -> Iterator[tuple[dict[str, WorkerProcess], dict[str, float] | None]]:
    """Yield a process for each side, and the losses of all sides on the same weights and rows; None
    if there is one side."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench")))

        def jax_worker(*settings: str) -> WorkerProcess:
            overrides = [item for setting in (*options.set, *settings) for item in ("--set", setting)]
            return WorkerProcess("bench_jax.py", str(options.config), "--phase", phase.name, *overrides)

        starts: dict[str, Callable[[], WorkerProcess]] = {"jax": jax_worker}
        if options.against_xla:
            starts["xla"] = functools.partial(jax_worker, _PLAIN)
        if options.against_torch:
            starts["torch"] = lambda: torch_worker(config, phase, folder, str(folder / "jax-weights.npz"))
        sides, losses = {}, {}
        for name in track(starts, "starting", len(starts)):
            sides[name] = starts[name]()
            stack.callback(sides[name].close)
            if name == "torch":
                losses[name] = sides[name].ask("loss", batch=str(folder / "jax-batch.npz"))["loss"]
            elif len(starts) > 1:
                places = {kind: str(folder / f"{name}-{kind}.npz") for kind in ("weights", "batch")}
                losses[name] = sides[name].ask("export", **places)["loss"]
        yield sides, losses or None


def measure_stage(sides: Mapping[str, WorkerProcess], index: int, way: Way) -> dict[str, Any]:
    """Return a stage's figures as plain values. Raise MachineError if other processes disturb too
    many rounds."""
    what, jax_side = f"stage {index + 1}", sides["jax"]
    begin = ("stage", "optimizer", "input")
    facts, optimizer, loader = (
        jax_side.ask(name, index=index) for name in way.track(begin, f"{what}: preparing", len(begin))
    )

    def ours() -> tuple[dict[str, Any], float]:
        (answer, foreign), (ceiling, beside) = watched(jax_side, "step", index=index), watched(jax_side, "ceiling")
        return answer | ceiling, max(foreign, beside)

    steps: dict[str, Step] = {"jax": ours}
    if "xla" in sides:
        sides["xla"].ask("stage", index=index)
        steps["xla"] = functools.partial(watched, sides["xla"], "step", index=index)
    begun: dict[str, Any] = {}
    if "torch" in sides:
        shape = {name: facts[name] for name in ("context", "frozen", "micro_batch")}
        begun, torch_steps = way.torch_steps(what, sides["torch"], **shape)
        steps |= torch_steps
    rounds = way.timed(what, steps)
    torch = {
        variant: {
            **begun[variant],
            "peak_bytes": rounds.last(variant)["peak_bytes"],
            "step_seconds": rounds.middle(variant),
            "ratio": rounds.ratio(variant, "jax"),
            "rounds": rounds.count(variant),
        }
        for variant in begun
    }
    middle, ceiling, peak = (rounds.middle("jax", name) for name in ("seconds", "ceiling_flops", "register_flops"))
    return {
        "stage": index + 1,
        **facts,
        "step_seconds": middle,
        "tokens_per_second": facts["tokens"] / middle,
        "flops_per_second": facts["matmul_flops"] / middle,
        "ceiling_flops_per_second": ceiling,
        "ceiling_share": facts["matmul_flops"] / middle / ceiling,
        "register_peak_flops_per_second": peak,
        "register_peak_share": facts["matmul_flops"] / middle / peak if peak else None,
        "optimizer_share": optimizer["seconds"] / middle,
        "input_share": loader["seconds"] / middle,
        "peak_bytes": rounds.last("jax")["peak_bytes"],
        "disturbed_rounds": len(rounds.disturbed),
        "xla_ratio": rounds.ratio("xla", "jax") if "xla" in sides else None,
        **_best_of(torch, facts["tokens"]),
    }


def _best_of(torch: dict[str, dict[str, Any]], tokens: int) -> dict[str, Any]:
    """Return a stage's figures of PyTorch, by the variant with the lowest ratio of those that took
    part to the end; None without any."""
    most = max((figures["rounds"] for figures in torch.values()), default=0)
    ratios = {name: figures["ratio"] for name, figures in torch.items()}
    to_the_end = [name for name, figures in torch.items() if figures["rounds"] == most]
    best = min(to_the_end, key=lambda name: ratios[name], default=None)
    return {
        "torch_tokens_per_second": tokens / torch[best]["step_seconds"] if best else None,
        "torch_variant": best,
        "torch": torch or None,
        "ratio": ratios[best] if best else None,
        "ratios": ratios or None,
    }


def against_flat(sides: Mapping[str, WorkerProcess], rows: list[dict[str, Any]], way: Way) -> dict[str, Any]:
    """Time PyTorch trained without a plan: at the largest context, with nothing frozen.

    Each round times one step of it, and one of each stage here.

    Returns:
      The seconds of its best step, its time for the same tokens relative to all stages together,
      and the disturbed rounds.
    """
    context = max(row["context"] for row in rows)
    micro_batch = next(row["micro_batch"] for row in rows if row["context"] == context)
    what = f"flat at {context}"
    steps: dict[str, Step] = {
        f"stage {row['stage']}": functools.partial(watched, sides["jax"], "step", index=row["stage"] - 1)
        for row in rows
    }
    steps |= way.torch_steps(what, sides["torch"], context=context, frozen=0, micro_batch=micro_batch)[1]
    rounds = way.timed(what, steps)
    best = min(
        (name for name in way.variants if rounds.count(name) == len(rounds.clean)), key=lambda name: rounds.middle(name)
    )
    total = sum(row["steps"] for row in rows)
    ratios = [
        total
        * answers[best]["seconds"]
        / sum(row["steps"] * answers[f"stage {row['stage']}"]["seconds"] for row in rows)
        for answers in rounds.clean
    ]
    seconds, disturbed = rounds.middle(best), len(rounds.disturbed)
    return {"seconds": seconds, "ratio": statistics.median(ratios), "variant": best, "disturbed": disturbed}


def projected_hours(config: Config, rows: list[dict[str, Any]]) -> tuple[dict[str, float], list[str]]:
    """Return the hours of every phase at the speed measured for each context, depth and number of
    blocks, and the stages left out.

    The hours count training steps only. A stage is left out if nothing like it was measured.
    """
    speeds = {(row["context"], row["frozen"], row["blocks"]): row["step_seconds"] for row in rows}
    by_phase, unmeasured = hours.by_phase(
        plan.build(config).stages, lambda stage: speeds.get((stage.context, stage.frozen_blocks, stage.blocks))
    )
    return by_phase, [f"{stage.phase} {stage.index + 1}" for stage in unmeasured]


def _bench(options: argparse.Namespace, interrupts: Interrupts) -> None:
    variants = [part for part in options.variants.split(",") if part]
    if options.rounds < 1:
        raise InputError(f"--rounds: {options.rounds}, but it must be 1 or more")
    if not options.foreign_percent > 0:
        raise InputError(f"--foreign-percent: {options.foreign_percent:g}, but it must be above 0")
    if not variants or not set(variants) <= set(VARIANTS):
        raise InputError(f"--variants: {options.variants!r}, but it must be some of {', '.join(VARIANTS)}")
    config = tuning.recalled(library.expected(config_module.load(options.config, options.set))[0])
    phase = cli.phase_of(config, options.phase) if options.phase else config.phase[0]
    if options.against_torch:
        require_torch(config, phase, "--against-torch")
        if phase.grow:
            raise InputError(f"--against-torch: PyTorch's side has all blocks from the start, and {phase.name} grows")
    stages = chosen(config, phase, options.stages)
    is_whole = stages == chosen(config, phase, "")
    track = terminal.Tracker(interrupts, on_stderr=options.json)
    way = Way(options.rounds, options.foreign_percent / 100, variants, track)
    asked = [phase.name, options.rounds, options.against_torch and variants, options.against_xla, way.limit]
    identity, here = [to_tree(config), *asked], Path(__file__).parent
    with (
        Unfinished(config.data_dir, "bench", identity, here, anew=options.anew) as unfinished,
        workers(config, phase, options, track) as (sides, losses),
    ):
        rows = [
            unfinished.part(f"stage {stage.index + 1}", functools.partial(measure_stage, sides, stage.index, way))
            for stage in stages
        ]
        flat, generation = {}, None
        if is_whole and options.against_torch:
            flat = unfinished.part("flat", lambda: against_flat(sides, rows, way))
        if is_whole:
            generation = unfinished.part("generation", lambda: sides["jax"].ask("generation"))
        versions = {name: sides[name].version if name in sides else None for name in ("jax", "torch")}
    projected, left_out = projected_hours(config, rows)
    report = {
        "versions": versions,
        "phase": phase.name,
        "foreign_percent": options.foreign_percent,
        "disturbed_rounds": sum(row["disturbed_rounds"] for row in rows) + flat.get("disturbed", 0),
        "stages": rows,
        "hours": projected,
        "losses": losses,
        "generation": generation,
        "not_in_hours": left_out,
        "flat_torch_step_seconds": flat.get("seconds"),
        "flat_torch_variant": flat.get("variant"),
        "whole_playbook_ratio": flat.get("ratio"),
    }
    if options.json:
        print(json.dumps(report, indent=1))
    else:
        bench_report.show(report, options.config)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = cli.config_parser(__doc__, EXAMPLES, default="llm60")
    parser.add_argument("--phase", metavar="NAME", help="the phase to time (default: the first)")
    parser.add_argument("--stages", default="", metavar="N,N", help="stages of the phase, from 1 (default: all)")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="clean rounds of each stage (default 3)")
    parser.add_argument("--against-torch", action="store_true", help="time PyTorch too, in turn")
    parser.add_argument("--against-xla", action="store_true", help="time the same steps without native kernels too")
    parser.add_argument(
        "--variants", default=",".join(VARIANTS), metavar="V,V", help="variants of PyTorch (default: all)"
    )
    parser.add_argument(
        "--foreign-percent",
        type=float,
        default=6.0,
        metavar="P",
        help="repeat rounds in which other processes used more than P %% of one core in a step (default 6)",
    )
    cli.add_anew(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return cli.run_tool("bench.py", parser, arguments, _bench)


if __name__ == "__main__":
    sys.exit(main())
