"""Parameter groups that exist for the time of a phase: adapters, and the heads of deep supervision.

A phase adds them when it begins (`begin`) and takes them back when it closes (`end`): adapters are merged into plain
weights, heads are dropped. So a phase checkpoint always holds a plain model, whatever way it was trained.
"""

import dataclasses
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from llm60_jax.config import Config, Lora
from llm60_jax.model import groups
from llm60_jax.training import step
from llm60_jax.training.step import TrainState


class PhaseSettings(Protocol):
    """What decides about extra groups; a `Phase` and a `StepKey` have all of it."""

    @property
    def lora(self) -> Lora | None: ...
    @property
    def adapted_from(self) -> int: ...
    @property
    def deep_supervision(self) -> float: ...


PLAIN = ("embedding", "norm", "blocks_", "attention_", "mlp_")  # how the names of a plain model's groups begin


def begin(config: Config, phase: PhaseSettings, state: TrainState) -> TrainState:
    """The state with the phase's own groups: fresh adapters, heads whose norms are at identity."""
    extra: groups.Params = {}
    if phase.lora is not None:
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(state.seed), state.step), 1)
        extra |= groups.init_lora(config.model, phase.lora, phase.adapted_from, key)
    if phase.deep_supervision:
        width = config.model.dim  # an array for each: a step is given its state for good, and no array twice
        heads = config.model.boundaries[1:-1]
        extra |= {f"head_{depth}": {"scale": jnp.ones(width), "bias": jnp.zeros(width)} for depth in heads}
    opt_state = jax.jit(step.optimizer(config).init)(extra)
    return dataclasses.replace(state, params={**state.params, **extra}, opt_state={**state.opt_state, **opt_state})


def end(phase: PhaseSettings, state: TrainState) -> TrainState:
    """The state of a plain model again: adapters merged, heads dropped, with the optimizer's state for both."""
    params = merged(state.params, phase.lora)
    return dataclasses.replace(state, params=params, opt_state=plain(state.opt_state))


def merged(params: dict[str, Any], lora: Lora | None) -> dict[str, Any]:
    """The parameters of a plain model, adapters merged into them."""
    return plain(params if lora is None else groups.merge_lora(params, lora))


def abstract(config: Config, phase: PhaseSettings | None) -> TrainState:
    """Shapes and dtypes of a state inside a phase, or of a plain one; nothing is allocated."""
    if phase is None:
        return jax.eval_shape(lambda: step.init(config))
    return jax.eval_shape(lambda: begin(config, phase, step.init(config)))


def without_base(state: TrainState) -> TrainState:
    """What changes in a phase with adapters, which are its own groups: all others are those of the checkpoint that the
    phase began from."""
    return dataclasses.replace(state, params=_own(state.params), opt_state=_own(state.opt_state))


def with_base(own: TrainState, base: TrainState) -> TrainState:
    """Undoes `without_base`."""
    return dataclasses.replace(
        own,
        params={**base.params, **own.params},
        opt_state={**base.opt_state, **own.opt_state},
    )


def plain(params: dict[str, Any]) -> dict[str, Any]:
    """The groups of a plain model alone."""
    return {name: group for name, group in params.items() if name.startswith(PLAIN)}


def _own(params: dict[str, Any]) -> dict[str, Any]:
    return {name: group for name, group in params.items() if not name.startswith(PLAIN)}
