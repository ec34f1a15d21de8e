"""Progress of long loops: the caller passes a `Track`, which may draw a bar and may raise to interrupt."""

from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar

T = TypeVar("T")


class Track(Protocol):
    """Yields the items unchanged. `description` says what is going on, `total` how many items come, if known."""

    def __call__(self, items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]: ...


def silent(items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
    """A `Track` that shows nothing."""
    return iter(items)
