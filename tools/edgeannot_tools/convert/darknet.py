"""Darknet networks (.cfg and .weights) as float TFLite: YOLO v2, v3, v4, their tiny and "fastest" kin, and classifiers like them.

The cfg is read into sections, sections and weights into layers with batch normalisation folded in, and layers are written with
`writer.Net`. The [yolo] and [region] sections themselves (logistic, anchors, boxes) stay outside the graph: their input maps are
its outputs, and `Head` says how to read them.

What the sections mean: https://github.com/AlexeyAB/darknet/wiki/CFG-Parameters-in-the-different-layers and the parser,
https://github.com/pjreddie/darknet/blob/master/src/parser.c
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from edgeannot.base.errors import InputError
from edgeannot_tools.convert.darknet_files import (
    HEAD_KINDS,
    MAX_INT32,
    TINY_WARNING,
    Section,
    WeightsFile,
    WeightSource,
    known_mistakes,
    parse_cfg,
    read_bytes,
    read_weights,
    with_masks,
)
from edgeannot_tools.graph.graph import Graph
from edgeannot_tools.graph.writer import ACTIVATIONS, Activation, Net

__all__ = ["HEAD_KINDS", "TINY_WARNING", "Conversion", "Head", "Network", "Section", "WeightSource", "WeightsFile", "convert", "parse_cfg"]

BATCH_NORM_EPSILON = 1e-6
"""Added to the variance, as OpenCV's Darknet reader does. Darknet's own forks differ (inside the root or outside, 1e-5 to 1e-6);
of the networks at hand none moves by more than 0.04 in a logit for it."""
NO_EFFECT = ("dropout", "cost")
"""Sections that do something in training only."""


@dataclass(frozen=True, slots=True)
class Head:
    """How to read one output map: channels are, per anchor, x, y, w, h, objectness and the class numbers."""

    output: str
    """The tensor's name."""
    kind: str
    """yolo (v3, v4: logistic classes, anchors in pixels) or region (v2: softmax classes, anchors in cells)."""
    grid_wh: tuple[int, int]
    classes: int
    anchors: tuple[tuple[float, float], ...]
    """Width and height, in the order of the channels."""
    scale_x_y: float = 1.0
    new_coords: bool = False
    """Scaled YOLOv4: size = (2 t)^2 * anchor in place of exp(t) * anchor."""
    softmax: bool = False
    """region: class numbers go through a softmax; else each through the logistic function."""


@dataclass(frozen=True, slots=True)
class Conversion:
    """A Darknet network as a graph, with what its reader needs to know."""

    graph: Graph
    input_wh: tuple[int, int]
    heads: tuple[Head, ...]
    """Empty for a classifier."""
    warnings: tuple[str, ...]
    """Sentences for the user about what may be wrong with the files."""
    notes: tuple[str, ...] = ()
    """Sentences for the user about how the files were read."""


def convert(
    cfg: Path, weights: Path, *, size_wh: tuple[int, int] | None = None, masks: Sequence[Sequence[int]] | None = None
) -> Conversion:
    """Return the network in a .cfg and a .weights file as a float TFLite graph, (1, H, W, C) in, RGB / 255.

    size_wh: another input size than the cfg's. masks: the anchors' numbers of each [yolo] section, in their order, in place of
    the cfg's. Raises MissingError for files that are not there and InputError for what cannot be read or is not supported.
    """
    sections = parse_cfg(read_bytes(cfg).decode("utf-8-sig", "replace"), str(cfg))
    if masks is not None:
        sections = with_masks(sections, masks, str(cfg))
    network, notes = read_weights(weights, str(cfg), lambda file: Network(sections, file, str(cfg), size_wh))
    return replace(network.conversion(known_mistakes(sections, masks)), notes=notes)


class Network:
    """Walks over the sections and writes each as layers; `tensors[i]` is what section i (without [net]) gives."""

    def __init__(self, sections: Sequence[Section], weights: WeightSource, where: str, size_wh: tuple[int, int] | None) -> None:
        self.where, self.weights, self.net = where, weights, Net()
        first, self.sections = sections[0], list(sections[1:])
        self.input_wh = size_wh or (first.integer("width", 0), first.integer("height", 0))
        width, height = self.input_wh
        if width <= 0 or height <= 0:
            raise InputError(f"{where}: wanted width and height in [net], found {width} and {height}; give the size")
        self.image = self.net.input("images", (1, height, width, first.count("channels", 3)))
        self.tensors: list[int] = []
        self.heads: list[Head] = []
        for number, section in enumerate(self.sections):
            self.tensors.append(self._layer(number, section))

    def conversion(self, warnings: Sequence[str] = ()) -> Conversion:
        """Return the graph and its heads; the outputs are the heads' maps, or the last layer where there is no head."""
        graph = self.net.graph
        outputs = [graph.find(head.output) for head in self.heads] or self.tensors[-1:]
        if not outputs:
            raise InputError(f"{self.where} has no layers")
        return Conversion(self.net.outputs(outputs), self.input_wh, tuple(self.heads), tuple(warnings))

    def _layer(self, number: int, section: Section) -> int:
        x = self.tensors[-1] if self.tensors else self.image
        if section.kind in NO_EFFECT:
            return x
        method = {
            "convolutional": self._convolutional,
            "conv": self._convolutional,
            "maxpool": self._maxpool,
            "max": self._maxpool,
            "avgpool": self._avgpool,
            "avg": self._avgpool,
            "upsample": self._upsample,
            "route": self._route,
            "shortcut": self._shortcut,
            "scale_channels": self._scale_channels,
            "sam": self._scale_channels,
            "reorg": self._reorg,
            "softmax": self._softmax,
            "soft": self._softmax,
            "yolo": self._head,
            "region": self._head,
        }.get(section.kind)
        if method is None:
            raise InputError(f"{self.where} line {section.line}: layer {number} is [{section.kind}], which is not supported")
        if section.kind != "route":
            self._map(section, x)
        try:
            y = method(number, section, x)
        except OverflowError as exc:  # a product of sizes that are possible by themselves
            raise self._wrong(section, "its result is larger than a tensor may be") from exc
        if max(self.net.shape(y)) > MAX_INT32:
            raise self._wrong(section, f"its result of shape {self.net.shape(y)} is larger than a tensor may be")
        return y

    def _convolutional(self, number: int, section: Section, x: int) -> int:
        name, (_, height, width, channels) = self._name(number, section), self.net.shape(x)
        out, kernel, groups = section.count("filters", 1), section.count("size", 1), section.count("groups", 1)
        stride = self._stride(section)
        if channels % groups or out % groups:
            raise self._wrong(section, f"{channels} channels in and {out} out cannot be in {groups} groups")
        for option in ("xnor", "binary", "deform", "share_index", "antialiasing"):
            if section.integer(option, 0):
                raise self._wrong(section, f"{option} is not supported")
        dilation = section.count("dilation", 1)
        pad = kernel // 2 * dilation if section.integer("pad", 0) else section.integer("padding", 0)
        weights, bias = self._folded(section, name, (out, channels // groups, kernel, kernel))
        reach = (kernel - 1) * dilation + 1
        # Darknet pads both sides alike but may not reach the last padded line; leaving it out makes more layers SAME.
        out_hw = [(n + 2 * pad - reach) // stride + 1 for n in (height, width)]
        if min(out_hw) < 1:
            raise self._wrong(section, f"a kernel of {kernel} does not fit into {height}x{width}; the input size is too small")
        after = [max((o - 1) * stride + reach - n - pad, 0) for o, n in zip(out_hw, (height, width), strict=True)]
        return self.net.conv(
            name,
            x,
            weights,
            bias,
            stride=stride,
            pads=(pad, after[0], pad, after[1]),
            groups=groups,
            dilation=dilation,
            activation=self._activation(section, "logistic"),
        )

    def _folded(self, section: Section, name: str, shape: tuple[int, int, int, int]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Weights and bias with batch normalisation folded in: y = (x - mean) / sqrt(variance + eps) * scale + bias."""
        out = shape[0]
        bias = self.weights.take(out, name, "bias")
        normalised = section.integer("batch_normalize", 0)
        if normalised:
            scale, mean, variance = (self.weights.take(out, name, what).astype(np.float64) for what in ("scale", "mean", "variance"))
        weights = self.weights.take(int(np.prod(shape)), name, "weights").reshape(shape)
        if normalised:
            factor = scale / np.sqrt(np.maximum(variance, 0) + BATCH_NORM_EPSILON)
            weights = (weights * factor[:, None, None, None]).astype(np.float32)
            bias = (bias - mean * factor).astype(np.float32)
        if not (np.isfinite(weights).all() and np.isfinite(bias).all()):
            raise self._wrong(section, f"the weights of {name} are not finite numbers; the file is damaged or belongs to another cfg")
        return weights, bias

    def _maxpool(self, number: int, section: Section, x: int) -> int:
        if section.integer("maxpool_depth", 0):
            raise self._wrong(section, "maxpool_depth is not supported")
        _, height, width, _ = self.net.shape(x)
        stride = self._stride(section)
        kernel = section.count("size", stride)
        total = section.integer("padding", kernel - 1)
        before = total // 2
        # As many lines behind as the last window reaches over.
        ends = [max((length + total - kernel) // stride * stride + kernel - length - before, 0) for length in (height, width)]
        return self.net.max_pool(self._name(number, section), x, kernel, stride, (before, ends[0], before, ends[1]))

    def _avgpool(self, number: int, section: Section, x: int) -> int:
        return self.net.mean_hw(self._name(number, section), x)

    def _upsample(self, number: int, section: Section, x: int) -> int:
        if section.number("scale", 1.0) != 1.0:
            raise self._wrong(section, "scale is not supported")
        return self.net.resize_nearest(self._name(number, section), x, section.count("stride", 2))

    def _route(self, number: int, section: Section, _: int) -> int:
        sources = [self._source(number, section, n) for n in section.integers("layers")]
        if not sources:
            raise self._wrong(section, "it names no layers")
        groups, chosen = section.count("groups", 1), section.integer("group_id", 0)
        if not 0 <= chosen < groups:
            raise self._wrong(section, f"group_id is {chosen}, and there are {groups} groups")
        name = self._name(number, section)
        if groups > 1:
            parts = []
            for i, source in enumerate(sources):
                count = self.net.shape(source)[3] // groups
                parts.append(self.net.slice_channels(f"{name}_part{i}", source, chosen * count, count))
            sources = parts
        return sources[0] if len(sources) == 1 else self.net.concat(name, sources)

    def _shortcut(self, number: int, section: Section, x: int) -> int:
        if section.options.get("weights_type", "none") != "none":
            raise self._wrong(section, f"weights_type = {section.options['weights_type']} is not supported")
        name, sources = self._name(number, section), section.integers("from")
        for i, source in enumerate(sources):
            y = self._source(number, section, source)
            shape, other = self.net.shape(x), self.net.shape(y)
            if shape[1:3] != other[1:3]:
                raise self._wrong(section, f"cannot add maps of the sizes {shape[1:3]} and {other[1:3]}")
            if other[3] > shape[3]:
                y = self.net.slice_channels(f"{name}_first{i}", y, 0, shape[3])
            elif other[3] < shape[3]:
                y = self.net.pad(f"{name}_wide{i}", y, (0, 0, 0, 0), channels=shape[3] - other[3])
            last = i == len(sources) - 1
            x = self.net.add(name if last else f"{name}_sum{i}", x, y, self._activation(section, "linear") if last else "linear")
        return x

    def _scale_channels(self, number: int, section: Section, x: int) -> int:
        """Multiply `from` by the layer before: a factor a channel (squeeze and excitation) or an element ([sam])."""
        source = next(iter(section.integers("from")), 0)
        name = self._name(number, section)
        y = self.net.mul(name, self._source(number, section, source), x)
        return self.net.activation(name, y, self._activation(section, "linear"))

    def _reorg(self, number: int, section: Section, x: int) -> int:
        """Darknet's reorg of v2 is no plain space-to-depth: it reads the (C, H, W) map as (C / s^2, H * s, W * s) first."""
        s = section.count("stride", 1)
        if section.integer("reverse", 0) or section.integer("flatten", 0) or section.integer("extra", 0):
            raise self._wrong(section, "reverse, flatten and extra are not supported")
        name, (_, h, w, c) = self._name(number, section), self.net.shape(x)
        if h % s or w % s or c % (s * s):
            raise self._wrong(section, f"a map of {w}x{h}x{c} cannot be reordered by {s}")
        x = self.net.transpose(f"{name}_chw", x, (0, 3, 1, 2))
        x = self.net.reshape(f"{name}_large", x, (1, c // (s * s), h * s, w * s))
        x = self.net.transpose(f"{name}_large_hwc", x, (0, 2, 3, 1))
        x = self.net.space_to_depth(f"{name}_blocks", x, s)
        x = self.net.transpose(f"{name}_blocks_chw", x, (0, 3, 1, 2))
        x = self.net.reshape(f"{name}_small", x, (1, c * s * s, h // s, w // s))
        return self.net.transpose(name, x, (0, 2, 3, 1))

    def _softmax(self, number: int, section: Section, x: int) -> int:
        n, height, width, channels = self.net.shape(x)
        flat = self.net.reshape(f"{self._name(number, section)}_flat", x, (n, height * width * channels))
        return self.net.softmax(self._name(number, section), flat)

    def _head(self, _: int, section: Section, x: int) -> int:
        graph = self.net.graph
        if "tree" in section.options:
            raise self._wrong(section, "a tree of classes (YOLO9000) is not supported")
        pairs = section.numbers("anchors")
        anchors = tuple(zip(pairs[::2], pairs[1::2], strict=False))
        chosen = list(section.integers("mask")) or list(range(len(anchors)))
        if len(pairs) % 2 or not anchors or any(not 0 <= n < len(anchors) for n in chosen):
            raise self._wrong(section, f"mask {chosen} does not fit the {len(pairs)} numbers of anchors")
        classes = section.count("classes", 20)
        _, height, width, channels = self.net.shape(x)
        if channels != len(chosen) * (5 + classes):
            wanted = f"{len(chosen)} anchors x (5 + {classes} classes) = {len(chosen) * (5 + classes)}"
            raise self._wrong(section, f"the convolution before it has {channels} filters, {wanted} are needed")
        graph.tensors[x].name = f"head{len(self.heads)}"
        self.heads.append(
            Head(
                output=graph.name(x),
                kind=section.kind,
                grid_wh=(width, height),
                classes=classes,
                anchors=tuple(anchors[n] for n in chosen),
                scale_x_y=section.number("scale_x_y", 1.0),
                new_coords=bool(section.integer("new_coords", 0)),
                softmax=bool(section.integer("softmax", 0)),
            )
        )
        return x

    # -- reading options -----------------------------------------------------------------------------------------------------

    def _name(self, number: int, section: Section) -> str:
        return f"{section.kind}{number}"

    def _wrong(self, section: Section, problem: str) -> InputError:
        return InputError(f"{self.where} line {section.line}, [{section.kind}]: {problem}")

    def _source(self, number: int, section: Section, layer: int) -> int:
        """Return the tensor of another layer: a negative number counts back from here."""
        absolute = layer if layer >= 0 else number + layer
        if not 0 <= absolute < number:
            raise self._wrong(section, f"layer {layer} does not exist before layer {number}")
        return self._map(section, self.tensors[absolute])

    def _map(self, section: Section, x: int) -> int:
        """Return the tensor, when it is a map: what comes out of [softmax] is none."""
        if len(self.net.shape(x)) != 4:
            raise self._wrong(section, f"it needs a map, and is given numbers of shape {self.net.shape(x)}")
        return x

    def _activation(self, section: Section, default: str) -> Activation:
        found = section.options.get("activation", default)
        if found not in ACTIVATIONS:
            raise self._wrong(section, f"activation {found!r} is not supported; known are: {', '.join(ACTIVATIONS)}")
        return cast("Activation", found)

    def _stride(self, section: Section) -> int:
        """Return the stride, which may be given per axis, as long as both are equal."""
        both = section.count("stride", 1)
        stride = section.count("stride_x", both)
        if stride != section.count("stride_y", both):
            raise self._wrong(section, "stride_x and stride_y differ, which is not supported")
        return stride
