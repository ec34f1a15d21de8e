"""Real signals, sent to a separate process."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from conftest import PROJECT

# The main thread spends its time in one long C call, where Python runs no handler. There is a child process.
BUSY = """
import multiprocessing, subprocess, sys, hashlib
from llm60_jax.machine import signals
semaphore = multiprocessing.get_context("spawn").Lock()
interrupts = signals.Interrupts()
interrupts.install()
interrupts.grace = float(sys.argv[1])
child = subprocess.Popen(["sleep", "100"])
print(child.pid, semaphore._semlock.name.lstrip("/"), flush=True)
hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)
"""


def busy(grace, before=()):
    """Start the process. Return it, with the number of its child and the name of its semaphore."""
    process = subprocess.Popen(
        [*before, sys.executable, "-c", BUSY, str(grace)],
        cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    return process, process.stdout.readline().split()


def end(process, left):
    """Wait for the end of the process, and check that it leaves neither child nor semaphore nor a warning of it."""
    start = time.monotonic()
    _, errors = process.communicate(timeout=60)
    seconds = time.monotonic() - start
    child, semaphore = left
    assert is_gone(int(child))
    assert "leaked" not in errors
    assert not Path("/dev/shm", f"sem.{semaphore}").exists()
    return seconds, errors


def is_gone(pid):
    for _ in range(100):
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.1)
    return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_the_process_at_once(number):
    process, left = busy(60)
    process.send_signal(number)
    time.sleep(0.3)
    assert process.poll() is None
    process.send_signal(number)
    seconds, errors = end(process, left)
    assert process.returncode == 128 + number
    assert seconds < 10
    assert "Stopping at the next safe point, or in 60 s" in errors


def test_the_process_ends_after_the_grace_period():
    process, left = busy(1)
    process.send_signal(signal.SIGTERM)
    _, errors = end(process, left)
    assert process.returncode == 128 + signal.SIGTERM
    assert "1 s are over" in errors


def test_an_ignored_signal_stays_ignored():
    process, left = busy(60, before=["nohup"])
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGHUP)
    time.sleep(0.5)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    if process.poll() is None:  # two signals at once may arrive as one
        process.send_signal(signal.SIGTERM)
    end(process, left)


WORKERS = """
import os, sys, time
from pathlib import Path
from llm60_jax.data.corpus import units

def work(unit, parent):
    Path(sys.argv[1], str(os.getpid())).touch()
    time.sleep(100)

if __name__ == "__main__":
    from concurrent.futures import ProcessPoolExecutor
    import multiprocessing
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, context, initializer=units._begin_worker, initargs=(os.getpid(),)) as pool:
        list(pool.map(work, range(2), range(2)))
"""


def test_workers_end_when_their_parent_is_killed(tmp_path):
    script, marks = tmp_path / "workers.py", tmp_path / "marks"
    script.write_text(WORKERS)
    marks.mkdir()
    command = [sys.executable, str(script), str(marks)]
    process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(PROJECT)})
    deadline = time.monotonic() + 60
    while len(list(marks.iterdir())) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    workers = [int(mark.name) for mark in marks.iterdir()]
    assert len(workers) == 2
    process.kill()
    process.wait()
    assert all(is_gone(pid) for pid in workers)
