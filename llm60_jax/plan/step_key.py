"""What a train step is compiled for: its static settings, and nothing else. No jax.

Phases whose stages agree share a compiled program. `flops` predicts the operations of such a
program, `training/step.py` builds it.
"""

import math
from typing import NamedTuple

from llm60_jax.config import Config, Lora, Model, Phase
from llm60_jax.config.schema import Dtype, Gather, Kernels, Remat
from llm60_jax.plan import native
from llm60_jax.plan.stages import Stage


class Noise(NamedTuple):
    """Training-only noise of a phase (playbook, sections 11 and 16). Zero everywhere is neutral."""

    mlp: float = 0.0
    attention: float = 0.0
    embedding: float = 0.0
    drop_path: float = 0.0
    activation: float = 0.0


class Sharing(NamedTuple):
    """How devices share a step, and in which order sums are taken (training/mesh.py)."""

    devices: int = 1  # of all processes; each takes whole micro-batches
    fsdp: int = 1  # devices that hold a weight together
    gather: Gather = "step"  # when cut weights are put together
    slots: int = 1  # most parts of a step that are added as a balanced tree; 0: any order


class StepKey(NamedTuple):
    """The static settings of a train step; hashable."""

    context: int
    micro_batch: int
    accumulation: int
    frozen_blocks: int  # blocks; sets the model's gradient boundary and the optimizer's mask
    embedding_frozen: bool
    remat: Remat
    noise: Noise
    deep_supervision: float = 0.0  # weight of the heads below the top; 0 builds none
    lora: Lora | None = None
    adapted_from: int = 0  # blocks from this depth up have adapters, if there is a `lora`
    prefix_cached: bool = False  # batches hold the outputs of the frozen blocks
    sharing: Sharing = Sharing()
    dtype: Dtype = "bfloat16"
    kernels: Kernels = "xla"  # what computes stacks and heads
    blocks: int | None = None  # blocks that a growing model has so far; None: all

    @property
    def tokens(self) -> int:
        """Tokens of one step."""
        return self.context * self.micro_batch * self.accumulation

    @property
    def slots(self) -> int:
        """Parts of a step whose sums are added as a balanced tree; 0: in any order."""
        return slots_of(self.accumulation, self.sharing.slots)


def slots_of(accumulation: int, most: int) -> int:
    """Return into how many slots a step's micro-batches are cut: the largest power of two that divides them, at most
    `most`."""
    return math.gcd(accumulation, most) if most else 0


def key(config: Config, stage: Stage) -> StepKey:
    """Return the key of a stage's program. `train.kernels` must be settled: "auto" counts as "xla" here.

    Raise KeyError if the configuration has no phase of that name.
    """
    phase = config.phase_named(stage.phase)
    return StepKey(
        context=stage.context,
        micro_batch=stage.micro_batch,
        accumulation=stage.accumulation,
        frozen_blocks=stage.frozen_blocks,
        embedding_frozen=phase.lora is not None or (stage.frozen_blocks > 0 and phase.embedding == "frozen"),
        remat=stage.remat,
        noise=_noise(phase),
        deep_supervision=phase.deep_supervision,
        lora=phase.lora,
        adapted_from=phase.adapted_from,
        prefix_cached=phase.prefix_cache,
        sharing=sharing(config),
        dtype=config.train.dtype,
        kernels="xla" if config.train.kernels != "native" or unclaimed(config, phase) else "native",
        blocks=stage.blocks if stage.blocks < config.model.layers else None,
    )


def sharing(config: Config) -> Sharing:
    """Return how the devices of a run share its steps.

    More devices than `train.slots` make as many slots; a number that is no power of two makes none, and
    neither do weights that are gathered by layer.
    """
    train, devices = config.train, config.train.device_count
    gather = train.gather if train.fsdp > 1 else "step"
    has_tree = train.slots > 0 and devices & (devices - 1) == 0 and gather == "step"
    return Sharing(devices, train.fsdp, gather, max(train.slots, devices) if has_tree else 0)


def unclaimed(config: Config, phase: Phase) -> str | None:
    """Return why a phase does not train on the native kernels where a run has them; None if it does."""
    fault = native.unclaimed_step(_noise(phase)._asdict(), phase.lora)
    return native.unclaimed(config.model) or fault


def _noise(phase: Phase) -> Noise:
    return Noise(
        phase.mlp_dropout, phase.attention_dropout, phase.embedding_dropout, phase.drop_path, phase.activation_noise
    )


def tap_depths(model: Model, step_key: StepKey) -> tuple[int, ...]:
    """Return the depths of the heads below the top: stack ends with live blocks beneath them.

    A head on top of frozen blocks would train nothing but itself.
    """
    return tuple(
        depth for depth in model.boundaries[1:-1] if step_key.deep_supervision and depth > step_key.frozen_blocks
    )
