"""Named loss terms over what the model returns.

A term is a function (hidden_ND, embedding_VD, targets_N, weights_N) -> weighted *sum* over tokens, float32 scalar. The
step divides by the weights of the whole batch, so that accumulated micro-batches equal one large batch exactly.
N counts tokens (B x T, flat), D is the width, V the vocabulary.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from llm60_jax.layers import matmul, matmul_nt, transposed

Array = jax.Array
CHUNK = 256  # tokens whose logits exist at one time: 256 x 32,000 float32 are 33 MB


def _chunked(x: Array) -> Array:
    """[N, ...] -> [pieces, at most CHUNK, ...], filled up with zeros."""
    pieces = -(-len(x) // CHUNK)
    size = -(-len(x) // pieces)
    padded = jnp.pad(x, [(0, pieces * size - len(x))] + [(0, 0)] * (x.ndim - 1))
    return padded.reshape(pieces, size, *x.shape[1:])


def token_losses(hidden_ND: Array, embedding_VD: Array, targets_N: Array, dtype: jnp.dtype) -> Array:
    """Negative log-likelihood of each target, float32 [N], in chunks. Not meant to be differentiated."""

    def chunk(_, piece):
        hidden, targets = piece
        logits = matmul_nt(hidden, embedding_VD, dtype)
        chosen = jnp.take_along_axis(logits, targets[:, None], axis=1)[:, 0]
        return None, jax.nn.logsumexp(logits, axis=1) - chosen

    losses = jax.lax.scan(chunk, None, (_chunked(hidden_ND), _chunked(targets_N)))[1]
    return losses.reshape(-1)[: len(targets_N)]


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def next_token(
    hidden_ND: Array,
    embedding_VD: Array,
    targets_N: Array,
    weights_N: Array,
    dtype: jnp.dtype = jnp.dtype(jnp.bfloat16),
) -> Array:
    """Weighted sum of cross-entropies under the tied head, in nats.

    The gradient with respect to the logits is formed chunk by chunk in the forward pass, so neither all logits nor
    their gradient ever exist and the head's product is not computed a second time. Weights are constants.
    """
    return jnp.vdot(token_losses(hidden_ND, embedding_VD, targets_N, dtype), weights_N)


def _next_token_forward(hidden_ND, embedding_VD, targets_N, weights_N, dtype):
    embedding = embedding_VD.astype(dtype)
    vocabulary = np.arange(embedding.shape[0], dtype=np.int32)

    def chunk(carry, piece):
        total, d_embedding = carry
        hidden, targets, weights = piece
        logits = matmul_nt(hidden, embedding, dtype)
        top = logits.max(axis=1, keepdims=True)
        exponentials = jnp.exp(logits - top)
        sums = exponentials.sum(axis=1, keepdims=True)
        chosen = jnp.take_along_axis(logits, targets[:, None], axis=1)
        nll = (top + jnp.log(sums) - chosen)[:, 0]
        d_logits = exponentials / sums - (vocabulary[None] == targets[:, None])
        d_logits = jax.lax.optimization_barrier((d_logits * weights[:, None]).astype(dtype))
        d_hidden = matmul(d_logits, embedding, dtype)
        # As [D, V], because hidden states are far smaller to transpose than the logits' gradient.
        d_embedding = d_embedding + matmul(transposed(hidden), d_logits, dtype)
        return (total + jnp.vdot(nll, weights), d_embedding), d_hidden

    start = jnp.float32(0), jnp.zeros(embedding.shape[::-1], jnp.float32)
    chunks = _chunked(hidden_ND.astype(dtype)), _chunked(targets_N), _chunked(weights_N)
    (total, d_embedding), d_hidden = jax.lax.scan(chunk, start, chunks)
    d_hidden = d_hidden.reshape(-1, hidden_ND.shape[1])[: len(targets_N)]
    return total, (d_hidden, d_embedding.T)


def _next_token_backward(dtype, saved, g):
    d_hidden, d_embedding = saved
    return g * d_hidden, g * d_embedding, None, None


next_token.defvjp(_next_token_forward, _next_token_backward)

TERMS: dict[str, Callable[..., Array]] = {"next_token": next_token}
