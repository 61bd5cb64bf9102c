"""Written sets, opened by the real readers of the tools that they are for."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgeannot_tools.datasets import Dataset, LabelledObject, Picture, save_dataset
from tests.patience import DEADLINE_S
from tests.surroundings import asked

pytestmark = pytest.mark.formats

PYTHON = asked("FORMAT_READERS")
TOOLS = {
    "supervision_yolo": ("yolo", 0.01),
    "supervision_voc": ("voc", 1.0),  # counts VOC's pixels from 0
    "pycocotools": ("coco", 1e-6),
    "pycocotools_masks": ("coco", 1.0),  # whole pixels
    "labelimg_yolo": ("yolo", 1.0),  # whole pixels
    "labelimg_voc": ("voc", 1.01),  # whole pixels, counted from 0
    "label_studio": ("labelstudio", 0.01),
}


@pytest.fixture
def labelled(tmp_path) -> Dataset:
    """Two pictures with objects and one without, in JPEG, which all of the tools open."""
    pictures = []
    boxes = {
        "a.jpg": [(0, (10.0, 20.0, 110.0, 90.0)), (1, (30.0, 40.0, 50.0, 60.0))],
        "b.jpg": [(1, (0.0, 0.0, 160.0, 120.0))],
        "c.jpg": [],
    }
    for number, (name, things) in enumerate(boxes.items()):
        path = tmp_path / "in" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(cv2.imencode(".jpg", np.full((120, 160, 3), 60 * number, np.uint8))[1].tobytes())
        pictures.append(Picture(name, (160, 120), tuple(LabelledObject(class_id, box) for class_id, box in things), path))
    return Dataset(("cat", "wild dog"), tuple(pictures))


def read(tool: str, folder: Path) -> list[list]:
    """What the tool sees."""
    if not PYTHON:
        pytest.fail("EDGEANNOT_FORMAT_READERS is not set: `make formats-test` installs the readers and sets it")
    reader = Path(__file__).with_name("reader.py")
    done = subprocess.run([PYTHON, reader, tool, folder], capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("tool", TOOLS)
def test_a_written_set_opens_with_its_classes_and_boxes(tool, labelled, tmp_path):
    kind, tolerance = TOOLS[tool]
    save_dataset(labelled, tmp_path / "out", kind)

    found = read(tool, tmp_path / "out")

    wanted = [[p.name, labelled.class_names[thing.class_id], *thing.box] for p in labelled.pictures for thing in p.objects]
    assert [row[:2] for row in sorted(found)] == [row[:2] for row in sorted(wanted)]
    np.testing.assert_allclose([row[2:] for row in sorted(found)], [row[2:] for row in sorted(wanted)], atol=tolerance)
