"""A trained model as plain NumPy arrays, as the formats of other tools want it.

Adapters are merged, parts that neighbouring blocks share are repeated, and the factors of scaled
residuals are folded into the last matrix of their branch, which is linear in them; so is the scale of
the embedding. What is left is a plain pre-LN decoder with rotary positions over the two halves of each head.

Shape suffixes: V vocabulary, D model width, F MLP width, O outputs and I inputs of a matrix.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from llm60_jax.config import Model
from llm60_jax.model import groups


class Norm(NamedTuple):
    """A LayerNorm, eps 1e-5."""

    scale_D: np.ndarray
    bias_D: np.ndarray


class Block(NamedTuple):
    """A block. Matrices are [outputs, inputs], the transpose of this project's own kernels."""

    attention_norm: Norm
    query_OI: np.ndarray
    key_OI: np.ndarray
    value_OI: np.ndarray
    out_OI: np.ndarray
    mlp_norm: Norm
    gate_OI: np.ndarray | None  # SwiGLU only: SiLU of its product gates that of `up_OI`
    up_OI: np.ndarray
    down_OI: np.ndarray


class Weights(NamedTuple):
    """All parameters, float32."""

    embedding_VD: np.ndarray
    blocks: tuple[Block, ...]  # bottom first
    norm: Norm  # before the head
    head_VD: np.ndarray | None  # None where the embedding is also the head; else the embedding is this times a scale

    def written_head(self, model: Model) -> np.ndarray | None:
        """Return the head of a file of another tool; None if the tool takes the embedding.

        transformers, mlx-lm and llama.cpp do so for GELU models only.
        """
        return self.embedding_VD if self.head_VD is None and model.mlp == "swiglu" else self.head_VD

    def arrays(self) -> Iterator[tuple[str, np.ndarray]]:
        """Yield each array with its place, such as `blocks.3.up_OI`."""
        yield from _arrays("", self)


def of(config: Model, params: groups.Params) -> Weights:
    """Return the weights of a plain model (`Trained.plain_params`), as contiguous arrays."""
    network = groups.merge(config, params)
    blocks: list[Block] = []
    for name, start, stop in config.named_stacks:
        stack = getattr(network, name)
        out_LIO = stack.attention_residual.folded(stack.attention.out.kernel[...])
        down_LIO = stack.mlp_residual.folded(stack.mlp.down.kernel[...])
        for number in range(stop - start):
            query_IO, key_IO, value_IO = np.split(np.asarray(stack.attention.qkv.kernel[...][number]), 3, axis=1)
            up_IO = np.asarray(stack.mlp.up.kernel[...][number])
            gate_IO, up_IO = np.split(up_IO, 2, axis=1) if stack.mlp.is_gated else (None, up_IO)
            blocks.append(
                Block(
                    attention_norm=_norm(stack.attention_norm, number),
                    query_OI=_transposed(query_IO),
                    key_OI=_transposed(key_IO),
                    value_OI=_transposed(value_IO),
                    out_OI=_transposed(out_LIO[number]),
                    mlp_norm=_norm(stack.mlp_norm, number),
                    gate_OI=None if gate_IO is None else _transposed(gate_IO),
                    up_OI=_transposed(up_IO),
                    down_OI=_transposed(down_LIO[number]),
                )
            )
    norm = Norm(np.asarray(network.norm.scale[...]), np.asarray(network.norm.bias[...]))
    table_VD, scale = np.asarray(network.embedding[...]), np.float32(config.embedding_scale)
    return Weights(scale * table_VD, tuple(blocks), norm, None if scale == 1 else table_VD)


def _norm(norm: Any, number: int) -> Norm:
    return Norm(np.asarray(norm.scale[...][number]), np.asarray(norm.bias[...][number]))


def _transposed(kernel_IO: Any) -> np.ndarray:
    return np.ascontiguousarray(np.asarray(kernel_IO).T)


def _arrays(place: str, value: Any) -> Iterator[tuple[str, np.ndarray]]:
    if isinstance(value, np.ndarray):
        yield place, value
    elif value is not None:
        names = getattr(value, "_fields", range(len(value)))
        for name, part in zip(names, value, strict=True):
            yield from _arrays(f"{place}.{name}" if place else str(name), part)
