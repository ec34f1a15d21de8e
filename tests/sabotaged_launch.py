"""quick_launch.py, with the native kernels built from other sources: sabotaged_launch.py SOURCES CONFIG. Run by the
tests in a process of its own."""

import runpy
import sys
from pathlib import Path

from llm60_jax.kernels import building

if __name__ == "__main__":
    building.SOURCES = Path(sys.argv.pop(1))
    runpy.run_path(str(Path(__file__).with_name("quick_launch.py")), run_name="__main__")
