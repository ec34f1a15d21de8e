"""Growing: a model that was trained with its lowest blocks gets the others as copies of them.

The blocks are copied in order, again and again: of blocks 0 to 19, block 20 is a copy of block 0, block 39 of block 19,
and block 40 of block 0 once more ("G_stack", Du et al. 2024, arXiv:2405.15319; Gong et al. 2019). The optimizer's state
is copied with the weights. Before that, the groups of blocks to come hold their random initial values, so every stage
has one layout of the state.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from llm60_jax.config import Model
from llm60_jax.model import groups
from llm60_jax.training.step import TrainState


def grown(model: Model, state: TrainState, before: int, blocks: int) -> TrainState:
    """Return the state of a model that had its lowest `before` blocks and has `blocks` from now on.

    Args:
      model: the whole architecture; stacks end at both depths.
      state: not cut into pieces, and of a phase without groups of its own.
    """
    return dataclasses.replace(
        state,
        params=_copied(model, state.params, before, blocks),
        opt_state=_copied(model, state.opt_state, before, blocks),
    )


def _copied(model: Model, grouped: dict[str, Any], before: int, blocks: int) -> dict[str, Any]:
    """Return groups of parameters or of optimizer state, with those of the new stacks copied from below."""
    trained = [name for name, _, stop in model.named_stacks if stop <= before]
    new = [(name, start, stop) for name, start, stop in model.named_stacks if before <= start < blocks]
    added = {}
    for kinds in zip(*map(groups.stack_groups, trained), strict=True):  # the groups of one kind, of all trained stacks
        if kinds[0] not in grouped:
            continue
        below = jax.tree.map(lambda *parts: jnp.concatenate(parts), *(grouped[name] for name in kinds))
        prefix, length = kinds[0].split("_")[0], len(jax.tree.leaves(below)[0])
        for name, start, stop in new:
            # Neighbours may share a part, so `length` parts are `before` blocks.
            numbers = np.arange(start * length // before, stop * length // before) % length
            added[name.replace("blocks", prefix, 1)] = jax.tree.map(lambda x, i=numbers: x[i], below)
    return {**grouped, **added}


def copies(model: Model, params: groups.Params, before: int, blocks: int) -> int:
    """Return how many of the blocks from `before` to `blocks` equal the block below that they are to be a copy of."""
    host = jax.device_get({name: group for name, group in params.items() if groups.is_stacked(name)})
    return sum(
        all(map(np.array_equal, _leaves(model, host, block), _leaves(model, host, block % before)))
        for block in range(before, blocks)
    )


def _leaves(model: Model, params: groups.Params, block: int) -> list[np.ndarray]:
    """Return the arrays of one block, those that it shares included."""
    name, start, stop = next(stack for stack in model.named_stacks if stack[1] <= block < stack[2])
    leaves = [leaf for group in groups.stack_groups(name) for leaf in jax.tree.leaves(params.get(group, {}))]
    return [leaf[(block - start) * len(leaf) // (stop - start)] for leaf in leaves]
