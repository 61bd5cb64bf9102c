"""A camera that gives one picture a request, as ESP32-CAM's /capture and the snapshot addresses of IP cameras do.

What an address of http:// or https:// is, its first answer says: a picture (image/jpeg, or bytes that begin as one) is asked for again
whenever one is wanted; anything else (multipart/x-mixed-replace, video) is a stream for FFmpeg.
"""

from __future__ import annotations

import http.client
import ssl
import time
from http import HTTPStatus
from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit

from edgeannot.base.connections.http_exchange import Exchange, Login, origin, plain, redirected, retry_after_s
from edgeannot.base.errors import ConfigError, FrameError
from edgeannot.base.foreign import one_line
from edgeannot.base.redaction import learn_secret
from edgeannot.sources.capture import AskedCapture, Capture, Opener, Target, open_capture
from edgeannot.sources.capture_process import CameraProcess
from edgeannot.vision.data import UInt8Array
from edgeannot.vision.picture_header import begins_as_picture

__all__ = ["CameraOpener", "StillCamera"]

_MOST_BYTES: Final = 32 * 2**20
"""Of one picture."""
_MOST_IGNORED: Final = 65536
"""Of a redirect's or a refusal's text, before the connection is given up."""
_MOST_REDIRECTS: Final = 3
_LONGEST_PAUSE_S: Final = 300.0
"""Of what a server may ask for by Retry-After."""
_REFUSED_LOGIN_S: Final = 60.0
"""Between two tries of a login that was refused: cameras lock a user out after a few."""
_NO_STREAMS: Final = ("text/html", "application/json")
"""What a page for a login or an error comes as; FFmpeg could only say that it does not open."""
_ADVICE: Final = {
    HTTPStatus.UNAUTHORIZED: "set credentials_file to a file with user:password",
    HTTPStatus.FORBIDDEN: "check what this user may do there",
    HTTPStatus.NOT_FOUND: "check the address",
}


class _NotServedError(Exception):
    """There is no picture now; the text says why, after "the camera ADDRESS"."""


class _StreamError(Exception):
    """The address is no still picture, as far as its answer says."""


class CameraOpener(Opener):
    """Opens one camera again and again, and remembers what its address is. A live one, but for still pictures, is in a child process."""

    def __init__(self) -> None:
        self._is_still: bool | None = None
        self._process = CameraProcess(lambda: self.stopped())  # noqa: PLW0108 - it is set later

    def __call__(self, target: Target) -> Capture:
        """Return an opened camera (`Capture`), as `open_capture` does; one of still pictures also says what is wrong."""
        if target.kind == "file":
            return open_capture(target)
        if target.http == "stream" or self._is_still is False or not _is_web(target):
            return self._process.open(target)
        camera = StillCamera(target, sure=self._is_still or target.http == "stills")
        try:
            camera.look()
        except _StreamError:
            camera.release()
            self._is_still = False
            return self._process.open(target)
        self._is_still = True if camera.isOpened() else self._is_still
        return camera

    def close(self) -> None:
        """End the child process."""
        self._process.close()


class StillCamera(AskedCapture):
    """A `Capture`: `grab` asks for a picture, `retrieve` decodes it."""

    def __init__(self, target: Target, *, sure: bool) -> None:
        """sure: whether the address is known to give pictures; else `look` raises _StreamError where it seems to give a stream."""
        self._target = target
        self._sure = sure
        url = urlsplit(target.address)
        user, password = unquote(url.username or ""), unquote(url.password or "")
        learn_secret(password)
        self._login = Login(user, password) if url.username else None
        self._url = plain(url)
        self._exchanges: dict[tuple[str, str | None, int], Exchange] = {}
        self._data = b""
        self._looked = False

    def look(self) -> None:
        """Ask for the first picture, which the first `grab` takes. Raises _StreamError where the address is none of still pictures."""
        self._looked = self._ask()

    def isOpened(self) -> bool:  # noqa: N802 - OpenCV's name
        """Return whether the last request gave a picture."""
        return bool(self._data)

    def grab(self) -> bool:
        """Ask for a picture; False where there is none, with the reason in `trouble`."""
        if self._looked:
            self._looked = False
            return True
        return self._ask()

    def retrieve(self) -> tuple[bool, UInt8Array | None]:
        """Decode the picture that `grab` got, upright."""
        from edgeannot.vision.decode import decode  # noqa: PLC0415 - loads OpenCV, which reading the settings must not

        data, self._data = self._data, b""
        try:
            return True, decode(data, whole=True).image  # the next picture comes soon
        except FrameError as exc:
            self.trouble = f"answers with what is no usable picture: {exc}"
            return False, None

    def release(self) -> None:
        """Close the connection."""
        for exchange in self._exchanges.values():
            exchange.close()

    def _ask(self) -> bool:
        self._data, self.trouble, self.pause_s = b"", "", 0.0
        try:
            self._data = self._picture()
        except _NotServedError as exc:
            self.trouble = str(exc)
        return bool(self._data)

    def _picture(self) -> bytes:
        """Return the bytes of a picture. Raises _NotServedError, or _StreamError before it is known that there are pictures."""
        until = time.monotonic() + self._target.open_timeout_s + self._target.read_timeout_s
        url = self._url
        for _ in range(1 + _MOST_REDIRECTS):
            try:
                exchange, answer = self._answered(url, until)
                if answer.status in {301, 302, 303, 307, 308}:
                    exchange.read(answer, _MOST_IGNORED)
                    exchange.done(answer)
                    url = self._sent_on(url, answer.headers.get("Location", ""))
                    continue
                return self._body(exchange, answer)
            except ssl.SSLCertVerificationError as exc:
                if not self._sure:  # FFmpeg does not look at certificates; a stream that it plays goes on
                    raise _StreamError from exc
                why = f"has a certificate that is not trusted ({exc.verify_message}); set ca_file to the authority that signed it"
                raise _NotServedError(why) from exc
            except TimeoutError as exc:
                seconds = self._target.open_timeout_s + self._target.read_timeout_s
                raise _NotServedError(f"gives no whole picture within {seconds:g} s") from exc
            except OSError as exc:  # ssl.SSLError is one
                raise _NotServedError(f"cannot be reached ({getattr(exc, 'strerror', None) or exc or type(exc).__name__})") from exc
            except http.client.IncompleteRead as exc:
                raise _NotServedError("breaks off in the middle of a picture") from exc
            except ValueError as exc:  # a host or a header that cannot be sent
                raise _NotServedError("has an address or a login that cannot be sent") from exc
            except http.client.HTTPException as exc:
                if not self._sure:
                    raise _StreamError from exc
                raise _NotServedError(f"does not answer as HTTP ({type(exc).__name__})") from exc
        raise _NotServedError("redirects in a circle")

    def _answered(self, url: SplitResult, until: float) -> tuple[Exchange, http.client.HTTPResponse]:
        """Return the answer to a request, with the login if the server asks for it."""
        exchange = self._exchanges.get(origin(url))
        if exchange is None:
            exchange = self._exchanges[origin(url)] = Exchange(url, (self._target.ca_file, None, None))
        path = f"{url.path or '/'}{'?' if url.query else ''}{url.query}"
        while True:
            login = self._login.header("GET", path) if self._login else {}
            try:
                answer = exchange.send("GET", url, {"Accept": "image/*, */*;q=0.5", **login}, until)
            except ConfigError as exc:
                raise _NotServedError(f"cannot be asked: {exc}") from exc
            if answer.status != HTTPStatus.UNAUTHORIZED or self._login is None:
                return exchange, answer
            if not self._login.accept(answer.headers.get_all("WWW-Authenticate", [])):
                return exchange, answer
            exchange.read(answer, _MOST_IGNORED)
            exchange.done(answer)

    def _body(self, exchange: Exchange, answer: http.client.HTTPResponse) -> bytes:
        kind = answer.headers.get_content_type() if "Content-Type" in answer.headers else ""
        if answer.status != HTTPStatus.OK:
            exchange.done(answer, keep=False)
            self._refused(answer)
        if not self._sure and (kind.startswith(("multipart/", "video/", "audio/")) or "mpegurl" in kind):
            exchange.done(answer, keep=False)
            raise _StreamError
        if (stated := answer.length) is not None and stated > _MOST_BYTES:
            exchange.done(answer, keep=False)
            raise _NotServedError(f"offers {stated:,} bytes, at most {_MOST_BYTES:,} are taken for one picture")
        data = exchange.read(answer, 64) if answer.length != 0 else b""
        if not begins_as_picture(data[:16]):
            exchange.done(answer, keep=False)
            if not self._sure and kind.startswith("image/"):
                raise _NotServedError(f"answers with {kind} that is no picture")
            if not self._sure and kind not in _NO_STREAMS:
                raise _StreamError
            raise _NotServedError(f"answers with {one_line(kind)[:60] or 'something'} in place of a picture; check the address")
        data += exchange.read(answer, _MOST_BYTES)
        exchange.done(answer)
        if len(data) >= _MOST_BYTES:
            raise _NotServedError(f"sends a picture without end: more than {_MOST_BYTES:,} bytes")
        if stated is not None and len(data) < stated:
            raise _NotServedError(f"broke off after {len(data):,} of {stated:,} bytes")
        return data

    def _refused(self, answer: http.client.HTTPResponse) -> None:
        """Raise what an answer other than 200 means."""
        self.pause_s = min(retry_after_s(answer.headers.get("Retry-After", ""), answer.headers.get("Date", "")), _LONGEST_PAUSE_S)
        status = HTTPStatus(answer.status) if answer.status in set(HTTPStatus) else answer.status
        said = f"answers {answer.status} {one_line(answer.reason)[:50]}".rstrip()
        if answer.status == HTTPStatus.UNAUTHORIZED and self._login is not None:
            self.pause_s = max(self.pause_s, _REFUSED_LOGIN_S)
            raise _NotServedError(f"refuses the login ({answer.status}); check user and password")
        advice = _ADVICE.get(status) if isinstance(status, HTTPStatus) else None
        raise _NotServedError(f"{said}{f'; {advice}' if advice else ''}")

    def _sent_on(self, url: SplitResult, location: str) -> SplitResult:
        """Return the target of a redirect on the same server. Raises _NotServedError for another, which must not get the login."""
        try:
            there = redirected(url, location)
        except ValueError as exc:
            raise _NotServedError("redirects to what is no address") from exc
        if not location or not _is_same_server(url, there):
            raise _NotServedError("redirects to another server, not followed: set url to its new address")
        return plain(there)


def _is_same_server(here: SplitResult, there: SplitResult) -> bool:
    """Return whether the login may go there as well: to the same host and port, or from port 80 to HTTPS on its own port."""
    ours, theirs = origin(here), origin(there)
    return theirs == ours or (theirs[1] == ours[1] and (ours[0], ours[2], theirs[0], theirs[2]) == ("http", 80, "https", 443))


def _is_web(target: Target) -> bool:
    """Return whether it is an address that can be asked over HTTP; of a broken one FFmpeg says that it does not open."""
    url = urlsplit(target.address)
    try:
        return target.kind == "stream" and url.scheme in {"http", "https"} and bool(url.hostname) and url.port != 0
    except ValueError:
        return False
