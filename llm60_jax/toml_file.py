"""TOML files as frozen records, with errors that name the file and the field. No jax."""

import json
import tomllib
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from llm60_jax import explain
from llm60_jax.errors import InputError

T = TypeVar("T")
_MOST_BYTES = 2**20


def read(path: Path) -> dict[str, Any]:
    """The tree of a TOML file. Raises InputError when it cannot be read or parsed (with line and column)."""
    try:
        if (size := path.stat().st_size) > _MOST_BYTES:
            raise InputError(f"{path}: {size:,} bytes; no configuration has more than {_MOST_BYTES:,}")
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        near = sorted(str(p) for p in path.parent.glob("*.toml")) if path.parent.is_dir() else []
        raise InputError(f"{path}: no such configuration file{explain.nearest(str(path), near)}") from None
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
        lines = [explain.one(kind, tree, dict(item)) for item in error.errors()[:5]]
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
