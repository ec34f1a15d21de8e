"""launch.py, with a few minimal pairs of each phenomenon instead of all: tiny models learn nothing of them, and a tiny
context holds few at a time. Run by the tests in a process of its own."""

import runpy
import sys
from pathlib import Path

from llm60_jax.evaluate.grammar import suite

if __name__ == "__main__":  # and not in the processes that clean text
    project = Path(__file__).resolve().parents[1]
    few = {name: some[:1] for name, some in suite.suite().items()}
    suite.suite = lambda: few  # type: ignore[assignment]
    sys.path.insert(0, str(project))
    sys.argv[0] = "launch.py"
    runpy.run_path(str(project / "launch.py"), run_name="__main__")
