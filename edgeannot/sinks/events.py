"""Pictures and clips of events: for each tracked object its best picture, and where asked a short video of how it appeared."""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final

from pydantic import Field

from edgeannot.sinks.base import SinkContext
from edgeannot.sinks.files import FolderOptions, FolderSink, folder_name
from edgeannot.storage.store import Message
from edgeannot.vision.data import Annotation
from edgeannot.vision.news import Event, News

__all__ = ["EventsOptions", "EventsSink", "avi"]

_MOST_SIDE: Final = 640
"""Of a clip's pictures, in pixels."""
_MOST_RING: Final = 16 * 2**20
"""Bytes of one source's pictures that wait to be a part of a clip."""
_HAS_INDEX: Final = 0x10
_KEY_FRAME: Final = 0x10


class EventsOptions(FolderOptions):
    """Pictures and clips of events of tracked objects (needs `pictures = true` of their tracking)."""

    enabled: bool = False
    """Whether they are written."""
    folder: Path = Path("events")
    """Folder for them; a relative one lies in the output folder. A folder for each source and day is made in it."""
    max_files: int = Field(default=2000, ge=1)
    """With more files in the folder the oldest are removed."""
    clip_s: float = Field(default=0.0, ge=0, le=60)
    """A clip of so many seconds before and after an object appeared, of the pictures that the model saw; 0: none."""


@dataclass(eq=False)
class _Ring:
    """The last pictures of a source."""

    frames: deque[tuple[float, bytes, tuple[int, int]]] = field(default_factory=deque)
    """Moment, JPEG, width and height."""
    bytes: int = 0
    wanted: dict[PurePosixPath, float] = field(default_factory=dict)
    """Clips that are to be written, and the moment of their event."""


class EventsSink(FolderSink):
    """Writes `<folder>/<source>/<day>/<track>.jpg` and `.avi`; the day is that on which the object was first seen."""

    def __init__(self, options: EventsOptions, context: SinkContext) -> None:
        self._options = options
        super().__init__(options, context)
        found = ((path.stat().st_mtime, path) for path in self._out.folder.rglob("*.*") if path.suffix in {".jpg", ".avi"})
        self._files = dict.fromkeys(path for _, path in sorted(found))
        """In the folder, the oldest first."""
        self._rings: dict[str, _Ring] = {}

    def write(self, annotation: Annotation) -> Sequence[Message]:
        """Keep the picture for clips, and write those whose time is over; no messages."""
        if self._options.clip_s > 0:
            self._keep(annotation)
        return ()

    def tell(self, news: News) -> Sequence[Message]:
        """Write the pictures of the events; no messages. The files are there before the messages about them are stored."""
        from edgeannot.vision.draw import jpeg  # noqa: PLC0415 - loads OpenCV, which reading the settings must not

        for event in news.events:
            name = self._name(news.source, event)
            # One that began in an earlier run has a picture of that time, and nobody knows which is better.
            if event.picture is not None and not (event.kind == "left" and event.resumed and (self._out.folder / name).exists()):
                self._store(name, jpeg(event.picture.image, 90))
            if event.kind == "appeared" and self._options.clip_s > 0:
                self._rings.setdefault(news.source, _Ring()).wanted[name.with_suffix(".avi")] = event.at_s
        return ()

    def close(self) -> None:
        """Write the clips that wait for more pictures."""
        for ring in self._rings.values():
            self._write_clips(ring, float("inf"))

    def _name(self, source: str, event: Event) -> PurePosixPath:
        return PurePosixPath(folder_name(source), event.picture_name)

    def _keep(self, annotation: Annotation) -> None:
        from edgeannot.vision.draw import annotated_jpeg, fitted_wh  # noqa: PLC0415 - as above

        frame, ring = annotation.frame, self._rings.setdefault(annotation.frame.source, _Ring())
        size_wh = fitted_wh((frame.image.shape[1], frame.image.shape[0]), _MOST_SIDE)
        data = annotated_jpeg(annotation, 75, _MOST_SIDE)
        if ring.frames and (ring.frames[-1][2] != size_wh or frame.moment_s < ring.frames[-1][0]):  # another size, or a video began again
            self._write_clips(ring, float("inf"))
            ring.frames.clear()
            ring.bytes = 0
        ring.frames.append((frame.moment_s, data, size_wh))
        ring.bytes += len(data)
        self._write_clips(ring, frame.moment_s)
        while ring.frames[0][0] < frame.moment_s - 2 * self._options.clip_s - 1 or ring.bytes > _MOST_RING:
            ring.bytes -= len(ring.frames.popleft()[1])

    def _write_clips(self, ring: _Ring, now_s: float) -> None:
        """Write the clips whose last picture has come."""
        around_s = self._options.clip_s
        for name in [name for name, at_s in ring.wanted.items() if now_s >= at_s + around_s]:
            at_s = ring.wanted.pop(name)
            part = [frame for frame in ring.frames if at_s - around_s <= frame[0] <= at_s + around_s]
            if part:
                lasts_s = part[-1][0] - part[0][0]
                self._store(name, avi([data for _, data, _ in part], part[0][2], (len(part) - 1) / lasts_s if lasts_s > 0 else 1.0))

    def _store(self, name: PurePosixPath, data: bytes) -> None:
        path = self._out.write(name, data)
        if path is None:
            return
        self._files.pop(path, None)
        self._files[path] = None
        while len(self._files) > self._options.max_files:
            oldest = next(iter(self._files))
            del self._files[oldest]
            oldest.unlink(missing_ok=True)
            if oldest.parent != path.parent and not any(oldest.parent.iterdir()):
                oldest.parent.rmdir()


# A video file of JPEGs as they are, nothing encoded anew: Microsoft, "AVI RIFF File Reference" (header lists `hdrl` and `strl`,
# chunks `00dc` in `movi`, index `idx1`).


def avi(jpegs: Sequence[bytes], size_wh: tuple[int, int], fps: float) -> bytes:
    """Return the bytes of an AVI with MJPG. jpegs: at least one, all of this size. fps: pictures a second, above 0."""
    width, height = size_wh
    us = max(1, round(1e6 / fps))
    most = max(map(len, jpegs))
    main = struct.pack("<14I", us, 0, 0, _HAS_INDEX, len(jpegs), 0, 1, most, width, height, 0, 0, 0, 0)
    stream = b"vids" + b"MJPG" + struct.pack("<IHHIIIIIIIIHHHH", 0, 0, 0, 0, us, 10**6, 0, len(jpegs), most, 10**4, 0, 0, 0, width, height)
    form = struct.pack("<IiiHH4sIiiII", 40, width, height, 1, 24, b"MJPG", width * height * 3, 0, 0, 0, 0)
    header = _list(b"hdrl", _chunk(b"avih", main) + _list(b"strl", _chunk(b"strh", stream) + _chunk(b"strf", form)))
    frames, index, offset = [], [], 4
    for jpeg in jpegs:
        frames.append(_chunk(b"00dc", jpeg))
        index.append(struct.pack("<4sIII", b"00dc", _KEY_FRAME, offset, len(jpeg)))
        offset += len(frames[-1])
    body = header + _list(b"movi", b"".join(frames)) + _chunk(b"idx1", b"".join(index))
    return _chunk(b"RIFF", b"AVI " + body)


def _chunk(name: bytes, data: bytes) -> bytes:
    return name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)


def _list(name: bytes, data: bytes) -> bytes:
    return _chunk(b"LIST", name + data)
