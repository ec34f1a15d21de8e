"""Run tools/trials/fuzz_files.py by its short name."""

import os
import sys
from pathlib import Path

if __name__ == "__main__":
    script = Path(__file__).resolve().parent / "trials" / "fuzz_files.py"
    os.execv(sys.executable, [sys.executable, str(script), *sys.argv[1:]])
