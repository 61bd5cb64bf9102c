"""Model cards: `NAME.toml` beside a `NAME.tflite` states every fact that the graph itself does not, and is checked at load.

A card is found by name in a list of folders (the user's own first, then the ones that ship with the package). A name may
carry an input size, `yolov3-tiny@320`, where the card lists that size: the weights ship once and serve them all.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, PrivateAttr, TypeAdapter, ValidationError, model_validator
from pydantic_core import PydanticKnownError

from edgeannot.base.errors import CardError, ConfigError, MissingError, ModelError
from edgeannot.base.foreign import MAX_INT, MAX_NAME, is_file, number_of, one_line, parse_toml, printable, read_text, sha256_of, shorten
from edgeannot.base.options import refused, wanted
from edgeannot.tflite.file import dtype_of
from edgeannot.vision.geometry import PAD, Resize
from edgeannot.vision.heads import HEADS, Head
from edgeannot.vision.heads.classify import Classify

__all__ = [
    "CARD_SCHEMA",
    "Input",
    "Labels",
    "Measured",
    "ModelCard",
    "Provenance",
    "find_card",
    "read_card",
    "read_cards",
    "read_head",
    "what_is_wrong",
]

CARD_SCHEMA = 1
MAX_SIDE = 1 << 14
"""Pixels; a picture of more a side is beyond every board."""
SMALLEST_STD = 1e-9
"""A smaller divisor is none: what is divided by it leaves float32."""
MAX_COUNT = 1 << 20
"""Classes, detections, columns: what a card counts."""
MAX_CARD_BYTES = 4 << 20
"""Of a card with the names of some ten thousand classes."""


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Input(_Table):
    """How a picture becomes the input tensor: `real = (byte - mean) / std` per channel, then the tensor's own quantization."""

    width: int = Field(gt=0, le=MAX_SIDE)
    """Of the input, in pixels."""
    height: int = Field(gt=0, le=MAX_SIDE)
    """Of the input, in pixels."""
    channels: Literal[1, 3] = 3
    """1 for gray pictures."""
    sizes: tuple[Annotated[int, Field(gt=0, le=MAX_SIDE)], ...] = ()
    """Square sizes in pixels that a fully convolutional graph can be derived for; empty: only width x height."""
    layout: Literal["NHWC", "NCHW"] = "NHWC"
    """Order of the input tensor: channels last or first."""
    resize: Resize = "stretch"
    """How a picture is fitted into the input."""
    pad: int = Field(default=PAD, ge=0, le=255)
    """The byte that fills what a letterbox leaves free."""
    color: Literal["RGB", "BGR", "GRAY"] = "RGB"
    """Order of the channels."""
    mean: tuple[float, ...] = (0.0,)
    """In bytes, one number or one a channel, in the order of `color`."""
    std: tuple[float, ...] = (255.0,)
    """The same for what is divided by."""
    views: Literal[1, 2, 4] = 1
    """Of a classifier: views of a picture, whose numbers are averaged. 2: the whole and its mirror image; 4: also the centre's two."""

    @model_validator(mode="after")
    def _one_number_a_channel(self) -> Input:
        for name in ("mean", "std"):
            if len(getattr(self, name)) not in (1, self.channels):
                raise ValueError(f"input.{name}: wanted 1 or {self.channels} numbers, found {len(getattr(self, name))}")
        if any(abs(number) < SMALLEST_STD for number in self.std):
            raise ValueError(f"input.std: wanted numbers other than 0, at least {SMALLEST_STD:g}")
        if (self.color == "GRAY") != (self.channels == 1):
            raise ValueError(f"input.color is {self.color}, which does not fit {number_of(self.channels, 'channel')}")
        return self


class Labels(_Table):
    """Where the names of the classes are: line `class_id + offset` (0-based) of `file`, or of `names`."""

    file: str | None = None
    """A text file beside the card, one name a line."""
    names: tuple[str, ...] = ()
    """The names themselves, where there is no file."""
    offset: int = Field(default=0, ge=-MAX_COUNT, le=MAX_COUNT)
    """The line of class 0."""
    ignore: tuple[str, ...] = ("???", "background", "-")
    """Names that stand for no object: a detection of such a class is dropped."""


class Defaults(_Table):
    """What is used where the settings say nothing."""

    min_score: float = Field(default=0.3, ge=0, le=1)
    """Smallest score that is reported."""
    iou: float = Field(default=0.45, gt=0, le=1)
    """Boxes of one class that overlap more than this are one object (NMS)."""
    max_detections: int = Field(default=100, gt=0, le=MAX_COUNT)
    """The most that are reported of a picture, best first."""


class Provenance(_Table):
    """Where the weights come from and how the file was made of them."""

    source: str = ""
    """A package with its version and the file inside it, or an address."""
    source_sha256: str = ""
    """Of the file that was fetched."""
    license: str = ""
    """SPDX identifier, where there is one."""
    training: str = ""
    """What it was trained on, where that says how its figures are to be read."""
    made_by: str = ""
    """The commands that made the file."""
    calibration: str = ""
    """The pictures that the quantizer looked at."""


class Measured(_Table):
    """Accuracy as measured on a labelled set, for one input size and number type."""

    dataset: str
    """Name of the labelled set."""
    size: int
    """Input size in pixels."""
    numbers: Literal["float32", "int8"]
    """What the network calculates with."""
    pictures: int
    """How many of the set were looked at."""
    map50: float | None = None
    """Mean average precision at IoU 0.5, of a detector."""
    map50_95: float | None = None
    """The mean over IoU 0.5 to 0.95."""
    mean_iou: float | None = None
    """Of the boxes that were matched."""
    top1: float | None = None
    """Share of the pictures named rightly, of a classifier."""
    map50_margin: float | None = None
    """How far, to either side of `map50`, its 95 % interval reaches, by the bootstrap over the pictures; so with those below."""
    map50_95_margin: float | None = None
    top1_margin: float | None = None


def read_head(table: object) -> Head:
    """Return the head of a card's `[head]` table, by its kind. For pydantic: raises its errors."""
    if not isinstance(table, Mapping):
        if type(table) in HEADS.known.values():
            return cast("Head", table)
        raise PydanticKnownError("dict_type")
    if not isinstance(kind := table.get("kind"), str):
        raise refused(f"wanted a kind = {HEADS.wanted}")
    if kind == "joined" and isinstance(parts := table.get("parts"), list | tuple):
        # Its parts are tables of other kinds, of any but its own: a card must not be read for ever.
        if any(isinstance(part, Mapping) and part.get("kind") == kind for part in parts):
            raise refused("wanted parts of other kinds than joined")
        table = {**table, "parts": tuple(read_head(part) for part in parts)}
    try:
        return _adapter(HEADS.find(kind)).validate_python(table)
    except ConfigError as exc:
        raise refused(exc) from exc


@functools.cache
def _adapter(kind: type[Head]) -> TypeAdapter[Head]:
    return TypeAdapter(kind)


class ModelCard(_Table):
    """The facts of one model. `folder` is where the card was read from; file names in it are relative to that."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=())

    schema_: Literal[1] = Field(alias="schema")
    """Version of this form."""
    name: str = Field(max_length=MAX_NAME, pattern=r"^[a-z0-9][a-z0-9._-]*(@[0-9]+)?$")
    """By which `--model` finds it."""
    description: str = ""
    """One line for people."""
    file: str
    """The `.tflite` file, beside the card."""
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """Of that file."""
    task: Literal["detect", "classify", "embed"]
    """Boxes, one class a picture, or a vector that describes it."""
    family: Literal["yolo", "ssd", "nanodet", "mobilenet", "other"]
    """By which a profile orders models whose accuracies cannot be compared."""
    variant_of: str = ""
    """Name of the card whose network this is in another file, e.g. with float weights: one stands for the other, the faster is taken."""
    macs: int = Field(default=0, ge=0, le=MAX_INT)
    """Multiply-accumulates of one picture at width x height, in all its views; 0: not known."""
    input: Input
    head: Annotated[Head, PlainValidator(read_head)]
    labels: Labels = Labels()
    defaults: Defaults = Defaults()
    provenance: Provenance = Provenance()
    measured: tuple[Measured, ...] = ()

    _folder: Path = PrivateAttr(default=Path())

    @model_validator(mode="after")
    def _views_of_a_classifier(self) -> ModelCard:
        if self.input.views > 1 and not isinstance(self.head, Classify):
            raise ValueError(f"input.views: several views are for classifiers, and the head is {self.head.kind}; take it out")
        return self

    @property
    def folder(self) -> Path:
        """The folder that holds the card and its files."""
        return self._folder

    def in_folder(self, folder: Path) -> ModelCard:
        """Return this card, read from or to be written into `folder`. `model_copy` keeps the folder."""
        card = self.model_copy()
        card._folder = folder
        return card

    @property
    def model_path(self) -> Path:
        """The .tflite file."""
        return self._folder / self.file

    @property
    def dtype(self) -> Literal["int8", "float32"]:
        """What the network calculates with, by its file. Raises ModelError when that cannot be read."""
        return dtype_of(self.model_path)

    @property
    def input_wh(self) -> tuple[int, int]:
        """Width and height of the input in pixels."""
        return self.input.width, self.input.height

    def label_names(self) -> tuple[str, ...]:
        """Return the names, line by line; empty where the card has none. Raises CardError when the file cannot be read."""
        if self.labels.file is None:
            return tuple(map(one_line, self.labels.names))
        path = self._folder / self.labels.file
        try:
            text = read_text(path, "the label file", max_bytes=MAX_CARD_BYTES, error=CardError)
        except (CardError, MissingError) as exc:
            raise CardError(f"card {self.name}: {exc}; put it there or change labels.file") from exc
        names = tuple(one_line(line.strip()) for line in text.splitlines())
        if not any(names):
            raise CardError(f"card {self.name}: the label file {path} is empty; put names into it or take labels.file out of the card")
        return names

    def at_size(self, size: int | str) -> ModelCard:
        """Return this card for another square input size, named `NAME@SIZE`. Raises CardError for a size that it does not list.

        size: pixels, or the word after the @ of a name.
        """
        if str(size) not in map(str, self.input.sizes):
            if {str(size)} == set(map(str, self.input_wh)):
                return self
            offered = ", ".join(map(str, self.input.sizes)) or f"only {self.input.width}x{self.input.height}"
            raise CardError(f"card {self.name}: input size {shorten(size)} is not offered; choose from: {offered}")
        sides = {"width": int(size), "height": int(size)}
        return self.model_copy(update={"name": f"{self.name}@{size}", "input": self.input.model_copy(update=sides)})

    def verify_file(self) -> None:
        """Raise CardError when the model file is missing or is not the one that the card was written for."""
        try:
            found = sha256_of(self.model_path)
        except (OSError, ValueError) as exc:  # a ValueError for a name with a NUL in it
            shown, why = shorten(str(self.model_path), 300), getattr(exc, "strerror", None) or exc
            raise CardError(f"card {self.name}: the model file {shown} cannot be read ({why}); put it there or remove the card") from exc
        if found != self.sha256:
            advice = "restore the file, or make a new card with `edgeannot models add`"
            raise CardError(f"card {self.name}: {self.model_path} has sha256 {found}, the card says {self.sha256}; {advice}")


def read_card(path: Path) -> ModelCard:
    """Return the card in a TOML file. Raises CardError that names the file, the field, what was wanted and what was found."""
    try:
        text = read_text(path, "card", max_bytes=MAX_CARD_BYTES, error=CardError)
        return ModelCard.model_validate(parse_toml(text, f"card {path}", error=CardError)).in_folder(path.parent)
    except MissingError as exc:
        raise CardError(str(exc)) from exc
    except ValidationError as exc:
        raise CardError(f"card {path}: {what_is_wrong(exc)}") from exc


def what_is_wrong(exc: ValidationError) -> str:
    """Return the first thing that a card is refused for: its field, what was wanted, what was found."""
    first = exc.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{printable(where)[:100]}: {printable(wanted(first, 'field'))[:200]}, found {shorten(first.get('input'))}"


def read_cards(folders: Iterable[Path], wrong: Callable[[CardError], None] | None = None) -> Iterator[ModelCard]:
    """Yield every card in the folders, by name; of two with one name the first folder's counts.

    wrong: told of each card that cannot be read, which is then passed over. Without it such a card raises its CardError.
    """
    seen: set[str] = set()
    for path in (path for folder in folders for path in sorted(folder.glob("*.toml"))):
        try:
            card = read_card(path)
        except CardError as exc:
            if wrong is None:
                raise
            wrong(exc)
            continue
        if card.name not in seen:
            seen.add(card.name)
            yield card


def find_card(name: str, folders: Iterable[Path]) -> ModelCard:
    """Return the card called `name`, or `name@size`, or the card file at that path.

    Raises ModelError with the names there are, CardError where the card cannot be read; other cards do not matter.
    """
    folders = list(folders)
    base, at, size = name.partition("@")
    nameable = re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,199}", base)
    if name.endswith(".toml") and is_file(Path(name)):
        return read_card(Path(name))
    for path in (folder / f"{base}.toml" for folder in folders if nameable):
        if path.exists():  # its own file first: a card that cannot be read must not make room for another of its name
            known = read_card(path)
            if known.name == base:
                return known.at_size(size) if at else known
    names = []
    for card in read_cards(folders, wrong=lambda _: None):
        if card.name == base:
            return card.at_size(size) if at else card
        names.append(card.name)
    raise ModelError(
        f"no model called {shorten(name)}; known are: {', '.join(names) or 'none'} (folders: {', '.join(map(str, folders))}); "
        "`edgeannot models pull NAME` fetches one of `edgeannot models catalogue`"
    )
