"""The rig's messages over MQTT: which topic, which quality of service, and two connections.

Verdicts have a connection of their own, so that no picture can stand in their way.
"""

from __future__ import annotations

import sys
import threading
from collections import OrderedDict, deque
from collections.abc import Sequence

from edge.clock import Session, utc_now
from edge.config import BrokerConfig
from edge.connection import BrokerConnection
from edge.messages import (
    Availability,
    AvailabilityState,
    BrokerHealth,
    Health,
    MachineState,
    Message,
    Verdict,
)
from edge.outgoing import Delivery, DeliveryResult, Outgoing, QueueLimit
from edge.publisher import FlushReport, Picture, picture_info
from edge.topics import RigIdentity, Topics

__all__ = ["MqttPublisher"]

_PICTURE_EXPIRY_S = 60
_DETAIL_MAX_CHARACTERS = 500
_REASONS_KEPT = 5
_NO_LIMIT = sys.maxsize


class MqttPublisher:
    """A `Publisher` over MQTT: MQTT 5, or 3.1.1 with a broker that knows no other.

    Raises `ConfigError` where the password or a certificate can't be read. Until an acknowledgement a
    verdict is kept in memory, and sent again after a reconnect; consumers tell duplicates by `result_id`.
    """

    def __init__(self, config: BrokerConfig, rig: RigIdentity, session: Session) -> None:
        self._topics = Topics(rig.root)
        self._session = session
        self._timeout_s = config.connect_timeout_s
        self._lock = threading.Condition()
        self._outstanding: OrderedDict[str, None] = OrderedDict()
        self._acknowledged = 0
        self._refused = 0
        self._dropped = 0
        self._pictures_dropped = 0
        self._reasons: deque[str] = deque(maxlen=_REASONS_KEPT)
        self._machine_state: MachineState | None = None
        self._closed = False
        password = config.read_password()
        self._verdicts = BrokerConnection(
            config,
            rig.client_id("verdicts"),
            password=password,
            limit=QueueLimit(config.max_pending_verdicts, _NO_LIMIT, drop_oldest=False),
            on_delivery=self._on_verdict_delivery,
            will=self._availability(AvailabilityState.OFFLINE, "connection_lost"),
            births=self._births,
        )
        self._pictures = BrokerConnection(
            config,
            rig.client_id("pictures"),
            password=password,
            limit=QueueLimit(_NO_LIMIT, config.max_pending_picture_bytes, drop_oldest=True),
            on_delivery=self._on_picture_delivery,
        )

    def start(self) -> None:
        """Begin to connect; raises `BrokerRefused` where the broker says no for good.

        A broker that is not there yet is no error: the connection is tried until `close`.
        """
        self._verdicts.start()
        self._pictures.start()
        # Twice the time, for the fall-back to 3.1.1 takes a second attempt.
        self._verdicts.wait_for_answer(2 * self._timeout_s + 1)

    def publish_verdict(self, verdict: Verdict) -> None:
        with self._lock:
            self._outstanding[verdict.result_id] = None
        payload = verdict.to_json()
        smaller = _without_regions(verdict).to_json()
        properties = (
            ("result_id", verdict.result_id),
            ("epoch", str(verdict.epoch)),
            ("seq", str(verdict.seq)),
            ("outcome", verdict.outcome.value),
        )
        self._verdicts.send(
            Outgoing(
                self._topics.verdict,
                payload,
                Verdict.qos,
                Verdict.retained,
                key=f"verdict {verdict.result_id}",
                smaller=smaller,
                user_properties=properties,
            )
        )
        self._verdicts.send(
            Outgoing(
                self._topics.last_verdict,
                payload,
                1,
                True,
                key="last_verdict",
                smaller=smaller,
                user_properties=properties,
            )
        )

    def publish_picture(self, picture: Picture, verdict: Verdict) -> None:
        info = picture_info(picture, verdict)
        kind = picture.kind.value
        properties = tuple(
            (name, str(value))
            for name, value in info.model_dump(mode="json").items()
            if value is not None and name not in ("schema_version", "kind")
        )
        picture_message = Outgoing(
            self._topics.picture(kind),
            picture.data,
            0,
            True,
            key=f"{kind} {verdict.result_id}",
            expiry_s=_PICTURE_EXPIRY_S,
            content_type=picture.encoding if "/" in picture.encoding else "application/octet-stream",
            user_properties=properties,
        )
        self._pictures.send(picture_message)
        self._pictures.send(
            Outgoing(
                self._topics.picture_info(kind),
                info.to_json(),
                info.qos,
                info.retained,
                key=f"{kind} info {verdict.result_id}",
                expiry_s=_PICTURE_EXPIRY_S,
            )
        )

    def publish_health(self, health: Health) -> None:
        self._verdicts.send(_json(self._topics.health, health))

    def publish_machine_state(self, state: MachineState) -> None:
        with self._lock:
            self._machine_state = state
        self._verdicts.send(_json(self._topics.machine_state, state))

    def health(self) -> BrokerHealth:
        verdicts, pictures = self._verdicts.status, self._pictures.status
        with self._lock:
            return BrokerHealth(
                protocol=verdicts.protocol,
                reconnects=max(0, verdicts.connects - 1),
                verdicts_pending=len(self._outstanding),
                verdicts_refused=self._refused,
                verdicts_dropped=self._dropped,
                pictures_pending=pictures.pending,
                pictures_dropped=self._pictures_dropped,
                pictures_connected=pictures.connected,
                last_error=verdicts.last_error or pictures.last_error,
            )

    def flush(self, timeout_s: float) -> FlushReport:
        with self._lock:
            self._lock.wait_for(lambda: not self._outstanding, timeout_s)
            return FlushReport(
                acknowledged=self._acknowledged,
                lost=self._refused + self._dropped,
                reasons=tuple(self._reasons),
                pending=tuple(self._outstanding),
            )

    def close(self, timeout_s: float = 5.0) -> None:
        if self._closed:
            return
        self._closed = True
        # A clean disconnect sends no will: we say ourselves that we go.
        self._pictures.stop(None, timeout_s)
        self._verdicts.stop(self._availability(AvailabilityState.OFFLINE, "stopped"), timeout_s)

    def _births(self, reconnected: bool) -> Sequence[Outgoing]:
        reason = "reconnected" if reconnected else "started"
        births = [self._availability(AvailabilityState.ONLINE, reason)]
        with self._lock:
            if self._machine_state is not None:
                births.append(_json(self._topics.machine_state, self._machine_state))
        return births

    def _availability(self, state: AvailabilityState, reason: str) -> Outgoing:
        message = Availability.model_validate(
            {
                "state": state,
                "reason": reason,
                "creation_time": utc_now(),
                "boot_id": self._session.boot_id,
                "epoch": self._session.epoch,
                "software_version": self._session.software_version,
            }
        )
        return _json(self._topics.availability, message)

    def _on_verdict_delivery(self, delivery: Delivery) -> None:
        """From the verdicts' connection thread."""
        kind, _, result_id = delivery.message.key.partition(" ")
        if kind != "verdict":
            return
        with self._lock:
            self._outstanding.pop(result_id, None)
            if delivery.result is DeliveryResult.ACKNOWLEDGED:
                self._acknowledged += 1
            elif delivery.result is DeliveryResult.REFUSED:
                self._refused += 1
                self._note(delivery)
            else:
                self._dropped += 1
                self._note(delivery)
            self._lock.notify_all()

    def _on_picture_delivery(self, delivery: Delivery) -> None:
        """From the pictures' connection thread."""
        if delivery.result is not DeliveryResult.ACKNOWLEDGED and " info " not in delivery.message.key:
            with self._lock:
                self._pictures_dropped += 1

    def _note(self, delivery: Delivery) -> None:
        if delivery.detail not in self._reasons:
            self._reasons.append(delivery.detail)


def _json(topic: str, message: Message) -> Outgoing:
    """A message of which only the newest counts."""
    return Outgoing(topic, message.to_json(), message.qos, message.retained, key=topic)


def _without_regions(verdict: Verdict) -> Verdict:
    """The same verdict for a broker that takes only small packets; `regions_total` still says how many."""
    detail = None if verdict.detail is None else verdict.detail[:_DETAIL_MAX_CHARACTERS]
    return verdict.model_copy(update={"regions": (), "detail": detail})
