"""HTTP/1.1 over asyncio and h11, with every length, number and time bounded.

Whoever connects is a stranger: one that sends slowly, reads slowly, or sends too much is cut off, and costs
the inspection nothing.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import h11

__all__ = ["MAX_BODY_BYTES", "MAX_CONNECTIONS", "HttpServer", "Request", "Response", "Send", "plain"]

_log = logging.getLogger(__name__)

MAX_BODY_BYTES = 16 * 1024
MAX_CONNECTIONS = 64
_BACKLOG = 256
_LOOK_S = 0.05
_MAX_HEADER_BYTES = 16 * 1024
_READ_BYTES = 16 * 1024
_WRITE_BYTES = 32 * 1024
_SEND_BUFFER_BYTES = 128 * 1024  # of the kernel's, for each connection

Send = Callable[[bytes], Awaitable[None]]
"""Sends a piece of an answer that has no length; raises `ConnectionError` where nobody takes it any more."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request, whole; names of headers in small letters, `host` always there."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes
    peer: str


@dataclass(frozen=True, slots=True)
class Response:
    """An answer: `body`, or `stream`, which sends until it returns."""

    status: HTTPStatus
    content_type: str = "text/plain; charset=utf-8"
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    stream: Callable[[Send], Awaitable[None]] | None = None


def plain(status: HTTPStatus, text: str = "", headers: tuple[tuple[str, str], ...] = ()) -> Response:
    """An answer for people, in one line."""
    return Response(status, body=f"{status.value} {text or status.phrase}\n".encode(), headers=headers)


Answer = Callable[[Request], Awaitable[Response]]


@dataclass(slots=True)
class _Connection:
    """`at_work` since a request came; `stalled` while the other side takes nothing."""

    task: asyncio.Task[None]
    writer: asyncio.StreamWriter
    at_work: bool = False
    stalled: bool = False


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds: for a request to come whole, between two of them, and for a piece of an answer to be taken."""

    request_s: float = 10.0
    idle_s: float = 60.0
    write_s: float = 10.0


@dataclass(slots=True)
class HttpServer:
    """Answers requests on one listening socket, on the loop that runs `serve`."""

    answer: Answer
    always: tuple[tuple[str, str], ...] = ()
    patience: Patience = field(default_factory=Patience)
    _connections: dict[int, _Connection] = field(default_factory=dict)

    async def listen(self, host: str, port: int) -> asyncio.Server:
        """Begin; raises `OSError` where it can't be listened on."""
        return await asyncio.start_server(
            self._connected, host, port, limit=_READ_BYTES, backlog=_BACKLOG, reuse_address=True
        )

    async def close(self) -> None:
        """Cut off whoever is connected."""
        while tasks := [connection.task for connection in self._connections.values()]:
            for task in tasks:
                task.cancel()
            # Again and again: before Python 3.12 wait_for may swallow it where its time is up just then.
            await asyncio.wait(tasks, timeout=_LOOK_S)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None or not self._room():
            writer.transport.abort()
            return
        connection = _Connection(task, writer)
        self._connections[id(connection)] = connection
        _bound_buffers(writer)
        try:
            await self._serve(reader, connection)
        except (ConnectionError, asyncio.TimeoutError, asyncio.IncompleteReadError, h11.ProtocolError) as why:
            _log.debug("a connection ended: %r", why)
        except asyncio.CancelledError:
            _log.debug("a connection was cut")
        finally:
            del self._connections[id(connection)]
            writer.transport.abort()

    def _room(self) -> bool:
        """Whether one more may stay: who asks for nothing, or else takes nothing, makes room for it."""
        if len(self._connections) < MAX_CONNECTIONS:
            return True
        held = list(self._connections.values())  # the oldest first
        idle = [one for one in held if not one.at_work] or [one for one in held if one.stalled]
        if not idle:
            return False
        idle[0].task.cancel()
        return len(held) < 2 * MAX_CONNECTIONS  # the cut one is gone a moment later

    async def _serve(self, reader: asyncio.StreamReader, connection: _Connection) -> None:
        wire = h11.Connection(h11.SERVER, max_incomplete_event_size=_MAX_HEADER_BYTES)
        wait_s = self.patience.request_s
        while True:
            answered = await self._one(wire, reader, connection, wait_s)
            connection.at_work = False
            if not answered or wire.our_state is not h11.DONE or wire.their_state is not h11.DONE:
                await self._finish(connection.writer)
                return
            wire.start_next_cycle()
            wait_s = self.patience.idle_s

    async def _one(
        self, wire: h11.Connection, reader: asyncio.StreamReader, connection: _Connection, wait_s: float
    ) -> bool:
        """One request and its answer; False where the other side has gone."""
        try:
            head = await asyncio.wait_for(_next(wire, reader), wait_s)
            if not isinstance(head, h11.Request):
                return False
            connection.at_work = True
            body = await asyncio.wait_for(_body(wire, reader, head), self.patience.request_s)
        except h11.RemoteProtocolError as error:
            if wire.our_state not in {h11.IDLE, h11.SEND_RESPONSE}:
                return False
            await self._send(wire, connection, plain(_status_of(error)), close=True)
            return False
        if body is None:
            await self._send(wire, connection, plain(HTTPStatus.REQUEST_ENTITY_TOO_LARGE), close=True)
            return False
        peer = connection.writer.get_extra_info("peername") or ("",)
        request = _request(head, body, str(peer[0]))
        await self._send(wire, connection, await self.answer(request), close=False)
        return True

    async def _send(
        self, wire: h11.Connection, connection: _Connection, response: Response, *, close: bool
    ) -> None:
        headers = [("Content-Type", response.content_type), *response.headers, *self.always]
        if response.stream is None and response.status is not HTTPStatus.NOT_MODIFIED:
            headers.append(("Content-Length", str(len(response.body))))
        if close or response.stream is not None:
            headers.append(("Connection", "close"))
        head = h11.Response(
            status_code=response.status.value, headers=headers, reason=response.status.phrase.encode()
        )
        await self._write(connection, wire.send(head))
        if response.stream is not None:
            await response.stream(lambda data: self._write(connection, wire.send(h11.Data(data=data))))
        elif response.body:
            await self._write(connection, wire.send(h11.Data(data=response.body)))
        await self._write(connection, wire.send(h11.EndOfMessage()))

    async def _write(self, connection: _Connection, data: bytes | None) -> None:
        view = memoryview(data or b"")
        for start in range(0, len(view), _WRITE_BYTES):
            connection.writer.write(view[start : start + _WRITE_BYTES])
            connection.stalled = True
            await asyncio.wait_for(connection.writer.drain(), self.patience.write_s)
            connection.stalled = False

    async def _finish(self, writer: asyncio.StreamWriter) -> None:
        """What was written goes out before the connection is closed."""
        writer.close()
        await asyncio.wait_for(writer.wait_closed(), self.patience.write_s)


def _bound_buffers(writer: asyncio.StreamWriter) -> None:
    writer.transport.set_write_buffer_limits(high=_WRITE_BYTES)
    raw = writer.get_extra_info("socket")
    if raw is not None:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


async def _next(wire: h11.Connection, reader: asyncio.StreamReader) -> Any:
    while (event := wire.next_event()) is h11.NEED_DATA:
        wire.receive_data(await reader.read(_READ_BYTES))
    return event


async def _body(wire: h11.Connection, reader: asyncio.StreamReader, head: h11.Request) -> bytes | None:
    """The body; None where it is too large, of which no more is read than that."""
    said = next((value for name, value in head.headers if name == b"content-length"), b"0")
    if int(said) > MAX_BODY_BYTES:
        return None
    body = bytearray()
    while isinstance(event := await _next(wire, reader), h11.Data):
        body += event.data
        if len(body) > MAX_BODY_BYTES:
            return None
    return bytes(body)


def _request(head: h11.Request, body: bytes, peer: str) -> Request:
    target = head.target.decode("latin-1")
    path, _, query = target.partition("?")
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in head.headers}
    return Request(head.method.decode("latin-1"), path, query, {"host": "", **headers}, body, peer)


def _status_of(error: h11.RemoteProtocolError) -> HTTPStatus:
    try:
        return HTTPStatus(error.error_status_hint)
    except ValueError:
        return HTTPStatus.BAD_REQUEST
