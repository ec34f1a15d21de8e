"""Whether the folders of a run are the same for all of its processes, on whatever computers they run."""

import contextlib
import secrets
import time
from pathlib import Path

from llm60_jax.errors import InputError
from llm60_jax.machine import together

PATIENCE = 60.0  # seconds until what process 0 writes must be there for the others, too


def require(field: str, folder: Path) -> None:
    """Let process 0 write a file into a folder that exists, and the others read it.

    Raise InputError in all processes, naming the computers where it does not appear.
    """
    if together.is_alone():
        return
    name, word = together.broadcast([f".together-{secrets.token_hex(4)}", secrets.token_hex(8)])
    path = folder / name
    try:
        together.on_first(lambda: _write(path, word))
        appears = together.gather(_appears(path, word))
    finally:
        if together.is_first():
            path.unlink(missing_ok=True)
    absent = [together.name(process) for process, seen in enumerate(appears) if not seen]
    if absent:
        raise InputError(
            f"{field} {folder}: what {together.name(0)} writes there does not appear for {', '.join(absent)} within "
            f"{PATIENCE:.0f} s; all processes of a run need one shared folder (docs/guide/many-computers.md)"
        )


def _write(path: Path, word: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(word, encoding="utf-8")


def _appears(path: Path, word: str) -> bool:
    deadline = time.monotonic() + PATIENCE
    while True:
        with contextlib.suppress(OSError):
            if path.read_text(encoding="utf-8") == word:
                return True
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
