"""What train steps cost on this machine: measured with made-up rows, and remembered below `data_dir`.

A run adds what its own stages took, so that the next one knows it before its first step. Figures belong to one kind of
machine and one version of this project; of others nothing is remembered.
"""

import contextlib
import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import llm60_jax
from llm60_jax.config import Config, Phase, to_tree
from llm60_jax.data.tokens import loader
from llm60_jax.data.tokens.shards import TokenShard
from llm60_jax.machine import facts, files, remembered
from llm60_jax.machine.progress import Track
from llm60_jax.plan import Plan, Stage, StepKey
from llm60_jax.plan import key as key_of
from llm60_jax.training import optim, phase_groups, programs, step


class Cost(NamedTuple):
    """What a program takes."""

    seconds: tuple[float, ...]  # of whole steps
    temporary_bytes: int
    peak_bytes: int  # resident in the process that measured it, up to then

    @property
    def middle(self) -> float:
        """Seconds of a step, the median."""
        return statistics.median(self.seconds)


# --- Measuring -------------------------------------------------------------------------------------------------------


class Steps:
    """The train steps of a phase under the clock: fresh weights and made-up rows, as the arithmetic of a step depends
    on neither."""

    def __init__(self, config: Config, phase: Phase):
        self.config, self.phase = config, phase
        self.compiled = programs.CompiledSteps(config)
        self.state = phase_groups.begin(config, phase, step.init(config))

    def time(self, key: StepKey) -> tuple[float, float]:
        """Seconds and loss of one whole step, from a batch on the host to its loss on the host."""
        program, batch = self.compiled[key], made_up_batch(self.config, key)
        rate = np.float32(self.phase.learning_rate[1])
        start = time.perf_counter()
        self.state, metrics = program(self.state, self.compiled.put(batch), rate, step.NO_LIMIT)
        loss = float(metrics.loss)
        jax.block_until_ready(self.state)
        return time.perf_counter() - start, loss

    def in_turn(self, keys: Iterable[StepKey], rounds: int, track: Track) -> dict[StepKey, list[float]]:
        """Seconds of whole steps, one of each program in every round after one that compiles and warms up, so that a
        slow moment of the machine meets all of them."""
        found: dict[StepKey, list[float]] = {key: [] for key in keys}
        for key in track(found, "compiling programs", len(found)):
            self.time(key)
        for _ in track(range(rounds), "timing, rounds", rounds):
            for key, seconds in found.items():
                seconds.append(self.time(key)[0])
        return found

    def optimizer_seconds(self, keys: Sequence[StepKey], rounds: int = 5) -> dict[int, float]:
        """Median seconds of the optimizer's update alone, by the number of frozen blocks, in turn."""
        params, opt_state = (jax.tree.map(jnp.copy, tree) for tree in (self.state.params, self.state.opt_state))
        tx, rate = step.optimizer(self.config), jnp.float32(self.phase.learning_rate[1])
        gradients = jax.tree.map(lambda x: jnp.full_like(x, 1e-3), params)
        updates = {}
        for key in keys:
            frozen_groups = step.frozen_groups_of(self.config.model, key, params)
            live = {name: group for name, group in gradients.items() if name not in frozen_groups}

            def update(params: Any, opt_state: Any, live: Any, frozen: frozenset[str] = frozen_groups) -> Any:
                return optim.update(tx, frozen, rate, live, opt_state, params)

            updates[key.frozen_blocks] = jax.jit(update, donate_argnums=(0, 1)), live
        seconds: dict[int, list[float]] = {depth: [] for depth in updates}
        for number in range(rounds + 1):
            for depth, (function, live) in updates.items():
                start = time.perf_counter()
                params, opt_state = jax.block_until_ready(function(params, opt_state, live))
                if number:
                    seconds[depth].append(time.perf_counter() - start)
        return {depth: statistics.median(times) for depth, times in seconds.items()}


def made_up_batch(config: Config, key: StepKey) -> step.Batch:
    """A step's batch of random tokens, three documents in each row, as arrays on the host."""
    shape = (key.accumulation, key.micro_batch, key.context)
    rng = np.random.default_rng(0)
    batch = {name: rng.integers(4, config.model.vocab_size, shape, np.int32) for name in ("tokens", "targets")}
    batch |= {"segments": documents(shape), "weights": np.ones(shape, np.float32)}
    if key.prefix_cached:
        batch["prefix"] = rng.standard_normal((*shape, config.model.dim), np.float32).astype(jnp.bfloat16)
    return batch


def documents(shape: tuple[int, ...]) -> np.ndarray:
    """Document numbers of packed rows, int32: three documents in each row."""
    length = shape[-1]
    return np.broadcast_to(1 + np.arange(length, dtype=np.int32) // -(-length // 3), shape).copy()


def made_up_loader(config: Config, stage: Stage) -> Any:
    """The iterator over a stage's batches, as the loader packs them from made-up documents."""
    rng = np.random.default_rng(0)
    sizes = rng.integers(50, 1500, 2000)
    tokens = rng.integers(4, config.model.vocab_size, sizes.sum()).astype(np.uint16)
    shard = TokenShard(tokens, np.cumsum([0, *sizes]), sizes * 4, np.zeros(len(sizes), np.int64))
    return loader.batches(shard, stage, config.seed)


def measure(config: Config, plan: Plan, rounds: int, track: Track) -> dict[StepKey, Cost]:
    """Some steps of every program of a plan, one program after another, each after a step that warms up."""
    found: dict[StepKey, Cost] = {}
    for phase in config.phase:
        keys = {key_of(config, stage) for stage in plan.phase_stages(phase.name)} - found.keys()
        steps = Steps(config, phase) if keys else None
        for key in track(sorted(keys, key=lambda key: key[:4]), f"{phase.name}: programs", len(keys)):
            assert steps is not None
            steps.time(key)
            seconds = tuple(steps.time(key)[0] for _ in range(rounds))
            found[key] = Cost(seconds, steps.compiled.temporary_bytes(key), facts.peak_bytes())
            steps.compiled.release(())
    return found


# --- Remembering -----------------------------------------------------------------------------------------------------


def recall(config: Config, plan: Plan) -> dict[StepKey, Cost]:
    """What is known of a plan's programs on this machine."""
    known, found = remembered.read(place(config, "steps")), {}
    for key, digest in _digests(config, keys_of(config, plan)).items():
        with contextlib.suppress(KeyError, TypeError, ValueError):  # not known, or not as we write it
            told = known[digest]
            seconds = tuple(float(one) for one in told["seconds"])
            if seconds and min(seconds) > 0:
                found[key] = Cost(seconds, int(told["temporary_bytes"]), int(told["peak_bytes"]))
    return found


def remember(config: Config, costs: Mapping[StepKey, Cost]) -> None:
    """Keeps what programs took; what was known of them is replaced."""
    digests = _digests(config, costs)
    remembered.add(place(config, "steps"), {digests[key]: cost._asdict() for key, cost in costs.items()})


def keys_of(config: Config, plan: Plan) -> list[StepKey]:
    """The key of every stage of a plan."""
    return [key_of(config, stage) for stage in plan.stages]


def place(config: Config, kind: str) -> Path:
    """The file for one kind of figures, of this kind of machine and this version."""
    folder = files.digest_of([*facts.fingerprint(), llm60_jax.__version__])[:16]
    return Path(config.data_dir, "measured", folder, f"{kind}.json")


def programs_of(config: Config, keys: Iterable[StepKey]) -> list[Any]:
    """All that the programs of some keys are made from, as JSON values: model, optimizer, and an entry a key."""
    tree = to_tree(config)
    return [tree["model"], tree["optimizer"], *(key._asdict() | {"lora": repr(key.lora)} for key in keys)]


def _digests(config: Config, keys: Iterable[StepKey]) -> dict[StepKey, str]:
    keys = list(dict.fromkeys(keys))
    model, optimizer, *each = programs_of(config, keys)
    return {key: files.digest_of([model, optimizer, one]) for key, one in zip(keys, each, strict=True)}
