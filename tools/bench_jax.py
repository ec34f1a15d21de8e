"""The train steps of a configuration, as a process that `tools/bench.py` measures. Not for use by itself: it reads one
JSON object a line and answers with one."""

import argparse
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from bench import serve
from profile_step import made_up_batch

from llm60_jax import config as config_module
from llm60_jax import losses, machine, model, optim, phase_groups, plan, programs, step
from llm60_jax.config import Config
from llm60_jax.data import loader
from llm60_jax.data.shards import TokenShard
from llm60_jax.phase import Phase
from llm60_jax.step_key import StepKey

PRODUCT = 2048  # rows and columns of the matrices whose product is the ceiling


class Worker:
    """Answers what bench.py asks. Stages are counted from 0 inside the phase."""

    def __init__(self, config: Config, phase: Phase):
        self.config, self.phase = config, phase
        self.stages = plan.build(config).phase_stages(phase.name)
        self.compiled = programs.CompiledSteps(config)
        self.state = phase_groups.begin(config, phase, step.init(config))
        matrix = jnp.ones((PRODUCT, PRODUCT), jnp.bfloat16)
        self.product = jax.jit(lambda a, b: jnp.dot(a, b, preferred_element_type=jnp.float32)), matrix

    def _key(self, index: int) -> StepKey:
        return StepKey.of(self.stages[index], self.phase, self.config)

    def ceiling(self) -> dict[str, Any]:
        """Operations a second of one large bfloat16 product."""
        function, matrix = self.product
        start = time.perf_counter()
        for _ in range(5):
            jax.block_until_ready(function(matrix, matrix))
        return {"flops": 5 * 2 * PRODUCT**3 / (time.perf_counter() - start)}

    def stage(self, index: int) -> dict[str, Any]:
        """Compiles a stage's program and performs its first step."""
        key = self._key(index)
        self.compiled.release({key})
        _ = self.compiled[key]
        self.step(index)
        return {
            "context": key.context,
            "frozen": key.frozen,
            "micro_batch": key.micro_batch,
            "remat": key.remat,
            "devices": key.devices,
            "steps": self.stages[index].steps,
            "tokens": key.tokens,
            "matmul_flops": self.compiled.flops[key],
            "compile_seconds": self.compiled.compile_seconds[key],
            "temporary_bytes": self.compiled.temporary_bytes(key),
        }

    def step(self, index: int) -> dict[str, Any]:
        """One step, from a batch on the host to its loss on the host."""
        key = self._key(index)
        batch, rate = made_up_batch(self.config, key), np.float32(self.phase.learning_rate[1])
        start = time.perf_counter()
        self.state, metrics = self.compiled[key](self.state, self.compiled.put(batch), rate, step.NO_LIMIT)
        loss = float(metrics.loss)
        jax.block_until_ready(self.state)
        return {"seconds": time.perf_counter() - start, "loss": loss, "peak_bytes": machine.peak_bytes()}

    def optimizer(self, index: int) -> dict[str, Any]:
        """Seconds of the optimizer's update alone."""
        params = self.state.params
        frozen = step.frozen_groups(self.config.model, self._key(index), params)
        live = {name: jax.tree.map(jnp.ones_like, group) for name, group in params.items() if name not in frozen}
        tx, rate = step.optimizer(self.config), jnp.float32(1e-4)
        update = jax.jit(lambda p, s, g: optim.update(tx, frozen, rate, g, s, p))
        return {"seconds": _median(lambda: jax.block_until_ready(update(params, self.state.opt_state, live)))}

    def input(self, index: int) -> dict[str, Any]:
        """Seconds in which the loader packs one batch of made-up documents."""
        stage = self.stages[index]
        rng = np.random.default_rng(0)
        sizes = rng.integers(50, 1500, 2000)
        tokens = rng.integers(4, self.config.model.vocab_size, sizes.sum()).astype(np.uint16)
        offsets = np.cumsum([0, *sizes])
        shard = TokenShard(tokens, offsets, sizes * 4, np.zeros(len(sizes), np.int64))
        batches = loader.batches(shard, stage, self.config.seed)
        return {"seconds": _median(lambda: next(batches), min(20, stage.steps))}

    def export(self, weights: str, batch: str) -> dict[str, Any]:
        """Writes the weights and a batch of one row for each context, and gives the loss on it without noise."""
        model_config, params = self.config.model, phase_groups.plain(self.state.params)
        flat = {".".join(str(k.key) for k in path): np.asarray(x) for path, x in jax.tree.leaves_with_path(params)}
        names = [name for name, _, _ in model_config.named_segments]
        found = {name: x for name, x in flat.items() if name.split(".")[0] not in names}
        for name in [name.split(".", 1)[1] for name in flat if name.startswith(f"{names[0]}.")]:
            found[f"blocks.{name}"] = np.concatenate([flat[f"{segment}.{name}"] for segment in names])
        np.savez(weights, **found)  # type: ignore[arg-type]
        key = self._key(len(self.stages) - 1)
        rows = {name: x[0] for name, x in made_up_batch(self.config, key).items()}
        np.savez(batch, **rows)

        def loss(params: model.Params, rows: step.Batch) -> jax.Array:
            network = model.merge(model_config, params)
            hidden = network(rows["tokens"], rows["segments"]).hidden_BTD.reshape(-1, model_config.dim)
            bfloat16 = jnp.dtype(jnp.bfloat16)
            return losses.token_losses(hidden, network.embedding[...], rows["targets"].reshape(-1), bfloat16).mean()

        return {"loss": float(jax.jit(loss)(params, rows))}


def _median(function: Any, times: int = 5) -> float:
    """Seconds of a call; the first warms up and is an outlier at most."""
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path)
    parser.add_argument("phase")
    parser.add_argument("settings", nargs="*")
    options = parser.parse_args()
    config = config_module.load(options.config, options.settings)
    machine.versions(config.train.devices)
    worker = Worker(config, config.phase_named(options.phase))
    serve(worker, jax.__version__)
    return 0


if __name__ == "__main__":
    sys.exit(main())
