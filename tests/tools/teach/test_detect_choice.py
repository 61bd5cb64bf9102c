"""Which backbones are tried, and which is taken."""

from __future__ import annotations

import numpy as np
import pytest

from edgeannot.vision.cards import ModelCard
from edgeannot_tools.evaluate.average_precision import Accuracy
from edgeannot_tools.teach.detect.backbone import Backbone
from edgeannot_tools.teach.detect.choice import candidates, has_small_objects, teach_best
from edgeannot_tools.teach.detect.pictures import teaching_set
from edgeannot_tools.teach.detect.teaching import Alarms, Taught
from tests.tools.teach.made_pictures import made_set


def card(name, macs=100):
    table = {"schema": 1, "name": name, "file": "x.tflite", "sha256": "0" * 64, "task": "detect", "family": "ssd", "macs": macs}
    grids = [{"output": "a", "anchors": [[1, 1]]}]
    return ModelCard.model_validate({**table, "input": {"width": 100, "height": 100}, "head": {"kind": "yolo-grid", "grids": grids}})


def tried(figures, within_s, seconds=10.0):
    """The name of what is taken and the names of what is tried, where each candidate has this mAP and takes so long."""
    now = [0.0]

    def teach(backbone):
        now[0] += seconds * backbone.size / 100
        map50 = figures[backbone.card.name]
        accuracy = Accuracy(map50, map50, (), 0.5, 0.9, 0.9, 0.9, 0.8, 10, 10)
        return Taught(backbone, (), False, (), np.zeros(0, np.int64), accuracy, accuracy, 0.5, 0.9, 0.9, Alarms(0, 0))

    cards = [(card(name), 100) for name in figures]
    best, trials = teach_best(cards, lambda one, size: Backbone(one, size, ()), teach, within_s, lambda: now[0])
    return best.backbone.card.name, [trial.name for trial in trials]


def test_without_time_the_first_is_taken():
    assert tried({"a": 0.5, "b": 0.9}, 0) == ("a", ["a@100"])


def test_the_best_of_those_that_the_time_allows_is_taken():
    assert tried({"a": 0.5, "b": 0.6, "c": 0.9}, 25) == ("b", ["a@100", "b@100"])
    assert tried({"a": 0.5, "b": 0.6, "c": 0.9}, 30) == ("c", ["a@100", "b@100", "c@100"])


def test_a_later_one_has_to_be_clearly_better():
    assert tried({"a": 0.5, "b": 0.515}, 100)[0] == "a"


def test_a_costly_candidate_is_left_out_for_a_later_cheap_one():
    names = []

    def teach(backbone):
        names.append(backbone.name)
        accuracy = Accuracy(0.5, 0.5, (), 0.5, 0.9, 0.9, 0.9, 0.8, 10, 10)
        return Taught(backbone, (), False, (), np.zeros(0, np.int64), accuracy, accuracy, 0.5, 0.9, 0.9, Alarms(0, 0))

    ticks = iter(range(0, 1000, 10))
    cards = [(card("a"), 100), (card("b", macs=1000), 100), (card("c"), 100)]
    teach_best(cards, lambda one, size: Backbone(one, size, ()), teach, 60, lambda: next(ticks))

    assert names == ["a@100", "c@100"]


@pytest.mark.parametrize(("side", "small"), [(40, False), (6, True)])
def test_small_objects_are_recognised(side, small, tmp_path):
    data = made_set(tmp_path, sides=(side, side + 1))

    to_teach = teaching_set(data)

    assert has_small_objects(to_teach) is small
    # Only for them a large input is worth its time, and not where the classes of the backbone are kept: it finds none of them there.
    assert (("ssdlite-mobilenet-v2-coco", 640) in candidates(to_teach, keep=False)) is small
    assert max(size for _, size in candidates(to_teach, keep=True)) < 512
