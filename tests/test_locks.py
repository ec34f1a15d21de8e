"""Advisory locks: one holder at a time, and the name that it leaves."""

import re
import subprocess
import sys

from conftest import PROJECT

from llm60_jax.machine.locks import Lock

DIE_WITH_THE_LOCK = """
import os, sys
from pathlib import Path
from llm60_jax.machine.locks import Lock
lock = Lock(Path(sys.argv[1]))
assert lock.take()
lock.sign()
os._exit(9)
"""


def test_one_holder_at_a_time_and_the_other_sees_its_name(tmp_path):
    with Lock(tmp_path / "lock") as second:
        with Lock(tmp_path / "lock") as first:
            assert first.take()
            first.sign()
            assert not second.take()
            assert re.fullmatch(r"pid \d+ on \S+, since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d", second.name)
        assert second.take()
        assert second.name == ""


def test_a_killed_holder_leaves_its_name_and_no_lock(tmp_path):
    command = [sys.executable, "-c", DIE_WITH_THE_LOCK, str(tmp_path / "lock")]
    assert subprocess.run(command, cwd=PROJECT).returncode == 9
    with Lock(tmp_path / "lock") as lock:
        assert lock.take()
        assert lock.name.startswith("pid ")
        assert lock.is_from_here


def test_a_name_from_elsewhere_stays_unless_it_is_signed_over(tmp_path):
    path = tmp_path / "lock"
    path.write_text("pid 7 on elsewhere, since 2026-01-01 00:00:00")
    with Lock(path) as lock:
        assert lock.take()
        assert not lock.is_from_here
    assert path.read_text().startswith("pid 7 on elsewhere")
    with Lock(path) as lock:
        lock.take()
        lock.sign()
        assert lock.is_from_here
    assert path.read_text() == ""
