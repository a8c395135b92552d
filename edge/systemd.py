"""What systemd wants to hear from a `Type=notify` service (sd_notify(3)): a datagram to a socket."""

from __future__ import annotations

import logging
import os
import socket

__all__ = ["Notifier"]

_log = logging.getLogger(__name__)


class Notifier:
    """Tells systemd how the daemon is; says nothing where systemd did not start it (no NOTIFY_SOCKET)."""

    def __init__(self, address: str | None = None) -> None:
        given = address if address is not None else os.environ.get("NOTIFY_SOCKET")
        # A name that begins with '@' lies in the abstract namespace, whose names begin with NUL.
        self._address = "\0" + given[1:] if given and given.startswith("@") else given

    def ready(self) -> None:
        """The daemon is up: what waits for it may start."""
        self._send("READY=1")

    def watchdog(self) -> None:
        """The inspection loop goes round; without this for WatchdogSec systemd restarts the daemon."""
        self._send("WATCHDOG=1")

    def status(self, text: str) -> None:
        """One line for `systemctl status`."""
        self._send("STATUS=" + text.replace("\n", " "))

    def extend_timeout(self, time_s: float) -> None:
        """The start takes longer than TimeoutStartSec: wait so much longer for the next word, from now on."""
        self._send(f"EXTEND_TIMEOUT_USEC={round(time_s * 1e6)}")

    def stopping(self) -> None:
        """The daemon is on its way out."""
        self._send("STOPPING=1")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            try:
                sock.connect(self._address)
                sock.sendall(message.encode())
            except OSError as error:
                _log.warning("systemd could not be told %s: %s", message, error)
