"""Per-layer Adafactor (or AdamW), decoupled weight decay and the freeze mask (design.md, section 4).

Parameters come as a dict of *groups* (see model.py). The optimizer state has the same groups, each with its own step
count, so that a frozen group's state can be set aside whole.

Two departures from `optax.adafactor` as it stands: its RMS clip acts per leaf, which in a stacked leaf would let one
noisy layer clip all others, hence the vmap over a stack's layers; and its weight decay ignores the learning rate.
"""

from collections.abc import Callable, Collection
from typing import Any

import jax
import jax.numpy as jnp
import optax

from llm60_jax.config import Optimizer

Groups = dict[str, Any]


def make(config: Optimizer, is_stacked: Callable[[str], bool]) -> optax.GradientTransformation:
    """The optimizer over groups, without a learning rate: its updates are to be multiplied by the step's rate.

    Args:
      config: settings.
      is_stacked: tells by a group's name whether its leaves carry a leading layer axis.
    """
    layer = optax.chain(
        _DIRECTIONS[config.name](config),
        # the sign is turned already; matrices only, as norms have nothing to gain from shrinking
        optax.add_decayed_weights(-config.weight_decay, mask=lambda p: jax.tree.map(lambda x: x.ndim > 1, p)),
    )

    def init(params: Groups) -> Groups:
        return {
            name: group if _is_masked(group) else (jax.vmap(layer.init) if is_stacked(name) else layer.init)(group)
            for name, group in params.items()
        }

    def update_groups(grads: Groups, state: Groups, params: Groups | None = None) -> tuple[Groups, Groups]:
        assert params is not None, "weight decay needs the parameters"
        updates, new_state = dict(grads), dict(state)
        for name, group in grads.items():
            if not _is_masked(group):
                one = jax.vmap(layer.update) if is_stacked(name) else layer.update
                updates[name], new_state[name] = one(group, state[name], params[name])
        return updates, new_state

    return optax.GradientTransformation(init, update_groups)


def _adafactor(config: Optimizer) -> optax.GradientTransformation:
    # min_dim_size_to_factor counts per layer here, since the layer axis is mapped away.
    return optax.adafactor(
        learning_rate=None,
        multiply_by_parameter_scale=False,  # so that 3e-4 means 3e-4
        clipping_threshold=config.clip_rms,
        decay_rate=config.decay_exponent,
        min_dim_size_to_factor=32,
    )


def _adamw(config: Optimizer) -> optax.GradientTransformation:
    return optax.chain(optax.scale_by_adam(*config.betas), optax.scale(-1.0))


_DIRECTIONS = {"adafactor": _adafactor, "adamw": _adamw}


def update(
    tx: optax.GradientTransformation,
    frozen_groups: Collection[str],
    learning_rate: jax.Array,
    grads: Groups,
    state: Groups,
    params: Groups,
) -> tuple[Groups, Groups]:
    """One optimizer update in which the frozen groups take no part.

    The frozen groups' state is set aside before `optax.masked` runs over the live ones and put back after: nothing
    is computed for it, not a bit of it changes, and the state's layout is the same for every frozen depth.

    Args:
      grads: gradients of the live groups; frozen groups are absent.
      state, params: all groups.

    Returns:
      New parameters and new state, all groups; frozen ones are the very arrays that came in.
    """
    live = {name: name not in frozen_groups for name in params}
    holes = {name: optax.MaskedNode() for name in frozen_groups}
    masked = optax.masked(tx, live)
    updates, new = masked.update({**grads, **holes}, optax.MaskedState({**state, **holes}), params)
    changed = {
        name: jax.tree.map(lambda p, u: p + learning_rate * u, params[name], updates[name])
        for name in params
        if live[name]
    }
    return {**params, **changed}, {**state, **{name: new.inner_state[name] for name in changed}}


def global_norm(grads: Groups) -> jax.Array:
    """Euclidean norm over all live gradients, float32 scalar."""
    return jnp.sqrt(sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(grads)))


def _is_masked(group: Any) -> bool:
    return isinstance(group, optax.MaskedNode)
