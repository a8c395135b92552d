"""A plant's broker as docs/examples/mosquitto has it, but for paths and port, and who knocks at its door."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import paho.mqtt.client as paho
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from typing_extensions import Self

from edge.broker import find_mosquitto
from edge.config import BrokerConfig
from edge.testing import Heard, Listener
from edge.topics import RigIdentity

__all__ = ["EXAMPLE", "Guest", "Keys", "Plant", "name_of"]

EXAMPLE = Path(__file__).parents[1] / "docs" / "examples" / "mosquitto"
HOST = "127.0.0.1"
PATIENCE_S = 60.0


def name_of(rig: RigIdentity) -> str:
    """What the rig is called at the broker: its root without `/inspection`."""
    return rig.root.rpartition("/")[0]


class Keys:
    """Certificates of one authority, made by the script that ships."""

    def __init__(self, folder: Path, authority: str = "acme MQTT") -> None:
        self.folder = folder
        self.make("ca", authority)

    def make(self, kind: str, *names: str, days: int = 2) -> None:
        subprocess.run(
            [str(EXAMPLE / "make-certificates.sh"), str(self.folder), kind, *names],
            check=True,
            capture_output=True,
            env={**os.environ, "DAYS": str(days)},
        )

    @property
    def ca(self) -> Path:
        return self.folder / "ca.pem"

    def of(self, name: str) -> tuple[Path, Path]:
        """Certificate and key of one client; made where there are none yet."""
        file = name.replace("/", "_")
        if not (self.folder / f"{file}.pem").exists():
            self.make("client", name)
        return self.folder / f"{file}.pem", self.folder / f"{file}.key"

    def many(self, names: Iterable[str]) -> None:
        """The same without openssl, which takes its time for each."""
        authority = x509.load_pem_x509_certificate(self.ca.read_bytes())
        signer: Any = serialization.load_pem_private_key((self.folder / "ca.key").read_bytes(), None)
        for name in names:
            key = ec.generate_private_key(ec.SECP256R1())
            subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
            certificate = x509.CertificateBuilder(
                authority.subject,
                subject,
                key.public_key(),
                x509.random_serial_number(),
                authority.not_valid_before_utc,
                authority.not_valid_after_utc,
            ).sign(signer, hashes.SHA256())
            file = self.folder / name.replace("/", "_")
            pem = serialization.Encoding.PEM
            file.with_name(f"{file.name}.pem").write_bytes(certificate.public_bytes(pem))
            file.with_name(f"{file.name}.key").write_bytes(
                key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
            )


class Plant:
    """The broker of docs/examples/mosquitto, on 127.0.0.1 and a free port, in a folder of its own.

    `changes` are pairs of lines, what stands in mosquitto.conf and what is to stand there instead.
    """

    def __init__(self, folder: Path, keys: Keys, *, changes: Sequence[tuple[str, str]] = ()) -> None:
        self.keys = keys
        self.folder = folder
        self._changes = changes
        self._port = _free_port()
        self.process: subprocess.Popen[bytes] | None = None
        (folder / "data").mkdir(parents=True, exist_ok=True)
        shutil.copy(EXAMPLE / "acl", folder / "acl")
        (folder / "acl").chmod(0o600)
        if not (keys.folder / "broker.pem").exists():
            keys.make("broker", "localhost", HOST)

    @property
    def port(self) -> int:
        return self._port

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def start(self, keys: Keys | None = None) -> None:
        """Start it, and wait until it listens; with other `keys` it shows the certificate of another."""
        config = self.folder / "mosquitto.conf"
        config.write_text(self._config(keys or self.keys), encoding="utf-8")
        with (self.folder / "broker.log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "edge.child",
                    str(os.getpid()),
                    str(find_mosquitto()),
                    "-c",
                    str(config),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        deadline = time.monotonic() + PATIENCE_S
        while not self._listens():
            assert self.process.poll() is None, (self.folder / "broker.log").read_text(encoding="utf-8")
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def reload(self) -> None:
        """Have it read its access rules again."""
        assert self.process is not None
        self.process.send_signal(signal.SIGHUP)

    def kill(self) -> None:
        """As a power cut would."""
        process, self.process = self.process, None
        if process is not None:
            process.kill()
            process.wait()

    def _listens(self) -> bool:
        try:
            with socket.create_connection((HOST, self._port), timeout=0.5):
                return True
        except OSError:
            return False

    def _config(self, keys: Keys) -> str:
        text = (EXAMPLE / "mosquitto.conf").read_text(encoding="utf-8")
        for old, new in (
            ("listener 8883\n", f"listener {self._port} {HOST}\n"),
            ("/etc/mosquitto/certs/", f"{keys.folder}/"),
            ("/etc/mosquitto/", f"{self.folder}/"),
            ("/var/lib/mosquitto/", f"{self.folder}/data/"),
            *self._changes,
        ):
            assert old in text, f"the example has no {old!r} any more"
            text = text.replace(old, new)
        # Started as root, mosquitto would become another user, who can't read our folder.
        return f"{text}user {pwd.getpwuid(os.getuid()).pw_name}\n"

    def config(self, name: str | None, keys: Keys | None = None, **more: object) -> BrokerConfig:
        """How a rig with the certificate of `name` reaches it; without one for None."""
        tls: dict[str, object] = {"ca_file": self.keys.ca}
        if name is not None:
            tls["cert_file"], tls["key_file"] = (keys or self.keys).of(name)
        return BrokerConfig.model_validate({"host": HOST, "port": self._port, "tls": tls, **more})

    def context(self, name: str | None) -> ssl.SSLContext:
        """The same for a client of paho."""
        context = ssl.create_default_context(cafile=str(self.keys.ca))
        if name is not None:
            context.load_cert_chain(*self.keys.of(name))
        return context

    def listener(self, name: str, topics: str = "#") -> Listener:
        return Listener(HOST, self._port, topics=topics, tls=self.context(name))


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind((HOST, 0))
        port: int = sock.getsockname()[1]
        return port


class Guest:
    """A client of MQTT 5 that does what it likes, and says what the broker answered."""

    def __init__(
        self, plant: Plant, name: str, *, client_id: str = "", session_s: int = 0, will: str | None = None
    ) -> None:
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id=client_id, protocol=MQTTProtocolVersion.MQTTv5
        )
        self._client.tls_set_context(plant.context(name))
        if will is not None:
            self._client.will_set(will, b"will", 1, retain=True)
        self._changed = threading.Condition()
        self._published: dict[int, ReasonCode] = {}
        self._connected = False
        self._lost = False
        self.subscribed: list[ReasonCode] = []
        self.heard: list[Heard] = []
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_publish = self._on_publish
        self._client.on_subscribe = self._on_subscribe
        self._client.on_message = self._on_message
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho leaves it bare
        properties.SessionExpiryInterval = session_s
        self._client.connect(HOST, plant.port, clean_start=not session_s, properties=properties)
        self._client.loop_start()
        self._wait(lambda: self._connected)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> int:
        """The broker's reason; 0 and 16 (nobody listens) are success."""
        mid = self._client.publish(topic, payload, 1, retain).mid
        self._wait(lambda: mid in self._published)
        return self._published[mid].value

    def throw(self, topic: str, payload: bytes) -> None:
        """Publish what the broker will not have, and wait until it has ended the connection."""
        self._client.publish(topic, payload, 1)
        self._wait(lambda: self._lost)

    def vanish(self) -> None:
        """Go without a word: the broker is to publish the will."""
        self._client.on_disconnect = None
        sock = self._client.socket()
        assert isinstance(sock, ssl.SSLSocket)
        sock.shutdown(socket.SHUT_RDWR)
        self._client.loop_stop()

    def subscribe(self, *topics: str) -> list[int]:
        self._client.subscribe([(topic, 1) for topic in topics])
        self._wait(lambda: len(self.subscribed) >= len(topics))
        return [reason.value for reason in self.subscribed]

    def wait_for(self, count: int) -> list[Heard]:
        self._wait(lambda: len(self.heard) >= count)
        return list(self.heard)

    def _wait(self, done: Any) -> None:
        with self._changed:
            assert self._changed.wait_for(done, PATIENCE_S), "not what was waited for"

    def _on_connect(self, _c: Any, _u: Any, _f: Any, reason: ReasonCode, _p: Any) -> None:
        with self._changed:
            self._connected = reason.value == 0
            self._changed.notify_all()

    def _on_disconnect(self, _c: Any, _u: Any, _f: Any, _reason: Any, _p: Any) -> None:
        with self._changed:
            self._lost = True
            self._changed.notify_all()

    def _on_publish(self, _c: Any, _u: Any, mid: int, reason: ReasonCode, _p: Any) -> None:
        with self._changed:
            self._published[mid] = reason
            self._changed.notify_all()

    def _on_subscribe(self, _c: Any, _u: Any, _mid: int, reasons: list[ReasonCode], _p: Any) -> None:
        with self._changed:
            self.subscribed += reasons
            self._changed.notify_all()

    def _on_message(self, _c: Any, _u: Any, message: paho.MQTTMessage) -> None:
        with self._changed:
            self.heard.append(Heard(message.topic, bytes(message.payload), message.qos, message.retain))
            self._changed.notify_all()
