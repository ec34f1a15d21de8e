"""Progress of long loops.

The caller passes a `Track`: it may draw a bar, and may raise to interrupt the loop.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar

T = TypeVar("T")


class Track(Protocol):
    """Yields the items unchanged.

    `description` names the work, `total` is the number of items, if known. `remaining` returns the
    seconds that are left, where the caller knows better than the number of items tells.
    """

    def __call__(
        self,
        items: Iterable[T],
        description: str,
        total: int | None = None,
        remaining: Callable[[], float] | None = None,
    ) -> Iterator[T]: ...


def silent(
    items: Iterable[T], description: str, total: int | None = None, remaining: Callable[[], float] | None = None
) -> Iterator[T]:
    """Yield the items; a `Track` that shows nothing."""
    return iter(items)
