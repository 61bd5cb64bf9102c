"""Reads detectors with one or more outputs a stride: Darknet grids, distance distributions (v8 cut, NanoDet), YOLOX, YOLO-FastestV2."""

from __future__ import annotations

from collections import defaultdict
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edgeannot.card_inference.facts import Out
from edgeannot.card_inference.grids import Form, StrideMap, read_grids
from edgeannot.card_inference.interpretation import (
    FASTESTV2,
    NANODET,
    PICODET,
    ULTRALYTICS,
    YOLOX,
    AmbiguousModelError,
    Interpretation,
    Known,
)
from edgeannot.card_inference.sample_run import activation_of
from edgeannot.tflite.trace import pieces
from edgeannot.vision.heads.dfl import Dfl
from edgeannot.vision.heads.yolo_fastestv2 import YoloFastestV2
from edgeannot.vision.heads.yolox import Yolox

__all__ = ["read_maps", "stride_maps"]

STRIDES = (4, 8, 16, 32, 64, 128)
FORMS: dict[int, tuple[Form, ...]] = {4: ("hwac", "ahwc", "achw"), 3: ("hwc", "chw"), 2: ("nc", "cn")}
"""Those with so many axes, the usual ones first."""


def read_maps(known: Known) -> list[Interpretation]:
    """Return every interpretation of outputs that are maps of strides."""
    maps = stride_maps(known)
    if maps is None:
        return []
    by_stride: dict[int, list[StrideMap]] = defaultdict(list)
    for item in maps:
        by_stride[item.stride].append(item)
    strides = tuple(sorted(by_stride))
    if len({len(group) for group in by_stride.values()}) != 1:
        return []
    per_stride = len(by_stride[strides[0]])
    groups = [by_stride[stride] for stride in strides]
    if per_stride == 1:
        singles = [group[0] for group in groups]
        return _joined(known, strides, singles) or read_grids(known, strides, singles)
    if per_stride in {2, 3}:
        return [*_fastestv2(known, strides, groups), *_distances(known, strides, groups)]
    return []


def stride_maps(known: Known) -> list[StrideMap] | None:
    """Return each output with its stride; None where one of them is no such map. Outputs that repeat another's form are kept."""
    maps = []
    for out in known.facts.outputs:
        item = _stride_map(known, out)
        if item is None:
            return None
        maps.append(item)
    return maps


def _stride_map(known: Known, out: Out) -> StrideMap | None:
    picture = known.facts.picture
    shape = known.run.shape(out.position)
    if not shape or shape[0] != 1:
        return None
    inner = shape[1:]
    for stride in STRIDES:
        cells = (-(-picture.height // stride), -(-picture.width // stride))
        for form in FORMS.get(len(inner), ()):
            named = dict(zip(form, inner, strict=True))
            if (named.get("h"), named.get("w")) == cells or named.get("n") == cells[0] * cells[1]:
                return StrideMap(out, stride, named["c"] * named.get("a", 1), form)
    return None


def _numbers(known: Known, item: StrideMap) -> NDArray[np.float32]:
    """Return (pictures, cells, channels) of a map with one set of numbers a cell."""
    numbers = known.run.of(item.out.position)[:, 0]
    if not item.channels_last:
        numbers = np.moveaxis(numbers, 1, -1)
    return numbers.reshape(len(numbers), -1, item.channels)


def _layout(maps: list[StrideMap]) -> Literal["channels-last", "channels-first"]:
    return "channels-last" if maps[0].channels_last else "channels-first"


def _joined(known: Known, strides: tuple[int, ...], maps: list[StrideMap]) -> list[Interpretation]:
    """Interpret one map a stride that joins a box with class scores: 4 * bins + C channels, or YOLOX's 5 + C."""
    channels = {item.channels for item in maps}
    if len(channels) != 1 or len(strides) < 2 or any(item.form in {"hwac", "ahwc", "achw"} for item in maps):
        return []
    total = channels.pop()
    made = pieces(known.facts.graph, maps[0].out.tensor.index, total)
    widths = [piece.width for piece in made]
    counts = known.class_counts()
    refs = tuple(item.out.ref for item in maps)
    says = f"{len(maps)} outputs with {total} channels for strides {', '.join(map(str, strides))}"
    for bins in (16, 8):
        classes = total - 4 * bins
        order: Literal["boxes-first", "scores-first"] | None = None
        if widths == [4 * bins, classes]:
            order = "boxes-first"
        elif widths == [classes, 4 * bins]:
            order = "scores-first"
        elif len(widths) == 1 and classes in counts and not (total % 3 == 0 and total // 3 - 5 in counts):
            order = "boxes-first" if bins == 16 else "scores-first"
        if order is None or classes < 1:
            continue
        numbers = np.concatenate([_numbers(known, item) for item in maps], axis=1)
        scores = numbers[..., 4 * bins :] if order == "boxes-first" else numbers[..., :classes]
        activation, why = activation_of(scores, made[-1 if order == "boxes-first" else 0].made_by if len(made) > 1 else "")
        head = Dfl(strides=strides, boxes=refs, joined=order, bins=bins, layout=_layout(maps), activation=activation)
        evidence = (says, f"{total} channels are 4 x {bins} bins of distances and {classes} classes, {order}", why)
        return [Interpretation(head, ULTRALYTICS if bins == 16 else NANODET, evidence, classes=classes)]
    if (widths[:2] == [4, 1] and sum(widths[2:]) == total - 5) or (len(widths) == 1 and total - 5 in counts and total % 3):
        numbers = np.concatenate([_numbers(known, item) for item in maps], axis=1)
        activation, why = activation_of(numbers[..., 4:], made[-1].made_by if len(made) > 1 else "")
        head_x = Yolox(outputs=refs, strides=strides, layout=_layout(maps), activation=activation)
        evidence = (says, f"{total} channels are box, objectness and {total - 5} classes, as YOLOX writes them", why)
        return [Interpretation(head_x, YOLOX, evidence, classes=total - 5)]
    return []


def _distances(known: Known, strides: tuple[int, ...], groups: list[list[StrideMap]]) -> list[Interpretation]:
    """Interpret a box map and a score map a stride, and perhaps a third with the sum of the scores."""
    interpretations: list[Interpretation] = []
    if len(strides) < 2 or any(item.form in {"hwac", "ahwc", "achw"} for group in groups for item in group):
        return interpretations
    for bins in (16, 8, 1):
        boxes, scores, sums = [], [], []
        for group in groups:
            box = [item for item in group if item.channels == 4 * bins]
            rest = [item for item in group if item.channels != 4 * bins]
            box, rest = _named_boxes(box, rest) if len(box) > 1 else (box, rest)
            one = [item for item in rest if item.channels == 1]
            many = [item for item in rest if item not in one] or one[:1]
            boxes += box
            scores += many
            sums += [item for item in one if item not in many]
        if len(boxes) != len(strides) or len(scores) != len(strides) or len(sums) not in {0, len(strides)}:
            continue
        if len({item.channels for item in scores}) != 1 or bins == 1:
            continue
        numbers = np.concatenate([_numbers(known, item) for item in scores], axis=1)
        activation, why = activation_of(numbers, scores[0].out.made_by)
        head = Dfl(
            strides=strides,
            boxes=tuple(item.out.ref for item in boxes),
            scores=tuple(item.out.ref for item in scores),
            score_sums=tuple(item.out.ref for item in sums),
            bins=bins,
            layout=_layout(boxes),
            activation=activation,
        )
        each = f"for each stride of {', '.join(map(str, strides))} one output with {4 * bins} channels (4 x {bins} bins of distances)"
        evidence = [f"{each} and one with {scores[0].channels} class scores", why]
        if sums:
            evidence.append("a third output a stride holds the sum of the scores")
        pico = bins == 8 and 64 in strides
        convention = ULTRALYTICS if bins == 16 else PICODET if pico else NANODET
        assumptions = (
            "four strides and 8 bins read as PicoDet; NanoDet-Plus has its points at the cells' corners (--set head.center=0 --color BGR)",
        )
        interpretations.append(
            Interpretation(head, convention, tuple(evidence), classes=scores[0].channels, assumptions=assumptions if pico else ())
        )
    return interpretations


def _named_boxes(boxes: list[StrideMap], rest: list[StrideMap]) -> tuple[list[StrideMap], list[StrideMap]]:
    """Return split by name: where as many classes as box numbers make two outputs look alike, their names decide."""
    named = [item for item in boxes if any(word in item.out.tensor.name.lower() for word in ("box", "reg", "dis", "dfl"))]
    return (named, [*rest, *(item for item in boxes if item not in named)]) if len(named) == 1 else (boxes, rest)


def _fastestv2(known: Known, strides: tuple[int, ...], groups: list[list[StrideMap]]) -> list[Interpretation]:
    """Interpret three maps a stride with 4 * A, A and C channels."""
    hint = known.hints.anchors
    if len(groups[0]) != 3 or len(strides) != 2:
        return []
    sets = [sorted(item.channels for item in group) for group in groups]
    anchors = sets[0][0]
    if anchors < 2 or any(4 * anchors not in channels or channels[0] != anchors for channels in sets):
        return []
    if hint is None or len(hint.pairs) != anchors * len(strides):
        raise AmbiguousModelError(
            f"model {known.facts.path}: its outputs read as YOLO-FastestV2, and the file does not hold its anchors",
            ["--anchors 'W,H W,H ...' of its training", "--anchors yolo-fastestv2"],
        )
    refs, classes = [], 0
    for group in groups:
        objectness = next(item for item in group if item.channels == anchors)
        box = next(item for item in group if item.channels == 4 * anchors and item is not objectness)
        score = next(item for item in group if item is not objectness and item is not box)
        refs += [box.out.ref, objectness.out.ref, score.out.ref]
        classes = score.channels
    pairs = hint.pairs
    per = tuple(pairs[i * anchors : (i + 1) * anchors] for i in range(len(strides)))
    head = YoloFastestV2(outputs=tuple(refs), strides=strides, anchors=per, layout=_layout(groups[0]))
    evidence = (f"three outputs a stride with {4 * anchors}, {anchors} and {classes} channels: YOLO-FastestV2",)
    return [Interpretation(head, FASTESTV2, evidence, classes=classes)]
