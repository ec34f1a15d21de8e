"""Which instruction sets a processor has, and the library of kernels: compiled once, kept, never trusted blindly."""

import ctypes
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from conftest import PROJECT

from llm60_jax.kernels import building, processor

ZEN_4 = "avx avx2 fma avx512f avx512dq avx512bw avx512vl avx512_bf16"
SAPPHIRE_RAPIDS = f"{ZEN_4} amx_tile amx_int8 amx_bf16"
SKYLAKE = "avx avx2 fma avx512f avx512dq avx512bw avx512vl"

# It compiles nothing: it counts its calls, and writes what the folder's file `output` holds.
COMPILER = """#!/bin/sh
here=$(dirname "$0")
if [ "$1" = --version ]; then cat "$here/version"; exit 0; fi
echo "$*" >> "$here/calls"
if [ -e "$here/error" ]; then cat "$here/error" >&2; exit 1; fi
sleep "$(cat "$here/seconds")"
for word; do [ "$before" = -o ] && cp "$here/output" "$word"; before=$word; done
"""

ASK = """
import sys
from pathlib import Path
from llm60_jax.kernels import building, processor
building.SOURCES = Path(sys.argv[1])
print(building.library(processor.named("avx512")))
"""

TWICE = """
#include "scale.h"
#include "xla/ffi/api/ffi.h"
namespace ffi = xla::ffi;

static ffi::Error Scaled(ffi::Buffer<ffi::F32> x, ffi::ResultBuffer<ffi::F32> y) {
  for (size_t i = 0; i < x.element_count(); ++i) y->typed_data()[i] = scale * x.typed_data()[i];
  return ffi::Error::Success();
}

XLA_FFI_DEFINE_HANDLER_SYMBOL(
    Twice, Scaled, ffi::Ffi::Bind().Arg<ffi::Buffer<ffi::F32>>().Ret<ffi::Buffer<ffi::F32>>());
"""


def names(machine, features):
    return [variant.name for variant in processor.runnable(machine, frozenset(features.split()))]


# --- The processor ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("machine", "features", "variants"),
    [
        ("x86_64", SAPPHIRE_RAPIDS, ["amx", "avx512", "avx512f", "avx2"]),
        ("x86_64", ZEN_4, ["avx512", "avx512f", "avx2"]),
        ("AMD64", SKYLAKE, ["avx512f", "avx2"]),
        ("x86_64", "avx avx2 fma", ["avx2"]),
        ("x86_64", "avx avx2", []),
        ("x86_64", "amx_tile amx_bf16 avx2 fma", ["avx2"]),
        ("x86_64", "", []),
        ("x86_64", "asimd bf16", []),
        ("aarch64", "fp asimd bf16 i8mm", ["neon"]),
        ("arm64", "asimd bf16", ["neon"]),
        ("aarch64", "fp asimd", []),
        ("aarch64", ZEN_4, []),
        ("riscv64", f"{ZEN_4} asimd bf16", []),
    ],
)
def test_a_processor_gets_what_it_can_run_the_fastest_first(machine, features, variants):
    assert names(machine, features) == variants


def test_each_instruction_that_the_compiler_may_use_is_asked_of_the_processor():
    for variant in processor.VARIANTS:
        flags = [flag.removeprefix("-m").replace("-", "_") for flag in variant.flags if not flag.startswith("-march")]
        features = {feature.replace("avx512_bf16", "avx512bf16") for feature in variant.features}
        assert set(flags) == (features if flags else set()), variant.name


def test_half_of_the_variants_compute_in_bfloat16():
    assert [v.name for v in processor.VARIANTS if v.is_bfloat16] == ["amx", "avx512", "neon"]
    assert processor.named("avx2").flags == ("-mavx2", "-mfma")


@pytest.mark.parametrize(
    ("text", "features"),
    [
        ("processor\t: 0\nflags\t\t: fma avx2\nbugs\t\t: spectre\n", "fma avx2"),
        ("processor : 0\nFeatures : fp asimd bf16\n\nprocessor : 1\nFeatures : fp asimd\n", "fp asimd"),
        ("hw.optional.arm.FEAT_BF16: 1\nhw.optional.arm.AdvSIMD: 1\nhw.optional.arm.FEAT_SME: 0\n", "bf16 asimd"),
        ("hw.optional.arm.FEAT_BF16: 0\nhw.optional.AdvSIMD: 1\n", "asimd"),
        ("", ""),
    ],
)
def test_features_are_read_from_linux_and_macos(text, features):
    assert processor.features_of(text) == set(features.split())


def test_this_processor_is_read():
    assert set(processor.here()) <= set(processor.VARIANTS)


# --- The library, by a compiler that only pretends -------------------------------------------------------------------


class Fake:
    """A compiler of a shell script, and a folder of sources."""

    def __init__(self, folder: Path):
        self.folder, self.sources = folder / "compiler", folder / "sources"
        self.folder.mkdir()
        self.sources.mkdir()
        (self.sources / "ffi.cc").write_text('#include "a.h"\n')
        (self.sources / "a.h").write_text("int a;\n")
        for name, text in {"version": "fake 1\nmore\n", "output": "code", "seconds": "0", "cxx": COMPILER}.items():
            self.set(name, text)
        (self.folder / "cxx").chmod(0o700)

    def set(self, name, text):
        (self.folder / name).write_text(text)

    @property
    def calls(self):
        path = self.folder / "calls"
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def fake(tmp_path, monkeypatch):
    result = Fake(tmp_path)
    monkeypatch.setattr(building, "SOURCES", result.sources)
    monkeypatch.setattr(building, "_cache", lambda: tmp_path / "cache" / "kernels")
    monkeypatch.setenv("CXX", str(result.folder / "cxx"))
    building._of_this_process.cache_clear()
    return result


def library(name="avx512"):
    return building.library(processor.named(name))


def test_a_library_is_compiled_once_for_each_instruction_set(fake, caplog):
    first = library()
    assert first.read_text() == "code"
    assert "compiling the native kernels for this processor, once" in caplog.text
    caplog.clear()
    assert library() == first
    assert library("avx2") != first
    assert [("-mavx512bf16" in call, "-mavx2" in call) for call in fake.calls] == [(True, False), (False, True)]
    assert all("-shared" in call and str(fake.sources / "ffi.cc") in call for call in fake.calls)
    assert sorted(path.suffix for path in first.parent.iterdir()) == ["", ".json", ".json", ".so", ".so"]


def test_the_record_says_what_the_library_was_built_from(fake):
    record = json.loads(library().with_suffix(".json").read_text())
    assert record["compiler"] == "fake 1"
    assert sorted(record["sources"]) == ["a.h", "ffi.cc"]
    assert "-mavx512bf16" in record["flags"]
    assert {"jaxlib", "machine", "sha256"} < record.keys()


def other_source(fake, patch):
    (fake.sources / "a.h").write_text("int b;\n")


def other_compiler(fake, patch):
    fake.set("version", "fake 2\n")


def other_jaxlib(fake, patch):
    patch.setattr(building.importlib.metadata, "version", lambda name: "0.99")


@pytest.mark.parametrize("change", [other_source, other_compiler, other_jaxlib])
def test_another_source_compiler_or_jaxlib_makes_another_library(fake, monkeypatch, change):
    first = library()
    change(fake, monkeypatch)
    assert library() != first
    assert len(fake.calls) == 2


def test_an_update_of_the_system_makes_no_other_library(fake):
    first = library()
    fake.set("version", "fake 1\nTarget: another kernel\n")
    assert library() == first


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


def flipped(path):
    path.write_text("cove")


def without_record(path):
    path.with_suffix(".json").unlink()


def garbled_record(path):
    path.with_suffix(".json").write_text("[1")


def foreign(path):
    record = json.loads(path.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps(record | {"compiler": "fake 0"}))


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (cut, "damaged"),
        (flipped, "damaged"),
        (without_record, "missing or damaged"),
        (garbled_record, "missing or damaged"),
        (foreign, "built from other sources or by another compiler"),
    ],
)
def test_a_damaged_or_foreign_library_is_said_and_built_again(fake, caplog, damage, fault):
    path = library()
    caplog.clear()
    damage(path)
    assert library() == path
    assert path.read_text() == "code"
    assert [record.getMessage().startswith(f"{path}: {fault}; compiling") for record in caplog.records] == [True]
    assert library() == path
    assert len(fake.calls) == 2


def test_two_processes_at_once_compile_once(fake, tmp_path):
    fake.set("seconds", "1")
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path / "home"), "HOME": str(tmp_path / "home")}
    command = [sys.executable, "-c", ASK, str(fake.sources)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command, cwd=PROJECT, env=environment, **pipes) for _ in range(2)]
    answers = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], answers
    assert answers[0][0] == answers[1][0] != ""
    assert len(fake.calls) == 1


def test_a_cache_that_cannot_be_written_costs_a_compilation_in_each_process(fake, tmp_path, caplog):
    (tmp_path / "cache").write_text("a file in the place of the folder")
    path = library()
    assert path.read_text() == "code"
    assert "not kept, only compiled for this process" in caplog.text
    assert library() == path
    assert len(fake.calls) == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_library_in_a_read_only_cache_is_used(fake, tmp_path):
    path = library()
    path.parent.chmod(0o500)
    assert library() == path
    assert len(fake.calls) == 1


def test_a_user_without_a_home_has_no_cache(monkeypatch):
    def missing():
        raise RuntimeError("no home")

    monkeypatch.setattr(building.Path, "home", missing)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    with pytest.raises(OSError, match="no home"):
        building._cache()


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS has one place for caches")
def test_the_cache_lies_where_the_user_has_caches(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert building._cache() == tmp_path / "llm60_jax" / "kernels"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/someone")
    assert building._cache() == Path("/home/someone/.cache/llm60_jax/kernels")


def test_libraries_that_nothing_uses_are_removed(fake):
    unused = library()
    recent = library("avx2")
    month_ago = time.time() - 31 * 24 * 3600
    os.utime(unused, (month_ago, month_ago))
    left_behind = unused.parent / building.unfinished.name_of("kernels", "removed")
    left_behind.mkdir()
    new = library("amx")
    assert sorted(unused.parent.glob("*.so")) == sorted([recent, new])
    assert not unused.with_suffix(".json").exists()
    assert not left_behind.exists()


def test_use_keeps_a_library(fake):
    used = library()
    month_ago = time.time() - 31 * 24 * 3600
    os.utime(used, (month_ago, month_ago))
    library()
    library("avx2")
    assert used.exists()


# --- Failures --------------------------------------------------------------------------------------------------------


def test_the_first_error_of_the_compiler_is_the_reason(fake):
    fake.set("error", "In file included from x:\na.h:3:1: error: no such word\na.h:4:1: error: another\n")
    with pytest.raises(building.Unavailable, match=r"cannot be compiled: a\.h:3:1: error: no such word; CXX"):
        library()
    assert list((fake.folder.parent / "cache" / "kernels").glob("*.so")) == []


def test_a_compiler_without_a_word_is_named(fake):
    fake.set("error", "")
    with pytest.raises(building.Unavailable, match="the compiler ended with 1 and no word"):
        library()


def test_a_compiler_that_is_killed_is_named(fake):
    fake.set("cxx", COMPILER.replace("echo", "kill -9 $$; echo"))
    with pytest.raises(building.Unavailable, match="the compiler was ended by SIGKILL"):
        library()


def test_a_compiler_that_hangs_is_given_up(fake, monkeypatch):
    monkeypatch.setattr(building, "_PATIENCE", 0.5)
    fake.set("cxx", COMPILER.replace("sleep", "exec sleep 60 #"))
    with pytest.raises(building.Unavailable, match="no end within 0 s"):
        library()


def without_compilers(patch, *present):
    real = shutil.which
    patch.setattr(building.shutil, "which", lambda name: real(present[0]) if present and name == "g++" else None)
    patch.setattr(building.importlib.util, "find_spec", lambda name: None)
    patch.delenv("CXX", raising=False)


def test_without_a_compiler_the_reason_says_what_to_install(fake, monkeypatch):
    without_compilers(monkeypatch)
    with pytest.raises(building.Unavailable, match=r"no C\+\+ compiler was found.*'llm60_jax\[compiler\]'.*xcode-sel"):
        library()


def test_a_compiler_that_does_not_work_is_passed_over(fake, monkeypatch):
    without_compilers(monkeypatch, str(fake.folder / "cxx"))
    fake.set("cxx", "#!/bin/sh\necho 'no developer tools were found' >&2\nexit 1\n")
    with pytest.raises(building.Unavailable, match=r"no C\+\+ compiler was found"):
        library()


def test_a_compiler_that_the_user_names_and_that_is_missing_is_named(fake, monkeypatch):
    monkeypatch.setenv("CXX", "/nowhere/c++ -v")
    with pytest.raises(building.Unavailable, match=r"CXX is '/nowhere/c\+\+ -v', which is no working compiler"):
        library()


# --- Real compilers --------------------------------------------------------------------------------------------------


def zig():
    return f"{sys.executable} -m ziglang c++" if building.importlib.util.find_spec("ziglang") else ""


def real_sources(folder: Path) -> Path:
    folder.mkdir()
    (folder / "ffi.cc").write_text(TWICE)
    (folder / "scale.h").write_text("#pragma once\nconst float scale = 2;\n")
    return folder


@pytest.mark.slow
@pytest.mark.skipif(not processor.here(), reason="this processor has none of the instruction sets")
@pytest.mark.parametrize("command", ["", pytest.param(zig(), marks=pytest.mark.skipif(not zig(), reason="no ziglang"))])
def test_a_compiled_library_computes_in_jax(monkeypatch, tmp_path, command):
    monkeypatch.setattr(building, "_cache", lambda: tmp_path / "cache")
    monkeypatch.setattr(building, "SOURCES", real_sources(tmp_path / "sources"))
    monkeypatch.setenv("CXX", command)
    loaded = ctypes.CDLL(str(building.library(processor.here()[0])))
    name = f"test_twice_{len(command)}"
    jax.ffi.register_ffi_target(name, jax.ffi.pycapsule(loaded.Twice), platform="cpu")
    x = np.arange(5, dtype=np.float32)
    call = jax.ffi.ffi_call(name, jax.ShapeDtypeStruct(x.shape, x.dtype))
    np.testing.assert_array_equal(jax.jit(call)(x), 2 * x)


@pytest.mark.slow
def test_a_program_is_compiled_with_flags_of_the_caller(monkeypatch, tmp_path):
    monkeypatch.setattr(building, "SOURCES", real_sources(tmp_path / "sources"))
    source = tmp_path / "driver.cc"
    source.write_text('#include "scale.h"\nint main() { return static_cast<int>(scale) + OFFSET; }\n')
    variants = processor.here() or pytest.skip("this processor has none of the instruction sets")
    building.compile(source, tmp_path / "driver", variants[-1], ["-DOFFSET=5"])
    assert subprocess.run([tmp_path / "driver"]).returncode == 7
