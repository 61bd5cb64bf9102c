"""One vocabulary: bundled detectors speak COCO's 80 names in COCO's order, so that a change of model never changes a label."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import cv2
import numpy as np
import pytest

from edgeannot.base.places import bundled_folder
from edgeannot.library.catalogue import OPENIMAGES
from edgeannot.payload import Origin, detections_payload
from edgeannot.sinks import SinkContext
from edgeannot.sinks.labels import ClassList, LabelsOptions, LabelsSink
from edgeannot.vision.cards import ModelCard, find_card, read_card, read_cards
from edgeannot.vision.data import Frame
from edgeannot.vision.heads._anchors import make_anchors
from edgeannot.vision.heads.ssd_anchors import SsdAnchors
from edgeannot.vision.pipeline import load_pipeline
from tests.e2e.daemons import SAMPLES

COCO = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light", "fire hydrant", "stop sign",
    "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe", "backpack",
    "umbrella", "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard", "sports ball", "kite", "baseball bat", "baseball glove",
    "skateboard", "surfboard", "tennis racket", "bottle", "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple",
    "sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch", "potted plant", "bed",
    "dining table", "toilet", "tv", "laptop", "mouse", "remote", "keyboard", "cell phone", "microwave", "oven", "toaster", "sink",
    "refrigerator", "book", "clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush",
)  # fmt: skip
"""The categories of COCO's `instances_val2017.json` by ascending id, which is the order of their places 0 to 79."""
PREVIOUS_CARD = """schema = 1
name = "ssd-mobilenet-v2-oid"
file = "ssd-mobilenet-v2-oid.tflite"
sha256 = "3dd279a4e43c7118b97e71cbb8f5bfa6dcb30a61f157483d5de12cdfcf2152a1"
description = "SSD-MobileNetV2 on OpenImages V4: 24 classes; well-placed boxes for boards with cores to spare"
task = "detect"
family = "ssd"
macs = 672993008

[input]
width = 300
height = 300
resize = "stretch"
color = "RGB"
mean = [128.0]
std = [127.5]

[head]
kind = "ssd-anchors"
boxes = ["raw_outputs/box_encodings"]
scores = ["raw_outputs/class_predictions"]
activation = "sigmoid"
background = 0
code = "yxhw"
scales = [10.0, 10.0, 5.0, 5.0]

[head.scaled]
strides = [16, 32, 64, 128, 256, 512]
min_scale = 0.2
max_scale = 0.95
aspect_ratios = [1.0, 2.0, 0.5, 3.0, 0.3333333333333333]
interpolated_aspect_ratio = 1.0
reduce_lowest = true

[provenance]
source = "npm @mediapipe/objectron 0.4.1675468480, package/objectron_solution_packed_assets.data, bytes 184 to 9987912"
source_sha256 = "d0a5255bf8c4f5a0bc4240741a76c41d5e939f7655078f945f50ab53a9375da6"
license = "Apache-2.0"
made_by = "python -m edgeannot_maintain.bundle"
calibration = "6 free photos (astronaut, cat, coffee, cameraman, raccoon, rocket), whole, in parts and in scenes of four"

[labels]
file = "ssd-mobilenet-v2-oid.labels.txt"

[[measured]]
dataset = "COCO val2017, 50 pictures (classes in common)"
size = 300
numbers = "int8"
pictures = 50
map50 = 0.3566
map50_95 = 0.1821
mean_iou = 0.749
"""
"""A card as the version before wrote it, for the detector that it bundled."""


def detectors() -> Iterator[ModelCard]:
    for card in read_cards([bundled_folder()]):
        if card.task == "detect":
            yield card


NAMES = [card.name for card in detectors()]


def test_there_are_bundled_detectors_of_several_families():
    assert len({card.family for card in detectors()}) >= 3


@pytest.mark.parametrize("name", NAMES)
def test_a_bundled_card_has_the_names_of_coco_in_its_order_and_no_other_class(name):
    card = find_card(name, [bundled_folder()])

    assert card.label_names() == COCO
    assert card.labels.offset == 0


@pytest.mark.runtime
@pytest.mark.parametrize("name", NAMES)
def test_payload_and_label_files_have_coco_s_names_and_ids(name, tmp_path):
    photos = ("cat", "cameraman", "scene")
    pipeline = load_pipeline(find_card(name, [bundled_folder()]))
    origin = Origin("pi", "boot-1", lambda: True)
    sink = LabelsSink(LabelsOptions(), SinkContext(origin, tmp_path, pipeline.class_names()))
    rows, numbers = [], []
    for photo in photos:
        frame = Frame(cv2.imread(str(SAMPLES / f"{photo}.jpg")), "door", 0, datetime.now(UTC), photo, name=f"{photo}.jpg")
        annotation = pipeline(frame)
        sink.write(annotation)
        rows += detections_payload(annotation, origin)["detections"]
        numbers += [int(line.split()[0]) for line in (tmp_path / f"labels/door/{photo}.txt").read_text().splitlines()]

    assert pipeline.class_names() == dict(enumerate(COCO))
    assert (tmp_path / "labels/classes.txt").read_text().splitlines() == list(COCO)
    assert {row["label"] for row in rows} & {"cat", "person"}
    assert [row["label"] for row in rows] == [COCO[row["class_id"]] for row in rows]
    assert numbers == [row["class_id"] for row in rows]


def test_a_folder_that_was_begun_with_the_names_of_openimages_keeps_its_numbers():
    """Label files that are there hold numbers only: the names that they were written with stay, and those of COCO come beside them."""
    before = ClassList()
    before.adopt(dict(enumerate(OPENIMAGES)))
    after = ClassList(before.text().decode())
    after.adopt(dict(enumerate(COCO)))
    lines = after.text().decode().splitlines()

    assert lines[: len(OPENIMAGES)] == list(OPENIMAGES)
    assert [after.number(class_id, name) for class_id, name in enumerate(COCO)] == [lines.index(name) for name in COCO]
    assert [after.number(class_id, name) for class_id, name in enumerate(OPENIMAGES)] == list(range(len(OPENIMAGES)))


def test_the_numbers_of_such_a_folder_are_the_same_for_every_bundled_model_and_after_a_restart(tmp_path):
    folder = tmp_path / "labels"
    folder.mkdir()
    (folder / "classes.txt").write_text("".join(f"{name}\n" for name in OPENIMAGES))
    texts = set()
    for card in (*detectors(), *detectors()):
        LabelsSink(LabelsOptions(), SinkContext(Origin("pi", "boot-1", lambda: True), tmp_path, dict(enumerate(card.label_names()))))
        texts.add((folder / "classes.txt").read_text())

    assert len(texts) == 1
    assert texts.pop().splitlines()[: len(OPENIMAGES)] == list(OPENIMAGES)


def test_a_card_of_the_version_before_is_read_and_means_what_it_meant(tmp_path):
    (tmp_path / "ssd-mobilenet-v2-oid.toml").write_text(PREVIOUS_CARD)
    (tmp_path / "ssd-mobilenet-v2-oid.labels.txt").write_text("".join(f"{name}\n" for name in OPENIMAGES))
    card = read_card(tmp_path / "ssd-mobilenet-v2-oid.toml")

    assert card.label_names() == OPENIMAGES
    assert isinstance(card.head, SsdAnchors)
    assert card.head.scaled is not None
    anchors = make_anchors(card.head.scaled, card.input_wh)
    assert len(anchors) == 1917
    assert anchors[0].tolist() == pytest.approx([0.5 / 19, 0.5 / 19, 0.1, 0.1])  # TensorFlow's first one, in shares of 300 pixels
    assert (card.measured[0].numbers, card.measured[0].map50) == ("int8", 0.3566)
    assert np.allclose(card.input.mean, 128)
