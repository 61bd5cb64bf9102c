"""Annotated copies of the pictures, as JPEG files in the same folders as in their source."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from pydantic import Field

from edgeannot.sinks.base import SinkContext
from edgeannot.sinks.files import FolderOptions, FolderSink, picture_name
from edgeannot.storage.store import Message
from edgeannot.vision.data import Annotation

__all__ = ["ImagesOptions", "ImagesSink"]


class ImagesOptions(FolderOptions):
    """Annotated copies of the pictures."""

    enabled: bool = False
    """Whether annotated copies are written."""
    folder: Path = Path("annotated")
    """Folder for them; a relative one lies in the output folder. A folder for each source is made in it."""
    quality: int = Field(default=90, ge=1, le=100)
    """JPEG quality."""
    empty: bool = True
    """Also write a copy of a picture in which nothing was found."""


class ImagesSink(FolderSink):
    """Writes `<folder>/<source>/<name>.jpg`; a picture that was no JPEG keeps its extension before that (`cat.png.jpg`)."""

    def __init__(self, options: ImagesOptions, context: SinkContext) -> None:
        self._options = options
        super().__init__(options, context)

    def write(self, annotation: Annotation) -> Sequence[Message]:
        """Draw, encode and store one picture; no messages."""
        from edgeannot.vision.draw import annotated_jpeg  # noqa: PLC0415 - loads OpenCV, which reading the settings must not

        if len(annotation.detections) or self._options.empty:
            self._out.write(copy_name(picture_name(annotation.frame)), annotated_jpeg(annotation, self._options.quality))
        return ()


def copy_name(name: PurePosixPath) -> PurePosixPath:
    """Return the name of the JPEG copy of a picture."""
    return name if name.suffix.lower() in {".jpg", ".jpeg"} else name.with_name(name.name + ".jpg")
