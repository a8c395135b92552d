"""One connection on the wire: what it sends to a broker that does only what the test says."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from queue import SimpleQueue

import pytest

from edge.config import BrokerConfig
from edge.connection import BrokerConnection
from edge.errors import BrokerRefused
from edge.outgoing import Delivery, DeliveryResult, Outgoing, QueueLimit

CONNECT, CONNACK, PUBLISH, PUBACK, PINGREQ, PINGRESP = 0x10, 0x20, 0x30, 0x40, 0xC0, 0xD0
RECEIVE_MAXIMUM, MAXIMUM_PACKET_SIZE, MAXIMUM_QOS, RETAIN_AVAILABLE = 0x21, 0x27, 0x24, 0x25
SESSION_EXPIRY, WILL_DELAY = 0x11, 0x18
PATIENCE_S = 60


class WireBroker:
    """Takes one MQTT 5 connection after the other, answers CONNECT, and else only when told to."""

    def __init__(self, connack_properties: bytes = b"") -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self._connack = bytes([CONNACK, 3 + len(connack_properties), 0, 0, len(connack_properties)])
        self._connack += connack_properties
        self.packets: SimpleQueue[tuple[int, bytes]] = SimpleQueue()
        self._client: socket.socket | None = None
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                self._client, _ = self._server.accept()
                with self._client, suppress(OSError):
                    stream = self._client.makefile("rb")
                    while head := stream.read(1):
                        length, shift = 0, 0
                        while True:
                            digit = stream.read(1)[0]
                            length |= (digit & 0x7F) << shift
                            shift += 7
                            if not digit & 0x80:
                                break
                        body = stream.read(length)
                        self.packets.put((head[0], body))
                        if head[0] == CONNECT:
                            self._client.sendall(self._connack)
                        elif head[0] == PINGREQ:
                            self._client.sendall(bytes([PINGRESP, 0]))

    def next(self, kind: int) -> bytes:
        """The body of the next packet of that kind; others before it are passed over."""
        while True:
            found, body = self.packets.get(timeout=PATIENCE_S)
            if found & 0xF0 == kind:
                return body

    def publishes_before_ping(self) -> list[bytes]:
        """The PUBLISH packets up to the next PINGREQ, which a client sends when it has no more to say."""
        found = []
        while True:
            kind, body = self.packets.get(timeout=PATIENCE_S)
            if kind == PINGREQ:
                return found
            if kind & 0xF0 == PUBLISH:
                found.append(body)

    def acknowledge(self, publish: bytes, reason: int = 0) -> None:
        topic_bytes = int.from_bytes(publish[:2], "big")
        packet_id = publish[2 + topic_bytes : 4 + topic_bytes]
        assert self._client is not None
        self._client.sendall(bytes([PUBACK, 4]) + packet_id + bytes([reason, 0]))

    def cut(self) -> None:
        if self._client is not None:
            with suppress(OSError):
                self._client.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self.cut()
        self._thread.join()


def message(number: int, key: str | None = None, size: int = 10) -> Outgoing:
    return Outgoing("t", b"%d" % number + b"." * size, 1, False, key=key or str(number))


@contextmanager
def connected(
    broker: WireBroker, deliveries: list[Delivery] | None = None, **options: object
) -> Iterator[BrokerConnection]:
    config = BrokerConfig.model_validate({"port": broker.port, "protocol": "5", "keepalive_s": 2} | options)
    connection = BrokerConnection(
        config,
        "client",
        password=None,
        limit=QueueLimit(100, 1_000_000, drop_oldest=False),
        on_delivery=(deliveries if deliveries is not None else []).append,
        will=Outgoing("w", b"gone", 1, True, key="w"),
    )
    connection.start()
    try:
        yield connection
    finally:
        connection.stop(None, 0.0)
        broker.close()


def test_the_session_outlives_the_delay_of_the_will() -> None:
    """A session that ends with the connection would send the will at once (MQTT 5.0, 3.1.3.2.2)."""
    broker = WireBroker()
    with connected(broker):
        body = broker.next(CONNECT)
    flags, properties_bytes = body[7], body[10]
    properties = body[11 : 11 + properties_bytes]
    assert properties[0] == SESSION_EXPIRY
    will = body[11 + properties_bytes + 2 + len("client") :]
    will_properties = will[1 : 1 + will[0]]
    assert will_properties[0] == WILL_DELAY
    delay_s, expiry_s = (int.from_bytes(p[1:5], "big") for p in (will_properties, properties))
    assert 0 < delay_s < expiry_s
    assert expiry_s >= 8 * 3600, "a rig that was off for a shift would send its last verdicts again"
    assert flags & 0b10 == 0, "a clean start would end the session that is to be taken up again"


def test_no_more_is_in_flight_than_the_broker_allows() -> None:
    broker = WireBroker(bytes([RECEIVE_MAXIMUM, 0, 2]))
    deliveries: list[Delivery] = []
    with connected(broker, deliveries) as connection:
        for number in range(5):
            connection.send(message(number))
        first = broker.publishes_before_ping()
        assert len(first) == 2
        broker.acknowledge(first[0])
        assert len(broker.publishes_before_ping()) == 1
    assert [d.message.key for d in deliveries] == ["0"]


def test_what_was_not_acknowledged_is_sent_again_first_and_in_order() -> None:
    broker = WireBroker(bytes([RECEIVE_MAXIMUM, 0, 3]))
    with connected(broker) as connection:
        for number in range(5):
            connection.send(message(number, size=0))
        sent = [broker.next(PUBLISH)[-1:] for _ in range(3)]
        broker.cut()
        broker.next(CONNECT)
        again = [broker.next(PUBLISH)[-1:] for _ in range(3)]
    assert sent == again == [b"0", b"1", b"2"]


def test_a_newer_message_of_the_same_key_takes_the_place_of_one_that_waits() -> None:
    broker = WireBroker(bytes([RECEIVE_MAXIMUM, 0, 1]))
    with connected(broker) as connection:
        connection.send(message(0, key="state", size=0))
        first = broker.next(PUBLISH)
        assert first[-1:] == b"0"
        for number in range(1, 5):
            connection.send(message(number, key="state", size=0))
        assert broker.publishes_before_ping() == []
        broker.acknowledge(first)
        newest = broker.next(PUBLISH)
        assert newest[-1:] == b"4"
        broker.acknowledge(newest)
        assert broker.publishes_before_ping() == []


def test_a_refusal_is_a_failure_and_a_missing_subscriber_is_none() -> None:
    broker = WireBroker()
    deliveries: list[Delivery] = []
    with connected(broker, deliveries) as connection:
        connection.send(message(0))
        broker.acknowledge(broker.next(PUBLISH), reason=135)
        connection.send(message(1))
        broker.acknowledge(broker.next(PUBLISH), reason=16)
        while len(deliveries) < 2:
            connection.wait_for_answer(0.01)
    assert [d.result for d in deliveries] == [DeliveryResult.REFUSED, DeliveryResult.ACKNOWLEDGED]
    assert deliveries[0].detail == "Not authorized"


def test_larger_than_the_broker_takes_is_never_sent() -> None:
    broker = WireBroker(bytes([MAXIMUM_PACKET_SIZE, 0, 0, 1, 0]))
    deliveries: list[Delivery] = []
    with connected(broker, deliveries) as connection:
        connection.send(message(0, size=300))
        connection.send(message(1, size=0))
        publish = broker.next(PUBLISH)
        assert publish[-1:] == b"1"
    assert [d.result for d in deliveries] == [DeliveryResult.TOO_LARGE]


def test_a_farewell_that_is_not_acknowledged_leaves_the_word_to_the_will() -> None:
    broker = WireBroker()
    with connected(broker) as connection:
        broker.next(CONNECT)
        connection.wait_for_answer(PATIENCE_S)
        connection.stop(Outgoing("a", b"offline", 1, True, key="a"), 0.3)
    kinds = []
    while not broker.packets.empty():
        kinds.append(broker.packets.get()[0] & 0xF0)
    assert kinds == [PUBLISH], "a DISCONNECT would make the broker forget the will"


def test_a_broker_without_what_verdicts_need_is_refused() -> None:
    for missing in (bytes([MAXIMUM_QOS, 0]), bytes([RETAIN_AVAILABLE, 0])):
        broker = WireBroker(missing)
        with (
            connected(broker) as connection,
            pytest.raises(BrokerRefused, match="no QoS 1, or no retained messages"),
        ):
            connection.wait_for_answer(PATIENCE_S)


def test_a_port_that_says_nothing_is_given_up_and_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        config = BrokerConfig(port=silent.getsockname()[1], connect_timeout_s=0.2)
        connection = BrokerConnection(
            config,
            "c",
            password=None,
            limit=QueueLimit(1, 1, drop_oldest=False),
            on_delivery=lambda delivery: None,
        )
        connection.start()
        connection.wait_for_answer(PATIENCE_S)
        connection.stop(None, 0)
    assert "no answer within 0.2 s" in (connection.status.last_error or "")
    assert "set broker.protocol to 3.1.1" in (connection.status.last_error or "")
