"""Whether the broker still knows us: what it acknowledged is sent again where it does not, and only there."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from edge.broker import LocalBroker, find_mosquitto
from edge.connection import BrokerConnection
from edge.outgoing import QueueLimit

PATIENCE_S = 60

pytestmark = pytest.mark.skipif(
    find_mosquitto() is None and not os.environ.get("CI"), reason="mosquitto is not installed"
)


@contextmanager
def connected(broker: LocalBroker, protocol: str) -> Iterator[list[str]]:
    """A connection as one start of the daemon has it, and what it was told of the broker's memory."""
    told: list[str] = []
    connection = BrokerConnection(
        broker.client_config().model_copy(update={"protocol": protocol}),
        "rig",
        password=None,
        limit=QueueLimit(10, 1000, drop_oldest=False),
        on_delivery=lambda delivery: None,
        on_forgotten=lambda: told.append("forgotten"),
        on_returned=lambda: told.append("returned"),
    )
    connection.start()
    end_s = time.monotonic() + PATIENCE_S
    while not connection.status.connected:
        assert time.monotonic() < end_s
        time.sleep(0.01)
    connection.wait_for_answer(PATIENCE_S)
    try:
        yield told
    finally:
        connection.stop(None, PATIENCE_S)


@pytest.mark.parametrize("protocol", ["auto", "5"])
def test_a_start_anew_is_known_and_a_broker_that_lost_its_memory_is_seen(protocol: str) -> None:
    with LocalBroker("mosquitto") as broker:
        with connected(broker, protocol) as first:
            assert first == ["forgotten"]
        for _ in range(2):
            with connected(broker, protocol) as again:
                # The broker may have died with what it told the process before, and that with it.
                assert again == ["returned"]
        port = broker.port
        broker.kill()
        with LocalBroker("mosquitto", port=port) as other, connected(other, protocol) as anew:
            assert anew == ["forgotten"]
