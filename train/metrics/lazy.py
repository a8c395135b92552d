"""Sequences whose items are made when they are asked for, so that not all are in memory at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar, overload

__all__ = ["Lazy", "mapped", "picked"]

_Item = TypeVar("_Item")
_Made = TypeVar("_Made")


class Lazy(Sequence[_Item], Generic[_Item]):
    """`count` items, the i-th being `make(i)`, made anew each time."""

    def __init__(self, count: int, make: Callable[[int], _Item]) -> None:
        self._rows = range(count)
        self._make = make

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> _Item: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[_Item]: ...
    def __getitem__(self, index: int | slice) -> _Item | Sequence[_Item]:
        if isinstance(index, slice):
            return picked(self, self._rows[index])
        return self._make(self._rows[index])


def picked(items: Sequence[_Item], rows: Sequence[int]) -> Sequence[_Item]:
    """`items` at `rows`, in that order."""
    return Lazy(len(rows), lambda i: items[rows[i]])


def mapped(items: Sequence[_Item], function: Callable[[_Item], _Made]) -> Sequence[_Made]:
    """`function` of each of `items`."""
    return Lazy(len(items), lambda i: function(items[i]))
