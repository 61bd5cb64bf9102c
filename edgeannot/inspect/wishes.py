"""What the user says about a model beyond the file: the flags of `edgeannot models add`, as values."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from edgeannot.errors import InputError, MissingError

__all__ = ["ANCHOR_SETS", "AnchorWish", "CfgLayer", "Wishes", "parse_anchors", "parse_range", "read_cfg"]

Pair = tuple[float, float]

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
class AnchorWish:
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
class Wishes:
    """The overrides; None or empty means: find out."""

    name: str | None = None
    head: str | None = None
    task: str | None = None
    labels: Path | None = None
    label_offset: int | None = None
    input_range: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    """Mean and std in bytes, in the order of the card's colours."""
    color: Literal["RGB", "BGR", "GRAY"] | None = None
    resize: Literal["stretch", "letterbox", "letterbox-top-left"] | None = None
    anchors: AnchorWish | None = None
    cfg: tuple[CfgLayer, ...] = ()
    box_units: Literal["normalized", "pixels"] | None = None
    min_score: float | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    """Card fields by dotted name, e.g. `head.size`, set last."""


def parse_anchors(text: str) -> AnchorWish:
    """`10,14 23,27 ...`, `[(10,14), ...]` or a name of ANCHOR_SETS. Raises InputError."""
    preset = text.strip().lower()
    if preset in ANCHOR_SETS:
        numbers = list(ANCHOR_SETS[preset])
    else:
        preset = ""
        numbers = [float(number) for number in re.findall(r"\d+(?:\.\d+)?", text)]
    if not numbers or len(numbers) % 2 or (not preset and re.search(r"[^\d.,;\s()\[\]x]", text)):
        raise InputError(
            f"--anchors: wanted pairs of width and height like '10,14 23,27', or one of {', '.join(ANCHOR_SETS)}; found {text!r}"
        )
    return AnchorWish(tuple(zip(numbers[::2], numbers[1::2], strict=True)), preset)


def parse_range(text: str, named: dict[str, tuple[tuple[float, ...], tuple[float, ...]]]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """A name of `named`, or `MEAN/STD` in bytes with one or three numbers each, like `127/128`. Raises InputError."""
    word = text.strip().lower().replace(" ", "")
    if word in named:
        return named[word]
    parts = word.split("/")
    try:
        mean, std = (tuple(float(number) for number in part.split(",")) for part in parts)
    except ValueError:
        mean, std = (), ()
    if len(mean) not in {1, 3} or len(std) not in {1, 3} or 0.0 in std:
        wanted = f"{', '.join(named)} or MEAN/STD in bytes like 127/128 or 123.7,116.3,103.5/58.4,57.1,57.4"
        raise InputError(f"--input-range: wanted {wanted}; found {text!r}")
    return mean, std


def read_cfg(path: Path) -> tuple[CfgLayer, ...]:
    """The [yolo] and [region] layers of a Darknet cfg. Raises MissingError or InputError."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as exc:
        raise MissingError(f"--cfg: {path} cannot be read ({exc.strerror})") from exc
    layers = []
    for match in re.finditer(r"^\s*\[(\w+)\]([^\[]*)", text, re.MULTILINE):
        if match[1] not in {"yolo", "region"}:
            continue
        options = dict(re.findall(r"^\s*([\w.]+)\s*=\s*([^#;\n]*)", match[2], re.MULTILINE))
        numbers = [float(n) for n in re.findall(r"[\d.]+", options.get("anchors", ""))]
        pairs = tuple(zip(numbers[::2], numbers[1::2], strict=False))
        mask = [int(n) for n in re.findall(r"\d+", options.get("mask", ""))] or list(range(len(pairs)))
        if not pairs or max(mask) >= len(pairs):
            raise InputError(f"--cfg: {path}: a [{match[1]}] section has {len(pairs)} anchors and the mask {mask}")
        layers.append(
            CfgLayer(
                kind="yolo" if match[1] == "yolo" else "region",
                anchors=tuple(pairs[i] for i in mask),
                classes=int(options.get("classes", "0") or 0),
                xy_scale=float(options.get("scale_x_y", "1") or 1),
                new_coords=options.get("new_coords", "0").strip() == "1",
            )
        )
    if not layers:
        raise InputError(f"--cfg: {path} has no [yolo] or [region] section; wanted a Darknet cfg of a detector")
    return tuple(layers)
