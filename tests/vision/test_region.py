"""The part of a picture that a source's region shows the model."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np

from edgeannot.base.places import bundled_folder
from edgeannot.vision.cards import find_card
from edgeannot.vision.data import Frame
from edgeannot.vision.decode import sample_photo
from edgeannot.vision.pipeline import Limits, load_pipeline


def test_the_model_sees_the_region_only_and_boxes_are_in_the_whole_picture():
    photo = sample_photo()
    height, width = photo.shape[:2]
    wall = np.full((2 * height, 2 * width, 3), 90, np.uint8)
    wall[height:, width:] = photo
    frame = Frame(photo, "yard", 0, datetime.now(UTC), "x")
    pipeline = load_pipeline(find_card("nanodet-g", [bundled_folder()]))

    alone = pipeline(frame)
    part = pipeline(replace(frame, image=wall, region=(0.5, 0.5, 1, 1)))
    doubled = pipeline(replace(frame, image=wall, whole_wh=(4 * width, 4 * height), region=(0.5, 0.5, 1, 1)))

    assert len(alone.detections) > 0
    np.testing.assert_allclose(part.detections.boxes, alone.detections.boxes + np.array([width, height] * 2), atol=1e-3)
    np.testing.assert_allclose(doubled.detections.boxes, 2 * part.detections.boxes, atol=1e-3)


def test_a_score_of_the_source_holds_in_place_of_the_general_one():
    frame = Frame(sample_photo(), "yard", 0, datetime.now(UTC), "x")
    pipeline = load_pipeline(find_card("nanodet-g", [bundled_folder()]))

    few, usual, many = (pipeline(replace(frame, min_score=score)).detections.scores for score in (0.6, None, 0.1))

    assert len(few) < len(usual) < len(many)
    assert few.min() >= 0.6


def test_tracking_sees_what_nobody_asked_for():
    frame = Frame(sample_photo(), "yard", 0, datetime.now(UTC), "x")
    pipeline = load_pipeline(find_card("nanodet-g", [bundled_folder()]), limits=Limits(min_score=0.1, labels=("dog",)))

    asked, all_of_them = (set(pipeline(replace(frame, any_label=every)).labels) for every in (False, True))

    assert asked <= {"dog"}
    assert len(all_of_them - {"dog"}) > 0
    assert pipeline.labels == ("dog",)


def test_a_region_of_no_pixel_is_one_pixel():
    frame = Frame(np.zeros((4, 4, 3), np.uint8), "yard", 0, datetime.now(UTC), "x", region=(0.99, 0.99, 1, 1))

    assert frame.seen[0].shape == (1, 1, 3)
