"""Whether the folders of a run are the same for all of its processes, on whatever computers they run."""

import contextlib
import secrets
import time
from pathlib import Path

from llm60_jax.errors import InputError
from llm60_jax.machine import together, unfinished

PATIENCE = 60.0  # seconds until what process 0 writes must be there for the others, too


def require(field: str, folder: Path) -> None:
    """Let process 0 write a file into a folder, which it makes if need be, and the others read it.

    Raise InputError in all processes, naming the computers where it does not appear.
    """
    if together.is_alone():
        return
    with contextlib.ExitStack() as stack:
        name, word = together.on_first(lambda: _written(folder, stack))
        appears = together.gather(_appears(folder / name, word))
    absent = [together.name(process) for process, seen in enumerate(appears) if not seen]
    if absent:
        raise InputError(
            f"{field} {folder}: what {together.name(0)} writes there does not appear for {', '.join(absent)} within "
            f"{PATIENCE:.0f} s; all processes of a run need one shared folder (docs/guide/many-computers.md)"
        )


def _written(folder: Path, stack: contextlib.ExitStack) -> list[str]:
    """Write a word into a file that the stack removes; return the file's name and the word."""
    word = secrets.token_hex(8)
    folder.mkdir(parents=True, exist_ok=True)
    inside = stack.enter_context(unfinished.folder("together", folder))
    (inside / "word").write_text(word, encoding="utf-8")
    return [f"{inside.name}/word", word]


def _appears(path: Path, word: str) -> bool:
    deadline = time.monotonic() + PATIENCE
    while True:
        with contextlib.suppress(OSError):
            if path.read_text(encoding="utf-8") == word:
                return True
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
