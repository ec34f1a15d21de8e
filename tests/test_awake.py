import logging
import os
import time

import psutil
import pytest

from llm60_jax.machine import awake


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """Install a fake of a system command that records its call and runs until it is terminated."""

    def install(name, body="exec sleep 100"):
        script = tmp_path / name
        script.write_text(f'#!/bin/sh\necho "$$ $@" > {tmp_path}/called\n{body}\n')
        script.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
        return tmp_path / "called"

    return install


@pytest.mark.parametrize("name", ["caffeinate", "systemd-inhibit"])
def test_the_computer_stays_awake_inside_the_block(fake, name):
    called = fake(name)
    with awake.kept_awake(True):
        deadline = time.monotonic() + 10
        while not called.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        pid, arguments = called.read_text().split(" ", 1)
        assert str(os.getpid()) in arguments  # it ends with this process
        assert psutil.Process(int(pid)).is_running()
    assert not psutil.pid_exists(int(pid))


def test_nothing_is_started_unless_wanted(fake):
    called = fake("caffeinate")
    with awake.kept_awake(False):
        time.sleep(0.2)
    assert not called.exists()


@pytest.mark.parametrize("body", [None, "exit 1"])
def test_without_a_working_command_the_run_continues(fake, monkeypatch, caplog, tmp_path, body):
    if body:
        fake("systemd-inhibit", body)
    else:
        monkeypatch.setenv("PATH", str(tmp_path))
    with caplog.at_level(logging.WARNING, "llm60_jax"), awake.kept_awake(True):
        pass
    assert "neither caffeinate nor systemd-inhibit" in caplog.text
