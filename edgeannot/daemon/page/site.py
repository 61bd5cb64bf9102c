"""The live page over HTTP: its files, its stream of events, its login and its buttons.

Nothing of it comes from another server, nothing in it is code from a string, and whatever a model, a file or a camera is called is set
as text. The headers make a browser hold to that (Content Security Policy 3; Trusted Types, W3C).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as LateError
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from edgeannot.base.connections.http_server import Reply, Request
from edgeannot.daemon.page.access import Access
from edgeannot.daemon.page.feed import Feed
from edgeannot.storage.store import Message

__all__ = ["Site"]

log = logging.getLogger(__name__)

_FILES: Final = {
    "/": ("page.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/login": ("login.html", "text/html; charset=utf-8"),
}
_OPEN: Final = ("/login", "/page.css")
"""What one may see before the login."""
_COMMANDS: Final = ("pause", "resume", "snapshot", "model")
_PATIENCE_S: Final = 90.0
"""How long the reply to a button is waited for; the commands' own limit is shorter."""
_JSON: Final = "application/json"
_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; form-action 'self'; "
        "base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

Ask = Callable[[str, bytes], "Future[Message]"]
"""Name and payload of a command -> its reply."""


class Site:
    """Answers one request after the other; thread-safe."""

    def __init__(self, feed: Feed, access: Access, ask: Ask | None) -> None:
        """ask: carries commands out; None: there are no buttons."""
        self._feed = feed
        self._access = access
        self._ask = ask
        folder = Path(__file__).parent
        self._files = {path: (kind, (folder / name).read_bytes()) for path, (name, kind) in _FILES.items()}

    def answer(self, request: Request) -> Reply:
        """Return the answer to any request."""
        reply = self._answer(request)
        return replace(reply, headers={**_HEADERS, **reply.headers})

    def _answer(self, request: Request) -> Reply:
        if why := self._access.trouble(request):
            return Reply(403, f"{why}\n".encode())
        if request.path == "/login":
            return self._login(request)
        if request.path not in _OPEN and not self._access.may(request):
            return _to("/login") if request.path == "/" else Reply(401, b"wanted a login\n", headers={"WWW-Authenticate": "Bearer"})
        return self._post(request) if request.method == "POST" else self._get(request)

    def _get(self, request: Request) -> Reply:
        if request.path == "/events":
            return self._events()
        if request.path in self._files:
            kind, content = self._files[request.path]
            return Reply(200, content, kind)
        return Reply(404, b"there is no such page\n")

    def _events(self) -> Reply:
        events = self._feed.watch()
        if events is None:
            return Reply(503, b"too many look already\n", headers={"Retry-After": "10"})
        return Reply(200, events, "text/event-stream", {"X-Accel-Buffering": "no"})

    def _login(self, request: Request) -> Reply:
        if not self._access.locked:
            return _to("/")
        said, code = "", 200
        if request.method == "POST":
            cookie = self._access.log_in(request)
            if cookie is not None:
                return _to("/", cookie)
            wait_s = self._access.wait_s(request.peer)
            code = 429 if wait_s else 401
            said = f"Too many wrong tokens. Try again in {wait_s} seconds." if wait_s else "That is not the token."
            log.log(logging.DEBUG if wait_s else logging.INFO, "a login to the live page was refused: %s", said)
        kind, content = self._files["/login"]
        return Reply(code, content.replace(b"<!--said-->", said.encode()), kind)

    def _post(self, request: Request) -> Reply:
        if request.path == "/logout":
            return _to("/login", self._access.log_out())
        command = request.path.removeprefix("/command/")
        if self._ask is None or request.path == command or command not in _COMMANDS:
            return Reply(404, b"there is no such button\n")
        try:
            message = self._ask(command, request.body).result(_PATIENCE_S)
        except LateError:
            return _json(504, {"ok": False, "error": {"code": "timeout", "message": "no reply in time"}})
        if message.content_type == "image/jpeg":
            return Reply(200, message.payload, "image/jpeg")
        return Reply(200 if json.loads(message.payload)["ok"] else 409, message.payload, _JSON)


def _to(path: str, cookie: str = "") -> Reply:
    return Reply(303, b"", headers={"Location": path, **({"Set-Cookie": cookie} if cookie else {})})


def _json(code: int, value: Any) -> Reply:
    return Reply(code, json.dumps(value).encode(), _JSON)
