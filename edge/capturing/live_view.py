"""The live picture in a browser on this machine: a few fixed addresses, GET only."""

from __future__ import annotations

import json
import logging
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

from typing_extensions import Self

from edge.capturing.events import Event, Summary
from edge.capturing.page import PAGE, PAGE_POLICY
from edge.capturing.panel import sentence
from edge.capturing.picture import live_picture
from edge.capturing.showing import Shown
from edge.errors import ConfigError
from edge.heatmap import encode_jpeg

__all__ = ["LiveView"]

_log = logging.getLogger(__name__)

_HOST = "127.0.0.1"
_NAMES = ("127.0.0.1", "localhost", "[::1]")
_MAX_REQUESTS = 8
_TIMEOUT_S = 5.0
_JPEG_QUALITY = 80


class LiveView:
    """Serves what `show` was last given on 127.0.0.1, as long as the context lasts; see `url`.

    Only this machine reaches it (from elsewhere through `ssh -L`), and only under a name of this machine: a
    page of the web can't make a browser read it. A picture is encoded when somebody asks for it. Raises
    `ConfigError` where the port is taken.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._changed = threading.Lock()
        self._shown: Shown | None = None
        self._number = 0
        self._jpeg: tuple[int, bytes] | None = None
        self._last = ""
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """The address for a browser; with port 0 the one that was free."""
        port = self._port if self._server is None else self._server.server_address[1]
        return f"http://{_HOST}:{port}/"

    def __enter__(self) -> Self:
        try:
            self._server = _Server((_HOST, self._port), self)
        except OSError as error:
            raise ConfigError(
                f"--view {self._port}: can't be listened on ({error.strerror}); name another port, "
                "or 0 for any"
            ) from error
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.1,), name="live-view", daemon=True
        )
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()
        if self._thread is not None:
            self._thread.join()

    def show(self, shown: Shown) -> None:
        """The present moment; from any thread."""
        with self._changed:
            self._shown = shown
            self._number += 1

    def tell(self, event: Event) -> None:
        """What happened last."""
        if not isinstance(event, Summary):
            with self._changed:
                self._last = sentence(event)

    def jpeg(self) -> bytes | None:
        """The picture now; None before the first frame."""
        with self._changed:
            shown, number, made = self._shown, self._number, self._jpeg
        if shown is None or shown.seen is None:
            return None
        if made is not None and made[0] == number:
            return made[1]
        data = encode_jpeg(live_picture(shown.seen), _JPEG_QUALITY)
        with self._changed:
            self._jpeg = (number, data)
        return data

    def status(self) -> bytes:
        """The figures beside the picture, as JSON."""
        with self._changed:
            shown, last = self._shown, self._last
        status: dict[str, object] = {"figures": [], "worries": [], "prompt": "", "trouble": "", "last": last}
        if shown is not None:
            worries = shown.seen.worries if shown.seen is not None else ()
            status |= {
                "figures": shown.lines,
                "worries": [worry.text for worry in worries],
                "prompt": shown.prompt,
                "trouble": shown.trouble,
            }
        return json.dumps(status, ensure_ascii=False).encode()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], view: LiveView) -> None:
        self.view = view
        self.free = threading.BoundedSemaphore(_MAX_REQUESTS)
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """No more threads than a few browsers need; whoever comes then has to come again."""
        if not self.free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            self.free.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that goes away in the middle is none of our troubles."""
        _log.debug("live view: a request of %s failed", client_address, exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = _TIMEOUT_S  # of the socket
    server_version = "edge-capture"
    sys_version = ""
    error_message_format = "%(code)d %(message)s\n"
    error_content_type = "text/plain; charset=utf-8"

    def do_GET(self) -> None:
        host = self.headers.get("Host", "")
        if host.rpartition(":")[0] not in _NAMES and host not in _NAMES:
            self.send_error(HTTPStatus.MISDIRECTED_REQUEST)
            return
        path = self.path.partition("?")[0]
        if path == "/":
            self._answer("text/html; charset=utf-8", PAGE)
        elif path == "/status.json":
            self._answer("application/json", self.server.view.status())
        elif path == "/live.jpg":
            jpeg = self.server.view.jpeg()
            if jpeg is None:
                self.send_error(HTTPStatus.SERVICE_UNAVAILABLE, "no frame yet")
            else:
                self._answer("image/jpeg", jpeg)
        else:
            self.send_error(HTTPStatus.NOT_FOUND)

    def _refuse(self) -> None:
        self.send_error(HTTPStatus.METHOD_NOT_ALLOWED)

    do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = do_TRACE = do_CONNECT = _refuse  # noqa: N815

    def _answer(self, kind: str, body: bytes) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def end_headers(self) -> None:
        self.send_header("Cache-Control", "no-store")
        self.send_header("Content-Security-Policy", PAGE_POLICY)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        super().end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        _log.debug("live view: " + format, *args)
