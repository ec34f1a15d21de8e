"""Lines between the processes of a run, by which each notices within seconds that another is gone.

Every process has a connection to process 0 and says something every second. A connection that breaks, or falls silent,
means a process that was killed, stopped or cut off. Process 0 tells the others which one. JAX would notice, too, but
aborts without a word of use to a person.
"""

import contextlib
import json
import select
import socket
import threading
import time
from collections.abc import Callable

_TICK = 1.0  # seconds between two signs of life
_BYE = "bye"
_ALIVE = "alive"
_CONNECT_SECONDS = 30.0


class Lines:
    """The lines of one process. They are watched by a thread, which ends with the process.

    Args:
      silence: seconds without a sign of life after which a process counts as gone.
      on_loss: called in the thread with the number of a process that is gone, once.
    """

    def __init__(self, silence: float, on_loss: Callable[[int], None]):
        self._silence, self._on_loss = silence, on_loss
        self._lines: dict[int, socket.socket] = {}  # by the process at the other end
        self._rest: dict[int, bytes] = {}  # read, and not a whole word yet
        self._heard: dict[int, float] = {}
        self._leaving: set[int] = set()
        self._lock = threading.Lock()
        self._is_closed = False

    def listen(self, host: str) -> socket.socket:
        """Open the door of process 0, and return it; `let_in` then expects the others."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, 0), family=family, backlog=64)

    def let_in(self, door: socket.socket, processes: int) -> None:
        """Accept the others' connections in process 0. Raise OSError."""
        with door:
            door.settimeout(_CONNECT_SECONDS)
            while len(self._lines) < processes - 1:
                line, _ = door.accept()
                line.settimeout(_CONNECT_SECONDS)
                first = line.recv(16)
                if first.strip().isdigit():
                    self._add(int(first), line)
                else:
                    line.close()
        self._watch()

    def connect(self, host: str, port: int, process: int) -> None:
        """Connect a process to process 0. Raise OSError."""
        line = socket.create_connection((host, port), timeout=_CONNECT_SECONDS)
        line.sendall(f"{process:<16}".encode())
        self._add(0, line)
        self._watch()

    def close(self) -> None:
        """Say goodbye, so that the end of this process is no loss, and watch no more."""
        self._is_closed = True
        self._say(_BYE)

    def _add(self, process: int, line: socket.socket) -> None:
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        line.settimeout(_TICK)
        self._lines[process], self._rest[process] = line, b""

    def _watch(self) -> None:
        self._heard = dict.fromkeys(self._lines, time.monotonic())
        threading.Thread(target=self._run, name="lines", daemon=True).start()

    def _run(self) -> None:
        last = time.monotonic()
        while not self._is_closed:
            self._say(_ALIVE)
            ready = select.select(list(self._lines.values()), [], [], _TICK)[0]
            now = time.monotonic()
            if now - last > 3 * _TICK:  # this process itself was stopped: nobody could be heard
                self._heard = dict.fromkeys(self._lines, now)
            last = now
            for process, line in list(self._lines.items()):
                if line in ready:
                    lost = self._hear(process, line)
                elif process not in self._leaving and now - self._heard[process] > self._silence:
                    lost = process
                else:
                    lost = None
                if lost is not None and not self._is_closed:
                    self._say(json.dumps(lost))
                    self._on_loss(lost)
                    return
            if not self._lines:
                return
            if ready:
                time.sleep(_TICK / 20)

    def _hear(self, process: int, line: socket.socket) -> int | None:
        """Read what a process says; return the number of one that is gone, or None."""
        try:
            data = line.recv(4096)
        except TimeoutError:
            return None
        except OSError:
            data = b""
        self._heard[process] = time.monotonic()
        *words, self._rest[process] = (self._rest[process] + data).split(b"\n")
        for word in words:
            if word == _BYE.encode():
                self._leaving.add(process)
            elif word != _ALIVE.encode():
                return int(word)
        if data:
            return None
        del self._lines[process]
        return None if process in self._leaving else process

    def _say(self, word: str) -> None:
        with self._lock:
            for line in list(self._lines.values()):
                with contextlib.suppress(OSError):
                    line.sendall(f"{word}\n".encode())
