"""launch.py, with a few minimal pairs of each phenomenon instead of all: tiny models learn nothing of them, and a tiny
context holds few at a time. Run by the tests in a process of its own. With FULL_DISK=1 in its environment the first
save of a rolling checkpoint finds a disk that takes no more than the beginning of a file."""

import contextlib
import os
import resource
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path

from llm60_jax.evaluate.grammar import suite
from llm60_jax.machine import manifest

_BYTES = 10_000  # less than the arrays of the smallest model take


def full_once() -> None:
    """Let the disk be full for the first rolling checkpoint."""
    building, limits = manifest.building, resource.getrlimit(resource.RLIMIT_FSIZE)

    @contextlib.contextmanager
    def full(folder: Path) -> Iterator[Path]:
        with building(folder) as scratch:
            if folder.parent.name == "checkpoints":
                manifest.building = building
                resource.setrlimit(resource.RLIMIT_FSIZE, (_BYTES, limits[1]))
            try:
                yield scratch
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    manifest.building = full


if __name__ == "__main__":  # and not in the processes that clean text
    project = Path(__file__).resolve().parents[1]
    few = {name: some[:1] for name, some in suite.suite().items()}
    suite.suite = lambda: few  # type: ignore[assignment]
    if os.environ.get("FULL_DISK"):
        full_once()
    sys.path.insert(0, str(project))
    sys.argv[0] = "launch.py"
    runpy.run_path(str(project / "launch.py"), run_name="__main__")
