"""Reads grids of anchors: maps with A * (5 + C) channels, as Darknet's YOLO layers and YOLOv5 before its decoder write them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edgeannot.base.errors import InputError
from edgeannot.card_inference.facts import Out
from edgeannot.card_inference.hints import ANCHOR_SETS
from edgeannot.card_inference.interpretation import DARKNET, ULTRALYTICS, AmbiguousModelError, Interpretation, Known
from edgeannot.tflite.trace import maker, mostly_silu
from edgeannot.vision.heads.yolo_grid import Grid, YoloGrid

__all__ = ["Form", "StrideMap", "read_grids"]

Pairs = tuple[tuple[float, float], ...]


def read_grids(known: Known, strides: tuple[int, ...], maps: list[StrideMap]) -> list[Interpretation]:
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
    size, xy_scale, family = _size_rule(known, activated, preset)
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
    evidence = (
        f"{len(maps)} output(s) with {channels}: {per_cell} anchors x (5 + {classes})",
        why,
        where,
        family,
    )
    return [Interpretation(head, ULTRALYTICS if size == "square" else DARKNET, evidence, classes=classes)]


def _anchor_count(  # noqa: PLR0911 - one answer a source, the surest first
    known: Known, strides: tuple[int, ...], maps: list[StrideMap], channels: int
) -> tuple[int, int, str] | None:
    """Return anchors a cell, classes, and why; None where the channels are no A * (5 + C)."""
    shape = known.run.shape(maps[0].out.position)
    fits = {a: channels // a - 5 for a in (3, 5, 2, 4, 6, 9, 1) if channels % a == 0 and channels // a > 5}
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
        return a, fits[a], f"{len(known.hints.anchors.pairs)} anchors for {len(maps)} output(s)"
    named = [(a, c) for a, c in fits.items() if c in known.class_counts()]
    if len(named) == 1:
        return *named[0], f"the {len(known.names)} labels fit {named[0][0]} anchors a cell"
    usual = 5 if len(maps) == 1 else 3
    if usual in fits:
        return usual, fits[usual], f"{usual} anchors a cell are usual for {len(strides)} stride(s)"
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
        raise AmbiguousModelError(
            f"model {known.facts.path}: its outputs are raw grids with {per_cell} anchors a cell and {classes} classes, "
            "and the file does not hold the anchors",
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


def _size_rule(known: Known, activated: bool, preset: str) -> tuple[Literal["exp", "square"], float, str]:
    """Return how sizes are written: exp (Darknet) or the square of a sigmoid (YOLOv5, v7): the activations of the network tell."""
    if preset in {"yolov5", "yolov7"} or activated:
        return (
            "square",
            2.0,
            "sizes are squares of sigmoids, as in YOLOv5 and v7" + (f" ({preset} anchors)" if preset else " (values end in a sigmoid)"),
        )
    if preset or known.hints.cfg:
        return "exp", 1.0, "sizes are exponentials, as in Darknet"
    if sigmoids := mostly_silu(known.facts.graph):
        why = f"the network uses SiLU ({sigmoids} sigmoids), as YOLOv5 and v7: sizes are squares of sigmoids"
        return "square", 2.0, f"{why} (else --set head.size=exp --set head.xy_scale=1)"
    return "exp", 1.0, "the network has no SiLU: a Darknet kind, sizes are exponentials (else --set head.size=square --set head.xy_scale=2)"


Form = Literal["hwc", "chw", "hwac", "ahwc", "achw", "nc", "cn"]
"""The axes of a map behind the batch's: height, width, channels, anchors, or n cells in a row."""


@dataclass(frozen=True, slots=True)
class StrideMap:
    """An output that belongs to one stride: `form` says where its cells and its channels are."""

    out: Out
    stride: int
    channels: int
    form: Form

    @property
    def channels_last(self) -> bool:
        """Whether a cell's numbers lie together."""
        return self.form in {"hwc", "hwac", "nc", "ahwc"}
