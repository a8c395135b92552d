"""One connection to an MQTT broker that keeps itself up, with a queue and an in-flight window of its own.

paho carries bytes; what it leaves out is done here. It ignores the broker's MaximumPacketSize and
ReceiveMaximum, hides a queue that outlives a connection, and can't change its protocol: so each attempt
to connect gets a new paho client, and all state is owned by one thread that reads events from a queue.
paho's callbacks only put events there, for paho calls them under its own locks.
"""

from __future__ import annotations

import contextlib
import logging
import random
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from queue import Empty, SimpleQueue

import paho.mqtt.client as paho
from paho.mqtt.reasoncodes import ReasonCode
from pydantic import SecretStr

from edge.backoff import Backoff
from edge.config import BrokerConfig
from edge.connection_events import Answered, Event, Heard, Lost, Published, Stop, Subscribed, listen
from edge.errors import BrokerRefused, BrokerUnreachable
from edge.inbox import Inbox
from edge.outgoing import Delivery, DeliveryResult, Outgoing, QueueLimit, SendQueue
from edge.paho_client import Protocol, connect, cut, new_client, publish, tls_context

__all__ = ["BrokerConnection", "ConnectionStatus"]

_log = logging.getLogger(__name__)

_BACKOFF = Backoff(0.5, 30.0)
_STEADY_AFTER_S = 10.0  # a connection that lasted so long starts the back-off anew
_UNSUPPORTED_PROTOCOL_VERSION = 132
_SUSPICIOUS_LOSSES = 3
_TAKEN_OVER = "Session taken over"
# Reasons that waiting does not mend (MQTT 5.0, section 3.2.2.2).
_FOR_GOOD = {132, 133, 134, 135, 138, 140, 144, 149, 153, 154, 155}
_CREDENTIALS = {134, 135}


@dataclass(frozen=True, slots=True)
class ConnectionStatus:
    """How a connection is, and whether it hears what it subscribed to; replaced whole, for any thread."""

    connected: bool = False
    hears: bool = False
    protocol: Protocol | None = None
    connects: int = 0
    pending: int = 0
    last_error: str | None = None
    refused_for_good: bool = False


class _Phase(Enum):
    WAITING = 1
    CONNECTING = 2
    CONNECTED = 3
    STOPPED = 4


class BrokerConnection:
    """Keeps one MQTT connection up and sends messages through it, in order; `limit` of them may wait.

    `will` is what the broker says when we vanish, asked for anew for each connection if it can be called;
    `births(reconnected)` gives what is said first on each connection; `on_delivery` is called for each
    message at its end, `on_forgotten` where the broker knows nothing of a connection before this one,
    `on_returned` where it does, be that one of an earlier process; all from this connection's thread. With an
    `inbox` it also hears. With `on_lost`, which is told when a connection or an attempt has failed, messages
    belong to one connection: none is sent by the next.
    """

    def __init__(
        self,
        config: BrokerConfig,
        client_id: str,
        *,
        password: SecretStr | None,
        limit: QueueLimit,
        on_delivery: Callable[[Delivery], None],
        will: Outgoing | Callable[[], Outgoing] | None = None,
        births: Callable[[bool], Sequence[Outgoing]] | None = None,
        on_forgotten: Callable[[], None] = lambda: None,
        on_returned: Callable[[], None] = lambda: None,
        on_lost: Callable[[], None] | None = None,
        inbox: Inbox | None = None,
    ) -> None:
        self._config = config
        self._client_id = client_id
        self._password = password
        self._on_delivery = on_delivery
        self._will = will
        self._on_forgotten = on_forgotten
        self._on_returned = on_returned
        self._on_lost = on_lost
        self._births = births or (lambda reconnected: ())
        self._inbox = inbox
        self._tls = tls_context(config)
        self._events: SimpleQueue[Event] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=f"mqtt-{client_id}", daemon=True)
        self._answered = threading.Event()
        self._status = ConnectionStatus()
        # From here on: touched by the connection's own thread alone.
        self._phase = _Phase.WAITING
        self._protocol: Protocol = "3.1.1" if config.protocol == "3.1.1" else "5"
        self._asking = config.protocol == "auto"  # whether it is still to be found out what the broker speaks
        self._client: paho.Client | None = None
        self._attempt = 0
        self._failures = 0
        self._remembered = False  # by the broker; asking what it speaks ends the session that it remembers
        self._due = 0.0  # when to try again (WAITING), or to give up (CONNECTING)
        self._connected_at = 0.0
        self._window = config.max_in_flight
        self._max_packet = config.max_packet_bytes
        self._queue = SendQueue(limit)
        self._stop: Stop | None = None

    @property
    def status(self) -> ConnectionStatus:
        return self._status

    def start(self) -> None:
        """Begin to connect, in the background."""
        self._thread.start()

    def wait_for_answer(self, timeout_s: float) -> None:
        """Wait until the first attempt has ended one way or the other, at most `timeout_s`.

        Raises `BrokerRefused` where the broker answered that it will not have us. A broker that is not
        there is no error: the connection is tried again until `stop`.
        """
        self._answered.wait(timeout_s)
        if self._status.refused_for_good:
            raise BrokerRefused(self._status.last_error or "the broker refused the connection")

    def send(self, message: Outgoing) -> None:
        """Queue a message; returns at once. From any thread.

        Raises `BrokerUnreachable` where the connection's thread is no more, so that nobody goes on
        inspecting for a broker that will never hear of it.
        """
        if not self._thread.is_alive():
            raise BrokerUnreachable("the connection to the broker has ended; start the daemon again")
        self._events.put(message)

    def stop(self, farewell: Outgoing | None, timeout_s: float) -> None:
        """Send what waits and then `farewell`, and disconnect; after `timeout_s` without that.

        Where the farewell was not acknowledged the connection is cut, so that the broker sends the will.
        """
        if self._thread.is_alive():
            self._events.put(Stop(farewell, time.monotonic() + timeout_s))
            self._thread.join()

    # -- the connection's own thread ---------------------------------------------------------------

    def _run(self) -> None:
        try:
            while self._phase is not _Phase.STOPPED:
                with contextlib.suppress(Empty):
                    self._on_event(self._events.get(timeout=self._patience_s()))
                self._on_time()
                self._pump()
                self._status = replace(self._status, pending=len(self._queue))
        finally:
            self._retire()  # were this thread to fail, the broker must not go on believing that all is well
            self._answered.set()

    def _patience_s(self) -> float | None:
        deadlines = [self._due] if self._phase is not _Phase.CONNECTED else []
        deadlines += [self._stop.deadline] if self._stop else []
        return max(0.0, min(deadlines) - time.monotonic()) if deadlines else None

    def _on_time(self) -> None:
        now = time.monotonic()
        if self._stop and now >= self._stop.deadline:
            self._finish(politely=False)
        elif self._phase is _Phase.WAITING and now >= self._due:
            self._connect()
        elif self._phase is _Phase.CONNECTING and now >= self._due:
            hint = ", or set broker.protocol to 3.1.1 if it is an old one" if self._asking else ""
            self._fail(f"no answer within {self._config.connect_timeout_s:g} s; check the port{hint}")

    def _on_event(self, event: Event) -> None:
        if isinstance(event, Outgoing):
            for dropped in self._queue.add(event):
                why = f"{self._queue.waiting} messages wait already"
                self._on_delivery(Delivery(dropped, DeliveryResult.DROPPED, why))
        elif isinstance(event, Stop):
            self._stop = event
            if event.farewell is not None:
                self._queue.add(event.farewell, always=True)
            if self._phase is not _Phase.CONNECTED:
                self._finish(politely=False)
        elif event.attempt != self._attempt:
            return  # of a connection that is no more
        elif isinstance(event, Answered):
            self._on_answer(event)
        elif isinstance(event, Lost):
            self._fail(f"the connection was lost ({event.reason}){self._suspicion(event.reason)}")
        elif isinstance(event, Subscribed):
            self._on_subscribed(event.reasons)
        elif isinstance(event, Heard):
            event.told(event.message)
        else:
            self._on_published(event)

    def _connect(self) -> None:
        self._attempt += 1
        will = None if self._asking else self._will
        client = new_client(
            self._config,
            self._client_id,
            self._protocol,
            password=self._password,
            tls=self._tls,
            will=will() if callable(will) else will,
            comes_back=self._inbox is None,
        )
        listen(client, self._attempt, self._events, self._inbox)
        try:
            connect(client, self._config, self._protocol, bare=self._asking, inbox=self._inbox)
        except ssl.SSLCertVerificationError as error:
            self._fail(
                f"its certificate is not accepted ({error.verify_message}); check broker.tls.ca_file, "
                "broker.host and this machine's clock",
                for_good=True,
            )
        except OSError as error:
            self._fail(error.strerror or str(error) or type(error).__name__)
        else:
            self._client = client
            self._phase = _Phase.CONNECTING
            self._due = time.monotonic() + self._config.connect_timeout_s
            client.loop_start()

    def _on_answer(self, answer: Answered) -> None:
        reason = answer.reason
        if reason.value != 0:
            if reason.value == _UNSUPPORTED_PROTOCOL_VERSION and self._asking:
                _log.info("%s does not speak MQTT 5; going on with 3.1.1", self._where())
                self._protocol = "3.1.1"
                self._connect_in_earnest()
            else:
                self._fail(self._refusal(reason), for_good=reason.value in _FOR_GOOD)
            return
        self._remembered |= answer.session_present
        if self._asking:
            self._connect_in_earnest()
            return
        limits = answer.properties
        self._window = min(self._config.max_in_flight, getattr(limits, "ReceiveMaximum", 65_535))
        self._max_packet = min(
            self._config.max_packet_bytes, getattr(limits, "MaximumPacketSize", self._config.max_packet_bytes)
        )
        if getattr(limits, "MaximumQoS", 1) < 1 or getattr(limits, "RetainAvailable", 1) < 1:
            self._fail("it allows no QoS 1, or no retained messages, and verdicts need both", for_good=True)
            return
        self._phase = _Phase.CONNECTED
        self._connected_at = time.monotonic()
        self._status = replace(
            self._status,
            connected=True,
            protocol=self._protocol,
            connects=self._status.connects + 1,
            last_error=None,
        )
        _log.info("connected to %s with MQTT %s as %s", self._where(), self._protocol, self._client_id)
        if not self._remembered:
            self._on_forgotten()
        else:
            self._on_returned()
        self._remembered = False
        if self._on_lost is not None:
            self._queue.clear()
        self._queue.put_first(self._births(self._status.connects > 1))
        if self._inbox is not None and self._client is not None:
            self._client.subscribe([(topic, 1) for topic in self._inbox.topics])
        self._answered.set()

    def _suspicion(self, reason: str) -> str:
        """Two rigs of one identity throw each other off; not every broker says so (mosquitto 2.0.11)."""
        if reason == _TAKEN_OVER:
            return "; another rig has the same identity: mend `rig:` in one of the two configurations"
        if self._phase is _Phase.CONNECTED and self._failures >= _SUSPICIOUS_LOSSES:
            return "; if that goes on, look for another rig with the same identity"
        return ""

    def _connect_in_earnest(self) -> None:
        """We know what the broker speaks: connect again, with will and properties."""
        self._asking = False
        if self._client is not None:
            self._client.disconnect()
        self._retire()
        self._phase, self._due = _Phase.WAITING, time.monotonic()

    def _refusal(self, reason: ReasonCode) -> str:
        name = reason.getName()
        if reason.value in _CREDENTIALS:
            user = self._config.username
            who = f"the user {user!r}" if user else "a client without a user"
            return f"it refused {who} ({name}); check broker.username, the password and the broker's rights"
        return f"it refused the connection ({name})"

    def _on_subscribed(self, reasons: tuple[ReasonCode, ...]) -> None:
        refused = sorted({reason.getName() for reason in reasons if reason.value >= 128})
        self._status = replace(self._status, hears=not refused)
        if refused:
            text = f"{self._where()} refused a subscription of {self._client_id}: {', '.join(refused)}"
            self._status = replace(self._status, last_error=text)
            _log.error("%s; check the broker's access rules for this rig", text)

    def _on_published(self, event: Published) -> None:
        message = self._queue.settled(event.mid)
        if message is None:
            return
        if event.reason is not None and event.reason.value >= 128:
            name = event.reason.getName()
            text = f"{self._where()} refused a message on {message.topic}: {name}"
            self._status = replace(self._status, last_error=text)
            _log.error("%s; check the broker's access rules for this rig", text)
            self._on_delivery(Delivery(message, DeliveryResult.REFUSED, name))
        else:
            self._on_delivery(Delivery(message, DeliveryResult.ACKNOWLEDGED, ""))

    def _fail(self, why: str, for_good: bool = False) -> None:
        """The connection, or the attempt at one, has ended: take back what was in flight, and wait."""
        steady = self._phase is _Phase.CONNECTED and time.monotonic() - self._connected_at >= _STEADY_AFTER_S
        self._retire()
        self._failures = 1 if steady else self._failures + 1
        # Its jitter keeps fifty rigs from coming back at once after the broker restarts.
        backoff_s = _BACKOFF.delay_s(self._failures - 1, random.random())
        text = f"{self._where()}: {why}"
        _log.warning("%s; next try in %.1f s", text, backoff_s)
        self._status = replace(
            self._status,
            connected=False,
            hears=False,
            last_error=text,
            refused_for_good=for_good and not self._status.connects,
        )
        self._answered.set()
        if self._on_lost is not None:
            self._on_lost()
        self._phase, self._due = _Phase.WAITING, time.monotonic() + backoff_s
        if self._stop:
            self._finish(politely=False)

    def _retire(self) -> None:
        """Let go of the paho client; what was in flight goes back to the head of the queue, in order."""
        client, self._client = self._client, None
        self._attempt += 1  # its last events are no longer ours
        if client is not None:
            cut(client)
            client.loop_stop()
        self._queue.take_back()

    def _pump(self) -> None:
        """Send what waits, as far as the window goes; end where all is said and we are to stop."""
        client = self._client
        while (
            client is not None
            and self._phase is _Phase.CONNECTED
            and self._queue.waiting
            and self._queue.in_flight < self._window
        ):
            message = self._queue.take()
            if message.packet_bytes() > self._max_packet and message.smaller is not None:
                message = replace(message, payload=message.smaller(), smaller=None)
            if message.packet_bytes() > self._max_packet:
                size = message.packet_bytes()
                text = f"{size} bytes on {message.topic}; at most {self._max_packet} can go out"
                self._status = replace(self._status, last_error=text)
                _log.warning("dropped a message of %s; raise max_packet_bytes here or on the broker", text)
                self._on_delivery(Delivery(message, DeliveryResult.TOO_LARGE, text))
                continue
            self._queue.sent(publish(client, message, self._protocol), message)
        if self._stop and self._phase is _Phase.CONNECTED and not len(self._queue):
            self._finish(politely=True)

    def _finish(self, politely: bool) -> None:
        client = self._client
        if politely and client is not None:
            client.disconnect()
            client.loop_stop()
            self._client = None
        self._retire()
        self._phase = _Phase.STOPPED
        self._status = replace(self._status, connected=False, hears=False)

    def _where(self) -> str:
        return f"the broker at {self._config.host}:{self._config.port}"
