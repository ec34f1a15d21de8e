"""What surrounds this process: JAX's variables, the system's limits, the encoding of file names.

JAX and XLA answer some of these late and badly: an assertion of shapes, a fatal line of C++, a hang.
So `settle` looks at them before JAX computes. Settings that no step survives are ignored,
with a warning; the results are the same. What cannot work raises MachineError.
"""

import contextlib
import importlib.metadata
import logging
import os
import resource
import subprocess
import sys
import tempfile
import threading
import warnings
from pathlib import Path

from llm60_jax.errors import MachineError
from llm60_jax.machine import facts

log = logging.getLogger("llm60_jax")
_ACCEPTED = "xla_flags.json"  # file below data_dir: flags that XLA accepts, and its version
# JAX's variables that no step survives, with the value that a run needs: numbers of 64 bits, a device beside
# `device` and JAX_PLATFORMS, strict modes, modes under trial, and programs that change while they run.
_IGNORED = {
    "JAX_ENABLE_X64": False,
    "JAX_DEFAULT_DEVICE": None,
    "JAX_NUMPY_DTYPE_PROMOTION": "standard",
    "JAX_NUMPY_RANK_PROMOTION": "allow",
    "JAX_TRANSFER_GUARD": "allow",
    "JAX_TRANSFER_GUARD_HOST_TO_DEVICE": "allow",
    "JAX_TRANSFER_GUARD_DEVICE_TO_DEVICE": "allow",
    "JAX_TRANSFER_GUARD_DEVICE_TO_HOST": "allow",
    "JAX_ERROR_CHECKING_BEHAVIOR_NAN": "ignore",
    "JAX_ERROR_CHECKING_BEHAVIOR_DIVIDE": "ignore",
    "JAX_ERROR_CHECKING_BEHAVIOR_OOB": "ignore",
    "JAX_SCAN3": False,
    "JAX_REMAT3": False,
    "JAX_CUSTOM_VJP3": False,
    "JAX_ENABLE_PGLE": False,
}
_CACHE = "JAX_COMPILATION_CACHE_DIR"
# On a GPU two runs of one program differ in their last bits: gradients are added in the order in which threads end,
# and products are chosen by a race at each start. This flag fixes the order and the choice.
DETERMINISM = "--xla_gpu_deterministic_ops"
_GPU_PLUGINS = ("xla_cuda", "xla_rocm")  # plug-ins of JAX itself
_GPU_NAMES = frozenset(("auto", "gpu", "cuda", "rocm"))
# Variables that turn off what a run consists of.
_REFUSED = ("JAX_DISABLE_JIT", "JAX_NO_TRACING", "JAX_NO_EXECUTION")
_OFF = frozenset(("0", "false", "f", "no", "n", "off"))  # as JAX reads a variable
_ADDRESS_BYTES = 2_500_000_000  # JAX maps 2.0 GB for the smallest model, whatever it then uses
_THREADS = 32 + 4 * (os.cpu_count() or 1)  # of Python, JAX and XLA's compiler
_PATIENCE = 60.0  # seconds for XLA to read its flags


def settle(folder: Path | None = None, trains_on: str | None = None) -> None:
    """Check and settle the environment of a process that computes. It changes nothing the second time.

    Call it before JAX computes, and before JAX is imported if a wrong value should be named.

    Args:
      folder: `data_dir`, where accepted flags are remembered.
      trains_on: the configuration's `device` if this process trains, or measures training. Then the
        steps of a GPU are made repeatable, so that a resumed run has the same bits.

    Raises:
      MachineError: a variable or a limit with which JAX cannot work.
    """
    require_address_space(_ADDRESS_BYTES, "JAX with the smallest model")
    _require_threads()
    _require_variables()
    _require_flags(folder / _ACCEPTED if folder else None)
    if trains_on and _expects_gpu(trains_on):
        _ask_for_determinism(folder / _ACCEPTED if folder else None)
    changes = {name: needed for name, needed in _IGNORED.items() if _is_set(name, needed)}
    if changes:
        log.warning("ignored, because a run does not work with it: %s", ", ".join(changes))
    if fault := _fault_of_cache():
        log.warning("%s: ignored, because it cannot be written: %s", _CACHE, fault)
        changes[_CACHE] = None
    # JAX compiles all the same, and warns with a page for each entry of a disk that fills up.
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache entry")
    for name in changes:
        del os.environ[name]  # child processes do without it, too
    try:
        import jax
    except ValueError as error:  # JAX reads its variables when it is imported
        raise MachineError(
            f"JAX refuses a variable of the environment: {error}; unset it ({facts.variables()})"
        ) from None
    for name, value in changes.items():
        with contextlib.suppress(AttributeError):  # this version of JAX does not know it
            jax.config.update(name.lower(), value)


def is_repeatable(backend: str) -> bool:
    """Return whether a program gives the same bits each time on a back end of JAX, in this environment."""
    values = [flag.partition("=")[2] for flag in _flags() if flag.partition("=")[0] == DETERMINISM]
    return backend != "gpu" or (bool(values) and values[-1].lower() in ("", "1", "true"))


def _flags() -> list[str]:
    return os.environ.get("XLA_FLAGS", "").split()


def _expects_gpu(device: str) -> bool:
    """Return whether JAX will choose a GPU: a plug-in is installed, and no setting excludes it."""
    wanted = os.environ.get("JAX_PLATFORMS") or device
    if _GPU_NAMES.isdisjoint(wanted.lower().split(",")):
        return False
    points = importlib.metadata.entry_points(group="jax_plugins")
    return any(name in point.value for point in points for name in _GPU_PLUGINS)


def _ask_for_determinism(path: Path | None) -> None:
    """Add the flag to XLA_FLAGS, unless the user has set it, or a file stands there for the flags."""
    flags = _flags()
    if any(flag.startswith(DETERMINISM) for flag in flags) or (flags and not flags[0].startswith("--")):
        return
    before = os.environ.get("XLA_FLAGS")
    os.environ["XLA_FLAGS"] = " ".join([*flags, f"{DETERMINISM}=true"])  # child processes inherit it
    try:
        _require_flags(path)
    except MachineError:  # another version of XLA
        log.warning("XLA does not know %s: a resumed run may differ in its last bits", DETERMINISM)
        del os.environ["XLA_FLAGS"]
        if before:
            os.environ["XLA_FLAGS"] = before


def require_address_space(needed: int, user: str) -> None:
    """Raise MachineError if this process may not map as many bytes as `user` needs. It would hang or crash."""
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit != resource.RLIM_INFINITY and limit < needed:
        raise MachineError(
            f"the address space of this process is limited to {limit / 1e9:.1f} GB (ulimit -v), and {user} needs "
            f"{needed / 1e9:.1f} GB; raise the limit: ulimit -v unlimited"
        )


def read_names_as_utf8() -> None:
    """Start this process again in Python's UTF-8 mode if the locale has another encoding.

    Otherwise a path that is not ASCII could be neither recorded nor printed, and the same text would
    have other names, and so another digest, than under other locales.
    """
    if sys.getfilesystemencoding() == "utf-8" or os.environ.get("PYTHONUTF8") == "1":
        return
    os.environ["PYTHONUTF8"] = "1"
    os.environ.setdefault("PYTHONIOENCODING", f"{sys.stdout.encoding if sys.stdout else 'utf-8'}:backslashreplace")
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _fault_of_cache() -> str:
    """Return why the user's compilation cache cannot be written, or ""."""
    place = os.environ.get(_CACHE, "")
    if place and "://" not in place:  # an address is a cloud's
        try:
            Path(place).mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=place):
                pass
        except OSError as error:
            return f"{place}: {error.strerror or error}"
    return ""


def _is_set(name: str, needed: object) -> bool:
    """Whether a variable has another value than the one that a run needs."""
    value = os.environ.get(name, "").lower()
    return value not in ("", needed, *(_OFF if needed is False else ()))


def _require_variables() -> None:
    for name in _REFUSED:
        if _is_set(name, False):
            raise MachineError(f"{name} is {os.environ[name]!r}, and with it no step can be compiled; unset {name}")


def _require_threads() -> None:
    """Raise MachineError if JAX could not start its threads. It would end the process."""
    done, threads = threading.Event(), []
    try:
        for _ in range(_THREADS):
            thread = threading.Thread(target=done.wait, daemon=True)
            thread.start()
            threads.append(thread)
    except (RuntimeError, MemoryError):
        raise MachineError(
            f"this process can start only {len(threads)} threads, and JAX needs {_THREADS}; raise the limit "
            "(ulimit -u, the container's limit of processes), or end other programs"
        ) from None
    finally:
        done.set()
        for thread in threads:
            thread.join()


def _require_flags(path: Path | None) -> None:
    """Raise MachineError if XLA does not accept XLA_FLAGS. It would end the process.

    So a child process tries them once. Flags that pass are remembered with the version.
    """
    flags = os.environ.get("XLA_FLAGS")
    if not flags:
        return
    from llm60_jax.machine import remembered  # here, because NumPy itself may fail under a limit

    version = importlib.metadata.version("jaxlib")
    if path and remembered.read(path).get(flags) == version:
        return
    if fault := _fault():
        raise MachineError(f"XLA_FLAGS is {flags!r}: {fault}; correct it or unset it")
    if path and path.parent.is_dir() and flags.startswith("--"):  # and not the name of a file, which may change
        remembered.add(path, {flags: version})


def _fault() -> str | None:
    """Return what XLA says of its flags, or None."""
    command = [sys.executable, "-c", "import jax; jax.devices('cpu')"]
    plain = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        done = subprocess.run(
            command, env=plain | {"JAX_PLATFORMS": "cpu"}, capture_output=True, text=True, timeout=_PATIENCE
        )
        if done.returncode and "parse_flags" in done.stderr:
            # A line of XLA's log: E1129 12:44:09.312018 5844 command_line_flags.cc:63] Couldn't interpret ...
            said = next(line for line in done.stderr.splitlines() if "flags" in line and "] " in line)
            return said.partition("] ")[2].rstrip(".")[:300]
    return None
