"""Where a broker is: URLs mqtt://, mqtts://, ws://, wss://. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self
from urllib.parse import unquote, urlsplit

__all__ = ["Address"]

_SCHEMES: Final[Mapping[str, tuple[bool, bool, int]]] = {
    # scheme: (TLS, WebSocket, port)
    "mqtt": (False, False, 1883),
    "mqtts": (True, False, 8883),
    "ws": (False, True, 80),
    "wss": (True, True, 443),
}


@dataclass(frozen=True, slots=True)
class Address:
    """Where a broker is."""

    host: str
    port: int
    tls: bool
    websocket: bool
    path: str
    username: str | None = None

    @classmethod
    def parse(cls, url: str) -> Self:
        """The address in a URL `mqtt|mqtts|ws|wss://[user@]host[:port][/path]`.

        Raises ValueError with what was wanted; a password in the URL is refused, because URLs are logged and shown.
        """
        parts = urlsplit(url if "://" in url else f"mqtt://{url}")
        # What stands there may be the rest of a password: it is not repeated, here and below.
        if parts.query or parts.fragment:
            raise ValueError("wanted mqtt://[user@]host[:port] (ws:// and wss:// may have a path), found ? or # in it")
        try:
            given_port = parts.port
        except ValueError:
            raise ValueError("wanted a port from 1 to 65535, found something else") from None
        if parts.scheme not in _SCHEMES:
            raise ValueError(f"wanted mqtt://, mqtts://, ws:// or wss://, found {parts.scheme}://")
        if parts.password is not None:
            raise ValueError(
                "a password does not belong into the URL, which is logged and shown: put it into a file and name that in password_file"
            )
        if not parts.hostname:
            raise ValueError("wanted a host, as in mqtt://localhost:1883")
        if given_port == 0:
            raise ValueError("wanted a port from 1 to 65535, found 0")
        tls, websocket, port = _SCHEMES[parts.scheme]
        if not websocket and parts.path not in {"", "/"}:
            raise ValueError("a path is for ws:// and wss:// only")
        path = parts.path if parts.path not in {"", "/"} else "/mqtt"
        user = unquote(parts.username) if parts.username else None
        return cls(parts.hostname, given_port or port, tls, websocket, path, user)

    def __str__(self) -> str:
        scheme = next(name for name, (tls, websocket, _) in _SCHEMES.items() if (tls, websocket) == (self.tls, self.websocket))
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{scheme}://{host}:{self.port}" + (self.path if self.websocket else "")
