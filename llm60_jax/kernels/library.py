"""The kernels of this process: a built library, its calls known to XLA."""

import ctypes

import jax
import jax.numpy as jnp

from llm60_jax import config as config_module
from llm60_jax.config import Config, Model
from llm60_jax.config.schema import Kernels, WantedKernels
from llm60_jax.kernels import choice
from llm60_jax.kernels.choice import Choice
from llm60_jax.machine import together
from llm60_jax.plan import native

_CALLS = ("write", "logits")
_TYPED_CALLS = ("pack", "stack_forward", "stack_backward", "head", "orthogonalize")  # for each type of operands
_active = Choice("xla", "nothing was chosen yet")


def activate(chosen: Choice) -> None:
    """Let this process use the chosen kernels, for all programs that are traced from now on."""
    global _active
    if chosen.library is not None and chosen.variant is not None:
        library = ctypes.CDLL(str(chosen.library))
        types = ("float32", "bfloat16") if chosen.variant.is_bfloat16 else ("float32",)
        for name in (*_CALLS, *(f"{call}_{dtype}" for call in _TYPED_CALLS for dtype in types)):
            symbol = getattr(library, f"llm60_{name}")
            jax.ffi.register_ffi_target(f"llm60_{name}", jax.ffi.pycapsule(symbol), platform="cpu")
    _active = chosen


def settle(wanted: WantedKernels, model: Model) -> Choice:
    """Choose and activate the kernels of this process. The first call on a computer compiles them.

    Call it once the device is known.

    Args:
      wanted: `train.kernels`.

    Raises:
      MachineError: "native" is wanted and cannot be had.
    """
    activate(choice.chosen(wanted, jax.default_backend(), native.unclaimed(model)))
    return _active


def settled(config: Config) -> Config:
    """Choose and activate as `settle`, for a run; return its configuration with the choice as `train.kernels`."""
    activate(choice.chosen(config.train.kernels, jax.default_backend(), _unclaimed(config, together.count())))
    return config_module.with_kernels(config, _active.kernels)


def _unclaimed(config: Config, processes: int) -> str | None:
    """Return why the kernels do not claim a run; None if they do."""
    each = config.train.device_count // processes
    if each > 1:
        return f"a process has {each} devices, and the native kernels use all its cores as one"
    if config.train.gather == "layer" and config.train.fsdp > 1:
        return 'train.gather is "layer", and the native kernels take whole stacks'
    return native.unclaimed(config.model)


def expected(config: Config, device: str = "cpu") -> tuple[Config, Choice]:
    """Return the configuration and the choice that `settled` would most likely make. Nothing is compiled."""
    likely = choice.expected(config.train.kernels, device, _unclaimed(config, together.count()))
    return config_module.with_kernels(config, likely.kernels), likely


def active() -> Choice:
    """Return the choice of this process; XLA before there is one."""
    return _active


def in_use() -> Kernels:
    """Return what computes in this process, where the kernels claim a shape."""
    return _active.kernels


def register_peak(chosen: Choice, threads: int) -> float | None:
    """Return how many operations a second products reach in registers alone, on `threads` cores together.

    They are products of bfloat16 where the processor has them. None without native kernels.
    """
    if chosen.library is None:
        return None
    measure = ctypes.CDLL(str(chosen.library)).llm60_register_peak
    measure.restype, measure.argtypes = ctypes.c_double, (ctypes.c_long,)
    return float(measure(threads))


def operands(dtype: jnp.dtype) -> str:
    """Return the type of a native product's operands for a dtype of products.

    A processor without products of bfloat16 computes in float32, which is more exact.
    """
    assert _active.variant is not None
    return "bfloat16" if dtype == jnp.bfloat16 and _active.variant.is_bfloat16 else "float32"
