"""Drawing: on a copy, inside the picture, tellable apart."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeannot.vision import plates as plates_module
from edgeannot.vision.data import Annotation, Detections, Frame, ModelFacts
from edgeannot.vision.draw import annotated_jpeg, class_color, draw
from edgeannot.vision.plates import plates


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


def test_letters_are_drawn_as_they_are_where_opencv_has_them_and_plain_otherwise(monkeypatch):
    """OpenCV 5 has a font of all scripts, OpenCV 4 one of ASCII."""
    image, box = grey(300, 200), found((20, 100, 200, 180))

    def same(one: str, other: str) -> bool:
        return np.array_equal(draw(image, box, [one]), draw(image, box, [other]))

    assert same("a\u200b\n\ud800", "a???")
    assert not same("猫", "")
    if hasattr(cv2, "FontFace"):
        assert not same("kühe", "kuhe")
        assert not same("猫", "?")
    monkeypatch.setattr(plates_module, "_face", lambda: None)
    monkeypatch.setattr(plates_module, "_text_width", plates_module._text_width.__wrapped__)
    assert same("kühe", "kuhe")
    assert same("猫", "?")


# -- where labels stand ------------------------------------------------------------------------------------------------------------


def crowd(seed: int, count: int, width: int, height: int) -> Detections:
    """Objects of all sizes, some far out at the borders, heaped up in the middle."""
    rng = np.random.default_rng(seed)
    middle = rng.normal(0.5, 0.25, (count, 2)) * (width, height)
    size = rng.uniform(0.01, rng.choice([0.05, 0.2, 0.8], (count, 1)), (count, 2)) * (width, height)
    boxes = np.concatenate([middle - size / 2, middle + size / 2], axis=1)
    boxes = np.clip(boxes, 0, [width, height, width, height]).astype(np.float32)
    return Detections(boxes, np.sort(rng.uniform(0.3, 1, count))[::-1].astype(np.float32), rng.integers(0, 4, count))


SCENES = [
    (seed, count, *wh) for wh in ((64, 64), (640, 480), (320, 180), (4000, 3000), (30, 500)) for seed, count in enumerate((1, 4, 25, 120))
]
NAMES = ("person", "a class with quite a long name", "tie", "猫")


@pytest.mark.parametrize(("seed", "count", "width", "height"), SCENES)
def test_labels_cover_neither_each_other_nor_more_than_a_quarter_of_an_object(seed: int, count: int, width: int, height: int) -> None:
    objects = crowd(seed, count, width, height)
    labels = [NAMES[c] for c in objects.classes]
    places = [plate.place for plate in plates(objects, labels, (width, height)) if plate is not None]
    hidden = np.zeros((height, width), int)
    for x1, y1, x2, y2 in places:
        assert 0 <= x1 < x2 <= width
        assert 0 <= y1 < y2 <= height
        hidden[y1:y2, x1:x2] += 1

    assert hidden.max(initial=0) <= 1
    assert hidden.mean() <= 0.25
    for x1, y1, x2, y2 in objects.boxes.round().astype(int):
        if (part := hidden[y1:y2, x1:x2]).size > 100:  # of smaller ones a pixel of rounding is much
            assert part.mean() <= 0.3
    if count <= 4 and width > 100:
        assert len(places) == count, "there is room for all"


@pytest.mark.parametrize(("seed", "count", "width", "height"), SCENES)
def test_the_text_of_a_label_stays_on_its_ground(seed: int, count: int, width: int, height: int) -> None:
    objects = crowd(seed, count, width, height)
    for plate in filter(None, plates(objects, [NAMES[c] for c in objects.classes], (width, height))):
        x1, y1, x2, y2 = plate.place
        canvas, x, y = grey(x2 - x1 + 40, y2 - y1 + 40), plate.origin[0] - x1 + 20, plate.origin[1] - y1 + 20
        plates_module.put(canvas, replace(plate, origin=(x, y)), (255, 255, 255))
        inked = np.argwhere((canvas != 128).any(axis=2))

        assert len(inked) > 0
        assert inked.min() >= 20
        assert inked[:, 0].max() < y2 - y1 + 20
        assert inked[:, 1].max() < x2 - x1 + 20


def test_a_label_without_room_loses_its_score_then_its_size_and_is_left_out_last():
    wide, narrow = found((0, 0, 200, 200)), found((0, 0, 64, 64))
    forms = {plate.text for plate in plates(wide, ["cat"], (200, 200)) if plate is not None}
    tiny = {plate.text for plate in plates(narrow, ["cat"], (64, 64)) if plate is not None}

    assert (forms, tiny) == ({"cat 0.90"}, {"cat"})
    assert plates(found((0, 0, 20, 20)), ["cat"], (20, 20)) == [None]


def test_a_picture_of_64_pixels_stays_visible():
    boxes = found(*[(4 + 10 * i, 10, 14 + 10 * i, 50) for i in range(5)], classes=[0] * 5)
    image = np.random.default_rng(2).integers(0, 255, (64, 64, 3)).astype(np.uint8)

    assert (draw(image, boxes, ["person"] * 5) == image).all(axis=2).mean() > 0.6


def test_objects_of_one_class_can_be_told_apart():
    boxes = [(20 + 60 * i, 100, 80 + 60 * i, 250) for i in range(4)]
    drawn = draw(grey(400, 300), found(*boxes, classes=[0] * 4), ["cat"] * 4)
    edges = np.array([drawn[249, (x1 + x2) // 2] for x1, _, x2, _ in boxes], float)

    assert np.abs(edges[0] - class_color(0)).max() <= 40, "the best has the colour of the class"
    for i in range(4):
        for j in range(i):
            assert np.abs(edges[i] - edges[j]).max() > 30


def test_several_threads_draw_what_one_draws():
    objects = crowd(3, 40, 640, 480)
    labels = [f"{NAMES[c]} {row}" for row, c in enumerate(objects.classes)]
    alone = draw(grey(640, 480), objects, labels)
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(lambda _: draw(grey(640, 480), objects, labels), range(40)))

    assert all(np.array_equal(alone, drawn) for drawn in together)


def test_no_zero_is_slashed():
    """A slash would put ink into the middle of the zero."""
    (plate,) = plates(found((0, 200, 400, 390)), ["0"], (400, 400))
    assert plate is not None
    canvas = np.zeros((400, 400, 3), np.uint8)
    plates_module.put(canvas, replace(plate, text="0", letter=90, origin=(100, 200)), (255, 255, 255))
    rows, columns = np.nonzero(canvas[..., 0])
    middle = canvas[(rows.min() + rows.max()) // 2, (columns.min() + columns.max()) // 2]

    assert not middle.any()


# -- as a file ---------------------------------------------------------------------------------------------------------------------


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


def test_a_tracked_object_has_one_colour_whatever_its_rank_is():
    image = np.full((200, 300, 3), 128, np.uint8)
    boxes = np.array([[20, 20, 120, 120], [150, 60, 280, 180]], np.float32)

    def edge(rows):
        found = Detections(boxes[rows], np.array([0.9, 0.8], np.float32), np.zeros(2, np.int64), np.array([4, 9])[rows])
        return [tuple(draw(image, found, ("dog", "dog"))[int(boxes[row][3]) - 1, int(boxes[row][0]) + 30].tolist()) for row in (0, 1)]

    assert edge([0, 1]) == edge([1, 0]) == [class_color(4), class_color(9)]
