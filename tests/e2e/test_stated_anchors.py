"""SSDs whose anchors are not in the graph: `models add` and `run`, against plain arithmetic after the published decoders.

The decoders here follow MediaPipe's `tensors_to_detections_calculator.cc` and the anchors of its model maker, of BlazeFace and of AutoML's
`efficientdet/tf2/anchors.py`; they call none of the product's. Two files are real ones of the test data. Of EfficientDet without its
post-processing, and of a model maker's network with as many scores as box numbers, no file is at hand: those are made here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import product
from math import exp, sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeannot.card_inference import propose
from edgeannot.vision.cards import ModelCard
from edgeannot.vision.data import Frame
from edgeannot.vision.decode import read_picture
from edgeannot.vision.pipeline import Pipeline, load_engine
from edgeannot_tools.graph.graph import Graph, schema
from edgeannot_tools.graph.writer import Net
from tests.e2e.daemons import SAMPLES
from tests.e2e.test_made_models import Decode, Floats, Object, agree, annotate, expected, overlap, sigmoid
from tests.made_networks import layer
from tests.metadata_maker import detector_metadata, tflite_metadata
from tests.tflite_maker import with_files

pytestmark = pytest.mark.runtime_long

Box = tuple[float, float, float, float]


# -- anchors and decoders ------------------------------------------------------------------------------------------------------


def nine_boxes(side: int, start: float, ratios: tuple[float, float, float], *, spread: bool) -> Iterator[Box]:
    """Yield centre and size in pixels: three sizes of three shapes at each cell of strides 8 to 128.

    spread: cells of equal width over the whole input, as EfficientDet has them; else steps of a stride.
    """
    for stride in (8, 16, 32, 64, 128):
        cells = -(-side // stride)
        step = side / cells if spread else stride
        for row, column, size, ratio in product(range(cells), range(cells), range(3), ratios):
            edge = start * step * 2 ** (size / 3)
            yield (column + 0.5) * step, (row + 0.5) * step, edge * sqrt(ratio), edge / sqrt(ratio)


def y_first(boxes: Floats, scores: Floats, anchors: Iterator[Box], first: int, minimum: float) -> Iterator[Object]:
    """Decode offsets y, x, height, width that are not divided. first: the first column that stands for a class."""
    for offsets, row, (cx, cy, anchor_w, anchor_h) in zip(boxes, scores, anchors, strict=True):
        label = first + int(np.argmax(row[first:]))
        if row[label] >= minimum:
            y, x, high, wide = (float(n) for n in offsets)
            middle_x, middle_y, w, h = x * anchor_w + cx, y * anchor_h + cy, exp(wide) * anchor_w, exp(high) * anchor_h
            yield label, float(row[label]), (middle_x - w / 2, middle_y - h / 2, middle_x + w / 2, middle_y + h / 2)


def model_maker(outputs: list[Floats], side: int, minimum: float) -> Iterator[Object]:
    """Decode MediaPipe's model maker: boxes, then probabilities with a background column."""
    yield from y_first(outputs[0][0], outputs[1][0], nine_boxes(side, 3, (0.5, 1, 2), spread=False), 1, minimum)


def efficientdet(outputs: list[Floats], side: int, minimum: float) -> Iterator[Object]:
    """Decode EfficientDet: class logits of five levels, then the boxes of five levels."""
    classes = np.concatenate([level.reshape(-1, 3) for level in outputs[:5]])
    boxes = np.concatenate([level.reshape(-1, 4) for level in outputs[5:]])
    yield from y_first(boxes, 1 / (1 + np.exp(-classes)), nine_boxes(side, 3, (1, 2, 0.5), spread=True), 0, minimum)


def blazeface(outputs: list[Floats], side: int, minimum: float) -> Iterator[Object]:
    """Decode BlazeFace: 16 x 16 cells of two boxes and 8 x 8 of six, all as large as the input; boxes come with twelve keypoint numbers."""
    by_size = {output.shape[1:]: output[0] for output in outputs}
    for rows, cells in ((512, 16), (384, 8)):
        for i, (numbers, logit) in enumerate(zip(by_size[rows, 16], by_size[rows, 1], strict=True)):
            score = sigmoid(min(max(float(logit[0]), -100), 100))
            if score >= minimum:
                cell = i // (rows // cells**2)
                x, y, w, h = (float(n) for n in numbers[:4])
                x, y = x + (cell % cells + 0.5) * side / cells, y + (cell // cells + 0.5) * side / cells
                yield 0, score, (x - w / 2, y - h / 2, x + w / 2, y + h / 2)


# -- networks --------------------------------------------------------------------------------------------------------------------


def levels(net: Net, x: int, side: int, name: str, channels: int, bias: float, gain: float) -> list[int]:
    """Return a map for each of the strides 8 to 128; zeros fill the last cells of a stride that does not divide the side."""
    maps = []
    for stride in (8, 16, 32, 64, 128):
        rest = -side % stride
        whole = net.pad(f"{name}{stride}_whole", x, (0, rest, 0, rest)) if rest else x
        maps.append(layer(net, whole, f"{name}{stride}", stride, channels, bias=bias, gain=gain))
    return maps


def efficientdet_network() -> Graph:
    """Make EfficientDet-Lite0's outputs as AutoML's `model_inspect.py` exports them: a class and a box map a level."""
    net = Net()
    x = net.input("image", (1, 320, 320, 3))
    return net.outputs([*levels(net, x, 320, "class", 27, -20, 8), *levels(net, x, 320, "box", 36, 0, 1)])


def model_maker_network() -> Graph:
    """Make a model maker's network with three classes and a background: as many scores as box numbers."""
    net = Net()
    x = net.input("image", (1, 256, 256, 3))
    rows = []
    for name, bias, gain in (("box", 0, 1), ("class", -20, 8)):
        maps = levels(net, x, 256, name, 36, bias, gain)
        parts = [net.reshape(f"{name}{i}", part, (1, 9 * net.shape(part)[1] ** 2, 4)) for i, part in enumerate(maps)]
        rows.append(net.concat(name, parts, 1))
    return net.outputs([rows[0], net.activation("probability", rows[1], "logistic")])


def with_notes(graph: Graph, path: Path) -> Path:
    """Write the network with the notes and labels that the model maker leaves in a file."""
    anchors = np.array(list(nine_boxes(256, 3, (0.5, 1, 2), spread=False))) / 256
    buffer, entry = schema.BufferT(), schema.MetadataT()
    buffer.data = np.frombuffer(tflite_metadata(detector_metadata(anchors, classes=4), outputs=("location", "score")), np.uint8)
    entry.name, entry.buffer = "TFLITE_METADATA", len(graph.model.buffers)
    graph.model.buffers.append(buffer)
    graph.model.metadata = [entry]
    graph.write(path)
    path.write_bytes(with_files(path.read_bytes(), {"names.txt": "background\nant\nbee\ncat\n"}))
    return path


# -- all of them -----------------------------------------------------------------------------------------------------------------


def test_a_model_makers_detector_of_the_field_is_read_by_its_own_notes(
    data_dir: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    photos = data_dir / "photos"
    card, found = annotate(data_dir / "field" / "mm_person.tflite", tmp_path, photos, [], 0.3)

    assert card.label_names() == ("background", "null", "person")
    wanted = {photo.name: expected(card, photo, model_maker, suppress=True, min_score=0.3) for photo in sorted(photos.iterdir())}
    assert sum(map(len, wanted.values())) > 5
    for photo, objects in wanted.items():
        agree(objects, found[photo], 0.3)
    # What MediaPipe's own task finds in this photo, with LiteRT's kernels; tflite-runtime's integer ones round differently.
    tolerance = 0.1 if request.config.getoption("runtime_name") == "tflite-runtime" else 0.03
    people = [(d["score"], [d["box"][key] for key in ("x1", "y1", "x2", "y2")]) for d in found["bus.jpg"] if d["label"] == "person"]
    for score, box in ((0.91, (33, 413, 235, 909)), (0.66, (214, 386, 355, 834))):
        assert any(abs(score - other) < tolerance and overlap(box, place) > 0.8 for other, place in people), people


def test_a_blazeface_of_the_field_with_its_layers_apart_is_read_as_the_joined_one(data_dir: Path, tmp_path: Path) -> None:
    photos = data_dir / "photos"
    (tmp_path / "names.txt").write_text("face\n")
    options = ["--labels", str(tmp_path / "names.txt")]
    card, found = annotate(data_dir / "field" / "omv_blazeface_front_128.tflite", tmp_path, photos, options, 0.5)

    wanted = {photo.name: expected(card, photo, blazeface, suppress=True, min_score=0.5) for photo in sorted(photos.iterdir())}
    for photo, objects in wanted.items():
        agree(objects, found[photo], 0.5)
    reference = json.loads((data_dir / "reference" / "blazeface_front_f32.json").read_text())["images"]["photos/face.jpg"]
    assert overlap(reference["detections"][0]["box_xyxy_px"], [found["face.jpg"][0]["box"][key] for key in ("x1", "y1", "x2", "y2")]) > 0.8


@pytest.mark.parametrize("name", ["mm_person", "omv_blazeface_front_128"])
def test_a_file_of_the_field_gives_the_same_each_time_that_it_is_loaded(name: str, data_dir: Path, tmp_path: Path) -> None:
    path = data_dir / "field" / f"{name}.tflite"
    frame = Frame(read_picture(data_dir / "photos" / "face.jpg").image, "test", 0, datetime.now(UTC), "face")
    cards = [propose(path).card for _ in range(2)]
    found = [Pipeline(cards[i % 2], load_engine(cards[i % 2]))(frame) for i in range(10)]

    assert cards[0] == cards[1]
    assert len(found[0].detections) > 0
    for each in found[1:]:
        assert (each.labels, each.detections.boxes.tolist()) == (found[0].labels, found[0].detections.boxes.tolist())
        assert each.detections.scores.tolist() == found[0].detections.scores.tolist()


def test_efficientdet_without_its_post_processing_is_read_as_automl_reads_it(tmp_path: Path) -> None:
    efficientdet_network().write(tmp_path / "net.tflite")
    (tmp_path / "names.txt").write_text("ant\nbee\ncat\n")
    card, found = annotate(tmp_path / "net.tflite", tmp_path, SAMPLES, ["--labels", str(tmp_path / "names.txt")], 0.5)

    _agree_on_samples(card, found, efficientdet)


def test_a_model_makers_network_with_as_many_scores_as_box_numbers_is_read_by_its_notes(tmp_path: Path) -> None:
    card, found = annotate(with_notes(model_maker_network(), tmp_path / "net.tflite"), tmp_path, SAMPLES, [], 0.5)

    assert card.label_names() == ("background", "ant", "bee", "cat")
    _agree_on_samples(card, found, model_maker)


def _agree_on_samples(card: ModelCard, found: dict[str, list[Any]], decode: Decode) -> None:
    photos = sorted(SAMPLES.glob("*.jpg"))
    wanted = {photo.name: expected(card, photo, decode, suppress=True, min_score=0.5) for photo in photos}
    counts = [len(objects) for objects in wanted.values()]
    assert found.keys() == wanted.keys()
    assert sum(counts) > 20  # or the comparison would say little
    assert max(counts) < card.defaults.max_detections
    for photo, objects in wanted.items():
        agree(objects, found[photo], 0.5)
