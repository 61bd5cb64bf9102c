"""Requests over HTTP: which addresses and redirections are taken, and what an answer other than the file means."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import urllib.error
import urllib.request
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from edgeannot.base.errors import InputError, LinkError, MissingError

__all__ = ["BrokenOffError", "Redirections", "error_of_answer", "error_of_silence", "is_web_address", "on_one_line", "refuse_unencrypted"]

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


def on_one_line(said: object) -> str:
    """Fit what a server or a library said into a sentence, without control characters."""
    return re.sub(r"[^ -~]+", " ", str(said)).strip()


def error_of_answer(url: str, exc: urllib.error.HTTPError) -> Exception:
    """Make the error for an answer that is none of 200 and 206: BrokenOffError where asking again may help, MissingError, LinkError."""
    said = f"the server answers {exc.code} {on_one_line(exc.reason)}"
    if exc.code in AGAIN or exc.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        asked = exc.headers.get("Retry-After", "")
        return BrokenOffError(said, min(float(asked), LONGEST_WAIT_S) if re.fullmatch(r"[0-9]{1,9}", asked) else None)
    if exc.code in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE):
        return MissingError(f"{url} is not there: {said}")
    return LinkError(f"{url} cannot be fetched: {said}")


def error_of_silence(url: str, exc: urllib.error.URLError, stall_s: float) -> Exception:
    """Make the error for a request without an answer: LinkError, or BrokenOffError where asking again may help."""
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
    """Return host and port of the proxy that the environment names for an address, without its password; empty: none."""
    parts = urlsplit(url)
    proxy = urllib.request.getproxies().get(parts.scheme)
    if not proxy or urllib.request.proxy_bypass(parts.hostname or ""):
        return ""
    return urlsplit(proxy if "//" in proxy else f"//{proxy}").netloc.rpartition("@")[2]


def is_web_address(url: str) -> bool:
    """Tell whether it names a host to ask over http or https."""
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a bracket or a port that is none
        return False


def refuse_unencrypted(url: str) -> None:
    """Raise InputError for an address whose answer could be anybody's."""
    place = urlsplit(url)
    if place.scheme != "https" and place.hostname not in ("localhost", "127.0.0.1", "::1"):
        raise InputError(f"{url} is not encrypted, and without a sha256 nothing else says whose file it is; wanted https://...")


class Redirections(urllib.request.HTTPRedirectHandler):
    """Follows redirections on the web only; encrypted: and none to where anybody on the way could change the file."""

    def __init__(self, *, encrypted: bool) -> None:
        self._encrypted = encrypted

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> urllib.request.Request | None:
        """Follow or refuse. Raises LinkError or InputError."""
        with contextlib.ExitStack() as on_refusal:
            on_refusal.callback(fp.close)
            if not is_web_address(newurl):
                raise LinkError(f"{req.full_url} cannot be fetched: the server redirects to {newurl!r}, which is not a web address")
            if self._encrypted:
                refuse_unencrypted(newurl)
            on_refusal.pop_all()
        return super().redirect_request(req, fp, code, msg, headers, newurl)
