"""The configuration: frozen dataclasses read from TOML, every value checked before anything expensive starts.

`load(path, overrides)` is the only way in. Unknown keys, wrong types and impossible values end in one `InputError`
that names the file, the field, the reason and the nearest valid name. This module imports no jax.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from llm60_jax.config import schema
from llm60_jax.config.phase import Goal, Phase
from llm60_jax.config.rules import RULE_6
from llm60_jax.config.schema import Count, Dtype, Name, PathText, Positive, Recompute, Remat, record, require
from llm60_jax.config.sources import InstructionSource
from llm60_jax.errors import InputError

INIT_STD = 0.02  # of the initial weights (model.py)
_UNTUNED = 1024  # tokens of a micro-batch, while "auto" has not been measured; the best of most CPUs


@record
class Model:
    """The architecture, fixed for a run (design.md, section 2). Its parameter count is a closed formula.

    The last four fields are enhancements (playbook, section 16); their defaults are neutral and cost nothing.
    """

    vocab_size: Annotated[int, Field(ge=320, le=65_536)]  # uint16 shards; 256 byte pieces and 4 control pieces
    layers: Positive
    stacks: tuple[Positive, ...]  # blocks in each scanned stack, bottom first; freezing acts on whole stacks
    dim: Positive
    heads: Positive
    hidden_dim: Positive
    max_context: Positive
    rope_base: Annotated[float, Field(gt=1)] = 10_000.0
    mlp: Literal["gelu", "swiglu"] = "gelu"  # swiglu (Shazeer 2020) is narrower, so that its parameters match
    residual: Literal["plain", "scaled"] = "plain"  # scaled: each branch has a learned factor, 1 at first
    share_attention: Positive = 1  # so many neighbouring blocks share one attention; norms stay their own
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
        for field, period in (("share_attention", self.share_attention), ("share_mlp", self.share_mlp)):
            uneven = [length for length in self.stacks if length % period]
            require(not uneven, f"{field}: {period} does not divide stacks of {uneven} blocks")

    @property
    def head_dim(self) -> int:
        return self.dim // self.heads

    @property
    def boundaries(self) -> tuple[int, ...]:
        """Depths at which a stack begins or ends, 0 and `layers` included."""
        return tuple(sum(self.stacks[:i]) for i in range(len(self.stacks) + 1))

    @property
    def named_stacks(self) -> tuple[tuple[str, int, int], ...]:
        """(parameter group, first block, one past its last block) of each stack, bottom first."""
        edges = self.boundaries
        return tuple((f"blocks_{a}_{b - 1}", a, b) for a, b in itertools.pairwise(edges))

    @property
    def mlp_width(self) -> int:
        """Width inside the MLP. SwiGLU has three matrices where GELU has two: two thirds of `hidden_dim`, to the
        nearest multiple of 8."""
        return self.hidden_dim if self.mlp == "gelu" else max(8, 8 * round(self.hidden_dim / 12))

    @property
    def linears(self) -> dict[str, tuple[int, int]]:
        """(inputs, outputs) of each matrix of a block."""
        up = self.mlp_width if self.mlp == "gelu" else 2 * self.mlp_width
        return {
            "attention.qkv": (self.dim, 3 * self.dim),
            "attention.out": (self.dim, self.dim),
            "mlp.up": (self.dim, up),
            "mlp.down": (self.mlp_width, self.dim),
        }

    @property
    def parameter_count(self) -> int:
        """Embedding (shared with the head), per block two norms, the matrices (shared ones once) and the two factors
        of scaled residuals, and the final norm."""
        sizes = {name: inputs * outputs for name, (inputs, outputs) in self.linears.items()}
        attention = (sizes["attention.qkv"] + sizes["attention.out"]) * (self.layers // self.share_attention)
        mlp = (sizes["mlp.up"] + sizes["mlp.down"]) * (self.layers // self.share_mlp)
        own = 4 * self.dim + (2 if self.residual == "scaled" else 0)
        return self.vocab_size * self.dim + attention + mlp + self.layers * own + 2 * self.dim

    @property
    def enhancements(self) -> list[str]:
        """The optional enhancements that this architecture has, by field."""
        neutral = {"mlp": "gelu", "residual": "plain", "share_attention": 1, "share_mlp": 1}
        return [f"model.{name}" for name, value in neutral.items() if getattr(self, name) != value]


@record
class TokenizerSettings:
    """sentencepiece settings; the vocabulary size is the model's."""

    phases: Annotated[tuple[Name, ...], Field(min_length=1)]  # whose training documents it learns from
    model_type: Literal["bpe", "unigram"] = "bpe"
    sample_characters: Annotated[int, Field(ge=10_000, le=10**12)] = (
        50_000_000  # bound on the text it reads, hence on its memory
    )


@record
class Train:
    """How a step is cut into micro-batches, and how often the run reports, evaluates and saves."""

    tokens_per_step: Positive = 4096
    micro_batch: tuple[tuple[Positive, Positive], ...] | Literal["auto"]  # (context, sequences in one micro-batch)
    devices: Positive = 1  # that share the micro-batches of a step out; the CPU is cut into as many
    remat: Recompute = "full"  # of every phase that does not say otherwise
    memory_gb: Annotated[float, Field(gt=0)] | None = None  # that "auto" may use; None is half of the machine's
    dtype: Dtype = "bfloat16"  # of the operands of matrix products; float32 where a CPU has no bfloat16
    document_mask: bool = True  # attention inside documents only (playbook, section 17.4)
    log_every: Positive = 10  # steps
    evaluate_every: Positive = 500  # steps
    save_every: Positive = 500  # steps
    keep_rolling: Positive = 2  # rolling checkpoints kept; phase and pre-freeze checkpoints are never deleted
    most_refused: Positive = 3  # steps in a row that may not be applied (spikes.py), before the run stops
    rewinds: Count = 0  # times that a run which would stop so goes back to its newest checkpoint, at half the rate
    keep_awake: bool = False  # asks the system not to sleep while the run trains
    tensorboard: bool = False  # also writes scalars as TensorBoard event files; needs the extra `tensorboard`
    validation_tokens: Positive = 65_536  # bound on what one evaluation scores, per phase

    def __post_init__(self) -> None:
        contexts = self.contexts
        require(len(set(contexts)) == len(contexts), f"micro_batch: one entry for each context, got {contexts}")

    @property
    def contexts(self) -> list[int]:
        """The contexts that `micro_batch` speaks of; none for "auto"."""
        return [] if self.micro_batch == "auto" else [context for context, _ in self.micro_batch]

    @property
    def policy(self) -> Remat:
        """What is computed again where neither a phase nor a measurement says it."""
        return "full" if self.remat == "auto" else self.remat

    @property
    def is_auto(self) -> bool:
        """Whether micro-batches or recomputation are to be found by measuring (tuning.py)."""
        return "auto" in (self.micro_batch, self.remat)

    def sequences(self, context: int) -> int | None:
        """Sequences in a micro-batch of a context; None where `micro_batch` says nothing of it. Before "auto" is
        settled: as many as make 1,024 tokens."""
        if self.micro_batch == "auto":
            return max([n for n in self.choices(context) if n * context <= _UNTUNED], default=1)
        return dict(self.micro_batch).get(context)

    def choices(self, context: int) -> list[int]:
        """All sequences in a micro-batch, powers of two, that cut a step into equal shares for each device."""
        rows, rest = divmod(self.tokens_per_step, context * self.devices)
        return [2**n for n in range(rows.bit_length()) if rest == 0 and rows % 2**n == 0]


@record
class Optimizer:
    """Adafactor (Shazeer and Stern 2018) with absolute learning rates; design.md, section 4. AdamW is there to compare
    with: the playbook prefers Adafactor."""

    name: Literal["adafactor", "adamw"] = "adafactor"
    weight_decay: Annotated[float, Field(ge=0, le=0.01)] = 0.01  # decoupled, multiplied by the learning rate
    clip_rms: Annotated[float, Field(gt=0)] = 1.0  # adafactor: bound on the RMS of one layer's update
    decay_exponent: Annotated[float, Field(gt=0, le=1)] = 0.8  # adafactor: second moments decay as 1 - (t+1)^-exponent
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.95)  # adamw


@record
class Sampling:
    """The texts that are written with every checkpoint, to be read and to be measured."""

    prompts: Annotated[tuple[str, ...], Field(min_length=1)] = ("The", "In the beginning", "It was")
    tokens: Positive = 40  # of the short text of each prompt; its long one fills the context
    temperature: Annotated[float, Field(ge=0, le=10)] = 0.8  # 0 takes the likeliest token
    top_k: Count = 40  # 0 keeps the whole vocabulary
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0  # of the probability, among the likeliest; 1 keeps all
    repetition_penalty: Annotated[float, Field(ge=1, le=10)] = 1.0  # 1 is none


@record
class Config:
    """Everything a run is. `phase` is the TOML's list of `[[phase]]` tables, in training order.

    A run learns its tokenizer and begins with random weights, or it takes both from a checkpoint (`start`).
    """

    workdir: PathText
    data_dir: PathText = "data"
    processes: Count = 0  # that clean text at once; 0 is one for each core
    evaluation_text: tuple[PathText, ...] = ()  # files and folders; what is near to it leaves the text of every phase
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    device: Annotated[str, Field(pattern=r"^[A-Za-z]+$")] = "auto"  # cpu, gpu, tpu, or a plug-in's (devices.py)
    start: PathText | None = None  # a checkpoint of another run, for example runs/llm60/phases/vocabulary
    baseline: PathText | None = None  # a finished run without enhancements, which using them in phase 1 asks for
    model: Model
    tokenizer: TokenizerSettings | None = None
    train: Train
    optimizer: Optimizer = dataclasses.field(default_factory=lambda: Optimizer())
    sampling: Sampling = dataclasses.field(default_factory=lambda: Sampling())
    phase: tuple[Phase, ...]

    def __post_init__(self) -> None:
        names = [phase.name for phase in self.phase]
        require(bool(names), "phase: at least one is needed, as a [[phase]] table")
        require(len(set(names)) == len(names), f"phase: names must differ, got {names}")
        if self.start is None:
            require(self.tokenizer is not None, "tokenizer: required, unless start names a checkpoint to go on from")
        else:
            require(self.tokenizer is None, "tokenizer: it comes with the checkpoint that start names; leave it out")
        for name in self.tokenizer.phases if self.tokenizer else ():
            require(name in names, f"tokenizer.phases: there is no phase '{name}'{schema.nearest(name, names)}")
        for phase in self.phase:
            self._check_phase(phase)
            self._check_goal(phase)

    def goal(self, phase: Phase) -> Goal:
        """What a phase is for: as it says, else by its place."""
        if phase.goal is not None:
            return phase.goal
        if phase == self.phase[0]:
            return "grammar" if self.start is None else "fine_tune"
        return "fine_tune" if phase == self.phase[-1] else "vocabulary"

    def phase_named(self, name: str) -> Phase:
        """The phase of that name. Raises InputError, which speaks of the option `--phase` of a tool."""
        for phase in self.phase:
            if phase.name == name:
                return phase
        raise InputError(f"--phase: there is no phase '{name}'; there are {[phase.name for phase in self.phase]}")

    def _check_goal(self, phase: Phase) -> None:
        """What belongs to fine-tuning only, and what the first phase must not have (playbook, sections 5 and 16)."""
        where, goal = f"phase.{phase.name}", self.goal(phase)
        if goal != "fine_tune":
            require(phase.lora is None, f"{where}.lora: adapters are for fine-tuning, and the phase's goal is {goal}")
            asks = any(isinstance(source, InstructionSource) for source in phase.sources)
            require(not asks, f"{where}.sources: instructions are for fine-tuning, and the phase's goal is {goal}")
        first = phase == self.phase[0] and self.start is None
        require(not (phase.lora and first), f"{where}.lora: adapters need weights to adapt: start, or a phase before")
        for part, period in (("attention", self.model.share_attention), ("mlp", self.model.share_mlp)):
            adapted = [t for t in (phase.lora.targets if phase.lora else ()) if t.startswith(part) and period > 1]
            require(not adapted, f"{where}.lora.targets: {adapted} are shared by {period} blocks and cannot be adapted")
        if self.baseline is None:
            used = [*(self.model.enhancements if first else ())]
            used += [f"{where}.{name}" for name in phase.enhancements if first or goal == "grammar"]
            require(
                not used,
                f"{', '.join(used)}: '{RULE_6}' (playbook, rule 6). Train the same run without, then name its "
                "directory here: baseline = 'runs/...'",
            )

    def _check_phase(self, phase: Phase) -> None:
        train, per_step = self.train, self.train.tokens_per_step
        where = f"phase.{phase.name}"
        for _, context in phase.context:
            require(
                context <= self.model.max_context,
                f"{where}.context: {context} is above model.max_context ({self.model.max_context})",
            )
            size = train.sequences(context)
            if size is None:
                known = sorted(train.contexts)
                raise ValueError(
                    f"{where}.context: train.micro_batch has no entry for context {context} (it has {known})"
                )
            require(
                per_step % (context * size) == 0,
                f"{where}.context: a micro-batch of {size} x {context} tokens does not divide "
                f"train.tokens_per_step ({per_step})",
            )
            micro_batches = per_step // (context * size)
            require(
                micro_batches % train.devices == 0,
                f"{where}.context: at context {context} a step has {micro_batches} micro-batches, which "
                f"train.devices = {train.devices} cannot share out evenly; make train.micro_batch smaller",
            )
        heads = [depth for depth in self.model.boundaries[1:-1] if depth > phase.freeze[0][1]]
        require(
            not phase.deep_supervision or bool(heads),
            f"{where}.deep_supervision: no stack ends between its frozen blocks and the top, so there is no head; "
            f"model.stacks ends at {list(self.model.boundaries[1:])}",
        )
        for _, depth in phase.freeze:
            require(
                depth in self.model.boundaries[:-1],
                f"{where}.freeze: depth {depth} is no stack boundary below the top; "
                f"model.stacks allows {list(self.model.boundaries[:-1])}",
            )


def load(path: str | Path, overrides: Sequence[str] = (), workdir: str | None = None) -> Config:
    """Reads a TOML file, applies `--set` overrides and validates the whole.

    Args:
      path: the configuration file.
      overrides: `dotted.path=value` strings, the value in TOML syntax (a bare word is taken as a string). A phase is
        addressed by its name, an entry of any other list by its number: `phase.grammar.tokens=204800`. An empty value
        takes a field out, so that its default holds.
      workdir: the run directory, instead of the file's.

    Raises:
      InputError: unreadable file, TOML syntax (with line and column), or any field that does not validate.
    """
    tree = schema.read_toml(Path(path))
    for text in overrides:
        schema.override(tree, text)
    if workdir is not None:
        tree["workdir"] = workdir
    return parse(tree, str(path))


def parse(tree: dict[str, Any], origin: str) -> Config:
    """Validates a plain tree (as TOML or JSON gives it). `origin` names it in messages. Raises InputError."""
    model = tree.get("model")
    if isinstance(model, dict) and "segments" in model and "stacks" not in model:
        stacks = {"stacks": model["segments"]}  # its name in older configurations
        tree = {**tree, "model": {name: value for name, value in model.items() if name != "segments"} | stacks}
    return schema.validate(Config, tree, origin)


def to_tree(config: Config) -> dict[str, Any]:
    """The resolved configuration as plain JSON values; `parse` reads it back to an equal Config."""
    return schema.to_tree(config)
