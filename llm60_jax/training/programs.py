"""Compiled train steps, one for each StepKey, ahead of time and in the background."""

import concurrent.futures
import functools
import logging
import time
from collections.abc import Callable, Collection
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from llm60_jax.config import Config
from llm60_jax.plan import StepKey
from llm60_jax.training import counted_flops, parallel, phase_groups, step
from llm60_jax.training.step import Batch, Metrics, TrainState

log = logging.getLogger("llm60_jax")
# State, batch, learning rate and limit in; the new state and what the step reports out (step.train_step).
Program = Callable[[TrainState, Batch, np.float32, np.float32], tuple[TrainState, Metrics]]


class CompiledSteps:
    """Programs by StepKey: compiling is visible, and a wrong shape is an error instead of a silent second
    compilation. The state argument is donated.

    `prefetch` compiles the program of a coming stage in a thread of its own, so that no step waits for it; `release`
    lets go of those that are not needed for now, with the memory they hold.
    """

    def __init__(self, config: Config):
        self._config = config
        self._programs: dict[StepKey, concurrent.futures.Future[Any]] = {}
        self._thread = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="compile")
        several = config.train.devices > 1
        self._replicas = parallel.Replicas(config.train.devices) if several else None
        self._batch_sharding = parallel.split(config.train.devices) if several else None
        self.compile_seconds: dict[StepKey, float] = {}
        # Operations of matrix products in one step, counted in the program.
        self.flops_by_part: dict[StepKey, dict[str, int]] = {}

    def prefetch(self, key: StepKey) -> None:
        """Begins to compile a program, unless it is there or on its way."""
        if key not in self._programs:
            self._programs[key] = self._thread.submit(self._compile, key)

    def __getitem__(self, key: StepKey) -> Program:
        self.prefetch(key)
        program, replicas = self._programs[key].result(), self._replicas
        if replicas is None:
            return program

        def on_all_devices(state: TrainState, batch: Batch, rate: np.float32, limit: np.float32):
            state, metrics = program(replicas.spread(state), batch, rate, limit)
            return replicas.first(state), metrics

        return on_all_devices

    def put(self, batch: Batch) -> Batch:
        """A batch on the device, or shared out over the devices, that the programs run on."""
        return jax.device_put(batch, self._batch_sharding)

    def __len__(self) -> int:
        return len(self._programs)

    def release(self, keep: Collection[StepKey]) -> None:
        """Forgets all programs but those of `keep`; one that is asked for again comes from the compilation cache."""
        for key in self._programs.keys() - set(keep):
            self._programs.pop(key).cancel()

    def temporary_bytes(self, key: StepKey) -> int:
        """Bytes of scratch memory the compiled program asks for, beyond its arguments and results."""
        return self.memory(key)["temporaries"]

    def text(self, key: StepKey) -> str:
        """The compiled program as XLA prints it: every instruction, with the scopes that it was written in."""
        return self._programs[key].result().as_text()

    def memory(self, key: StepKey) -> dict[str, int]:
        """Bytes of the program's arguments, results and scratch memory; `shared` is what results take over from
        arguments."""
        found = self._programs[key].result().memory_analysis()
        return {
            "arguments": found.argument_size_in_bytes,
            "results": found.output_size_in_bytes,
            "shared": found.alias_size_in_bytes,
            "temporaries": found.temp_size_in_bytes,
            "code": found.generated_code_size_in_bytes,
        }

    def flops(self, key: StepKey) -> int:
        """Operations of matrix products in one step."""
        return sum(self.flops_by_part[key].values())

    def _compile(self, key: StepKey) -> Any:
        start = time.monotonic()
        traced = trace(self._config, key)
        self.flops_by_part[key] = counted_flops.by_part(traced.jaxpr)
        program = traced.lower().compile()
        self.compile_seconds[key] = time.monotonic() - start
        log.info("compiled %s in %.1f s", key, self.compile_seconds[key])
        return program


def trace(config: Config, key: StepKey) -> Any:
    """The train step of a key, traced and not compiled: `.jaxpr`, `.lower()`."""
    shape = (key.accumulation, key.micro_batch, key.context)
    ids = jax.ShapeDtypeStruct(shape, jnp.int32)
    batch = dict.fromkeys(("tokens", "targets", "segments"), ids)
    batch["weights"] = jax.ShapeDtypeStruct(shape, jnp.float32)
    if key.prefix_cached:
        batch["prefix"] = jax.ShapeDtypeStruct((*shape, config.model.dim), jnp.bfloat16)
    state, scalar = phase_groups.abstract(config, key), jax.ShapeDtypeStruct((), jnp.float32)
    function = functools.partial(step.train_step, config, key)
    if key.devices == 1:
        return jax.jit(function, donate_argnums=0).trace(state, batch, scalar, scalar)
    everywhere, each = parallel.replicated(key.devices), parallel.split(key.devices)
    shardings = (everywhere, each, everywhere, everywhere)
    on_all = jax.jit(function, donate_argnums=0, in_shardings=shardings, out_shardings=everywhere)
    return on_all.trace(state, batch, scalar, scalar)
