"""The requests that the server understands, checked field by field. No jax.

What is not offered is refused by its name, never ignored.
"""

import json
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from llm60_jax.config.schema import nearest
from llm60_jax.serve.replies import Refusal

MOST_ROWS = 16  # texts that one request may ask for
MOST_ALTERNATIVES = 20
_STRICT = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)
_ModelId = Annotated[str, Field(min_length=1, max_length=400)]
_StopText = Annotated[str, Field(min_length=1, max_length=1000)]
Prompt = str | list[int]


class StreamOptions(BaseModel):
    """How a stream ends."""

    model_config = _STRICT
    include_usage: bool = False


class Completion(BaseModel):
    """A request of /v1/completions. `top_k` and `repetition_penalty` are ours, the rest is OpenAI's."""

    model_config = _STRICT
    model: _ModelId
    n: Annotated[int, Field(ge=1, le=MOST_ROWS)] = 1  # texts of each prompt
    prompt: list[Prompt]
    max_tokens: Annotated[int, Field(ge=0, le=10**9)] = 16
    stop: Annotated[list[_StopText], Field(max_length=4)] = []
    seed: Annotated[int, Field(ge=0, lt=2**31)] | None = None  # of the first text of each prompt; None draws one
    temperature: Annotated[float, Field(ge=0, le=2)] = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    top_k: Annotated[int, Field(ge=0, lt=2**31)] = 0
    repetition_penalty: Annotated[float, Field(ge=0.01, le=100)] = 1.0
    logprobs: Annotated[int, Field(ge=0, le=MOST_ALTERNATIVES)] | None = None  # alternatives of each token
    echo: bool = False
    stream: bool = False
    stream_options: StreamOptions | None = None
    user: Annotated[str, Field(max_length=1000)] | None = None
    best_of: int | None = None
    suffix: None = None
    logit_bias: None = None
    presence_penalty: None = None
    frequency_penalty: None = None

    @field_validator("suffix", "logit_bias", "presence_penalty", "frequency_penalty", mode="before")
    @classmethod
    def _offer_nothing(cls, value: Any) -> None:
        if value not in ("", {}) and (value != 0 or isinstance(value, bool)):
            raise ValueError("is not offered by this server; leave it out")

    @field_validator("best_of")
    @classmethod
    def _offer_no_choice(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value is not None and value != info.data.get("n"):
            raise ValueError(f"is {value}, but this server returns every text that it writes: it must equal n")
        return value

    @field_validator("stop", mode="before")
    @classmethod
    def _one_or_more(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @field_validator("stop")
    @classmethod
    def _are_texts(cls, value: list[str]) -> list[str]:
        for stop in value:
            _require_text(stop)
        return value

    @field_validator("stream_options")
    @classmethod
    def _belong_to_a_stream(cls, value: StreamOptions | None, info: ValidationInfo) -> StreamOptions | None:
        if value is not None and not info.data.get("stream"):
            raise ValueError("is allowed only with stream=true")
        return value

    @field_validator("prompt", mode="before")
    @classmethod
    def _in_a_list(cls, value: Any, info: ValidationInfo) -> list[Prompt]:
        prompts: list[Prompt] = value if isinstance(value, list) and not _is_ids(value) else [value]
        if not prompts:
            raise ValueError("is an empty list")
        rows = len(prompts) * info.data.get("n", 1)
        if rows > MOST_ROWS:
            raise ValueError(f"{len(prompts)} prompts with n of each are {rows} texts; at most {MOST_ROWS} are allowed")
        for prompt in prompts:
            if isinstance(prompt, str):
                _require_text(prompt)
            elif not _is_ids(prompt):
                raise ValueError("must be a string, a list of strings, a list of token ids, or a list of such lists")
        return prompts


class Inside(BaseModel):
    """A request of /api/inside."""

    model_config = _STRICT
    model: _ModelId
    text: Annotated[str, Field(min_length=1, max_length=100_000)]

    @field_validator("text")
    @classmethod
    def _is_text(cls, value: str) -> str:
        _require_text(value)
        return value


def completion(body: bytes) -> Completion:
    """Return a checked request of /v1/completions. Raise Refusal. A null means the default, as with OpenAI."""
    tree = {name: value for name, value in _parsed(body).items() if value is not None}
    return _checked(Completion, tree)


def inside(body: bytes) -> Inside:
    """Return a checked request of /api/inside. Raise Refusal."""
    return _checked(Inside, _parsed(body))


def _parsed(body: bytes) -> dict[str, Any]:
    """Return the JSON object of a body. Raise Refusal."""
    try:
        tree = json.loads(body.decode("utf-8"), parse_constant=_no_number, object_pairs_hook=_without_repeats)
    except RecursionError:
        raise Refusal(400, "the body is nested too deeply") from None
    except ValueError as error:  # of JSON, UTF-8 or a number with thousands of digits
        raise Refusal(400, f"the body is not valid JSON: {str(error)[:200]}") from None
    if not isinstance(tree, dict):
        raise Refusal(400, "the body must be a JSON object")
    return tree


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no number of JSON")


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    tree = dict(pairs)
    if len(tree) != len(pairs):
        raise ValueError("a field is there twice")
    return tree


def _checked(kind: Any, tree: dict[str, Any]) -> Any:
    """Return a record of that kind. Raise Refusal, which names the first field at fault."""
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    if not first["loc"]:
        raise Refusal(400, f"the body has a field that cannot be read: {first['msg']}")
    field = str(first["loc"][0])[:60]
    where = ".".join(str(part)[:60] for part in first["loc"])
    if first["type"] == "extra_forbidden":
        hint = nearest(field, list(kind.model_fields)) if len(first["loc"]) == 1 else ""
        raise Refusal(400, f"{where}: this server knows no such field{hint}", param=field)
    raise Refusal(400, f"{where}: {first['msg'].removeprefix('Value error, ')}", param=field)


def _is_ids(value: Any) -> bool:
    """Return whether a value is a list of token ids. An empty list is none."""
    return isinstance(value, list) and bool(value) and all(type(x) is int and 0 <= x < 2**31 for x in value)


def _require_text(text: str) -> None:
    """Raise ValueError for half a character, which JSON can spell and UTF-8 cannot."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError("holds half a character (a lone surrogate)") from None
