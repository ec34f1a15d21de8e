"""The device that a run uses (design: Apple GPU): what `device` asks for, after a look at whether it can be trusted.

JAX's own back ends, the CPU, CUDA, ROCm and TPU, are taken as they are. Any other plug-in, such as those for Apple
GPUs, has to show first that it trains as the CPU does: plug-ins have installed without complaint and then crashed,
hung, lacked bfloat16 or computed something else. Each is tried in a process of its own (probe.py), before JAX loads it
in this one; the verdict is remembered until a version changes.
"""

import importlib.metadata
import json
import logging
import math
import os
import platform
import signal
import subprocess
import sys
import types
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from llm60_jax.config import Config
from llm60_jax.errors import MachineError
from llm60_jax.machine import facts, files, remembered

log = logging.getLogger("llm60_jax")
PATIENCE = 180.0  # seconds that a plug-in may take to train a tiny model
_GROUP = "jax_plugins"  # entry points by which JAX finds plug-ins
_OWN = ("xla_cuda", "xla_rocm", "libtpu")  # plug-ins of JAX itself
_JAX_NAMES = ("cpu", "gpu", "cuda", "rocm", "tpu")
# What plug-ins for Apple GPUs call their platform, by distribution.
_PLATFORMS = {"jax-metal": "METAL", "jax-mps": "mps", "metaljax": "metal", "jax-graft": "mtl"}
_MOST = 0.02  # by which a loss, a gradient's norm or a product may differ from the CPU's, relative to 1 or to its size


class Plugin(NamedTuple):
    """A JAX plug-in that is installed."""

    distribution: str
    version: str
    module: str
    platform: str  # as JAX_PLATFORMS names it


def ready(config: Config) -> dict[str, str]:
    """Settles which device JAX uses in this process, and tells versions and device (machine.versions).

    Raises:
      MachineError: the device that was asked for is not there or cannot be trusted, or there are too few of them.
      InputError: several processes were started.
    """
    settle(config.device, Path(config.data_dir))
    return facts.versions(config.train.devices)


def settle(device: str, folder: Path) -> None:
    """Has JAX use a device. Call before JAX has opened any. JAX_PLATFORMS, where the user has set it, has the last
    word.

    Args:
      device: "auto", a name that JAX knows, or the platform of a plug-in.
      folder: in which verdicts are kept.

    Raises:
      MachineError: a plug-in that was asked for by name is not installed, or failed.
    """
    if os.environ.get("JAX_PLATFORMS"):
        return
    found = plugins()
    if device in _JAX_NAMES:
        leave_out(plugin.module for plugin in found)
        _use(device)
        return
    wanted = [plugin for plugin in found if device in ("auto", plugin.platform)]
    if device != "auto" and not wanted:
        there = ", ".join([*_JAX_NAMES, *sorted({plugin.platform for plugin in found})])
        raise MachineError(f"device: '{device}' is no plug-in that is installed here; auto, or one of {there}")
    for plugin in wanted:
        others = [one.module for one in found if one != plugin]
        fault = _verdict(plugin, others, folder)
        if fault is None:
            leave_out(others)
            _use(f"{plugin.platform},cpu")
            return
        told = f"{plugin.distribution} {plugin.version}: {fault}"
        if device != "auto":
            raise MachineError(f"device: {told}. device = 'cpu' always works")
        log.warning("%s; using the CPU. It is tried again when a version changes, or without %s", told, _file(folder))
    if wanted:
        leave_out(plugin.module for plugin in found)
        _use("cpu")


def plugins() -> list[Plugin]:
    """The plug-ins that are installed beside JAX's own."""
    found = []
    for point in importlib.metadata.entry_points(group=_GROUP):
        if point.dist is None or any(name in point.value for name in _OWN):
            continue
        name = point.dist.name
        found.append(Plugin(name, point.dist.version, point.value, _PLATFORMS.get(name, point.name)))
    return sorted(set(found))


def _use(platforms: str) -> None:
    os.environ["JAX_PLATFORMS"] = platforms  # of the processes, too, that this one starts
    if "jax" in sys.modules:
        import jax

        jax.config.update("jax_platforms", platforms)


def leave_out(modules: Iterable[str]) -> None:
    """JAX imports every plug-in and calls its `initialize`, whatever platform it is to use; it finds these empty."""
    for name in modules:
        empty = types.ModuleType(name)
        empty.initialize = lambda: None  # type: ignore[attr-defined]
        sys.modules[name] = empty


def _verdict(plugin: Plugin, others: list[str], folder: Path) -> str | None:
    """What is wrong with a plug-in, None for nothing; looked up, or found now."""
    system = [platform.platform(), sys.version, importlib.metadata.version("jax")]
    digest, path = files.digest_of([*plugin, *system]), _file(folder)
    known = remembered.read(path)
    if digest not in known:
        log.warning("%s: trying whether it trains as the CPU does; this happens once", plugin.distribution)
        known[digest] = {"plugin": plugin.distribution, "version": plugin.version, "fault": _tried(plugin, others)}
        remembered.add(path, {digest: known[digest]})
    fault = known[digest].get("fault")
    return None if fault is None else str(fault)


def _file(folder: Path) -> Path:
    return folder / "devices.json"


def _tried(plugin: Plugin, others: list[str]) -> str | None:
    told = probed(f"{plugin.platform},cpu", others)
    if isinstance(told, str):
        return told
    if "without_bfloat16" in told:
        return f"it has no bfloat16 products ({told['without_bfloat16']})"
    right = probed("cpu", [plugin.module, *others])
    if isinstance(right, str):
        raise MachineError(f"JAX does not work on this machine's CPU: {right}")
    return _difference(told, right)


def _difference(told: dict[str, Any], right: dict[str, Any]) -> str | None:
    """Where a device's numbers are not the CPU's."""
    for what in ("bfloat16", "training"):
        for number, (a, b) in enumerate(zip(told[what], right[what], strict=True)):
            if not math.isfinite(a) or abs(a - b) > _MOST * max(1.0, abs(b)):
                name = "a bfloat16 product" if what == "bfloat16" else ("a loss", "a gradient's norm")[number % 2]
                return f"it computes wrongly: {name} is {a:.4g} where the CPU has {b:.4g}"
    return None if told["repeats"] else "it computes wrongly: the same steps give other numbers each time"


def probed(platforms: str, without: list[str]) -> dict[str, Any] | str:
    """What probe.py prints on a platform, or how it failed."""
    command = [sys.executable, "-m", "llm60_jax.training.device_probe", *without]
    environment = os.environ | {"JAX_PLATFORMS": platforms}
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        return f"it hangs: no answer within {PATIENCE:.0f} s"
    if done.returncode < 0:
        return f"it crashes ({signal.Signals(-done.returncode).name})"
    try:
        if done.returncode:
            raise ValueError
        return dict(json.loads(done.stdout.splitlines()[-1]))
    except (ValueError, IndexError, TypeError):
        last = next((line for line in reversed(done.stderr.splitlines()) if line.strip()), "nothing was said")
        return f"it fails (exit code {done.returncode}): {last.strip()[:300]}"
