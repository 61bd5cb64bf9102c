"""Requests to one HTTP server over a connection that is kept, each answered as a whole within a time. The standard library's http.client.
The answer to a server that asks for a login: Basic (RFC 7617) and Digest (RFC 7616, also as cameras do RFC 2617).

Errors are those of http.client and the socket (OSError with TimeoutError, HTTPException): what they mean is for the caller to say.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import io
import re
import secrets
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, quote, urljoin, urlsplit
from urllib.request import parse_http_list, parse_keqv_list

from edgeannot import __version__
from edgeannot.base.connections.tls import tls_context

__all__ = ["Exchange", "Login", "origin", "plain", "redirected", "retry_after_s"]


class Exchange:
    """One connection. For one thread, but `interrupt`."""

    def __init__(
        self,
        server: SplitResult,
        tls_files: tuple[Path | None, Path | None, Path | None] = (None, None, None),
        connecting: Callable[[], Mapping[str, str]] = dict,
    ) -> None:
        """server: a URL on it. tls_files: see `tls_context`. connecting: gives the headers of all requests, asked at each connection."""
        self._server = server
        self._tls_files = tls_files
        self._connecting = connecting
        self._connection: http.client.HTTPConnection | None = None
        self._headers: dict[str, str] = {}
        self.connected = False
        """Whether the last request got as far as a connection."""

    def prepare(self) -> None:
        """Make the next connection ready. Raises ConfigError for a file that cannot be used, and what `connecting` raises."""
        self._headers = {"User-Agent": f"edgeannot/{__version__}", **self._connecting()}
        host, port = self._server.hostname or "", self._server.port
        if self._server.scheme == "https":
            context = tls_context(*self._tls_files)
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(host, port, context=context)
        else:
            connection = http.client.HTTPConnection(host, port)
        connection.response_class = _Response
        self._connection = connection

    def send(
        self, method: str, url: SplitResult, headers: Mapping[str, str], until: float, body: bytes | None = None
    ) -> http.client.HTTPResponse:
        """Send one request and return its answer, of which `read` has the body; then `done` is to be called.

        until: the moment, monotonic seconds, by which all of it has to be there. Raises as the module says, and as `prepare`.
        """
        kept = self._connection is not None
        try:
            return self._send(method, url, headers, until, body)
        except ConnectionError:
            self.close()
            if not kept:
                raise
        except BaseException:
            self.close()
            raise
        return self.send(method, url, headers, until, body)  # the server had ended the connection meanwhile

    def read(self, answer: http.client.HTTPResponse, most_bytes: int) -> bytes:
        """Return the body, or its beginning. Raises as `send`."""
        try:
            return answer.read(most_bytes)
        except BaseException:
            answer.close()  # which has the socket to itself where the server is to end the connection
            self.close()
            raise

    def done(self, answer: http.client.HTTPResponse, *, keep: bool = True) -> None:
        """End an exchange; the connection is kept where all of the answer was read."""
        if not (keep and answer.isclosed()):
            answer.close()
            self.close()
        elif self._connection is not None and self._connection.sock is None:
            self._connection = None

    def interrupt(self) -> None:
        """Close the connection from another thread; a running request ends with it."""
        if (connection := self._connection) is not None and (sock := connection.sock) is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection; the next request makes it anew."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def _send(
        self, method: str, url: SplitResult, headers: Mapping[str, str], until: float, body: bytes | None
    ) -> http.client.HTTPResponse:
        if self._connection is None:
            self.prepare()
        connection = self._connection
        assert connection is not None  # noqa: S101 - `prepare` has made it
        self.connected = connection.sock is not None
        connection.timeout = _left_s(until)
        if connection.sock is None:
            connection.connect()
            self.connected = True
        connection.sock.settimeout(_left_s(until))
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it may have answered before it had all
            connection.request(method, f"{url.path or '/'}{'?' if url.query else ''}{url.query}", body, {**self._headers, **headers})
        connection.sock.settimeout(_left_s(until))
        return connection.getresponse()


def redirected(url: SplitResult, location: str) -> SplitResult:
    """Return where an answer sends us on. Raises ValueError for what is no address."""
    there = urlsplit(urljoin(url.geturl(), location))
    if there.port == 0:
        raise ValueError("port 0")
    return there


def plain(url: SplitResult) -> SplitResult:
    """Return an address as it is sent: without the user, and with other characters than a URL has written as %XX."""
    safe = "%/:=&?~+!$,;'@()*[]"
    path, query = (quote(part, safe=safe, encoding="utf-8", errors="surrogateescape") for part in (url.path, url.query))
    return url._replace(netloc=url.netloc.rpartition("@")[2], path=path, query=query, fragment="")


def origin(url: SplitResult) -> tuple[str, str | None, int]:
    """Return scheme, host and port."""
    return url.scheme, url.hostname, url.port or (443 if url.scheme == "https" else 80)


def retry_after_s(value: str, date: str = "", now: Callable[[], float] = time.time) -> float:
    """Return the seconds that `Retry-After` asks us to wait (RFC 9110, 10.2.3): a number of them or a moment; 0 where it says neither.

    date: the server's own clock, which its moments are by; ours may be wrong.

    >>> retry_after_s("120"), retry_after_s("Wed, 21 Oct 2026 07:28:10 GMT", "Wed, 21 Oct 2026 07:28:00 GMT"), retry_after_s("soon")
    (120.0, 10.0, 0.0)
    """
    value = value.strip()
    if re.fullmatch(r"[0-9]{1,9}", value):
        return float(value)
    try:
        until = parsedate_to_datetime(value).timestamp()
    except (ValueError, OverflowError):
        return 0.0
    try:
        since = parsedate_to_datetime(date).timestamp()
    except (ValueError, OverflowError):
        since = now()
    return max(until - since, 0.0)


class _Response(http.client.HTTPResponse):
    """An answer that has to be whole when the socket's timeout is over, however slowly it comes."""

    def __init__(self, sock: socket.socket, *args: Any, **keywords: Any) -> None:
        super().__init__(sock, *args, **keywords)
        self.fp.close()
        self.fp = io.BufferedReader(_Within(sock, time.monotonic() + (sock.gettimeout() or 0.0)))


class _Within(io.RawIOBase):
    """What a socket gives until a moment."""

    def __init__(self, sock: socket.socket, until: float) -> None:
        self._sock, self._raw, self._until = sock, sock.makefile("rb", 0), until

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(_left_s(self._until))
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


def _left_s(until: float) -> float:
    if (left := until - time.monotonic()) <= 0:
        raise TimeoutError
    return left


_SCHEME = re.compile(r"(?:^|,)\s*(basic|digest)\s+", re.IGNORECASE)
_HASHES = {"md5": hashlib.md5, "sha-256": hashlib.sha256}
"""Digest's algorithms, without -sess."""


class Login:
    """One user at one server. For one thread."""

    def __init__(self, user: str, password: str, make_nonce: Callable[[], str] = lambda: secrets.token_hex(8)) -> None:
        self._user, self._password = user, password
        self._make_nonce = make_nonce
        self._scheme = ""
        self._challenge: dict[str, str] = {}
        self._count = 0

    def accept(self, challenges: Sequence[str]) -> bool:
        """Remember what the server asks for, the safest first; False where another answer would be no other than the last one.

        challenges: the headers WWW-Authenticate.
        """
        asked: dict[str, dict[str, str]] = {}
        parts = [part for challenge in challenges for part in _SCHEME.split(challenge)[1:]]  # one header may have several
        for scheme, words in zip(parts[::2], parts[1::2], strict=True):
            with contextlib.suppress(ValueError, IndexError):  # of what is no list of names and values
                asked.setdefault(scheme.lower(), parse_keqv_list(parse_http_list(words)))
        if "digest" in asked and self._hash(asked["digest"]) and "nonce" in asked["digest"]:
            told = asked["digest"]
            refused = self._scheme == "digest" and told.get("stale", "").lower() != "true" and self._count == 1
            self._scheme, self._challenge, self._count = "digest", told, 0
            return not refused
        if "basic" in asked:
            refused, self._scheme = self._scheme == "basic", "basic"
            return not refused
        return False

    def header(self, method: str, target: str) -> dict[str, str]:
        """Return the header for a request; none before the server has asked. target: path and query, as they are sent."""
        if self._scheme == "basic":
            pair = f"{self._user}:{self._password}".encode()
            return {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}
        if self._scheme == "digest":
            return {"Authorization": f"Digest {self._digest(method, target)}"}
        return {}

    @staticmethod
    def _hash(challenge: dict[str, str]) -> Callable[[str], str] | None:
        made = _HASHES.get(challenge.get("algorithm", "MD5").lower().removesuffix("-sess"))
        return None if made is None else lambda text: made(text.encode()).hexdigest()

    def _digest(self, method: str, target: str) -> str:
        told, make = self._challenge, self._hash(self._challenge)
        assert make is not None  # noqa: S101 - `accept` has looked
        self._count += 1
        realm, nonce, count, own = told.get("realm", ""), told["nonce"], f"{self._count:08x}", self._make_nonce()
        whose = make(f"{self._user}:{realm}:{self._password}")
        if told.get("algorithm", "").lower().endswith("-sess"):
            whose = make(f"{whose}:{nonce}:{own}")
        what = make(f"{method}:{target}")
        safe = "auth" in [word.strip() for word in told.get("qop", "").split(",")]
        answer = make(f"{whose}:{nonce}:{count}:{own}:auth:{what}") if safe else make(f"{whose}:{nonce}:{what}")
        user = self._user.encode().decode("latin-1").replace("\\", "\\\\").replace('"', '\\"')
        words = [f'username="{user}"', f'realm="{realm}"', f'nonce="{nonce}"', f'uri="{target}"', f'response="{answer}"']
        words += [f'{name}="{told[name]}"' for name in ("opaque",) if name in told]
        words += [f"algorithm={told['algorithm']}"] if "algorithm" in told else []
        words += ["qop=auth", f"nc={count}", f'cnonce="{own}"'] if safe else []
        return ", ".join(words)
