"""The check of a GPU, as far as a CPU can tell: its verdicts, its limits, and that it says where it is none."""

import copy
import json
import time

import gpu_check
import psutil
import pytest

from llm60_jax.errors import MachineError
from llm60_jax.machine import environment
from llm60_jax.machine.signals import Interrupts

NUMBERS = {
    "backend": "gpu",
    "versions": {"device": "NVIDIA H200"},
    "device_memory_bytes": 10**11,
    "repeatable": True,
    "attention": [{"context": 128, "errors": dict.fromkeys(("output", "dq", "dk", "dv"), 5e-3), "repeats": True}],
    "float32_error": 5e-7,
    "scatter": {"error": 1e-6, "repeats": True},
    "peak_bytes": 1,
    "faults": [],
}
STAGE = {
    "stage": 1, "context": 64, "frozen": 2, "micro_batch": 1, "remat": "full", "tokens": 128, "step_seconds": 0.5,
    "tokens_per_second": 256.0, "ceiling_flops_per_second": 1e12, "compile_seconds": 1.0, "peak_bytes": 2**20,
    "model_flops": 10**12,
}  # fmt: skip


class FakeParts:
    """Parts with made-up reports."""

    until = 0.0

    def __init__(self, **reports):
        self.reports, self.limits = {"numbers": NUMBERS} | reports, {}

    def __getattr__(self, name):
        def part():
            self.limits[name] = self.until - time.monotonic()
            report = self.reports[name]
            if isinstance(report, Exception):
                raise report
            return copy.deepcopy(report)

        return part


@pytest.fixture
def parts(tmp_path) -> gpu_check.Parts:
    found = gpu_check.Parts(tmp_path, gpu_check._REHEARSAL, True, Interrupts())
    found.until = time.monotonic() + 60
    return found


def script(folder, text) -> list[str]:
    (folder / "script.py").write_text(text)
    return [str(folder / "script.py")]


def test_a_cpu_is_no_device_to_check(monkeypatch):
    monkeypatch.setattr(environment, "settle", lambda *a, **k: None)
    with pytest.raises(MachineError, match=r"finds no GPU or TPU here, only cpu .*--rehearse runs the code"):
        gpu_check.numbers(rehearse=False)


def test_without_a_device_the_check_ends_with_that_message(parts, monkeypatch, capsys):
    said = "import sys; print('gpu_check.py: JAX finds no GPU or TPU here', file=sys.stderr); sys.exit(5)"
    real = gpu_check.Parts._run
    monkeypatch.setattr(gpu_check.Parts, "_run", lambda self, command: real(self, ["-c", said]))
    assert gpu_check.main([]) == 5
    out, err = capsys.readouterr()
    assert err == "gpu_check.py: JAX finds no GPU or TPU here\n"
    assert "verdict" not in out


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({}, None),
        ({"float32_error": 4e-4}, "the error of a float32 product is 4.0e-04, above 1e-05"),  # as of TF32
        ({"float32_error": float("nan")}, "the error of a float32 product is nan"),
        ({"scatter": {"error": 0.5, "repeats": True}}, "the error of a scatter is 5.0e-01"),
        ({"scatter": {"error": 0.0, "repeats": False}}, "in spite of --xla_gpu_deterministic_ops"),
        ({"scatter": {"error": 0.0, "repeats": False}, "repeatable": False}, None),  # nobody promised it
        ({"attention": [{"context": 256, "errors": {"dk": 0.1}, "repeats": True}]}, "the error of dk is 1.0e-01"),
        ({"attention": [{"context": 256, "errors": {"dk": 0.0}, "repeats": False}]}, "give different bits"),
    ],
)
def test_wrong_numbers_are_named(change, fault):
    wrong = gpu_check.faults_of_numbers(NUMBERS | change)
    assert [fault in line for line in wrong] == [True] if fault else wrong == []


def test_a_part_that_is_not_done_fails_the_check_and_the_others_run():
    fake = FakeParts(resume=gpu_check.Ended("ended after 150 s"), letter={"stages": [STAGE], "faults": []})
    fake.reports["quickstart"] = KeyError("passed")
    report = gpu_check.check(fake, ["numbers", "resume", "letter", "quickstart"], 300.0, rehearse=False)
    assert not report["passed"]
    assert report["parts"]["resume"]["faults"] == ["not done: ended after 150 s"]
    assert "its report cannot be read: KeyError" in report["parts"]["quickstart"]["faults"][0]
    assert fake.limits["numbers"] == pytest.approx(90, abs=5)
    assert fake.limits["letter"] == pytest.approx(150, abs=5)
    text = gpu_check.as_text(report)
    assert "resume: FAILED" in text
    assert text.endswith("verdict: FAILED")
    # 2e12 model operations a second of a sheet of 989e12
    assert ["1", "64", "2", "1", "full", "256", "0.2%", "200.0%", "1.0", "1"] in [x.split() for x in text.splitlines()]
    assert gpu_check.check(fake, ["numbers"], 30.0, rehearse=False)["passed"]
    assert fake.limits["numbers"] == pytest.approx(30, abs=5)


def test_a_rehearsal_says_that_it_checks_no_device(monkeypatch, capsys):
    monkeypatch.setattr(gpu_check, "Parts", lambda *arguments: FakeParts())
    assert gpu_check.main(["--rehearse", "--parts", "numbers", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["is_check_of_a_device"] is False
    assert err.strip().endswith(
        "verdict: a rehearsal on a CPU: the code of the check runs. It says nothing about a GPU"
    )
    monkeypatch.setattr(gpu_check, "Parts", lambda *arguments: FakeParts(numbers=NUMBERS | {"faults": ["wrong"]}))
    assert gpu_check.main(["--parts", "numbers"]) == 1
    for wrong in (["--parts", "speed"], ["--parts", ""], ["--seconds", "-1"]):
        assert gpu_check.main(wrong) == 2


def test_a_process_that_takes_too_long_is_ended_with_its_children(parts, tmp_path):
    child = "import subprocess, sys, time\nchild = subprocess.Popen(['sleep', '60'], start_new_session=True)\n"
    command = script(tmp_path, child + "open(sys.argv[1], 'w').write(str(child.pid))\ntime.sleep(60)\n")
    parts.until = time.monotonic() + 1.5
    with pytest.raises(gpu_check.Ended, match="because the time was over"):
        parts._run([*command, str(tmp_path / "pid")])
    pid = int((tmp_path / "pid").read_text())
    for _ in range(100):  # until the system has buried it
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            break
        time.sleep(0.05)
    else:
        pytest.fail("the child still runs")


def test_a_process_that_fails_is_named_with_what_it_said(parts, tmp_path):
    fail = "import sys; print('out of memory', file=sys.stderr); sys.exit(int(sys.argv[1]))"
    with pytest.raises(gpu_check.Ended, match=r"script\.py: exit code 5: out of memory"):
        parts._run([*script(tmp_path, fail), "5"], may_fail=True)
    assert parts._run([*script(tmp_path, fail), "3"], may_fail=True) == ""  # a gate did not pass
    with pytest.raises(gpu_check.Ended, match="exit code 3"):
        parts._run([*script(tmp_path, fail), "3"])


def test_recomputed_operations_do_not_count(parts):
    counts = {parts._model_flops(STAGE | {"remat": remat}) for remat in ("full", "none")}
    assert len(counts) == 1
    assert counts == {parts._model_flops(STAGE | {"tokens": 256, "micro_batch": 2}) // 2}
    assert gpu_check.sheet_flops("NVIDIA H200") == 989e12
    assert gpu_check.sheet_flops("cpu") is None


@pytest.mark.slow
def test_the_numbers_of_a_cpu_are_right():
    """The kernel of a GPU runs in its interpreter."""
    report = gpu_check.numbers(rehearse=True)
    assert gpu_check.faults_of_numbers(report) == []
    assert report["backend"] == "cpu"
