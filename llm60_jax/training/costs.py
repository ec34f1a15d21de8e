"""The cost of train steps on this machine: measured with made-up rows, cached in `data_dir`.

A run adds the times of its own stages, so the next run has them before its first step. Figures
hold for one kind of machine and one version of this project.
"""

import contextlib
import functools
import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from llm60_jax.config import Config, Phase, to_tree
from llm60_jax.data.tokens import loader
from llm60_jax.data.tokens.shards import TokenShard
from llm60_jax.machine import files, memory, remembered
from llm60_jax.machine.progress import Track
from llm60_jax.machine.remembered import Unfinished
from llm60_jax.plan import Plan, Stage, StepKey, flops
from llm60_jax.plan import key as key_of
from llm60_jax.plan import sharing as sharing_of
from llm60_jax.training import mesh, optim, phase_groups, programs, step


class Cost(NamedTuple):
    """Time and memory of a program."""

    seconds: tuple[float, ...]  # of each timed whole step
    temporary_bytes: int  # scratch memory of the program
    peak_bytes: int  # most memory of the measuring process so far (machine/memory.py)

    @property
    def middle(self) -> float:
        """Median seconds of a step."""
        return statistics.median(self.seconds)


# --- Measure --------------------------------------------------------------------------------------


class Steps:
    """Timed train steps of a phase, with fresh weights and made-up rows.

    A step's arithmetic depends on neither.
    """

    def __init__(self, config: Config, phase: Phase):
        self.config, self.phase = config, phase
        self.compiled = programs.CompiledSteps(config)
        self.renew()

    def renew(self) -> None:
        """Make fresh weights. A step that ran out of memory has given its state away."""
        state = phase_groups.begin(self.config, self.phase, step.init(self.config))
        self.state = jax.block_until_ready(mesh.place(state, sharing_of(self.config)))

    def time(self, key: StepKey) -> tuple[float, float]:
        """Return seconds and loss of one whole step, from batch to loss on the host."""
        program, batch = self.compiled[key], made_up_batch(self.config, key)
        rate = np.float32(self.phase.learning_rate[1])
        start = time.perf_counter()
        self.state, metrics = program(self.state, mesh.put(batch, key.sharing), rate, step.NO_LIMIT)
        loss = float(metrics.loss)
        jax.block_until_ready(self.state)
        return time.perf_counter() - start, loss

    def in_turn(
        self, keys: Iterable[StepKey], rounds: int, track: Track, unfinished: Unfinished
    ) -> dict[StepKey, list[float]]:
        """Return seconds of whole steps by program.

        A first round compiles and warms up. Then each round times one step of every program, so a
        slow moment of the machine affects all of them. A finished round is kept.
        """
        order = list(dict.fromkeys(keys))
        names = [f"round {number + 1}" for number in range(rounds)]
        to_do = [name for name in names if name not in unfinished]
        for key in track(order if to_do else (), "compiling programs", len(order) if to_do else 0):
            self.time(key)
        for name in to_do:
            unfinished[name] = [self.time(key)[0] for key in track(order, f"timing, {name} of {rounds}", len(order))]
        return {key: [unfinished[name][number] for name in names] for number, key in enumerate(order)}

    def optimizer_seconds(self, keys: Sequence[StepKey], rounds: int = 5) -> list[float]:
        """Return median seconds of the optimizer's update alone, for each of the keys."""
        params, opt_state = (jax.tree.map(jnp.copy, tree) for tree in (self.state.params, self.state.opt_state))
        rate = jnp.float32(self.phase.learning_rate[1])
        gradients = jax.tree.map(lambda x: jnp.full_like(x, 1e-3), params)
        kinds = [(step.frozen_groups_of(self.config.model, key, params), key.kernels) for key in keys]
        updates = {}
        for (frozen_groups, kernels), key in dict(zip(kinds, keys, strict=True)).items():
            live = {name: group for name, group in gradients.items() if name not in frozen_groups}
            update = functools.partial(optim.update, step.optimizer(self.config, key), frozen_groups, rate)
            updates[frozen_groups, kernels] = jax.jit(update, donate_argnums=(1, 2)), live
        seconds: dict[Any, list[float]] = {kind: [] for kind in updates}
        for number in range(rounds + 1):
            for kind, (function, live) in updates.items():
                start = time.perf_counter()
                params, opt_state = jax.block_until_ready(function(live, opt_state, params))
                if number:
                    seconds[kind].append(time.perf_counter() - start)
        return [statistics.median(seconds[kind]) for kind in kinds]


def made_up_batch(config: Config, key: StepKey) -> step.Batch:
    """Return a step's batch of random tokens, three documents a row, as arrays on the host."""
    shape = (key.accumulation, key.micro_batch, key.context)
    rng = np.random.default_rng(0)
    batch = {name: rng.integers(4, config.model.vocab_size, shape, np.int32) for name in ("tokens", "targets")}
    batch |= {"segments": _segments(shape), "weights": np.ones(shape, np.float32)}
    if key.prefix_cached:
        batch["prefix"] = rng.standard_normal((*shape, config.model.dim), np.float32).astype(jnp.bfloat16)
    return batch


def _segments(shape: tuple[int, ...]) -> np.ndarray:
    """Return document numbers of packed rows, int32, three documents a row."""
    length = shape[-1]
    return np.broadcast_to(1 + np.arange(length, dtype=np.int32) // -(-length // 3), shape).copy()


def made_up_loader(config: Config, stage: Stage) -> Any:
    """Return the loader's iterator over a stage's batches, packed from made-up documents."""
    rng = np.random.default_rng(0)
    sizes = rng.integers(50, 1500, 2000)
    tokens = rng.integers(4, config.model.vocab_size, sizes.sum()).astype(np.uint16)
    shard = TokenShard(tokens, np.cumsum([0, *sizes]), sizes * 4, np.zeros(len(sizes), np.int64))
    return loader.batches(shard, stage, config.seed)


def measure(config: Config, plan: Plan, rounds: int, track: Track, unfinished: Unfinished) -> dict[StepKey, Cost]:
    """Time `rounds` steps of each program of a plan in turn, each program after a warm-up step.

    Each program's cost is cached as soon as it is measured.
    """
    costs: dict[StepKey, Cost] = {}
    to_do, pace = dict.fromkeys(keys_of(config, plan), rounds + 1.0), Pace(config)  # steps by program
    for phase in config.phase:
        digests = _digests(config, {key_of(config, stage) for stage in plan.phase_stages(phase.name)} - costs.keys())
        steps: Steps | None = None
        ordered = sorted(digests, key=lambda key: key[:4])
        for key in track(ordered, f"{phase.name}: programs", len(ordered), lambda: pace.remaining(len(to_do), to_do)):
            if digests[key] not in unfinished:
                steps = steps or Steps(config, phase)
                pace.compile(steps, key)
                seconds = [pace.step(steps, key) for _ in range(rounds + 1)][1:]
                cost = Cost(tuple(seconds), steps.compiled.temporary_bytes(key), memory.peak())
                unfinished[digests[key]] = cost._asdict()
                steps.compiled.release(())
            costs[key] = _cost(unfinished[digests[key]])
            remember(config, {key: costs[key]})
            del to_do[key]
    return costs


class Pace:
    """How fast this machine compiles and steps so far, to tell how long the rest takes."""

    def __init__(self, config: Config):
        self._model = config.model
        self._compile_seconds: list[float] = []
        self._flops, self._seconds = 0, 0.0  # of all steps so far

    def compile(self, steps: Steps, key: StepKey) -> float:
        """Compile a program; return the seconds and count them."""
        start = time.perf_counter()
        _ = steps.compiled[key]
        self._compile_seconds.append(time.perf_counter() - start)
        return self._compile_seconds[-1]

    def step(self, steps: Steps, key: StepKey) -> float:
        """Return the seconds of a step and count them."""
        seconds = steps.time(key)[0]
        self.count(key, seconds)
        return seconds

    def count(self, key: StepKey, seconds: float) -> None:
        """Count a step that took `seconds`."""
        self._flops += flops.step_flops(self._model, key)
        self._seconds += seconds

    def remaining(self, to_compile: int, steps: Mapping[StepKey, float]) -> float:
        """Return the seconds to compile a number of programs and take steps, by operations; 0 before the first step."""
        if not self._flops:
            return 0.0
        operations = sum(count * flops.step_flops(self._model, key) for key, count in steps.items())
        compiling = statistics.fmean(self._compile_seconds) if self._compile_seconds else 0.0
        return to_compile * compiling + operations * self._seconds / self._flops


# --- Cache ----------------------------------------------------------------------------------------


def recall(config: Config, plan: Plan) -> dict[StepKey, Cost]:
    """Return the cached costs of a plan's programs; programs without a valid entry are absent."""
    entries = remembered.read(place(config, "steps"))
    costs: dict[StepKey, Cost] = {}
    for key, digest in _digests(config, keys_of(config, plan)).items():
        with contextlib.suppress(KeyError, TypeError, ValueError):  # missing or malformed
            cost = _cost(entries[digest])
            if cost.seconds and min(cost.seconds) > 0:
                costs[key] = cost
    return costs


def _cost(entry: Mapping[str, Any]) -> Cost:
    """Read a cost from its JSON values. Raise KeyError, TypeError or ValueError if it is malformed."""
    seconds = tuple(float(value) for value in entry["seconds"])
    return Cost(seconds, int(entry["temporary_bytes"]), int(entry["peak_bytes"]))


def remember(config: Config, costs: Mapping[StepKey, Cost]) -> None:
    """Cache the costs of programs; replace their earlier entries."""
    digests = _digests(config, costs)
    remembered.add(place(config, "steps"), {digests[key]: cost._asdict() for key, cost in costs.items()})


def keys_of(config: Config, plan: Plan) -> list[StepKey]:
    """Return the key of every stage of a plan."""
    return [key_of(config, stage) for stage in plan.stages]


def place(config: Config, kind: str) -> Path:
    """Return the cache file of a kind of figures, for this kind of machine and this version."""
    return remembered.folder(config.data_dir) / f"{kind}.json"


def programs_of(config: Config, keys: Iterable[StepKey]) -> list[Any]:
    """Return everything that determines the keys' programs, as JSON values.

    They are the model, the optimizer, and an entry a key.
    """
    tree = to_tree(config)
    return [tree["model"], tree["optimizer"], *(key._asdict() | {"lora": repr(key.lora)} for key in keys)]


def _digests(config: Config, keys: Iterable[StepKey]) -> dict[StepKey, str]:
    """Return the digest of everything that determines each key's program."""
    keys = list(dict.fromkeys(keys))
    model, optimizer, *entries = programs_of(config, keys)
    return {key: files.digest_of([model, optimizer, entry]) for key, entry in zip(keys, entries, strict=True)}
