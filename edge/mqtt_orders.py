"""Commands over MQTT: heard and answered on a connection of their own.

Of its own, for three reasons. The session of the verdicts' connection outlives it by seconds, so that a
rig that comes back keeps its will unsaid; in it the broker would keep commands of before an outage, and
this connection has none. A flood of commands can't stand before a verdict. And the broker can be told to
send nothing larger than a command is.
"""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Sequence
from typing import Any

from edge.audit import AuditLog
from edge.authority import Authority
from edge.clock import Session
from edge.config import BrokerConfig
from edge.connection import BrokerConnection, ConnectionStatus
from edge.errors import BrokerUnreachable
from edge.inbox import Inbox, Incoming
from edge.order_messages import Answer, RecipeState
from edge.orders import Handler, Letter, OrderDesk
from edge.outgoing import Delivery, Outgoing, QueueLimit
from edge.topics import RigIdentity, Topics

__all__ = ["MqttOrders"]

_log = logging.getLogger(__name__)

_ANSWER_EXPIRY_S = 60
_ANSWERS_MAX = 1000
_ANSWERS_MAX_BYTES = 4 * 1024 * 1024


class MqttOrders:
    """Hears a rig's commands from `start` to `close`, and publishes which recipe runs.

    The handlers are called on the connection's thread and must not wait for anything. `authority` is who may
    give which command, everybody if not given; `audit` is told of each. Raises `ConfigError` where the
    password or a certificate can't be read.
    """

    def __init__(
        self,
        config: BrokerConfig,
        rig: RigIdentity,
        session: Session,
        handlers: Sequence[Handler[Any]],
        *,
        authority: Authority | None = None,
        audit: AuditLog | None = None,
    ) -> None:
        self._topics = Topics(rig.root)
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._recipe: RecipeState | None = None
        self.desk = OrderDesk(
            tuple(handlers), self._topics, session, self._send_answer, authority=authority, audit=audit
        )
        self._connection = BrokerConnection(
            config,
            rig.client_id("commands"),
            password=config.read_password(),
            limit=QueueLimit(_ANSWERS_MAX, _ANSWERS_MAX_BYTES, drop_oldest=True),
            on_delivery=_ignore,
            births=self._births,
            inbox=Inbox(self._topics.commands, self._on_message),
        )

    @property
    def status(self) -> ConnectionStatus:
        """How the connection is; `hears` once the broker granted the subscription."""
        return self._connection.status

    def start(self) -> None:
        """Begin to connect, in the background; tried again until `close`."""
        self._connection.start()

    def publish_recipe(self, state: RecipeState) -> None:
        """Say which recipe runs: now, or as soon as there is a connection, and after each reconnect."""
        with self._lock:
            self._recipe = state
        self._send(self._recipe_message(state))

    def close(self, timeout_s: float = 5.0) -> None:
        """Answer what is still open with `stopping`, and disconnect; harmless when called twice."""
        self.desk.close()
        self._connection.stop(None, timeout_s)

    def _on_message(self, message: Incoming) -> None:
        command, client = self._topics.command_of(message.topic)
        self.desk.receive(
            Letter(
                command=command,
                client=client,
                payload=message.payload,
                retained=message.retained,
                received_ns=message.received_ns,
                expiry_s=message.expiry_s,
                response_topic=message.response_topic,
                correlation=message.correlation,
            )
        )

    def _send_answer(self, answer: Answer, topic: str, correlation: bytes | None) -> None:
        self._send(
            Outgoing(
                topic,
                answer.to_json(),
                Answer.qos,
                Answer.retained,
                key=f"answer {next(self._numbers)}",
                expiry_s=_ANSWER_EXPIRY_S,
                correlation=correlation,
            )
        )

    def _send(self, message: Outgoing) -> None:
        try:
            self._connection.send(message)
        except BrokerUnreachable as error:  # before `start`, or at the very end; births say what matters
            _log.info("nothing was sent on %s: %s", message.topic, error)

    def _births(self, reconnected: bool) -> Sequence[Outgoing]:
        with self._lock:
            return () if self._recipe is None else (self._recipe_message(self._recipe),)

    def _recipe_message(self, state: RecipeState) -> Outgoing:
        topic = self._topics.recipe_state
        return Outgoing(topic, state.to_json(), RecipeState.qos, RecipeState.retained, key=topic)


def _ignore(delivery: Delivery) -> None:
    """An answer that is refused or too large was logged by the connection; nobody else waits for it."""
