"""Sleep: prevent it while a run trains (`train.keep_awake`), and count time without it.

The system's own command keeps the computer awake. It gets our process id and ends with our process,
however that ends. A closed lid or an empty battery still puts most laptops to sleep.
"""

import contextlib
import logging
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

log = logging.getLogger("llm60_jax")


def commands(pid: int) -> list[list[str]]:
    """Return the commands that prevent sleep while a process lives: for macOS, for systemd."""
    reason = ["--who=llm60_jax", "--why=a language model is being trained", "--mode=block"]
    return [
        ["caffeinate", "-i", "-w", str(pid)],
        ["systemd-inhibit", "--what=idle:sleep", *reason, "tail", f"--pid={pid}", "-f", "/dev/null"],
    ]


@contextlib.contextmanager
def kept_awake(wanted: bool) -> Iterator[None]:
    """Keep the computer awake inside the block if `wanted`.

    Warn, and go on, if no command can do it.
    """
    command = next((line for line in commands(os.getpid()) if shutil.which(line[0])), None) if wanted else None
    process = None
    if command is not None:
        with contextlib.suppress(OSError):
            quiet = subprocess.DEVNULL
            process = subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.2)  # a service that refuses ends at once
    if wanted and (process is None or process.poll() is not None):
        log.warning("train.keep_awake: neither caffeinate nor systemd-inhibit keeps this computer awake; it may sleep")
    try:
        yield
    finally:
        if process is not None:
            process.terminate()
            process.wait()


class AwakeTime:
    """A clock of the seconds in which this process could work. Call it to read it.

    It never jumps, because it ignores the time of day. `time.monotonic` stops while the computer
    sleeps. A stopped process (Ctrl-Z, a suspended machine) shows as a gap in the readings of a
    thread that reads the clock every second.
    """

    def __init__(
        self,
        monotonic: Callable[[], float] = time.monotonic,
        with_sleep: Callable[[], float] | None = None,
        interval: float = 1.0,
        gap: float = 10.0,
    ) -> None:
        """Start the clock.

        Args:
          monotonic: a clock in seconds that stops while the computer sleeps.
          with_sleep: a clock in seconds that does not.
          interval: seconds between two readings of the thread.
          gap: seconds between two readings beyond which there was a pause.
        """
        self._monotonic, self._with_sleep = monotonic, with_sleep or _since_boot
        self._interval, self._gap = interval, gap
        self._lock = threading.Lock()
        self._last = monotonic(), self._with_sleep()
        self._stopped = 0.0  # seconds, since the start
        self._pause = 0.0  # seconds asleep or stopped, since `take_pause`

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Run the thread inside the block. Without it, only the caller reads the clock."""
        done = threading.Event()
        thread = threading.Thread(target=self._watch, args=(done,), name="awake", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def __call__(self) -> float:
        """Return the seconds of the clock."""
        with self._lock:
            now, now_with_sleep = self._monotonic(), self._with_sleep()
            passed = now - self._last[0]
            asleep = max(0.0, now_with_sleep - self._last[1] - passed)
            self._last = now, now_with_sleep
            if passed > self._gap:
                self._stopped += passed - self._interval
                self._pause += passed - self._interval
            if asleep > self._gap:
                self._pause += asleep
            return now - self._stopped

    def take_pause(self) -> float:
        """Return the seconds asleep or stopped since the last call."""
        self()
        with self._lock:
            pause, self._pause = self._pause, 0.0
        return pause

    def _watch(self, done: threading.Event) -> None:
        while not done.wait(self._interval):
            self()


def _since_boot() -> float:
    """Return the seconds of a clock that counts sleep and that nobody can set."""
    name = "CLOCK_MONOTONIC" if sys.platform == "darwin" else "CLOCK_BOOTTIME"
    return time.clock_gettime(getattr(time, name)) if hasattr(time, name) else time.monotonic()
