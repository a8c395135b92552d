"""A door to the rig beside the broker, as a PLC has one: triggers go in and answers out as datagrams."""

from __future__ import annotations

import json
import socket
import threading
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from typing_extensions import Self

from edge.daemon import Daemon
from edge.errors import EdgeError

__all__ = ["Answered", "Door", "Plc"]

_MAX_BYTES = 4096


class Door:
    """Fires a trigger for each datagram, which is the part's name, and answers once the firing is sure."""

    def __init__(self, address: Path) -> None:
        self._address = address

    def open(self, daemon: Daemon) -> None:
        """Listen from now on, until the process ends."""
        self._address.unlink(missing_ok=True)  # of the process before
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        sock.bind(str(self._address))
        threading.Thread(target=self._listen, args=(daemon, sock), name="door", daemon=True).start()

    def _listen(self, daemon: Daemon, sock: socket.socket) -> None:
        while True:
            data, sender = sock.recvfrom(_MAX_BYTES)
            part = data.decode()
            try:
                firing = daemon.fire(part)
            except EdgeError:
                _answer(sock, sender, part, None)
            else:
                firing.taken.add_done_callback(partial(_settled, sock, sender, part, firing.id))


def _settled(sock: socket.socket, sender: str, part: str, result_id: str, taken: Future[None]) -> None:
    _answer(sock, sender, part, result_id if taken.exception() is None else None)


def _answer(sock: socket.socket, sender: str, part: str, result_id: str | None) -> None:
    with suppress(OSError):  # whoever asked may be gone
        sock.sendto(json.dumps([part, result_id]).encode(), sender)


@dataclass(frozen=True, slots=True)
class Answered:
    """What became of a trigger: the id that its verdict will have, None where it was refused."""

    part: str
    result_id: str | None


class Plc:
    """Sends triggers through the door, each once, and hears which were taken."""

    def __init__(self, door: Path, own: Path) -> None:
        self._door = str(door)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(own))

    def fire(self, part: str) -> bool:
        """Whether it could be sent: nobody hears it while the rig is away."""
        try:
            self._socket.sendto(part.encode(), socket.MSG_DONTWAIT, self._door)
        except OSError:
            return False
        return True

    def hear(self, timeout_s: float) -> Answered | None:
        """The next answer; None where there is none in that time."""
        self._socket.settimeout(timeout_s)
        try:
            part, result_id = json.loads(self._socket.recv(_MAX_BYTES))
        except TimeoutError:
            return None
        return Answered(part, result_id)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
