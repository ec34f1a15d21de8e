"""quick_launch.py, with the native kernels built from other sources: sabotaged_launch.py SOURCES CONFIG. Run by the
tests in a process of its own."""

import runpy
import sys
from pathlib import Path

from llm60_jax.kernels import building

if __name__ == "__main__":
    building.SOURCES = Path(sys.argv.pop(1))
    building._FLAGS = tuple("-O1" if flag == "-O3" else flag for flag in building._FLAGS)  # compiled in half the time
    runpy.run_path(str(Path(__file__).with_name("quick_launch.py")), run_name="__main__")
