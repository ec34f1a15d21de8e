"""Compile train steps, one a StepKey, ahead of time and in the background."""

import collections
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
from llm60_jax.plan import StepKey, flops
from llm60_jax.training import counted_flops, mesh, phase_groups, step
from llm60_jax.training.step import Batch, Metrics, TrainState

log = logging.getLogger("llm60_jax")
# (state, batch, learning rate, limit) -> (new state, metrics); see step.train_step
Program = Callable[[TrainState, Batch, np.float32, np.float32], tuple[TrainState, Metrics]]


class CompiledSteps:
    """Compiled programs by StepKey. They donate their state argument.

    A wrong shape is an error, never a silent second compilation. `prefetch` compiles the program of
    a coming stage in a thread, so no step waits for it. `release` frees programs and their memory.
    """

    def __init__(self, config: Config):
        self._config = config
        self._programs: dict[StepKey, concurrent.futures.Future[Any]] = {}
        self._thread = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="compile")
        self.compile_seconds: dict[StepKey, float] = {}
        self.flops_by_part: dict[StepKey, dict[str, int]] = {}  # of matrix products in one step

    def prefetch(self, key: StepKey) -> None:
        """Start to compile a program, unless it is compiled or compiling."""
        if key not in self._programs:
            self._programs[key] = self._thread.submit(self._compile, key)

    @property
    def is_idle(self) -> bool:
        """Whether nothing is compiling."""
        return all(program.done() for program in self._programs.values())

    def __getitem__(self, key: StepKey) -> Program:
        """Return a program; wait until it is compiled."""
        self.prefetch(key)
        program: Program = self._programs[key].result()
        return program

    def __len__(self) -> int:
        return len(self._programs)

    def release(self, keep: Collection[StepKey]) -> None:
        """Free all programs but those of `keep`; later use reads the compilation cache."""
        for key in self._programs.keys() - set(keep):
            self._programs.pop(key).cancel()

    def temporary_bytes(self, key: StepKey) -> int:
        """Return the program's scratch memory in bytes, beyond its arguments and results."""
        return self.memory(key)["temporaries"]

    def text(self, key: StepKey) -> str:
        """Return the compiled program as XLA prints it, with the scopes of every instruction."""
        return self._programs[key].result().as_text()

    def memory(self, key: StepKey) -> dict[str, int]:
        """Return the program's memory in bytes; `shared` counts results in donated arguments."""
        analysis = self._programs[key].result().memory_analysis()
        return {
            "arguments": analysis.argument_size_in_bytes,
            "results": analysis.output_size_in_bytes,
            "shared": analysis.alias_size_in_bytes,
            "temporaries": analysis.temp_size_in_bytes,
            "code": analysis.generated_code_size_in_bytes,
        }

    def flops(self, key: StepKey) -> int:
        """Return the operations of the model's matrix products in one step: counted in the program, those of native
        calls by formula. An optimizer's own products (Muon's) are not among them."""
        parts = self.flops_by_part[key]
        return sum(parts.values()) - parts.get("optimizer", 0)

    def counted_flops(self, key: StepKey) -> int:
        """Return the operations that were counted in the program; native calls count theirs themselves."""
        return self.flops(key) - sum(flops.native_by_part(self._config.model, key).values())

    def _compile(self, key: StepKey) -> Any:
        start = time.monotonic()
        traced = trace(self._config, key)
        counted, native = counted_flops.by_part(traced.jaxpr), flops.native_by_part(self._config.model, key)
        self.flops_by_part[key] = dict(collections.Counter(counted) + collections.Counter(native))
        program = traced.lower().compile()
        self.compile_seconds[key] = time.monotonic() - start
        log.info("compiled %s in %.1f s", key, self.compile_seconds[key])
        return program


def trace(config: Config, key: StepKey) -> Any:
    """Trace the train step of a key, uncompiled. The result has `.jaxpr` and `.lower()`."""
    shape = (key.accumulation, key.micro_batch, key.context)
    ids = jax.ShapeDtypeStruct(shape, jnp.int32)
    batch = dict.fromkeys(("tokens", "targets", "segments"), ids)
    batch["weights"] = jax.ShapeDtypeStruct(shape, jnp.float32)
    if key.prefix_cached:
        batch["prefix"] = jax.ShapeDtypeStruct((*shape, config.model.dim), jnp.bfloat16)
    state, scalar = phase_groups.abstract(config, key), jax.ShapeDtypeStruct((), jnp.float32)
    function = functools.partial(step.train_step, config, key)
    whole, cut = mesh.on(key.sharing, mesh.WHOLE), mesh.of_state(state, key.sharing)
    shardings = (cut, mesh.on(key.sharing, mesh.SPLIT), whole, whole)
    jitted = jax.jit(function, donate_argnums=0, in_shardings=shardings, out_shardings=(cut, whole))
    return jitted.trace(state, batch, scalar, scalar)
