"""Keeps the computer from falling asleep while a run trains (`train.keep_awake`), by the system's own command.

The command is told our process, and ends with it however that ends. A lid that is closed, or an empty battery, puts
most laptops to sleep all the same.
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
    """What can keep a computer awake for as long as a process lives: on macOS, and on Linux with systemd."""
    reason = ["--who=llm60_jax", "--why=a language model is being trained", "--mode=block"]
    return [
        ["caffeinate", "-i", "-w", str(pid)],
        ["systemd-inhibit", "--what=idle:sleep", *reason, "tail", f"--pid={pid}", "-f", "/dev/null"],
    ]


@contextlib.contextmanager
def kept_awake(wanted: bool) -> Iterator[None]:
    """Holds the computer awake inside the block; where nothing can, that is said, and the run goes on."""
    command = next((line for line in commands(os.getpid()) if shutil.which(line[0])), None) if wanted else None
    process = None
    if command is not None:
        with contextlib.suppress(OSError):
            quiet = subprocess.DEVNULL
            process = subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.2)  # a service that refuses does so at once
    if wanted and (process is None or process.poll() is not None):
        log.warning("train.keep_awake: neither caffeinate nor systemd-inhibit keeps this computer awake")
    try:
        yield
    finally:
        if process is not None:
            process.terminate()
            process.wait()


class AwakeTime:
    """A clock of seconds in which this process could work. Calling it reads it.

    It never jumps: the time of day plays no part. A computer that sleeps stops `time.monotonic` by itself; a process
    that is stopped (Ctrl-Z, a suspended machine) is noticed by a thread that looks every second and has not.
    """

    _EVERY, _GAP = 1.0, 10.0  # seconds between two looks; beyond which one was missed

    def __init__(
        self, monotonic: Callable[[], float] = time.monotonic, with_sleep: Callable[[], float] | None = None
    ) -> None:
        self._monotonic, self._with_sleep = monotonic, with_sleep or _since_boot
        self._lock = threading.Lock()
        self._looked = monotonic(), self._with_sleep()
        self._stopped = self._untold = 0.0

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Keeps the thread inside the block; without it only the caller looks."""
        done = threading.Event()
        thread = threading.Thread(target=self._watch, args=(done,), name="awake", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def __call__(self) -> float:
        with self._lock:
            now, now_with_sleep = self._monotonic(), self._with_sleep()
            passed = now - self._looked[0]
            asleep = max(0.0, now_with_sleep - self._looked[1] - passed)
            self._looked = now, now_with_sleep
            if passed > self._GAP:
                self._stopped += passed - self._EVERY
                self._untold += passed - self._EVERY
            if asleep > self._GAP:
                self._untold += asleep
            return now - self._stopped

    def take_pause(self) -> float:
        """Seconds asleep or stopped since this was asked last."""
        self()
        with self._lock:
            found, self._untold = self._untold, 0.0
        return found

    def _watch(self, done: threading.Event) -> None:
        while not done.wait(self._EVERY):
            self()


def _since_boot() -> float:
    """Seconds that count sleep, of a clock that nobody sets."""
    name = "CLOCK_MONOTONIC" if sys.platform == "darwin" else "CLOCK_BOOTTIME"
    return time.clock_gettime(getattr(time, name)) if hasattr(time, name) else time.monotonic()
