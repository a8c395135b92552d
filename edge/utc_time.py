"""Times that go over the wire: RFC 3339, in UTC, with microseconds and a `Z`."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated

from pydantic import AfterValidator, PlainSerializer, WithJsonSchema

__all__ = ["UtcTime", "utc_from_text"]


def _check_utc(value: datetime) -> datetime:
    if value.utcoffset() != timedelta(0):
        raise ValueError(f"{value.isoformat()} is not in UTC")
    return value


def _format_utc(value: datetime) -> str:
    return value.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


UtcTime = Annotated[
    datetime,
    AfterValidator(_check_utc),
    PlainSerializer(_format_utc, return_type=str),
    WithJsonSchema(
        {
            "type": "string",
            "format": "date-time",
            "pattern": r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{6}Z$",
        }
    ),
]
"""RFC 3339 in UTC: `2030-01-31T12:34:56.789012Z`."""


def utc_from_text(text: str) -> datetime:
    """The time of a text of ISO 8601, also with a `Z`, which Python 3.10 does not read; or `ValueError`."""
    return datetime.fromisoformat(text.replace("Z", "+00:00"))
