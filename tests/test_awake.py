import logging
import os
import time

import psutil
import pytest

from llm60_jax.machine import awake


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """Puts a command into the place of the system's, which notes how it is called and runs until it is ended."""

    def install(name, body="exec sleep 100"):
        script = tmp_path / name
        script.write_text(f'#!/bin/sh\necho "$$ $@" > {tmp_path}/called\n{body}\n')
        script.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
        return tmp_path / "called"

    return install


@pytest.mark.parametrize("name", ["caffeinate", "systemd-inhibit"])
def test_the_computer_is_held_awake_for_as_long_as_the_block_lasts(fake, name):
    called = fake(name)
    with awake.kept_awake(True):
        deadline = time.monotonic() + 10
        while not called.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        pid, told = called.read_text().split(" ", 1)
        assert str(os.getpid()) in told  # ends with this process, however that ends
        assert psutil.Process(int(pid)).is_running()
    assert not psutil.pid_exists(int(pid))


def test_nothing_is_started_unless_it_is_wanted(fake):
    called = fake("caffeinate")
    with awake.kept_awake(False):
        time.sleep(0.2)
    assert not called.exists()


@pytest.mark.parametrize("body", [None, "exit 1"])
def test_where_it_cannot_be_done_the_run_goes_on(fake, monkeypatch, caplog, tmp_path, body):
    if body:
        fake("systemd-inhibit", body)
    else:
        monkeypatch.setenv("PATH", str(tmp_path))
    with caplog.at_level(logging.WARNING, "llm60_jax"), awake.kept_awake(True):
        pass
    assert "neither caffeinate nor systemd-inhibit" in caplog.text
