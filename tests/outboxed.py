"""A publisher over MQTT with an outbox before it, driven by the test's thread as the daemon's drives it."""

from __future__ import annotations

from typing import Any

from edge.clock import Session
from edge.config import BrokerConfig
from edge.messages import Verdict
from edge.mqtt import MqttPublisher
from edge.outbox import Outbox
from edge.publisher import DeliveryReport, Picture, picture_info
from edge.testing import ScratchOutbox
from edge.topics import RigIdentity
from edge.work.delivering import Courier

__all__ = ["Outboxed"]


class Outboxed:
    """What it does not know it asks of the publisher."""

    def __init__(
        self, config: BrokerConfig, rig: RigIdentity, session: Session, outbox: Outbox | None = None
    ) -> None:
        self._publisher = MqttPublisher(config, rig, session)
        self._outbox = outbox or ScratchOutbox()
        self._courier = Courier(self._outbox, self._publisher, nudge=lambda: None)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._publisher, name)

    def start(self) -> None:
        self._publisher.start(self._courier)

    def publish_verdict(self, verdict: Verdict) -> None:
        self._outbox.commit(verdict)
        self._courier.committed()
        self._courier.step()

    def publish_picture(self, picture: Picture, verdict: Verdict) -> None:
        self._publisher.publish_picture(picture, picture_info(picture, verdict))

    def flush(self, timeout_s: float) -> DeliveryReport:
        return self._courier.flush(timeout_s)

    def close(self) -> None:
        self._publisher.close()
        self._outbox.close()
