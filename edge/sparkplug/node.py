"""The rig as an edge node of Sparkplug B: it is born, says what has changed, and dies, on its own connection.

Rules: chapter 5 of the Sparkplug Specification 3.0.0 (session establishment and termination, commands).
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path

from edge.config import BrokerConfig
from edge.connection import BrokerConnection
from edge.errors import BrokerUnreachable
from edge.inbox import Inbox, Incoming
from edge.messages import Health, MachineState, PictureInfo, Verdict
from edge.order_messages import Answer, RecipeState, RunningRecipe
from edge.outgoing import Delivery, Outgoing, QueueLimit
from edge.publisher import Picture
from edge.sparkplug.birth_count import BirthCount
from edge.sparkplug.commands import (
    ANSWER,
    PART_ID,
    SWITCH,
    THRESHOLD,
    TRIGGER,
    Ask,
    answer_text,
    order,
    part_id_of,
    threshold_order,
)
from edge.sparkplug.config import SparkplugConfig
from edge.sparkplug.history import History
from edge.sparkplug.host import host_state_of
from edge.sparkplug.metrics import BD_SEQ, HEALTH, REBIRTH, RECIPE, STATE, VERDICT, Described
from edge.sparkplug.payload import DataType, Metric, Write, encode, writes_of
from edge.sparkplug.tags import Tags
from edge.topics import RigIdentity

__all__ = ["SparkplugNode"]

_log = logging.getLogger(__name__)

_NAMESPACE = "spBv1.0"
_WAITING_MAX = 100_000
_WAITING_MAX_BYTES = 64 * 1024 * 1024
_CONTENT_TYPE = "application/x-protobuf"
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_LEAVE_S = 2.0
"""How long a death may take to reach the broker, when the host is gone; after that the will says it."""


class SparkplugNode:
    """An `Onlooker` that tells a SCADA host what it is told, from `start` to `close`; nothing waits for it.

    `commands` are the metrics by which a host tells the rig what to do (`metrics_for`). Raises `ConfigError`
    where the broker's password or a certificate can't be read.
    """

    def __init__(
        self,
        config: SparkplugConfig,
        broker: BrokerConfig,
        rig: RigIdentity,
        state_dir: Path | None,
        commands: Sequence[Described] = (),
    ) -> None:
        group, node, host = config.group_of(rig), config.node_of(rig), config.primary_host_id
        self._birth_topic, self._death_topic, self._data_topic, self._command_topic = (
            f"{_NAMESPACE}/{group}/{kind}/{node}" for kind in ("NBIRTH", "NDEATH", "NDATA", "NCMD")
        )
        self._host_topic = None if host is None else f"{_NAMESPACE}/STATE/{host}"
        self._broker = broker
        self._password = broker.read_password()
        self._client_id = rig.client_id("sparkplug")
        self._ask: Ask | None = None
        self._writable = {metric.name for metric in commands if metric.writable}
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        # Under the lock from here on.
        self._count = BirthCount(state_dir)
        self._tags = Tags(commands)
        self._running: RunningRecipe | None = None
        # A loss is noticed after one and a half keep-alives: what was said since then may have gone nowhere.
        self._history = History(config.history, unsure_s=2.0 * broker.keepalive_s)
        self._bd_seq = 0
        self._seq = 0
        self._born = False
        self._host_said_ms = -1
        self._connection = self._new_connection()
        self._closed = threading.Event()
        self._restart = threading.Event()
        # The one thread that ends a connection and begins the next.
        self._keeper = threading.Thread(target=self._keep, name="sparkplug", daemon=True)

    def start(self, ask: Ask) -> None:
        """Begin to connect, in the background; `ask` takes a host's commands. Tried again until `close`."""
        self._ask = ask
        self._connection.start()
        self._keeper.start()

    def close(self, timeout_s: float = 2.0) -> None:
        """Say the death and disconnect; harmless when called twice."""
        with self._lock:
            if self._closed.is_set():
                return
            self._closed.set()
            self._restart.set()
        if self._keeper.is_alive():
            self._keeper.join()
        self._leave(timeout_s)

    @contextmanager
    def attached(self, ask: Ask) -> Iterator[None]:
        """From `start` to `close`."""
        self.start(ask)
        try:
            yield
        finally:
            self.close()

    # -- an onlooker, from the daemon's threads -----------------------------------------------------

    def on_verdict(self, verdict: Verdict) -> None:
        with self._lock:
            told = self._tags.set_all(VERDICT, verdict, _milliseconds(verdict.creation_time))
            self._history.add(told, sent=self._born)
            self._say(told)

    def on_picture(self, picture: Picture, info: PictureInfo) -> None:
        """No metric shows a picture; they are on the MQTT topics."""

    def on_health(self, health: Health) -> None:
        with self._lock:
            self._say(self._tags.set_changed(HEALTH, health, _milliseconds(health.creation_time)))

    def on_machine_state(self, state: MachineState) -> None:
        with self._lock:
            self._say(self._tags.set_all(STATE, state, _milliseconds(state.creation_time)))

    def on_recipe(self, state: RecipeState) -> None:
        """Which recipe runs, from now on, and by which calibration."""
        with self._lock:
            self._running = state.running
            self._say(self._tags.set_changed(RECIPE, state, _milliseconds(state.creation_time)))

    # -- from the connection's thread ---------------------------------------------------------------

    def _will(self) -> Outgoing:
        with self._lock:
            self._bd_seq = self._count.next()
            return self._death()

    def _births(self, reconnected: bool) -> Sequence[Outgoing]:
        """The birth, and what the host missed; nothing before the primary host says that it is online."""
        with self._lock:
            return self._born_now() if self._host_topic is None else ()

    def _on_lost(self) -> None:
        with self._lock:
            self._unborn()

    def _on_message(self, message: Incoming) -> None:
        if message.topic == self._host_topic:
            self._on_host(message.payload)
        elif message.topic == self._command_topic and not message.retained:
            writes = writes_of(message.payload)
            if writes is None:
                _log.warning("%d bytes on %s are no payload of Sparkplug; ignored", len(message.payload),
                             message.topic)  # fmt: skip
            else:
                self._on_writes(writes)

    def _on_host(self, payload: bytes) -> None:
        state = host_state_of(payload)
        if state is None:
            _log.warning("%s: %d bytes that are no state of Sparkplug 3.0; ignored", self._host_topic,
                         len(payload))  # fmt: skip
            return
        with self._lock:
            if state.timestamp < self._host_said_ms:
                _log.info("%s: a state from before the last one; ignored", self._host_topic)
                return
            self._host_said_ms = state.timestamp
            if state.online and not self._born and not self._restart.is_set():
                _log.info("the primary host is online; the rig is born on %s", self._birth_topic)
                for message in self._born_now():
                    self._send(message)
            elif not state.online and self._born:
                _log.warning("the primary host is offline; verdicts wait for it as history")
                self._unborn()
                self._restart.set()  # the death, and a new connection, come from the keeper's thread

    def _on_writes(self, writes: Sequence[Write]) -> None:
        named: dict[str, Write] = {}
        for write in writes:
            name = REBIRTH if write.name == REBIRTH else self._tags.name_of(write)
            if name == REBIRTH or name in self._writable:
                named[name] = write
            else:
                _log.warning(
                    "a host writes %.128r, which can't be written; ignored", write.name or write.alias
                )
        if PART_ID.name in named:
            self._set_part_id(part_id_of(named[PART_ID.name].value))
        if TRIGGER.name in named and named[TRIGGER.name].value is True:
            self._fire()
        if SWITCH.name in named:
            self._give("recipe", order(recipe=named[SWITCH.name].value))
        if THRESHOLD.name in named:
            with self._lock:
                running = self._running
            self._give("threshold", threshold_order(named[THRESHOLD.name].value, running))
        if REBIRTH in named and named[REBIRTH].value is True:
            with self._lock:
                if self._born:
                    self._send(self._birth())

    def _set_part_id(self, part_id: str | None) -> None:
        with self._lock:
            self._say((self._tags.set(PART_ID, part_id, _now_ms()),))

    def _fire(self) -> None:
        with self._lock:
            part_id = part_id_of(self._tags.value_of(PART_ID))
        if part_id is not None:
            self._set_part_id(None)
        self._give("trigger", order(part_serial=part_id))

    def _give(self, command: str, payload: bytes) -> None:
        if self._ask is not None:
            self._ask(command, payload).add_done_callback(self._on_answer)

    def _on_answer(self, future: Future[Answer]) -> None:
        """From any thread."""
        with self._lock:
            self._say((self._tags.set(ANSWER, answer_text(future.result()), _now_ms()),))

    # -- under the lock -----------------------------------------------------------------------------

    def _born_now(self) -> list[Outgoing]:
        """The birth, and as history what the host has not heard; but for the last, which the birth tells."""
        self._born = True
        missed, left_out = self._history.take()
        if left_out:
            _log.warning("the host missed %d verdicts; the oldest %d are not sent as history, but are in the "
                         "outbox", len(missed) + left_out, left_out)  # fmt: skip
        return [self._birth(), *(self._data(metrics) for metrics in missed)]

    def _unborn(self) -> None:
        if self._born:
            self._history.doubt()
        self._born = False

    def _say(self, metrics: Sequence[Metric]) -> None:
        if self._born and metrics:
            self._send(self._data(metrics))

    def _birth(self) -> Outgoing:
        now_ms = _now_ms()
        self._seq = 0
        control = (
            Metric(DataType.INT64, self._bd_seq, now_ms, name=BD_SEQ),
            Metric(DataType.BOOLEAN, False, now_ms, name=REBIRTH),  # without an alias, as 5.12 wants it
        )
        payload = encode((*control, *self._tags.birth(now_ms)), timestamp_ms=now_ms, seq=0)
        return self._outgoing(self._birth_topic, payload)

    def _data(self, metrics: Sequence[Metric]) -> Outgoing:
        self._seq = (self._seq + 1) % 256
        return self._outgoing(self._data_topic, encode(metrics, timestamp_ms=_now_ms(), seq=self._seq))

    def _death(self) -> Outgoing:
        now_ms = _now_ms()
        metric = Metric(DataType.INT64, self._bd_seq, now_ms, name=BD_SEQ)
        payload = encode((metric,), timestamp_ms=now_ms, seq=None)
        return Outgoing(self._death_topic, payload, 1, False, key="death", content_type=_CONTENT_TYPE)

    def _outgoing(self, topic: str, payload: bytes) -> Outgoing:
        key = f"sparkplug {next(self._numbers)}"
        return Outgoing(topic, payload, 0, False, key=key, content_type=_CONTENT_TYPE)

    def _send(self, message: Outgoing) -> None:
        try:
            self._connection.send(message)
        except BrokerUnreachable as error:
            self._unborn()
            _log.error("Sparkplug: %s", error)

    # -- the keeper's thread ------------------------------------------------------------------------

    def _keep(self) -> None:
        """After the primary host has gone: die, and begin anew, so that its return finds a new birth."""
        while True:
            self._restart.wait()
            if self._closed.is_set():
                return
            self._leave(_LEAVE_S)
            connection = self._new_connection()
            with self._lock:
                if self._closed.is_set():  # and `_restart` set for good
                    return
                self._connection = connection
                self._restart.clear()
            connection.start()

    def _leave(self, timeout_s: float) -> None:
        with self._lock:
            self._unborn()
            death, connection = self._death(), self._connection
        connection.stop(death, timeout_s)

    def _new_connection(self) -> BrokerConnection:
        heard = (self._command_topic, *(() if self._host_topic is None else (self._host_topic,)))
        return BrokerConnection(
            self._broker,
            self._client_id,
            password=self._password,
            limit=QueueLimit(_WAITING_MAX, _WAITING_MAX_BYTES, drop_oldest=True),
            on_delivery=_ignore,
            will=self._will,
            births=self._births,
            on_lost=self._on_lost,
            inbox=Inbox(heard, self._on_message),
        )


def _ignore(delivery: Delivery) -> None:
    """What is dropped leaves a gap in `seq`, for which a host asks for a new birth."""


def _milliseconds(when: datetime) -> int:
    return (when - _EPOCH) // timedelta(milliseconds=1)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
