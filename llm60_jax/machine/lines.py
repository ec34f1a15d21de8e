"""Lines between the processes of a run, by which each notices within seconds that another is gone.

Every process has a connection to process 0 and says every second that it is alive, or which signal it has received. A
connection that breaks, or falls silent, means a process that was killed, stopped or cut off. Process 0 tells the others
which one. JAX would notice, too, but aborts without a word of use to a person.
"""

import contextlib
import selectors
import socket
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from llm60_jax.machine.door import first_line

if TYPE_CHECKING:
    from llm60_jax.machine.signals import Interrupts

_TICK = 1.0  # seconds between two signs of life
_CONNECT_SECONDS = 30.0  # for all to connect
_GREETING_SECONDS = 3.0  # for one to say who it is


class Lines:
    """The lines of one process. They are watched by a thread, which ends with the process.

    Args:
      silence: seconds without a sign of life after which a process counts as gone.
      interrupts: those of this process; the others hear of its signal, and it hears of theirs.
      on_loss: called in the thread with the number of a process that is gone, once.
    """

    def __init__(self, silence: float, interrupts: "Interrupts", on_loss: Callable[[int], None]):
        self._silence, self._interrupts, self._on_loss = silence, interrupts, on_loss
        self._lines: dict[int, socket.socket] = {}  # by the process at the other end
        self._rest: dict[int, bytes] = {}  # read, and not a whole sentence yet
        self._heard: dict[int, float] = {}
        self._leaving: set[int] = set()
        self._lock = threading.Lock()
        self._is_closed = False

    def let_in(self, door: socket.socket, processes: int, token: str) -> None:
        """Accept the others' connections in process 0; strangers do not know the token. Raise OSError."""
        deadline = time.monotonic() + _CONNECT_SECONDS
        with door:
            while absent := set(range(1, processes)) - self._lines.keys():
                if (left := deadline - time.monotonic()) <= 0:
                    raise TimeoutError(f"processes {sorted(absent)} have not connected")
                door.settimeout(left)
                line, _ = door.accept()
                said, _, number = first_line(line, _GREETING_SECONDS).partition(" ")
                if said == token and number.isdecimal() and int(number) in absent:
                    self._add(int(number), line)
                else:
                    line.close()
        self._watch()

    def connect(self, host: str, port: int, process: int, token: str) -> None:
        """Connect a process to process 0. Raise OSError."""
        line = socket.create_connection((host, port), timeout=_CONNECT_SECONDS)
        line.sendall(f"{token} {process}\n".encode())
        self._add(0, line)
        self._watch()

    def close(self) -> None:
        """Say goodbye, so that the end of this process is no loss, and watch no more."""
        self._is_closed = True
        self._say("bye")

    def _add(self, process: int, line: socket.socket) -> None:
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        line.settimeout(_TICK)
        self._lines[process], self._rest[process] = line, b""

    def _watch(self) -> None:
        self._heard = dict.fromkeys(self._lines, time.monotonic())
        threading.Thread(target=self._run, name="lines", daemon=True).start()

    def _run(self) -> None:
        try:
            lost = self._first_lost()
        except Exception:  # without a watch a loss would end in a wait for ever
            lost = min(self._lines, default=0)
        if lost is not None and not self._is_closed:
            self._say(f"lost {lost}")
            self._on_loss(lost)

    def _first_lost(self) -> int | None:
        """Listen until a process is gone, and return its number; None once all have said goodbye, or this one has."""
        with selectors.DefaultSelector() as selector:
            for process, line in self._lines.items():
                selector.register(line, selectors.EVENT_READ, process)
            last = time.monotonic()
            while self._lines and not self._is_closed:
                self._say(f"signal {self._interrupts.received}" if self._interrupts.received else "alive")
                ready = {key.data for key, _ in selector.select(_TICK)}
                now = time.monotonic()
                if now - last > 3 * _TICK:  # this process itself was stopped: nobody could be heard
                    self._heard = dict.fromkeys(self._lines, now)
                last = now
                for process, line in list(self._lines.items()):
                    if process in ready:
                        lost = self._hear(process, line)
                    else:
                        is_silent = process not in self._leaving and now - self._heard[process] > self._silence
                        lost = process if is_silent else None
                    if lost is not None:
                        return lost
                    if process not in self._lines:
                        selector.unregister(line)
                if ready:
                    time.sleep(_TICK / 20)
        return None

    def _hear(self, process: int, line: socket.socket) -> int | None:
        """Read what a process says; return the number of one that is gone, or None."""
        try:
            data = line.recv(4096)
        except TimeoutError:
            return None
        except OSError:
            data = b""
        self._heard[process] = time.monotonic()
        *sentences, self._rest[process] = (self._rest[process] + data).split(b"\n")
        for sentence in sentences:
            match sentence.decode("utf-8", errors="replace").split():
                case ["alive"]:
                    pass
                case ["bye"]:
                    self._leaving.add(process)
                case ["signal", number] if number.isdecimal():
                    self._interrupts.hear(int(number))
                case ["lost", number] if number.isdecimal():
                    return int(number)
                case _:
                    return process  # it is none of ours any more
        if data:
            return None
        del self._lines[process]
        return None if process in self._leaving else process

    def _say(self, sentence: str) -> None:
        with self._lock:
            for line in list(self._lines.values()):
                with contextlib.suppress(OSError):
                    line.sendall(f"{sentence}\n".encode())
