"""The choice of a device. A plug-in must train as the CPU does; these fakes do not."""

import os
import subprocess
import sys
import textwrap

import jax
import pytest
from conftest import PROJECT

from llm60_jax.errors import MachineError
from llm60_jax.machine import devices, environment

# Plug-ins whose device is the CPU under another name, each with a fault.
FAULTS = {
    "crash": "def spoil():\n    import os\n    os.abort()\n",
    "hang": "def spoil():\n    import time\n    time.sleep(600)\n",
    "fail": "def spoil():\n    raise RuntimeError('no such GPU')\n",
    "wrong": """
        def spoil():
            import jax
            real = jax.lax.dot_general
            jax.lax.dot_general = lambda *a, **k: real(*a, **k) * 1.1
    """,
    "float16": """
        def spoil():
            import jax.numpy as jnp
            def dot(*operands, **more):
                raise NotImplementedError('bf16 is not supported')
            jnp.dot = dot
    """,
    "healthy": "def spoil():\n    pass\n",
}
RIGHT = {}
MAKE = """
def make():
    spoil()
    from jax._src.lib import xla_client
    return xla_client.make_cpu_client()


def initialize():
    from jax._src import xla_bridge
    xla_bridge.register_backend_factory("fake", make, priority=500, fail_quietly=False)
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """`install(fault)` puts a plug-in on the path of this process and its children."""

    def put(fault, at_once=False):
        site = tmp_path / "site"
        (site / "fake_gpu").mkdir(parents=True)
        code = textwrap.dedent(FAULTS[fault]) + MAKE + ("\nspoil()\n" if at_once else "")
        (site / "fake_gpu" / "__init__.py").write_text(code)
        info = site / "fake_gpu-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fake-gpu\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("[jax_plugins]\nfake = fake_gpu\n")
        monkeypatch.syspath_prepend(str(site))
        monkeypatch.setenv("PYTHONPATH", str(site))
        monkeypatch.delenv("JAX_PLATFORMS")
        monkeypatch.delitem(sys.modules, "fake_gpu", raising=False)
        return site

    def probed(platforms, without):
        """Probe the CPU only once: its numbers are the same for all faults."""
        if platforms != "cpu":
            return real(platforms, without)
        if not RIGHT:
            RIGHT.update(real(platforms, without))
        return RIGHT

    real, before = devices.probed, jax.config.jax_platforms
    monkeypatch.setattr(devices, "probed", probed)
    yield put
    jax.config.update("jax_platforms", before)
    sys.modules.pop("fake_gpu", None)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("crash", "it crashes (SIGABRT)"),
        ("hang", "it hangs: no answer within 2 s"),
        ("fail", "no such GPU"),
        ("wrong", "it computes wrongly: a "),
        ("float16", "it has no bfloat16 products (NotImplementedError: bf16 is not supported)"),
    ],
)
def test_a_plugin_that_cannot_be_trusted_ends_in_a_message_and_the_cpu(
    install, tmp_path, monkeypatch, caplog, fault, message
):
    install(fault)
    if fault == "hang":
        monkeypatch.setattr(devices, "PATIENCE", 2.0)
    devices.settle("auto", tmp_path / "data")
    assert os.environ["JAX_PLATFORMS"] == "cpu"
    assert sys.modules["fake_gpu"].initialize() is None  # JAX would find an empty module
    assert message in caplog.text
    assert "fake-gpu 1.0" in caplog.text
    # The verdict is cached, and naming the device is an error.
    monkeypatch.setattr(devices, "probed", lambda *a: pytest.fail("tried again"))
    monkeypatch.delenv("JAX_PLATFORMS")
    with pytest.raises(MachineError, match=r"device: fake-gpu 1\.0: it .*device = 'cpu' always works"):
        devices.settle("fake", tmp_path / "data")


@pytest.mark.slow
def test_a_healthy_plugin_is_used_and_another_version_is_tested_again(install, tmp_path, monkeypatch):
    site = install("healthy")
    devices.settle("auto", tmp_path / "data")
    assert os.environ["JAX_PLATFORMS"] == "fake,cpu"
    monkeypatch.setattr(devices, "probed", lambda *a: "it is gone")
    monkeypatch.delenv("JAX_PLATFORMS")
    devices.settle("fake", tmp_path / "data")
    assert os.environ["JAX_PLATFORMS"] == "fake,cpu"
    metadata = site / "fake_gpu-1.0.dist-info" / "METADATA"
    metadata.write_text(metadata.read_text().replace("1.0", "1.1"))
    monkeypatch.delenv("JAX_PLATFORMS")
    with pytest.raises(MachineError, match=r"fake-gpu 1\.1: it is gone"):
        devices.settle("fake", tmp_path / "data")


@pytest.fixture
def cuda(tmp_path, monkeypatch):
    """JAX's plug-in for CUDA is installed, and XLA accepts all flags but those of `unknown`."""
    info = tmp_path / "site" / "jax_cuda13_plugin-0.10.2.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: jax-cuda13-plugin\nVersion: 0.10.2\n")
    (info / "entry_points.txt").write_text("[jax_plugins]\nxla_cuda13 = jax_plugins.xla_cuda13\n")
    monkeypatch.syspath_prepend(str(info.parent))
    monkeypatch.delenv("JAX_PLATFORMS")
    monkeypatch.delenv("XLA_FLAGS")
    unknown = set()
    monkeypatch.setattr(environment, "_fault", lambda: unknown & set(os.environ["XLA_FLAGS"].split()) or None)
    return unknown


DETERMINISTIC = "--xla_gpu_deterministic_ops=true"


@pytest.mark.parametrize(
    ("flags", "device", "platforms", "result"),
    [
        (None, "auto", None, DETERMINISTIC),
        ("", "gpu", "cuda,cpu", DETERMINISTIC),
        ("--xla_a=1  --xla_b", "cuda", None, f"--xla_a=1 --xla_b {DETERMINISTIC}"),
        ("--xla_gpu_deterministic_ops=false", "auto", None, "--xla_gpu_deterministic_ops=false"),  # the user's word
        ("/home/ann/flags.txt", "auto", None, "/home/ann/flags.txt"),  # XLA reads flags from a file, too
        (None, "cpu", None, None),
        (None, "auto", "cpu", None),
        (None, "mps", None, None),
        (None, None, None, None),  # a process that does not train
    ],
)
def test_a_training_on_a_gpu_is_made_repeatable(cuda, tmp_path, monkeypatch, flags, device, platforms, result):
    for name, value in (("XLA_FLAGS", flags), ("JAX_PLATFORMS", platforms)):
        if value is not None:
            monkeypatch.setenv(name, value)
    for _ in range(2):  # the second time changes nothing
        environment.settle(tmp_path, device)
        assert os.environ.get("XLA_FLAGS") == result
    assert environment.is_repeatable("gpu") == (DETERMINISTIC in (result or ""))
    assert environment.is_repeatable("cpu")


@pytest.mark.parametrize("flags", [None, "--xla_a=1"])
def test_a_version_of_xla_without_the_flag_is_left_as_it_is(cuda, tmp_path, monkeypatch, caplog, flags):
    cuda.add(DETERMINISTIC)
    if flags:
        monkeypatch.setenv("XLA_FLAGS", flags)
    environment.settle(tmp_path, "auto")
    assert os.environ.get("XLA_FLAGS") == flags
    assert "a resumed run may differ in its last bits" in caplog.text


def test_without_the_plugin_no_flag_is_set(tmp_path, monkeypatch):
    monkeypatch.delenv("JAX_PLATFORMS")
    monkeypatch.delenv("XLA_FLAGS")
    environment.settle(tmp_path, "auto")
    assert "XLA_FLAGS" not in os.environ


@pytest.mark.slow
def test_this_version_of_xla_knows_the_flag(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", DETERMINISTIC)
    assert environment._fault() is None


def test_numbers_that_change_are_wrong():
    numbers = {"bfloat16": [1.0], "training": [6.0, 1.0], "repeats": True}
    assert devices.difference(numbers, numbers) is None
    assert "other numbers each time" in devices.difference(numbers | {"repeats": False}, numbers)
    assert "a loss is nan" in devices.difference(numbers | {"training": [float("nan"), 1.0]}, numbers)
    assert "a gradient's norm is 2" in devices.difference(numbers | {"training": [6.0, 2.0]}, numbers)
    assert devices.difference(numbers | {"training": [6.1, 1.0]}, numbers) is None


def test_jax_platforms_overrides_the_choice(install, tmp_path, monkeypatch):
    install("crash")
    monkeypatch.setattr(devices, "probed", lambda *a: pytest.fail("tried"))
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    devices.settle("auto", tmp_path)
    monkeypatch.delenv("JAX_PLATFORMS")
    devices.settle("cpu", tmp_path)
    assert os.environ["JAX_PLATFORMS"] == "cpu"


def test_an_unknown_device_is_refused_by_name(tmp_path, monkeypatch):
    monkeypatch.delenv("JAX_PLATFORMS")
    with pytest.raises(MachineError, match="device: no plug-in 'mps' is installed; choose auto, or one of cpu"):
        devices.settle("mps", tmp_path)


def test_without_plugins_nothing_is_tested_and_jax_chooses(tmp_path, monkeypatch):
    monkeypatch.delenv("JAX_PLATFORMS")
    monkeypatch.delenv("XLA_FLAGS")  # accepted flags are remembered in the folder
    monkeypatch.setattr(devices, "probed", lambda *a: pytest.fail("tried"))
    devices.settle("auto", tmp_path)
    assert "JAX_PLATFORMS" not in os.environ
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_launch_survives_a_plugin_that_crashes_as_soon_as_it_is_imported(install, tiny_file):
    install("crash", at_once=True)
    command = [sys.executable, str(PROJECT / "launch.py"), str(tiny_file), "--dry-run"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=PROJECT)
    assert done.returncode == 0, done.stderr
    assert "warning: fake-gpu 1.0: it crashes (SIGABRT); using the CPU" in done.stderr
    done = subprocess.run([*command, "--set", "device=fake"], capture_output=True, text=True, cwd=PROJECT)
    assert done.returncode == 5
    assert done.stderr.startswith("launch.py: device: fake-gpu 1.0: it crashes (SIGABRT). device = 'cpu'")
