"""The last things by their keys, in tables that are made once."""

from __future__ import annotations

from array import array
from collections.abc import Hashable
from typing import Generic, TypeVar

__all__ = ["Recent"]

_Key = TypeVar("_Key", bound=Hashable)
_Value = TypeVar("_Value")

_NONE = -1


class Recent(Generic[_Key, _Value]):
    """The last `capacity` values that were put in, by key; not thread-safe.

    A dict that is added to at one end and removed from at the other is made anew each time that the places
    of what was removed are used up: with some thousand entries a block of 0.3 MB each time, which over
    months leaves its holes in a process's memory. Here a value takes the place of the oldest one in a ring,
    and each hash has a chain through the ring, from its newest entry to its oldest.
    """

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f"capacity is {capacity}; there must be room for one value at least")
        self._entries: list[tuple[_Key, _Value] | None] = [None] * capacity
        self._older = array("l", [_NONE]) * capacity
        self._newest = array("l", [_NONE]) * (2 * capacity)
        self._turn = 0

    def get(self, key: _Key) -> _Value | None:
        """What was put in last under `key`; None where nothing was, or it is no longer among the last."""
        place = self._newest[self._chain_of(key)]
        while place != _NONE:
            entry = self._entries[place]
            if entry is not None and entry[0] == key:
                return entry[1]
            place = self._older[place]
        return None

    def put(self, key: _Key, value: _Value) -> None:
        """Remember `value`, in the place of the oldest one where there is no other."""
        place = self._turn
        self._turn = (place + 1) % len(self._entries)
        self._forget(place)
        chain = self._chain_of(key)
        self._entries[place] = (key, value)
        self._older[place] = self._newest[chain]
        self._newest[chain] = place

    def _chain_of(self, key: _Key) -> int:
        return hash(key) % len(self._newest)

    def _forget(self, oldest: int) -> None:
        """The oldest entry of all is the last of its chain."""
        entry = self._entries[oldest]
        if entry is None:
            return
        chain = self._chain_of(entry[0])
        place = self._newest[chain]
        if place == oldest:
            self._newest[chain] = _NONE
            return
        while self._older[place] != oldest:
            place = self._older[place]
        self._older[place] = _NONE
