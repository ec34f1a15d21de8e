"""Run tools/trials/gpu_check.py by its short name."""

import os
import sys
from pathlib import Path

if __name__ == "__main__":
    script = Path(__file__).resolve().parent / "trials" / "gpu_check.py"
    os.execv(sys.executable, [sys.executable, str(script), *sys.argv[1:]])
