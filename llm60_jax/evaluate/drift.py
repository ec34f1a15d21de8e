"""How much the blocks still change: the drift of their representations of a fixed text.

"Freeze early layers once they converge" (playbook, section 7) needs a measure of convergence. From
time to time the run takes the residual stream at the end of each stack, for the same held-out
tokens, and compares it with the last look:

    drift = mean((z - z_before) ** 2) / 2,    z standardised over the width at each position.

This is one minus the correlation: 0 for unchanged blocks, near 1 for unrelated representations. It
includes changes in the stacks below, because the blocks above have to follow them. The size of the
updates would show nothing here: Adafactor gives all of them the same size.
"""

from typing import Any

import jax
import jax.numpy as jnp

from llm60_jax.config import Lora, Model
from llm60_jax.model import groups, layers


def look(
    config: Model, lora: Lora | None, params: groups.Params, reference_SND: jax.Array, rows: dict[str, Any]
) -> tuple[jax.Array, jax.Array]:
    """Compare the present representations with the last ones.

    Args:
      config, lora, params: the model.
      reference_SND: the last representations, float32 [stacks, B x T, D]; those of stacks that the
        model does not have yet stay as they are.
      rows: tokens and segments, int32 [B, T]; padding (segment 0) does not count.

    Returns:
      The present representations, and the drift at the end of each stack that there is, float32.
    """
    outputs = groups.merge(config, params, lora)(rows["tokens"], rows["segments"])
    now_SND = jnp.stack([layers.standardised(outputs.stream[d]).reshape(-1, config.dim) for d in config.boundaries[1:]])
    counted_N = (rows["segments"] > 0).reshape(-1)
    before_SND, to_come_SND = jnp.split(reference_SND, [len(now_SND)])
    squares_SN = jnp.square(now_SND - before_SND).mean(-1) / 2
    drift_S = (squares_SN * counted_N).sum(-1) / jnp.maximum(counted_N.sum(), 1)
    return jnp.concatenate([now_SND, to_come_SND]), drift_S
