"""The rig's messages over MQTT: which topic, which quality of service, and two connections.

Verdicts have a connection of their own, so that no picture can stand in their way.
"""

from __future__ import annotations

import functools
import json
import sys
import threading
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
    PictureInfo,
    Verdict,
)
from edge.outbox_records import StoredVerdict
from edge.outgoing import Delivery, DeliveryResult, Outgoing, QueueLimit
from edge.publisher import Deliveries, Picture
from edge.topics import RigIdentity, Topics

__all__ = ["MqttPublisher"]

_PICTURE_EXPIRY_S = 60
_DETAIL_MAX_CHARACTERS = 500
_NO_LIMIT = sys.maxsize


class MqttPublisher:
    """A `Publisher` over MQTT: MQTT 5, or 3.1.1 with a broker that knows no other.

    Raises `ConfigError` where the password or a certificate can't be read. A verdict that is on its way
    when the connection is lost is sent again after a reconnect; consumers tell duplicates by `result_id`.
    """

    def __init__(self, config: BrokerConfig, rig: RigIdentity, session: Session) -> None:
        self._topics = Topics(rig.root)
        self._session = session
        self._timeout_s = config.connect_timeout_s
        self._lock = threading.Lock()
        self._deliveries: Deliveries | None = None
        self._on_the_way: set[int] = set()
        self._refused = 0
        self._pictures_dropped = 0
        self._machine_state: MachineState | None = None
        self._closed = False
        password = config.read_password()
        self._verdicts = BrokerConnection(
            config,
            rig.client_id("verdicts"),
            password=password,
            limit=QueueLimit(_NO_LIMIT, _NO_LIMIT, drop_oldest=False),
            on_delivery=self._on_verdict_delivery,
            on_forgotten=self._on_forgotten,
            on_returned=self._on_returned,
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

    def start(self, deliveries: Deliveries) -> None:
        """Begin to connect; raises `BrokerRefused` where the broker says no for good.

        A broker that is not there yet is no error: the connection is tried until `close`.
        """
        self._deliveries = deliveries
        self._verdicts.start()
        self._pictures.start()
        # Twice the time, for the fall-back to 3.1.1 takes a second attempt.
        self._verdicts.wait_for_answer(2 * self._timeout_s + 1)

    def publish_verdict(self, verdict: StoredVerdict, *, newest: bool) -> None:
        with self._lock:
            self._on_the_way.add(verdict.position)
        smaller = functools.partial(_without_regions, verdict.payload)  # rarely needed
        properties = (
            ("result_id", verdict.result_id),
            ("epoch", str(verdict.epoch)),
            ("seq", str(verdict.seq)),
            ("outcome", verdict.outcome.value),
            *([("replayed", "true")] if verdict.replayed else []),
        )
        self._verdicts.send(
            Outgoing(
                self._topics.verdict,
                verdict.payload,
                Verdict.qos,
                Verdict.retained,
                key=f"verdict {verdict.position}",
                smaller=smaller,
                user_properties=properties,
            )
        )
        if not newest:
            return
        self._verdicts.send(
            Outgoing(
                self._topics.last_verdict,
                verdict.payload,
                1,
                True,
                key="last_verdict",
                smaller=smaller,
                user_properties=properties,
            )
        )

    def publish_picture(self, picture: Picture, info: PictureInfo) -> None:
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
            key=f"{kind} {info.result_id}",
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
                key=f"{kind} info {info.result_id}",
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
                verdicts_pending=len(self._on_the_way),
                verdicts_refused=self._refused,
                pictures_pending=pictures.pending,
                pictures_dropped=self._pictures_dropped,
                pictures_connected=pictures.connected,
                last_error=verdicts.last_error or pictures.last_error,
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
        kind, _, position = delivery.message.key.partition(" ")
        if kind != "verdict" or self._deliveries is None:
            return
        refused = delivery.result is not DeliveryResult.ACKNOWLEDGED
        with self._lock:
            self._on_the_way.discard(int(position))
            self._refused += refused
        self._deliveries.delivered(int(position), delivery.detail if refused else None)

    def _on_forgotten(self) -> None:
        """From the verdicts' connection thread."""
        if self._deliveries is not None:
            self._deliveries.forgotten()

    def _on_returned(self) -> None:
        """From the verdicts' connection thread."""
        if self._deliveries is not None:
            self._deliveries.returned()

    def _on_picture_delivery(self, delivery: Delivery) -> None:
        """From the pictures' connection thread."""
        if delivery.result is not DeliveryResult.ACKNOWLEDGED and " info " not in delivery.message.key:
            with self._lock:
                self._pictures_dropped += 1


def _json(topic: str, message: Message) -> Outgoing:
    """A message of which only the newest counts."""
    return Outgoing(topic, message.to_json(), message.qos, message.retained, key=topic)


def _without_regions(payload: bytes) -> bytes:
    """The same verdict for a broker that takes only small packets; `regions_total` still says how many."""
    verdict = json.loads(payload)
    detail = verdict.get("detail")
    verdict |= {"regions": [], "detail": None if detail is None else detail[:_DETAIL_MAX_CHARACTERS]}
    return json.dumps(verdict, ensure_ascii=False, separators=(",", ":")).encode()
