"""Settings of a source that watches a folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import ConfigDict, Field, field_validator, model_validator

from edgeannot.scene.motion_options import MotionOptions
from edgeannot.sources.contract import SourceOptions

__all__ = ["DirectoryOptions", "named_folder"]


def named_folder(folder: object) -> object:
    """Return the setting of a folder as it is. Raises ValueError for the empty text, which a path would take for the current folder."""
    if folder == "":
        raise ValueError("wanted a folder, found nothing")
    if "\0" in str(folder):
        raise ValueError("wanted a folder, found a name with a NUL in it")
    return folder


class DirectoryOptions(SourceOptions):
    """A folder that is watched."""

    model_config = ConfigDict(
        json_schema_extra={
            "if": {"properties": {"after": {"const": "move"}}, "required": ["after"]},
            "then": {"required": ["after_folder"]},
            "else": {"not": {"required": ["after_folder"]}},
        }
    )
    other_names: ClassVar[Mapping[str, str]] = dict.fromkeys(("folder", "dir", "directory", "watch", "url"), "path") | {
        "move_to": "after_folder",
        "exclude": "ignore",
    }

    kind: Literal["directory"] = "directory"
    path: Path = Field(examples=["/srv/pictures"], json_schema_extra={"minLength": 1})
    """The folder."""
    recursive: bool = True
    """Whether folders inside it are watched, too; linked folders never are."""
    after: Literal["keep", "move", "delete"] = "keep"
    """What happens to a picture when its results are stored."""
    after_folder: Path | None = Field(default=None, json_schema_extra={"minLength": 1})
    """Target folder with after = "move"; may lie inside the watched folder."""
    quarantine: Literal["move", "leave"] = "move"
    """Whether a file that is no picture, or is damaged too much, is moved to the quarantine folder or only reported. A file without
    permission to read stays where it is, with a warning, and is taken later. A file that is no picture by its ending and its content
    (text, videos, archives, raw files beside pictures) is passed over."""
    ignore: tuple[str, ...] = ()
    """Names of files and folders to pass over ("*.xmp", "raw"), beside hidden and temporary ones."""
    settle_s: float = Field(default=2.0, gt=0)
    """How long a file that no event reports as complete has to stay unchanged, in seconds."""
    retry_s: float = Field(default=5.0, ge=0)
    """How long a picture that looks cut off or damaged has to stay the same before it is taken as it is, in seconds: a JPEG of which at
    least half can be read is annotated and marked as damaged, any other is given up."""
    rescan_s: float = Field(default=60.0, ge=0)
    """Time between scans, in seconds, for files that came without an event (network file systems); 0: only when events were lost."""
    max_megapixels: float = Field(default=100.0, gt=0)
    """Larger pictures are refused before they are decoded."""
    max_decode_mb: int = Field(default=256, gt=0)
    """Memory that decoding one picture may take: about 6 MB a megapixel, more for progressive JPEG, transparency and TIFF; never
    more than three quarters of the free memory, so that a larger JPEG is decoded at a smaller size."""
    motion: MotionOptions = MotionOptions()
    """[sources.NAME.motion]: inference only where something has changed."""
    max_file_mb: int = Field(default=128, gt=0)
    """Larger files are refused before they are read."""

    _somewhere = field_validator("path", "after_folder", mode="before")(named_folder)

    @model_validator(mode="after")
    def _folder_to_move_to(self) -> DirectoryOptions:
        if (self.after == "move") != (self.after_folder is not None):
            raise ValueError('after = "move" and after_folder go together: set both or neither')
        return self

    @property
    def read_folders(self) -> tuple[Path, ...]:
        """Return the watched folder."""
        return (self.path,)

    @property
    def written_folders(self) -> tuple[Path, ...]:
        """Return the watched folder where files leave it, and the one that they are moved to."""
        leave = self.after in ("move", "delete") or self.quarantine == "move"
        return (*((self.path,) if leave else ()), *((self.after_folder,) if self.after_folder is not None else ()))
