"""The native kernels as functions of JAX arrays, with their derivatives.

`stack` stands for a scan over blocks (model/transformer.py), `head` for the tied head with its loss
(model/losses.py), `write` and `logits` for one token of generated text (generate.py), `orthogonalized`
for Muon's products (training/optim.py). sources/ has the C++. Widths are multiples of 32, heads have 32,
64 or 128; `plan.native` says what else the kernels claim.

Evidence: each call returns counts of what it did, float32 [3, LIMBS]: operations of products, pairs of
(query, key) that attention allowed, elements that dropout set to zero. `total` reads them; those of
65,536 calls add up exactly. A backward pass can return nothing but gradients, so its counts are the
gradient of `evidence`.

Shape suffixes: L blocks, B sequences, T positions, N tokens, D width, F MLP width, U columns of the
up-projection (F, or 2 F with a gate), V vocabulary, S cached positions, K head width, n matrices of I
rows and O columns.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from llm60_jax.plan.native import WIDTH

Array = jax.Array
LIMBS = 8  # of 8 bits each, the lowest first


class Settings(NamedTuple):
    """What is static about a stack; hashable."""

    heads: int
    gated: bool  # SwiGLU instead of GELU
    keeps: tuple[str, ...]  # of "attention", "rest": what the forward pass keeps besides the blocks' inputs
    dropout: float  # rate in the MLP
    dropout_width: int  # of the MLP before it was padded
    dtype: str  # of the operands of products: bfloat16, or float32


class Weights(NamedTuple):
    """The parameters of a stack, float32."""

    attention_scale_LD: Array
    attention_bias_LD: Array
    mlp_scale_LD: Array
    mlp_bias_LD: Array
    qkv_LDE: Array  # [L, D, 3 D]
    out_LDD: Array
    up_LDU: Array
    down_LFD: Array

    @property
    def norms(self) -> tuple[Array, ...]:
        return self[:4]

    @property
    def matrices(self) -> tuple[Array, ...]:
        return self[4:]


class Context(NamedTuple):
    """What the blocks of a stack share."""

    cos_TK: Any  # float32 [T, K / 2]
    sin_TK: Any
    segments_BT: Array  # int32 document number of each token
    dropout_L2: Array  # uint32, model/noise.py's two numbers of each block's PRNG key


def no_evidence() -> Array:
    """Return counts of nothing."""
    return jnp.zeros((3, LIMBS))


def total(counts: Any) -> list[int]:
    """Return operations, allowed pairs and dropped elements of summed counts."""
    limbs = np.asarray(counts, np.float64).astype(np.int64)
    return [sum(int(limb) << (8 * place) for place, limb in enumerate(row)) for row in limbs]


def share(counts_of_one: Array) -> Array:
    """Return one kind of count as a float32 scalar, rounded."""
    return (counts_of_one * 256.0 ** np.arange(LIMBS)).sum()


def padded(x: Array, axis: int) -> Array:
    """Pad an axis with zeros to a multiple of WIDTH."""
    more = -x.shape[axis] % WIDTH
    return jnp.pad(x, [(0, more if a == axis % x.ndim else 0) for a in range(x.ndim)]) if more else x


# --- Stack ------------------------------------------------------------------------------------------


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def stack(
    settings: Settings, x_BTD: Array, weights: Weights, context: Context, evidence: Array, sums: Weights | None
) -> tuple[Array, Array]:
    """Run all blocks of a stack: the residual stream [B, T, D], float32, and counts of the forward pass.

    The weights have no gradient of their own: that of `sums` is the sums with this call's gradients
    added, in the same memory. So a loop over micro-batches moves no gradient twice.

    Args:
      evidence: zeros; their gradient is the counts of the backward pass.
      sums: gradients of the weights in earlier calls. None where nothing is differentiated.
    """
    y_BTD, _, counts = _stack_forward(settings, x_BTD, weights, context, None)
    return y_BTD, counts


def _stack_forward(settings: Settings, x_BTD: Array, weights: Weights, context: Context, keeps: tuple[str, ...] | None):
    """Return the stack's result, what it keeps (nothing at all for None), and counts."""
    B, T, D = x_BTD.shape
    L, N, U, H = len(weights.out_LDD), B * T, weights.up_LDU.shape[2], settings.heads
    operand, float32 = _bits(settings.dtype), jnp.float32

    def kept(shape: tuple[int, ...], dtype: Any, name: str) -> jax.ShapeDtypeStruct:
        is_kept = keeps is not None and (name in keeps or name == "inputs")
        return jax.ShapeDtypeStruct(shape if is_kept else (0,), dtype)

    results = (
        jax.ShapeDtypeStruct((B, T, D), float32),
        kept((L - 1, B, T, D), float32, "inputs"),
        kept((L, N, 3 * D), operand, "rest"),
        kept((L, N, D), operand, "attention"),
        kept((L, B, H, T), float32, "attention"),
        kept((L, N, D), float32, "rest"),
        kept((L, N, U), operand, "rest"),
        _counts(),
    )
    call = jax.ffi.ffi_call(f"llm60_stack_forward_{settings.dtype}", results)
    packed = _packed(settings, weights, transposed=False)
    y_BTD, *all_kept, counts = call(
        x_BTD, *_context(context), *weights.norms, context.dropout_L2, *packed, **_attributes(settings, weights)
    )
    return y_BTD, (packed, all_kept), counts


def _stack_fwd(
    settings: Settings, x_BTD: Array, weights: Weights, context: Context, evidence: Array, sums: Weights | None
):
    y_BTD, kept, counts = _stack_forward(settings, x_BTD, weights, context, settings.keeps)
    return (y_BTD, counts), (x_BTD, weights, context, kept, sums)


def _stack_bwd(settings: Settings, saved, gradients):
    x_BTD, weights, context, (packed, kept), sums = saved
    d_y_BTD, _ = gradients
    arguments = [x_BTD, *_context(context), *weights.norms, context.dropout_L2, *packed]
    arguments += [*_packed(settings, weights, transposed=True), *kept, d_y_BTD]
    results = (*(jax.ShapeDtypeStruct(x.shape, x.dtype) for x in (x_BTD, *sums)), _counts())
    in_place = {len(arguments) + number: 1 + number for number in range(len(sums))}
    call = jax.ffi.ffi_call(f"llm60_stack_backward_{settings.dtype}", results, input_output_aliases=in_place)
    d_x_BTD, *new_sums, counts = call(*arguments, *sums, **_attributes(settings, weights))
    return d_x_BTD, None, None, counts, Weights(*new_sums)


stack.defvjp(_stack_fwd, _stack_bwd)


def _context(context: Context) -> tuple[Array, ...]:
    return jnp.asarray(context.cos_TK), jnp.asarray(context.sin_TK), context.segments_BT


def _attributes(settings: Settings, weights: Weights) -> dict[str, Any]:
    return {
        "heads": np.int64(settings.heads),
        "hidden": np.int64(weights.down_LFD.shape[1]),
        "gated": settings.gated,
        "threshold": np.int64(round(settings.dropout * 2**32)),
        "scale": np.float32(1 / (1 - settings.dropout)),
        "dropout_width": np.int64(settings.dropout_width),
    }


def _packed(settings: Settings, weights: Weights, transposed: bool) -> list[Array]:
    """Return all matrices of a stack as a product's right operands, or their transposes.

    RoPE needs both halves of a head side by side, SwiGLU a gate and its value.
    """
    D, U = weights.up_LDU.shape[1:]
    groups = (D // settings.heads, 0, U if settings.gated else 0, 0)
    return [
        _pack(w, transposed, 0 if transposed else group, settings.dtype)
        for w, group in zip(weights.matrices, groups, strict=True)
    ]


def _pack(w_nIO: Array, transposed: bool, group: int, dtype: str) -> Array:
    n, rows, columns = w_nIO.shape
    units = rows * columns * jnp.dtype(dtype).itemsize // 4
    call = jax.ffi.ffi_call(f"llm60_pack_{dtype}", jax.ShapeDtypeStruct((n, units), jnp.uint32))
    return call(w_nIO, transposed=transposed, group=np.int64(group))


def _bits(dtype: str) -> Any:
    """Return the dtype of kept operands: bfloat16 travels as bits, which a CPU moves faster."""
    return jnp.uint16 if jnp.dtype(dtype).itemsize == 2 else jnp.float32


def _counts() -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((3, LIMBS), jnp.float32)


# --- Head -------------------------------------------------------------------------------------------


class HeadResult(NamedTuple):
    """What the head computes in one call."""

    losses_N: Array  # float32, negative log-likelihoods in nats
    d_hidden_ND: Array | None  # gradient of the sum of weight times loss
    d_table_VD: Array | None
    counts: Array


def head(
    hidden_ND: Array, table_VD: Array, targets_N: Array, weights_N: Array, dtype: str, wanted: tuple[bool, bool]
) -> HeadResult:
    """Return the losses of the targets under the tied head, and the gradients that are `wanted`.

    Args:
      wanted: of the hidden states, of the table.
    """
    (N, D), size = hidden_ND.shape, len(table_VD)
    padded_VD = padded(table_VD, 0)
    shapes = [(N,), (N, D) if wanted[0] else (0,), padded_VD.shape if wanted[1] else (0,)]
    results = (*(jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes), _counts())
    by_piece = _pack(padded_VD[None], True, 0, dtype)
    by_width = _pack(padded_VD[None], False, 0, dtype) if wanted[0] else jnp.zeros(0, jnp.uint32)
    call = jax.ffi.ffi_call(f"llm60_head_{dtype}", results)
    losses_N, d_hidden, d_table, counts = call(
        hidden_ND, padded_VD, by_piece, by_width, targets_N, weights_N, vocabulary=np.int64(size)
    )
    return HeadResult(losses_N, d_hidden if wanted[0] else None, d_table[:size] if wanted[1] else None, counts)


# --- Optimizer --------------------------------------------------------------------------------------


def orthogonalized(x_nIO: Array, matrices: int, dtype: str) -> Array:
    """Return matrices made nearly orthogonal, each by itself, times their own Frobenius norms, float32 [n, I, O].

    Five Newton-Schulz steps bring all singular values near 1 (Jordan 2024).

    Args:
      matrices: how many stand side by side in the last axis.
      dtype: of the operands of products.
    """
    n, inputs, outputs = x_nIO.shape
    width = outputs // matrices
    x = padded(padded(x_nIO.reshape(n, inputs, matrices, width), 1), 3)
    result = jax.ShapeDtypeStruct(x.shape, jnp.float32)
    y = jax.ffi.ffi_call(f"llm60_orthogonalize_{dtype}", result)(x)
    return y[:, :inputs, :, :width].reshape(x_nIO.shape)


# --- Writing ----------------------------------------------------------------------------------------


def write(
    x_BD: Array,
    rope: tuple[Array, Array],
    weights: Weights,
    position: Array,
    caches: tuple[Array, Array],
    heads: int,
    gated: bool,
) -> tuple[Array, tuple[Array, Array]]:
    """Advance one token of each row through a stack, in float32.

    Args:
      rope: cosines and sines of this position, [K / 2] each.
      position: int32 scalar.
      caches: keys and values, [L, B, H, S, K] each; they are updated in place.

    Returns:
      The residual stream [B, D], and the caches with this position.
    """
    keys, values = caches
    results = tuple(jax.ShapeDtypeStruct(x.shape, jnp.float32) for x in (x_BD, keys, values))
    # keys and values are arguments 12 and 13
    call = jax.ffi.ffi_call("llm60_write", results, input_output_aliases={12: 1, 13: 2})
    attributes = {"heads": np.int64(heads), "hidden": np.int64(weights.down_LFD.shape[1]), "gated": gated}
    y_BD, keys, values = call(x_BD, *rope, *weights, position, keys, values, **attributes)
    return y_BD, (keys, values)


def logits(x_BD: Array, table_VD: Array) -> Array:
    """Return the logits of one position of each row, float32 [B, V]."""
    result = jax.ShapeDtypeStruct((len(x_BD), len(table_VD)), jnp.float32)
    return jax.ffi.ffi_call("llm60_logits", result)(x_BD, table_VD)
