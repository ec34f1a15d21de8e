"""The reference page of the configuration: every record, with the comments of its source files.

Used by docs.py; not a command.
"""

import ast
import dataclasses
import io
import json
import re
import tokenize
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple, Union

from pydantic.fields import FieldInfo

from llm60_jax import config as config_module
from llm60_jax.config import Config, schema

SOURCES = Path(config_module.__file__).parent

INTRODUCTION = """# Configuration

{note}

A configuration is a TOML file. `--set FIELD=VALUE` overrides any field of it, for example
`--set phase.grammar.tokens=204800`. A field with the default `-` may be left out. Every value is
checked before anything expensive starts."""

# --- What the source files say ---------------------------------------------------------------------------------------


class RecordText(NamedTuple):
    """What a source file says of a record: its docstring, and a comment for each field that has
    one."""

    docstring: str
    comments: dict[str, str]


def texts() -> dict[str, RecordText]:
    """Return the texts of all records, by class name."""
    return {name: text for path in sorted(SOURCES.glob("*.py")) for name, text in _texts_in(path)}


def _texts_in(path: Path) -> Iterator[tuple[str, RecordText]]:
    source = path.read_text(encoding="utf-8")
    comments = _comments(source)
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef) and any(ast.unparse(item) == "record" for item in node.decorator_list):
            fields = [item for item in node.body if isinstance(item, ast.AnnAssign)]
            yield (
                node.name,
                RecordText(
                    " ".join((ast.get_docstring(node) or "").split()),
                    {ast.unparse(field.target): text for field in fields if (text := _comment_of(field, comments))},
                ),
            )


def _comments(source: str) -> dict[int, tuple[str, bool]]:
    """Return the comments by line, and whether each stands alone on its line."""
    by_line = {}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT and not token.string.startswith("# fmt:"):
            by_line[token.start[0]] = token.string.lstrip("# "), not token.line[: token.start[1]].strip()
    return by_line


def _comment_of(field: ast.AnnAssign, comments: dict[int, tuple[str, bool]]) -> str:
    """Return a field's comment: the lines above it that hold nothing else, and what stands behind
    it."""
    above: list[str] = []
    line = field.lineno - 1
    while line in comments and comments[line][1]:
        above.insert(0, comments[line][0])
        line -= 1
    behind = [comments[n][0] for n in range(field.lineno, (field.end_lineno or field.lineno) + 1) if n in comments]
    return " ".join([*above, *behind])


# --- Types and values in plain words ---------------------------------------------------------------------------------

_NAMED: list[tuple[Any, str]] = [
    (schema.Positive, "integer of 1 or more"),
    (schema.Count, "integer of 0 or more"),
    (schema.PathText, "path"),
    (schema.Name, "name (`a-z`, `0-9`, `_`)"),
    (schema.Piecewise, "list of [fraction, integer] pairs"),
]
_PLAIN = {int: "integer", float: "number", str: "text", bool: "true or false"}


def words(hint: Any) -> str:
    """Return a type in plain words, in Markdown; a record becomes a link to its section."""
    for alias, name in _NAMED:
        if hint == alias:
            return name
    if hint in _PLAIN:
        return _PLAIN[hint]
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return f"table [{hint.__name__}](#{hint.__name__.lower()})"
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return words(arguments[0]) + _bounds(arguments[1].metadata)
    if origin is Literal:
        return _either([f"`{value}`" for value in arguments])
    if origin in (Union, types.UnionType):
        return _either([words(argument) for argument in arguments if argument is not types.NoneType])
    if origin is tuple and arguments[-1] is ...:
        return f"list of {_plural(words(arguments[0]))}"
    if origin is tuple:
        return f"[{', '.join(map(words, arguments))}]"
    if origin is dict:
        return f"table from {_plural(words(arguments[0]))} to {_plural(words(arguments[1]))}"
    raise TypeError(f"no words for the type {hint}")


def _plural(text: str) -> str:
    return re.sub(r"^(integer|number|text|path|name|table)\b", r"\1s", text)


def _either(choices: list[str]) -> str:
    return " or ".join(filter(None, [", ".join(choices[:-1]), choices[-1]]))


def _bounds(metadata: list[Any]) -> str:
    """Return the bounds of a pydantic field in words, such as ` from 0 to 1`; nothing for a
    pattern."""
    bounds: dict[str, Any] = {}
    for constraint in metadata:
        if dataclasses.is_dataclass(constraint) and not isinstance(constraint, type):
            bounds |= dataclasses.asdict(constraint)
    low, high = bounds.get("ge"), bounds.get("le")
    text = ", not empty" if "min_length" in bounds else ""
    if low is not None:
        text += f" from {low:,}" if high is not None or "lt" in bounds else f" of {low:,} or more"
    if "gt" in bounds:
        text += f" above {bounds['gt']:,}"
    if high is not None:
        text += f" to {high:,}" if low is not None else f" up to {high:,}"
    if "lt" in bounds:
        text += f" to below {bounds['lt']:,}" if low is not None else f" and below {bounds['lt']:,}"
    return text


def default_of(field: dataclasses.Field[Any]) -> str:
    """Return a field's default as TOML has it, `required`, or a dash for a field that is left
    out."""
    value = field.default
    if isinstance(value, FieldInfo):  # pydantic's Field(default_factory=...)
        value = value.get_default(call_default_factory=True)
    if field.default_factory is not dataclasses.MISSING:
        value = field.default_factory()
    if value is dataclasses.MISSING:
        return "required"
    if value is None:
        return "-"
    return "its defaults" if dataclasses.is_dataclass(value) else f"`{json.dumps(value)}`"


# --- The page --------------------------------------------------------------------------------------------------------


def records() -> dict[type, str]:
    """Return the classes of all records from Config down, each with the place where it is first
    used."""
    places: dict[type, str] = {}
    queue: list[tuple[type, str]] = [(Config, "")]
    while queue:
        kind, place = queue.pop(0)
        if kind not in places:
            places[kind] = place
            for name, hint in _hints(kind).items():
                queue += [(inner, f"{place}.{name}".lstrip(".")) for inner in _records_in(hint)]
    return places


def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind, include_extras=True)


def _records_in(hint: Any) -> list[type]:
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return [hint]
    return [inner for argument in typing.get_args(hint) for inner in _records_in(argument)]


def page(note: str) -> str:
    """Return docs/reference/config.md."""
    texts_by_name = texts()
    parts = [INTRODUCTION.format(note=note)]
    for kind, place in records().items():
        text, hints = texts_by_name[kind.__name__], _hints(kind)
        rows = ["| field | type | default | meaning |", "| --- | --- | --- | --- |"]
        for field in dataclasses.fields(kind):
            meaning = text.comments.get(field.name, "")
            cells = f"`{field.name}`", words(hints[field.name]), default_of(field), meaning
            rows.append("| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |")
        where = f"Written as `{place}`. " if place else ""
        parts.append(f"## {kind.__name__}\n\n{where}{text.docstring}\n\n" + "\n".join(rows))
    return "\n\n".join(parts) + "\n"
