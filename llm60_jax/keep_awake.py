"""Keeps the computer from falling asleep while a run trains (`train.keep_awake`), by the system's own command.

The command is told our process, and ends with it however that ends. A lid that is closed, or an empty battery, puts
most laptops to sleep all the same.
"""

import contextlib
import logging
import os
import shutil
import subprocess
from collections.abc import Iterator

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
