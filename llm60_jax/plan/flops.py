"""Operations of matrix products in one train step, by formula. No jax.

`flops.count` counts the same in the program itself; the two must agree (proof.py). Two operations for each
multiplication of [m, k] with [k, n]. Attention is counted as it is computed: in chunks of queries, each with the keys
that it may see.
"""

from fractions import Fraction

from llm60_jax.config import Model
from llm60_jax.plan.step_key import StepKey, tap_depths

ATTENTION_CHUNK = 128  # positions


def step_flops(model: Model, key: StepKey, fused: bool = False) -> int:
    """Operations of one step.

    A forward pass for every block, unless the frozen ones' outputs are cached. For a live block what its remat policy
    computes again and a backward pass: one product with respect to the inputs, and one with respect to each matrix that
    trains. For each head the logits, their gradient's way to the hidden states and, if it trains, to the embedding.

    Args:
      fused: attention is done by a kernel, whose operations are left out, as `flops.count` leaves them out.
    """
    per_token: Fraction = (model.layers - key.frozen_blocks) * _live_block(model, key, fused)
    if not key.prefix_cached:
        per_token += key.frozen_blocks * (
            _matrices(model) + 2 * (Fraction(0) if fused else _attention_product(model, key.context))
        )
        per_token += (key.frozen_blocks - key.adapted_from) * sum(_adapters(model, key).values())
    heads = 1 + len(tap_depths(model, key))
    per_token += heads * (4 if key.embedding_frozen else 6) * model.vocab_size * model.dim
    return int(key.tokens * per_token)


def _matrices(model: Model) -> int:
    """Per token: one product with each matrix of a block."""
    return sum(2 * inputs * outputs for inputs, outputs in model.linears.values())


def _attention_product(model: Model, context: int, chunk: int = ATTENTION_CHUNK) -> Fraction:
    """Per token, on average over a row: one of the products of attention, scores or weighted values."""
    sizes = [min(chunk, context - start) for start in range(0, context, chunk)]
    pairs = sum(size * sum(sizes[: number + 1]) for number, size in enumerate(sizes))
    return Fraction(2 * pairs * model.dim, context)


def _live_block(model: Model, key: StepKey, fused: bool) -> Fraction:
    """Per token of a live block: forward, backward, and what is computed again in between."""
    adapters = _adapters(model, key)
    noisy = (
        key.noise.attention > 0
    )  # computed whole then, and kept for the backward pass where remat does not forbid it
    product = _attention_product(model, key.context, key.context if noisy else ATTENTION_CHUNK)
    if fused and not noisy:
        product = Fraction(0)
    forward = _matrices(model) + 2 * product + sum(adapters.values())
    trained = 2 if key.lora is None else 1  # under an adapter the matrix itself has no gradient
    backward = trained * _matrices(model) + 2 * sum(adapters.values()) + (4 if noisy else 5) * product
    return forward + backward + _recomputed(model, key, product, noisy)


def _recomputed(model: Model, key: StepKey, product: Fraction, noisy: bool) -> Fraction:
    """Per token of a live block: the products that the remat policy does not keep and that a gradient needs."""
    if key.remat == "none":
        return Fraction(0)
    adapters = _adapters(model, key)
    # The factor of a scaled residual has a gradient that needs its branch's output, the block's last product included.
    scaled = model.residual == "scaled" and key.lora is None
    again = {"attention.qkv", "attention.out", "mlp.up"} if key.remat != "products" else set()
    again |= {"attention.out", "mlp.down"} if scaled else set()
    total = {"full": 2 * product}.get(key.remat, product if noisy else Fraction(0))
    for name, (inputs, outputs) in model.linears.items():
        if name in again:
            total += 2 * inputs * outputs + adapters.get(name, 0)
        elif name in adapters and key.lora is not None:
            total += 2 * key.lora.rank * inputs  # x A, which B's gradient needs
    return total


def _adapters(model: Model, key: StepKey) -> dict[str, int]:
    """Per token of an adapted block: the forward products of each adapter, x A and (x A) B."""
    if key.lora is None:
        return {}
    return {name: 2 * key.lora.rank * sum(model.linears[name]) for name in key.lora.targets}
