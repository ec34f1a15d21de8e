"""The configuration of a run: frozen records from TOML, checked before anything expensive starts.

`load(path, overrides)` reads a file, `parse` a tree. Unknown keys, wrong types and impossible
values end in one `InputError`. It names the file, the field, the reason and the nearest valid name.
No jax.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from llm60_jax.config import schema
from llm60_jax.config.model import Model
from llm60_jax.config.phase import Goal, Phase
from llm60_jax.config.rules import RULE_5, RULE_6
from llm60_jax.config.schema import (
    Count,
    Dtype,
    Gather,
    Kernels,
    Name,
    PathText,
    Positive,
    Recompute,
    Remat,
    WantedKernels,
    record,
    require,
)
from llm60_jax.config.sources import InstructionSource
from llm60_jax.errors import InputError

_UNMEASURED_TOKENS = 1024  # in a micro-batch until "auto" is measured; the fastest choice on most CPUs


@record
class TokenizerSettings:
    """Settings of sentencepiece. The vocabulary size is the model's."""

    phases: Annotated[tuple[Name, ...], Field(min_length=1)]  # phases whose training documents it learns from
    model_type: Literal["bpe", "unigram"] = "bpe"
    sample_characters: Annotated[int, Field(ge=10_000, le=10**12)] = 50_000_000  # bounds the text and so the memory


@record
class Train:
    """How a step is cut into micro-batches, and how often the run logs, evaluates and saves."""

    tokens_per_step: Positive = 4096
    micro_batch: tuple[tuple[Positive, Positive], ...] | Literal["auto"]  # (context, sequences in one micro-batch)
    devices: Positive | Literal["all"] = "all"  # devices of all processes that share a step; a number cuts a CPU
    fsdp: Positive = 1  # devices that hold weights and optimizer state together, each a part
    gather: Gather = "step"  # once a step; or by layer: less memory under remat, sums in any order
    slots: Annotated[int, Field(ge=0, le=1024)] = 4  # 1, 2, 4 ... devices up to this many have equal bits; 0: any order
    remat: Recompute = "full"  # default of every phase
    memory_gb: Annotated[float, Field(gt=0)] | None = None  # bound for "auto"; None: half the memory, 90 % of a GPU's
    dtype: Dtype = "bfloat16"  # operands of matrix products; use float32 if the CPU has no bfloat16
    kernels: WantedKernels = "auto"  # who computes on a CPU: native kernels, where they can be had
    document_mask: bool = True  # attention stays inside documents (playbook, section 17.4)
    log_every: Positive = 10  # steps
    evaluate_every: Positive | None = None  # steps; None is 500 or more, so that evaluation takes about 5 % of the time
    save_every: Positive = 500  # steps
    keep_rolling: Positive = 2  # rolling checkpoints; those before blocks freeze or are added, and phase ends, stay
    most_refused: Positive = 3  # skipped steps in a row that stop the run (training/spikes.py)
    rewinds: Count = 0  # times that the run rewinds to its newest checkpoint, at half the rate, instead of stopping
    keep_awake: bool = False  # keep the computer from sleeping while the run trains
    tensorboard: bool = False  # also write TensorBoard event files; needs the extra `tensorboard`
    validation_tokens: Positive | None = None  # most held-out tokens scored per phase; None is 8,192 to 32,768

    def __post_init__(self) -> None:
        contexts = self.contexts
        require(len(set(contexts)) == len(contexts), f"micro_batch: one entry for each context, got {contexts}")
        require(self.slots & (self.slots - 1) == 0, f"slots: a power of two, or 0; got {self.slots}")

    @property
    def device_count(self) -> int:
        """Devices that share a step; 1 until `machine.devices.ready` has counted "all"."""
        return 1 if self.devices == "all" else self.devices

    @property
    def contexts(self) -> list[int]:
        """Return the contexts that `micro_batch` lists; none for "auto"."""
        return [] if self.micro_batch == "auto" else [context for context, _ in self.micro_batch]

    @property
    def policy(self) -> Remat:
        """Return the remat policy for phases without one of their own, before any measurement."""
        return "full" if self.remat == "auto" else self.remat

    @property
    def is_auto(self) -> bool:
        """Whether micro-batches or remat policies are measured (training/tuning.py)."""
        return "auto" in (self.micro_batch, self.remat)

    def sequences(self, context: int) -> int | None:
        """Return the sequences in a micro-batch of a context; None for a context without an entry.

        Until "auto" is measured, a micro-batch holds at most 1,024 tokens.
        """
        if self.micro_batch == "auto":
            return max([n for n in self.choices(context) if n * context <= _UNMEASURED_TOKENS], default=1)
        return dict(self.micro_batch).get(context)

    def choices(self, context: int) -> list[int]:
        """Return the micro-batch sizes, powers of two, that split a step evenly between devices."""
        rows, rest = divmod(self.tokens_per_step, context * self.device_count)
        return [2**n for n in range(rows.bit_length()) if rest == 0 and rows % 2**n == 0]


@record
class Optimizer:
    """Adafactor (Shazeer and Stern 2018) with absolute learning rates.

    The playbook, section 8, prefers Adafactor; AdamW is for comparison. With Muon (Jordan 2024) the
    embedding and the final norm still go by Adafactor, the blocks' norms by AdamW. Its update of a
    matrix has an RMS of 0.2 times the rate (Liu et al. 2025), Adafactor's of up to `clip_rms` times the
    rate.
    """

    name: Literal["adafactor", "adamw", "muon"] = "adafactor"
    weight_decay: Annotated[float, Field(ge=0, le=0.01)] = 0.01  # decoupled, multiplied by the learning rate
    clip_rms: Annotated[float, Field(gt=0)] = 1.0  # adafactor: bound on the RMS of one layer's update
    decay_exponent: Annotated[float, Field(gt=0, le=1)] = 0.8  # adafactor: second moments decay as 1 - (t+1)^-exponent
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.95)  # adamw

    @property
    def update_rms(self) -> float:
        """Return the largest usual RMS of an update of a matrix, as a multiple of the learning rate."""
        return {"adafactor": self.clip_rms, "adamw": 1.0, "muon": 0.2}[self.name]


@record
class Sampling:
    """Texts that the model writes at every checkpoint, for reading and for the gates."""

    prompts: Annotated[tuple[str, ...], Field(min_length=1)] = ("The", "In the beginning", "It was")
    tokens: Positive = 40  # length of each prompt's short text; its long text fills the context
    temperature: Annotated[float, Field(ge=0, le=10)] = 0.8  # 0 always takes the most likely token
    top_k: Count = 40  # 0 keeps the whole vocabulary
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0  # probability mass of the most likely tokens to keep; 1 keeps all
    repetition_penalty: Annotated[float, Field(ge=1, le=10)] = 1.0  # 1 is no penalty


@record
class Config:
    """All settings of a run. `phase` is the list of `[[phase]]` tables, in training order.

    A run trains its tokenizer and begins with random weights, or it takes both from a checkpoint
    (`start`).
    """

    workdir: PathText
    data_dir: PathText = "data"
    processes: Count = 0  # processes that clean text; 0 is one for each core
    evaluation_text: tuple[PathText, ...] = ()  # files and folders; near-duplicates are removed from all phases
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    device: Annotated[str, Field(pattern=r"^[A-Za-z]+$")] = "auto"  # cpu, gpu, tpu, or a plug-in's platform
    start: PathText | None = None  # a checkpoint of another run, for example runs/llm60/phases/vocabulary
    baseline: PathText | None = None  # finished run without enhancements; required to use them in phase 1
    architecture: Literal["fixed", "growing"] = "fixed"  # "growing": blocks are added in phase 1 (phase.grow)
    model: Model
    tokenizer: TokenizerSettings | None = None
    train: Train
    optimizer: Optimizer = dataclasses.field(default_factory=lambda: Optimizer())
    sampling: Sampling = dataclasses.field(default_factory=lambda: Sampling())
    phase: tuple[Phase, ...]

    def __post_init__(self) -> None:
        names = self.phase_names
        require(bool(names), "phase: at least one is needed, as a [[phase]] table")
        require(len(set(names)) == len(names), f"phase: names must differ, got {names}")
        if self.start is None:
            require(self.tokenizer is not None, "tokenizer: required, unless start names a checkpoint to train from")
        else:
            require(self.tokenizer is None, "tokenizer: the checkpoint in start brings its own; remove the table")
        for name in self.tokenizer.phases if self.tokenizer else ():
            require(name in names, f"tokenizer.phases: there is no phase '{name}'{schema.nearest(name, names)}")
        devices, most = self.train.device_count, self.most_devices
        require(
            devices <= most,
            f"train.devices: a step of {self.train.tokens_per_step:,} tokens has {most} rows at the longest context, "
            f"one for each of {most} devices at most, and there are {devices}. Set train.devices = {most}, or raise "
            "train.tokens_per_step, which needs other learning rates",
        )
        for phase in self.phase:
            self._check_phase(phase)
            self._check_goal(phase)
        self._check_growth()

    def goal(self, phase: Phase) -> Goal:
        """Return the goal of a phase: its own setting, else by its place in the run."""
        if phase.goal is not None:
            return phase.goal
        if phase == self.phase[0]:
            return "grammar" if self.start is None else "fine_tune"
        return "fine_tune" if phase == self.phase[-1] else "vocabulary"

    @property
    def most_devices(self) -> int:
        """Devices that can share every step: its rows at the longest context."""
        longest = max(context for phase in self.phase for _, context in phase.context)
        return max(1, self.train.tokens_per_step // longest)

    @property
    def phase_names(self) -> list[str]:
        """The names of all phases, in training order."""
        return [phase.name for phase in self.phase]

    def phase_named(self, name: str) -> Phase:
        """Return the phase of that name. Raise KeyError if there is none."""
        for phase in self.phase:
            if phase.name == name:
                return phase
        raise KeyError(name)

    def _check_goal(self, phase: Phase) -> None:
        """Raise ValueError for settings that do not fit the goal of a phase.

        Adapters and instructions are for fine-tuning (playbook, section 5). Enhancements need a
        baseline (section 16).
        """
        where, goal = f"phase.{phase.name}", self.goal(phase)
        if goal != "fine_tune":
            require(phase.lora is None, f"{where}.lora: adapters are for fine-tuning, and the phase's goal is {goal}")
            instructs = any(isinstance(source, InstructionSource) for source in phase.sources)
            require(not instructs, f"{where}.sources: instructions are for fine-tuning, and the phase's goal is {goal}")
        first = phase == self.phase[0] and self.start is None
        require(
            not (phase.lora and first),
            f"{where}.lora: adapters need trained weights: start, or a phase before",
        )
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
        """Raise ValueError if contexts, heads or freeze depths do not fit `train` and `model`."""
        train, per_step = self.train, self.train.tokens_per_step
        where = f"phase.{phase.name}"
        for _, context in phase.context:
            require(
                context <= self.model.max_context,
                f"{where}.context: {context} is above model.max_context ({self.model.max_context})",
            )
            size = train.sequences(context)
            if size is None:
                raise ValueError(
                    f"{where}.context: train.micro_batch has no entry for context {context} "
                    f"(it has {sorted(train.contexts)})"
                )
            require(
                per_step % (context * size) == 0,
                f"{where}.context: a micro-batch of {size} x {context} tokens does not divide "
                f"train.tokens_per_step ({per_step})",
            )
            micro_batches = per_step // (context * size)
            self._check_sharing(
                f"{where}.context: at context {context} a step has {micro_batches} micro-batches", micro_batches
            )
        heads = [depth for depth in self.model.boundaries[1:-1] if depth > min(frozen for _, frozen in phase.freeze)]
        require(
            not phase.deep_supervision or bool(heads),
            f"{where}.deep_supervision: no stack ends between its frozen blocks and the top, so there is no head; "
            f"the stacks end at {list(self.model.boundaries[1:])}",
        )
        for _, depth in phase.freeze:
            require(
                depth in self.model.boundaries[:-1],
                f"{where}.freeze: depth {depth} is not a stack boundary below the top; "
                f"model.stacks allows {list(self.model.boundaries[:-1])}",
            )

    def _check_growth(self) -> None:
        """Raise ValueError unless growth is asked for by name, after a baseline, in a phase that begins with random
        weights."""
        growing = [phase for phase in self.phase if phase.grow]
        if self.architecture == "growing":
            require(self.start is None, "architecture: a run with `start` does not grow; set architecture = 'fixed'")
            require(len(self.model.stacks) > 1, "architecture: a model grows by stacks; model.stacks has only one")
            example = f"grow = [[0.0, {self.model.boundaries[1]}], [0.5, {self.model.layers}]]"
            require(bool(growing), f"architecture: 'growing' needs a first phase that grows, as by {example}")
        for phase in growing:
            where = f"phase.{phase.name}.grow"
            require(
                self.architecture == "growing",
                f"{where}: {RULE_5}. A run that breaks this rule says so: architecture = 'growing'",
            )
            require(
                phase == self.phase[0],
                f"{where}: only random weights grow, and those of this phase are trained already",
            )
            allowed, sizes = self.model.boundaries[1:], [blocks for _, blocks in phase.grow]
            for blocks in sizes:
                require(
                    blocks in allowed, f"{where}: no stack ends at {blocks} blocks; model.stacks allows {list(allowed)}"
                )
            require(
                sizes[-1] == self.model.layers,
                f"{where}: the phase ends with {sizes[-1]} blocks, and model.layers is {self.model.layers}",
            )

    def _check_sharing(self, step: str, micro_batches: int) -> None:
        """Raise ValueError if the devices cannot share the micro-batches of a step."""
        train, devices = self.train, self.train.device_count
        require(
            micro_batches % devices == 0,
            f"{step}, which train.devices = {devices} does not divide; make train.micro_batch smaller",
        )
        require(
            train.devices == "all" or devices % train.fsdp == 0,
            f"train.fsdp: {train.fsdp} does not divide the {devices} devices; set it to a number that does, such as 1",
        )


def load(path: str | Path, overrides: Sequence[str] = (), workdir: str | None = None) -> Config:
    """Read a TOML file, apply `--set` overrides and validate the result.

    Args:
      path: the configuration file.
      overrides: `dotted.path=value` strings, as in `phase.grammar.tokens=204800`; see
        `schema.override`.
      workdir: the run directory, instead of the file's.

    Raises:
      InputError: the file cannot be read or parsed (with line and column), or a field is not valid.
    """
    tree = schema.read_toml(Path(path))
    for text in overrides:
        schema.override(tree, text)
    if workdir is not None:
        tree["workdir"] = workdir
    _require_one_length(tree, str(path))
    return parse(tree, str(path))


def _require_one_length(tree: dict[str, Any], origin: str) -> None:
    """Raise InputError if a phase of a file has both tokens and epochs. A run's own record has both."""
    phases = tree.get("phase")
    for phase in phases if isinstance(phases, list) else []:
        if isinstance(phase, dict) and {"tokens", "epochs"} <= phase.keys():
            where = f"phase.{phase.get('name')}"
            raise InputError(
                f"{origin}: {where}: it has tokens ({phase['tokens']}) and epochs ({phase['epochs']}); give one of "
                f"them. --set {where}.tokens= removes the tokens of a file"
            )


def parse(tree: dict[str, Any], origin: str) -> Config:
    """Validate a plain tree, as TOML or JSON gives it.

    `origin` names it in messages. Raise InputError.
    """
    model = tree.get("model")
    if isinstance(model, dict) and "segments" in model and "stacks" not in model:
        stacks = {"stacks": model["segments"]}  # the name of the field in older configurations
        tree = {**tree, "model": {name: value for name, value in model.items() if name != "segments"} | stacks}
    return schema.validate(Config, tree, origin)


def with_kernels(config: Config, kernels: Kernels) -> Config:
    """Return the configuration with these kernels in place of "auto"."""
    tree = to_tree(config)
    tree["train"]["kernels"] = kernels
    return parse(tree, "chosen kernels")


def with_devices(config: Config, devices: int) -> Config:
    """Return the configuration with this number of devices in place of "all". Raise InputError if they do not fit."""
    tree = to_tree(config)
    tree["train"]["devices"] = devices
    return parse(tree, f"{devices} devices")


def to_tree(config: Config) -> dict[str, Any]:
    """Turn a configuration into plain JSON values. `parse` reads them back to an equal Config."""
    return schema.to_tree(config)
