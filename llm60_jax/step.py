"""The one train step, the one eval step, and the cache of compiled programs.

A compiled train step belongs to a `StepKey`: everything static about it, and nothing else. Phases whose stages agree
share a program. Shape suffixes: G micro-batches, B sequences, T positions, N tokens flat, D width.
"""

import concurrent.futures
import dataclasses
import functools
import logging
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from llm60_jax import flops, layers, losses, model, optim
from llm60_jax.config import Config, Phase, Remat
from llm60_jax.layers import Noise
from llm60_jax.plan import Stage

log = logging.getLogger("llm60_jax")
Batch = dict[str, Any]  # tokens, targets, segments: int32; weights: float32; all [G, B, T]


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=["params", "opt_state", "step", "seed"], meta_fields=[]
)
@dataclasses.dataclass(frozen=True)
class TrainState:
    """All that training changes. One layout for every stage, so every checkpoint looks alike."""

    params: model.Params  # float32
    opt_state: Any
    step: jax.Array  # int32 scalar: optimizer updates done over all phases
    seed: jax.Array  # uint32 scalar: root of all training noise; step and layer are folded into it


class StepKey(NamedTuple):
    """What a train step is compiled for."""

    context: int
    micro_batch: int
    accumulation: int
    frozen: int  # blocks; feeds the model's gradient boundary and the optimizer's mask
    embedding_frozen: bool
    remat: Remat
    noise: Noise

    @staticmethod
    def of(stage: Stage, phase: Phase, config: Config) -> "StepKey":
        """The key of a stage's program."""
        return StepKey(
            context=stage.context,
            micro_batch=stage.micro_batch,
            accumulation=stage.accumulation,
            frozen=stage.frozen,
            embedding_frozen=stage.frozen > 0 and phase.embedding == "frozen",
            remat=config.train.remat,
            noise=Noise(phase.mlp_dropout, phase.attention_dropout, phase.embedding_dropout),
        )


class Metrics(NamedTuple):
    """What one step reports, on the device. The last three are evidence of what the program does (proof.py)."""

    loss: jax.Array  # float32, mean over the step's weighted tokens, nats
    grad_norm: jax.Array  # float32, over live parameters
    block_gradients: jax.Array  # float32 [layers], gradient norm of each block, 0 where it has none
    context: jax.Array  # int32, tokens in a row
    mask_coverage: jax.Array  # float32, share of causal pairs of positions that lie in one document


def init(config: Config) -> TrainState:
    """A fresh state at step 0, from the config's seed."""
    params = model.init(config.model, jax.random.key(config.seed))
    opt_state = jax.jit(_optimizer(config).init)(params)
    return TrainState(params, opt_state, jnp.int32(0), jnp.uint32(config.seed))


def abstract_state(config: Config) -> TrainState:
    """Shapes and dtypes of a state, without allocating it."""
    return jax.eval_shape(lambda: init(config))


def frozen_groups(key: StepKey, config: Config) -> frozenset[str]:
    """The parameter groups that a program leaves alone."""
    blocks = {name for name, _, stop in config.model.named_segments if stop <= key.frozen}
    return frozenset(blocks | ({"embedding"} if key.embedding_frozen else set()))


def train_step(
    config: Config, key: StepKey, state: TrainState, batch: Batch, learning_rate: jax.Array
) -> tuple[TrainState, Metrics]:
    """Gradients summed over micro-batches by `lax.scan`, then one Adafactor update of the live groups.

    Args:
      batch: arrays [G, B, T]; weights are 0 where a target belongs to another document.
      learning_rate: float32 scalar.
    """
    frozen = frozen_groups(key, config)
    live = {name: group for name, group in state.params.items() if name not in frozen}
    fixed = {name: group for name, group in state.params.items() if name in frozen}
    total_weight = jnp.maximum(batch["weights"].sum(), 1.0)
    noise_key = jax.random.fold_in(jax.random.key(state.seed), state.step)

    def micro_loss(live, micro, index):
        network = model.merge(config.model, {**live, **fixed})
        hidden_BTD = network(
            micro["tokens"],
            micro["segments"],
            frozen=key.frozen,
            remat=key.remat,
            noise=key.noise,
            key=None if key.noise == Noise() else jax.random.fold_in(noise_key, index),
        )
        flat = (hidden_BTD.reshape(-1, hidden_BTD.shape[-1]), network.embedding[...])
        targets_N, weights_N = micro["targets"].reshape(-1), micro["weights"].reshape(-1)
        terms = {name: term(*flat, targets_N, weights_N) for name, term in losses.TERMS.items()}
        return sum(terms.values()) / total_weight

    def accumulate(carry, indexed):
        loss, grads = carry
        new_loss, new_grads = jax.value_and_grad(micro_loss)(live, *indexed)
        return (loss + new_loss, jax.tree.map(jnp.add, grads, new_grads)), None

    zeros = jnp.float32(0), jax.tree.map(jnp.zeros_like, live)
    indices = jnp.arange(key.accumulation)
    (loss, grads), _ = jax.lax.scan(accumulate, zeros, (batch, indices))
    params, opt_state = optim.update(_optimizer(config), frozen, learning_rate, grads, state.opt_state, state.params)
    new_state = TrainState(params, opt_state, state.step + 1, state.seed)
    metrics = Metrics(
        loss=loss,
        grad_norm=optim.global_norm(grads),
        block_gradients=_block_gradients(config, grads),
        context=jnp.int32(batch["tokens"].shape[-1]),
        mask_coverage=_mask_coverage(batch["segments"]),
    )
    return new_state, metrics


def _block_gradients(config: Config, grads: model.Params) -> jax.Array:
    """Gradient norm of every block, float32 [layers]; groups without gradients count as 0."""
    norms = []
    for name, start, stop in config.model.named_segments:
        squares = [jnp.square(leaf).reshape(stop - start, -1).sum(1) for leaf in jax.tree.leaves(grads.get(name, {}))]
        norms.append(jnp.sqrt(sum(squares, start=jnp.zeros(stop - start))))
    return jnp.concatenate(norms)


def _mask_coverage(segments_GBT: jax.Array) -> jax.Array:
    """Share of the causal pairs of positions that attention may use, float32."""
    T = segments_GBT.shape[-1]
    seen = jax.lax.map(lambda segments_BT: layers.document_mask(segments_BT).mean(), segments_GBT).mean()
    return seen * (2 * T / (T + 1))


def eval_step(config: Config, params: model.Params, rows: Batch) -> tuple[jax.Array, jax.Array]:
    """Scores rows [B, T] without noise, all products in float32.

    Returns:
      Sum of weighted losses in nats and sum of weights, float32 scalars.
    """
    network = model.merge(config.model, params)
    float32 = jnp.dtype(jnp.float32)
    hidden_BTD = network(rows["tokens"], rows["segments"], dtype=float32)
    nll_N = losses.token_losses(
        hidden_BTD.reshape(-1, hidden_BTD.shape[-1]), network.embedding[...], rows["targets"].reshape(-1), float32
    )
    weights_N = rows["weights"].reshape(-1)
    return jnp.vdot(nll_N, weights_N), weights_N.sum()


class CompiledSteps:
    """Ahead-of-time compiled train steps by StepKey: compiling is visible, and a wrong shape is an error instead of
    a silent second compilation. The state argument is donated.

    `prefetch` compiles the program of a coming stage in a thread of its own, so that no step waits for it.
    """

    def __init__(self, config: Config):
        self._config = config
        self._state = abstract_state(config)
        self._programs: dict[StepKey, concurrent.futures.Future[Any]] = {}
        self._thread = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="compile")
        self.compile_seconds: dict[StepKey, float] = {}
        self.flops: dict[StepKey, int] = {}  # operations of matrix products in one step, counted in the program

    def prefetch(self, key: StepKey) -> None:
        """Begins to compile a program, unless it is there or on its way."""
        if key not in self._programs:
            self._programs[key] = self._thread.submit(self._compile, key)

    def __getitem__(self, key: StepKey) -> Callable[[TrainState, Batch, np.float32], tuple[TrainState, Metrics]]:
        self.prefetch(key)
        return self._programs[key].result()

    def __len__(self) -> int:
        return len(self._programs)

    def temporary_bytes(self, key: StepKey) -> int:
        """Bytes of scratch memory the compiled program asks for, beyond its arguments and results."""
        return self._programs[key].result().memory_analysis().temp_size_in_bytes

    def _compile(self, key: StepKey) -> Any:
        start = time.monotonic()
        shape = (key.accumulation, key.micro_batch, key.context)
        ids = jax.ShapeDtypeStruct(shape, jnp.int32)
        batch = dict.fromkeys(("tokens", "targets", "segments"), ids)
        batch["weights"] = jax.ShapeDtypeStruct(shape, jnp.float32)
        function = jax.jit(functools.partial(train_step, self._config, key), donate_argnums=0)
        rate = jax.ShapeDtypeStruct((), jnp.float32)
        traced = function.trace(self._state, batch, rate)
        self.flops[key] = flops.count(traced.jaxpr)
        program = traced.lower().compile()
        self.compile_seconds[key] = time.monotonic() - start
        log.info("compiled %s in %.1f s", key, self.compile_seconds[key])
        return program


def _optimizer(config: Config):
    return optim.make(config.optimizer, {name for name, _, _ in config.model.named_segments})
