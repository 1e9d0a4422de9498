"""A queue that is never changed: push and pop give a new one, in constant time on average."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Generic, TypeVar

from msgspec import Struct

T = TypeVar("T")
_Cell = tuple[Any, Any] | None  # (value, rest)


def _cells(items: Iterable[Any]) -> _Cell:
    cell: _Cell = None
    for item in items:
        cell = (item, cell)
    return cell


def _walk(cell: _Cell) -> Iterator[Any]:
    while cell is not None:
        yield cell[0]
        cell = cell[1]


class Fifo(Struct, Generic[T], frozen=True, eq=False):
    """First in, first out. `front` is in order, `back` in reverse; both are linked cells."""

    front: Any = None
    back: Any = None
    size: int = 0

    @classmethod
    def of(cls, items: Iterable[T]) -> Fifo[T]:
        """A queue of these, the first one first."""
        ordered = list(items)
        return cls(_cells(reversed(ordered)), None, len(ordered))

    def push(self, item: T) -> Fifo[T]:
        """With `item` at the end."""
        return Fifo(self.front, (item, self.back), self.size + 1)

    def pop(self) -> tuple[T, Fifo[T]]:
        """The first item and the queue without it; the queue must not be empty."""
        front, back = self.front, self.back
        if front is None:
            front, back = _cells(_walk(back)), None
        assert front is not None
        return front[0], Fifo(front[1], back, self.size - 1)

    def without(self, item: T) -> Fifo[T]:
        """All but `item`; for the rare withdrawal, it looks at each."""
        return Fifo.of(x for x in self if x != item)

    def __iter__(self) -> Iterator[T]:
        yield from _walk(self.front)
        yield from reversed(list(_walk(self.back)))

    def __len__(self) -> int:
        return self.size

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Fifo) and self.size == other.size and list(self) == list(other)

    def __ne__(self, other: object) -> bool:  # msgspec's own would compare identities
        return not self == other

    __hash__ = None  # type: ignore[assignment]  # compared by content, never a key
