"""Per-layer Adafactor, AdamW or Muon, decoupled weight decay and the freeze mask (playbook, section 8).

Parameters are a dict of groups (model/groups.py). The optimizer state has the same groups, each
with its own step count, so a frozen group's state can be set aside whole.

Adafactor (Shazeer and Stern 2018) departs from `optax.adafactor` in two points. optax clips the RMS
per leaf, so in a stacked leaf one noisy layer would clip all others; here `vmap` clips per layer.
optax's weight decay ignores the learning rate; here the rate multiplies it.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from llm60_jax.config import Optimizer

Groups = dict[str, Any]  # group name -> tree of arrays, or of optimizer state
Matrices = Callable[[Sequence[str]], int]
Orthogonalized = Callable[[jax.Array, int], jax.Array]


class Rules(NamedTuple):
    """Directions of steps, negated, without learning rate and weight decay."""

    stack: optax.GradientTransformation  # of a group whose leaves have a leading layer axis
    other: optax.GradientTransformation


def make(
    config: Optimizer,
    is_stacked: Callable[[str], bool],
    matrices: Matrices = lambda path: 1,
    orthogonalized: Orthogonalized | None = None,
) -> optax.GradientTransformation:
    """Return the optimizer over groups, without a learning rate; `update` multiplies by the rate.

    Args:
      config: the optimizer's settings.
      is_stacked: returns whether the leaves of the group of that name have a leading layer axis.
      matrices: returns how many matrices stand side by side in the leaf at that path in its group.
      orthogonalized: Muon's Newton-Schulz steps, if not optax's: of matrices [n, I, O] and how many stand
        side by side, it returns orthogonal ones times their norms. The state does not depend on it.
    """
    rules = _RULES[config.name](config, matrices, orthogonalized)
    # Directions are negated already, hence the minus. Norms gain nothing from decay.
    decay = optax.add_decayed_weights(-config.weight_decay, mask=lambda p: jax.tree.map(lambda x: x.ndim > 1, p))
    of_stack, of_other = optax.chain(rules.stack, _each_layer(jax.vmap, decay)), optax.chain(rules.other, decay)

    def rule(name: str) -> optax.GradientTransformation:
        return of_stack if is_stacked(name) else of_other

    def init(params: Groups) -> Groups:
        return {name: group if _is_masked(group) else rule(name).init(group) for name, group in params.items()}

    def update_groups(grads: Groups, state: Groups, params: Groups | None = None) -> tuple[Groups, Groups]:
        assert params is not None, "weight decay needs the parameters"
        updates, new_state = dict(grads), dict(state)
        for name, group in grads.items():
            if not _is_masked(group):
                updates[name], new_state[name] = rule(name).update(group, state[name], params[name])
        return updates, new_state

    return optax.GradientTransformation(init, update_groups)


def _each_layer(over: Callable[..., Any], rule: optax.GradientTransformation) -> optax.GradientTransformation:
    """Return a layer's rule for stacked leaves; `over` maps a function over their first axis."""
    return optax.GradientTransformation(over(rule.init), over(rule.update))


def _one_by_one(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function over the layers of stacked leaves, a layer at a time.

    A CPU multiplies one matrix after the other twice as fast as a batch of them.
    """
    return lambda *stacked: jax.lax.map(lambda layer: function(*layer), stacked)


def _adafactor(config: Optimizer, *_: Any) -> Rules:
    rule = optax.adafactor(
        learning_rate=None,
        multiply_by_parameter_scale=False,  # so that 3e-4 means 3e-4
        clipping_threshold=config.clip_rms,
        decay_rate=config.decay_exponent,
        min_dim_size_to_factor=32,  # of one layer's matrix, because the layer axis is mapped away
    )
    return Rules(_each_layer(jax.vmap, rule), rule)


def _adamw(config: Optimizer, *_: Any) -> Rules:
    rule = optax.chain(optax.scale_by_adam(*config.betas), optax.scale(-1.0))
    return Rules(_each_layer(jax.vmap, rule), rule)


def _muon(config: Optimizer, matrices: Matrices, orthogonalized: Orthogonalized | None) -> Rules:
    """Return Muon for the matrices of a layer, each by itself, and Adam for its norms; Adafactor for the rest."""
    other = _adafactor(config).other
    if orthogonalized is None:
        return Rules(_each_layer(_one_by_one, _muon_of_layer(config, matrices)), other)

    # Without steps of its own, optax returns each matrix with a norm that is the factor of the orthogonal one. It falls
    # short of that for a momentum below 1e-7, which then moves less.
    rule = _each_layer(jax.vmap, _muon_of_layer(config, matrices, steps=0))

    def orthogonal(path: tuple[Any, ...], x: jax.Array) -> jax.Array:
        return orthogonalized(x, matrices([key.key for key in path])) if x.ndim == 3 else x

    def update_stack(grads: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        updates, state = rule.update(grads, state, params)
        return jax.tree_util.tree_map_with_path(orthogonal, updates), state

    return Rules(optax.GradientTransformation(rule.init, update_stack), other)


def _muon_of_layer(config: Optimizer, matrices: Matrices, steps: int = 5) -> optax.GradientTransformation:
    rule = optax.contrib.muon(
        learning_rate=1.0,
        ns_steps=steps,
        consistent_rms=config.update_rms,
        adam_b1=config.betas[0],
        adam_b2=config.betas[1],
        muon_weight_dimension_numbers=lambda layer: jax.tree.map(_as_matrix, layer),
    )

    def apart(layer: Any) -> Any:
        """Return a layer's leaves with the kernels [I, m O] as lists of m matrices [I, O]."""

        def cut(path: tuple[Any, ...], x: jax.Array) -> jax.Array | list[jax.Array]:
            return jnp.split(x, matrices([key.key for key in path]), axis=1) if x.ndim == 2 else x

        return jax.tree_util.tree_map_with_path(cut, layer)

    def update_layer(grads: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        updates, state = rule.update(apart(grads), state, apart(params))
        return jax.tree.map(lambda grad, step: jnp.hstack(step) if grad.ndim == 2 else step, grads, updates), state

    return optax.GradientTransformation(lambda layer: rule.init(apart(layer)), update_layer)


def _as_matrix(x: jax.Array) -> optax.contrib.MuonDimensionNumbers | None:
    return optax.contrib.MuonDimensionNumbers() if x.ndim == 2 else None


_RULES: dict[str, Callable[..., Rules]] = {"adafactor": _adafactor, "adamw": _adamw, "muon": _muon}


def update(
    tx: optax.GradientTransformation,
    frozen_groups: Collection[str],
    learning_rate: jax.Array,
    grads: Groups,
    state: Groups,
    params: Groups,
) -> tuple[Groups, Groups]:
    """Update the live groups and leave the frozen groups alone (playbook, section 7).

    The frozen groups' state is set aside while `optax.masked` runs over the live groups. So nothing
    is computed for it, no bit of it changes, and every frozen depth has the same state layout.

    Args:
      tx: the optimizer of `make`.
      frozen_groups: names of the frozen groups.
      learning_rate: float32 scalar.
      grads: gradients of the live groups only.
      state: optimizer state of all groups.
      params: parameters of all groups.

    Returns:
      New parameters and new state of all groups. Frozen groups are the very arrays passed in.
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
    """Return the Euclidean norm over all live gradients, float32 scalar."""
    return jnp.sqrt(sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(grads)))


def _is_masked(group: Any) -> bool:
    """Return whether `optax.masked` left this group out."""
    return isinstance(group, optax.MaskedNode)
