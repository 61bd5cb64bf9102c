"""Reads detectors with one or more outputs a stride: Darknet grids, distance distributions (v8 cut, NanoDet), YOLOX, YOLO-FastestV2."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edgeannot.base.errors import InputError
from edgeannot.base.foreign import number_of
from edgeannot.card_inference.boxes import BINS, JoinedColumns, bins_hint, choose_bins, fastestv2_anchors
from edgeannot.card_inference.facts import Out
from edgeannot.card_inference.hints import ANCHOR_SETS
from edgeannot.card_inference.interpretation import Assumed, Assumption, Convention, Interpretation, Known
from edgeannot.card_inference.scores import PROBABILITY_MAKERS, activation_of
from edgeannot.tflite.trace import maker, mostly_silu, pieces
from edgeannot.vision.heads.dfl import Dfl
from edgeannot.vision.heads.yolo_fastestv2 import YoloFastestV2
from edgeannot.vision.heads.yolo_grid import Grid, YoloGrid

__all__ = ["StrideMap", "cell_numbers", "read_maps", "stride_maps"]

Form = Literal["hwc", "chw", "hwac", "ahwc", "achw", "nc", "cn"]
"""The axes of a map behind the batch's: height, width, channels, anchors, or n cells in a row."""
ANCHORS = (3, 5, 2, 4, 6, 9)
"""Anchors a cell of published detectors, the usual ones first."""
STRIDES = (4, 8, 16, 32, 64, 128)
FORMS: dict[int, tuple[Form, ...]] = {4: ("hwac", "ahwc", "achw"), 3: ("hwc", "chw"), 2: ("nc", "cn")}
"""Those with so many axes, the usual ones first."""


@dataclass(frozen=True, slots=True)
class StrideMap:
    """An output that belongs to one stride: `form` says where its cells and its channels are."""

    out: Out
    stride: int
    channels: int
    form: Form

    @property
    def layout(self) -> Literal["channels-last", "channels-first"]:
        """The word that heads have for whether a cell's numbers lie together."""
        return "channels-last" if self.form.endswith("c") else "channels-first"


def read_maps(known: Known) -> list[Interpretation]:
    """Return every interpretation of outputs that are maps of strides."""
    maps = [found for out in known.facts.outputs if (found := next(stride_maps(known, out), None)) is not None]
    if len(maps) < len(known.facts.outputs):
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
        return _joined(known, strides, singles) or _grids(known, strides, singles)
    if per_stride in {2, 3}:
        return [*_fastestv2(known, strides, groups), *_distances(known, strides, groups)]
    return []


def stride_maps(known: Known, out: Out) -> Iterator[StrideMap]:
    """Yield the ways to see an output as a map of one stride, for the model's input, the usual one first."""
    picture = known.facts.picture
    shape = known.run.shape(out.position)
    if not shape or shape[0] != 1:
        return
    inner = shape[1:]
    for stride in STRIDES:
        cells = (-(-picture.height // stride), -(-picture.width // stride))
        for form in FORMS.get(len(inner), ()):
            named = dict(zip(form, inner, strict=True))
            if (named.get("h"), named.get("w")) == cells or named.get("n") == cells[0] * cells[1]:
                yield StrideMap(out, stride, named["c"] * named.get("a", 1), form)


def cell_numbers(known: Known, item: StrideMap) -> NDArray[np.float32]:
    """Return (pictures, cells, channels) of a map with one set of numbers a cell."""
    numbers = known.run.of(item.out.position)[:, 0]
    if item.layout == "channels-first":
        numbers = np.moveaxis(numbers, 1, -1)
    return numbers.reshape(len(numbers), -1, item.channels)


def _joined(known: Known, strides: tuple[int, ...], maps: list[StrideMap]) -> list[Interpretation]:
    """Interpret one map a stride that joins a box with class scores: 4 * bins + C channels, or YOLOX's 5 + C."""
    channels = {item.channels for item in maps}
    if len(channels) != 1 or len(strides) < 2 or any(item.form in {"hwac", "ahwc", "achw"} for item in maps):
        return []
    total = channels.pop()
    made = pieces(known.facts.graph, maps[0].out.tensor.index, total)
    widths = [piece.width for piece in made]
    counts = known.class_counts()
    joined = JoinedColumns(
        outputs=tuple(item.out.ref for item in maps),
        strides=strides,
        numbers=np.concatenate([cell_numbers(known, item) for item in maps], axis=1),
        layout=maps[0].layout,
        made=made,
        evidence=f"{len(maps)} outputs with {total} channels for strides {', '.join(map(str, strides))}",
    )
    as_grid = any(total % anchors == 0 and total // anchors - 5 in counts for anchors in ANCHORS)
    if (len(widths) == 2 or (len(widths) == 1 and not as_grid)) and (found := joined.distances(known)) is not None:
        return [found]
    if (widths[:2] == [4, 1] and sum(widths[2:]) == total - 5) or (len(widths) == 1 and total - 5 in counts and total % 3):
        return [joined.yolox(known)]
    return []


def _parts(group: list[StrideMap]) -> Iterator[list[StrideMap]]:
    """Yield the ways to tell the maps of a stride apart: four distributions, class scores, and perhaps the sum of the scores.

    Distances come out of no sigmoid; and a name may say which map they are.
    """
    named = [item for item in group if any(word in item.out.tensor.name.lower() for word in ("box", "reg", "dis", "dfl"))]
    for boxes in named if 0 < len(named) < len(group) else group:
        rest = sorted((item for item in group if item is not boxes), key=lambda item: -item.channels)
        if boxes.channels % 4 == 0 and boxes.out.made_by not in PROBABILITY_MAKERS and (len(rest) == 1 or rest[1].channels == 1):
            yield [boxes, *rest]


def _distances(known: Known, strides: tuple[int, ...], groups: list[list[StrideMap]]) -> list[Interpretation]:
    """Interpret a box map and a score map a stride, and perhaps a third with the sum of the scores."""
    if len(strides) < 2 or any(item.form in {"hwac", "ahwc", "achw"} for group in groups for item in group):
        return []
    ways: dict[tuple[int, int], list[list[StrideMap]]] = defaultdict(list)
    for parts in (parts for group in groups for parts in _parts(group)):
        ways[parts[0].channels // 4, parts[1].channels].append(parts)
    way = choose_bins(known, [way for way, found in ways.items() if len(found) == len(strides)])
    if way is None or not (way[1] % way[0] or way[0] in BINS or way[1] in known.class_counts() or bins_hint(known)):
        return []  # an SSD's layers: as many boxes as bins, each with classes of its own
    bins, classes = way
    boxes, scores, *sums = zip(*ways[way], strict=True)
    numbers = np.concatenate([cell_numbers(known, item) for item in scores], axis=1)
    activation, why = activation_of(known, numbers, scores[0].out.made_by)
    head = Dfl(
        strides=strides,
        boxes=tuple(item.out.ref for item in boxes),
        scores=tuple(item.out.ref for item in scores),
        score_sums=tuple(item.out.ref for column in sums for item in column),
        bins=bins,
        layout=boxes[0].layout,
        activation=activation,
        center=0.0 if bins == 17 else 0.5,
    )
    each = f"for each stride of {', '.join(map(str, strides))} one output with {4 * bins} channels (4 x {bins} bins of distances)"
    evidence = [f"{each} and one with {classes} class scores", why]
    if sums:
        evidence.append("a third output a stride holds the sum of the scores")
    pico = bins == 8 and 64 in strides
    assumptions = (Assumption.MIDDLE_POINTS.of(),) if pico else (Assumption.SEVENTEEN_BINS.of(),) if bins == 17 else ()
    convention = Convention.PICODET if pico else BINS.get(bins, Convention.NANODET)
    return [Interpretation(head, convention, tuple(evidence), classes=classes, assumptions=assumptions)]


def _fastestv2(known: Known, strides: tuple[int, ...], groups: list[list[StrideMap]]) -> list[Interpretation]:
    """Interpret three maps a stride with 4 * A, A and C channels."""
    if len(groups[0]) != 3 or len(strides) != 2:
        return []
    sets = [sorted(item.channels for item in group) for group in groups]
    anchors = sets[0][0]
    if anchors < 2 or any(4 * anchors not in channels or channels[0] != anchors for channels in sets):
        return []
    pairs = fastestv2_anchors(known, anchors)
    refs, classes = [], 0
    for group in groups:
        objectness = next(item for item in group if item.channels == anchors)
        box = next(item for item in group if item.channels == 4 * anchors and item is not objectness)
        score = next(item for item in group if item is not objectness and item is not box)
        refs += [box.out.ref, objectness.out.ref, score.out.ref]
        classes = score.channels
    head = YoloFastestV2(outputs=tuple(refs), strides=strides, anchors=pairs, layout=groups[0][0].layout)
    evidence = (f"three outputs a stride with {4 * anchors}, {anchors} and {classes} channels: YOLO-FastestV2",)
    return [Interpretation(head, Convention.FASTESTV2, evidence, classes=classes)]


Pairs = tuple[tuple[float, float], ...]


def _grids(known: Known, strides: tuple[int, ...], maps: list[StrideMap]) -> list[Interpretation]:
    """Interpret one map a stride, fine to coarse, all with as many channels a cell."""
    widths = {item.channels for item in maps}
    if len(widths) != 1 or any(item.form in {"nc", "cn"} for item in maps) or (len(maps) == 1 and strides[0] < 16):
        return []
    anchors = _anchor_count(known, strides, maps, widths.pop())
    if anchors is None:
        return []
    per_cell, classes, why = anchors
    layers, preset, where = _anchors(known, strides, per_cell, classes)
    activated = _activated(known, maps)
    size, xy_scale, family, assumed = _size_rule(known, activated, preset)
    forms: dict[str, Literal["NHWC", "NCHW", "NAHWC"]] = {"hwc": "NHWC", "hwac": "NHWC", "chw": "NCHW", "achw": "NCHW", "ahwc": "NAHWC"}
    v2 = len(maps) == 1 and (preset.startswith("yolov2") or (bool(known.hints.cfg) and known.hints.cfg[0].kind == "region"))
    if known.hints.cfg and known.hints.cfg[0].new_coords:
        size, activated, xy_scale = "square", True, 2.0
    by_cfg = sorted(known.hints.cfg, key=lambda layer: _mean_area(layer.anchors))
    scales = [layer.xy_scale if layer.xy_scale != 1 else None for layer in by_cfg] or [None] * len(maps)
    head = YoloGrid(
        grids=tuple(
            Grid(output=item.out.ref, anchors=pairs, xy_scale=scale) for item, pairs, scale in zip(maps, layers, scales, strict=True)
        ),
        layout=forms[maps[0].form],
        activation="none" if activated else "sigmoid",
        class_activation="softmax" if v2 and not activated else "none" if activated else "sigmoid",
        size=size,
        xy_scale=xy_scale,
        anchor_units="cells" if v2 else "pixels",
    )
    channels = f"{per_cell * (5 + classes)} channels for strides {', '.join(map(str, strides))}"
    evidence = (f"{number_of(len(maps), 'output')} with {channels}: {per_cell} anchors x (5 + {classes})", why, where, family)
    convention = Convention.ULTRALYTICS if size == "square" else Convention.DARKNET
    return [Interpretation(head, convention, evidence, classes=classes, assumptions=assumed)]


def _anchor_count(  # noqa: PLR0911 - one answer a source, the surest first
    known: Known, strides: tuple[int, ...], maps: list[StrideMap], channels: int
) -> tuple[int, int, str] | None:
    """Return anchors a cell, classes, and why; None where the channels are no A * (5 + C)."""
    shape = known.run.shape(maps[0].out.position)
    fits = {a: channels // a - 5 for a in (*ANCHORS, 1) if channels % a == 0 and channels // a > 5}
    if not fits:
        return None
    axes = {"hwac": (3, 4), "ahwc": (1, 4), "achw": (1, 2)}.get(maps[0].form)
    if axes is not None:
        per_cell, numbers = shape[axes[0]], shape[axes[1]]
        return (per_cell, numbers - 5, f"the output's own axes say {per_cell} anchors of {numbers} numbers") if numbers > 5 else None
    if known.hints.cfg:
        a = len(known.hints.cfg[0].anchors)
        return (a, fits[a], f"the cfg has {a} anchors a layer") if a in fits else None
    if known.hints.anchors is not None:
        a = len(known.hints.anchors.pairs) // len(maps)
        if a not in fits or len(known.hints.anchors.pairs) % len(maps):
            raise InputError(
                f"--anchors: {len(known.hints.anchors.pairs)} anchors for {len(maps)} outputs of {channels} channels do not fit; "
                f"possible are {', '.join(f'{n * len(maps)} ({c} classes)' for n, c in fits.items())}"
            )
        return a, fits[a], f"{number_of(len(known.hints.anchors.pairs), 'anchor')} for {number_of(len(maps), 'output')}"
    named = [(a, c) for a, c in fits.items() if c in known.class_counts()]
    if len(named) == 1:
        return *named[0], f"the {len(known.names)} labels fit {named[0][0]} anchors a cell"
    usual = 5 if len(maps) == 1 else 3
    if usual in fits:
        return usual, fits[usual], f"{usual} anchors a cell are usual for {number_of(len(strides), 'stride')}"
    return None


def _anchors(known: Known, strides: tuple[int, ...], per_cell: int, classes: int) -> tuple[list[Pairs], str, str]:
    """Return anchors of each map, fine to coarse; the preset they come from; and a sentence."""
    hints = known.hints
    if hints.cfg:
        if len(hints.cfg) != len(strides):
            raise InputError(f"--cfg: it has {len(hints.cfg)} detection layers, the model {len(strides)} detection outputs")
        if hints.cfg[0].classes and hints.cfg[0].classes != classes:
            raise InputError(f"--cfg: it says {hints.cfg[0].classes} classes, the model's outputs hold {classes}")
        by_size = sorted((layer.anchors for layer in hints.cfg), key=_mean_area)
        return by_size, "", "anchors are the cfg's, the large ones for the coarse map"
    if hints.anchors is None:
        presets = [name for name, n in ANCHOR_SETS.items() if _offered(name, n, per_cell * len(strides), classes)]
        raise known.ambiguous(
            f"its outputs are raw grids with {per_cell} anchors a cell and {classes} classes, and the file does not hold the anchors",
            ["--anchors 'W,H W,H ...' of its training", "--cfg FILE", *(f"--anchors {name}" for name in presets)],
        )
    pairs = hints.anchors.pairs
    layers = [pairs[i * per_cell : (i + 1) * per_cell] for i in range(len(strides))]
    if len(strides) > 1 and _mean_area(layers[0]) > _mean_area(layers[-1]):
        layers.reverse()  # given coarse map first, as in YOLOv5's older files and in Darknet's order of layers
    where = f"anchors of {hints.anchors.preset}" if hints.anchors.preset else "anchors as given"
    return layers, hints.anchors.preset, f"{where}, the large ones for the coarse map"


def _offered(name: str, numbers: tuple[float, ...], wanted: int, classes: int) -> bool:
    """Tell whether a published set could be this model's: as many anchors, and no set of other classes."""
    words = {"coco": 80, "voc": 20}
    return len(numbers) == 2 * wanted and name != "yolo-fastestv2" and all(classes == n for word, n in words.items() if name.endswith(word))


def _mean_area(pairs: Pairs) -> float:
    return sum(w * h for w, h in pairs) / len(pairs)


def _activated(known: Known, maps: list[StrideMap]) -> bool:
    """Tell whether the graph has applied the sigmoid: by the operator at the end, and the range of a sample run."""
    operator = maker(known.facts.graph, maps[0].out.tensor.index)
    spans = [known.run.span(item.out.position) for item in maps]
    inside = min(low for low, _ in spans) >= -0.01 and max(high for _, high in spans) <= 1.01
    return inside and (operator is None or operator.name not in {"CONV_2D", "FULLY_CONNECTED"})


def _size_rule(known: Known, activated: bool, preset: str) -> tuple[Literal["exp", "square"], float, str, tuple[Assumed, ...]]:
    """Return how sizes are written: exp (Darknet) or the square of a sigmoid (YOLOv5, v7): the activations of the network tell."""
    if preset in {"yolov5", "yolov7"} or activated:
        why = f"{preset} anchors" if preset else "values end in a sigmoid"
        return "square", 2.0, f"sizes are squares of sigmoids, as in YOLOv5 and v7 ({why})", ()
    if preset or known.hints.cfg:
        return "exp", 1.0, "sizes are exponentials, as in Darknet", ()
    if sigmoids := mostly_silu(known.facts.graph):
        why = f"the network uses SiLU ({sigmoids} sigmoids), as YOLOv5 and v7: sizes are squares of sigmoids"
        assumed = Assumption.GRID_SIZES.of(form="squares of sigmoids, as in YOLOv5 and v7", size="exp", xy_scale=1)
        return "square", 2.0, why, (assumed,)
    assumed = Assumption.GRID_SIZES.of(form="exponentials, as in Darknet", size="square", xy_scale=2)
    return "exp", 1.0, "the network has no SiLU: a Darknet kind, sizes are exponentials", (assumed,)
