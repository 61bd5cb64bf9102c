"""Open a camera with OpenCV's VideoCapture and with timeouts: parse its address, show it in logs without secrets."""

from __future__ import annotations

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, cast
from urllib.parse import quote, urlsplit, urlunsplit

import numpy as np

from edgeannot.base.redaction import learn_secret, redacted
from edgeannot.vision.data import UInt8Array

__all__ = [
    "AskedCapture",
    "Capture",
    "Format",
    "OpenCapture",
    "Opener",
    "Target",
    "TellingCapture",
    "as_bgr",
    "device_trouble",
    "open_capture",
    "parse_target",
    "with_credentials",
]

Kind = Literal["device", "libcamera", "stream", "file"]

STREAM_SCHEMES = ("rtsp", "rtsps", "http", "https", "rtmp", "rtmps", "srt", "udp", "tcp", "rtp")


class Capture(Protocol):
    """The part of cv2.VideoCapture that is used."""

    def isOpened(self) -> bool: ...  # noqa: N802, D102 - OpenCV's name
    def grab(self) -> bool: ...  # noqa: D102 - OpenCV's
    def retrieve(self) -> tuple[bool, UInt8Array | None]: ...  # noqa: D102 - OpenCV's
    def get(self, prop: int) -> float: ...  # noqa: D102 - OpenCV's
    def release(self) -> None: ...  # noqa: D102 - OpenCV's


class TellingCapture(ABC):
    """A `Capture` that knows what is wrong with it."""

    trouble = ""
    """What is wrong, after "the camera ADDRESS"; empty where only that it gives nothing is known."""
    pause_s = 0.0
    """How long the camera is to be left alone."""
    answered = True
    """Whether `trouble` is what the camera itself answered. One that is away has many reasons, one after the other, which say no more."""
    facts = ""
    """What the camera gives, such as "1280x720 MJPG at 30/s"; empty where nobody asked it."""

    @abstractmethod
    def grab(self) -> bool:
        """Take the next frame off the camera; False where there is none, with the reason in `trouble`."""

    def get(self, prop: int) -> float:
        """Return 0: `facts` has what is known."""
        del prop
        return 0.0


class AskedCapture(TellingCapture):
    """One that takes a picture only when it is asked for one."""


@dataclass(frozen=True, slots=True)
class Format:
    """What a V4L2 device is asked for; None leaves the device's own. A device may answer with something near."""

    fourcc: str | None = None
    """Pixel format; None: MJPG where the device has it, which fits larger pictures through USB than uncompressed YUYV."""
    width: int | None = None
    height: int | None = None
    fps: float | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """What is to be opened."""

    kind: Kind
    address: str
    """A device's path, libcamera:N, a URL with credentials in it, or a file's path."""
    open_timeout_s: float = 10.0
    read_timeout_s: float = 5.0
    format: Format = Format()
    http: Literal["auto", "stills", "stream"] = "auto"
    """What an address of http:// or https:// gives."""
    transport: Literal["tcp", "udp"] = "tcp"
    """What carries an RTSP stream."""
    frames: Literal["all", "key"] = "all"
    """key: only those frames of a stream or file are taken that need no other to be decoded."""
    ca_file: Path | None = None
    """Who may vouch for a server of still pictures."""

    @property
    def shown(self) -> str:
        """Return the address for logs and messages, without its secrets."""
        return redacted(self.address) if self.kind == "stream" else self.address


OpenCapture = Callable[[Target], Capture]


class Opener(ABC):
    """An `OpenCapture` that keeps something between two openings; both methods are for one thread."""

    stopped: Callable[[], bool] = staticmethod(lambda: False)
    """Whether to give up waiting for the camera; set by who uses it."""

    @abstractmethod
    def __call__(self, target: Target) -> Capture:
        """Return an opened camera."""

    @abstractmethod
    def close(self) -> None:
        """Give back what is kept."""


def parse_target(address: str) -> tuple[Kind, str]:
    """Return the kind and target of an address in the settings. Raises ValueError.

    >>> parse_target("0")
    ('device', '/dev/video0')
    """
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", address)
    if not _is_utf8(address) and (scheme or address.startswith("/dev/")):
        raise ValueError(f"wanted an address in UTF-8, found {address!r}")
    if scheme:
        if scheme[1].lower() not in STREAM_SCHEMES:
            raise ValueError(f"an address with {scheme[1]}:// is not known; wanted one of {', '.join(STREAM_SCHEMES)}")
        try:
            urlsplit(address)
        except ValueError as exc:
            raise ValueError(f"wanted an address such as rtsp://host:554/path, found one that cannot be read ({exc})") from exc
        return "stream", address
    if re.fullmatch("[0-9]{1,5}", address):
        return "device", f"/dev/video{address}"
    if address.startswith("/dev/"):
        return "device", address
    if address.startswith("libcamera:"):
        if not re.fullmatch("libcamera:[0-9]{1,3}", address):
            raise ValueError(f"wanted libcamera:0 for the first camera that libcamera finds, found {address!r}")
        return "libcamera", address
    if not address:
        raise ValueError("wanted a device (/dev/video0, libcamera:0), a URL (rtsp://...) or a video file, found nothing")
    return "file", str(Path(address).expanduser().absolute())


def with_credentials(url: str, credentials: str) -> str:
    """Return the URL with `user:password` put in, quoted as a URL needs it."""
    user, _, password = credentials.strip().partition(":")
    learn_secret(password)
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{quote(user, safe='')}:{quote(password, safe='')}@{host}"))


def open_capture(target: Target) -> Capture:
    """Return a cv2.VideoCapture for the target; it may have failed to open, and one that opened may still give no frame.

    Without explicit limits OpenCV waits 30 s for a server that does not answer, and three times that in a stream that froze.
    """
    # FFmpeg reports each damaged packet on stderr, past any logging; OpenCV reads this when it first opens a stream.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    # Loaded here: settings import the options, and `edgeannot config` must not wait for OpenCV.
    import cv2  # noqa: PLC0415

    if target.kind == "device":
        return _open_device(target, cv2)
    if target.kind == "libcamera":
        from edgeannot.sources.libcamera import LibcameraCapture  # noqa: PLC0415 - needs an extra

        return LibcameraCapture(target)
    if target.frames == "key":
        from edgeannot.sources.key_frames import KeyFrames  # noqa: PLC0415 - loads OpenCV

        return KeyFrames(_open_stream(target, cv2, [cv2.CAP_PROP_FORMAT, -1]))
    capture = _open_stream(target, cv2, [])
    if target.kind == "stream" and int(capture.get(cv2.CAP_PROP_FOURCC)) == cv2.VideoWriter.fourcc(*"MJPG"):
        from edgeannot.sources.key_frames import KeyFrames  # noqa: PLC0415 - loads OpenCV

        capture.set(cv2.CAP_PROP_FORMAT, -1)  # every frame is a key frame: decoded only when somebody wants it
        return KeyFrames(capture)
    return cast("Capture", capture)


def _open_stream(target: Target, cv2: Any, more: list[int]) -> Any:
    """Return a stream or file, opened. more: further properties and their values."""
    limits = [
        *more,
        cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, round(target.open_timeout_s * 1000),
        cv2.CAP_PROP_READ_TIMEOUT_MSEC, round(target.read_timeout_s * 1000),
    ]  # fmt: skip
    if _is_utf8(target.address):
        return cv2.VideoCapture(target.address, cv2.CAP_FFMPEG, limits)
    # OpenCV takes the name of a file as UTF-8 only, and crashes where it is none (4.10 and 5.0); FFmpeg opens it anew by this one.
    try:
        fd = os.open(target.address, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return cv2.VideoCapture()
    try:
        return cv2.VideoCapture(f"/proc/self/fd/{fd}", cv2.CAP_FFMPEG, limits)
    finally:
        os.close(fd)


def _is_utf8(text: str) -> bool:
    """Return whether no byte of it, as a name or an argument gave it, was other than UTF-8."""
    return not any("\ud800" <= c <= "\udfff" for c in text)


def _open_device(target: Target, cv2: Any) -> Capture:
    capture = cv2.VideoCapture(target.address, cv2.CAP_V4L2)
    wanted = target.format
    # The pixel format first: it decides which sizes and rates the device offers. A device that has no MJPG keeps its own.
    capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*(wanted.fourcc or "MJPG")))
    for prop, value in (
        (cv2.CAP_PROP_FRAME_WIDTH, wanted.width), (cv2.CAP_PROP_FRAME_HEIGHT, wanted.height), (cv2.CAP_PROP_FPS, wanted.fps),
    ):  # fmt: skip
        if value is not None:
            capture.set(prop, value)
    return cast("Capture", capture)


def device_trouble(target: Target, folder: Path = Path("/dev")) -> str:
    """Return why a V4L2 device did not open, as far as its path shows; else an empty text. folder: where devices are."""
    if target.kind != "device":
        return ""
    path = Path(target.address)
    try:
        path.stat()
    except FileNotFoundError:
        there = [str(device) for device in sorted(folder.glob("video*"), key=lambda p: (len(p.name), p.name))]
        return f"it is not there; video devices here: {', '.join(there) or 'none'}"
    except OSError as exc:
        return f"{exc.strerror}"
    if not os.access(path, os.R_OK | os.W_OK):
        return "this user may not use it; is it in the group video?"
    return ""


def as_bgr(image: UInt8Array) -> UInt8Array:
    """Return a frame as (H, W, 3): some devices give gray pictures, (H, W) or (H, W, 1)."""
    if image.ndim == 3 and image.shape[2] == 3:
        return image
    gray = image.reshape(*image.shape[:2], -1)[:, :, :1]
    return np.repeat(gray, 3, axis=2)
