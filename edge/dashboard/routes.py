"""Which addresses there are, and what each gives; there are no others."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import cache
from http import HTTPStatus
from pathlib import Path
from urllib.parse import parse_qs

from edge.dashboard.access import Access
from edge.dashboard.commands import Commands
from edge.dashboard.http import Request, Response, plain
from edge.dashboard.hub import Hub
from edge.dashboard.past import Past
from edge.dashboard.stream import Streams
from edge.errors import OutboxError
from edge.messages import PictureKind

__all__ = ["ALWAYS", "ASSETS", "Routes"]

_log = logging.getLogger(__name__)

ASSETS = Path(__file__).parent / "assets"

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}

ALWAYS = (
    (
        "Content-Security-Policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    ),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "same-origin"),  # without any, a form says no origin
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Permissions-Policy", "camera=(), microphone=(), geolocation=(), usb=()"),
)
"""With every answer: nothing runs and nothing is fetched but what stands here, and nobody frames it."""

_NO_STORE = (("Cache-Control", "no-store"),)
_KEPT = (("Cache-Control", "private, max-age=86400, immutable"),)  # a picture never changes
_BLOB = re.compile(r"/blob/([0-9A-Za-z-]{1,64})/(rgb|heatmap|map)")
_KINDS = {"rgb": PictureKind.IMAGE, "heatmap": PictureKind.HEATMAP, "map": PictureKind.MAP}
_MESSAGE = "<!-- message -->"


@dataclass(frozen=True, slots=True)
class _Asset:
    content_type: str
    body: bytes
    etag: str


@cache
def _assets() -> dict[str, _Asset]:
    """Read once, by name: what a request says never becomes a path."""
    found = {}
    for path in ASSETS.iterdir():
        body = path.read_bytes()
        etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
        found[path.name] = _Asset(_TYPES[path.suffix], body, etag)
    return found


class Routes:
    """Answers each request; belongs to the loop's thread."""

    def __init__(self, access: Access, hub: Hub, past: Past, streams: Streams, commands: Commands) -> None:
        self._access = access
        self._hub = hub
        self._past = past
        self._streams = streams
        self._commands = commands
        self._assets = _assets()
        self._table: dict[str, dict[str, Callable[[Request], Awaitable[Response]]]] = {
            "/": {"GET": self._page},
            "/events": {"GET": self._streams.open},
            "/command": {"POST": self._commands.handle},
            "/logout": {"POST": self._log_out},
        }
        # Without the token, too: nothing of the rig is in them.
        self._open: dict[str, Callable[[Request], Response]] = {
            f"/assets/{name}": self._asset for name in self._assets if not name.endswith(".html")
        }
        if access.needs_token:
            self._open["/login"] = self._log_in

    async def answer(self, request: Request) -> Response:
        """The answer to a request, whatever it holds."""
        if not self._access.knows_host(request):
            return plain(
                HTTPStatus.MISDIRECTED_REQUEST,
                "this rig is not known by that name; name it in dashboard.origins",
                _NO_STORE,
            )
        response = await self._found(request)
        if any(name == "Cache-Control" for name, _ in response.headers):
            return response
        return Response(
            response.status,
            response.content_type,
            response.body,
            (*response.headers, *_NO_STORE),
            response.stream,
        )

    async def _found(self, request: Request) -> Response:
        if request.path in self._open:
            return self._open[request.path](request)
        blob = _BLOB.fullmatch(request.path)
        methods = {"GET": self._blob} if blob is not None else self._table.get(request.path)
        if methods is None:
            return plain(HTTPStatus.NOT_FOUND)
        handle = methods.get(request.method)
        if handle is None:
            return _wrong_method(*methods)
        if not self._access.allows(request):
            return self._stranger(request)
        if request.method != "GET" and not self._access.knows_origin(request):
            return plain(HTTPStatus.FORBIDDEN, "from another page than this rig's own")
        return await handle(request)

    async def _page(self, request: Request) -> Response:
        page = self._assets["index.html"]
        mark = b"" if self._access.needs_token else b" hidden"
        return Response(HTTPStatus.OK, page.content_type, page.body.replace(b" data-hidden", mark))

    def _asset(self, request: Request) -> Response:
        if request.method != "GET":
            return _wrong_method("GET")
        asset = self._assets[request.path.removeprefix("/assets/")]
        fresh = (("Cache-Control", "no-cache"), ("ETag", asset.etag))
        if request.headers.get("if-none-match") == asset.etag:
            return Response(HTTPStatus.NOT_MODIFIED, asset.content_type, headers=fresh)
        return Response(HTTPStatus.OK, asset.content_type, asset.body, fresh)

    async def _blob(self, request: Request) -> Response:
        found = _BLOB.fullmatch(request.path)
        if found is None:
            return plain(HTTPStatus.NOT_FOUND)
        result_id, kind = found[1], _KINDS[found[2]]
        live = self._hub.picture(result_id, kind)
        if live is not None:
            return _picture(live.encoding, live.data)
        try:
            kept = await self._past.picture(result_id, kind)
        except (OutboxError, OSError) as error:
            _log.warning("the dashboard can't show a picture: %s", error)
            return plain(HTTPStatus.SERVICE_UNAVAILABLE)
        return plain(HTTPStatus.NOT_FOUND, "is not kept") if kept is None else _picture(*kept)

    def _stranger(self, request: Request) -> Response:
        wait_s = self._access.wait_s(request)
        if wait_s:
            return plain(
                HTTPStatus.TOO_MANY_REQUESTS, "too many guesses", (("Retry-After", f"{wait_s:.0f}"),)
            )
        if request.path == "/":
            return self._form(HTTPStatus.UNAUTHORIZED, "")
        return plain(HTTPStatus.UNAUTHORIZED, headers=(("WWW-Authenticate", "Bearer"),))

    def _log_in(self, request: Request) -> Response:
        if request.method != "POST":
            return _wrong_method("POST")
        if not self._access.knows_origin(request):
            return plain(HTTPStatus.FORBIDDEN, "from another page than this rig's own")
        try:
            token = parse_qs(request.body.decode(), max_num_fields=4).get("token", [""])[0]
        except ValueError:
            return plain(HTTPStatus.BAD_REQUEST)
        cookie = self._access.log_in(token.strip(), request)
        if cookie is not None:
            return Response(HTTPStatus.SEE_OTHER, headers=(("Location", "/"), ("Set-Cookie", cookie)))
        wait_s = self._access.wait_s(request)
        if wait_s:
            return self._form(
                HTTPStatus.TOO_MANY_REQUESTS, f"Too many guesses. Try again in {wait_s:.0f} seconds."
            )
        return self._form(HTTPStatus.FORBIDDEN, "That is not the token.")

    async def _log_out(self, request: Request) -> Response:
        return Response(
            HTTPStatus.SEE_OTHER, headers=(("Location", "/"), ("Set-Cookie", self._access.log_out()))
        )

    def _form(self, status: HTTPStatus, message: str) -> Response:
        form = self._assets["login.html"]
        return Response(status, form.content_type, form.body.replace(_MESSAGE.encode(), message.encode()))


def _wrong_method(*allowed: str) -> Response:
    return plain(HTTPStatus.METHOD_NOT_ALLOWED, headers=(("Allow", ", ".join(allowed)),))


def _picture(encoding: str, data: bytes) -> Response:
    kind = encoding if "/" in encoding else "application/octet-stream"
    return Response(HTTPStatus.OK, kind, data, _KEPT)
