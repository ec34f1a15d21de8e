"""What each block of a deep model contributes: its share of the residual stream, and the loss read
at each depth.

Deep models waste depth (Gromov et al. 2024; Men et al. 2024): a block whose input and output are
nearly equal could be left out. The loss by depth reads the stream after each block through the
final norm and the tied head ("logit lens", nostalgebraist 2020). Neither was trained for this, so
the curve is an upper bound; its falls show which blocks matter.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from llm60_jax.config import Model
from llm60_jax.model import attention, groups, layers, losses
from llm60_jax.model.layers import Shared
from llm60_jax.plan import Noise

_FLOAT32 = jnp.dtype(jnp.float32)


class Depth(NamedTuple):
    """Contributions and losses of a model of L blocks."""

    contributions: tuple[float, ...]  # [L] RMS of what a block adds / RMS of its input
    # [L + 1] nats per token, read after 0, 1, ... L blocks; the last is the model's own loss
    losses: tuple[float, ...]

    def to_tree(self) -> dict[str, Any]:
        """Return the figures as JSON values."""
        return {
            "contributions": [round(x, 5) for x in self.contributions],
            "losses": [round(x, 4) for x in self.losses],
        }


def measure(config: Model, params: groups.Params, rows: dict[str, np.ndarray]) -> Depth:
    """Measure every block of a plain model, in float32 and without noise.

    Args:
      rows: tokens, targets, segments, weights, each [B, T]; targets of weight 0 do not count.
    """
    shares_L, nll_L = _measure(config, params, rows)
    return Depth(tuple(np.asarray(shares_L).tolist()), tuple(np.asarray(nll_L).tolist()))


@functools.partial(jax.jit, static_argnums=0)
def _measure(config: Model, params: groups.Params, rows: dict[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
    network = groups.merge(config, params)
    rope = layers.rope_tables(rows["tokens"].shape[1], config.head_dim, config.rope_base)
    shared = Shared(rope, attention.sight(rows["segments"]), Noise(), _FLOAT32)
    is_text_BT1 = (rows["segments"] > 0)[..., None]

    def read_loss(x_BTD: jax.Array) -> jax.Array:
        hidden_ND = network.norm(x_BTD).reshape(-1, config.dim)
        nll_N = losses.token_losses(hidden_ND, network.embedding[...], rows["targets"].reshape(-1), _FLOAT32)
        counted_N = rows["weights"].reshape(-1) > 0
        return (nll_N * counted_N).sum() / jnp.maximum(counted_N.sum(), 1)

    def size(x_BTD: jax.Array) -> jax.Array:
        return jnp.sqrt(jnp.where(is_text_BT1, jnp.square(x_BTD), 0).sum())

    x_BTD = network.embed(rows["tokens"])
    shares, nlls = [], [read_loss(x_BTD)[None]]
    for name, _, _ in config.named_stacks:
        static, stack = nnx.split(getattr(network, name))

        def body(x_BTD, block, static=static):
            after_BTD = nnx.merge(static, block)(x_BTD, shared)
            share = size(after_BTD - x_BTD) / jnp.maximum(size(x_BTD), 1e-30)
            return after_BTD, (share, read_loss(after_BTD))

        x_BTD, (share_n, nll_n) = jax.lax.scan(body, x_BTD, stack)
        shares.append(share_n)
        nlls.append(nll_n)
    return jnp.concatenate(shares), jnp.concatenate(nlls)
