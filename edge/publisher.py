"""What the daemon asks of whoever carries its messages: MQTT, or a recorder in a test."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal, Protocol

from edge.errors import BrokerRefused
from edge.messages import BrokerHealth, Health, MachineState, PictureInfo, PictureKind, Verdict
from edge.outbox_records import StoredVerdict

__all__ = ["Deliveries", "DeliveryReport", "Picture", "Publisher", "picture_info"]


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture on its way out: encoded bytes, and how to read them (as in `PictureInfo`)."""

    kind: PictureKind
    data: bytes
    encoding: Literal["image/jpeg", "float16-le"]
    width_px: int
    height_px: int
    low: float | None = None
    high: float | None = None
    colour_map: str | None = None


@dataclass(frozen=True, slots=True)
class DeliveryReport:
    """What became of the verdicts since the start.

    `waiting` ones are in the outbox and go out at the next start; `refused` of them the broker did not take,
    `reasons` is what it said about the latest.
    """

    acknowledged: int
    waiting: int
    refused: int = 0
    reasons: tuple[str, ...] = ()

    def error(self) -> BrokerRefused | None:
        """The error that a daemon which ends like this ends with: what waits is safe, who refuses must be
        spoken to. None where nobody refused.
        """
        if not self.refused:
            return None
        return BrokerRefused(
            f"the broker refused {self.refused} of {self.waiting} verdicts that wait in the outbox "
            f"({'; '.join(self.reasons)}); mend its access rules for this rig, or its limits, and start "
            "again: they go out then"
        )


class Deliveries(Protocol):
    """Who is told what became of verdicts; from the connection's thread."""

    def delivered(self, position: int, refusal: str | None) -> None:
        """The broker has the verdict of this position, or refused it and said why."""

    def forgotten(self) -> None:
        """The broker has lost its memory of this rig."""

    def returned(self) -> None:
        """The connection was lost and is back, and the broker remembers this rig."""


class Publisher(Protocol):
    """Carries messages; none of its methods but `start` and `close` waits for the broker."""

    def start(self, deliveries: Deliveries) -> None:
        """Begin to connect; raises `BrokerRefused` where the broker says no for good."""

    def publish_verdict(self, verdict: StoredVerdict, *, newest: bool) -> None:
        """Send a verdict until it is delivered, which `deliveries` is told; as the rig's last one if newest.

        Whoever sends keeps the number that is on its way small; the rest waits in the outbox.
        """

    def publish_picture(self, picture: Picture, info: PictureInfo) -> None:
        """Send a picture with its JSON twin, at most once; it never delays a verdict."""

    def publish_health(self, health: Health) -> None:
        """Send the rig's health; a newer one takes the place of one that still waits."""

    def publish_machine_state(self, state: MachineState) -> None:
        """Send the rig's state, and again after each reconnect."""

    def health(self) -> BrokerHealth:
        """How the way to the broker is now."""

    def close(self, timeout_s: float = 5.0) -> None:
        """Say "offline" and disconnect; harmless when called twice."""


def picture_info(picture: Picture, verdict: Verdict) -> PictureInfo:
    """The JSON twin of `picture`."""
    return PictureInfo(
        kind=picture.kind,
        result_id=verdict.result_id,
        epoch=verdict.epoch,
        seq=verdict.seq,
        encoding=picture.encoding,
        width_px=picture.width_px,
        height_px=picture.height_px,
        low=picture.low,
        high=picture.high,
        colour_map=picture.colour_map,
        size_bytes=len(picture.data),
        sha256=hashlib.sha256(picture.data).hexdigest(),
    )
