"""Who may see the page and tell the rig what to do: names, origins, the token, and cookies made of it."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import socket
import time
from collections import OrderedDict
from collections.abc import Callable
from http.cookies import CookieError, SimpleCookie
from urllib.parse import urlsplit

from edge.dashboard.config import DashboardConfig
from edge.dashboard.http import Request

__all__ = ["Access"]

_SESSION_S = 30 * 86_400
"""A screen on a wall must not ask for the token at three in the morning; another token ends all sessions."""

_ATTEMPTS = 5
_ATTEMPTS_S = 60.0
_PEERS_MAX = 1024
_HERE = ("127.0.0.1", "localhost", "::1")


class Access:
    """Judges requests; used by one thread. Without a token whoever reaches the page may do everything."""

    def __init__(
        self,
        config: DashboardConfig,
        *,
        now: Callable[[], float] = time.time,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        token = config.read_token()
        self._token = None if token is None else token.get_secret_value().encode()
        self._origins = frozenset(config.origins)
        self._names = _names_of(config)
        self._any_address = not config.is_local
        self._now = now
        self._clock_s = clock_s
        self._failures: OrderedDict[str, list[float]] = OrderedDict()
        self.cookie = f"edge_dashboard_{config.port}"  # browsers don't tell the ports of a host apart

    @property
    def needs_token(self) -> bool:
        return self._token is not None

    def knows_host(self, request: Request) -> bool:
        """Whether the browser asked for a name of this machine.

        A page of the web that lets its own name point here (DNS rebinding) asks for that name; nobody can
        do so with an address.
        """
        try:
            name = urlsplit(f"//{request.headers['host']}").hostname or ""
        except ValueError:
            return False
        return name in self._names or (self._any_address and _is_address(name))

    def knows_origin(self, request: Request) -> bool:
        """Whether what changes something comes from a page of ours, or from a program with the token."""
        origin = request.headers.get("origin")
        if origin is None:
            return self._bearer(request)
        return origin in self._origins or origin == f"http://{request.headers['host']}"

    def allows(self, request: Request) -> bool:
        """Whether the request may see what the page shows."""
        return self._token is None or self._has_session(request) or self._bearer(request)

    def wait_s(self, request: Request) -> float:
        """How long this peer has to wait before its next guess; 0 where it need not."""
        failures = self._recent(request.peer)
        return 0.0 if len(failures) < _ATTEMPTS else max(0.0, failures[0] + _ATTEMPTS_S - self._clock_s())

    def log_in(self, token: str, request: Request) -> str | None:
        """The cookie for whoever knows the token (Set-Cookie's value); None for others."""
        if self.wait_s(request) or not self._is_token(token.encode(), request):
            return None
        until = format(int(self._now()) + _SESSION_S, "x")
        secure = "; Secure" if request.headers.get("origin", "").startswith("https:") else ""
        return (
            f"{self.cookie}={until}.{self._seal(until)}; Max-Age={_SESSION_S}; Path=/; HttpOnly; "
            f"SameSite=Strict{secure}"
        )

    def log_out(self) -> str:
        """The cookie that takes the other one away."""
        return f"{self.cookie}=; Max-Age=0; Path=/; HttpOnly; SameSite=Strict"

    def _has_session(self, request: Request) -> bool:
        try:
            morsel = SimpleCookie(request.headers.get("cookie", "")).get(self.cookie)
        except CookieError:
            return False
        until, _, seal = ("" if morsel is None else morsel.value).partition(".")
        if not hmac.compare_digest(seal.encode(), self._seal(until).encode()):
            return False
        return int(until, 16) > self._now()

    def _bearer(self, request: Request) -> bool:
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        if self._token is None or kind.lower() != "bearer" or self.wait_s(request):
            return False
        return self._is_token(token.strip().encode(), request)

    def _is_token(self, said: bytes, request: Request) -> bool:
        known = self._token is not None and hmac.compare_digest(
            hashlib.sha256(said).digest(), hashlib.sha256(self._token).digest()
        )
        if not known:
            self._failures[request.peer] = [*self._recent(request.peer), self._clock_s()]
            self._failures.move_to_end(request.peer)
            while len(self._failures) > _PEERS_MAX:
                self._failures.popitem(last=False)
        return known

    def _recent(self, peer: str) -> list[float]:
        since_s = self._clock_s() - _ATTEMPTS_S
        return [at_s for at_s in self._failures.get(peer, []) if at_s > since_s][-_ATTEMPTS:]

    def _seal(self, until: str) -> str:
        key = hashlib.sha256(b"edge-inspect dashboard session\0" + (self._token or b"")).digest()
        return hmac.new(key, until.encode(), hashlib.sha256).hexdigest()


def _names_of(config: DashboardConfig) -> frozenset[str]:
    names = {*_HERE, config.host, *(urlsplit(origin).hostname or "" for origin in config.origins)}
    if not config.is_local:
        own = socket.gethostname().lower()
        names |= {own, own.partition(".")[0], f"{own.partition('.')[0]}.local"}
    return frozenset(names)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
