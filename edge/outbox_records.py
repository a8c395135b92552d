"""What goes into the outbox, what comes out of it, and how it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

from edge.inspection import Outcome

__all__ = [
    "OutboxStatus",
    "QueuedVerdict",
    "StoredVerdict",
    "TriggerInHand",
    "alarms_of",
    "from_microseconds",
    "to_microseconds",
]

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


@dataclass(frozen=True, slots=True)
class TriggerInHand:
    """A trigger that was taken and has no verdict yet.

    `trigger_id` is its own for ever: one that comes a second time is refused. `epoch` is that of the daemon
    which took it, `asked` when it was asked (UTC), `request_id` what the command called itself.
    """

    trigger_id: str
    kind: str
    asked: datetime
    part_serial: str | None
    epoch: int
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class StoredVerdict:
    """A verdict as it was committed; `payload` is its JSON.

    `position` grows with each verdict of this outbox, over all epochs. `replayed`: it goes out, or went last,
    because somebody asked for it again. `repeats`: how often it has waited anew because the broker may have
    lost it. `acknowledged`: when the broker had it (UTC); None while it waits.
    """

    position: int
    result_id: str
    trigger_id: str | None
    epoch: int
    seq: int
    outcome: Outcome
    payload: bytes
    replayed: bool
    repeats: int
    acknowledged: datetime | None


@dataclass(frozen=True, slots=True)
class QueuedVerdict:
    """A verdict on its way to the broker; `round` tells the outbox whether to believe its acknowledgement."""

    verdict: StoredVerdict
    round: int


@dataclass(frozen=True, slots=True)
class OutboxStatus:
    """How the outbox is; `alarms` holds a sentence for each thing that a person has to see to.

    Since it was opened: `pictures_evicted` were kept and had to go before their time, `pictures_refused`
    found no room. `set_aside` names databases that were found damaged and still lie there.
    """

    unacknowledged: int
    triggers_in_hand: int
    verdict_bytes: int
    pictures: int
    picture_bytes: int
    pictures_evicted: int
    pictures_refused: int
    ballast_bytes: int
    disk_free_bytes: int
    set_aside: tuple[str, ...]
    alarms: tuple[str, ...]


def alarms_of(
    folder: Path, set_aside: Sequence[str], ballast_bytes: int, wanted_bytes: int, free_bytes: int
) -> tuple[str, ...]:
    """A sentence for each thing that a person has to see to."""
    alarms = [f"{folder / name} was found damaged; look at it, then delete it" for name in set_aside]
    if ballast_bytes < wanted_bytes:
        alarms.append(
            f"{folder}: {free_bytes >> 20} MiB are free, too few to keep {wanted_bytes >> 20} in reserve; "
            "free some space, or verdicts can't be kept once the disk is full"
        )
    return tuple(alarms)


def to_microseconds(time: datetime) -> int:
    """Microseconds since 1970 of a time with a zone."""
    return (time - _EPOCH) // timedelta(microseconds=1)


def from_microseconds(microseconds: int) -> datetime:
    """The time in UTC."""
    return _EPOCH + timedelta(microseconds=microseconds)
