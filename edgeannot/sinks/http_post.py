"""HTTP POST over the standard library's http.client; translates the answer to what to do with the message.

2xx: delivered. 408, 429, 5xx, a timeout or a broken connection: try again, not before what `Retry-After` says. Any other 4xx: this message
is not accepted. A redirect (307, 308) is followed on the same server only.
"""

from __future__ import annotations

import http.client
import re
import ssl
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, urljoin, urlsplit

from edgeannot.base.connections.http_exchange import Exchange, origin, retry_after_s
from edgeannot.base.errors import ConfigError
from edgeannot.base.foreign import one_line
from edgeannot.base.redaction import learn_secret
from edgeannot.base.systemd import read_secret
from edgeannot.sinks.durable import AwayError, RejectedError

__all__ = ["HttpPost"]

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
        self._timeout_s = timeout_s
        self._exchange = Exchange(url, tls_files, self._secret_headers)
        self._exchange.prepare()  # finds a missing file now rather than at night
        self.close()

    def __call__(self, body: bytes, headers: Mapping[str, str]) -> None:
        """POST this; return when the server has it. Raises AwayError, RejectedError, or ConfigError if a file is missing."""
        until = time.monotonic() + self._timeout_s
        url = self._url
        for _ in range(1 + _MOST_REDIRECTS):
            answer, text = self._answered(url, body, headers, until)
            if answer.status not in {307, 308}:
                break
            url = self._redirected(url, answer.headers.get("Location", ""))
        _judge(self._address, answer, text)

    def interrupt(self) -> None:
        """Close the connection from another thread; a running request ends with it."""
        self._exchange.interrupt()

    def close(self) -> None:
        """Close the connection; the next request makes it anew."""
        self._exchange.close()

    def _answered(self, url: SplitResult, body: bytes, headers: Mapping[str, str], until: float) -> tuple[http.client.HTTPResponse, bytes]:
        """Send one request and return its answer with the beginning of the body."""
        exchange = self._exchange
        try:
            answer = exchange.send("POST", url, headers, until, body)
            text = exchange.read(answer, _MOST_ANSWER_BYTES)
            exchange.done(answer, keep=answer.status not in {401, 403})  # the next connection reads the secrets anew
        except ssl.SSLCertVerificationError as exc:
            why = f"the certificate of {self._address} is not trusted ({exc.verify_message}); set ca_file to the authority that signed it"
            raise AwayError(why) from exc
        except TimeoutError as exc:
            raise AwayError(f"{self._address} does not answer within {self._timeout_s:g} s", suspect=exchange.connected) from exc
        except OSError as exc:  # ssl.SSLError is one
            why = getattr(exc, "strerror", None) or str(exc) or type(exc).__name__
            raise AwayError(f"no connection to {self._address} ({why})", suspect=exchange.connected) from exc
        except http.client.HTTPException as exc:
            raise AwayError(f"{self._address} does not answer as HTTP ({type(exc).__name__})", suspect=True) from exc
        return answer, text

    def _secret_headers(self) -> dict[str, str]:
        """Return the headers of each request over the next connection. Raises ConfigError."""
        headers = dict(self._plain_headers)
        for name, path in self._header_files.items():
            headers[name] = read_secret(f"header_files.{name}", path)
            learn_secret(headers[name].rpartition(" ")[2])  # without "Bearer"
            if not re.fullmatch(r"[\x20-\x7e]+", headers[name]):
                raise ConfigError(f"header_files.{name} {path}: wanted one line of ASCII, found something else")
        return headers

    def _redirected(self, url: SplitResult, location: str) -> SplitResult:
        """Return the target of a redirect. Raises AwayError for one to another server, which must not get the message."""
        there = urlsplit(urljoin(url.geturl(), location))
        if not location or origin(there) != origin(self._url):
            raise AwayError(f"{self._address} redirects to another server, not followed: set url to its new address", answered=True)
        return there


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
