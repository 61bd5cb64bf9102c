"""What the user says about a model beyond the file: the flags of `edgeannot models add`, as values."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from edgeannot.base.errors import InputError
from edgeannot.base.foreign import as_float, printable, read_bytes, shorten, to_float, to_int
from edgeannot.vision.geometry import Resize

__all__ = ["ANCHOR_SETS", "AnchorHint", "CfgLayer", "Hints", "parse_anchors", "parse_range", "read_cfg"]

Pair = tuple[float, float]

SMALLEST_STD = 1e-9
"""A smaller divisor is none: what is divided by it leaves float32."""
MAX_CLASSES = 1 << 16

ANCHOR_SETS: dict[str, tuple[float, ...]] = {
    "yolov2-voc": (1.3221, 1.73145, 3.19275, 4.00944, 5.05587, 8.09892, 9.47112, 4.84053, 11.2364, 10.0071),
    "yolov2-coco": (0.57273, 0.677385, 1.87446, 2.06253, 3.33843, 5.47434, 7.88282, 3.52778, 9.77052, 9.16828),
    "yolov3-tiny": (10, 14, 23, 27, 37, 58, 81, 82, 135, 169, 344, 319),
    "yolov3-tiny-coco": (23, 27, 37, 58, 81, 82, 81, 82, 135, 169, 344, 319),
    "yolov3": (10, 13, 16, 30, 33, 23, 30, 61, 62, 45, 59, 119, 116, 90, 156, 198, 373, 326),
    "yolov4": (12, 16, 19, 36, 40, 28, 36, 75, 76, 55, 72, 146, 142, 110, 192, 243, 459, 401),
    "yolov5": (10, 13, 16, 30, 33, 23, 30, 61, 62, 45, 59, 119, 116, 90, 156, 198, 373, 326),
    "yolo-fastest-coco": (12, 18, 37, 49, 52, 132, 115, 73, 119, 199, 242, 238),
    "yolo-fastest-voc": (26, 48, 67, 84, 72, 175, 189, 126, 137, 236, 265, 259),
    "yolo-fastestv2": (12.64, 19.39, 37.88, 51.48, 55.71, 138.31, 126.91, 78.23, 131.57, 214.55, 279.92, 258.87),
    "yolov7": (12, 16, 19, 36, 40, 28, 36, 75, 76, 55, 72, 146, 142, 110, 192, 243, 459, 401),
}
"""Anchors of the published training configurations, width and height in input pixels (v2: in cells), small to large.

"yolov3-tiny-coco" is what the official COCO weights of yolov3-tiny were trained with: its cfg's last mask should be 1,2,3.
"""


@dataclass(frozen=True, slots=True)
class AnchorHint:
    """Anchors as the user gave them, small to large or as a cfg groups them."""

    pairs: tuple[Pair, ...]
    preset: str = ""


@dataclass(frozen=True, slots=True)
class CfgLayer:
    """A [yolo] or [region] section of a Darknet cfg."""

    kind: Literal["yolo", "region"]
    anchors: tuple[Pair, ...]
    """Those of the layer's mask."""
    classes: int
    xy_scale: float
    new_coords: bool


@dataclass(frozen=True, slots=True)
class Hints:
    """The overrides; None or empty means: find out."""

    name: str | None = None
    head: str | None = None
    task: str | None = None
    labels: Path | None = None
    label_offset: int | None = None
    input_range: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    """Mean and std in bytes, in the order of the card's colours."""
    color: Literal["RGB", "BGR", "GRAY"] | None = None
    resize: Resize | None = None
    anchors: AnchorHint | None = None
    cfg: tuple[CfgLayer, ...] = ()
    box_units: Literal["normalized", "pixels"] | None = None
    min_score: float | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    """Card fields by dotted name, e.g. `head.size`, set last."""


def parse_anchors(text: str) -> AnchorHint:
    """Parse `10,14 23,27 ...`, `[(10,14), ...]` or a name of ANCHOR_SETS. Raises InputError."""
    preset = text.strip().lower()
    if preset in ANCHOR_SETS:
        numbers = list(ANCHOR_SETS[preset])
    else:
        preset = ""
        numbers = _numbers(re.sub(r"[;()\[\]x]", ",", text)) or []
    if not numbers or len(numbers) % 2:
        raise InputError(
            f"--anchors: wanted pairs of width and height like '10,14 23,27', or one of {', '.join(ANCHOR_SETS)}; found {shorten(text)}"
        )
    return AnchorHint(tuple(zip(numbers[::2], numbers[1::2], strict=True)), preset)


def parse_range(text: str, named: dict[str, tuple[tuple[float, ...], tuple[float, ...]]]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return a name of `named`, or `MEAN/STD` in bytes with one or three numbers each, like `127/128`. Raises InputError."""
    word = text.strip().lower().replace(" ", "")
    if word in named:
        return named[word]
    first, _, second = word.partition("/")
    mean, std = tuple(_numbers(first) or ()), tuple(_numbers(second) or ())
    if len(mean) not in {1, 3} or len(std) not in {1, 3} or any(abs(number) < SMALLEST_STD for number in std):
        wanted = f"{', '.join(named)} or MEAN/STD in bytes like 127/128 or 123.7,116.3,103.5/58.4,57.1,57.4"
        raise InputError(f"--input-range: wanted {wanted}; found {shorten(text)}")
    return mean, std


def _numbers(text: str) -> list[float] | None:
    """Return the numbers in a text, between commas or spaces; None where one is none."""
    numbers = [as_float(word) for word in text.replace(",", " ").split()]
    return None if None in numbers else [number for number in numbers if number is not None]


def read_cfg(path: Path) -> tuple[CfgLayer, ...]:
    """Return the [yolo] and [region] layers of a Darknet cfg. Raises MissingError or InputError."""
    text = read_bytes(path, "--cfg:").decode("utf-8", "replace")
    where = f"--cfg: {printable(path)}"
    layers = tuple(_cfg_layer(kind, options, where) for kind, options in _sections(text) if kind in {"yolo", "region"})
    if not layers:
        raise InputError(f"{where} has no [yolo] or [region] section; wanted a Darknet cfg of a detector")
    return layers


def _sections(text: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the sections of a cfg, each with its options."""
    kind, options = "", dict[str, str]()
    for raw in text.splitlines():
        line = re.split("[#;]", raw, maxsplit=1)[0].strip()
        name, equals, value = line.partition("=")
        if line.startswith("["):
            yield kind, options
            kind, options = line.strip("[]").strip(), {}
        elif equals:
            options[name.strip()] = value.strip()
    yield kind, options


def _cfg_layer(kind: str, options: Mapping[str, str], where: str) -> CfgLayer:
    def numbers(name: str) -> list[float]:
        found = _numbers(options.get(name, ""))
        if found is None:
            raise InputError(f"{where}: [{kind}] {name}: wanted numbers with commas between them, found {shorten(options[name])}")
        return found

    anchors = numbers("anchors")
    pairs = tuple(zip(anchors[::2], anchors[1::2], strict=False))
    mask = [to_int(number, f"{where}: [{kind}] mask", lowest=0) for number in numbers("mask")] or list(range(len(pairs)))
    if not pairs or max(mask) >= len(pairs):
        raise InputError(f"{where}: a [{kind}] section has {len(pairs)} anchors and the mask {shorten(mask)}")
    return CfgLayer(
        kind="yolo" if kind == "yolo" else "region",
        anchors=tuple(pairs[i] for i in mask),
        classes=to_int(options.get("classes") or 0, f"{where}: [{kind}] classes", lowest=0, highest=MAX_CLASSES),
        xy_scale=to_float(options.get("scale_x_y") or 1, f"{where}: [{kind}] scale_x_y"),
        new_coords=options.get("new_coords", "0") == "1",
    )
