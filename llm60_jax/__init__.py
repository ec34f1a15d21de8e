"""llm60_jax: train a small, deep language model from raw English text on one ordinary computer."""

import sys
import time

__version__ = "0.1.0"
STARTED = time.monotonic()  # seconds; every command imports this package first

if sys.platform == "win32":  # before a module looks for POSIX locks and signals
    print(
        "llm60_jax: Windows lacks POSIX locks and signals; run it inside WSL 2 (docs/guide/install.md)", file=sys.stderr
    )
    raise SystemExit(5)
