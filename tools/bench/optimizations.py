"""Time a configuration's steps with and without each optimization and schedule of the playbook's
section 17."""

import argparse
import functools
import itertools
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

from llm60_jax import config as config_module
from llm60_jax import plan
from llm60_jax.config import Config, to_tree
from llm60_jax.data.prepare import Prepared, prepare
from llm60_jax.errors import InputError
from llm60_jax.kernels import library
from llm60_jax.machine import cli, compilation_cache, devices, terminal
from llm60_jax.machine.progress import Track
from llm60_jax.machine.remembered import Unfinished
from llm60_jax.machine.signals import Interrupts
from llm60_jax.plan import Sharing, StepKey
from llm60_jax.training import costs, optim, step, tuning

EXAMPLES = """examples:
  # the first phase of the quickstart
  python tools/optimizations.py configs/quickstart.toml
  # the real model on your own text, for scripts
  python tools/optimizations.py configs/llm60.toml --set phase.grammar.sources.0.path=my/books --rounds 3 --json

"times" is the time without, divided by the time with. Both run in turn, on the first phase.
Schedules count over the whole phase. Without jit one micro-batch runs operation by operation, which
takes minutes for a large model; --no-jit leaves it out.
"""


def schedules(config: Config) -> dict[str, Config]:
    """Return the configuration without one of its schedules, and without both."""

    def without(**changes: Any) -> Config:
        tree = config_module.to_tree(config)
        tree["phase"][0] |= changes | {"remat": []}
        return config_module.parse(tree, "without")

    flat = [[0.0, max(context for _, context in config.phase[0].context)]]
    return {
        "freezing": without(freeze=[[0.0, 0]]),
        "context ramp": without(context=flat),
        "freezing and ramp": without(freeze=[[0.0, 0]], context=flat),
    }


def of_plan(config: Config, seconds: dict[StepKey, list[float]], number: int) -> float:
    """Return the seconds of the first phase, by the step times of one round."""
    stages = plan.build(config).phase_stages(config.phase[0].name)
    return sum(stage.steps * seconds[plan.key(config, stage)][number] for stage in stages)


def row(name: str, on: list[float], off: list[float]) -> dict[str, Any]:
    """Return the medians with and without, and the median ratio over the rounds."""
    ratio = statistics.median(b / a for a, b in zip(on, off, strict=True))
    return {"what": name, "seconds": statistics.median(on), "seconds_without": statistics.median(off), "times": ratio}


def of_steps(config: Config, rounds: int, track: Track, unfinished: Unfinished) -> tuple[list[dict[str, Any]], float]:
    """Return the rows of what acts inside compiled steps, and the seconds of the first stage's
    step."""
    phase = config.phase[0]
    stages = plan.build(config).phase_stages(phase.name)
    key, last = (plan.key(config, stage) for stage in (stages[0], stages[-1]))
    whole, uncached = schedules(config), last._replace(embedding_frozen=True)
    policies = {name: key._replace(remat=name) for name in ("full", "products")}
    keys = {key, key._replace(dtype="float32"), key._replace(remat="none"), *policies.values()}
    keys |= {uncached, uncached._replace(prefix_cached=True)} if uncached.frozen_blocks else set()
    for variant in (config, *whole.values()):
        stages = plan.build(variant).phase_stages(phase.name)
        keys |= {plan.key(variant, stage) for stage in stages}
    steps = costs.Steps(config, phase)
    seconds = steps.in_turn(sorted(keys, key=repr), rounds, track, unfinished)
    none = seconds[key._replace(remat="none")]
    rows = [
        row("bfloat16 products, against float32", seconds[key], seconds[key._replace(dtype="float32")]),
        *(row(f"remat {name}, against none", seconds[policy], none) for name, policy in policies.items()),
    ]
    ours = [of_plan(config, seconds, number) for number in range(rounds)]
    for name, variant in whole.items():
        rows.append(row(name, ours, [of_plan(variant, seconds, number) for number in range(rounds)]))
    if uncached.frozen_blocks:
        cached = seconds[uncached._replace(prefix_cached=True)]
        rows.append(row(f"cache of {uncached.frozen_blocks} frozen blocks", cached, seconds[uncached]))
    return rows, statistics.median(seconds[key])


def of_optimizer(config: Config, rounds: int) -> dict[str, Any]:
    """Time one compiled pass over stacked parameters, against optax operation by operation."""
    state, tx = step.init(config), step.optimizer(config, _first_key(config))
    gradients = jax.tree.map(lambda x: jnp.full_like(x, 1e-3), state.params)

    def update(params: Any, opt_state: Any) -> Any:
        return optim.update(tx, frozenset(), jnp.float32(1e-4), gradients, opt_state, params)

    passes: list[Callable[..., Any]] = [jax.jit(update), update]
    seconds: list[list[float]] = [[], []]
    for _ in range(rounds + 1):
        for function, times in zip(passes, seconds, strict=True):
            times.append(_seconds(functools.partial(function, state.params, state.opt_state)))
    return row("optimizer in one compiled pass, against op by op", *(times[1:] for times in seconds))


def _first_key(config: Config) -> StepKey:
    return plan.key(config, plan.build(config).phase_stages(config.phase[0].name)[0])


def of_jit(config: Config, compiled: float) -> dict[str, Any]:
    """Compare a compiled step with its micro-batches operation by operation, of which one runs."""
    key = _first_key(config)
    single = key._replace(accumulation=1, sharing=Sharing())
    state, batch = step.init(config), costs.made_up_batch(config, single)
    with jax.disable_jit():
        taken = _seconds(lambda: step.train_step(config, single, state, batch, jnp.float32(1e-4)))
    return row("jit, against op by op (one micro-batch)", [compiled / key.accumulation], [taken])


def of_text(config: Config, prepared: Prepared, step_seconds: float) -> list[dict[str, Any]]:
    """Time pre-tokenization and packing, on the phase's own text."""
    phase, shard = config.phase[0], prepared.shards[config.phase[0].name].train
    tokens, ends = np.asarray(shard.tokens), np.asarray(shard.offsets)
    documents = [tokens[a:b].tolist() for a, b in itertools.pairwise(ends)][:2000]
    texts = [prepared.tokenizer.decode(document) for document in documents]
    taken = _seconds(lambda: [prepared.tokenizer.encode(text) for text in texts])
    encoding = taken / sum(map(len, documents)) * config.train.tokens_per_step
    rows = [row("text in tokens beforehand", [step_seconds], [step_seconds + encoding])]
    sizes = np.diff(ends)
    for context in sorted({context for _, context in phase.context}):
        padded, packed = int(np.ceil(sizes / context).sum()), float(sizes.sum() / context)
        rows.append(row(f"packing, context {context}", [step_seconds], [step_seconds * padded / packed]))
    return rows


def _seconds(function: Callable[[], Any]) -> float:
    start = time.perf_counter()
    jax.block_until_ready(function())
    return time.perf_counter() - start


def table(rows: list[dict[str, Any]]) -> str:
    """Return the rows as text."""
    lines = [
        (entry["what"], f"{entry['seconds']:,.3f}", f"{entry['seconds_without']:,.3f}", f"{entry['times']:.2f}")
        for entry in rows
    ]
    return terminal.columns(("what", "seconds with", "without", "times"), lines)


def _measure(options: argparse.Namespace, interrupts: Interrupts) -> None:
    if options.rounds < 1:
        raise InputError(f"--rounds: {options.rounds}, but it must be 1 or more")
    config = config_module.load(options.config, options.set)
    config, _ = devices.ready(config)
    config = tuning.recalled(library.settled(config))
    track = terminal.Tracker(interrupts, on_stderr=options.json)
    prepared = prepare(config, track, lambda digests: None)
    identity, here = [to_tree(config), prepared.digests, options.rounds], Path(__file__).parent
    with (
        compilation_cache.shared(Path(config.data_dir)),
        Unfinished(config.data_dir, "optimizations", identity, here, anew=options.anew) as unfinished,
    ):
        rows, step_seconds = of_steps(config, options.rounds, track, unfinished)
        parts: dict[str, Callable[[], list[dict[str, Any]]]] = {
            "text": lambda: of_text(config, prepared, step_seconds),
            "optimizer": lambda: [of_optimizer(config, options.rounds)],
        }
        if not options.no_jit:
            parts["jit"] = lambda: [of_jit(config, step_seconds)]
        for name in track(parts, "text, optimizer and jit", len(parts)):
            rows += unfinished.part(name, parts[name])
    if options.json:
        print(json.dumps({"rows": rows}, indent=1))
    else:
        terminal.say(table(rows))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = cli.config_parser(__doc__, EXAMPLES)
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="steps timed of each kind (default 3)")
    parser.add_argument("--no-jit", action="store_true", help="leave out the run without jit")
    cli.add_anew(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return cli.run_tool("optimizations.py", parser, arguments, _measure)


if __name__ == "__main__":
    sys.exit(main())
