"""Run the train steps of a configuration in a process that tools/bench.py times, one JSON object a
line.

Not for use by itself.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from worker_process import serve

from llm60_jax import config as config_module
from llm60_jax import generate, plan
from llm60_jax.config import Config, Model, Phase
from llm60_jax.kernels import choice, library
from llm60_jax.machine import cli, devices, facts, memory
from llm60_jax.machine.signals import Interrupts
from llm60_jax.model import groups, losses
from llm60_jax.plan import StepKey
from llm60_jax.training import costs, phase_groups, step, tuning

# Rows and columns of the matrices whose product is the ceiling, and bytes of the sum that measures the bandwidth: as
# large as a processor needs to be busy.
CPU_SIZES, ACCELERATOR_SIZES = (2048, 2**28), (8192, 2**31)


class JaxWorker:
    """Answers the requests of bench.py. `index` counts stages from 0 inside the phase."""

    def __init__(self, config: Config, phase: Phase):
        self.config, self.phase = config, phase
        self.stages = plan.build(config).phase_stages(phase.name)
        self.steps = costs.Steps(config, phase)
        self.warm: set[int] = set()  # stages whose program has run
        matrix = jnp.ones((sizes()[0],) * 2, jnp.bfloat16)
        self.product = jax.jit(lambda a, b: jnp.dot(a, b, preferred_element_type=jnp.float32)), matrix

    def _key(self, index: int) -> StepKey:
        return plan.key(self.config, self.stages[index])

    def ceiling(self) -> dict[str, Any]:
        """Return the operations a second of one large bfloat16 product, and of products in registers."""
        function, matrix = self.product
        jax.block_until_ready(function(matrix, matrix))  # the first call compiles
        start = time.perf_counter()
        for _ in range(5):
            jax.block_until_ready(function(matrix, matrix))
        flops = 5 * 2 * len(matrix) ** 3 / (time.perf_counter() - start)
        return {"ceiling_flops": flops, "register_flops": register_peak()}

    def stage(self, index: int) -> dict[str, Any]:
        """Compile a stage's program and do its first step."""
        key, compiled = self._key(index), self.steps.compiled
        self.steps.time(key)
        self.warm.add(index)
        return {
            "context": key.context,
            "frozen": key.frozen_blocks,
            "blocks": self.stages[index].blocks,
            "micro_batch": key.micro_batch,
            "remat": key.remat,
            "devices": key.sharing.devices,
            "kernels": getattr(key, "kernels", "xla"),
            "steps": self.stages[index].steps,
            "tokens": key.tokens,
            "matmul_flops": compiled.flops(key),
            "compile_seconds": compiled.compile_seconds[key],
            "temporary_bytes": compiled.temporary_bytes(key),
        }

    def step(self, index: int) -> dict[str, Any]:
        """Time one whole step that follows another, as in training: while other sides had their turn, the system took
        this one's free memory away."""
        if index not in self.warm:  # an interrupted call has measured the stage
            self.stage(index)
        self.steps.time(self._key(index))
        seconds, loss = self.steps.time(self._key(index))
        return {"seconds": seconds, "loss": loss, "peak_bytes": memory.peak()}

    def optimizer(self, index: int) -> dict[str, Any]:
        """Time the optimizer's update alone."""
        return {"seconds": self.steps.optimizer_seconds([self._key(index)])[0]}

    def input(self, index: int) -> dict[str, Any]:
        """Time the packing of one batch of made-up documents."""
        stage = self.stages[index]
        batches = costs.made_up_loader(self.config, stage)
        return {"seconds": _median(lambda: next(batches), min(20, stage.steps))}

    def generation(self) -> dict[str, Any]:
        """Return the speed of writing one text of a whole context, and its share of the memory's
        bandwidth.

        The share assumes that every weight is read once for each token.
        """
        config, params = self.config.model, phase_groups.plain(self.steps.state.params)
        sampling = generate.Choice(eos=config.vocab_size)  # no token has this id: nothing ends early
        prompt = np.full((1, config.max_context), generate.FREE, np.int32)
        prompt[0, 0] = 1

        def write() -> None:
            rows = generate.begin(config, prompt, [config.max_context], [0], [sampling])
            jax.block_until_ready(generate.advance(config, params, rows, config.max_context - 1))

        speed = (config.max_context - 1) / _median(write, 3)
        size = sum(leaf.nbytes for leaf in jax.tree.leaves(params))
        bandwidth = _bandwidth()
        return {
            "tokens_per_second": speed,
            "bytes_per_token": size,
            "bandwidth_bytes_per_second": bandwidth,
            "bandwidth_share": speed * size / bandwidth,
        }

    def export(self, weights: str, batch: str) -> dict[str, Any]:
        """Save the weights and one micro-batch of the last stage, and return its loss without
        noise."""
        model_config, params = self.config.model, phase_groups.plain(self.steps.state.params)
        np.savez(weights, **flat(model_config, params))  # type: ignore[arg-type]
        key = self._key(len(self.stages) - 1)
        rows = {name: x[0] for name, x in costs.made_up_batch(self.config, key).items()}
        np.savez(batch, **rows)

        def loss(params: groups.Params, rows: step.Batch) -> jax.Array:
            network = groups.merge(model_config, params)
            outputs = network(rows["tokens"], rows["segments"], kernels=key.kernels)
            hidden_ND, targets_N = outputs.hidden_BTD.reshape(-1, model_config.dim), rows["targets"].reshape(-1)
            table_VD, bfloat16 = network.embedding[...], jnp.dtype(jnp.bfloat16)
            return losses.token_losses(hidden_ND, table_VD, targets_N, bfloat16, key.kernels).mean()

        return {"loss": float(jax.jit(loss)(params, rows))}


def register_peak() -> float | None:
    """Return the operations a second of products in registers, on all cores of this process.

    None on a device or a machine that cannot have the native kernels, whose library measures it.
    """
    return library.register_peak(choice.chosen("auto", jax.default_backend()), facts.cores())


def flat(config: Model, params: groups.Params) -> dict[str, np.ndarray]:
    """Return a plain model's parameters by dotted names, the stacks joined under `blocks.`"""
    leaves = {".".join(str(k.key) for k in path): np.asarray(x) for path, x in jax.tree.leaves_with_path(params)}
    stacks = [name for name, _, _ in config.named_stacks]
    joined = {name: x for name, x in leaves.items() if name.split(".")[0] not in stacks}
    for name in [name.split(".", 1)[1] for name in leaves if name.startswith(f"{stacks[0]}.")]:
        joined[f"blocks.{name}"] = np.concatenate([leaves[f"{stack}.{name}"] for stack in stacks])
    return joined


def unflat(config: Model, arrays: Mapping[str, np.ndarray]) -> groups.Params:
    """Undo `flat`."""

    def leaf(path: Any, _: Any) -> jax.Array:
        group, _, rest = ".".join(str(k.key) for k in path).partition(".")
        for name, start, stop in config.named_stacks:
            if group == name:
                return jnp.asarray(arrays[f"blocks.{rest}"][start:stop])
        return jnp.asarray(arrays[f"{group}.{rest}" if rest else group])

    return jax.tree.map_with_path(leaf, groups.abstract_params(config))


def sizes() -> tuple[int, int]:
    """Return the sizes for this process's device, as in `CPU_SIZES`."""
    return CPU_SIZES if jax.default_backend() == "cpu" else ACCELERATOR_SIZES


def _bandwidth() -> float:
    """Return the bytes a second that one large sum reads from the memory of this process's device."""
    size = sizes()[1]
    numbers, total = jnp.ones(size // 4), jax.jit(jnp.sum)
    jax.block_until_ready(total(numbers))
    return size / _median(lambda: jax.block_until_ready(total(numbers)), 7)


def _median(function: Callable[[], Any], times: int) -> float:
    """Return the median seconds of a call; the first one warms up and is an outlier at most."""
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def _serve(options: argparse.Namespace, interrupts: Interrupts) -> None:
    config = config_module.load(options.config, options.set)
    config, _ = devices.ready(config)
    config = tuning.recalled(library.settled(config))
    serve(JaxWorker(config, cli.phase_of(config, options.phase)), jax.__version__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until bench.py closes the pipe."""
    parser = cli.config_parser(__doc__, "")
    parser.add_argument("--phase", metavar="NAME", required=True, help="the phase to time")
    return cli.run_tool("bench_jax.py", parser, arguments, _serve)


if __name__ == "__main__":
    sys.exit(main())
