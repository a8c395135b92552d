"""What a host knows of the rig: the current value of each metric, under its name and its alias."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

from edge.sparkplug.metrics import HEALTH, RECIPE, STATE, VERDICT, Described, Read
from edge.sparkplug.payload import Metric, Value, Write

__all__ = ["Tags"]

_T = TypeVar("_T")


class Tags:
    """The metrics of the tables, and `more`; each null until something is set. One thread at a time.

    An alias is a metric's place in the tables, from 1: the same in each birth.
    """

    def __init__(self, more: Sequence[Described] = ()) -> None:
        verdict, health = (read.metric for read in VERDICT), (read.metric for read in HEALTH)
        state, recipe = (read.metric for read in STATE), (read.metric for read in RECIPE)
        described = (*verdict, *health, *state, *recipe, *more)
        self._described = {metric.name: metric for metric in described}
        self._alias = {metric.name: alias for alias, metric in enumerate(described, 1)}
        self._names = {alias: name for name, alias in self._alias.items()}
        self._values: dict[str, tuple[Value, int]] = {}

    def set(self, metric: Described, value: Value, time_ms: int) -> Metric:
        """A metric's value from now on, as data."""
        self._values[metric.name] = (value, time_ms)
        return Metric(metric.datatype, value, time_ms, alias=self._alias[metric.name])

    def set_all(self, reads: Iterable[Read[_T]], thing: _T, time_ms: int) -> tuple[Metric, ...]:
        """What `thing` says, all of it."""
        return tuple(self.set(read.metric, read.value(thing), time_ms) for read in reads)

    def set_changed(self, reads: Iterable[Read[_T]], thing: _T, time_ms: int) -> tuple[Metric, ...]:
        """What `thing` says that was not known before."""
        found = [(read.metric, read.value(thing)) for read in reads]
        return tuple(
            self.set(metric, value, time_ms)
            for metric, value in found
            if metric.name not in self._values or self._values[metric.name][0] != value
        )

    def value_of(self, metric: Described) -> Value:
        """A metric's value now."""
        return self._values.get(metric.name, (None, 0))[0]

    def birth(self, now_ms: int) -> tuple[Metric, ...]:
        """Every metric with all that there is to say of it; what was never set is null, since now."""
        return tuple(self._told(metric, now_ms) for metric in self._described.values())

    def name_of(self, write: Write) -> str | None:
        """The metric that a host means; None for one that it was never told of."""
        if write.name is not None:
            return write.name if write.name in self._described else None
        return None if write.alias is None else self._names.get(write.alias)

    def _told(self, metric: Described, now_ms: int) -> Metric:
        value, time_ms = self._values.get(metric.name, (None, now_ms))
        unit: tuple[tuple[str, str | bool], ...] = () if metric.unit is None else (("engUnit", metric.unit),)
        return Metric(
            metric.datatype,
            value,
            time_ms,
            name=metric.name,
            alias=self._alias[metric.name],
            properties=(*unit, ("readOnly", not metric.writable)),
        )
