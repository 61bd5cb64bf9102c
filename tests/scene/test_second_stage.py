"""The second stage: what is cut out, what is remembered of an object, how often and how long it looks, and who drops it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from edgeannot.base.errors import OutputError
from edgeannot.scene.classify_options import ClassifyOptions
from edgeannot.scene.second_stage import SecondStage, part_of
from edgeannot.vision.data import Annotation, Detections, Frame, ModelFacts
from edgeannot.vision.news import Event, News, SubLabel

BEGIN = datetime(2026, 7, 1, tzinfo=UTC)
FACTS = ModelFacts("m", "0" * 64, "yolo", "low")


def seen(*labels, tracks=None, second=0.0, news=None):
    """A picture, 100x100, with an object of 40 pixels for each label."""
    frame = Frame(np.zeros((100, 100, 3), np.uint8), "yard", 0, BEGIN + timedelta(seconds=second), "x")
    boxes = np.array([[10, 20, 50, 60]] * len(labels), np.float32).reshape(-1, 4)
    ids = None if tracks is None else np.array(tracks, np.int64)
    found = Detections(boxes, np.linspace(0.9, 0.5, len(labels)).astype(np.float32), np.zeros(len(labels), np.int64), ids)
    return Annotation(frame, found, labels, FACTS, {"total": 10.0}, news)


class Classifier:
    """Says one word after the other of what it is shown, and keeps what that was; it takes so many ms."""

    def __init__(self, *words, takes_ms=1.0):
        self.words = list(words)
        self.takes_s = takes_ms / 1e3
        self.shown = []
        self.now = 0.0

    def __call__(self, frame):
        self.shown.append(frame)
        self.now += self.takes_s
        word = self.words[min(len(self.shown), len(self.words)) - 1]
        if isinstance(word, Exception):
            raise word
        found = Detections.empty() if word is None else seen(word[0]).detections
        if word is not None:
            found = Detections(found.boxes, np.array([word[1]], np.float32), found.classes)
        return Annotation(frame, found, () if word is None else (word[0],), FACTS)

    def stage(self, **options):
        return SecondStage({"dog": (ClassifyOptions(model="breeds", **options), self)}, clock=lambda: self.now)


def test_a_picture_without_such_an_object_is_left_as_it_is():
    classifier = Classifier(("poodle", 0.9))

    for picture in (seen(), seen("cat")):
        assert classifier.stage()(picture) is picture
    assert classifier.shown == []


def test_an_object_has_a_label_of_the_second_stage_and_its_time_counts():
    classifier = Classifier(("poodle", 0.8), takes_ms=5)

    annotation = classifier.stage(min_score=0.3)(seen("cat", "dog"))

    assert annotation.sub_labels == (None, SubLabel("poodle", pytest.approx(0.8)))
    assert annotation.shown_labels == ("cat", "dog: poodle")
    assert (annotation.timing_ms["classify"], annotation.timing_ms["total"]) == (pytest.approx(5), pytest.approx(15))
    (frame,) = classifier.shown
    assert frame.region == pytest.approx((0.06, 0.16, 0.54, 0.64))
    assert frame.min_score == 0.3


def test_a_cut_out_lies_within_the_picture():
    assert part_of(np.array([0, 10, 200, 50], np.float32), 0.5, (200, 100)) == (0.0, 0.0, 1.0, 0.7)


def test_without_a_word_there_is_none():
    assert Classifier(None).stage()(seen("dog")).sub_labels == (None,)


def test_a_tracked_object_is_looked_at_once_a_second_and_keeps_what_was_said_of_it_most():
    classifier = Classifier(("poodle", 0.9), ("poodle", 0.9), ("wolf", 0.6))
    stage = classifier.stage()

    said = [stage(seen("dog", tracks=[7], second=second)).sub_labels[0] for second in (0, 0.4, 0.9, 1.0, 1.5, 2.1, 2.2)]

    assert len(classifier.shown) == 3
    assert {sub.label for sub in said} == {"poodle"}
    assert said[-1].score == pytest.approx(0.6), "one of three looks says something else"


def test_of_many_objects_those_that_waited_longest_come_first():
    classifier = Classifier(("poodle", 0.9))
    stage = classifier.stage(most=2)

    first = stage(seen("dog", "dog", "dog", tracks=[1, 2, 3]))
    then = stage(seen("dog", "dog", "dog", tracks=[1, 2, 3], second=1.5))

    assert [sub is not None for sub in first.sub_labels] == [True, True, False]
    assert all(then.sub_labels)
    assert stage.figures() == {"classified": 4, "waited": 2, "dropped": 0, "failed": 0}


def test_the_time_in_a_picture_is_bounded():
    classifier = Classifier(("poodle", 0.9), takes_ms=60)

    stage = classifier.stage(max_ms=100, most=10)
    stage(seen("dog", "dog", "dog", "dog"))

    assert stage.figures() == {"classified": 2, "waited": 2, "dropped": 0, "failed": 0}


def test_under_pressure_it_does_nothing_and_says_so():
    classifier = Classifier(("poodle", 0.9))
    stage = classifier.stage()
    stage(seen("dog", tracks=[1]))

    stage.dropped = True
    annotation = stage(seen("dog", "dog", tracks=[1, 2], second=2))

    assert len(classifier.shown) == 1
    assert annotation.sub_labels == (SubLabel("poodle", pytest.approx(0.9)), None), "what is known is still said"
    assert stage.figures() == {"classified": 1, "waited": 0, "dropped": 2, "failed": 0}


def test_a_classifier_that_fails_costs_its_word_and_one_line(caplog):
    stage = Classifier(OutputError("no numbers")).stage()

    for second in range(3):
        assert stage(seen("dog", tracks=[1], second=second)).labels == ("dog",)

    assert stage.figures()["failed"] == 3
    assert caplog.text.count("classify.dog: no numbers") == 1


def test_events_name_what_is_known_of_their_object():
    stage = Classifier(("poodle", 0.9)).stage()
    stage(seen("dog", tracks=[1]))
    event = Event("left", 1, 1, "dog", 0.5, np.zeros(4, np.float32), (1, 1), 0.0, 0.0)

    assert stage.named(News("yard", (event,), None)).events[0].sub_label.label == "poodle"
    assert stage.named(News("door", (event,), None)).events[0].sub_label is None
    assert stage.named(None) is None
