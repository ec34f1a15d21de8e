"""llm60_jax: train a small, deep language model from raw English text on one ordinary computer."""

import time

__version__ = "0.1.0"

STARTED = time.monotonic()  # seconds; every command imports this package first
