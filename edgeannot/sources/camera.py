"""A camera (V4L2 device, RTSP or HTTP stream, address of still pictures): its newest frame whenever the caller is free; or a video file,
frame by frame."""

from __future__ import annotations

import itertools
import os
import stat
import time
from collections.abc import Generator, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from edgeannot.base.errors import FrameError, LinkError, MissingError
from edgeannot.base.redaction import redacted
from edgeannot.base.systemd import credential, read_secret
from edgeannot.scene.motion_options import MotionOptions
from edgeannot.scene.tracking_options import TrackingOptions
from edgeannot.sources.capture import Capture, Format, OpenCapture, Target, as_bgr, parse_target, with_credentials
from edgeannot.sources.contract import Context, Item, Source, SourceOptions, Stop, Tick
from edgeannot.sources.grabber import Grabber, Shot
from edgeannot.sources.turn import Turns
from edgeannot.vision.data import Failure, Frame, UInt8Array

__all__ = ["CameraOptions", "CameraSource"]

IDLE_S = 0.5
"""Longest time in one wait, so that a stop is noticed and the caller gets its Tick."""

_LATE_S = 0.1
"""How late a frame of a video file in real time may be."""
CAP_PROP_POS_MSEC = 0
"""OpenCV's number for the time of the current frame; named here, so that these options do not load OpenCV."""


class CameraOptions(SourceOptions):
    """A camera or a video file."""

    other_names: ClassVar[Mapping[str, str]] = dict.fromkeys(
        ("device", "path", "address", "uri", "source", "stream", "rtsp", "file", "camera", "input", "host"), "url"
    ) | {"framerate": "fps", "resolution": "width", "credentials": "credentials_file", "password": "credentials_file"}

    kind: Literal["camera"] = "camera"
    url: str = Field(examples=["/dev/video0"], json_schema_extra={"minLength": 1})
    """/dev/video0 (better: its name in /dev/v4l/by-id), libcamera:0 (a Raspberry Pi's camera module), a URL
    (rtsp://, http://, ...) of a stream or of still pictures, or a video file."""
    http: Literal["auto", "stills", "stream"] = "auto"
    """What an address of http:// gives: one picture a request (an ESP32-CAM's /capture, an IP camera's snapshot), asked for max_fps times a
    second, or a stream; auto: by its first answer."""
    credentials_file: Path | None = None
    """A file with user:password for the URL, so that the settings hold no secret. A bare name is that of a systemd credential
    (LoadCredential=) where the service has one of it."""
    ca_file: Path | None = None
    """Certificates (PEM) of the authorities that may vouch for a server of still pictures (https://), or its own; unset: those of the
    system."""
    open_timeout_s: float = Field(default=10.0, gt=0)
    """Longest time to wait for a stream to open, in seconds."""
    read_timeout_s: float = Field(default=5.0, gt=0)
    """Longest time to wait for the next frame, in seconds; a second later a frozen camera is closed and opened again. A still picture has
    to be there within this and open_timeout_s."""
    transport: Literal["tcp", "udp"] = "tcp"
    """What carries an RTSP stream. UDP loses packets where the network is full, and does not wait for them."""
    frames: Literal["all", "key"] = "all"
    """key: of a stream or video file only the key frames are decoded, one in several seconds as the camera is set: little work for much
    picture."""
    max_fps: float | None = Field(default=None, gt=0)
    """Frames taken a second: a camera's by the clock (unset: the general max_fps), a video file's by its own time (unset: all)."""
    every_n: int = Field(default=1, ge=1)
    """Take only each n-th frame of a video file."""
    realtime: bool = False
    """Play a video file at its own pace, as a camera would give it, and skip what comes too late; false: each frame, as fast as it goes."""
    loop: bool = False
    """Begin a video file again at its end."""
    width: int | None = Field(default=None, gt=0)
    """Width that a V4L2 device or libcamera is asked for, in pixels; unset: the device's own, of libcamera 1280."""
    height: int | None = Field(default=None, gt=0)
    """Height that a V4L2 device or libcamera is asked for, in pixels; unset: the device's own, of libcamera 720."""
    fps: float | None = Field(default=None, gt=0)
    """Frames a second that a V4L2 device or libcamera is asked for."""
    motion: MotionOptions = MotionOptions()
    """[sources.NAME.motion]: inference only where something has changed."""
    tracking: TrackingOptions = TrackingOptions()
    """[sources.NAME.tracking]: ids of objects, and events."""
    fourcc: str | None = Field(default=None, pattern=r"^[A-Za-z0-9 ]{4}$")
    """Pixel format that a V4L2 device is asked for, such as YUYV; unset: MJPG where the device has it."""

    _credential = field_validator("credentials_file", "ca_file")(credential)

    @field_validator("url")
    @classmethod
    def _known(cls, url: str) -> str:
        parse_target(url)
        return url

    @model_validator(mode="after")
    def _fitting(self) -> CameraOptions:
        kind, _ = parse_target(self.url)
        only = {
            "stream": ("credentials_file", "http", "ca_file", "transport"),
            "file": ("every_n", "loop", "realtime"),
            "device": ("fourcc", "width", "height", "fps"),
        }
        for other, names in only.items():
            stray = [name for name in names if name in self.model_fields_set and other != kind]
            if stray and not (kind == "libcamera" and stray[0] in {"width", "height", "fps"}):
                raise ValueError(f"{stray[0]} is for a {other}, and {redacted(self.url)} is a {kind}")
        if kind in {"device", "libcamera"} and self.frames == "key":
            raise ValueError(f'frames = "key" is for a stream or a file, and {redacted(self.url)} is a {kind}')
        return self

    def target(self, where: str) -> Target:
        """Return what is to be opened, with the login of credentials_file. where: the section, for the ConfigError of one without it."""
        kind, address = parse_target(self.url)
        if self.credentials_file is not None:
            address = with_credentials(address, read_secret(f"{where}.credentials_file", self.credentials_file))
        wanted = Format(self.fourcc, self.width, self.height, self.fps)
        limits = self.open_timeout_s, self.read_timeout_s
        return Target(kind, address, *limits, wanted, self.http, self.transport, self.frames, self.ca_file)

    def __repr_args__(self) -> Iterator[tuple[str | None, object]]:
        """Return the fields without the secrets of the URL, as settings are shown and logged."""
        for key, value in super().__repr_args__():
            yield key, redacted(value) if key == "url" and isinstance(value, str) else value


class CameraSource(Source):
    """Frames of a camera or a video file. A live camera is reopened for ever; Ticks carry the trouble."""

    def __init__(self, name: str, options: CameraOptions, context: Context, open_capture: OpenCapture | None = None) -> None:
        self.name = name
        self._options = options
        self._context = context
        if open_capture is None:
            from edgeannot.sources.stills import CameraOpener  # noqa: PLC0415 - loads ssl, which reading the settings must not

            open_capture = CameraOpener()
        self._open_capture = open_capture
        kind, self._address = parse_target(options.url)
        self.live = kind != "file"
        self._grabber: Grabber | None = None
        self._shown = ""
        self._skipped = 0
        self._seq = 0
        self._turns = Turns(name, context.at_work, Tick)

    @property
    def skipped(self) -> int:
        """Return the number of frames skipped because the caller was busy."""
        return self._skipped + (self._grabber.skipped if self._grabber else 0)

    def items(self, stop: Stop) -> Iterator[Item]:
        """Yield frames. Raises MissingError if a video file is missing, LinkError with `once` if a camera does not open."""
        return self._live_items(stop) if self.live else self._file_items(stop)

    # A live camera

    def _live_items(self, stop: Stop) -> Iterator[Item]:
        target = self._options.target(f"sources.{self.name}")
        self._shown = target.shown
        grabber = Grabber(self.name, target, self._open_capture, self._context.at_work)
        self._grabber = grabber
        configured_s = 1.0 / (self._options.max_fps or self._context.max_fps)
        turn = float("-inf")  # when it was the last frame's turn
        heard = time.monotonic()
        opened = False
        said, explained = "", False  # of an outage: its first reason, until a frame comes or the camera answers something else
        grabber.start()
        try:
            while not stop.is_set():
                interval_s = self._context.interval_s(configured_s)  # may change during a wait
                wait_s = turn + interval_s - time.monotonic()
                if wait_s > 0:
                    stop.wait(min(wait_s, IDLE_S))
                    heard = time.monotonic()  # nobody has waited for a frame until now
                    if wait_s > IDLE_S:
                        yield Tick()
                    continue
                shot = grabber.newest(IDLE_S)
                if shot is None:
                    if self._context.once and grabber.failures:
                        raise LinkError(f"{grabber.trouble} (sources.{self.name}); check its address, its power and its network")
                    if grabber.trouble and (not said or grabber.answered or grabber.explained > explained):
                        said, explained = grabber.trouble, grabber.explained
                    yield Tick(trouble=said or self._silence(time.monotonic() - heard, opened=opened))
                    continue
                heard, said, explained, opened = time.monotonic(), "", False, True
                # Keeps the rate on average, without a burst after a pause.
                turn = max(turn + interval_s, time.monotonic() - interval_s)
                frame = self._live_frame(shot)
                ticket = self._context.at_work.enter(self.name, "", frame.name)
                if ticket is None:  # a picture is processed in isolation, and the next frame is as good
                    self._skipped += 1
                    yield Tick()
                    continue
                yield replace(frame, ticket=ticket)
                if self._context.once:
                    return
        finally:
            grabber.close()
            self._skipped += grabber.skipped
            self._grabber = None

    def _silence(self, silent_s: float, *, opened: bool) -> str:
        """Return what to say of a read that does not come back; none is said within the time that a slow frame may take."""
        if not opened or silent_s < self._options.read_timeout_s:  # opening has limits of its own
            return ""
        return f"the camera {self._shown} gives no frame within {self._options.read_timeout_s:g} s"

    def _live_frame(self, shot: Shot) -> Frame:
        seq, self._seq = self._seq, self._seq + 1
        moment = shot.captured_at
        return Frame(
            image=shot.image,
            source=self.name,
            seq=seq,
            captured_at=moment,
            identity=f"{self.name}@{moment.isoformat()}#{seq}",
            decode_ms=shot.decode_ms,
            taken_at=shot.taken_at,
            name=f"{moment:%Y-%m-%d/%H%M%S}-{seq:06d}.jpg",
        )

    # A video file

    def _file_items(self, stop: Stop) -> Iterator[Item]:
        path = Path(self._address)
        try:
            facts = path.stat()
        except OSError as exc:
            raise MissingError(f"the video file {path} (sources.{self.name}.url) cannot be read: {exc.strerror}") from exc
        if not stat.S_ISREG(facts.st_mode):  # to open a pipe may never come back
            found = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a named pipe"}.get(stat.S_IFMT(facts.st_mode), "a device or socket")
            raise MissingError(f"the video file {path} (sources.{self.name}.url) cannot be read: wanted a file, found {found}")
        for turn in itertools.count():
            count = 0
            try:
                for item in self._play(path, facts, turn, stop):
                    count += not isinstance(item, Tick)
                    yield item
            except FrameError as exc:
                yield Failure(
                    self.name, path.name, exc.reason, f"{path.name}: {exc}; playback ends there, the file is left where it is", path
                )
                return
            if stop.is_set():
                return
            if count == 0:
                message = f"{path.name}: the video cannot be read: not a video, truncated, or an unknown format; left where it is"
                yield Failure(self.name, path.name, "unreadable", message, path)
                return
            if not self._options.loop or self._context.once:
                return

    def _play(self, path: Path, facts: os.stat_result, turn: int, stop: Stop) -> Iterator[Frame | Tick]:
        """Yield the frames. Raises FrameError at one that the program died of: without it those behind it cannot be decoded either."""
        of_file = f"{path.name}@{facts.st_size}-{facts.st_mtime_ns}" + (",key" if self._options.frames == "key" else "")
        capture = self._open_capture(self._options.target(f"sources.{self.name}"))
        due_ms = 0.0
        try:
            if not capture.isOpened():
                return
            began_at = time.monotonic()
            for index in itertools.count():
                name = f"{path.stem}/{index:06d}.jpg"
                ticket = yield from self._turns.take(f"{self.name}\n{of_file}#{index}", name, stop)
                began = time.perf_counter()
                if stop.is_set() or not capture.grab():
                    self._turns.leave(ticket)
                    return
                if self._options.realtime and (yield from self._is_late(capture, began_at, stop)):
                    self._skipped += 1
                    self._turns.leave(ticket)
                    continue
                image, due_ms = self._wanted(capture, index, due_ms)
                if image is None:
                    self._turns.leave(ticket)
                    continue
                decode_ms = (time.perf_counter() - began) * 1e3
                seq, self._seq = self._seq, self._seq + 1
                yield Frame(
                    image=image,
                    source=self.name,
                    seq=seq,
                    captured_at=datetime.fromtimestamp(facts.st_mtime, UTC),
                    identity=f"{of_file}#{index}" + (f".{turn}" if turn else ""),
                    path=path,
                    decode_ms=decode_ms,
                    position_s=max(capture.get(CAP_PROP_POS_MSEC), 0.0) / 1e3,
                    name=name,
                    ticket=ticket,
                )
        finally:
            capture.release()

    def _is_late(self, capture: Capture, began_at: float, stop: Stop) -> Generator[Tick, None, bool]:
        """Wait until the frame just read is due; return whether its time is over."""
        due_at = began_at + capture.get(CAP_PROP_POS_MSEC) / 1e3
        if time.monotonic() - due_at > _LATE_S:
            return True
        while (left_s := due_at - time.monotonic()) > 0 and not stop.wait(min(left_s, IDLE_S)):
            if left_s > IDLE_S:
                yield Tick()
        return False

    def _wanted(self, capture: Capture, index: int, due_ms: float) -> tuple[UInt8Array | None, float]:
        """Return the frame just read, None if it is skipped or damaged; and the time of the next one in the file."""
        if index % self._options.every_n:
            return None, due_ms
        if self._options.max_fps is not None:
            position_ms = capture.get(CAP_PROP_POS_MSEC)
            if position_ms + 1.0 < due_ms:  # a millisecond of grace: positions are rounded
                return None, due_ms
            due_ms = max(due_ms, position_ms - 1000.0 / self._options.max_fps) + 1000.0 / self._options.max_fps
        fine, image = capture.retrieve()
        if not fine or image is None or image.size == 0:
            return None, due_ms  # one damaged frame is not the end
        return as_bgr(image), due_ms
