"""What a train step is compiled for: everything static about it, and nothing else. No jax.

Phases whose stages agree share a compiled program. `arithmetic` tells what such a program costs, `step` builds it.
"""

from typing import NamedTuple

from llm60_jax.config import Config, Lora, Model, Phase
from llm60_jax.config.schema import Dtype, Remat
from llm60_jax.plan.stages import Stage


class Noise(NamedTuple):
    """Training-only noise of a phase (playbook, sections 11 and 16). Zero everywhere is the neutral setting."""

    mlp: float = 0.0
    attention: float = 0.0
    embedding: float = 0.0
    drop_path: float = 0.0
    activation: float = 0.0


class StepKey(NamedTuple):
    """The static half of a train step; hashable."""

    context: int
    micro_batch: int
    accumulation: int
    frozen_blocks: int  # blocks; feeds the model's gradient boundary and the optimizer's mask
    embedding_frozen: bool
    remat: Remat
    noise: Noise
    deep_supervision: float = 0.0  # weight of the heads below the top; 0 means there are none
    lora: Lora | None = None
    adapted_from: int = 0  # depth from which on blocks have adapters, where there are any
    prefix_cached: bool = False  # batches bring what the frozen blocks compute
    devices: int = 1  # that share the micro-batches of a step out
    dtype: Dtype = "bfloat16"

    @staticmethod
    def of(stage: Stage, phase: Phase, config: Config) -> "StepKey":
        """The key of a stage's program."""
        noise = Noise(
            phase.mlp_dropout, phase.attention_dropout, phase.embedding_dropout, phase.drop_path, phase.activation_noise
        )
        return StepKey(
            context=stage.context,
            micro_batch=stage.micro_batch,
            accumulation=stage.accumulation,
            frozen_blocks=stage.frozen_blocks,
            embedding_frozen=phase.lora is not None or (stage.frozen_blocks > 0 and phase.embedding == "frozen"),
            remat=stage.remat,
            noise=noise,
            deep_supervision=phase.deep_supervision,
            lora=phase.lora,
            adapted_from=phase.adapted_from,
            prefix_cached=phase.prefix_cache,
            devices=config.train.devices,
            dtype=config.train.dtype,
        )

    @property
    def tokens(self) -> int:
        """Tokens of one step."""
        return self.context * self.micro_batch * self.accumulation


def tap_depths(model: Model, key: StepKey) -> tuple[int, ...]:
    """Depths below the top at which a head is trained: stack ends with live blocks beneath them. A head on frozen
    blocks would train nothing but itself."""
    return tuple(depth for depth in model.boundaries[1:-1] if key.deep_supervision and depth > key.frozen_blocks)
