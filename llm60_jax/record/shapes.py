"""What the JSON files of a run hold: the one table of their fields, and of the kind of each.

Readers take from `metrics.jsonl`, `plan.json`, `gates/` and `samples/` only what fits here; the rest
is skipped and named. docs/reference/metrics.md explains the fields of a row (`Row`). Fields that are
not in the table are allowed.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from llm60_jax.config import Config
from llm60_jax.config.schema import Count, Positive, Remat

Number = Annotated[float, Field(ge=-1e30, le=1e30)]  # finite, and so are sums and squares
Seconds = Annotated[float, Field(ge=0, le=1e12)]
Share = Annotated[float, Field(ge=0, le=1)]
_NAMED = 5  # skipped rows in a message
_KINDS = {str: "text", bool: "true or false", type(None): "null", list: "a list", dict: "an object"}


class Shape(BaseModel):
    """Fields of a JSON object. A field with the default None may be absent, but not null."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)


# --- metrics.jsonl ---------------------------------------------------------------------------------------------------


class Order(Shape):
    """How much the order of tokens tells (`data.tokens.bigrams.Order`)."""

    by_chance: Number
    gain: Number


class Scores(Shape):
    """The held-out loss of a phase, inside `earlier_phases`."""

    validation_loss: Number


class Refused(Shape):
    """A step that was not applied; a number that was not finite is text."""

    loss: Number | str
    grad_norm: Number | str
    limit: Number | None
    batch: str
    broken: list[str]


class StageEnd(Shape):
    """The account of a stage."""

    tokens_per_second: Seconds
    compile_seconds: Seconds
    temporary_bytes: Number
    resident_bytes: Number
    peak_resident_bytes: Number
    seconds: dict[str, Seconds] = {}
    planned_seconds: Seconds | None = None
    order: Order | None = None


class PhaseEnd(Shape):
    """The account of a phase's end."""

    seconds: dict[str, Seconds] = {}


class Text(Shape):
    """Figures of a phase's text (`data.prepare.Prepared.facts`)."""

    documents: Count
    tokens: Count
    epochs: Annotated[float, Field(gt=0, le=1e12)]
    kept_share: Number
    duplicate_share: Number
    bytes_per_token: Number
    whole_word_share: Number
    unused_share: Number
    unigram_entropy: Number | None = None
    order: Order | None = None
    word_order: Order | None = None


class Depth(Shape):
    """What each block does (`evaluate.depth`)."""

    contributions: Annotated[list[Number], Field(min_length=1)]
    losses: Annotated[list[Number], Field(min_length=2)]


class Row(Shape):
    """A row of metrics.jsonl: the first four fields, and those of what it records."""

    step: Count
    tokens: Count
    phase: str
    stage: Count
    # a logged step
    context: Positive = 1
    blocks: Positive = 1  # older runs have none
    frozen: Count = 0
    loss: Number = 0
    objective: Number = 0
    learning_rate: Number = 0
    tokens_per_second: Seconds = 0
    grad_norm: Number = 0
    segment_grad_norms: dict[str, Any] = {}
    # an evaluation
    validation_loss: Number = 0
    validation_error: Number | None = 0
    bits_per_byte: Number = 0
    bits_per_byte_error: Number | None = 0
    validation_tokens: Count = 0
    loss_by_rarity: Annotated[list[Number | None], Field(min_length=5, max_length=5)] = []
    minimal_pairs: Share = 0
    minimal_pairs_by_phenomenon: dict[str, Share] = {}
    earlier_phases: dict[str, Scores] = {}
    pieces: dict[str, Any] = {}
    # single events
    drift: dict[str, Any] = {}
    decision: dict[str, Any] = {}
    extension: dict[str, Any] = {}
    refused: Refused | None = None
    proof: dict[str, Any] = {}
    stage_end: StageEnd | None = None
    paused_seconds: Number = 0
    data: Text | None = None
    depth: Depth | None = None
    phase_end: PhaseEnd | None = None
    rescue: dict[str, Any] = {}
    stopped: str = ""


# A row with the first field has the others, too.
TOGETHER = {
    "loss": ("context", "frozen", "learning_rate"),
    "validation_loss": ("bits_per_byte",),
    "minimal_pairs": ("minimal_pairs_by_phenomenon",),
}
_OBJECTS = ("refused", "stage_end", "data", "depth", "phase_end")  # None stands for absence here, and is no value
_ONCE = ("loss", "validation_loss")  # at a step of a phase


# --- plan.json, gates/, samples/ -------------------------------------------------------------------------------------


class PlanRow(Shape):
    """A stage in plan.json."""

    phase: str
    stage: Count
    start_step: Count
    stop_step: Positive
    tokens: Positive
    token_start: Count
    context: Positive
    micro_batch: Positive
    accumulation: Positive
    blocks: Positive | None = None
    frozen: Count
    remat: Remat
    reason: str = ""


class GateCheck(Shape):
    """One requirement of a gate."""

    name: str
    found: Number | None
    asked: str
    passed: bool


class RareWords(Shape):
    """Clozes of rare words."""

    correct: Count
    pairs: Count


class Evidence(Shape):
    """The part of a gate's evidence that readers show."""

    grammar_mean: Share = 0
    rare_words: RareWords | None = None
    generated: dict[str, Number | None] = {}
    human: dict[str, Number | None] = {}


class Gate(Shape):
    """A file of gates/."""

    passed: bool
    override: str | None = None
    checks: list[GateCheck] = []
    evidence: Evidence = Evidence()


class SampleText(Shape):
    """A text that the model wrote."""

    prompt: str
    text: str
    kind: str = "short"


class Sample(Shape):
    """A file of samples/."""

    step: Count
    phase: str
    tokens_per_second: Seconds | None = None
    texts: list[SampleText] = []


# --- Checking --------------------------------------------------------------------------------------------------------


class Rows(NamedTuple):
    """The rows that can be read, and a line for each one that was skipped: where, and why."""

    rows: list[dict[str, Any]]
    skipped: list[str]


def problem(shape: type[Shape], value: Any) -> str:
    """Return what is wrong with a JSON value; "" if it fits."""
    try:
        shape.model_validate(value)
    except ValidationError as error:
        return _explained(dict(error.errors(include_url=False)[0]))
    except RecursionError:
        return "nested too deeply"
    return ""


def row_problem(row: Any) -> str:
    """Return what is wrong with a row of metrics.jsonl; "" if nothing is."""
    if not isinstance(row, dict):
        return f"is {_kind(row)}, not an object"
    for field in _OBJECTS:
        if field in row and row[field] is None:
            return f"{field} is null"
    for field, others in TOGETHER.items():
        if field in row and (absent := [name for name in others if name not in row]):
            return f"{absent[0]} is missing beside {field}"
    return problem(Row, row)


Seen = set[tuple[str, str, int]]  # measurements so far: the field, the phase, the step


def parse(data: bytes, config: Config | None, seen: Seen | None = None, first: int = 1) -> Rows:
    """Return the rows of a metrics.jsonl. A last line that is cut short is being written; it is not named.

    Args:
      config: of the run, which tells its rows from those of another; None if it is not known.
      seen: measurements of the lines before `data`; those of `data` are added.
      first: number of the first line.
    """
    rows: list[dict[str, Any]] = []
    skipped = []
    seen = set() if seen is None else seen
    *lines, last = data.split(b"\n")
    for number, line in enumerate([*lines, last]):
        if not line.strip():
            continue
        row, why = _read(line)
        why = why or (foreign(config, row) if config else "")
        measured = {(name, row["phase"], row["step"]) for name in _ONCE if name in row} if not why else set()
        if again := measured & seen:
            why = f"{min(again)[0]} of step {row['step']} is there a second time"
        if not why:
            rows.append(row)
            seen |= measured
        elif number < len(lines):
            skipped.append(f"line {first + number}: {why}")
    return Rows(rows, skipped)


def _read(line: bytes) -> tuple[Any, str]:
    """Return the row in a line, and what is wrong with it."""
    try:
        row = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError:
        return None, "not UTF-8"
    except (ValueError, RecursionError):
        return None, "not JSON"
    return row, row_problem(row)


def foreign(config: Config, row: Mapping[str, Any]) -> str:
    """Return why a row is of another run; "" if this one can have written it."""
    tokens = row["step"] * config.train.tokens_per_step
    if row["phase"] not in config.phase_names:
        return f"the run has no phase {row['phase']!r:.60}"
    return (
        "" if row["tokens"] == tokens else f"tokens is {row['tokens']}, and after {row['step']} steps it was {tokens}"
    )


def plan_problem(config: Config, rows: Any) -> str:
    """Return why a plan.json is not one of this configuration; "" if it is."""
    if not isinstance(rows, list):
        return f"is {_kind(rows)}, not a list"
    for number, row in enumerate(rows, 1):
        why = problem(PlanRow, row)
        if not why and row["phase"] not in config.phase_names:
            why = f"the run has no phase {row['phase']!r:.60}"
        if not why and row["frozen"] not in config.model.boundaries[:-1]:
            why = f"no stack ends at frozen = {row['frozen']}"
        if not why and (blocks := row.get("blocks", config.model.layers)) not in config.model.boundaries[1:]:
            why = f"no stack ends at blocks = {blocks}"
        if not why and row["start_step"] >= row["stop_step"]:
            why = f"it ends at step {row['stop_step']} and begins at {row['start_step']}"
        if why:
            return f"row {number}: {why}"
    return ""


def told(name: str, skipped: Sequence[str]) -> str:
    """Return a line about the skipped rows of a file; "" if there are none."""
    if not skipped:
        return ""
    more = f"; and {len(skipped) - _NAMED:,} more" if len(skipped) > _NAMED else ""
    rows = "row" if len(skipped) == 1 else "rows"
    return f"{name}: {len(skipped):,} {rows} skipped: {'; '.join(skipped[:_NAMED])}{more}"


def _explained(error: Mapping[str, Any]) -> str:
    where, value = ".".join(map(str, error["loc"])) or "it", error["input"]
    if error["type"] == "missing":
        return f"{where} is missing"
    if error["type"] == "finite_number":
        return f"{where} is not finite"
    if error["type"] in ("too_short", "too_long"):
        return f"{where} has {len(value)} entries"
    return f"{where} is {_kind(value)}"


def _kind(value: Any) -> str:
    """Return the kind of a value that no field has, or the number that is out of range."""
    return _KINDS.get(type(value)) or f"{value!r:.30}"
