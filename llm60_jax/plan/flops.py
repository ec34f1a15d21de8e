"""The operations of the matrix products in one train step, predicted by formula. No jax.

`training/counted_flops.py` counts the same products in the program itself, and `training/proof.py`
requires that both numbers agree. A product of [m, k] with [k, n] takes two operations for each
multiplication. Attention is counted as it is computed: in chunks of queries, each with the keys
that it may see.
"""

from fractions import Fraction
from typing import NamedTuple

from llm60_jax.config import Model
from llm60_jax.plan import native
from llm60_jax.plan.step_key import StepKey, tap_depths

ATTENTION_CHUNK = 128  # positions


def step_flops(model: Model, key: StepKey, fused: bool = False) -> int:
    """Return the operations of one step.

    Every block that there is so far has a forward pass, except frozen blocks whose outputs are
    cached. A live block also recomputes what its remat policy drops, and has a backward pass: one
    product for the gradient of the inputs, and one for each matrix that trains. Each head has the
    logits, the gradient of the hidden states and, if the embedding trains, the gradient of the
    embedding.

    Args:
      fused: whether a kernel computes attention. Its operations are left out then, as the count
        leaves them out.
    """
    if key.kernels == "native":
        return sum(native_by_part(model, key).values())
    model = model.lowest(key.blocks)
    per_token: Fraction = (model.layers - key.frozen_blocks) * _live_block(model, key, fused)
    if not key.prefix_cached:
        per_token += key.frozen_blocks * (
            _matrices(model) + 2 * (Fraction(0) if fused else _attention_product(model, key.context))
        )
        per_token += (key.frozen_blocks - key.adapted_from) * sum(_adapters(model, key).values())
    heads = 1 + len(tap_depths(model, key))
    per_token += heads * (4 if key.embedding_frozen else 6) * model.vocab_size * model.dim
    return int(key.tokens * per_token)


class NativeCounts(NamedTuple):
    """What the native kernels have to count in the live blocks of one step; zeros on XLA."""

    elements: int  # inside the MLPs, in a forward pass
    pairs: int  # causal pairs of positions, over all heads, in the backward pass


def native_counts(model: Model, key: StepKey) -> NativeCounts:
    """Return what the counts of the native kernels are shares of."""
    if key.kernels == "xla":
        return NativeCounts(0, 0)
    model = model.lowest(key.blocks)
    live = model.layers - key.frozen_blocks
    passes = 2 if key.remat == "full" else 1  # the forward pass of attention is done again there
    rows = key.micro_batch * key.accumulation
    pairs = rows * key.context * (key.context + 1) // 2 * model.heads
    return NativeCounts(key.tokens * live * model.mlp_width, passes * live * pairs)


def native_by_part(model: Model, key: StepKey) -> dict[str, int]:
    """Return the operations of one step that native kernels compute: all of them, or none on XLA."""
    if key.kernels == "xla":
        return {}
    model = model.lowest(key.blocks)
    shape = key.micro_batch, key.context
    blocks = native.live_block_flops(model, *shape, key.remat) * (model.layers - key.frozen_blocks)
    if not key.prefix_cached:
        blocks += native.block_flops(model, *shape) * key.frozen_blocks
    head = native.head_flops(model, key.micro_batch * key.context, trains=not key.embedding_frozen)
    heads = (1 + len(tap_depths(model, key))) * head
    return {"blocks": key.accumulation * blocks, "head": key.accumulation * heads}


def _matrices(model: Model) -> int:
    """Return the operations per token of one product with each matrix of a block."""
    return sum(2 * inputs * outputs for inputs, outputs in model.linears.values())


def _attention_product(model: Model, context: int, chunk: int = ATTENTION_CHUNK) -> Fraction:
    """Return the operations per token of one attention product, averaged over a row."""
    sizes = [min(chunk, context - start) for start in range(0, context, chunk)]
    pairs = sum(size * sum(sizes[: number + 1]) for number, size in enumerate(sizes))
    return Fraction(2 * pairs * model.dim, context)


def _live_block(model: Model, key: StepKey, fused: bool) -> Fraction:
    """Return the operations per token of a live block: forward, recomputation and backward."""
    adapters = _adapters(model, key)
    # With dropout, attention is computed whole, and kept for the backward pass if remat allows it.
    noisy = key.noise.attention > 0
    product = _attention_product(model, key.context, key.context if noisy else ATTENTION_CHUNK)
    if fused and not noisy:
        product = Fraction(0)
    forward = _matrices(model) + 2 * product + sum(adapters.values())
    trained = 2 if key.lora is None else 1  # a matrix under an adapter has no gradient
    backward = trained * _matrices(model) + 2 * sum(adapters.values()) + (4 if noisy else 5) * product
    return forward + backward + _recomputed(model, key, product, noisy)


def _recomputed(model: Model, key: StepKey, product: Fraction, noisy: bool) -> Fraction:
    """Return the operations per token of the products that remat drops and a gradient needs."""
    if key.remat == "none":
        return Fraction(0)
    adapters = _adapters(model, key)
    # The gradient of a residual's factor needs the output of its branch, the last product included.
    scaled = model.residual == "scaled" and key.lora is None
    again = {"attention.qkv", "attention.out", "mlp.up"} if key.remat != "products" else set()
    again |= {"attention.out", "mlp.down"} if scaled else set()
    total = {"full": 2 * product}.get(key.remat, product if noisy else Fraction(0))
    for name, (inputs, outputs) in model.linears.items():
        if name in again:
            total += 2 * inputs * outputs + adapters.get(name, 0)
        elif name in adapters and key.lora is not None:
            total += 2 * key.lora.rank * inputs  # x A, which the gradient of B needs
    return total


def _adapters(model: Model, key: StepKey) -> dict[str, int]:
    """Return the forward operations per token of each adapter of a block: x A and (x A) B."""
    if key.lora is None:
        return {}
    return {name: 2 * key.lora.rank * sum(model.linears[name]) for name in key.lora.targets}
