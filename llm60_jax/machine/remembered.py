"""Measurements of this machine, cached in JSON files, and the finished parts of unfinished ones.

Each entry is keyed by a digest of what it depends on.

Best effort: a file that is damaged or cannot be written only costs another measurement.
"""

import contextlib
import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import llm60_jax
from llm60_jax.errors import Interrupted, MachineError
from llm60_jax.machine import facts, files

# Returns a part of a measurement by its name: one that was kept, or a new one by the function.
Keep = Callable[[str, Callable[[], Any]], Any]
_WRITES_APART_SECONDS = 2.0  # of an unfinished measurement, whose parts may take milliseconds


def folder(data_dir: Path | str) -> Path:
    """Return the folder of figures that hold for this kind of machine and this version."""
    return Path(data_dir, "measured", files.digest_of([*facts.fingerprint(), llm60_jax.__version__])[:16])


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


def not_kept(name: str, measure: Callable[[], Any]) -> Any:
    """Measure a part; a `Keep` that keeps nothing."""
    return measure()


class Unfinished:
    """A long measurement under way: its finished parts are kept until all of it is finished.

    Use it in a `with` block. An interrupted measurement finds its parts when it is asked for again,
    in the same code and on the same kind of machine. A finished one is forgotten, so whoever asks
    again measures anew.

    Args:
      data_dir: the parts stay below it.
      name: of the measurement, for messages and its file.
      identity: JSON values; everything beside the code that decides the figures.
      code: folders of Python code that takes part, beside the package.
      anew: forget the parts that an interrupted measurement has kept.
    """

    def __init__(self, data_dir: Path | str, name: str, identity: Any, *code: Path, anew: bool = False):
        package = Path(llm60_jax.__file__).parent
        digest = files.digest_of([identity, *map(_digest_of_code, (package, *code))])
        self._path = folder(data_dir) / "unfinished" / f"{name}-{digest[:16]}.json"
        self._name, self._written = name, time.monotonic()
        self._parts = {} if anew else read(self._path)
        self._unwritten: dict[str, Any] = {}
        if anew:
            self._forget()

    def part(self, name: str, measure: Callable[[], Any]) -> Any:
        """Return a part as JSON values: the one that was kept, or a new one, which is kept now."""
        if name not in self._parts:
            self[name] = measure()
        return self._parts[name]

    def __contains__(self, name: str) -> bool:
        return name in self._parts

    def __getitem__(self, name: str) -> Any:
        return self._parts[name]

    def __setitem__(self, name: str, value: Any) -> None:
        # As a file holds it, so that a measurement is the same with and without interruption.
        self._parts[name] = self._unwritten[name] = json.loads(json.dumps(value))
        if time.monotonic() - self._written >= _WRITES_APART_SECONDS:
            self._write()

    def __enter__(self) -> "Unfinished":
        if self._parts:
            with contextlib.suppress(OSError):  # the terminal is gone
                print(f"{self._name}: goes on with {_counted(self._parts)} of an interrupted call", file=sys.stderr)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self._forget()
            return
        self._write()
        if isinstance(error, Interrupted):
            error.add_note(
                f"{_counted(self._parts)} kept; the same command goes on from there"
                if self._parts
                else "no part was finished; the same command starts again"
            )

    def _write(self) -> None:
        if self._unwritten:
            add(self._path, self._unwritten)
            self._unwritten, self._written = {}, time.monotonic()

    def _forget(self) -> None:
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)
            self._path.parent.rmdir()  # unless other measurements are unfinished


def _counted(parts: Mapping[str, Any]) -> str:
    return f"{len(parts):,} finished part{'s' if len(parts) > 1 else ''}"


def _digest_of_code(place: Path) -> str:
    """Return a digest of all Python files of a folder."""
    paths = sorted(place.rglob("*.py"))
    return files.digest_of({str(path.relative_to(place)): files.sha256_of(path) for path in paths})
