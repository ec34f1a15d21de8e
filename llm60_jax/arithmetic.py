"""Operations of matrix products in one train step, by formula. No jax.

`flops.count` counts the same in the program itself; the two must agree (proof.py). Two operations for each
multiplication of [m, k] with [k, n]; a causal product is counted whole.
"""

from llm60_jax.config import Model
from llm60_jax.step_key import StepKey, tap_depths


def step_flops(model: Model, key: StepKey) -> tuple[int, int]:
    """Least and most operations of one step; equal but for the remat policy "dots", which keeps what it chooses.

    A forward pass for every block, unless the frozen ones' outputs are cached. For a live block its recomputation and
    a backward pass: one product with respect to the inputs, and one with respect to each matrix that trains. For each
    head the logits, their gradient's way to the hidden states and, if it trains, to the embedding.
    """
    live = model.layers - key.frozen
    forward, backward, recomputed = _block(model, key)
    per_token = live * (forward + backward)
    if not key.prefix_cached:
        per_token += key.frozen * _plain_forward(model, key.context)
        per_token += (key.frozen - key.adapted_from) * sum(_adapters(model, key).values())
    heads = 1 + len(tap_depths(model, key))
    per_token += heads * (4 if key.embedding_frozen else 6) * model.vocab_size * model.dim
    least, most = key.tokens * per_token, key.tokens * (per_token + live * recomputed)
    return {"full": (most, most), "none": (least, least), "dots": (least, most)}[key.remat]


def _plain_forward(model: Model, context: int) -> int:
    """Per token: a block's matrices, and the two products of attention."""
    return sum(2 * inputs * outputs for inputs, outputs in model.linears.values()) + 4 * context * model.dim


def _block(model: Model, key: StepKey) -> tuple[int, int, int]:
    """Per token of a live block: forward, backward, and what full remat computes again."""
    forward = _plain_forward(model, key.context)
    backward = 8 * key.context * model.dim
    inputs, outputs = model.linears["mlp.down"]
    last = 2 * inputs * outputs  # the block's last product, which no gradient needs again
    adapters = _adapters(model, key)
    for name, (inputs, outputs) in model.linears.items():
        trained = 2 if key.lora is None else 1  # under an adapter the matrix itself has no gradient
        forward += adapters.get(name, 0)
        backward += trained * 2 * inputs * outputs + 2 * adapters.get(name, 0)
    if "mlp.down" in adapters and key.lora is not None:
        last += 2 * key.lora.rank * model.dim
    # The factor of a scaled residual has a gradient that needs its branch's output.
    return forward, backward, forward if model.residual == "scaled" and key.lora is None else forward - last


def _adapters(model: Model, key: StepKey) -> dict[str, int]:
    """Per token of an adapted block: the forward products of each adapter, x A and (x A) B."""
    if key.lora is None:
        return {}
    return {name: 2 * key.lora.rank * sum(model.linears[name]) for name in key.lora.targets}
