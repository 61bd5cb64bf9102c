"""SSDs whose graph ends in TFLite_Detection_PostProcess, as Edge Impulse and TFLite Model Maker export them: `models add` and `run`.

No public file of either is at hand, so the networks are made here, quantized by the tools' own quantizer. They follow the published code:
TensorFlow's `export_tflite_graph_lib_tf2.py` (SSD-MobileNetV2 FPN-Lite, which Edge Impulse trains; its files hold no metadata and no
labels) and AutoML's `postprocess.py` with Model Maker's metadata writer. Both list scores, boxes, count and classes, in this order, since
TensorFlow 2.6. What is expected comes from the same network without its last operator, by plain arithmetic after
`detection_postprocess.cc`; nothing here calls a decoder of the product's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from math import exp, sqrt
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from flatbuffers import flexbuffers

from edgeannot.vision.cards import ModelCard
from edgeannot.vision.decode import read_picture
from edgeannot.vision.engine import Engine
from edgeannot.vision.pipeline import to_tensor
from edgeannot_tools.graph.graph import Graph, Op, schema
from edgeannot_tools.graph.writer import Net
from edgeannot_tools.quantize.graph_quantizer import Recipe, calibrate_and_quantize
from tests.e2e.daemons import SAMPLES
from tests.e2e.test_made_models import Floats, annotate, overlap
from tests.e2e.test_stated_anchors import Box, levels, nine_boxes
from tests.metadata_maker import tflite_metadata
from tests.tflite_maker import with_files

SIDE = 320
CLASSES = 3
NAMES = ("ant", "bee", "cat")
MIN_SCORE = 0.5


@dataclass(frozen=True)
class Export:
    """What one exporter writes."""

    per_cell: int
    background: int
    """Score columns before that of class 0."""
    scales: tuple[float, float, float, float]
    """Of y, x, height and width."""
    most: int
    iou: float
    lowest: float
    """The score below which the operator gives nothing."""

    def anchors(self) -> Iterator[Box]:
        """Yield centre and size in pixels."""
        return fpn_lite_anchors() if self.per_cell == 6 else nine_boxes(SIDE, 3, (1, 2, 0.5), spread=True)


def fpn_lite_anchors() -> Iterator[Box]:
    """Yield TensorFlow's `multiscale_anchor_generator` for levels 3 to 7: scale 4, two sizes of three shapes a cell."""
    for stride in (8, 16, 32, 64, 128):
        cells = -(-SIDE // stride)
        for row, column, size, ratio in product(range(cells), range(cells), range(2), (1.0, 2.0, 0.5)):
            edge = 4 * stride * 2 ** (size / 2)
            yield (column + 0.5) * stride, (row + 0.5) * stride, edge * sqrt(ratio), edge / sqrt(ratio)


EDGE_IMPULSE = Export(per_cell=6, background=1, scales=(10, 10, 5, 5), most=10, iou=0.6, lowest=1e-8)
MODEL_MAKER = Export(per_cell=9, background=0, scales=(1, 1, 1, 1), most=25, iou=0.5, lowest=float("-inf"))


def raw_network(export: Export) -> Graph:
    """Make offsets and class scores of five levels, one row an anchor, scores behind a sigmoid."""
    net = Net()
    x = net.input("serving_default_images:0", (1, SIDE, SIDE, 3))
    columns, joined = CLASSES + export.background, []
    for name, width, bias, gain in (("box", 4, 0, max(export.scales) / 20), ("class", columns, -7, 5)):
        maps = levels(net, x, SIDE, name, export.per_cell * width, bias, gain)
        rows = [net.reshape(f"{name}{i}", part, (1, export.per_cell * net.shape(part)[1] ** 2, width)) for i, part in enumerate(maps)]
        joined.append(net.concat(name, rows, 1))
    return net.outputs([joined[0], net.activation("probability", joined[1], "logistic")])


def quantized(graph: Graph, input_type: Literal["int8", "uint8", "float32"]) -> Graph:
    """Quantize the network but for its input and outputs, as those exporters do: the operator behind it takes floats."""
    samples = []
    for photo in sorted(SAMPLES.glob("*.jpg"))[:2]:
        image = read_picture(photo).image
        rows, columns = (np.linspace(0, length - 1, SIDE).astype(int) for length in image.shape[:2])
        samples.append([(image[rows][:, columns, ::-1][None] / np.float32(127.5) - 1).astype(np.float32)])
    recipe = Recipe(input_type=input_type, output_type="float32", input_range=(-1, 1))
    return calibrate_and_quantize(graph.to_bytes(), samples, recipe).graph


def with_postprocess(graph: Graph, export: Export) -> Graph:
    """Add the operator behind the two outputs of a copy, with the names and the order that TensorFlow 2.6 and later give its outputs."""
    made = Graph.from_bytes(graph.to_bytes())
    anchors = np.array([(cy, cx, h, w) for cx, cy, w, h in export.anchors()], np.float32) / SIDE
    options: dict[str, Any] = {"max_detections": export.most, "max_classes_per_detection": 1, "detections_per_class": 100}
    options |= {"use_regular_nms": False, "nms_score_threshold": export.lowest, "nms_iou_threshold": export.iou, "num_classes": CLASSES}
    options |= dict(zip(("y_scale", "x_scale", "h_scale", "w_scale"), map(float, export.scales), strict=True))
    boxes, classes, scores, count = (made.add_tensor(f"StatefulPartitionedCall:{i}", ()) for i in (3, 2, 1, 0))
    operator = schema.OperatorT()
    operator.opcodeIndex = made.opcode(Op.CUSTOM, 1, "TFLite_Detection_PostProcess")
    operator.inputs, operator.outputs = [*made.outputs, made.add_constant("anchors", anchors)], [boxes, classes, scores, count]
    operator.customOptions = list(flexbuffers.Dumps(options))
    made.operators.append(operator)
    made.sub.outputs = [scores, boxes, count, classes]
    made.model.signatureDefs = None
    return made


@dataclass(frozen=True)
class Candidate:
    """An anchor's box in pixels of the photo, as it is and within the photo, its greatest class score, and the classes that have it."""

    box: Box
    inside: Box
    score: float
    names: tuple[str, ...]


def candidates(raw: Path, card: ModelCard, photo: Path, export: Export) -> list[Candidate]:
    """Return what the network without the operator gives for a photo: every anchor of MIN_SCORE and more."""
    engine, image = Engine(raw), read_picture(photo).image
    height, width = image.shape[:2]
    tensor, fit = to_tensor(card, engine)(image)
    offsets, scores = (output.real()[0] for output in engine.run(tensor))
    found = []
    for anchor, numbers, row in zip(export.anchors(), offsets, scores[:, export.background :], strict=True):
        if (best := float(max(row))) >= MIN_SCORE:
            (corners,) = fit.to_frame(np.array([decoded(numbers, anchor, export.scales)], np.float32))
            names = tuple(name for name, score in zip(NAMES, row, strict=True) if score == best)
            found.append(Candidate(tuple(corners), tuple(np.clip(corners, 0, [width, height] * 2)), best, names))
    return found


def decoded(numbers: Floats, anchor: Box, scales: tuple[float, float, float, float]) -> Box:
    cx, cy, w, h = anchor
    y, x, high, wide = (float(n) / scale for n, scale in zip(numbers, scales, strict=True))
    x, y, w, h = x * w + cx, y * h + cy, exp(wide) * w, exp(high) * h
    return x - w / 2, y - h / 2, x + w / 2, y + h / 2


def assert_picked(found: list[Any], wanted: list[Candidate], export: Export) -> None:
    """Assert that `found` are the best of `wanted` that do not overlap: in any order among equal scores, of which int8 has many."""
    picked: list[Candidate] = []
    for d in found:
        box = [d["box"][key] for key in ("x1", "y1", "x2", "y2")]
        same = [c for c in wanted if d["label"] in c.names and abs(c.score - d["score"]) < 2e-3 and np.allclose(c.inside, box, atol=0.5)]
        assert same, f"{d}: no anchor gives it"
        picked.append(same[0])
    for i, one in enumerate(picked):
        assert all(overlap(one.box, other.box) <= export.iou + 0.01 for other in picked[:i])
    for candidate in wanted:
        better = [other for other in picked if other.score >= candidate.score]
        assert len(better) == export.most or any(overlap(candidate.box, other.box) > export.iou - 0.01 for other in better), candidate


def check(export: Export, input_type: Literal["int8", "uint8", "float32"], tmp_path: Path, *, metadata: bool) -> ModelCard:
    """Make, add and run a network; its card, after what it finds was compared."""
    raw = quantized(raw_network(export), input_type)
    raw.write(tmp_path / "raw.tflite")
    model = tmp_path / "net.tflite"
    graph = with_postprocess(raw, export)
    if metadata:
        buffer, entry = schema.BufferT(), schema.MetadataT()
        roles = ("score", "location", "number of detections", "category")
        buffer.data = np.frombuffer(tflite_metadata(outputs=roles, labels_are_values=True), np.uint8)
        entry.name, entry.buffer = "TFLITE_METADATA", len(graph.model.buffers)
        graph.model.buffers.append(buffer)
        graph.model.metadata = [entry]
    graph.write(model)
    options = []
    if metadata:
        model.write_bytes(with_files(model.read_bytes(), {"names.txt": "\n".join(NAMES)}))
    else:
        (tmp_path / "labels.txt").write_text("\n".join(NAMES))
        options = ["--labels", str(tmp_path / "labels.txt")]
    card, found = annotate(model, tmp_path, SAMPLES, options, MIN_SCORE)

    photos = sorted(SAMPLES.glob("*.jpg"))
    assert sorted(found) == [photo.name for photo in photos]
    assert sum(map(len, found.values())) > 10  # or the comparison would say little
    for photo in photos:
        assert_picked(found[photo.name], candidates(tmp_path / "raw.tflite", card, photo, export), export)
    head = card.head
    assert head.kind == "ssd-postprocess"
    # The operator's own list settles the order, whatever the file's and the names say.
    assert [getattr(head, role) for role in ("scores", "boxes", "count", "classes")] == [
        f"StatefulPartitionedCall:{i}" for i in (1, 3, 0, 2)
    ]
    assert (card.label_names(), card.labels.offset) == (NAMES, 0)
    assert (card.input.resize, card.input.color) == ("stretch", "RGB")
    return card


@pytest.mark.runtime
def test_edge_impulses_ssd_is_read_as_its_runner_reads_it(tmp_path: Path) -> None:
    card = check(EDGE_IMPULSE, "int8", tmp_path, metadata=False)

    assert card.input.std[0] == pytest.approx(127.5, abs=0.1)


@pytest.mark.parametrize("input_type", [pytest.param("uint8", marks=pytest.mark.runtime), "float32"])
def test_model_makers_efficientdet_lite_is_read_with_the_labels_and_numbers_of_its_metadata(
    input_type: Literal["uint8", "float32"], tmp_path: Path
) -> None:
    card = check(MODEL_MAKER, input_type, tmp_path, metadata=True)

    # The metadata says 127 and 128; a quantized input says so itself.
    assert (card.input.mean, card.input.std) == ((127.0,), (128.0,)) or input_type == "uint8"
