"""Cut-outs of what was found, in a folder for each label: a person moves the wrong ones to the right folder, and has a set to teach."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from pydantic import Field

from edgeannot.sinks.base import SinkContext
from edgeannot.sinks.files import FolderOptions, FolderSink, folder_name, moment_name
from edgeannot.storage.store import Message
from edgeannot.vision.data import Annotation
from edgeannot.vision.news import News

__all__ = ["CropsOptions", "CropsSink"]

_LEAST_SIDE = 16
"""Pixels; nobody sees what a smaller one shows."""
_LOOK_S = 60.0
"""How often a full folder is counted again."""


class CropsOptions(FolderOptions):
    """Cut-outs of what was found, to be sorted by a person and taught."""

    enabled: bool = False
    """Whether cut-outs are written."""
    folder: Path = Path("crops")
    """Folder for them; a relative one lies in the output folder. A folder for each label is made in it."""
    objects: bool = True
    """Whether what was detected is cut out; the regions of [states.NAME] always are."""
    labels: tuple[str, ...] = ()
    """Only these labels; empty: all that are reported."""
    margin: float = Field(default=0.1, ge=0, le=1)
    """How much of the surroundings is cut out as well, on each side, as a share of the box's side."""
    max_files: int = Field(default=2000, ge=1)
    """With so many in the folder no more are written, until some are taken out. None is removed: somebody may have sorted it."""


class CropsSink(FolderSink):
    """Writes `<folder>/<label>/<time>-<source>-<id>-<row>.jpg`."""

    def __init__(self, options: CropsOptions, context: SinkContext) -> None:
        self._options = options
        super().__init__(options, context)
        self._count = self._counted()
        self._counted_at = time.monotonic()

    def write(self, annotation: Annotation) -> Sequence[Message]:
        """Cut out and store each object; no messages."""
        from edgeannot.vision.draw import jpeg  # noqa: PLC0415 - loads OpenCV, which reading the settings must not

        if not self._options.objects:
            return ()
        image, found = annotation.frame.image, annotation.detections
        shape, whole = image.shape, annotation.frame.size_wh
        scale = shape[1] / whole[0], shape[0] / whole[1]  # of a large picture only a smaller one is in memory
        moment = moment_name(annotation.frame)
        for row, (label, box) in enumerate(zip(annotation.labels, found.boxes.tolist(), strict=True)):
            if self._options.labels and label not in self._options.labels:
                continue
            across, down = (_widened(box[axis], box[axis + 2], self._options.margin, scale[axis], shape[1 - axis]) for axis in (0, 1))
            crop = image[down, across]
            if min(crop.shape[:2]) >= _LEAST_SIDE and self._has_place():
                self._count += self._out.write(PurePosixPath(folder_name(label), f"{moment}-{row}.jpg"), jpeg(crop, 95)) is not None
        return ()

    def tell(self, news: News) -> Sequence[Message]:
        """Store the cut-outs of regions, `<folder>/<region>/<label>/<time>-<source>-<id>.jpg`; no messages."""
        from edgeannot.vision.draw import jpeg  # noqa: PLC0415 - as above

        for cut in news.cuts:
            if self._has_place():
                name = PurePosixPath(folder_name(cut.region), folder_name(cut.label), f"{moment_name(cut.frame)}.jpg")
                self._count += self._out.write(name, jpeg(cut.frame.image, 95)) is not None
        return ()

    def _has_place(self) -> bool:
        if self._count >= self._options.max_files and time.monotonic() - self._counted_at >= _LOOK_S:
            self._count, self._counted_at = self._counted(), time.monotonic()
        return self._count < self._options.max_files

    def _counted(self) -> int:
        return sum(1 for _ in self._out.folder.rglob("*.jpg"))


def _widened(near: float, far: float, margin: float, scale: float, size: int) -> slice:
    """Return the pixels from near to far, in those of the whole picture, with the margin; inside of the picture in memory."""
    more = margin * (far - near)
    return slice(max(0, round((near - more) * scale)), min(size, round((far + more) * scale)))
