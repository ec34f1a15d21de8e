"""Strict records read from TOML, with overrides and with messages that name the field. No jax.

- Kinds of fields: the frozen `record` decorator, bounded numbers and names, `require` for the rules
  between fields.
- Reading: `read_toml` parses a file, `validate` turns a tree into a record, `to_tree` turns it
  back.
- Overrides: `override` applies one `--set dotted.path=value` to a tree before validation.
- Messages: `explain` puts a pydantic error into one line: the field as the user writes it, the
  reason, and the nearest valid name.

Every failure is an `InputError`. It names the file or the option, the field and the reason.
"""

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

T = TypeVar("T")
_MAX_BYTES = 2**20  # of a configuration file


# --- Kinds of fields ------------------------------------------------------------------------------

record = dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid", strict=True, allow_inf_nan=False))

Positive = Annotated[int, Field(gt=0, le=10**15)]
Count = Annotated[int, Field(ge=0, le=10**15)]
PathText = Annotated[str, Field(min_length=1, pattern=r"^[^\x00]+$")]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,40}$")]
Remat = Literal["full", "attention", "products", "none"]
Recompute = Literal["full", "attention", "products", "none", "auto"]  # "auto" measures the policies
Dtype = Literal["bfloat16", "float32"]  # operands of matrix products in training
Gather = Literal["step", "layer"]  # when weights that devices hold together are put together
Kernels = Literal["native", "xla"]  # what computes stacks and heads on a CPU
WantedKernels = Literal["auto", "native", "xla"]  # "auto" is native where it can be had
Piecewise = tuple[tuple[Fraction, Count], ...]  # pairs (fraction of the phase's tokens, value from there on)


def require(condition: bool, message: str) -> None:
    """Raise ValueError unless the condition holds.

    Validation turns it into one line that names the field.
    """
    if not condition:
        raise ValueError(message)


def require_rising(field: str, pairs: Sequence[tuple[float, Any]]) -> None:
    """Raise ValueError unless the fractions of a piecewise setting begin at 0 and rise."""
    fractions = [fraction for fraction, _ in pairs]
    require(bool(pairs) and fractions[0] == 0, f"{field}: the first fraction must be 0")
    require(all(a < b for a, b in itertools.pairwise(fractions)), f"{field}: fractions must rise, got {fractions}")


# --- Reading and validating -----------------------------------------------------------------------


def read_toml(path: Path) -> dict[str, Any]:
    """Read the tree of a TOML file.

    Raise InputError if it cannot be read, or parsed (with line and column).
    """
    try:
        if (size := path.stat().st_size) > _MAX_BYTES:
            raise InputError(f"{path}: {size:,} bytes; no configuration has more than {_MAX_BYTES:,}")
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        near = sorted(str(p) for p in path.parent.glob("*.toml")) if path.parent.is_dir() else []
        raise InputError(f"{path}: no such configuration file{nearest(str(path), near)}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as UTF-8 text: {error}") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise InputError(f"{path}: not valid TOML: {error}") from None


def validate(kind: type[T], tree: dict[str, Any], origin: str) -> T:
    """Turn a plain tree, as TOML or JSON gives it, into a record.

    `origin` names it in messages. Raise InputError.
    """
    try:
        # By way of JSON: only there does pydantic's strict mode accept lists for tuples.
        # A date exists in TOML, not in JSON, and becomes its text.
        return _adapter(kind).validate_json(json.dumps(tree, default=str))
    except ValidationError as error:
        lines = [explain(kind, tree, dict(item)) for item in error.errors()[:5]]
        more = error.error_count() - len(lines)
        lines += [f"... and {more} more"] if more > 0 else []
        raise InputError(f"{origin}: " + "\n  ".join(lines)) from None
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"{origin}: TOML allows this value, no field does: {error}") from None


def to_tree(value: Any) -> dict[str, Any]:
    """Turn a record into plain JSON values. `validate` reads them back to an equal record."""
    return json.loads(_adapter(type(value)).dump_json(value))


_ADAPTERS: dict[type, TypeAdapter[Any]] = {}  # building one is slow


def _adapter(kind: type) -> TypeAdapter[Any]:
    if kind not in _ADAPTERS:
        _ADAPTERS[kind] = TypeAdapter(kind)
    return _ADAPTERS[kind]


# --- Overrides ------------------------------------------------------------------------------------


def override(tree: dict[str, Any], setting: str) -> None:
    """Set one field of a tree in place, from the text `dotted.path=value`.

    The value is TOML; a bare word counts as a string. An empty value removes the field, so that its
    default applies, or removes the entry of a list. An entry of a list of named tables goes by its
    name, an entry of any other list by its number. Raise InputError.
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
            place: Any = _entry(node, key, here)
        elif isinstance(node, dict):
            place = key
        else:
            raise InputError(f"{here}: '{'.'.join(keys[:depth])}' is a single value, not a table")
        if depth < len(keys) - 1:
            node = node.setdefault(place, {}) if isinstance(node, dict) else node[place]
        elif text.strip():
            node[place] = value
        elif place in node or isinstance(node, list):
            del node[place]


def _entry(entries: list[Any], key: str, here: str) -> int:
    """Return the number of a list's entry that `key` names, by its name or its number.

    Raise InputError.
    """
    names = [entry.get("name") if isinstance(entry, dict) else None for entry in entries]
    if key in names:
        return names.index(key)
    if key.isdecimal() and int(key) < len(entries):
        return int(key)
    valid = [name for name in names if isinstance(name, str)]
    choices = f"; it has {valid}" if valid else f"; it has {len(entries)} entries"
    raise InputError(f"{here}: no such entry{nearest(key, valid)}{choices}")


# --- Messages -------------------------------------------------------------------------------------


def explain(root: type, tree: dict[str, Any], item: dict[str, Any]) -> str:
    """Put a pydantic error into one line: the user's path, the reason, the nearest valid name."""
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
    """Turn `('phase', 0, 'sources', 1, 'folder', 'path')` into `phase.grammar.sources.1.path`."""
    parts: list[str] = []
    node = tree
    for key in loc:
        if isinstance(node, list) and isinstance(key, int) and key < len(node):
            node = node[key]
            name = node.get("name") if isinstance(node, dict) and parts == ["phase"] else None
            parts.append(name if isinstance(name, str) else str(key))
        elif isinstance(node, dict) and node.get("kind") == key and key not in node:
            continue  # the tag that selects a kind of source: no field of the file
        else:
            node = node.get(key) if isinstance(node, dict) else None
            parts.append(str(key))
    return ".".join(parts)


def _fields_at(root: type, loc: tuple[Any, ...]) -> list[str]:
    """Return the names of the valid fields at a place in the configuration."""
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
    """Return `; did you mean '...'?` for the closest choice, or "" if none is close."""
    close = difflib.get_close_matches(word, choices, n=1, cutoff=0.6)
    return f"; did you mean '{close[0]}'?" if close else ""
