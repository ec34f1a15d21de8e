"""The instruction sets that the kernels are compiled for, and those of this processor."""

import platform
import subprocess
import sys
from collections.abc import Set
from pathlib import Path
from typing import NamedTuple

_X86 = ("x86_64", "AMD64")
_ARM = ("aarch64", "arm64")
_AVX512 = frozenset(("avx512f", "avx512bw", "avx512vl", "avx512dq", "fma"))
_AVX512_FLAGS = ("-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mfma")
# Features of Apple's processors that Linux calls otherwise: the last part of a name of sysctl.
_OF_MACOS = {"AdvSIMD": "asimd", "FEAT_BF16": "bf16"}


class Variant(NamedTuple):
    """An instruction set: the kernels have one library for each."""

    name: str
    machines: tuple[str, ...]  # what platform.machine() may return
    features: frozenset[str]  # as /proc/cpuinfo names them; a processor needs all
    flags: tuple[str, ...]  # for the compiler
    is_bfloat16: bool  # whether products take bfloat16; otherwise all is float32


# The fastest first.
VARIANTS = (
    Variant(
        "amx",
        _X86,
        _AVX512 | {"avx512_bf16", "amx_tile", "amx_bf16"},
        (*_AVX512_FLAGS, "-mavx512bf16", "-mamx-tile", "-mamx-bf16"),
        True,
    ),
    Variant("avx512", _X86, _AVX512 | {"avx512_bf16"}, (*_AVX512_FLAGS, "-mavx512bf16"), True),
    Variant("avx512f", _X86, _AVX512, _AVX512_FLAGS, False),
    Variant("avx2", _X86, frozenset(("avx2", "fma")), ("-mavx2", "-mfma"), False),
    Variant("neon", _ARM, frozenset(("asimd", "bf16")), ("-march=armv8.2-a+bf16",), True),
)


def named(name: str) -> Variant:
    """Return a variant by its name. Raise KeyError."""
    return {variant.name: variant for variant in VARIANTS}[name]


def runnable(machine: str, features: Set[str]) -> tuple[Variant, ...]:
    """Return the variants that a processor can run, the fastest first.

    Args:
      machine: as platform.machine() names it.
      features: as /proc/cpuinfo names them.
    """
    return tuple(v for v in VARIANTS if machine in v.machines and v.features <= features)


def here() -> tuple[Variant, ...]:
    """Return the variants that this processor can run, the fastest first."""
    return runnable(platform.machine(), _features())


def features_of(text: str) -> frozenset[str]:
    """Return the features in the text of /proc/cpuinfo, or in what sysctl prints on macOS.

    Where cores differ, a feature counts only if all of them have it.
    """
    lines = [line.partition(":") for line in text.splitlines()]
    cores = [frozenset(value.split()) for name, _, value in lines if name.strip() in ("flags", "Features")]
    if cores:
        return frozenset.intersection(*cores)
    present = [name.split(".")[-1] for name, _, value in lines if value.strip() == "1"]
    return frozenset(_OF_MACOS[name] for name in present if name in _OF_MACOS)


def _features() -> frozenset[str]:
    try:
        if sys.platform == "darwin":
            command = ["sysctl", "hw.optional"]
            return features_of(subprocess.run(command, capture_output=True, text=True).stdout)
        return features_of(Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    except OSError:
        return frozenset()
