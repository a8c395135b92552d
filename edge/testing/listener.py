"""An independent subscriber: hears what really stands on the broker."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from typing_extensions import Self

from edge.errors import BrokerUnreachable

__all__ = ["Heard", "Listener"]


@dataclass(frozen=True, slots=True)
class Heard:
    """One message as it arrived; `retained` where the broker had kept it from before we subscribed."""

    topic: str
    payload: bytes
    qos: int
    retained: bool
    user_properties: tuple[tuple[str, str], ...] = ()
    expiry_s: int | None = None

    def json(self) -> Any:
        return json.loads(self.payload)


class Listener:
    """Subscribes to `topics` for as long as the context lasts, and keeps all that it hears, in order.

    Shares nothing with our publisher but paho. `on_message` is called for each message, from paho's
    thread; with `keep` False it alone gets them, and memory does not grow. Raises `BrokerUnreachable`
    where it can't subscribe within `timeout_s`.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        topics: str = "#",
        username: str | None = None,
        password: str | None = None,
        tls: ssl.SSLContext | None = None,
        five: bool = True,
        on_message: Callable[[Heard], None] | None = None,
        keep: bool = True,
        timeout_s: float = 20.0,
    ) -> None:
        self._host, self._port, self._topics = host, port, topics
        self._timeout_s = timeout_s
        self._told = on_message
        self._keep = keep
        self._changed = threading.Condition()
        self._heard: list[Heard] = []
        self._subscribed = False
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2,
            protocol=MQTTProtocolVersion.MQTTv5 if five else MQTTProtocolVersion.MQTTv311,
        )
        if username is not None:
            self._client.username_pw_set(username, password)
        if tls is not None:
            self._client.tls_set_context(tls)
        self._client.on_connect = self._on_connect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_message = self._on_message

    def __enter__(self) -> Self:
        try:
            self._client.connect(self._host, self._port)
        except OSError as error:
            raise BrokerUnreachable(f"{self._host}:{self._port}: {error}; start the broker first") from error
        self._client.loop_start()
        with self._changed:
            subscribed = self._changed.wait_for(lambda: self._subscribed, self._timeout_s)
        if not subscribed:
            self.__exit__(None, None, None)
            raise BrokerUnreachable(
                f"{self._host}:{self._port}: no subscription to {self._topics} within {self._timeout_s:g} s; "
                "check its access rules"
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def heard(self, ending: str = "") -> list[Heard]:
        """What has been heard so far on topics that end like this."""
        with self._changed:
            return [message for message in self._heard if message.topic.endswith(ending)]

    def wait_for(
        self, ending: str, done: Callable[[list[Heard]], bool], timeout_s: float = 30.0
    ) -> list[Heard]:
        """Wait until `done` holds for the messages on topics that end like this, and give them.

        Raises `BrokerUnreachable` where that does not come true within `timeout_s`.
        """

        def matching() -> list[Heard]:
            return [message for message in self._heard if message.topic.endswith(ending)]

        with self._changed:
            if not self._changed.wait_for(lambda: done(matching()), timeout_s):
                raise BrokerUnreachable(
                    f"after {timeout_s:g} s: {len(matching())} messages on …{ending}, "
                    f"{len(self._heard)} in all; not what was waited for"
                )
            return matching()

    def _on_connect(self, client: paho.Client, _u: Any, _f: Any, reason: ReasonCode, _p: Any) -> None:
        if reason.value == 0:
            client.subscribe(self._topics, qos=1)

    def _on_subscribe(
        self, _c: paho.Client, _u: Any, _mid: int, reasons: list[ReasonCode], _p: Properties | None
    ) -> None:
        with self._changed:
            self._subscribed = all(reason.value < 128 for reason in reasons)
            self._changed.notify_all()

    def _on_message(self, _c: paho.Client, _u: Any, message: paho.MQTTMessage) -> None:
        heard = Heard(
            message.topic,
            bytes(message.payload),
            message.qos,
            message.retain,
            tuple(getattr(message.properties, "UserProperty", ())),
            getattr(message.properties, "MessageExpiryInterval", None),
        )
        if self._keep:
            with self._changed:
                self._heard.append(heard)
                self._changed.notify_all()
        if self._told is not None:
            self._told(heard)
