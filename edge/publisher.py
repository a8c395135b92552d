"""What the daemon asks of whoever carries its messages: MQTT, or a recorder in a test."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal, Protocol

from edge.errors import BrokerError, BrokerRefused, BrokerUnreachable
from edge.messages import BrokerHealth, Health, MachineState, PictureInfo, PictureKind, Verdict

__all__ = ["FlushReport", "Picture", "Publisher", "picture_info"]

_NAMED = 5


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
class FlushReport:
    """What became of the verdicts since the start: `lost` + `pending` were not acknowledged.

    `lost` counts those that were refused or had to be dropped, `reasons` what was said about the latest of
    them; `pending` holds the ids of those that were still on their way.
    """

    acknowledged: int
    lost: int
    reasons: tuple[str, ...]
    pending: tuple[str, ...]

    def error(self) -> BrokerError | None:
        """The error that a daemon which ends like this ends with; None where all is well."""
        missing = self.lost + len(self.pending)
        if not missing:
            return None
        total = self.acknowledged + missing
        if self.lost:
            return BrokerRefused(
                f"{missing} of {total} verdicts did not reach the broker: {self.lost} refused "
                f"({'; '.join(self.reasons)}), {len(self.pending)} not acknowledged; check the broker's log "
                "and its access rules for this rig"
            )
        named = ", ".join(self.pending[:_NAMED]) + (", …" if missing > _NAMED else "")
        return BrokerUnreachable(
            f"{missing} of {total} verdicts were not acknowledged by the broker: {named}; "
            "check that it runs, and raise daemon.flush_timeout_s if it is slow"
        )


class Publisher(Protocol):
    """Carries messages; none of its methods but `start`, `flush` and `close` waits for the broker."""

    def start(self) -> None:
        """Begin to connect; raises `BrokerRefused` where the broker says no for good."""

    def publish_verdict(self, verdict: Verdict) -> None:
        """Send a verdict, at least once, and keep it as the rig's last one."""

    def publish_picture(self, picture: Picture, verdict: Verdict) -> None:
        """Send a picture that belongs to `verdict`, at most once; it never delays a verdict."""

    def publish_health(self, health: Health) -> None:
        """Send the rig's health; a newer one takes the place of one that still waits."""

    def publish_machine_state(self, state: MachineState) -> None:
        """Send the rig's state, and again after each reconnect."""

    def health(self) -> BrokerHealth:
        """How the way to the broker is now."""

    def flush(self, timeout_s: float) -> FlushReport:
        """Wait until every verdict is acknowledged, or `timeout_s` has passed; says which are not."""

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
