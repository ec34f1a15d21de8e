"""`--set dotted.path=value`: one field of a configuration's plain tree, changed before validation."""

import tomllib
from typing import Any

from llm60_jax import explain
from llm60_jax.errors import InputError


def apply(tree: dict[str, Any], override: str) -> None:
    """Sets one field in place. The value is TOML; a bare word is taken as a string; an empty value takes the field out,
    so that its default holds, or the entry of a list. An entry of a list of named tables is addressed by its name, of
    any other list by its number. Raises InputError.
    """
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
        if depth == len(keys) - 1 and text.strip():
            node[step] = value
        elif depth == len(keys) - 1:
            if step in node or isinstance(node, list):
                del node[step]
        elif isinstance(node, dict):
            node = node.setdefault(step, {})
        else:
            node = node[step]
