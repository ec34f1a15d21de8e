"""Several processes train one run: the bits of one process, signals, deaths, and what is refused at the start."""

import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
from conftest import PROJECT
from one_node_slurm import slurm  # noqa: F401
from processes import HEARTBEAT, Together, alone, digests, losses, small_config

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """A run of one process, and its configuration."""
    config = small_config(tmp_path_factory.mktemp("alone"))
    alone(config)
    return config


@pytest.fixture
def config(reference, tmp_path):
    """The configuration of the reference, and its prepared text, in another folder."""
    for name in ("text", "data"):
        shutil.copytree(reference.parent / name, tmp_path / name)
    text = reference.read_text(encoding="utf-8").replace(str(reference.parent), str(tmp_path))
    (tmp_path / "small.toml").write_text(text, encoding="utf-8")
    return tmp_path / "small.toml"


def same(config, reference):
    run, expected = config.parent / "run", reference.parent / "run"
    assert losses(run) == losses(expected)
    assert digests(run)["phases/grammar"] == digests(expected)["phases/grammar"]


def test_two_processes_have_the_bits_of_one_though_a_save_fails(config, reference):
    """The disk refuses the first process in the middle of a save: both hear of it at once, and training goes on."""
    both = Together(config, 2, FULL_DISK="1")
    assert both.codes() == [0, 0], both.output(0) + both.output(1)
    assert "STEP 12 IS NOT SAVED" in both.output(0)
    same(config, reference)
    saved, expected = digests(config.parent / "run"), digests(reference.parent / "run")
    assert len(saved) > 2
    assert saved.items() <= expected.items()
    assert "2 devices of 2 processes share each step" in both.output(0)
    ours = ("[Gloo]", "launch.py: warning: STEP 12 IS NOT SAVED")
    others = [line for line in both.output(1).splitlines() if not line.startswith(ours)]
    assert others == []  # the first speaks for all


def test_two_processes_gather_by_layer(tmp_path):
    """In float32, and for few steps: training amplifies a rounding error until nothing can be compared."""
    found = []
    for number in (1, 2):
        config = small_config(tmp_path / str(number), steps=8, dtype="float32", fsdp=number, gather="layer")
        if number == 1:
            alone(config)
        else:
            both = Together(config, 2)
            assert both.codes() == [0, 0], both.output(0) + both.output(1)
            assert "is equal to rounding only" in both.output(0)
        found.append(np.array(losses(config.parent / "run")))
    one, two = found
    assert len(one) == len(two) == 8
    np.testing.assert_allclose(one, two, rtol=1e-4)


def test_signals_and_deaths_change_no_bit(config, reference):
    """Two processes that hold the weights together: a signal to one, the death of either; one process finishes.

    Rows 45, 47 and 48 of the faults.
    """
    both = Together(config, 2, "--set", "train.fsdp=2", "--set", "train.save_every=1000")
    both.wait_for_step(10)
    both.processes[1].send_signal(signal.SIGTERM)
    assert both.codes() == [143, 143], both.output(0) + both.output(1)
    assert "2 of them hold the weights together" in both.output(0)
    (saved,) = digests(config.parent / "run")  # of one step in both
    assert "To go on: " in both.output(0)
    for victim, options in ((1, ["--set", "train.fsdp=2"]), (0, [])):
        both = Together(config, 2, *options)
        both.wait_for_step(int(saved.split("/")[1]) + 8)
        both.processes[victim].kill()
        codes = both.codes(HEARTBEAT + 20)
        assert codes[1 - victim] in (5, -6), both.output(1 - victim)  # JAX may abort before we have spoken
        if codes[1 - victim] == 5:
            assert f"process {victim} on " in both.output(1 - victim)
            assert "start all processes again: " in both.output(1 - victim)
        saved = max(digests(config.parent / "run"), key=lambda name: int(name.split("/")[1]))
    alone(config)
    same(config, reference)


def test_a_stopped_process_ends_the_other_within_the_heartbeat(config):
    both = Together(config, 2)
    both.wait_for_step(2)
    both.processes[1].send_signal(signal.SIGSTOP)
    assert both.processes[0].wait(HEARTBEAT + 30) == 5, both.output(0)
    both.processes[1].send_signal(signal.SIGCONT)
    assert both.processes[1].wait(HEARTBEAT + 30) in (5, -6)
    assert "process 1 on " in both.output(0)
    assert "process 1 on " in (config.parent / "run" / "log.txt").read_text(encoding="utf-8")
    assert (config.parent / "run" / "lock").read_text(encoding="utf-8") == ""  # another computer may go on at once


def test_processes_that_differ_are_refused_by_all(config):
    """In a field that may change under a run."""
    both = Together(config, 2, each={1: ["--set", "train.slots=2"]})
    assert both.codes() == [2, 2]
    for number in (0, 1):
        assert "the configuration: train.slots is 2 for process 1 on " in both.output(number)


def launched_by(tmp_path, command, environ):
    """Run a really small training by a launcher, and return its process."""
    config = small_config(tmp_path, steps=6)
    words = [*command, sys.executable, str(PROJECT / "tests" / "quick_launch.py"), str(config), "--together"]
    return subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, env=environ, timeout=280, check=False)


def test_slurm_starts_them(tmp_path, slurm):  # noqa: F811
    """By a batch script, as in docs/guide/many-computers.md."""
    script, output = tmp_path / "job.sh", tmp_path / "job.txt"
    script.write_text('#!/bin/bash\nsrun --kill-on-bad-exit=1 "$@"\n')
    done = launched_by(tmp_path, ["sbatch", "--wait", "--ntasks=2", f"--output={output}", str(script)], slurm)
    said = output.read_text(encoding="utf-8")
    assert done.returncode == 0, said + done.stderr
    assert "2 devices of 2 processes share each step" in said
    assert len(losses(tmp_path / "run")) == 6


@pytest.mark.skipif(shutil.which("mpirun") is None, reason="needs Open MPI")
def test_open_mpi_starts_them(tmp_path):
    root = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    done = launched_by(tmp_path, ["mpirun", "-n", "2", "--oversubscribe"], os.environ | root)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 devices of 2 processes share each step" in done.stdout
    assert len(losses(tmp_path / "run")) == 6


def test_a_launcher_without_the_option_is_refused(config):
    done = subprocess.run(
        [sys.executable, str(PROJECT / "launch.py"), str(config)],
        capture_output=True,
        text=True,
        env=os.environ | {"OMPI_COMM_WORLD_SIZE": "2"},
        check=False,
    )
    assert done.returncode == 2
    assert "2 processes were started" in done.stderr
