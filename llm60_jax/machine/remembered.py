"""Measurements of this machine, cached in JSON files.

Each entry is keyed by a digest of what it depends on.

Best effort: a file that is damaged or cannot be written only costs another measurement.
"""

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llm60_jax.errors import MachineError
from llm60_jax.machine import files


def read(path: Path) -> dict[str, Any]:
    """Read all entries of a file; none if it is missing or damaged."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def add(path: Path, entries: Mapping[str, Any]) -> None:
    """Add entries to those that the file holds now."""
    with contextlib.suppress(OSError, MachineError):
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_text(path, files.dump({**read(path), **entries}))
