"""What was found out about this machine and is worth keeping: JSON values by the digest of what they depend on.

Best effort: a file that is damaged or cannot be written costs no more than finding it out again.
"""

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llm60_jax.errors import MachineError
from llm60_jax.machine import files


def read(path: Path) -> dict[str, Any]:
    """All entries of a file; none where it is missing or damaged."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def add(path: Path, entries: Mapping[str, Any]) -> None:
    """Adds entries to what the file holds now."""
    with contextlib.suppress(OSError, MachineError):
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_text(path, files.dump({**read(path), **entries}))
