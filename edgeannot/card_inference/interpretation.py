"""What a rule makes of a graph: an interpretation, with its evidence and assumptions; and the error for when two interpretations fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Literal, NewType

from edgeannot.base.errors import ModelError
from edgeannot.card_inference.facts import Facts, SampleRun
from edgeannot.card_inference.hints import Hints
from edgeannot.vision.geometry import PAD, Resize
from edgeannot.vision.heads import Head

__all__ = ["RANGES", "AmbiguousModelError", "Assumed", "Assumption", "Convention", "Interpretation", "Known"]

RANGES: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "0..1": ((0.0,), (255.0,)),
    "-1..1": ((127.5,), (127.5,)),
    "0..255": ((0.0,), (1.0,)),
    "imagenet": ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
    "nanodet": ((103.53, 116.28, 123.675), (57.375, 57.12, 58.395)),
}
"""Input ranges by the word that `--input-range` takes: mean and std in bytes, in the model's order of colours.

"imagenet" is torchvision's, for R, G, B; "nanodet" are the same numbers for B, G, R.
"""


class AmbiguousModelError(ModelError):
    """Two or more interpretations fit the file; `choices` are the flags that would settle it."""

    def __init__(self, message: str, choices: Sequence[str]) -> None:
        super().__init__(f"{message}; choose with {' or '.join(choices)}")
        self.choices = tuple(choices)


class Convention(Enum):
    """How pictures are prepared for a family of models, where the file itself does not say."""

    ULTRALYTICS = ("YOLOv5 to v11 and their kin", "yolo", "letterbox", "RGB", "0..1")
    DARKNET = ("Darknet", "yolo", "stretch", "RGB", "0..1")
    YOLOX = ("YOLOX", "yolo", "letterbox-top-left", "BGR", "0..255")
    NANODET = ("NanoDet", "nanodet", "stretch", "BGR", "nanodet")
    PICODET = ("PicoDet", "yolo", "stretch", "RGB", "imagenet")
    DAMO = ("DAMO-YOLO", "yolo", "stretch", "RGB", "0..255")
    DETR = ("DETR", "other", "stretch", "RGB", "imagenet")
    RT_DETR = ("RT-DETR and its kin", "other", "stretch", "RGB", "0..1")
    SSD = ("TensorFlow's SSD and EfficientDet", "ssd", "stretch", "RGB", "-1..1")
    CENTERNET = ("TensorFlow's SSD and EfficientDet", "other", "stretch", "RGB", "-1..1")
    FASTESTV2 = ("YOLO-FastestV2", "yolo", "stretch", "BGR", "0..1")
    FASTESTDET = ("FastestDet", "yolo", "stretch", "BGR", "0..1")
    FOMO = ("Edge Impulse's FOMO", "other", "stretch", "RGB", "0..1", 0)
    MEDIAPIPE = ("MediaPipe's BlazeFace kin", "ssd", "letterbox", "RGB", "-1..1")
    PALM = ("MediaPipe's palm detection", "ssd", "letterbox", "RGB", "0..1")
    CLASSIFIER = ("TensorFlow's MobileNet and EfficientNet-Lite", "mobilenet", "stretch", "RGB", "-1..1")
    TORCH_CLASSIFIER = ("torchvision", "mobilenet", "stretch", "RGB", "imagenet")
    OF_PACKAGE = ("models with a head of a package", "other", "stretch", "RGB", "0..1")

    def __init__(
        self,
        who: str,
        family: Literal["yolo", "ssd", "nanodet", "mobilenet", "other"],
        resize: Resize,
        color: Literal["RGB", "BGR"],
        input_range: str,
        pad: int = PAD,
    ) -> None:
        """Take what the evidence calls the models, the card's word for them, a key of RANGES, and the byte that a letterbox leaves free."""
        self.who, self.family, self.resize, self.color, self.input_range, self.pad = who, family, resize, color, input_range, pad


Assumed = NewType("Assumed", str)
"""A printed assumption. Only `Assumption.of` makes one, so that each is in the list below, and in the test that shows it wrong."""


class Assumption(Enum):
    """A fact that only a family's convention settles: a clause with {places} for what was found, and what changes it, as it is typed."""

    INPUT_NUMBERS = ("input numbers {numbers}, by convention only", "--input-range")
    COLOR_ORDER = ("colour order {color}, by convention of {who}", "--color {other}")
    LOGITS = ("scores are logits, which a sigmoid follows", "--set head.activation=none")
    SOFTMAX = ("numbers are logits, which a softmax follows", "--set head.activation=sigmoid, or none")
    PERCENTAGES = ("scores are percentages", "--set head.activation=sigmoid, or none")
    CORNER_POINTS = ("cell points are at the cell's corner, as in NanoDet-Plus; PicoDet has them in the middle", "--set head.center=0.5")
    MIDDLE_POINTS = (
        "four strides and 8 bins read as PicoDet; NanoDet-Plus has its points at the cells' corners",
        "--set head.center=0 --color BGR",
    )
    SEVENTEEN_BINS = (
        "17 bins read as DAMO-YOLO, with cell points at the cell's corner; YOLOv6 and PP-YOLOE have them in the middle",
        "--set head.center=0.5 --input-range 0..1 --resize letterbox",
    )
    X_FIRST = ("corners are x first, as YOLO and DETR write them", "--set head.box_form=yxyx")
    Y_FIRST = ("corners are y first, as TensorFlow's CenterNet writes them", "--set head.box_form=xyxy")
    CLASS_SIGMOIDS = (
        (
            "each class has a sigmoid of its own, as in RT-DETR and Deformable DETR; the first DETR has a softmax with a last column for "
            "no object"
        ),
        "--set head.activation=softmax",
    )
    NO_OBJECT = (
        "a softmax with column {column} of {columns} for no object, as in {who}",
        "--set head.background={other}, or --set head.activation=sigmoid",
    )
    QUERY_ORDER = ("boxes of queries have {first} first, as {who} writes them", "--set head.box_form={other}")
    SECOND_OF_TWO = ("of two alike outputs the second counts: YOLOv9's first only helps in training", "--set head.output={other}")
    CORNER_OFFSETS = ("offsets are of corners, as the anchors are", "--set head.code=xywh, or yxhw")
    CENTRE_OFFSETS = (
        "offsets are of centre and size, {code}, divided by 10, 10, 5, 5, with exponential sizes, as TensorFlow's SSD writes them",
        "--set head.code={other}, --set head.scales=[10,10,5,5], --set head.exponential=false",
    )
    NINE_BOXES = (
        "nine boxes a cell are {who}'s, which begin at {strides} strides, with offsets that are y first and not divided",
        "--set head.octaves.anchor_scale={other}, --set head.code=xywh, --set head.scales=[10,10,5,5]",
    )
    BACKGROUND = ("column 0 of {columns} is the background, as in TensorFlow's SSD", "--labels FILE with a line for each column")
    OBJECTNESS = ("the {free} numbers after the box are class scores {form} objectness", "--set head.objectness={other}")
    GRID_SIZES = ("box sizes are {form}", "--set head.size={size} --set head.xy_scale={xy_scale}")
    CELL_SCORE = ("cells of a score of 0.5 and more make an object, as with Edge Impulse", "--min-score")
    SQUEEZED = (
        (
            "the whole picture is squeezed into the input, as by Edge Impulse's `squash`; its `fit shortest axis` cuts off the ends of a "
            "long picture, and its `fit longest axis` adds black bars"
        ),
        "--resize crop, or letterbox",
    )
    SCORE_POWERS = (
        "score = objectness ** 0.6 * class ** 0.4, as some of FastestDet's scripts have it; others multiply them as they are",
        "--set head.objectness_power=1 --set head.class_power=1",
    )

    def of(self, **found: object) -> Assumed:
        """Return the sentence that `models add` prints."""
        says, options = self.value
        return Assumed(f"{says.format(**found)} ({options.format(**found)})")


@dataclass(frozen=True, slots=True)
class Known:
    """All that a rule may look at."""

    facts: Facts
    run: SampleRun
    hints: Hints
    names: tuple[str, ...]
    """Class names from the user or the file, empty where there are none."""

    def ambiguous(self, says: str, choices: Sequence[str]) -> AmbiguousModelError:
        """Return the error that what was found may mean several things. choices: the flags that would settle it."""
        return AmbiguousModelError(f"model {self.facts.path}: {says}", choices)

    def class_counts(self) -> set[int]:
        """Return how many classes the names may stand for: all lines, or one less where the first is a background."""
        lines = len(self.names)
        if not lines:
            return set()
        return {lines, lines - (self.hints.label_offset or int(is_background(self.names[0])))}


@dataclass(frozen=True, slots=True)
class Interpretation:
    """One way to understand the outputs."""

    head: Head
    convention: Convention
    evidence: tuple[str, ...]
    """Evidence, one sentence each."""
    classes: int | None = None
    """Columns of class scores, the background's included; None: the file does not tell."""
    background: int | None = None
    """Which of them stands for no object."""
    thing: str = ""
    """What its one class is, where the form of the outputs tells (face, person); it is the name where none is given."""
    assumptions: tuple[Assumed, ...] = ()
    """What was settled by convention only, and the option that changes it."""
    scores_settled: bool = False
    """Whether the file, or a family whose numbers leave no doubt, says what makes probabilities of the scores."""

    @property
    def task(self) -> Literal["detect", "classify", "embed"]:
        """What the head gives."""
        return "classify" if self.head.kind == "classify" else "embed" if self.head.kind == "embed" else "detect"


def is_background(name: str) -> bool:
    """Tell whether a line of a label file stands for no object."""
    return name.strip().lower().strip("_") in {"???", "background", "-", "bg", "unlabeled", ""}
