"""The sheet of a taught detector: what was found is told from what was missed and what is wrong."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from edgeannot.vision.data import Detections
from edgeannot_tools.evaluate.average_precision import evaluate_detections
from edgeannot_tools.teach.detect.pictures import teaching_set
from edgeannot_tools.teach.detect.report import save_sheet
from edgeannot_tools.teach.detect.teaching import Alarms, Taught
from tests.tools.teach.made_pictures import made_set

NOWHERE = (1, 1, 25, 25)
GREEN, BLUE, RED = (80, 220, 80), (255, 150, 40), (60, 60, 240)


@pytest.fixture
def to_teach(tmp_path):
    """Two pictures with an object each; their colours are not those of the boxes."""
    return teaching_set(made_set(tmp_path, pictures=2))


def colors(to_teach, path, *found):
    """The colours of boxes in the sheet, with the (box, score) that were found in the first picture; nothing was in the second."""
    first = Detections(
        np.float32([box for box, _ in found]).reshape(-1, 4), np.float32([score for _, score in found]), np.zeros(len(found), np.int64)
    )
    detections = (first, Detections.empty())
    accuracy = evaluate_detections([(item.truth(), one) for item, one in zip(to_teach.pictures, detections, strict=True)])
    taught = Taught(None, (), False, detections, np.zeros(2, np.int64), accuracy, accuracy, 0.5, 1, 1, Alarms(0, 0))
    save_sheet(taught, to_teach, path)
    pixels = {tuple(color) for color in cv2.imread(str(path)).reshape(-1, 3).tolist()}
    return pixels & {GREEN, BLUE, RED}


def test_what_nobody_found_is_green_alone(to_teach, tmp_path):
    assert colors(to_teach, tmp_path / "sheet.png") == {GREEN}


def test_what_is_below_the_threshold_is_not_drawn(to_teach, tmp_path):
    assert colors(to_teach, tmp_path / "sheet.png", (NOWHERE, 0.4)) == {GREEN}


def test_found_is_blue_and_wrong_is_red(to_teach, tmp_path):
    box = to_teach.pictures[0].marked().boxes[0].tolist()

    assert colors(to_teach, tmp_path / "sheet.png", (NOWHERE, 0.9)) == {GREEN, RED}
    assert colors(to_teach, tmp_path / "sheet.png", (box, 0.9), (NOWHERE, 0.8)) == {GREEN, BLUE, RED}
