"""Validation errors of the configuration in a person's words: the field as the file has it, why, and what is valid."""

import dataclasses
import difflib
import types
import typing
from collections.abc import Sequence
from typing import Any


def one(root: type, tree: dict[str, Any], item: dict[str, Any]) -> str:
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
