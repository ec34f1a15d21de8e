"""Run tools/bench/bench_serve.py by its short name."""

import os
import sys
from pathlib import Path

if __name__ == "__main__":
    script = Path(__file__).resolve().parent / "bench" / "bench_serve.py"
    os.execv(sys.executable, [sys.executable, str(script), *sys.argv[1:]])
