"""The library of kernels for an instruction set: compiled on first use, then kept in the user's cache.

A library is named by a digest of all that decides its code: sources, compiler, flags, jaxlib and
machine. The record beside it holds these and the library's SHA-256, so a damaged or foreign one is
compiled again. Processes that start at once compile once.
"""

import atexit
import contextlib
import functools
import importlib.metadata
import importlib.util
import json
import logging
import os
import platform
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from llm60_jax.errors import DamageError, MachineError
from llm60_jax.kernels.processor import Variant
from llm60_jax.machine import files, unfinished
from llm60_jax.machine.locks import Lock

log = logging.getLogger("llm60_jax")
SOURCES = Path(__file__).parent / "sources"
_MAIN = "ffi.cc"  # includes all the others
_FLAGS = ("-std=c++17", "-O3", "-fPIC", "-pthread", "-ffp-contract=fast", "-fno-math-errno")
_COMPILERS = ("c++", "g++", "clang++")  # of the system
# zig reads -march as the name of a processor.
_OF_ZIG = {"-march=armv8.2-a+bf16": "-mcpu=generic+v8_2a+bf16"}
_PATIENCE = 600.0  # seconds for a compiler
_UNUSED_SECONDS = 30 * 24 * 3600.0  # an old library goes when none has asked for it for so long
_INSTALL = "pip install 'llm60_jax[compiler]', or that of your system (g++; on a Mac: xcode-select --install)"


class Unavailable(Exception):
    """There is no library of kernels. The message is one sentence that says why."""


class _Compiler(NamedTuple):
    command: tuple[str, ...]
    version: str  # the first line of --version; the others name folders and the system's kernel


def library(variant: Variant) -> Path:
    """Return the library of kernels for an instruction set, compiled now if no intact one is kept.

    If the user's cache cannot be written, a library is compiled for this process only.

    Raise Unavailable.
    """
    compiler = _compiler()
    identity = {
        "sources": {str(p.relative_to(SOURCES)): files.sha256_of(p) for p in sorted(SOURCES.rglob("*")) if p.is_file()},
        "compiler": compiler.version,
        "flags": [*_FLAGS, *variant.flags],
        "jaxlib": importlib.metadata.version("jaxlib"),
        "machine": platform.machine(),
    }
    try:
        return _kept(_cache(), variant, compiler, identity)
    except (OSError, MachineError) as error:
        log.warning("the native kernels are not kept, only compiled for this process: %s", error)
    try:
        return _kept(_of_this_process(), variant, compiler, identity)
    except (OSError, MachineError) as error:
        raise Unavailable(f"the native kernels cannot be written: {error}") from None


def compile(source: Path, output: Path, variant: Variant, extra_flags: Sequence[str] = ()) -> None:
    """Compile a C++ source that may include the kernels' headers and those of jaxlib.

    Args:
      source: the file.
      output: a program, or a library if the flags have `-shared`. It is replaced.
      variant: the instruction set.
      extra_flags: come last, so they override.

    Raise Unavailable.
    """
    _compile(_compiler(), source, output, variant, extra_flags)


def require_compiler() -> None:
    """Raise Unavailable if there is no compiler."""
    _compiler()


def _compiler() -> _Compiler:
    """Return the first compiler that works: $CXX, the system's, or that of the wheel ziglang."""
    chosen = shlex.split(os.environ.get("CXX", ""))
    commands: list[tuple[str, ...]] = [tuple(chosen)] if chosen else [(name,) for name in _COMPILERS]
    if not chosen and importlib.util.find_spec("ziglang"):
        commands.append((sys.executable, "-m", "ziglang", "c++"))
    for command in commands:
        path = shutil.which(command[0])
        # On macOS c++ is there before the compiler is, and fails.
        if path and (done := _run([path, *command[1:], "--version"])).returncode == 0:
            return _Compiler((path, *command[1:]), done.stdout.partition("\n")[0])
    if chosen:
        raise Unavailable(f"CXX is '{shlex.join(chosen)}', which is no working compiler; unset it or name another")
    raise Unavailable(f"no C++ compiler was found; install one: {_INSTALL}")


def _compile(
    compiler: _Compiler, source: Path, output: Path, variant: Variant, extra_flags: Sequence[str] = ()
) -> None:
    import jax

    flags = [*_FLAGS, *variant.flags, f"-I{SOURCES}", "-isystem", jax.ffi.include_dir(), *extra_flags]
    if "ziglang" in compiler.command:
        flags = [_OF_ZIG.get(flag, flag) for flag in flags]
    done = _run([*compiler.command, *flags, str(source), "-o", str(output)])
    if done.returncode:
        raise Unavailable(f"the native kernels cannot be compiled: {_first_error(done)}; CXX may name another compiler")


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a compiler. Whatever prevents it becomes a failed run that says so."""
    try:
        # zig would leave its compiled C++ library, 170 MB, among the user's files
        with tempfile.TemporaryDirectory(prefix="llm60_jax-compiler-") as place:
            variables = os.environ | dict.fromkeys(("ZIG_GLOBAL_CACHE_DIR", "ZIG_LOCAL_CACHE_DIR"), place)
            variables["LC_ALL"] = "C"  # errors in English
            options: dict[str, Any] = {"capture_output": True, "text": True, "errors": "replace"}
            return subprocess.run(command, env=variables, timeout=_PATIENCE, **options)
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 1, "", f"no end within {_PATIENCE:.0f} s")
    except OSError as error:
        return subprocess.CompletedProcess(command, 1, "", f"{error.filename or command[0]}: {error.strerror or error}")


def _first_error(done: subprocess.CompletedProcess[str]) -> str:
    if done.returncode < 0:
        return f"the compiler was ended by {signal.Signals(-done.returncode).name}"
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    errors = [line for line in lines if "error:" in line]
    return next(iter(errors + lines), f"the compiler ended with {done.returncode} and no word")[:300]


def _cache() -> Path:
    """Return the folder of libraries among the user's caches. Raise OSError if the user has none."""
    try:
        if sys.platform == "darwin":
            caches = Path.home() / "Library" / "Caches"
        else:
            caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError as error:
        raise OSError(str(error)) from None
    return caches / "llm60_jax" / "kernels"


@functools.cache
def _of_this_process() -> Path:
    """Return a folder that goes when this process ends. Raise OSError."""
    stack = contextlib.ExitStack()
    atexit.register(stack.close)
    return stack.enter_context(unfinished.folder())


def _kept(folder: Path, variant: Variant, compiler: _Compiler, identity: dict[str, Any]) -> Path:
    """Return the library in a folder, compiled if need be. Raise Unavailable, OSError, MachineError."""
    path = folder / f"{variant.name}-{files.digest_of(identity)[:16]}.so"
    if _fault(path, identity):
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder):
            if fault := _fault(path, identity):  # still, after a wait
                again = f"{path}: {fault}; " if path.exists() else ""
                log.warning("%scompiling the native kernels for this processor, once; this may take a minute", again)
                _build(path, variant, compiler, identity)
                _remove_unused(folder)
    with contextlib.suppress(OSError):  # the folder is read-only
        os.utime(path)  # used today
    return path


def _fault(path: Path, identity: dict[str, Any]) -> str | None:
    """Return what is wrong with a library: missing, damaged or foreign; None if nothing is."""
    try:
        record = dict(json.loads(files.read_text(path.with_suffix(".json"))))
        digest = record.pop("sha256", None)
        if record != identity:
            return "built from other sources or by another compiler"
        return None if files.sha256_of(path) == digest else "damaged"
    except (DamageError, OSError, ValueError, TypeError):
        return "missing or damaged"


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let one process at a time build in a folder. Raise OSError if it cannot be written."""
    with Lock(folder / "lock") as lock:
        if not _take(lock):
            log.warning("waiting for another process that compiles the native kernels")
            while not _take(lock):
                time.sleep(0.1)
        yield


def _take(lock: Lock) -> bool:
    try:
        return lock.take()
    except OSError:  # a disk without locks: two processes at once compile twice
        return True


def _build(path: Path, variant: Variant, compiler: _Compiler, identity: dict[str, Any]) -> None:
    with unfinished.folder("kernels", path.parent) as place:
        built = place / path.name
        _compile(compiler, SOURCES / _MAIN, built, variant, ("-shared",))
        files.flush(built)
        digest = files.sha256_of(built)
        os.replace(built, path)
    files.write_text(path.with_suffix(".json"), files.dump({**identity, "sha256": digest}))


def _remove_unused(folder: Path) -> None:
    """Remove libraries that nothing has used for long, and what killed processes left half built."""
    unfinished.remove([folder])
    for path in folder.glob("*.so"):
        with contextlib.suppress(OSError):  # another process was faster
            if time.time() - path.stat().st_mtime > _UNUSED_SECONDS:
                path.unlink()
                path.with_suffix(".json").unlink(missing_ok=True)
