"""Signals as a question the program asks itself: `check()` at every point where stopping is safe."""

import contextlib
import os
import signal
from types import FrameType

from llm60_jax.errors import Interrupted

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class Interrupts:
    """Remembers the first signal; a second one ends the process at once, with the same exit code."""

    def __init__(self) -> None:
        self.received: int | None = None

    def install(self) -> None:
        """Takes over Ctrl-C, termination and hang-up for this process. Main thread only."""
        for number in SIGNALS:
            signal.signal(number, self._receive)

    def check(self) -> None:
        """Raises Interrupted when a signal has come."""
        if self.received is not None:
            raise Interrupted(f"interrupted by {signal.Signals(self.received).name}", self.received)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            os._exit(128 + number)
        self.received = number
        with contextlib.suppress(OSError):  # a closed terminal has nobody to tell
            os.write(2, b"\nStopping at the next safe point; once more to leave at once.\n")
