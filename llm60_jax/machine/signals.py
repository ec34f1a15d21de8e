"""Signals, polled: the program calls `check()` wherever it can stop safely."""

import contextlib
import os
import select
import signal
import socket
import threading
from types import FrameType
from typing import NoReturn

from llm60_jax.errors import Interrupted
from llm60_jax.machine import together

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
GRACE = 30.0  # seconds, at least, from the first signal until the process ends whatever it does


class Interrupts:
    """Records the first signal.

    A second one, or `grace` seconds, end the process and its children at once. Code that knows of a
    longer way to the next safe point may raise `grace`. A thread waits for signals, because the main
    thread may spend seconds inside a compiled step, where Python runs no handler.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self.agreed: int | None = None  # what all processes know that one of them has received
        self.grace = GRACE

    def install(self) -> None:
        """Take over Ctrl-C, termination and hang-up for this process.

        A signal that is ignored (nohup) stays so.

        Call it from the main thread.
        """
        waiting, arriving = socket.socketpair()
        arriving.setblocking(False)
        signal.set_wakeup_fd(arriving.fileno(), warn_on_full_buffer=False)
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._receive)
        with contextlib.suppress(RuntimeError):  # no room for a thread: `environment.settle` says so
            # The thread keeps both ends open; a closed end would lose all signals.
            threading.Thread(target=self._watch, args=(waiting, arriving), name="signals", daemon=True).start()

    def check(self) -> None:
        """Raise Interrupted if a signal has arrived: here, or at any process where several act together."""
        number = self.received if together.is_alone() else self.agreed
        if number is not None:
            raise Interrupted(f"interrupted by {signal.Signals(number).name}", number)

    def agree(self) -> None:
        """Raise Interrupted in all processes if any has received a signal. All call it."""
        self.agreed = max(together.gather(self.received or 0)) or None
        self.check()

    def hear(self, number: int) -> None:
        """Record a signal that another process has received."""
        if number in SIGNALS:
            self.received = self.received or number

    def _receive(self, number: int, frame: FrameType | None) -> None:
        """Record a signal. Without a handler, Python would not write to the thread's socket."""
        self.received = self.received or number

    def _watch(self, waiting: socket.socket, arriving: socket.socket) -> None:
        first = waiting.recv(1)[0]
        self.received = self.received or first
        grace = self.grace
        _tell(f"Stopping at the next safe point, or in {grace:.0f} s. Send the signal again to leave at once.")
        if select.select([waiting], [], [], grace)[0]:
            leave(128 + waiting.recv(1)[0])
        _tell(f"{grace:.0f} s are over: leaving at once. Everything saved before is intact.")
        leave(128 + first)


def _tell(text: str) -> None:
    with contextlib.suppress(OSError):  # the terminal is gone
        os.write(2, f"\n{text}\n".encode())


def leave(code: int) -> NoReturn:
    """End this process with an exit code, and its children, without a wait for any thread."""
    import psutil  # here, because signals are taken over before any slow import

    with contextlib.suppress(ImportError):
        from multiprocessing import util

        # Semaphores of process pools: the tracker of multiprocessing would warn of those that are left.
        util._run_finalizers(0)  # type: ignore[attr-defined]
    with contextlib.suppress(psutil.Error):
        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                child.kill()
    os._exit(code)
