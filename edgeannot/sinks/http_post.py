"""HTTP POST over the standard library's http.client; translates the answer to what to do with the message.

2xx: delivered. 408, 429, 5xx, a timeout or a broken connection: try again, not before what `Retry-After` says. Any other 4xx: this message
is not accepted. A redirect (307, 308) is followed on the same server only.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import re
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import SplitResult, urljoin, urlsplit

from edgeannot import __version__
from edgeannot.base.errors import ConfigError
from edgeannot.base.foreign import one_line
from edgeannot.base.redaction import learn_secret
from edgeannot.base.systemd import read_secret
from edgeannot.base.tls import tls_context
from edgeannot.sinks.durable import AwayError, RejectedError

__all__ = ["HttpPost", "retry_after_s"]

_MOST_REDIRECTS: Final = 3
_MOST_ANSWER_BYTES: Final = 65536
_MOST_SHOWN: Final = 200
"""Characters of a server's answer that are kept with a message that it does not accept."""


class HttpPost:
    """POSTs to one URL over a connection that is kept. For one thread, but `interrupt`."""

    def __init__(
        self,
        url: SplitResult,
        *,
        headers: Mapping[str, str],
        header_files: Mapping[str, Path],
        tls_files: tuple[Path | None, Path | None, Path | None],
        timeout_s: float,
    ) -> None:
        """header_files: name -> file with the value. tls_files: see `tls_context`. Raises ConfigError when one of them is unusable."""
        self._url = url
        self._address = url._replace(query="").geturl()
        self._plain_headers = headers
        self._header_files = header_files
        self._tls_files = tls_files
        self._timeout_s = timeout_s
        self._connection: http.client.HTTPConnection | None = None
        self._headers: dict[str, str] = {}
        self._connected = False  # whether the last request got as far as a connection
        self._connect_anew()  # finds a missing file now rather than at night
        self.close()

    def __call__(self, body: bytes, headers: Mapping[str, str]) -> None:
        """POST this; return when the server has it. Raises AwayError, RejectedError, or ConfigError if a file is missing."""
        until = time.monotonic() + self._timeout_s
        url = self._url
        for _ in range(1 + _MOST_REDIRECTS):
            answer, text = self._exchange(url, body, headers, until)
            if answer.status not in {307, 308}:
                break
            url = self._redirected(url, answer.headers.get("Location", ""))
        _judge(self._address, answer, text)

    def interrupt(self) -> None:
        """Close the connection from another thread; a running request ends with it."""
        if (connection := self._connection) is not None and (sock := connection.sock) is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def _exchange(self, url: SplitResult, body: bytes, headers: Mapping[str, str], until: float) -> tuple[http.client.HTTPResponse, bytes]:
        """Send one request and return its answer with the beginning of the body."""
        kept = self._connection is not None
        try:
            try:
                return self._request(url, body, headers, until)
            except ConnectionError:
                self.close()
                if not kept:
                    raise
                return self._request(url, body, headers, until)  # the server had ended the connection meanwhile
        except ssl.SSLCertVerificationError as exc:
            why = f"the certificate of {self._address} is not trusted ({exc.verify_message}); set ca_file to the authority that signed it"
            raise AwayError(why) from exc
        except TimeoutError as exc:
            raise AwayError(f"{self._address} does not answer within {self._timeout_s:g} s", suspect=self._connected) from exc
        except OSError as exc:  # ssl.SSLError is one
            why = getattr(exc, "strerror", None) or str(exc) or type(exc).__name__
            raise AwayError(f"no connection to {self._address} ({why})", suspect=self._connected) from exc
        except http.client.HTTPException as exc:
            raise AwayError(f"{self._address} does not answer as HTTP ({type(exc).__name__})", suspect=True) from exc
        finally:
            if self._connection is not None and self._connection.sock is None:
                self._connection = None

    def _request(self, url: SplitResult, body: bytes, headers: Mapping[str, str], until: float) -> tuple[http.client.HTTPResponse, bytes]:
        connection = self._connection or self._connect_anew()
        done, self._connected = False, connection.sock is not None
        try:
            connection.timeout = _left_s(until)
            if connection.sock is None:
                connection.connect()
                self._connected = True
            connection.sock.settimeout(_left_s(until))
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it may have answered before it had all
                connection.request("POST", f"{url.path or '/'}{'?' if url.query else ''}{url.query}", body, {**self._headers, **headers})
            connection.sock.settimeout(_left_s(until))
            answer = connection.getresponse()
            text = answer.read(_MOST_ANSWER_BYTES)
            done = answer.isclosed() and answer.status not in {401, 403}  # the next connection reads the secrets anew
        finally:
            if not done:
                self.close()
        return answer, text

    def _connect_anew(self) -> http.client.HTTPConnection:
        """Return a connection, opened at the first request, and the headers of each request."""
        headers = {"User-Agent": f"edgeannot/{__version__}", **self._plain_headers}
        for name, path in self._header_files.items():
            headers[name] = read_secret(f"header_files.{name}", path)
            learn_secret(headers[name].rpartition(" ")[2])  # without "Bearer"
            if not re.fullmatch(r"[\x20-\x7e]+", headers[name]):
                raise ConfigError(f"header_files.{name} {path}: wanted one line of ASCII, found something else")
        self._headers = headers
        host, port = self._url.hostname or "", self._url.port
        if self._url.scheme == "https":
            context = tls_context(*self._tls_files)
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(host, port, context=context)
        else:
            connection = http.client.HTTPConnection(host, port)
        connection.response_class = _Response
        self._connection = connection
        return connection

    def close(self) -> None:
        """Close the connection; the next request makes it anew."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def _redirected(self, url: SplitResult, location: str) -> SplitResult:
        """Return the target of a redirect. Raises AwayError for one to another server, which must not get the message."""
        there = urlsplit(urljoin(url.geturl(), location))
        if not location or _origin(there) != _origin(self._url):
            raise AwayError(f"{self._address} redirects to another server, not followed: set url to its new address", answered=True)
        return there


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


def _origin(url: SplitResult) -> tuple[str, str | None, int]:
    return url.scheme, url.hostname, url.port or (443 if url.scheme == "https" else 80)


def _judge(address: str, answer: http.client.HTTPResponse, text: bytes) -> None:
    """Return where the message is delivered; else raise what is to be done."""
    status = answer.status
    if 200 <= status < 300:
        return
    why = f"{address} answers {status} {one_line(answer.reason)[:50]}".rstrip()
    if 400 <= status < 500 and status not in {408, 429}:
        hint = "; check header_files" if status in {401, 403} else ""
        raise RejectedError(f"{why}{hint}", one_line(text[: 4 * _MOST_SHOWN].decode("utf-8", "replace"))[:_MOST_SHOWN])
    wait_s = retry_after_s(answer.headers.get("Retry-After", ""), answer.headers.get("Date", ""))
    raise AwayError(why, retry_after_s=wait_s, answered=status < 500, suspect=status >= 500 and not wait_s)


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
