"""The kinds of field that a configuration has: strict frozen records and bounded numbers. No jax."""

import dataclasses
import difflib
import itertools
import json
import tomllib
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from llm60_jax.errors import InputError

record = dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid", strict=True, allow_inf_nan=False))

Positive = Annotated[int, Field(gt=0, le=10**15)]
Count = Annotated[int, Field(ge=0, le=10**15)]
PathText = Annotated[str, Field(min_length=1, pattern=r"^[^\x00]+$")]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,40}$")]
Remat = Literal["full", "attention", "products", "none"]
Recompute = Literal["full", "attention", "products", "none", "auto"]  # as it is asked for; "auto" is measured
Dtype = Literal["bfloat16", "float32"]  # of the operands of matrix products in training
Piecewise = tuple[tuple[Fraction, Count], ...]  # (fraction of the phase's tokens, value from there on)


def require(condition: bool, message: str) -> None:
    """Raises ValueError, which validation turns into one line that names the field."""
    if not condition:
        raise ValueError(message)


def require_rising(field: str, pairs: Sequence[tuple[float, Any]]) -> None:
    """A piecewise setting begins at 0 and its fractions rise."""
    fractions = [fraction for fraction, _ in pairs]
    require(bool(pairs) and fractions[0] == 0, f"{field}: the first fraction must be 0")
    require(all(a < b for a, b in itertools.pairwise(fractions)), f"{field}: fractions must rise, got {fractions}")


T = TypeVar("T")
_MOST_BYTES = 2**20


def read_toml(path: Path) -> dict[str, Any]:
    """The tree of a TOML file. Raises InputError when it cannot be read or parsed (with line and column)."""
    try:
        if (size := path.stat().st_size) > _MOST_BYTES:
            raise InputError(f"{path}: {size:,} bytes; no configuration has more than {_MOST_BYTES:,}")
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        near = sorted(str(p) for p in path.parent.glob("*.toml")) if path.parent.is_dir() else []
        raise InputError(f"{path}: no such configuration file{nearest(str(path), near)}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as UTF-8 text: {error}") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise InputError(f"{path}: not valid TOML: {error}") from None


def validate(kind: type[T], tree: dict[str, Any], origin: str) -> T:
    """A plain tree, as TOML or JSON gives it, as a record. `origin` names it in messages. Raises InputError."""
    try:
        # Through JSON, because pydantic's strict mode takes lists for tuples only there.
        # A date, which TOML has and JSON has not, counts as its text.
        return _adapter(kind).validate_json(json.dumps(tree, default=str))
    except ValidationError as error:
        lines = [explain(kind, tree, dict(item)) for item in error.errors()[:5]]
        more = error.error_count() - len(lines)
        lines += [f"... and {more} more"] if more > 0 else []
        raise InputError(f"{origin}: " + "\n  ".join(lines)) from None
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"{origin}: a value that TOML allows but no field takes: {error}") from None


def to_tree(record: Any) -> dict[str, Any]:
    """A record as plain JSON values; `validate` reads it back to an equal one."""
    return json.loads(_adapter(type(record)).dump_json(record))


_ADAPTERS: dict[type, TypeAdapter[Any]] = {}  # they take a while to build


def _adapter(kind: type) -> TypeAdapter[Any]:
    if kind not in _ADAPTERS:
        _ADAPTERS[kind] = TypeAdapter(kind)
    return _ADAPTERS[kind]


def override(tree: dict[str, Any], setting: str) -> None:
    """Sets one field in place. The value is TOML; a bare word is taken as a string; an empty value takes the field out,
    so that its default holds, or the entry of a list. An entry of a list of named tables is addressed by its name, of
    any other list by its number. Raises InputError.
    """
    dotted, equals, text = setting.partition("=")
    keys = dotted.strip().split(".")
    if not equals or not all(keys):
        raise InputError(f"--set {setting}: expected dotted.path=value, for example --set seed=1")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError):
        value = text.strip()
    node: Any = tree
    for depth, key in enumerate(keys):
        here = f"--set {setting}: '{'.'.join(keys[: depth + 1])}'"
        if isinstance(node, list):
            names = [item.get("name") if isinstance(item, dict) else None for item in node]
            if key in names:
                step: Any = names.index(key)
            elif key.isdecimal() and int(key) < len(node):
                step = int(key)
            else:
                known = [name for name in names if isinstance(name, str)]
                choices = f"; it has {known}" if known else f"; it has {len(node)} entries"
                raise InputError(f"{here}: no such entry{nearest(key, known)}{choices}")
        elif isinstance(node, dict):
            step = key
        else:
            raise InputError(f"{here}: '{'.'.join(keys[:depth])}' is a single value, not a table")
        if depth == len(keys) - 1 and text.strip():
            node[step] = value
        elif depth == len(keys) - 1:
            if step in node or isinstance(node, list):
                del node[step]
        elif isinstance(node, dict):
            node = node.setdefault(step, {})
        else:
            node = node[step]


def explain(root: type, tree: dict[str, Any], item: dict[str, Any]) -> str:
    """One line for one pydantic error: the field as a person would write it, the reason, the nearest valid name."""
    loc = tuple(item["loc"])
    shown = _shown_path(tree, loc)
    context = item.get("ctx", {})
    if item["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        fields = _fields_at(root, loc[:-1])
        return f"{shown}: unknown field{nearest(str(loc[-1]), fields)}; valid here: {', '.join(fields)}"
    if item["type"] == "missing":
        return f"{shown}: required, but missing"
    if item["type"] == "value_error":
        reason = str(context.get("error", item["msg"]))
        return f"{shown}: {reason}" if shown else reason
    given = item.get("input")
    expected = str(context.get("expected_tags" if item["type"] == "union_tag_invalid" else "expected", ""))
    if item["type"] == "union_tag_invalid":
        given = context.get("tag")
    choices = [word.strip(" '") for word in expected.replace(" or ", ",").split(",")]
    hint = nearest(str(given), choices) if expected else ""
    value = repr(given) if len(repr(given)) <= 60 else repr(given)[:57] + "..."
    return f"{shown}: {item['msg']}{hint} (got {value})"


def _shown_path(tree: Any, loc: tuple[Any, ...]) -> str:
    """`('phase', 0, 'sources', 1, 'folder', 'path')` -> `phase.grammar.sources.1.path`."""
    parts: list[str] = []
    node = tree
    for key in loc:
        if isinstance(node, list) and isinstance(key, int) and key < len(node):
            node = node[key]
            name = node.get("name") if isinstance(node, dict) and parts == ["phase"] else None
            parts.append(name if isinstance(name, str) else str(key))
        elif isinstance(node, dict) and node.get("kind") == key and key not in node:
            continue  # the tag of a source union, which stands in no file
        else:
            node = node.get(key) if isinstance(node, dict) else None
            parts.append(str(key))
    return ".".join(parts)


def _fields_at(root: type, loc: tuple[Any, ...]) -> list[str]:
    """Names of the fields that are valid at a place in the configuration."""
    here: Any = root
    for key in loc:
        options = [here]
        while options and not any(dataclasses.is_dataclass(option) for option in options):
            options = [a for o in options for a in typing.get_args(o) if a not in (..., types.NoneType)]
        if isinstance(key, int):
            continue
        for option in options:
            if dataclasses.is_dataclass(option):
                hints = typing.get_type_hints(option, include_extras=False)
                if key in hints:
                    here = hints[key]
                elif hints.get("kind") and key in typing.get_args(hints["kind"]):
                    here = option
    while not dataclasses.is_dataclass(here):
        arguments = [a for a in typing.get_args(here) if a not in (..., types.NoneType)]
        if not arguments:
            return []
        here = arguments[0]
    return [field.name for field in dataclasses.fields(here)]


def nearest(word: str, choices: Sequence[str]) -> str:
    """`; did you mean '...'?` for the closest choice, or nothing when none is close."""
    close = difflib.get_close_matches(word, choices, n=1, cutoff=0.6)
    return f"; did you mean '{close[0]}'?" if close else ""
