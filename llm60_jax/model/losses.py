"""Named loss terms. `TERMS` lists them; `objective` adds them with a phase's weights.

A term sums over tokens. The step divides by the weights of the whole batch, so accumulated
micro-batches equal one large batch exactly.

Shape suffixes: N tokens (B x T, flat), n tokens of one chunk, D model width, V vocabulary.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from llm60_jax.config.schema import Kernels
from llm60_jax.model import native, target
from llm60_jax.model.matmul import matmul, matmul_nt, transposed

Array = jax.Array
# Tokens whose logits exist at the same time. A CPU's caches like few: 256 x 32,000 float32 are 33 MB. A GPU or TPU
# waits between chunks, so it takes a micro-batch at once, up to 4,096 tokens (524 MB).
CPU_CHUNK, ACCELERATOR_CHUNK = 256, 4096


class Sums(NamedTuple):
    """Two sums of the same cross-entropies, in nats, float32 scalars, and their evidence.

    Only `weighted` has a gradient.
    """

    weighted: Array  # over all tokens, each times its weight
    plain: Array  # over the tokens with a weight above 0, each once
    counts: Array  # what the native kernels did, zeros without them (kernels/calls.py)


class LossInputs(NamedTuple):
    """The inputs of all loss terms, for one micro-batch."""

    hidden_ND: Array  # float32, final hidden states
    tapped_ND: Sequence[Array]  # float32, normed hidden states of the heads below the top
    embedding_VD: Array  # float32
    targets_N: Array  # int32
    weights_N: Array  # float32
    dtype: jnp.dtype = jnp.dtype(jnp.bfloat16)  # of the operands of matrix products
    kernels: Kernels = "xla"  # what computes the heads


def _chunked(x: Array) -> Array:
    """Cut into the device's chunks: [N, ...] -> [chunks, tokens of one, ...], padded with zeros."""
    most = CPU_CHUNK if target.platform() == "cpu" else ACCELERATOR_CHUNK
    chunks = -(-len(x) // most)
    size = -(-len(x) // chunks)
    padded = jnp.pad(x, [(0, chunks * size - len(x))] + [(0, 0)] * (x.ndim - 1))
    return padded.reshape(chunks, size, *x.shape[1:])


def token_losses(
    hidden_ND: Array, embedding_VD: Array, targets_N: Array, dtype: jnp.dtype, kernels: Kernels = "xla"
) -> Array:
    """Return the negative log-likelihood of each target in nats, float32 [N].

    It works in chunks and is not meant to be differentiated; `next_token` is.
    """
    return _TOKEN_LOSSES[kernels](hidden_ND, embedding_VD, targets_N, dtype)


def _token_losses(hidden_ND: Array, embedding_VD: Array, targets_N: Array, dtype: jnp.dtype) -> Array:

    def chunk(_, piece):
        hidden, targets = piece
        logits = matmul_nt(hidden, embedding_VD, dtype)
        chosen = jnp.take_along_axis(logits, targets[:, None], axis=1)[:, 0]
        return None, jax.nn.logsumexp(logits, axis=1) - chosen

    losses = jax.lax.scan(chunk, None, (_chunked(hidden_ND), _chunked(targets_N)))[1]
    return losses.reshape(-1)[: len(targets_N)]


_TOKEN_LOSSES = {"xla": _token_losses, "native": native.token_losses}


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def next_token(
    hidden_ND: Array,
    embedding_VD: Array,
    targets_N: Array,
    weights_N: Array,
    dtype: jnp.dtype = jnp.dtype(jnp.bfloat16),
    kernels: Kernels = "xla",
) -> Sums:
    """Sum the cross-entropies under the tied head.

    The forward pass forms the logits' gradient chunk by chunk. So all logits never exist at once,
    and the head's product runs only once. An input without a gradient (a frozen embedding) costs no
    product. Weights are constants.
    """
    nll_N = token_losses(hidden_ND, embedding_VD, targets_N, dtype, kernels)
    return Sums(jnp.sum(nll_N * weights_N), jnp.sum(nll_N * (weights_N > 0)), native.no_evidence())


def _next_token_forward(hidden: Any, embedding: Any, targets: Any, weights: Any, dtype: jnp.dtype, kernels: Kernels):
    return _FORWARDS[kernels](hidden, embedding, targets, weights, dtype)


def _forward_native(hidden: Any, embedding: Any, targets: Any, weights: Any, dtype: jnp.dtype):
    wanted = hidden.perturbed, embedding.perturbed
    nll_N, d_hidden, d_embedding, counts = native.head(
        hidden.value, embedding.value, targets.value, weights.value, dtype, wanted
    )
    sums = Sums(jnp.sum(nll_N * weights.value), jnp.sum(nll_N * (weights.value > 0)), counts)
    return sums, (d_hidden, d_embedding)


def _forward(hidden: Any, embedding: Any, targets: Any, weights: Any, dtype: jnp.dtype):
    table_DV = transposed(embedding.value.astype(dtype))  # on a CPU this speeds up both products
    hidden_ND, targets_N, weights_N = hidden.value.astype(dtype), targets.value, weights.value
    vocabulary = np.arange(table_DV.shape[1], dtype=np.int32)

    def chunk(carry, piece):
        sums, d_embedding = carry
        hidden_nD, targets_n, weights_n = piece
        logits = matmul(hidden_nD, table_DV, dtype)
        top = logits.max(axis=1, keepdims=True)
        exponentials = jnp.exp(logits - top)
        total = exponentials.sum(axis=1, keepdims=True)
        chosen = jnp.take_along_axis(logits, targets_n[:, None], axis=1)
        nll_n = (top + jnp.log(total) - chosen)[:, 0]
        hits = vocabulary[None] == targets_n[:, None]
        d_logits = exponentials * (weights_n[:, None] / total) - jnp.where(hits, weights_n[:, None], 0)
        d_logits = jax.lax.optimization_barrier(d_logits.astype(dtype))
        if embedding.perturbed:
            # Sum it as [D, V]: hidden states are far smaller to transpose than d_logits.
            d_embedding = d_embedding + matmul(transposed(hidden_nD), d_logits, dtype)
        d_hidden = matmul_nt(d_logits, table_DV, dtype) if hidden.perturbed else None
        weighted, plain = jnp.sum(nll_n * weights_n), jnp.sum(nll_n * (weights_n > 0))
        sums = Sums(sums.weighted + weighted, sums.plain + plain, sums.counts)
        return (sums, d_embedding), d_hidden

    zero = jnp.zeros(table_DV.shape, jnp.float32) if embedding.perturbed else None
    start = Sums(jnp.float32(0), jnp.float32(0), native.no_evidence()), zero
    (sums, d_embedding), d_hidden = jax.lax.scan(chunk, start, (*map(_chunked, (hidden_ND, targets_N, weights_N)),))
    if d_hidden is not None:
        d_hidden = d_hidden.reshape(-1, hidden_ND.shape[1])[: len(targets_N)]
    return sums, (d_hidden, None if d_embedding is None else d_embedding.T)


_FORWARDS = {"xla": _forward, "native": _forward_native}


def _next_token_backward(dtype, kernels, saved, g: Sums):
    return *(None if d is None else g.weighted * d for d in saved), None, None


next_token.defvjp(_next_token_forward, _next_token_backward, symbolic_zeros=True)


def _next_token(batch: LossInputs, hidden_ND: Array) -> Sums:
    return next_token(hidden_ND, batch.embedding_VD, batch.targets_N, batch.weights_N, batch.dtype, batch.kernels)


def _deep_supervision(batch: LossInputs) -> Sums:
    """Average over the heads below the top, each with its own norm (Lee et al. 2015)."""
    heads = [_next_token(batch, x) for x in batch.tapped_ND]
    weighted, plain, counts = (sum(values) for values in zip(*heads, strict=True))
    return Sums(weighted / len(heads), plain / len(heads), counts)


TERMS: dict[str, Callable[[LossInputs], Sums]] = {
    "next_token": lambda batch: _next_token(batch, batch.hidden_ND),
    "deep_supervision": _deep_supervision,
}


def objective(batch: LossInputs, weights: dict[str, float]) -> tuple[Array, dict[str, Sums]]:
    """Return the training objective, and each of its terms.

    The objective is the weighted sum of the terms with a weight above 0, a float32 scalar.
    """
    terms = {name: term(batch) for name, term in TERMS.items() if weights.get(name)}
    total = jnp.float32(0) + sum(weights[name] * sums.weighted for name, sums in terms.items())
    return total, terms
