"""A broker of our own for the demo and the tests: a child process on 127.0.0.1, gone when we are."""

from __future__ import annotations

import base64
import hashlib
import logging
import os
import pwd
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Literal

import yaml
from typing_extensions import Self

from edge.config import BrokerConfig
from edge.errors import BrokerUnreachable

__all__ = ["BrokerKind", "LocalBroker", "find_mosquitto", "free_port"]

_log = logging.getLogger(__name__)

BrokerKind = Literal["auto", "mosquitto", "amqtt"]

_HOST = "127.0.0.1"
_ATTEMPTS = 5
_STOP_TIMEOUT_S = 5.0
_PBKDF2_ROUNDS = 101  # what mosquitto_passwd of 2.0 uses


def find_mosquitto() -> Path | None:
    """The mosquitto program; Debian puts it into /usr/sbin, which is not on everybody's PATH."""
    found = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
    return Path(found) if found else None


class LocalBroker:
    """A broker on 127.0.0.1 and a free port, for as long as the context lasts.

    `kind` `auto` takes mosquitto where it is installed, else amqtt, which speaks 3.1.1 alone. With
    `username` and `password`, or `users` with theirs, nobody else gets in (mosquitto only). With
    `persistence_dir` retained and queued messages outlive the broker. `extra` are lines for mosquitto.conf.
    `port` fixes the port, so that a broker can come back where it was.

    The child dies with the thread that started it: start it from one that stays. Raises
    `BrokerUnreachable` where no broker could be started.
    """

    def __init__(
        self,
        kind: BrokerKind = "auto",
        *,
        username: str | None = None,
        password: str | None = None,
        users: Mapping[str, str] | None = None,
        persistence_dir: Path | None = None,
        extra: Sequence[str] = (),
        port: int | None = None,
        start_timeout_s: float = 20.0,
    ) -> None:
        self._mosquitto = find_mosquitto() if kind in ("auto", "mosquitto") else None
        if kind == "mosquitto" and self._mosquitto is None:
            raise BrokerUnreachable("mosquitto is not installed; `apt-get install mosquitto`, or use amqtt")
        if self._mosquitto is None and (username or users or persistence_dir or extra):
            raise BrokerUnreachable("a password, persistence and extra settings need mosquitto; install it")
        if (username is None) != (password is None):
            raise BrokerUnreachable("username and password go together; give both or neither")
        self.kind: Literal["mosquitto", "amqtt"] = "amqtt" if self._mosquitto is None else "mosquitto"
        self._passwords = dict(users or {})
        if username is not None and password is not None:
            self._passwords[username] = password
        self._persistence_dir = persistence_dir
        self._extra = tuple(extra)
        self._fixed_port = port
        self._start_timeout_s = start_timeout_s
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self.host = _HOST
        self.port = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """Of the broker's process; raises `BrokerUnreachable` where it does not run."""
        if self._process is None:
            raise BrokerUnreachable("the broker has not been started")
        return self._process.pid

    def client_config(self) -> BrokerConfig:
        """How to reach it, without a password."""
        return BrokerConfig(host=self.host, port=self.port)

    def start(self) -> None:
        """Start the broker and wait until it takes a connection."""
        self._folder = tempfile.TemporaryDirectory(prefix="edge-broker-")
        said = ""
        try:
            # Between our looking for a free port and the broker's taking it somebody else may: try again.
            for _ in range(1 if self._fixed_port else _ATTEMPTS):
                self.port = self._fixed_port or free_port()
                said = self._try(Path(self._folder.name))
                if not said:
                    _log.info("%s listens on %s:%d", self.kind, self.host, self.port)
                    return
        except BaseException:
            self.stop()
            raise
        self.stop()
        raise BrokerUnreachable(f"{self.kind} did not start on {self.host}:{self.port}; it said: {said}")

    def stop(self) -> None:
        """End the broker, by force where it does not go by itself; harmless when called twice."""
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            try:
                process.wait(_STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def kill(self) -> None:
        """End the broker as a power cut would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self.stop()

    def _try(self, folder: Path) -> str:
        """Start once; what the broker said where that failed, else ''."""
        log = folder / "broker.log"
        command = self._mosquitto_command(folder) if self.kind == "mosquitto" else self._amqtt_command(folder)
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                # A child of ours that ends up with another parent has been orphaned: it must go as well.
                [sys.executable, "-m", "edge.child", str(os.getpid()), *command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        deadline = time.monotonic() + self._start_timeout_s
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                return _tail(log)
            if _accepts(self.host, self.port) and self._process.poll() is None:
                return ""
            time.sleep(0.02)
        self._process.kill()
        self._process.wait()
        return f"nothing within {self._start_timeout_s:g} s; {_tail(log)}"

    def _mosquitto_command(self, folder: Path) -> list[str]:
        lines = [
            f"listener {self.port} {self.host}",
            # Started as root, mosquitto would become another user, who can't read our folder.
            f"user {pwd.getpwuid(os.getuid()).pw_name}",
            f"allow_anonymous {'false' if self._passwords else 'true'}",
            "log_dest stderr",
            "log_type error",
            "log_type warning",
            "log_type notice",
            "connection_messages false",
        ]
        if self._passwords:
            passwords = folder / "passwords"
            passwords.touch(mode=0o600)
            entries = [f"{name}:{_mosquitto_hash(word)}\n" for name, word in self._passwords.items()]
            passwords.write_text("".join(entries), encoding="utf-8")
            lines.append(f"password_file {passwords}")
        if self._persistence_dir is not None:
            # Without autosave_on_changes a power cut takes acknowledged messages along.
            lines += [
                "persistence true",
                f"persistence_location {self._persistence_dir}/",
                "autosave_interval 1",
                "autosave_on_changes true",
            ]
        config = folder / "mosquitto.conf"
        config.write_text("\n".join([*lines, *self._extra]) + "\n", encoding="utf-8")
        return [str(self._mosquitto), "-c", str(config)]

    def _amqtt_command(self, folder: Path) -> list[str]:
        # amqtt's own default listens on every interface and lets everybody in.
        settings = {
            "listeners": {"default": {"type": "tcp", "bind": f"{self.host}:{self.port}"}},
            "plugins": {
                "amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True},
            },
        }
        config = folder / "amqtt.yaml"
        config.write_text(yaml.safe_dump(settings), encoding="utf-8")
        return [sys.executable, "-m", "amqtt.scripts.broker_script", "-c", str(config)]


def _mosquitto_hash(password: str) -> str:
    salt = secrets.token_bytes(12)
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, _PBKDF2_ROUNDS)
    return f"$7${_PBKDF2_ROUNDS}${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}"


def free_port() -> int:
    """A port of 127.0.0.1 that is free now; somebody else may take it before it is used."""
    with socket.socket() as sock:
        sock.bind((_HOST, 0))
        port: int = sock.getsockname()[1]
        return port


def _accepts(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=0.5):
            return True
    except OSError:
        return False


def _tail(log: Path, characters: int = 500) -> str:
    return log.read_text(encoding="utf-8", errors="replace")[-characters:].strip() or "nothing"
