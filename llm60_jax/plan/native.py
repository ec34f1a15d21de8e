"""What the native kernels claim, and the operations of a step that they compute. No jax.

All refusals are here. What is not claimed runs on plain XLA, and the run says why. The kernels also
need a CPU and a compiler; `kernels/choice.py` sees to that.
"""

from llm60_jax.config import Lora, Model
from llm60_jax.config.schema import Remat

HEAD_DIMS = (32, 64, 128)
WIDTH = 32  # the kernels' widths are multiples; the MLP's and the vocabulary's are padded to one
_BLOCK = 32  # queries, or keys, that attention takes together; as many tokens are padded to
_NOISE = {"attention": "attention_dropout", "drop_path": "drop_path", "activation": "activation_noise"}


def unclaimed(model: Model) -> str | None:
    """Return why the kernels do not claim an architecture; None if they do."""
    if model.dim % WIDTH:
        return f"model.dim is {model.dim}, and the native kernels take multiples of {WIDTH}"
    if model.head_dim not in HEAD_DIMS:
        widths = ", ".join(map(str, HEAD_DIMS))
        return f"model.heads makes heads {model.head_dim} wide, and the native kernels take widths of {widths}"
    return None


def unclaimed_step(noise: dict[str, float], lora: Lora | None) -> str | None:
    """Return why the kernels do not claim a train step of an architecture that they claim; None if they do.

    Args:
      noise: rates, by the fields of `plan.Noise`.
    """
    if lora is not None:
        return "adapters (lora) train on plain XLA"
    used = [field for name, field in _NOISE.items() if noise[name]]
    return f"{' and '.join(used)} {'need' if len(used) > 1 else 'needs'} plain XLA" if used else None


def block_flops(model: Model, rows: int, context: int) -> int:
    """Return the operations of a block's forward pass for a micro-batch [rows, context]."""
    attention = _attention_product(model, context, by_queries=True)
    return rows * (context * sum(_matrices(model).values()) + 2 * attention)


def live_block_flops(model: Model, rows: int, context: int, remat: Remat) -> int:
    """Return the operations of a block that trains, for a micro-batch: forward, recomputed, backward.

    The gradients of matrices are products over all tokens, in whole blocks.
    """
    matrices, tokens = _matrices(model), rows * context
    by_queries, by_keys = (rows * _attention_product(model, context, by_queries=way) for way in (True, False))
    backward = (tokens + padded(tokens)) * sum(matrices.values()) + 4 * by_keys + by_queries
    again = {"full": 2 * by_queries}.get(remat, 0)
    if remat in ("full", "attention"):
        again += tokens * (sum(matrices.values()) - matrices["mlp.down"])
    return block_flops(model, rows, context) + again + backward


def head_flops(model: Model, tokens: int, *, trains: bool) -> int:
    """Return the operations of a head for a micro-batch: the logits, the gradient of the hidden states and, if the
    embedding trains, that of the embedding."""
    return (2 * tokens + (padded(tokens) if trains else 0)) * 2 * padded(model.vocab_size) * model.dim


def padded(width: int) -> int:
    """Round a width, or a number of tokens, up to what the kernels compute."""
    return -(-width // WIDTH) * WIDTH


def _matrices(model: Model) -> dict[str, int]:
    """Return the operations for one token of a product with each matrix of a block."""
    return {name: 2 * padded(inputs) * padded(outputs) for name, (inputs, outputs) in _widths(model).items()}


def _widths(model: Model) -> dict[str, tuple[int, int]]:
    gate = 1 if model.mlp == "gelu" else 2  # both halves of a gated MLP are padded
    hidden = padded(model.mlp_width)
    return model.linears | {"mlp.up": (model.dim, gate * hidden), "mlp.down": (hidden, model.dim)}


def _attention_product(model: Model, context: int, *, by_queries: bool) -> int:
    """Return the operations of one attention product of all heads, for one row.

    A block of queries meets the keys up to its end, a block of keys the queries from its beginning; either side is
    padded to whole blocks.
    """
    whole = -(-context // _BLOCK) * _BLOCK
    pairs = 0
    for start in range(0, context, _BLOCK):
        rows = min(_BLOCK, context - start)
        pairs += rows * (start + _BLOCK if by_queries else whole - start)
    return 2 * pairs * model.dim
