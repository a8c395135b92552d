"""A cable that can be pulled."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

from typing_extensions import Self

__all__ = ["CuttableProxy"]


class CuttableProxy:
    """A TCP relay to a broker whose connections can be cut, or go silent, while both ends live.

    `sent_bytes` counts what clients have sent through it.
    """

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self._to = port
        self._server = socket.create_server((host, 0))
        self.port: int = self._server.getsockname()[1]
        self._lock = threading.Lock()
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._threads: set[threading.Thread] = set()
        self._silent = False
        self.sent_bytes = 0
        self._acceptor = threading.Thread(target=self._accept, name="proxy")
        self._acceptor.start()

    def _accept(self) -> None:
        while True:
            try:
                ours, _ = self._server.accept()
            except OSError:
                return
            try:
                theirs = socket.create_connection(("127.0.0.1", self._to))
            except OSError:  # the broker is away: whoever came is sent away, too
                ours.close()
                continue
            thread = threading.Thread(target=self._serve, args=(ours, theirs), name="proxy-pair")
            with self._lock:
                self._pairs.add((ours, theirs))
                self._threads.add(thread)
            thread.start()

    def _serve(self, ours: socket.socket, theirs: socket.socket) -> None:
        back = threading.Thread(target=self._relay, args=(theirs, ours), name="proxy-back")
        back.start()
        self._relay(ours, theirs, count=True)
        back.join()
        with self._lock:
            self._pairs.discard((ours, theirs))
            self._threads.discard(threading.current_thread())
            ours.close()
            theirs.close()

    def _relay(self, source: socket.socket, sink: socket.socket, *, count: bool = False) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if count:
                    with self._lock:
                        self.sent_bytes += len(data)
                if not self._silent:
                    sink.sendall(data)
        for sock in (source, sink):
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def cut(self) -> None:
        """End all connections of now as a broken cable does, but at once for both ends."""
        with self._lock:
            for pair in self._pairs:
                for sock in pair:
                    with suppress(OSError):
                        sock.shutdown(socket.SHUT_RDWR)

    def swallow(self) -> None:
        """Let nothing through until `mend`, both ways, while all connections stay: they are half open."""
        self._silent = True

    def mend(self) -> None:
        """Let new connections through; those that lost something are cut, for no TCP goes on after that."""
        self.cut()
        self._silent = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._acceptor.join()
        self.cut()
        with self._lock:
            threads = tuple(self._threads)
        for thread in threads:
            thread.join()
