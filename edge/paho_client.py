"""A paho client for one attempt to connect: protocol, will, TLS and properties set as the rig needs them."""

from __future__ import annotations

import logging
import socket
import ssl
from typing import Literal

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from pydantic import SecretStr

from edge.config import BrokerConfig
from edge.errors import ConfigError
from edge.inbox import Inbox
from edge.outgoing import Outgoing

__all__ = ["Protocol", "connect", "cut", "new_client", "publish", "tls_context"]

_log = logging.getLogger(__name__)

Protocol = Literal["5", "3.1.1"]

_WILL_DELAY_S = 2  # a connection that comes back sooner does not flap
_SESSION_EXPIRY_S = 86_400
"""How long the broker is to know us after a loss.

A session that is gone looks like a broker that lost what it had, and the last minute of verdicts is sent
again: it must outlast a restart, engines that are built, a switch that is replaced, a night. One without
a subscription costs a broker next to nothing. (And the will's delay, or the broker sends the will at once.)
"""


def new_client(
    config: BrokerConfig,
    client_id: str,
    protocol: Protocol,
    *,
    password: SecretStr | None,
    tls: ssl.SSLContext | None,
    will: Outgoing | None,
    comes_back: bool = True,
) -> paho.Client:
    """A client that is not yet connected, and never reconnects by itself.

    `comes_back`: its session outlives a loss, and its will waits a moment for it to be taken up again.
    """
    five = protocol == "5"
    client = paho.Client(
        CallbackAPIVersion.VERSION2,
        client_id=client_id,
        clean_session=None if five else True,
        protocol=MQTTProtocolVersion.MQTTv5 if five else MQTTProtocolVersion.MQTTv311,
        reconnect_on_failure=False,
    )
    client.connect_timeout = config.connect_timeout_s
    client.max_inflight_messages_set(config.max_in_flight)
    if config.username is not None:
        client.username_pw_set(config.username, password.get_secret_value() if password else None)
    if tls is not None:
        client.tls_set_context(tls)
    if will is not None:
        properties = None
        if five and comes_back:
            properties = _properties(PacketTypes.WILLMESSAGE)
            properties.WillDelayInterval = _WILL_DELAY_S
        client.will_set(will.topic, will.payload, will.qos, will.retain, properties=properties)
    return client


def connect(
    client: paho.Client,
    config: BrokerConfig,
    protocol: Protocol,
    *,
    bare: bool = False,
    inbox: Inbox | None = None,
) -> None:
    """Open the connection and send CONNECT; raises `OSError`. The answer comes to `on_connect`.

    A `bare` one has no properties of MQTT 5. A broker that reads every CONNECT as one of 3.1.1 takes
    properties for the length of what follows and waits for ever (amqtt 0.12); without them it answers.
    One with an `inbox` starts clean, and leaves no session in which the broker would keep messages.
    """
    if protocol == "5" and inbox is not None and not bare:
        properties = _properties(PacketTypes.CONNECT)
        properties.MaximumPacketSize = inbox.max_packet_bytes
        client.connect(config.host, config.port, config.keepalive_s, clean_start=True, properties=properties)
        return
    if protocol == "5" and not bare:
        properties = _properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = _SESSION_EXPIRY_S
        # A clean start would end the session that the last connection left, and with that send the will of
        # a rig that is just coming back.
        client.connect(config.host, config.port, config.keepalive_s, clean_start=False, properties=properties)
    elif protocol == "5":
        client.connect(config.host, config.port, config.keepalive_s, clean_start=False)
    else:
        client.connect(config.host, config.port, config.keepalive_s)


def publish(client: paho.Client, message: Outgoing, protocol: Protocol) -> int:
    """Hand `message` to paho; gives the packet id under which `on_publish` will name it."""
    properties = _publish_properties(message) if protocol == "5" else None
    return client.publish(
        message.topic, message.payload, message.qos, message.retain, properties=properties
    ).mid


def _properties(packet_type: int) -> Properties:
    return Properties(packet_type)  # type: ignore[no-untyped-call]  # paho leaves its constructor bare


def _publish_properties(message: Outgoing) -> Properties:
    properties = _properties(PacketTypes.PUBLISH)
    properties.ContentType = message.content_type
    if message.content_type == "application/json":
        properties.PayloadFormatIndicator = 1
    if message.expiry_s is not None:
        properties.MessageExpiryInterval = message.expiry_s
    if message.user_properties:
        properties.UserProperty = list(message.user_properties)
    if message.correlation is not None:
        properties.CorrelationData = message.correlation
    return properties


def cut(client: paho.Client) -> None:
    """Close the connection under paho's feet, without a DISCONNECT."""
    sock = client.socket()
    if not isinstance(sock, socket.socket):
        return  # it is closed already
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError as error:
        _log.debug("the socket was closed already (%s)", error)


class _TidySslSocket(ssl.SSLSocket):
    """Closes itself where the handshake fails: paho forgets it, and it would stay open until collected."""

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except OSError:
            self.close()
            raise


def tls_context(config: BrokerConfig) -> ssl.SSLContext | None:
    """Raises `ConfigError` where a certificate can't be loaded."""
    if config.tls is None:
        return None
    try:
        context = ssl.create_default_context(
            cafile=str(config.tls.ca_file) if config.tls.ca_file is not None else None
        )
        if config.tls.cert_file is not None and config.tls.key_file is not None:
            context.load_cert_chain(config.tls.cert_file, config.tls.key_file)
        context.sslsocket_class = _TidySslSocket
    except OSError as error:
        files = [str(f) for f in (config.tls.ca_file, config.tls.cert_file, config.tls.key_file) if f]
        raise ConfigError(
            f"broker.tls: {', '.join(files)}: {error}; PEM files that belong together are needed"
        ) from error
    return context
