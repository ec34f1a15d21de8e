"""Who computes a step: the native kernels, where this machine can have them, or XLA."""

import ctypes
import functools
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from llm60_jax.config.schema import Kernels, WantedKernels
from llm60_jax.errors import MachineError
from llm60_jax.kernels import building, processor
from llm60_jax.kernels.building import Unavailable
from llm60_jax.kernels.processor import Variant

_XLA_BECAUSE = "XLA is used because "


class Choice(NamedTuple):
    """The kernels of a process, and why."""

    kernels: Kernels
    reason: str  # a sentence
    variant: Variant | None = None  # of the native kernels
    library: Path | None = None  # of the native kernels, once it is compiled
    lacks: str = ""  # what this machine lacks for the native kernels, if the user can give it

    @property
    def name(self) -> str:
        """The name in a run's versions. The library's name has a digest."""
        return f"native {self.library.stem}" if self.library else self.kernels

    @property
    def record(self) -> dict[str, str]:
        """What config.json of a run says of it."""
        return {"name": self.name, "reason": self.reason, "lacks": self.lacks}


def chosen(wanted: WantedKernels, device: str, unclaimed: str | None = None) -> Choice:
    """Return the kernels of this process. The first call may compile them.

    Args:
      wanted: `train.kernels`.
      device: the platform of JAX.
      unclaimed: why the kernels do not claim the architecture, if they do not (plan/native.py).

    Raises:
      MachineError: "native" is wanted and cannot be had.
    """
    return _decided(wanted, device, unclaimed, _built)


def expected(wanted: WantedKernels, device: str = "cpu", unclaimed: str | None = None) -> Choice:
    """Return the kernels that a run would most likely choose. Nothing is compiled.

    Raise MachineError, as `chosen`.
    """
    return _decided(wanted, device, unclaimed, _buildable)


def _decided(wanted: WantedKernels, device: str, unclaimed: str | None, native: Callable[[], Choice]) -> Choice:
    if wanted == "xla":
        return _xla("train.kernels asks for it")
    if device != "cpu":
        choice = _xla(f"the native kernels need a CPU, and the device is {device}")
    else:
        choice = _xla(unclaimed) if unclaimed else native()
    if wanted == "native" and choice.kernels != "native":
        why = choice.reason.removeprefix(_XLA_BECAUSE)
        raise MachineError(f"train.kernels is 'native', but {why}. With --set train.kernels=auto XLA takes its place")
    return choice


@functools.cache
def _built() -> Choice:
    """Return the native kernels of this processor, compiled and loaded; XLA if that fails."""
    expectation = _buildable()
    if expectation.variant is None:
        return expectation
    faults = []
    for variant in processor.here():  # an old compiler may know a plainer instruction set only
        try:
            path = building.library(variant)
            ctypes.CDLL(str(path))
        except Unavailable as error:
            faults.append(str(error))
        except OSError as error:  # a folder without the right to execute, or a library of the compiler is missing
            faults.append(f"the native kernels cannot be loaded: {error}")
        else:
            return _native(variant)._replace(library=path)
    return _xla(faults[0], lacks=faults[0])


@functools.cache
def _buildable() -> Choice:
    """Return the native kernels of this processor if there is a compiler for them; otherwise XLA."""
    variants = processor.here()
    if not variants:
        names = ", ".join(variant.name for variant in processor.VARIANTS)
        return _xla(f"this processor is not known to have one of the instruction sets {names}")
    try:
        building.require_compiler()
    except Unavailable as error:
        return _xla(str(error), lacks=str(error))
    return _native(variants[0])


def _native(variant: Variant) -> Choice:
    return Choice("native", f"the native kernels for {variant.name} are used", variant)


def _xla(cause: str, lacks: str = "") -> Choice:
    return Choice("xla", _XLA_BECAUSE + cause, lacks=lacks)
