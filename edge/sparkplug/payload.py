"""Sparkplug B's payload: metrics into bytes, and a host's bytes into what it wants written.

Section 6.4 of the Sparkplug Specification 3.0.0.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # ships no types

from edge.sparkplug.sparkplug_b_pb2 import Payload

__all__ = ["DataType", "Metric", "Value", "Write", "encode", "writes_of"]

Value = bool | int | float | str | None
"""What a metric can hold; None is sent as null."""

_64_BITS = (1 << 64) - 1


class DataType(IntEnum):
    """Those of Sparkplug's data types that a metric of ours has; the numbers are the specification's."""

    INT64 = 4
    DOUBLE = 10
    BOOLEAN = 11
    STRING = 12


@dataclass(frozen=True, slots=True)
class Metric:
    """One value at one time (milliseconds since 1970, UTC).

    A birth says `name`, `alias` and `properties`, data the `alias` alone. `historical`: it tells what was,
    and must not become the host's current value.
    """

    datatype: DataType
    value: Value
    timestamp_ms: int
    name: str | None = None
    alias: int | None = None
    historical: bool = False
    properties: tuple[tuple[str, str | bool], ...] = ()


def encode(metrics: Iterable[Metric], *, timestamp_ms: int, seq: int | None) -> bytes:
    """A payload's bytes; `seq` is None in a death, which has none."""
    payload = Payload(timestamp=timestamp_ms)
    if seq is not None:
        payload.seq = seq
    for metric in metrics:
        _put(payload.metrics.add(), metric)
    encoded: bytes = payload.SerializeToString()
    return encoded


def _put(told: Payload.Metric, metric: Metric) -> None:
    if metric.name is not None:
        told.name = metric.name
        told.datatype = metric.datatype  # said once, in the birth (tck-id-payloads-metric-datatype-not-req)
    if metric.alias is not None:
        told.alias = metric.alias
    told.timestamp = metric.timestamp_ms
    if metric.historical:
        told.is_historical = True
    for key, value in metric.properties:
        told.properties.keys.append(key)
        if isinstance(value, bool):
            told.properties.values.add(type=DataType.BOOLEAN, boolean_value=value)
        else:
            told.properties.values.add(type=DataType.STRING, string_value=value)
    if metric.value is None:
        told.is_null = True
    elif metric.datatype is DataType.INT64:
        told.long_value = int(metric.value) & _64_BITS  # two's complement
    elif metric.datatype is DataType.DOUBLE:
        told.double_value = float(metric.value)
    elif metric.datatype is DataType.BOOLEAN:
        told.boolean_value = bool(metric.value)
    else:
        told.string_value = str(metric.value)


@dataclass(frozen=True, slots=True)
class Write:
    """A value that a host wants one metric to have; it says the metric's name or its alias.

    Whole numbers are as on the wire, without a sign.
    """

    name: str | None
    alias: int | None
    value: Value


def writes_of(payload: bytes) -> tuple[Write, ...] | None:
    """What a command's payload wants written; None where it is no payload of Sparkplug."""
    told = Payload()
    try:
        told.ParseFromString(payload)
        return tuple(_write(metric) for metric in told.metrics)
    except (DecodeError, UnicodeDecodeError):
        return None


def _write(metric: Payload.Metric) -> Write:
    _check_text(metric.name)
    _check_text(metric.string_value)
    kind = metric.WhichOneof("value")
    value = None if kind is None or metric.is_null or kind == "bytes_value" else getattr(metric, kind)
    return Write(
        name=metric.name if metric.HasField("name") else None,
        alias=metric.alias if metric.HasField("alias") else None,
        value=value,
    )


def _check_text(text: object) -> None:
    """Of text that is not UTF-8 protobuf's C gives the bytes, its Python raises: both are to raise."""
    if isinstance(text, bytes):
        text.decode("utf-8")
