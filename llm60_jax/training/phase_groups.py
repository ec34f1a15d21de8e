"""Parameter groups that exist during one phase: adapters, and the heads of deep supervision.

`begin` adds them when the phase begins. `end` merges adapters into plain weights and drops heads
when it closes. So a phase checkpoint always holds a plain model.
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
    """The settings that decide which groups a phase adds. `Phase` and `StepKey` both have them."""

    @property
    def lora(self) -> Lora | None: ...
    @property
    def adapted_from(self) -> int: ...
    @property
    def deep_supervision(self) -> float: ...


PLAIN = ("embedding", "norm", "blocks_", "attention_", "mlp_")  # prefixes of a plain model's group names


def begin(config: Config, phase: PhaseSettings, state: TrainState) -> TrainState:
    """Return the state with the phase's own groups: fresh adapters, heads with identity norms."""
    extra: groups.Params = {}
    if phase.lora is not None:
        rng = jax.random.fold_in(jax.random.fold_in(jax.random.key(state.seed), state.step), 1)
        extra |= groups.init_lora(config.model, phase.lora, phase.adapted_from, rng)
    if phase.deep_supervision:
        width = config.model.dim  # a new array for each leaf: a step cannot donate one array twice
        heads = config.model.boundaries[1:-1]
        extra |= {f"head_{depth}": {"scale": jnp.ones(width), "bias": jnp.zeros(width)} for depth in heads}
    opt_state = jax.jit(step.optimizer(config).init)(extra)
    return dataclasses.replace(state, params={**state.params, **extra}, opt_state={**state.opt_state, **opt_state})


def end(phase: PhaseSettings, state: TrainState) -> TrainState:
    """Return a plain model's state: merge adapters, drop heads and the optimizer state of both."""
    params = merged(state.params, phase.lora)
    return dataclasses.replace(state, params=params, opt_state=plain(state.opt_state))


def merged(params: dict[str, Any], lora: Lora | None) -> dict[str, Any]:
    """Return a plain model's parameters, with any adapters merged."""
    return plain(params if lora is None else groups.merge_lora(params, lora))


def abstract(config: Config, phase: PhaseSettings | None) -> TrainState:
    """Return shapes and dtypes of a state inside a phase, or of a plain one; allocate nothing."""
    if phase is None:
        return jax.eval_shape(lambda: step.init(config))
    return jax.eval_shape(lambda: begin(config, phase, step.init(config)))


def without_base(state: TrainState) -> TrainState:
    """Return the state with the phase's own groups only.

    In a phase with adapters only these change. The checkpoint it began from holds all others.
    """
    return dataclasses.replace(state, params=_extra(state.params), opt_state=_extra(state.opt_state))


def with_base(phase_state: TrainState, base: TrainState) -> TrainState:
    """Return the whole state; undo `without_base`."""
    return dataclasses.replace(
        phase_state,
        params={**base.params, **phase_state.params},
        opt_state={**base.opt_state, **phase_state.opt_state},
    )


def plain(params: dict[str, Any]) -> dict[str, Any]:
    """Return a plain model's groups only, of parameters or of optimizer state."""
    return {name: group for name, group in params.items() if name.startswith(PLAIN)}


def _extra(params: dict[str, Any]) -> dict[str, Any]:
    return {name: group for name, group in params.items() if not name.startswith(PLAIN)}
