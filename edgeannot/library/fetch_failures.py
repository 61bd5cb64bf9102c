"""What a request that failed means: an error for the user, or a reason to try again."""

from __future__ import annotations

import re
import socket
import ssl
import urllib.error
import urllib.request
from http import HTTPStatus
from urllib.parse import urlsplit

from edgeannot.base.errors import LinkError, MissingError

__all__ = ["BrokenOffError", "in_one_line", "what_silence_means", "what_status_means"]

AGAIN = {
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.INTERNAL_SERVER_ERROR,
    HTTPStatus.BAD_GATEWAY,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT,
}
"""Answers after which the same question may get another."""
LONGEST_WAIT_S = 30.0
"""Of what a server may ask for."""


class BrokenOffError(Exception):
    """The transfer ended early; another try may help. The text says why."""

    def __init__(self, why: str, pause_s: float | None = None) -> None:
        super().__init__(why)
        self.pause_s = pause_s
        """What the server asks to wait."""


def in_one_line(said: object) -> str:
    """What a server said, or a library of it, fit for a sentence: it may be anything, such as a terminal's control characters."""
    return re.sub(r"[^ -~]+", " ", str(said)).strip()


def what_status_means(url: str, exc: urllib.error.HTTPError) -> Exception:
    """The error for an answer that is none of 200 and 206: BrokenOffError where asking again may help, MissingError, LinkError."""
    said = f"the server answers {exc.code} {in_one_line(exc.reason)}"
    if exc.code in AGAIN or exc.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        asked = exc.headers.get("Retry-After", "")
        return BrokenOffError(said, min(float(asked), LONGEST_WAIT_S) if re.fullmatch(r"[0-9]{1,9}", asked) else None)
    if exc.code in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE):
        return MissingError(f"{url} is not there: {said}")
    return LinkError(f"{url} cannot be fetched: {said}")


def what_silence_means(url: str, exc: urllib.error.URLError, stall_s: float) -> Exception:
    """The error for a request without an answer: LinkError, or BrokenOffError where asking again may help."""
    cause, parts = exc.reason, urlsplit(url)
    proxy = _proxy(url)
    through = f" through the proxy {proxy}" if proxy else ""
    if isinstance(cause, socket.gaierror):
        return LinkError(f"{url} cannot be fetched: no address is found for {proxy or parts.hostname}; this machine may be offline")
    if isinstance(cause, ssl.SSLCertVerificationError):
        return LinkError(
            f"{url} cannot be fetched: the certificate of {parts.hostname} is not accepted ({cause.verify_message}); "
            "look at this machine's clock and its CA certificates"
        )
    if isinstance(cause, TimeoutError):
        return BrokenOffError(f"{parts.hostname} does not answer within {stall_s:g} s{through}")
    return BrokenOffError(f"{parts.hostname} cannot be reached{through} ({getattr(cause, 'strerror', None) or cause})")


def _proxy(url: str) -> str:
    """Host and port of the proxy that the environment names for an address, without its password; empty: none."""
    parts = urlsplit(url)
    proxy = urllib.request.getproxies().get(parts.scheme)
    if not proxy or urllib.request.proxy_bypass(parts.hostname or ""):
        return ""
    return urlsplit(proxy if "//" in proxy else f"//{proxy}").netloc.rpartition("@")[2]
