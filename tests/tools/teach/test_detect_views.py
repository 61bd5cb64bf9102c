"""Views of a picture, the cells that answer for its objects, and the numbers that stand for boxes."""

from __future__ import annotations

import numpy as np
import pytest

from edgeannot.vision.geometry import place
from edgeannot_tools.teach.detect.bands import NOBODY, UNSURE, Band, owners, sizes_of
from edgeannot_tools.teach.detect.fit import decode_boxes, encode_boxes
from edgeannot_tools.teach.detect.views import PAD, Boxes, changed_view, whole_view

NOTHING = Boxes(np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros((0, 4), np.float32))
EVERY = Band(0, 0.0, np.inf, (32.0, 32.0))


def one(*box, unsure=()):
    return Boxes(np.float32([box]), np.zeros(1, np.int64), np.float32(unsure).reshape(-1, 4))


def white_box(size_wh=(200, 100), box=(60, 20, 120, 70)):
    image = np.zeros((size_wh[1], size_wh[0], 3), np.uint8)
    image[box[1] : box[3], box[0] : box[2]] = 255
    return image, one(*box)


def test_a_picture_without_objects_gives_views_without_boxes():
    image = np.zeros((40, 60, 3), np.uint8)

    for view in (whole_view(image, NOTHING, 64), changed_view(image, NOTHING, 64, np.random.default_rng(0))):
        assert view.image.shape == (64, 64, 3)
        assert view.marked.boxes.shape == (0, 4)


def test_the_whole_view_is_the_letterbox_of_the_daemon():
    image, marked = white_box()

    view = whole_view(image, marked, 128)

    fit, inner_wh = place((200, 100), (128, 128), "letterbox")
    assert np.allclose(fit.to_frame(view.marked.boxes), marked.boxes, atol=0.01)
    assert inner_wh == (128, 64)
    assert (view.image[:32] == PAD).all()
    assert (view.image[96:] == PAD).all()


@pytest.mark.parametrize("seed", range(12))
def test_a_changed_view_moves_the_box_with_its_object(seed):
    image, marked = white_box()

    view = changed_view(image, marked, 128, np.random.default_rng(seed))

    for x1, y1, x2, y2 in view.marked.boxes.clip(0, 128):
        inside = view.image[int(y1) + 2 : int(y2) - 2, int(x1) + 2 : int(x2) - 2]
        assert inside.min() > view.image[0, 0].max() or inside.min() > 150
        white = (view.image.min(axis=2) > 150).sum()
        assert white == pytest.approx((x2 - x1) * (y2 - y1), rel=0.1)


def test_the_same_seed_gives_the_same_view():
    image, marked = white_box()

    first, second = (changed_view(image, marked, 64, np.random.default_rng(3)) for _ in range(2))

    assert (first.image == second.image).all()
    assert (first.marked.boxes == second.marked.boxes).all()


def test_an_object_that_is_mostly_outside_is_not_taught():
    _, marked = white_box()

    assert len(one(-60, 10, 20, 50).visible(128).boxes) == 0
    assert len(marked.visible(128).boxes) == 1


def test_without_objects_no_cell_answers():
    assert (owners(EVERY, NOTHING, 4, 32) == NOBODY).all()


def test_the_cells_around_the_centre_answer():
    found = owners(EVERY, one(32, 32, 96, 96), 4, 32)

    # Three tenths of two cells around the corner of four cells.
    assert np.argwhere(found == 0).tolist() == [[1, 1], [1, 2], [2, 1], [2, 2]]


def test_the_cell_of_the_centre_answers_for_the_smallest_object():
    assert np.argwhere(owners(EVERY, one(40, 70, 43, 73), 4, 32) == 0).tolist() == [[2, 1]]


def test_cells_in_a_crowd_are_not_taught():
    found = owners(EVERY, one(100, 100, 120, 120, unsure=[(0, 0, 64, 64)]), 4, 32)

    assert (found[:2, :2] == UNSURE).all()
    assert found[3, 3] == 0
    assert found[0, 3] == NOBODY


def test_a_band_answers_for_its_sizes_alone():
    small, box = Band(0, 0.0, 40.0, (30.0, 30.0)), one(0, 0, 60, 60)

    assert sizes_of(box.boxes).tolist() == [60.0]
    assert (owners(small, box, 4, 32) == NOBODY).all()


def test_numbers_of_boxes_are_read_as_the_same_boxes():
    rng = np.random.default_rng(0)
    cells = rng.integers(0, 8, (50, 2))
    centres = (cells + rng.uniform(-0.8, 1.8, (50, 2))) * 16
    half = rng.uniform(4, 60, (50, 2))
    boxes = np.concatenate([centres - half, centres + half], axis=1).astype(np.float32)

    numbers = encode_boxes(boxes, cells, 16, (30.0, 50.0))

    assert np.allclose(decode_boxes(numbers, cells, 16, (30.0, 50.0)), boxes, atol=0.01)
    assert encode_boxes(boxes[:0], cells[:0], 16, (30.0, 50.0)).shape == (0, 4)
