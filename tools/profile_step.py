"""Times the compiled train steps of a configuration, stage by stage and interleaved, and can record a trace of them."""

import argparse
import dataclasses
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from bench import chosen, documents

from llm60_jax import config as config_module
from llm60_jax import console, machine, optim, phase_groups, programs, step
from llm60_jax.config import Config
from llm60_jax.data.progress import Track, silent
from llm60_jax.interrupts import Interrupts
from llm60_jax.phase import Phase
from llm60_jax.plan import Stage
from llm60_jax.step_key import StepKey

EXAMPLES = """examples:
  python tools/profile_step.py configs/quickstart.toml                  every stage of the first phase
  python tools/profile_step.py configs/llm60.toml --phase fine_tune --rounds 3
  python tools/profile_step.py configs/cached.toml                      with the prefix cache against without, in pairs
  python tools/profile_step.py configs/llm60.toml --stages 1,5 --trace trace   then open it in ui.perfetto.dev

Batches are random tokens and the weights are fresh: the arithmetic of a step does not depend on them. Each round times
every stage in turn, so that a slow moment of the machine meets all of them; figures are medians over the rounds.
"""


@dataclasses.dataclass
class Subject:
    """One compiled step under the clock."""

    name: str
    key: StepKey
    program: Callable[..., Any]
    batch: step.Batch
    seconds: list[float]


def subjects(config: Config, phase: Phase, stages: Sequence[Stage], compiled: programs.CompiledSteps) -> list[Subject]:
    """The steps of some of a phase's stages, compiled; a stage that reads a prefix cache appears a second time without
    it."""
    found = []
    for stage in stages:
        key = StepKey.of(stage, phase, config)
        keys = [(str(stage.index + 1), key)]
        if key.prefix_cached:
            keys.append((f"{stage.index + 1}, not cached", key._replace(prefix_cached=False)))
        found += [Subject(name, key, compiled[key], compiled.put(made_up_batch(config, key)), []) for name, key in keys]
    return found


def made_up_batch(config: Config, key: StepKey) -> step.Batch:
    """A step's batch of random tokens, three documents in each row, as arrays on the host."""
    shape = (key.accumulation, key.micro_batch, key.context)
    rng = np.random.default_rng(0)
    batch = {name: rng.integers(4, config.model.vocab_size, shape, np.int32) for name in ("tokens", "targets")}
    batch |= {"segments": documents(shape), "weights": np.ones(shape, np.float32)}
    if key.prefix_cached:
        batch["prefix"] = rng.standard_normal((*shape, config.model.dim), np.float32).astype(jnp.bfloat16)
    return batch


def time_steps(config: Config, phase: Phase, some: Sequence[Subject], rounds: int, track: Track) -> None:
    """Fills in `seconds` of every subject, a step each in every round after one that warms up."""
    state = phase_groups.begin(config, phase, step.init(config))
    rate = np.float32(phase.learning_rate[1])
    for number in track(range(rounds + 1), "timing, rounds", rounds + 1):
        for subject in some:
            start = time.perf_counter()
            state, metrics = subject.program(state, subject.batch, rate, step.NO_LIMIT)
            jax.block_until_ready((state, metrics))
            if number:
                subject.seconds.append(time.perf_counter() - start)


def time_optimizer(config: Config, phase: Phase, some: Sequence[Subject], rounds: int) -> dict[int, float]:
    """Seconds of the optimizer's update alone, by the number of frozen blocks; 0, nothing frozen, is always there."""
    state = phase_groups.begin(config, phase, step.init(config))
    tx, rate = step.optimizer(config), jnp.float32(phase.learning_rate[1])
    by_depth = {0: some[0].key._replace(frozen=0, embedding_frozen=phase.lora is not None)}
    by_depth |= {subject.key.frozen: subject.key for subject in some}
    gradients = jax.tree.map(lambda x: jnp.full_like(x, 1e-3), state.params)
    params, opt_state, updates = state.params, state.opt_state, {}
    for depth, key in by_depth.items():
        frozen = step.frozen_groups(config.model, key, params)
        live = {name: group for name, group in gradients.items() if name not in frozen}

        def update(params: Any, opt_state: Any, live: Any, frozen: frozenset[str] = frozen) -> Any:
            return optim.update(tx, frozen, rate, live, opt_state, params)

        updates[depth] = jax.jit(update, donate_argnums=(0, 1)), live
    seconds: dict[int, list[float]] = {depth: [] for depth in updates}
    for number in range(rounds + 1):
        for depth, (function, live) in updates.items():
            start = time.perf_counter()
            params, opt_state = jax.block_until_ready(function(params, opt_state, live))
            if number:
                seconds[depth].append(time.perf_counter() - start)
    return {depth: statistics.median(times) for depth, times in seconds.items()}


def report(
    config: Config,
    phase: Phase,
    some: Sequence[Subject],
    compiled: programs.CompiledSteps,
    optimizer: dict[int, float],
) -> list[dict[str, Any]]:
    """A row a subject, as plain values."""
    rows = []
    state = jax.eval_shape(lambda: phase_groups.begin(config, phase, step.init(config)))
    for subject in some:
        key, frozen = subject.key, step.frozen_groups(config.model, subject.key, state.params)
        held = {name: sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(g)) for name, g in state.opt_state.items()}
        seconds = statistics.median(subject.seconds)
        paired = [b / a for a, b in zip(subject.seconds, some[0].seconds, strict=True)]
        rows.append(
            {
                "stage": subject.name,
                "context": key.context,
                "frozen": key.frozen,
                "remat": key.remat,
                "step_seconds": seconds,
                "tokens_per_second": key.tokens / seconds,
                "speed_against_first": statistics.median(paired),
                "matmul_flops": compiled.flops[key],
                "temporary_bytes": compiled.temporary_bytes(key),
                "compile_seconds": compiled.compile_seconds[key],
                "optimizer_seconds": optimizer[key.frozen],
                "optimizer_seconds_saved": optimizer[0] - optimizer[key.frozen],
                "state_bytes_updated": sum(size for name, size in held.items() if name not in frozen),
                "state_bytes_untouched": sum(size for name, size in held.items() if name in frozen),
            }
        )
    return rows


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The report for a person."""
    headings = (
        "stage", "context", "frozen", "ms", "tokens/s", "speed", "GFLOP", "temporaries MiB", "compile s",
        "optimizer ms", "saved ms",
    )  # fmt: skip
    return console.columns(
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
    parser = console.config_parser(__doc__, EXAMPLES)
    parser.add_argument("--phase", metavar="NAME", help="which phase (default: the first)")
    parser.add_argument("--stages", default="", metavar="N,N", help="stages of the phase, from 1 (default: all)")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="steps timed for each stage (default 5)")
    parser.add_argument("--trace", type=Path, metavar="DIR", help="record a profiler trace of one more round")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    if options.rounds < 1 or not all(part.isdecimal() for part in options.stages.split(",") if part):
        parser.error("--rounds must be 1 or more, and --stages numbers separated by commas")
    return console.guarded("profile_step.py", lambda: _profile(options))


def _profile(options: argparse.Namespace) -> None:
    config = config_module.load(options.config, options.set)
    phase = config.phase_named(options.phase) if options.phase else config.phase[0]
    machine.versions(config.train.devices)  # finds them, or says why not
    compiled, track = programs.CompiledSteps(config), silent if options.json else console.Tracker(Interrupts())
    some = subjects(config, phase, chosen(config, phase, options.stages), compiled)
    time_steps(config, phase, some, options.rounds, track)
    rows = report(config, phase, some, compiled, time_optimizer(config, phase, some, options.rounds))
    if options.trace:
        with jax.profiler.trace(str(options.trace), create_perfetto_trace=True):
            time_steps(config, phase, some, 0, track)
        if not options.json:
            console.say(f"trace of a step of each stage: {options.trace}")
    if options.json:
        print(json.dumps({"device": str(jax.devices()[0]), "phase": phase.name, "steps": rows}, indent=1))
    else:
        console.say(f"{options.config}, phase {phase.name}, on {jax.devices()[0]}\n{table(rows)}")


if __name__ == "__main__":
    sys.exit(main())
