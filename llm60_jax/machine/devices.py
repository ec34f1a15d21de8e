"""The device that a run uses: the one that `device` names, once it is known to compute correctly.

JAX's own back ends (CPU, CUDA, ROCm, TPU) are trusted. Any other plug-in, such as those for Apple
GPUs, must first train as the CPU does: plug-ins have installed without complaint and then crashed,
hung, lacked bfloat16 or computed something else. training/device_probe.py tries each in a process
of its own, before JAX loads it in this process. The verdict is cached until a version changes.
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

from llm60_jax import config as config_module
from llm60_jax.config import Config
from llm60_jax.errors import MachineError
from llm60_jax.machine import environment, facts, files, remembered

log = logging.getLogger("llm60_jax")
PATIENCE = 180.0  # seconds for a plug-in to train a tiny model
_ENTRY_POINTS = "jax_plugins"  # the group by which JAX finds plug-ins
_JAX_PLUGINS = ("xla_cuda", "xla_rocm", "libtpu")  # plug-ins of JAX itself
_JAX_NAMES = ("cpu", "gpu", "cuda", "rocm", "tpu")
# Platforms of plug-ins for Apple GPUs, by distribution.
_PLATFORMS = {"jax-metal": "METAL", "jax-mps": "mps", "metaljax": "metal", "jax-graft": "mtl"}
# Largest difference of a loss, gradient norm or product from the CPU's, relative to max(1, size).
_TOLERANCE = 0.02


class Plugin(NamedTuple):
    """An installed JAX plug-in."""

    distribution: str
    version: str
    module: str
    platform: str  # as JAX_PLATFORMS names it


def ready(config: Config) -> tuple[Config, dict[str, str]]:
    """Choose the devices of this process; return the configuration with their number, and `facts.versions`.

    Raises:
      MachineError: the device is missing or computes wrongly, or there are too few devices.
      InputError: this number of devices cannot share a step of this configuration.
    """
    environment.settle(Path(config.data_dir), config.device)
    settle(config.device, Path(config.data_dir))
    count = facts.counted_devices(config.train.devices)
    return config_module.with_devices(config, count), facts.versions()


def settle(device: str, folder: Path) -> None:
    """Choose the device that JAX uses, in an environment that is settled (`environment.settle`).

    Call it before JAX opens any. JAX_PLATFORMS, if the user set it, overrides it.

    Args:
      device: "auto", a name that JAX knows, or the platform of a plug-in.
      folder: the folder for verdicts.

    Raises:
      MachineError: a plug-in that `device` names is not installed, or failed; or JAX cannot work in
        this environment.
    """
    environment.settle(folder)
    if os.environ.get("JAX_PLATFORMS"):
        return
    installed = plugins()
    if device in _JAX_NAMES:
        leave_out(plugin.module for plugin in installed)
        _use(device)
        return
    wanted = [plugin for plugin in installed if device in ("auto", plugin.platform)]
    if device != "auto" and not wanted:
        names = ", ".join([*_JAX_NAMES, *sorted({plugin.platform for plugin in installed})])
        raise MachineError(f"device: no plug-in '{device}' is installed; choose auto, or one of {names}")
    for plugin in wanted:
        others = [other.module for other in installed if other != plugin]
        fault = _verdict(plugin, others, folder)
        if fault is None:
            leave_out(others)
            _use(f"{plugin.platform},cpu")
            return
        verdict = f"{plugin.distribution} {plugin.version}: {fault}"
        if device != "auto":
            raise MachineError(f"device: {verdict}. device = 'cpu' always works")
        log.warning("%s; using the CPU. To try it again, change a version or delete %s", verdict, _file(folder))
    if wanted:
        leave_out(plugin.module for plugin in installed)
        _use("cpu")


def plugins() -> list[Plugin]:
    """Return the installed plug-ins, without JAX's own."""
    result = []
    for point in importlib.metadata.entry_points(group=_ENTRY_POINTS):
        if point.dist is None or any(name in point.value for name in _JAX_PLUGINS):
            continue
        name = point.dist.name
        result.append(Plugin(name, point.dist.version, point.value, _PLATFORMS.get(name, point.name)))
    return sorted(set(result))


def _use(platforms: str) -> None:
    os.environ["JAX_PLATFORMS"] = platforms  # child processes inherit it
    if "jax" in sys.modules:
        import jax

        jax.config.update("jax_platforms", platforms)


def leave_out(modules: Iterable[str]) -> None:
    """Replace plug-ins by empty modules.

    JAX imports and initializes every plug-in, whatever platform it uses.
    """
    for name in modules:
        empty = types.ModuleType(name)
        empty.initialize = lambda: None  # type: ignore[attr-defined]
        sys.modules[name] = empty


def _verdict(plugin: Plugin, others: list[str], folder: Path) -> str | None:
    """Return what is wrong with a plug-in, or None. The verdict is cached, or found now."""
    system = [platform.platform(), sys.version, importlib.metadata.version("jax")]
    digest, path = files.digest_of([*plugin, *system]), _file(folder)
    verdicts = remembered.read(path)
    if digest not in verdicts:
        log.warning("%s: testing once whether it trains as the CPU does", plugin.distribution)
        verdicts[digest] = {"plugin": plugin.distribution, "version": plugin.version, "fault": _tried(plugin, others)}
        remembered.add(path, {digest: verdicts[digest]})
    fault = verdicts[digest].get("fault")
    return None if fault is None else str(fault)


def _file(folder: Path) -> Path:
    return folder / "devices.json"


def _tried(plugin: Plugin, others: list[str]) -> str | None:
    """Probe a plug-in and the CPU, and return what is wrong with the plug-in, or None."""
    device = probed(f"{plugin.platform},cpu", others)
    if isinstance(device, str):
        return device
    if "without_bfloat16" in device:
        return f"it has no bfloat16 products ({device['without_bfloat16']})"
    cpu = probed("cpu", [plugin.module, *others])
    if isinstance(cpu, str):
        raise MachineError(f"JAX does not work on this machine's CPU: {cpu}")
    return difference(device, cpu)


def difference(device: dict[str, Any], cpu: dict[str, Any]) -> str | None:
    """Return how a device's numbers differ from the CPU's, or None."""
    for kind in ("bfloat16", "training"):
        for number, (ours, right) in enumerate(zip(device[kind], cpu[kind], strict=True)):
            if not math.isfinite(ours) or abs(ours - right) > _TOLERANCE * max(1.0, abs(right)):
                name = "a bfloat16 product" if kind == "bfloat16" else ("a loss", "a gradient's norm")[number % 2]
                return f"it computes wrongly: {name} is {ours:.4g}, on the CPU it is {right:.4g}"
    return None if device["repeats"] else "it computes wrongly: the same steps give other numbers each time"


def probed(platforms: str, without: list[str]) -> dict[str, Any] | str:
    """Return the numbers that training/device_probe.py prints on a platform, or how it failed."""
    command = [sys.executable, "-m", "llm60_jax.training.device_probe", *without]
    variables = os.environ | {"JAX_PLATFORMS": platforms}
    try:
        done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        return f"it hangs: no answer within {PATIENCE:.0f} s"
    if done.returncode < 0:
        return f"it crashes ({signal.Signals(-done.returncode).name})"
    try:
        if done.returncode:
            raise ValueError
        return dict(json.loads(done.stdout.splitlines()[-1]))
    except (ValueError, IndexError, TypeError):
        last = next((line for line in reversed(done.stderr.splitlines()) if line.strip()), "no output")
        return f"it fails (exit code {done.returncode}): {last.strip()[:300]}"
