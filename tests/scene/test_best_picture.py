"""Which picture of an object goes with its events, and how many are kept."""

from __future__ import annotations

from datetime import UTC, datetime

import cv2
import numpy as np

from edgeannot.scene.best_picture import BestPictures
from edgeannot.vision.data import Annotation, Detections, Frame, ModelFacts
from edgeannot.vision.news import Event, News

FACTS = ModelFacts("m", "0" * 64, "yolo", "low")
NOISE = np.random.default_rng(0).integers(0, 255, (200, 300, 3), np.uint8)


def seen(*rows, image=NOISE):
    """A picture of (track, score, box) rows."""
    boxes = np.array([row[2] for row in rows], np.float32).reshape(-1, 4)
    found = Detections(
        boxes, np.array([row[1] for row in rows], np.float32), np.zeros(len(rows), np.int64), np.array([row[0] for row in rows])
    )
    return Annotation(Frame(image, "yard", 0, datetime.now(UTC), "x"), found, ("dog",) * len(rows), FACTS)


def left(track, kind="left"):
    return Event(kind, track, 1, "dog", 0.5, np.zeros(4, np.float32), (1, 1), 0.0, 0.0)


def picture(best, track):
    """The picture that goes with an event of the object."""
    (event,) = best.told(News("yard", (left(track, "appeared"),), None)).events
    return event.picture


def test_without_a_picture_an_event_has_none():
    assert picture(BestPictures(), 7) is None
    assert BestPictures().told(None) is None


def test_the_largest_of_pictures_that_are_alike_is_kept_with_its_surroundings():
    best = BestPictures()
    for side in (40, 80, 60):
        best.see(seen((7, 0.9, (50, 50, 50 + side, 50 + side))))

    assert picture(best, 7).image.shape == (120, 120, 3)


def test_of_two_of_one_size_the_better_score_and_the_sharper_one_win():
    box, other = (50, 50, 110, 110), (120, 50, 180, 110)
    for first, second in (((0.5, NOISE), (0.9, NOISE)), ((0.9, cv2.blur(NOISE, (25, 25))), (0.8, NOISE))):
        for order in ((first, second), (second, first)):
            best = BestPictures()
            for (score, image), place in zip(order, (box, other) if order[0] is first else (other, box), strict=True):
                best.see(seen((7, score, place), image=image))
            np.testing.assert_array_equal(picture(best, 7).image, NOISE[35:125, 105:195])


def test_an_object_that_the_edge_cuts_off_is_worth_half():
    best = BestPictures()
    best.see(seen((7, 0.9, (0, 50, 80, 130))))
    best.see(seen((7, 0.9, (50, 50, 110, 110))))

    assert picture(best, 7).image.shape == (90, 90, 3)


def test_events_that_change_nothing_have_no_picture_and_what_has_left_is_forgotten():
    best = BestPictures()
    best.see(seen((7, 0.9, (50, 50, 110, 110))))

    kinds = ("still", "left", "left")
    events = best.told(News("yard", tuple(left(7, kind) for kind in kinds), None)).events

    assert [event.picture is not None for event in events] == [False, True, False]


def test_a_bounded_number_is_kept_in_a_bounded_size():
    best = BestPictures()
    large = np.zeros((1000, 2000, 3), np.uint8)
    for track in range(70):
        best.see(seen((track, 0.9, (100, 100, 1900, 900)), image=large))

    assert [picture(best, track) is not None for track in (0, 5, 6, 69)] == [False, False, True, True]
    assert picture(best, 69).image.shape == (256, 512, 3)
