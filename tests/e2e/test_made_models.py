"""Every form of output that no reference model has: `models add` and `run`, against plain arithmetic after the published decoders.

The networks are made (`tests/made_networks.py`), but for FOMO's two, which are real files of the test data. What a made one finds means
nothing; that it is read as the family's own code reads it is the point. No decoder here calls one of the product's.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import exp, tanh
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgeannot.vision.cards import ModelCard, read_card
from edgeannot.vision.decode import read_picture
from edgeannot.vision.pipeline import load_engine, to_tensor
from edgeannot_tools.graph.graph import Graph
from tests.e2e.daemons import SAMPLES, edgeannot
from tests.made_networks import (
    STRIDES,
    bins_apart_network,
    bins_joined_network,
    decoded_network,
    fastestdet_network,
    fomo_network,
    queries_network,
)

pytestmark = pytest.mark.runtime_long

Floats = NDArray[np.float32]
Object = tuple[int, float, tuple[float, ...]]
"""Class, score, and x1, y1, x2, y2 in pixels of the model's input."""
Decode = Callable[[list[Floats], int, float], Iterator[Object]]
"""The outputs in the graph's order, the input's side, the smallest score."""

NAMES = ("ant", "bee", "cat")
OVERLAP = 0.45


def sigmoid(x: float) -> float:
    return 1 / (1 + exp(-x))


# -- FOMO ----------------------------------------------------------------------------------------------------------------------


def fomo(outputs: list[Floats], side: int, minimum: float) -> Iterator[Object]:
    """Join the cells of a class that touch, as Edge Impulse's `ei_handle_cube` does: extents of the cells, greatest score."""
    grid = outputs[0][0]
    step = side / len(grid)
    for label in range(1, grid.shape[2]):
        left = {(y, x) for y, x in product(range(grid.shape[0]), range(grid.shape[1])) if grid[y, x, label] >= minimum}
        while left:
            blob, border = set(), {left.pop()}
            while border:
                blob |= border
                border = {(y + dy, x + dx) for y, x in border for dy, dx in product((-1, 0, 1), repeat=2)} & left
                left -= border
            rows, columns = [y for y, _ in blob], [x for _, x in blob]
            box = (min(columns) * step, min(rows) * step, (max(columns) + 1) * step, (max(rows) + 1) * step)
            yield label, max(float(grid[y, x, label]) for y, x in blob), box


# -- FastestDet ------------------------------------------------------------------------------------------------------------------


def fastestdet(outputs: list[Floats], side: int, minimum: float) -> Iterator[Object]:
    """Decode as `example/tflite/tflite_image.py` of FastestDet does."""
    grid = outputs[0][0].transpose(1, 2, 0)
    for y, x in product(range(grid.shape[0]), range(grid.shape[1])):
        objectness, tx, ty, tw, th, *classes = map(float, grid[y, x])
        score = objectness**0.6 * max(classes) ** 0.4
        if score >= minimum:
            cx, cy = (x + tanh(tx)) / grid.shape[1] * side, (y + tanh(ty)) / grid.shape[0] * side
            w, h = sigmoid(tw) * side, sigmoid(th) * side
            yield int(np.argmax(classes)), score, (cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2)


# -- distances in bins -----------------------------------------------------------------------------------------------------------


def box_of_bins(numbers: Floats, x: float, y: float, stride: int) -> tuple[float, ...]:
    """Return the box round a point: NanoDet's `Integral` (the mean of 0, 1, 2 ... by a softmax), then `distance2bbox`."""
    sides = []
    for one in numbers.astype(np.float64).reshape(4, -1):
        shares = np.exp(one - one.max()) / np.exp(one - one.max()).sum()
        sides.append(float(sum(i * share for i, share in enumerate(shares))) * stride)
    return (x - sides[0], y - sides[1], x + sides[2], y + sides[3])


def nanodet(outputs: list[Floats], side: int, minimum: float) -> Iterator[Object]:
    """Decode as the first NanoDet's `get_bboxes_single`: scores first, points in the middle of the cells."""
    rows, classes = iter(outputs[0][0]), len(NAMES)
    for stride in STRIDES:
        for y, x in product(range(side // stride), repeat=2):
            row = next(rows)
            if max(row[:classes]) >= minimum:
                box = box_of_bins(row[classes:], (x + 0.5) * stride, (y + 0.5) * stride, stride)
                yield int(np.argmax(row[:classes])), float(max(row[:classes])), box


def bins_apart(center: float, strides: Sequence[int]) -> Decode:
    """Decode scores and distances of each stride; center: where a cell's point lies in it, 0 its corner and 0.5 its middle."""

    def decode(outputs: list[Floats], side: int, minimum: float) -> Iterator[Object]:
        for stride, scores, boxes in zip(strides, outputs[::2], outputs[1::2], strict=True):
            for y, x in np.ndindex(*scores.shape[1:3]):
                of_cell = scores[0, y, x]
                if max(of_cell) >= minimum:
                    box = box_of_bins(boxes[0, y, x], (x + center) * stride, (y + center) * stride, stride)
                    yield int(np.argmax(of_cell)), float(max(of_cell)), box

    return decode


damo_yolo = bins_apart(0.0, STRIDES)
"""DAMO-YOLO's `get_single_level_center_priors` has the points at the corners of the cells."""


# -- queries: DETR and its kin ---------------------------------------------------------------------------------------------------


def corners(cx: float, cy: float, w: float, h: float, side: int) -> tuple[float, ...]:
    return ((cx - w / 2) * side, (cy - h / 2) * side, (cx + w / 2) * side, (cy + h / 2) * side)


def shares(numbers: Floats) -> Floats:
    powers = np.exp(numbers.astype(np.float64) - numbers.max())
    return powers / powers.sum()


def detr(outputs: list[Floats], side: int, minimum: float) -> Iterator[Object]:
    """Decode as DETR's `PostProcess`: a softmax, without its last column; cx, cy, w, h in shares; no suppression."""
    for numbers, box in zip(outputs[0][0], outputs[1][0], strict=True):
        probabilities = shares(numbers)[:-1]
        if max(probabilities) >= minimum:
            yield int(np.argmax(probabilities)), float(max(probabilities)), corners(*map(float, box), side)


def tensorflow_detr(outputs: list[Floats], side: int, minimum: float) -> Iterator[Object]:
    """Decode as the TensorFlow Model Garden's DETR: class 0 is no object, boxes are cy, cx, h, w."""
    for numbers, box in zip(outputs[0][0], outputs[1][0], strict=True):
        probabilities = shares(numbers)
        best = 1 + int(np.argmax(probabilities[1:]))
        if probabilities[best] >= minimum:
            cy, cx, h, w = map(float, box)
            yield best, float(probabilities[best]), corners(cx, cy, w, h, side)


def rt_detr_apart(outputs: list[Floats], side: int, minimum: float) -> Iterator[Object]:
    """Decode as RT-DETR's and Deformable DETR's `PostProcess`, with the best class of each query: a sigmoid a class; no suppression."""
    for numbers, box in zip(outputs[0][0], outputs[1][0], strict=True):
        score = sigmoid(float(max(numbers)))
        if score >= minimum:
            yield int(np.argmax(numbers)), score, corners(*map(float, box), side)


def rt_detr_joined(outputs: list[Floats], side: int, minimum: float) -> Iterator[Object]:
    """Decode what Ultralytics' exporter of RT-DETR writes: cx, cy, w, h in shares, then probabilities; no suppression."""
    for row in outputs[0][0]:
        if max(row[4:]) >= minimum:
            yield int(np.argmax(row[4:])), float(max(row[4:])), corners(*map(float, row[:4]), side)


# -- decoded in the graph --------------------------------------------------------------------------------------------------------


def yolo_nas(outputs: list[Floats], side: int, minimum: float) -> Iterator[Object]:
    """Decode what super-gradients' exporter of YOLO-NAS writes: corners in pixels, and probabilities, before suppression."""
    for box, scores in zip(outputs[0][0], outputs[1][0], strict=True):
        if max(scores) >= minimum:
            yield int(np.argmax(scores)), float(max(scores)), tuple(map(float, box))


def yolov9(outputs: list[Floats], side: int, minimum: float) -> Iterator[Object]:
    """Decode as YOLOv9's `detect_dual.py`: the last of the outputs; a candidate a column of cx, cy, w, h in pixels and probabilities."""
    for row in outputs[-1][0].T:
        cx, cy, w, h = (float(number) / side for number in row[:4])
        if max(row[4:]) >= minimum:
            yield int(np.argmax(row[4:])), float(max(row[4:])), corners(cx, cy, w, h, side)


# -- all of them -----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A network, what a user says of it, what its card has to say, and how its family decodes it."""

    make: Callable[[], Graph]
    decode: Decode
    head: dict[str, Any]
    names: tuple[str, ...] = NAMES
    options: tuple[str, ...] = ()
    suppress: bool = True
    min_score: float = 0.5
    resize: str = "stretch"


MADE = {
    "FOMO": Case(fomo_network, fomo, {"kind": "fomo", "background": 0}, suppress=False),
    "NanoDet-g, 11 bins": Case(lambda: bins_joined_network(11, 3), nanodet, {"kind": "dfl", "bins": 11, "joined": "scores-first"}),
    "DAMO-YOLO, 17 bins": Case(lambda: bins_apart_network(17, 3), damo_yolo, {"kind": "dfl", "bins": 17, "center": 0.0}),
    "DETR": Case(
        lambda: queries_network(4, no_object=3),
        detr,
        {"kind": "split", "activation": "softmax", "background": 3, "box_form": "cxcywh", "suppressed": True},
        suppress=False,
    ),
    "DETR of TensorFlow": Case(
        lambda: queries_network(4, no_object=0),
        tensorflow_detr,
        {"kind": "split", "activation": "softmax", "background": 0, "box_form": "cycxhw", "suppressed": True},
        suppress=False,
    ),
    "RT-DETR, logits and boxes apart": Case(
        lambda: queries_network(3), rt_detr_apart, {"kind": "split", "activation": "sigmoid", "background": None}, suppress=False
    ),
    "RT-DETR, joined": Case(
        lambda: queries_network(3, joined=True, activation="logistic"),
        rt_detr_joined,
        {"kind": "yolo-rows", "activation": "none", "suppressed": True},
        suppress=False,
    ),
    "YOLO-NAS": Case(
        lambda: decoded_network("xyxy", 3, apart=True),
        yolo_nas,
        {"kind": "split", "box_form": "xyxy", "box_units": "pixels", "activation": "none"},
        resize="letterbox",
    ),
    "YOLOv9, both branches": Case(
        lambda: decoded_network("cxcywh", 3, apart=False, branches=2),
        yolov9,
        {"kind": "yolo-rows", "layout": "columns", "objectness": False, "output": "out1"},
        resize="letterbox",
    ),
    "FastestDet": Case(fastestdet_network, fastestdet, {"kind": "fastestdet", "layout": "channels-first", "stride": 16}),
}


def annotate(model: Path, tmp_path: Path, photos: Path, options: list[str], min_score: float) -> tuple[ModelCard, dict[str, list[Any]]]:
    """Add a model as a user does and run it; its card, and photo -> detections of the message schema."""
    state = ["--data-dir", str(tmp_path / "data")]
    added = edgeannot("models", "add", model, "--name", "it", "--yes", *options, *state)
    assert added.returncode == 0, added.stdout + added.stderr
    run = ["run", "--once", "--model", "it", "--min-score", min_score, "--watch", photos, "--out", tmp_path / "out", *state]
    done = edgeannot(*run, EDGEANNOT_SINKS__MQTT__ENABLED="false")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = map(json.loads, (tmp_path / "out" / "annotations.jsonl").read_text().splitlines())
    return read_card(tmp_path / "data" / "models" / "it.toml"), {line["image"]["path"]: line["detections"] for line in lines}


def overlap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    def area(box: tuple[float, ...]) -> float:
        return max(box[2] - box[0], 0) * max(box[3] - box[1], 0)

    both = area((max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])))
    return both / (area(a) + area(b) - both or 1)


def suppressed(objects: list[Object]) -> list[Object]:
    """Leave out what overlaps a surer object of its class."""
    kept: list[Object] = []
    for one in sorted(objects, key=lambda each: -each[1]):
        if all(one[0] != other[0] or overlap(one[2], other[2]) <= OVERLAP for other in kept):
            kept.append(one)
    return kept


def expected(card: ModelCard, photo: Path, decode: Decode, *, suppress: bool, min_score: float) -> list[tuple[str, float, list[float]]]:
    """Label, score and box in the photo's pixels, by the test's own arithmetic on what the network gives."""
    engine, image = load_engine(card), read_picture(photo).image
    tensor, fit = to_tensor(card, engine)(image)
    real = [output.real() for output in engine.run(tensor)]
    objects = list(decode(real, card.input.width, min_score))
    objects = suppressed(objects) if suppress else objects
    height, width = image.shape[:2]
    found = []
    for label, score, box in objects:
        (corners,) = fit.to_frame(np.array([box], np.float32))
        inside = np.clip(corners, 0, [width, height, width, height])
        found.append((card.label_names()[label + card.labels.offset], score, inside.tolist()))
    return found


def agree(wanted: list[tuple[str, float, list[float]]], found: list[Any], min_score: float) -> None:
    """Assert that both have the same objects; one whose score is the smallest but for rounding may be on either side."""
    here = [(d["label"], d["score"], [d["box"][key] for key in ("x1", "y1", "x2", "y2")]) for d in found]
    for one, others in ((wanted, here), (here, wanted)):
        for label, score, box in one:
            alike = [o for o in others if o[0] == label and abs(o[1] - score) < 2e-3 and np.allclose(o[2], box, atol=1.0)]
            assert alike or score < min_score + 2e-3, f"{label} {score:.3f} {box}: not among {others}"


@pytest.mark.parametrize("name", MADE)
def test_a_made_network_is_read_as_its_family_reads_it(name: str, tmp_path: Path) -> None:
    case = MADE[name]
    case.make().write(tmp_path / "net.tflite")
    (tmp_path / "names.txt").write_text("\n".join(case.names))
    options = ["--labels", str(tmp_path / "names.txt"), *case.options]
    card, found = annotate(tmp_path / "net.tflite", tmp_path, SAMPLES, options, case.min_score)

    stated = card.head
    assert {key: getattr(stated, key) for key in case.head} == case.head
    assert card.input.resize == case.resize
    photos = sorted(SAMPLES.glob("*.jpg"))
    wanted = {photo.name: expected(card, photo, case.decode, suppress=case.suppress, min_score=case.min_score) for photo in photos}
    counts = [len(objects) for objects in wanted.values()]
    assert found.keys() == wanted.keys()
    assert min(counts) > 0  # or the comparison would say nothing
    assert max(counts) < card.defaults.max_detections
    for photo, objects in wanted.items():
        agree(objects, found[photo], case.min_score)


@pytest.mark.parametrize(("model", "labels", "names"), [("fomo_balloon", True, ("green", "purple")), ("seeed_fomo", False, ("1", "2"))])
def test_a_fomo_of_the_field_is_read_as_edge_impulse_reads_it(
    model: str, labels: bool, names: tuple[str, ...], data_dir: Path, tmp_path: Path
) -> None:
    file, photos = data_dir / "field" / f"{model}.tflite", data_dir / "photos"
    options = ["--labels", str(file.with_suffix(".labels.txt"))] if labels else []
    card, found = annotate(file, tmp_path, photos, options, 0.2)

    assert card.label_names() == ("background", *names)
    assert card.defaults.min_score == 0.5
    wanted = {photo.name: expected(card, photo, fomo, suppress=False, min_score=0.2) for photo in sorted(photos.iterdir())}
    assert sum(map(len, wanted.values())) > 0
    for photo, objects in wanted.items():
        agree(objects, found[photo], 0.2)
