"""Drawing: on a copy, inside the picture, tellable apart."""

from __future__ import annotations

from datetime import UTC, datetime

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeannot.vision.data import Annotation, Detections, Frame, ModelFacts
from edgeannot.vision.draw import annotated_jpeg, class_color, draw


def found(*boxes, classes=None) -> Detections:
    ids = classes or range(len(boxes))
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4), np.linspace(0.9, 0.3, len(boxes)).astype(np.float32), np.array(ids, np.int64)
    )


def grey(width: int, height: int) -> np.ndarray:
    return np.full((height, width, 3), 128, np.uint8)


def test_nothing_found_is_a_copy():
    image = grey(64, 48)

    drawn = draw(image, Detections.empty(), ())

    assert np.array_equal(drawn, image)
    assert not np.shares_memory(drawn, image)


def test_the_picture_given_is_not_written_to():
    image = grey(200, 100)
    image.flags.writeable = False

    drawn = draw(image, found((20, 40, 120, 90)), ["cat"])

    assert (image == 128).all()
    assert (drawn != 128).any()


def test_the_edges_of_the_box_have_the_colour_of_the_class():
    drawn = draw(grey(400, 300), found((100, 150, 300, 250)), ["cat"])
    color = np.array(class_color(0))

    for x, y in ((100, 200), (299, 200), (200, 249), (290, 150)):
        assert np.abs(drawn[y, x].astype(int) - color).max() <= 40, (x, y, drawn[y, x])
    assert (drawn[180:220, 130:270] == 128).all(), "the inside stays"


def test_the_label_stands_on_the_box():
    drawn = draw(grey(400, 300), found((100, 150, 300, 250)), ["cat"])
    ground = (drawn[120:149, 100:300] == class_color(0)).all(axis=2)

    assert ground.sum() > 300


@settings(max_examples=60)
@given(st.integers(1, 400), st.integers(1, 400), st.lists(st.tuples(*[st.floats(0, 1, width=32)] * 4), max_size=5), st.text(max_size=40))
def test_any_box_in_any_picture_can_be_drawn(width, height, parts, label):
    corners = np.sort(np.array(parts, np.float32).reshape(-1, 2, 2), axis=1) * np.array([width, height], np.float32)

    drawn = draw(grey(width, height), found(*corners.reshape(-1, 4)), [label] * len(parts))

    assert drawn.shape == (height, width, 3)


@pytest.mark.parametrize("box", [(0, 0, 40, 20), (370, 0, 400, 20), (0, 285, 30, 300), (380, 290, 400, 300), (0, 0, 400, 300)])
def test_labels_stay_whole_inside_the_picture(box):
    """The same label drawn far from any edge has as many pixels of its ground."""
    color = class_color(0)

    def ground(where) -> int:
        thin = draw(grey(400, 300), found(where), ["person"])
        return int((thin == color).all(axis=2).sum())

    assert ground(box) >= 0.9 * ground((180, 140, 182, 142))


def test_neighbours_labels_do_not_cover_each_other():
    alone = draw(grey(600, 400), found((100, 200, 160, 300)), ["person"])
    both = draw(grey(600, 400), found((100, 200, 160, 300), (150, 205, 220, 310), classes=[0, 7]), ["person", "truck"])
    plate = np.argwhere((alone == class_color(0)).all(axis=2) & (np.arange(400)[:, None] < 195))

    same = (both[plate[:, 0], plate[:, 1]] == class_color(0)).all(axis=1)
    assert same.mean() > 0.99


def test_lines_and_letters_grow_with_the_picture():
    def ink(size: int) -> float:
        image = grey(size, size)
        box = (size * 0.2, size * 0.3, size * 0.8, size * 0.8)
        return float((draw(image, found(box), ["cat"]) != image).any(axis=2).mean())

    assert ink(2400) > 0.5 * ink(600)


def test_classes_near_each_other_have_colours_that_differ():
    colors = np.array([class_color(class_id) for class_id in range(100)], float)

    for step in range(1, 6):
        assert np.abs(colors[step:] - colors[:-step]).max(axis=1).min() > 40
    assert class_color(7) == class_color(7)


def test_letters_that_the_font_lacks_become_plain_ones():
    image, box = grey(300, 200), found((20, 100, 200, 180))

    assert np.array_equal(draw(image, box, ["kühe"]), draw(image, box, ["kuhe"]))
    assert not np.array_equal(draw(image, box, ["猫"]), draw(image, box, [""]))


def test_the_jpeg_is_made_smaller_when_asked_and_boxes_follow():
    frame = Frame(grey(800, 400), "porch", 0, None, "x")  # type: ignore[arg-type] # only the picture is read
    made = Annotation(frame, found((400, 200, 700, 380)), ("cat",), ModelFacts("m", "", "yolo", "low"))

    whole = cv2.imdecode(np.frombuffer(annotated_jpeg(made), np.uint8), cv2.IMREAD_COLOR)
    small = cv2.imdecode(np.frombuffer(annotated_jpeg(made, max_side=200), np.uint8), cv2.IMREAD_COLOR)

    assert whole.shape == (400, 800, 3)
    assert small.shape == (100, 200, 3)
    inked = np.argwhere(np.abs(small.astype(int) - 128).max(axis=2) > 60)
    assert inked.min(axis=0)[1] >= 97, "nothing left of the box at 100"


def test_a_picture_longer_than_a_jpeg_can_be_is_made_smaller():
    annotation = Annotation(
        Frame(grey(70_000, 2), "s", 0, datetime.now(UTC), "x"), found((0, 0, 70_000, 2)), ("cat",), ModelFacts("m", "0" * 64, "yolo", "low")
    )

    image = cv2.imdecode(np.frombuffer(annotated_jpeg(annotation), np.uint8), cv2.IMREAD_COLOR)
    assert image.shape == (1, 65_500, 3)


def test_boxes_of_a_picture_that_was_decoded_smaller_are_drawn_where_they_are_seen():
    box, model = found((400, 200, 700, 380)), ModelFacts("m", "", "yolo", "low")
    half = Frame(grey(400, 200), "porch", 0, None, "x", whole_wh=(800, 400))  # type: ignore[arg-type] # only the picture is read
    plain = Frame(grey(400, 200), "porch", 0, None, "x")  # type: ignore[arg-type]

    made = annotated_jpeg(Annotation(half, box, ("cat",), model))
    assert made == annotated_jpeg(Annotation(plain, found((200, 100, 350, 190)), ("cat",), model))
