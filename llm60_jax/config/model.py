"""The architecture of a run. No jax."""

import itertools
import math
from typing import Annotated, Literal

from pydantic import Field

from llm60_jax.config.schema import Positive, record, require

INIT_STD = 0.02  # standard deviation of the initial weights (model/transformer.py)


@record
class Model:
    """The architecture, fixed for a run. Its parameter count is a closed formula.

    The last four fields are enhancements (playbook, section 16). Their defaults are neutral and
    cost nothing.
    """

    vocab_size: Annotated[int, Field(ge=320, le=65_536)]  # fits uint16; at least 256 byte and 4 control pieces
    layers: Positive
    stacks: tuple[Positive, ...]  # blocks in each scanned stack, bottom first; only whole stacks freeze
    dim: Positive
    heads: Positive
    hidden_dim: Positive
    max_context: Positive
    rope_base: Annotated[float, Field(gt=1)] = 10_000.0
    embedding_scale: Annotated[float, Field(ge=1, le=4096)] = 1.0  # of what the blocks read; a power of 2
    mlp: Literal["gelu", "swiglu"] = "gelu"  # swiglu (Shazeer 2020) is narrower, to have as many parameters
    residual: Literal["plain", "scaled"] = "plain"  # scaled: each branch has a learned factor, initially 1
    share_attention: Positive = 1  # neighbouring blocks that share one attention; each has its own norms
    share_mlp: Positive = 1

    def __post_init__(self) -> None:
        require(
            sum(self.stacks) == self.layers,
            f"stacks {list(self.stacks)} add up to {sum(self.stacks)}, but layers is {self.layers}",
        )
        require(
            self.dim % (2 * self.heads) == 0,
            f"dim {self.dim} must be a multiple of 2 x heads ({2 * self.heads}): RoPE rotates pairs inside a head",
        )
        require(
            math.frexp(self.embedding_scale)[0] == 0.5,
            f"embedding_scale {self.embedding_scale:g} must be a power of 2, so that nothing is rounded",
        )
        for field, period in (("share_attention", self.share_attention), ("share_mlp", self.share_mlp)):
            uneven = [length for length in self.stacks if length % period]
            require(not uneven, f"{field}: {period} does not divide stacks of {uneven} blocks")

    def lowest(self, blocks: int | None) -> "Model":
        """Return the architecture of the lowest `blocks` blocks, whole stacks; of all for None.

        A phase that grows trains it first. It has the same groups of parameters as far as it goes.
        """
        if blocks is None or blocks == self.layers:
            return self
        stacks = self.stacks[: self.boundaries.index(blocks)]
        return Model(**vars(self) | {"layers": blocks, "stacks": stacks})

    @property
    def head_dim(self) -> int:
        return self.dim // self.heads

    @property
    def boundaries(self) -> tuple[int, ...]:
        """Return the depths at which a stack begins or ends, 0 and `layers` included."""
        return tuple(sum(self.stacks[:i]) for i in range(len(self.stacks) + 1))

    @property
    def named_stacks(self) -> tuple[tuple[str, int, int], ...]:
        """Return (group, first block, one past the last block) of each stack, bottom first."""
        edges = self.boundaries
        return tuple((f"blocks_{a}_{b - 1}", a, b) for a, b in itertools.pairwise(edges))

    @property
    def mlp_width(self) -> int:
        """Return the width inside the MLP.

        GELU has two matrices, SwiGLU three. SwiGLU therefore takes two thirds of `hidden_dim`, to
        the nearest multiple of 8.
        """
        return self.hidden_dim if self.mlp == "gelu" else max(8, 8 * round(self.hidden_dim / 12))

    @property
    def linears(self) -> dict[str, tuple[int, int]]:
        """Return (inputs, outputs) of each matrix of a block."""
        up = self.mlp_width if self.mlp == "gelu" else 2 * self.mlp_width
        return {
            "attention.qkv": (self.dim, 3 * self.dim),
            "attention.out": (self.dim, self.dim),
            "mlp.up": (self.dim, up),
            "mlp.down": (self.mlp_width, self.dim),
        }

    @property
    def parameter_count(self) -> int:
        """Return the number of parameters.

        The sum of the embedding (shared with the head), the matrices of all blocks (shared ones
        once), the two norms of each block, the two factors of its scaled residuals, and the final
        norm.
        """
        sizes = {name: inputs * outputs for name, (inputs, outputs) in self.linears.items()}
        attention = (sizes["attention.qkv"] + sizes["attention.out"]) * (self.layers // self.share_attention)
        mlp = (sizes["mlp.up"] + sizes["mlp.down"]) * (self.layers // self.share_mlp)
        per_block = 4 * self.dim + (2 if self.residual == "scaled" else 0)
        return self.vocab_size * self.dim + attention + mlp + self.layers * per_block + 2 * self.dim

    @property
    def enhancements(self) -> list[str]:
        """Return the fields of the enhancements that this architecture uses."""
        neutral = {"mlp": "gelu", "residual": "plain", "share_attention": 1, "share_mlp": 1}
        return [f"model.{name}" for name, value in neutral.items() if getattr(self, name) != value]
