"""Whether written weights compute what the checkpoint computes, in this project's own forward pass.

Formats rebuild our parameters from their files. The rebuilt model is plain: nothing is shared, and
no branch has a factor.
"""

import functools

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np

from llm60_jax.checkpoint import Trained
from llm60_jax.config import Model
from llm60_jax.config.schema import to_tree, validate
from llm60_jax.errors import DamageError
from llm60_jax.export import weights
from llm60_jax.export.source import Source
from llm60_jax.model import groups

TOLERANCE = 1e-5  # of the largest logit; folding factors into matrices rounds them once more
_FLOAT32 = jnp.dtype(jnp.float32)
_LENGTH = 128  # positions
_TEXT = (
    "The people of the town walked along the old river, and nobody could say whose house had stood there first. "
    'In 1945 it was sold. "What remains," she wrote, "is the light in the morning and a garden that no one keeps."\n'
    "They remembered both of the winters, the long one and the other, although the books of that time are lost.\n"
)


def plain(model: Model) -> Model:
    """Return the architecture of a model's `Weights`: nothing shared, no factors."""
    return validate(Model, {**to_tree(model), "residual": "plain", "share_attention": 1, "share_mlp": 1}, "model")


def tokens(trained: Trained) -> np.ndarray:
    """Return BOS and the fixed text, cut at the context: int32 [1, T]."""
    ids = [trained.tokenizer.bos, *trained.tokenizer.encode(_TEXT)]
    return np.array([ids[: min(_LENGTH, trained.model.max_context)]], np.int32)


def logits(model: Model, params: groups.Params, tokens_BT: np.ndarray) -> np.ndarray:
    """Return the logits of a model for tokens from position 0, computed in float32: [B, T, V]."""
    with jax.default_matmul_precision("highest"):  # a GPU would multiply in TF32
        return np.asarray(_logits(model, params, jnp.asarray(tokens_BT)))


@functools.partial(jax.jit, static_argnums=0)
def _logits(model: Model, params: groups.Params, tokens_BT: jax.Array) -> jax.Array:
    network = groups.merge(model, params)
    outputs = network(tokens_BT, jnp.ones_like(tokens_BT), dtype=_FLOAT32)
    return network.logits(outputs.hidden_BTD, _FLOAT32)


def require(source: Source, params: groups.Params, where: str) -> float:
    """Compare rebuilt parameters with the checkpoint; return the largest difference of a logit.

    Args:
      params: of the `plain` model, as float32 arrays.
      where: the file that they come from.

    Raises:
      DamageError: an array or a logit differs from that of the checkpoint.
    """
    trained = source.trained
    rebuilt = plain(trained.model)
    expected = groups.abstract_params(rebuilt)
    if jax.tree.map(jnp.shape, params) != jax.tree.map(lambda leaf: leaf.shape, expected):
        raise DamageError(f"{where}: holds other arrays than the model")
    pairs = zip(weights.of(rebuilt, params).arrays(), source.weights.arrays(), strict=True)
    for (place, array), (_, wanted) in pairs:
        if array.shape != wanted.shape or array.tobytes() != rounded(wanted, source.type).tobytes():
            raise DamageError(f"{where}: {place} differs from the checkpoint")
    tokens_BT = tokens(trained)
    own_BTV = logits(trained.model, trained.plain_params, tokens_BT)
    difference = float(np.abs(logits(rebuilt, params, tokens_BT) - own_BTV).max())
    if source.type == "float32" and not difference <= TOLERANCE * float(np.abs(own_BTV).max()):
        raise DamageError(f"{where}: its logits differ from the checkpoint's by {difference:.2g}")
    return difference


def rounded(array: np.ndarray, type: str) -> np.ndarray:
    """Return float32 numbers as they are after rounding to bfloat16, or unchanged for float32."""
    if type == "bfloat16":
        return array.astype(ml_dtypes.bfloat16).astype(np.float32)
    return array
