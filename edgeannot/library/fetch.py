"""Files from the web: resumed where they broke off, checked by sha256 before they get their name, bounded in size, time and tries.

Only the standard library: urllib takes proxies from the environment (http_proxy, https_proxy, no_proxy). Ranges are those of RFC 9110,
sections 13 and 14. What arrives is `KEY.part` with `KEY.etag` beside it; at `KEY` stands only a file that was checked.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import http.client
import os
import re
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import IO

from edgeannot import __version__
from edgeannot.base import atomicfile
from edgeannot.base.connections.backoff import backoff_s
from edgeannot.base.errors import InputError, LinkError
from edgeannot.base.foreign import sha256_of
from edgeannot.library.web import (
    BrokenOffError,
    Redirections,
    error_of_answer,
    error_of_silence,
    is_web_address,
    on_one_line,
    refuse_unencrypted,
)

__all__ = ["DEFAULT_LIMITS", "FetchLimits", "Progress", "Wanted", "download"]

Progress = Callable[[int, int | None], None]
"""Told the bytes that are there and the bytes there will be, where known."""

BLOCK = 1 << 16


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """How much and how long."""

    max_bytes: int = 256 << 20
    stall_s: float = 30.0
    """Seconds without a byte, or until a connection stands."""
    deadline_s: float = 3600.0
    """Seconds for one file, all tries together."""
    tries: int = 4
    """In a row without a byte more."""
    first_pause_s: float = 1.0
    """Before the second try; see `backoff_s`."""
    max_pause_s: float = 30.0


DEFAULT_LIMITS = FetchLimits()


@dataclass(frozen=True, slots=True)
class Wanted:
    """A file: where it is, and what is known of it. Without a sha256 its receiver has to check what is inside."""

    url: str
    sha256: str | None = None
    size: int | None = None
    """In bytes."""
    encrypted: bool = False
    """Whether the connection alone says that it is the makers' file: then it is encrypted all the way, or does not leave this machine."""

    @property
    def key(self) -> str:
        """The name of the file until it is used: its own hash, else that of its address."""
        return self.sha256 or f"url-{hashlib.sha256(self.url.encode()).hexdigest()[:32]}"


def download(wanted: Wanted, folder: Path, *, limits: FetchLimits = DEFAULT_LIMITS, progress: Progress | None = None) -> Path:
    """Return the path of the file, fetched into `folder` unless it is there already.

    Raises LinkError (nothing answers, it takes too long, the server fails), MissingError (the server has no such file), InputError (it
    is another file or too large, no room, the address is none). What had arrived before a LinkError stays: the next call goes on there.
    """
    if not is_web_address(wanted.url):
        raise InputError(f"{wanted.url!r} is not a web address; wanted http://... or https://...")
    if wanted.encrypted:
        refuse_unencrypted(wanted.url)
    target = folder / wanted.key
    if wanted.sha256 is not None and target.is_file() and sha256_of(target) == wanted.sha256:
        return target
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder / f"{wanted.key}.part") as part:
            _Transfer(wanted, part, limits, progress).run()
            os.fsync(part.fileno())
            Path(part.name).replace(target)
            Path(part.name).with_suffix(".etag").unlink(missing_ok=True)
    except OSError as exc:
        raise InputError(
            f"{wanted.url} cannot be stored in {folder}: {exc.strerror or exc}; make room there, or choose another folder"
        ) from exc
    return target


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[IO[bytes]]:
    """Yield the partial file, open for reading and writing, with nobody else at it. Raises LinkError where somebody is."""
    with open(path, "ab+", opener=lambda name, _: atomicfile.open_append(Path(name))) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise LinkError(f"another command is downloading {path.name.removesuffix('.part')}; wait until it has finished") from exc
        try:
            yield file
        finally:
            if path.exists() and not path.stat().st_size:
                path.unlink()


class _Transfer:
    """One file's tries."""

    def __init__(self, wanted: Wanted, part: IO[bytes], limits: FetchLimits, progress: Progress | None) -> None:
        self.wanted = wanted
        self.part = part
        self.limits = limits
        self.progress = progress
        self.deadline = time.monotonic() + limits.deadline_s
        self.etag_path = Path(part.name).with_suffix(".etag")

    def run(self) -> None:
        """Fetch until the file is whole and checked. Raises as `download` does."""
        for _ in range(2 if self.have else 1):  # what stood there from before may have been of another file
            self._fetch_whole()
            self.part.flush()
            if self.wanted.sha256 is None or (found := sha256_of(Path(self.part.name))) == self.wanted.sha256:
                return
            self._start_over()
        raise InputError(
            f"{self.wanted.url} is not the wanted file: its sha256 is {found}, wanted {self.wanted.sha256}; "
            "it was changed there, or on the way: nothing was kept"
        )

    @property
    def have(self) -> int:
        """Bytes that have arrived."""
        self.part.flush()
        return os.fstat(self.part.fileno()).st_size

    def _start_over(self) -> None:
        if self.have:
            self.part.truncate(0)
        self.etag_path.unlink(missing_ok=True)

    def _fetch_whole(self) -> None:
        """Try until the body is complete, or too many tries in a row brought nothing."""
        if self.wanted.size is not None and self.have >= self.wanted.size:
            return  # whole already, or of something else: the hash decides
        failures = 0
        while True:
            before = self.have
            try:
                self._try()
            except BrokenOffError as exc:
                failures = 1 if self.have > before else failures + 1
                pause = max(exc.pause_s or 0.0, backoff_s(failures, self.limits.first_pause_s, self.limits.max_pause_s))
                if failures >= self.limits.tries or time.monotonic() + pause >= self.deadline:
                    raise self._gave_up(str(exc)) from exc
                time.sleep(pause)
            else:
                return

    def _gave_up(self, why: str) -> LinkError:
        so_far = f"; {self.have:,} bytes are kept, and the same command goes on from there" if self.have else "; try again later"
        return LinkError(f"{self.wanted.url} cannot be fetched: {why}{so_far}")

    def _waited(self) -> LinkError | BrokenOffError:
        """Return what a wait that brought nothing comes to: the end, or another try."""
        if time.monotonic() >= self.deadline:
            return self._gave_up(f"it took longer than {self.limits.deadline_s:g} s")
        return BrokenOffError(f"nothing arrived for {self.limits.stall_s:g} s")

    def _try(self) -> None:
        """Send one request. Raises BrokenOffError where another may help."""
        try:
            with self._ask() as response:
                self._take(response)
        except urllib.error.HTTPError as exc:
            with exc:
                if exc.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                    self._start_over()
                raise error_of_answer(self.wanted.url, exc) from exc
        except urllib.error.URLError as exc:
            raise error_of_silence(self.wanted.url, exc, self.limits.stall_s) from exc
        except TimeoutError as exc:  # urllib gives it as it is where the answer's first line does not come
            raise self._waited() from exc
        except (http.client.HTTPException, ConnectionError) as exc:
            raise BrokenOffError(f"the connection broke ({type(exc).__name__}: {on_one_line(exc)})") from exc
        except ValueError as exc:  # of urllib, for the address of a redirection
            raise LinkError(
                f"{self.wanted.url} cannot be fetched: the server answers what cannot be understood ({on_one_line(exc)})"
            ) from exc

    def _ask(self) -> http.client.HTTPResponse:
        headers = {"User-Agent": f"edgeannot/{__version__}", "Accept-Encoding": "identity"}
        etag = _etag(self.etag_path)
        if self.wanted.encrypted and not etag:
            self._start_over()  # no hash would tell that two versions were joined
        if have := self.have:
            headers["Range"] = f"bytes={have}-"
            if etag:
                headers["If-Range"] = etag
        request = urllib.request.Request(self.wanted.url, headers=headers)  # noqa: S310 - the scheme was checked
        # A new opener each time: the one that urllib keeps would keep the proxies of its first call.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler(), Redirections(encrypted=self.wanted.encrypted))
        timeout_s = max(0.01, min(self.limits.stall_s, self.deadline - time.monotonic()))
        response: http.client.HTTPResponse = opener.open(request, timeout=timeout_s)
        return response

    def _take(self, response: http.client.HTTPResponse) -> None:
        """Write the body. Raises BrokenOffError where it is shorter than was said."""
        if response.status != HTTPStatus.PARTIAL_CONTENT:
            self._start_over()  # the whole file comes: it changed, or the server knows no ranges
        elif _first_byte(response) != self.have:
            self._start_over()
            raise BrokenOffError("the server sent another part than was asked for")
        _keep_etag(self.etag_path, response)
        stated = response.length  # what is still to come; None where it is not said
        total = None if stated is None else self.have + stated
        self._refuse_size(total)
        while block := self._block(response):
            self.part.write(block)
            self._refuse_size(self.have, partial=True)
            if self.progress is not None:
                self.progress(self.have, total or self.wanted.size)
        expected = self.wanted.size if total is None else total
        if expected is not None and self.have < expected:
            raise BrokenOffError(f"the connection ended after {self.have:,} of {expected:,} bytes")

    def _block(self, response: http.client.HTTPResponse) -> bytes:
        """Return what has arrived, at most BLOCK bytes; not waiting for more, so that a trickle cannot outwait the deadline."""
        if time.monotonic() >= self.deadline:
            raise self._waited()
        try:
            return response.read1(BLOCK)
        except TimeoutError as exc:
            raise self._waited() from exc
        except OSError as exc:
            raise BrokenOffError(f"the connection broke ({exc.strerror or exc})") from exc

    def _refuse_size(self, size: int | None, *, partial: bool = False) -> None:
        """Raise InputError for a body that cannot be the file, before more of it is written."""
        wanted = self.wanted.size
        if size is None:
            return
        if wanted is not None and (size > wanted or (size < wanted and not partial)):
            self._start_over()
            raise InputError(f"{self.wanted.url} is not the wanted file: it has {size:,} bytes, wanted {wanted:,}; nothing was kept")
        if size > self.limits.max_bytes:
            self._start_over()
            raise InputError(f"{self.wanted.url} has {size:,} bytes or more, at most {self.limits.max_bytes:,} are taken; nothing was kept")
        free = shutil.disk_usage(Path(self.part.name).parent).free
        if not partial and size - self.have > free:
            raise InputError(
                f"{self.wanted.url} needs {size - self.have:,} bytes, and {Path(self.part.name).parent} has {free:,} free; make room"
            )


def _first_byte(response: http.client.HTTPResponse) -> int | None:
    """Return the place of a partial body in the file; None where it is not said."""
    match = re.match(r"bytes ([0-9]{1,18})-[0-9]+/", response.headers.get("Content-Range", ""))
    return int(match[1]) if match else None


def _keep_etag(path: Path, response: http.client.HTTPResponse) -> None:
    """Remember which version the part is of. Weak tags do not say that bytes are the same (RFC 9110, 13.1.5)."""
    etag = response.headers.get("ETag", "")
    if etag and not etag.startswith("W/"):
        atomicfile.write(path, etag.encode("latin-1"))


def _etag(path: Path) -> str:
    try:
        return path.read_text(encoding="latin-1").strip()
    except OSError:
        return ""
