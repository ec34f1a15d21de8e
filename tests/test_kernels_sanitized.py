"""The kernels without XLA (kernels_driver.cc): under sanitizers, and one instruction set against another.

AMX runs by emulated tiles (emulated_amx.h), ARM by qemu where it and ziglang are installed.
"""

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from llm60_jax.kernels import building, processor
from llm60_jax.kernels.processor import Variant

pytestmark = pytest.mark.slow
DRIVER = Path(__file__).with_name("kernels_driver.cc")
HERE = {variant.name: variant for variant in processor.here()}
EMULATED = "-DLLM60_EMULATED_AMX"
QEMU = shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64")


def build(folder: Path, variant: Variant, *flags: str, source: Path = DRIVER) -> Path:
    program = folder / f"{source.stem}-{variant.name}"
    building.compile(source, program, variant, ("-O1", "-g", *flags))
    return program


def run(*command: object) -> str:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[:4000]
    return done.stdout


def results(folder: Path, *command: object) -> dict[str, np.ndarray]:
    """Run a driver; return its results by name."""
    lines = run(*command, folder / "values", 2).splitlines()
    names, sizes, _ = zip(*(line.split() for line in lines), strict=True)
    parts = np.split(np.fromfile(folder / "values", np.float32), np.cumsum([int(size) for size in sizes]))
    return dict(zip(names, parts, strict=False))


def assert_close(actual: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    shared = actual.keys() & expected.keys()
    assert {name for name in actual if "float32" in name} < shared
    for name in sorted(shared):
        x, y = actual[name].astype(float), expected[name].astype(float)
        tolerance = 0 if "counts" in name else 1e-2 if "bfloat16" in name else 5e-6
        assert np.linalg.norm(x - y) <= tolerance * np.linalg.norm(y), name


@pytest.fixture(scope="module", autouse=True)
def compiler():
    try:
        building.require_compiler()
    except building.Unavailable as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def reference(tmp_path_factory) -> dict[str, np.ndarray]:
    """The results of the best instruction set of this processor that is not emulated."""
    variant = next((v for v in HERE.values() if v.name != "amx"), None)
    if variant is None:
        pytest.skip("this processor has none of the instruction sets")
    folder = tmp_path_factory.mktemp("reference")
    return results(folder, build(folder, variant))


def sanitized(folder: Path, variant: Variant, sanitizers: str, *flags: str) -> Path:
    """Return a driver that ends with an error at the first fault. Skip the test if the compiler cannot make one."""
    flags = (*flags, f"-fsanitize={sanitizers}", "-fno-sanitize-recover=all")
    (folder / "nothing.cc").write_text("int main() { return 0; }\n")
    try:
        run(build(folder, variant, *flags, source=folder / "nothing.cc"))
    except (building.Unavailable, AssertionError) as error:
        pytest.skip(f"the compiler lacks -fsanitize={sanitizers}: {error}")
    return build(folder, variant, *flags)


@pytest.mark.parametrize("sanitizers", ["address,undefined", "thread"])
@pytest.mark.parametrize("name", dict.fromkeys([*list(HERE)[:1], *list(HERE)[-1:]]))  # the best and the plainest
def test_sanitizers_find_nothing(tmp_path, name, sanitizers):
    run(sanitized(tmp_path, HERE[name], sanitizers))


@pytest.mark.parametrize("name", HERE)
def test_the_instruction_sets_agree(tmp_path, reference, name):
    assert_close(results(tmp_path, build(tmp_path, HERE[name])), reference)


@pytest.mark.skipif("avx512" not in HERE, reason="no AVX-512 for all but the tiles")
@pytest.mark.parametrize("flags", [(EMULATED,), ("-mamx-tile", "-mamx-bf16")], ids=["emulated", "compiled"])
def test_amx_agrees(tmp_path, reference, flags):
    """Compiled for AMX, the kernels do without tiles where Linux does not grant them."""
    actual = results(tmp_path, build(tmp_path, HERE["avx512"], *flags))
    assert_close(actual, reference)
    if EMULATED in flags:  # another order of operations: the tiles were used
        assert any((actual[name] != reference[name]).any() for name in reference if "bfloat16" in name)


@pytest.mark.skipif("avx512" not in HERE, reason="no AVX-512 for all but the tiles")
def test_sanitizers_find_nothing_with_emulated_amx(tmp_path):
    run(sanitized(tmp_path, HERE["avx512"], "address,undefined", EMULATED), tmp_path / "values", 2)


@pytest.mark.skipif(not (QEMU and importlib.util.find_spec("ziglang")), reason="needs qemu-aarch64 and ziglang")
def test_arm_agrees(tmp_path, monkeypatch, reference):
    monkeypatch.setenv("CXX", f"{sys.executable} -m ziglang c++ -target aarch64-linux-musl")
    assert_close(results(tmp_path, QEMU, build(tmp_path, processor.named("neon"))), reference)
