"""What was found out about this machine and is worth keeping: JSON values by the digest of what they depend on.

Best effort: a file that is damaged or cannot be written costs no more than finding it out again.
"""

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llm60_jax import manifest
from llm60_jax.errors import MachineError


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
        manifest.write_text(path, manifest.dump({**read(path), **entries}))
