"""The devices that programs are traced for: those of this process, or others that are not here."""

import contextlib
import contextvars
from collections.abc import Iterator, Sequence

import jax

_others: contextvars.ContextVar[tuple[jax.Device, ...]] = contextvars.ContextVar("others", default=())


def devices() -> tuple[jax.Device, ...]:
    """Return all devices of all processes that a program is for."""
    return _others.get() or tuple(jax.devices())


def platform() -> str:
    """Return the platform that a program is for, such as "cpu" or "tpu"."""
    others = _others.get()
    return others[0].platform if others else jax.default_backend()


@contextlib.contextmanager
def aimed_at(others: Sequence[jax.Device]) -> Iterator[None]:
    """Trace for other devices inside the block (training/ahead.py). They need not be here, and nothing runs."""
    token = _others.set(tuple(others))
    try:
        yield
    finally:
        _others.reset(token)
