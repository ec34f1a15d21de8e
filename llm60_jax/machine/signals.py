"""Signals as a question the program asks itself: `check()` at every point where stopping is safe."""

import contextlib
import os
import select
import signal
import socket
import threading
from types import FrameType
from typing import NoReturn

from llm60_jax.errors import Interrupted

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
GRACE = 30.0  # seconds from the first signal to the moment when the process leaves, whatever it is doing, at least


class Interrupts:
    """Remembers the first signal; a second one, or `grace` seconds, end the process at once, and what it has started.

    Whoever knows that the next safe point is further away may raise `grace`. Signals are awaited by a thread, because
    the main one may be inside a compiled step or a library for seconds, where Python runs no handler of its own.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self.grace = GRACE

    def install(self) -> None:
        """Takes over Ctrl-C, termination and hang-up for this process, unless they are ignored (nohup). Main thread
        only."""
        waiting, arriving = socket.socketpair()
        arriving.setblocking(False)
        signal.set_wakeup_fd(arriving.fileno(), warn_on_full_buffer=False)
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._receive)
        # The thread holds both ends: with one of them closed nothing would arrive.
        threading.Thread(target=self._watch, args=(waiting, arriving), name="signals", daemon=True).start()

    def check(self) -> None:
        """Raises Interrupted when a signal has come."""
        if self.received is not None:
            raise Interrupted(f"interrupted by {signal.Signals(self.received).name}", self.received)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        """Python's own handler, which must be there for the thread to be told."""
        self.received = self.received or number

    def _watch(self, waiting: socket.socket, arriving: socket.socket) -> None:
        first = waiting.recv(1)[0]
        self.received = self.received or first
        grace = self.grace
        _tell(f"Stopping at the next safe point, or in {grace:.0f} s; once more to leave at once.")
        if select.select([waiting], [], [], grace)[0]:
            _leave(waiting.recv(1)[0])
        _tell(f"{grace:.0f} s are over: leaving at once. What was saved before is whole.")
        _leave(first)


def _tell(text: str) -> None:
    with contextlib.suppress(OSError):  # a closed terminal has nobody to tell
        os.write(2, f"\n{text}\n".encode())


def _leave(number: int) -> NoReturn:
    import psutil  # here, because signals are taken over before anything that takes time to import

    with contextlib.suppress(psutil.Error):
        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                child.kill()
    os._exit(128 + number)
