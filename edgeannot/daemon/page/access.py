"""Who may see the live page and press its buttons.

Three things are asked of a request. *Is it meant for us?* The Host header names this machine or an IP address; a stranger's name that was
made to point here (DNS rebinding) does not. *Does a page of ours send it?* What changes something needs our own Origin, or none and a
body of a type that no form has (OWASP, "Cross-Site Request Forgery Prevention"). *Is it allowed?* Where a token is set, a cookie or an
`Authorization` header proves that its sender knows it.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import parse_qs, urlsplit

from edgeannot.base.connections.http_server import Request, is_known, name_in, own_names

__all__ = ["Access"]

_SESSION_S: Final = 7 * 86400
_TRIES: Final = 5
"""Wrong tokens that an address may send within `_TRIES_S`."""
_TRIES_S: Final = 60.0
_MOST_ADDRESSES: Final = 1024
_FORM: Final = "application/x-www-form-urlencoded"


class Access:
    """Judges requests. Thread-safe."""

    def __init__(
        self, token: str | None, port: int, hosts: tuple[str, ...] = (), *, node: str = "", clock: Callable[[], float] = time.time
    ) -> None:
        """port: names the cookie, as browsers give a cookie to all ports of a machine. node: this machine's name, if not the real one.

        clock: gives seconds since 1970.
        """
        self._proxies = {host.lower() for host in hosts if host}  # no name at all, as without a Host header, is nobody's
        self._names = own_names(node) | self._proxies
        self._digest = None if token is None else _digest(token)
        self._cookie = f"edgeannot-{port}"
        self._clock = clock
        self._lock = threading.Lock()
        self._wrong: OrderedDict[str, tuple[float, ...]] = OrderedDict()

    @property
    def locked(self) -> bool:
        """Return whether one has to log in."""
        return self._digest is not None

    def trouble(self, request: Request) -> str:
        """Return why a request is refused whoever sends it; empty where it is not."""
        host = request.headers.get("host", "")
        if not is_known(host, self._names):
            return "this name is not known here; open the page by the machine's name or address, or add the name to `hosts` in [page]"
        if request.headers.get("sec-fetch-site", "none") not in {"same-origin", "none"} and not _is_visit(request):
            return "another site asked for this"
        if request.method == "GET":
            return ""
        origin = request.headers.get("origin")
        if origin is not None and not self._is_ours(origin, host):
            return "another site sent this"
        if origin is None and request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            return "wanted an Origin header, or a body of the type application/json"
        return ""

    def may(self, request: Request) -> bool:
        """Return whether its sender has shown the token, or none is set."""
        if self._digest is None:
            return True
        if self._is_session(_cookies(request.headers).get(self._cookie, "")):
            return True
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        return scheme.lower() == "bearer" and self._try(request.peer, given.strip())

    def log_in(self, request: Request) -> str | None:
        """Return the cookie for a login form with the right token; None for any other, and for too many of them."""
        if self._digest is None or not self._try(request.peer, _token_in(request)):
            return None
        until = str(int(self._clock()) + _SESSION_S)
        secure = "; Secure" if request.headers.get("origin", "").startswith("https:") else ""
        return f"{self._cookie}={until}.{self._seal(until)}; Max-Age={_SESSION_S}; Path=/; HttpOnly; SameSite=Strict{secure}"

    def log_out(self) -> str:
        """Return the cookie that ends a session in this browser."""
        return f"{self._cookie}=; Max-Age=0; Path=/; HttpOnly; SameSite=Strict"

    def wait_s(self, peer: str) -> int:
        """Return how long an address has to wait before its next token is looked at, in seconds; 0: not at all."""
        times = self._recent(_network(peer))
        return max(1, round(times[0] + _TRIES_S - self._clock())) if len(times) >= _TRIES else 0

    def _try(self, peer: str, token: str) -> bool:
        """Return whether the token is right. One that comes too soon is not looked at."""
        network = _network(peer)
        with self._lock:
            if self._digest is None or self.wait_s(peer):
                return False
            if hmac.compare_digest(_digest(token), self._digest):
                self._wrong.pop(network, None)
                return True
            self._wrong[network] = (*self._recent(network), self._clock())
            self._wrong.move_to_end(network)
            if len(self._wrong) > _MOST_ADDRESSES:
                self._wrong.popitem(last=False)
            return False

    def _recent(self, network: str) -> tuple[float, ...]:
        return tuple(at for at in self._wrong.get(network, ()) if 0 <= self._clock() - at < _TRIES_S)  # less than 0: the clock was set back

    def _is_session(self, cookie: str) -> bool:
        until, _, seal = cookie.partition(".")
        fresh = re.fullmatch("[0-9]{1,12}", until) is not None and int(until) > self._clock()
        return fresh and hmac.compare_digest(seal.encode("utf-8", "replace"), self._seal(until).encode())

    def _seal(self, until: str) -> str:
        """Return what only who knows the token can write behind a time. Another token ends all sessions."""
        return hmac.new(self._digest or b"", f"edgeannot page {until}".encode(), hashlib.sha256).hexdigest()

    def _is_ours(self, origin: str, host: str) -> bool:
        """Return whether a page of ours has this origin: the host that was asked, or a name of `hosts` where a proxy asks by another."""
        try:
            parts = urlsplit(origin.lower())
        except ValueError:
            return False
        same = parts.netloc == host.lower()
        return parts.scheme in {"http", "https"} and (same or name_in(parts.netloc) in self._proxies)


def _is_visit(request: Request) -> bool:
    """Return whether somebody followed a link or typed the address, as opposed to a page that takes something from here."""
    return request.method == "GET" and request.headers.get("sec-fetch-mode") == "navigate" and request.path in {"/", "/login"}


def _network(peer: str) -> str:
    """Return the address, of IPv6 its network: a machine has as many addresses there as it likes."""
    try:
        address = ipaddress.ip_address(peer.partition("%")[0])
    except ValueError:
        return peer
    if isinstance(address, ipaddress.IPv4Address) or address.ipv4_mapped:
        return str(getattr(address, "ipv4_mapped", address))
    return str(ipaddress.ip_network(f"{address}/64", strict=False))


def _token_in(request: Request) -> str:
    """Return the token of a login form; empty where there is none."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    try:
        form = parse_qs(request.body.decode("utf-8", "replace"), max_num_fields=4) if kind == _FORM else {}
    except ValueError:  # more fields
        return ""
    return form.get("token", [""])[0].strip()


def _digest(token: str) -> bytes:
    """Return a digest: two of them have one length, so that comparing takes one time."""
    return hashlib.sha256(token.encode("utf-8", "replace")).digest()


def _cookies(headers: Mapping[str, str]) -> dict[str, str]:
    pairs = (part.partition("=") for part in headers.get("cookie", "").split(";"))
    return {name.strip(): value.strip() for name, _, value in pairs}
