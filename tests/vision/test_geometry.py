"""Letterbox placement, box formats, overlap and suppression, against plain loops and against OpenCV."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeannot.vision.geometry import areas, clip, cxcywh_to_xyxy, iou_matrix, nms, place, xyxy_to_cxcywh, yxyx_to_xyxy

NOTHING = np.zeros((0, 4), np.float32)
side = st.integers(1, 5000)
resize = st.sampled_from(["stretch", "letterbox", "letterbox-top-left", "crop"])


def boxes(*rows):
    return np.array(rows, np.float32).reshape(-1, 4)


def random_boxes(rng, count, spread=100.0):
    corners = rng.uniform(0, spread, (count, 2))
    return np.concatenate([corners, corners + rng.uniform(5, 40, (count, 2))], axis=1).astype(np.float32)


def plain_iou(a, b):
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height
    return width * height / union if union > 0 else 0.0


def plain_nms(boxes_xyxy, scores, classes, iou, limit=None):
    """The rule in so many words: best first, drop what overlaps a kept box of its class too much."""
    kept = []
    for row in sorted(range(len(scores)), key=lambda i: (-scores[i], i)):
        if all(classes[row] != classes[k] or plain_iou(boxes_xyxy[row].tolist(), boxes_xyxy[k].tolist()) <= iou for k in kept):
            kept.append(row)
    return kept[:limit]


class TestPlace:
    def test_stretch_scales_each_axis_and_pads_nothing(self):
        fit, inner_wh = place((640, 480), (320, 320), "stretch")
        assert (fit.scale_xy, fit.pad_xy, inner_wh) == ((0.5, 320 / 480), (0, 0), (320, 320))

    def test_letterbox_centres_the_picture(self):
        fit, inner_wh = place((640, 480), (320, 320), "letterbox")
        assert (fit.scale_xy, fit.pad_xy, inner_wh) == ((0.5, 0.5), (0, 40), (320, 240))

    def test_letterbox_top_left_pads_only_after_the_picture(self):
        fit, inner_wh = place((480, 640), (320, 320), "letterbox-top-left")
        assert (fit.pad_xy, inner_wh) == ((0, 0), (240, 320))

    @pytest.mark.parametrize(
        ("frame_wh", "cut_xy", "scale_xy"),
        [
            ((320, 320), (0, 0), (1.0, 1.0)),
            ((640, 480), (80, 0), (320 / 480, 320 / 480)),
            ((480, 640), (0, 80), (320 / 480, 320 / 480)),
            ((101, 100), (0, 0), (320 / 101, 3.2)),  # one pixel more than a square
            ((9000, 1), (4499, 0), (160.0, 320.0)),
        ],
    )
    def test_crop_takes_the_middle_in_the_proportions_of_the_input(self, frame_wh, cut_xy, scale_xy):
        fit, inner_wh = place(frame_wh, (320, 320), "crop")
        assert (fit.cut_xy, fit.scale_xy, fit.pad_xy, inner_wh) == (cut_xy, scale_xy, (0, 0), (320, 320))

    def test_an_odd_pad_leaves_the_extra_pixel_to_the_right(self):
        fit, inner_wh = place((99, 100), (100, 100), "letterbox")
        assert (fit.pad_xy, inner_wh) == ((0, 0), (99, 100))

    def test_the_scale_is_the_one_that_was_pasted_not_the_ideal_ratio(self):
        fit, inner_wh = place((1000, 333), (100, 100), "letterbox")
        assert inner_wh == (100, 33)
        assert fit.scale_xy == (0.1, 33 / 333)

    def test_a_very_long_picture_keeps_a_pixel_on_its_short_axis(self):
        _, inner_wh = place((10_000, 3), (320, 320), "letterbox")
        assert inner_wh == (320, 1)

    def test_a_picture_smaller_than_the_input_is_enlarged(self):
        _, inner_wh = place((10, 20), (320, 320), "letterbox")
        assert inner_wh == (160, 320)

    @pytest.mark.parametrize(("frame_wh", "model_wh"), [((0, 10), (320, 320)), ((10, 10), (0, 320))])
    def test_a_size_of_nothing_is_refused(self, frame_wh, model_wh):
        with pytest.raises(ValueError, match="at least one pixel"):
            place(frame_wh, model_wh, "letterbox")

    @given(side, side, st.integers(1, 700), st.integers(1, 700), resize)
    def test_the_picture_lies_inside_the_input_and_touches_it_on_one_axis(self, w, h, model_w, model_h, how):
        fit, (inner_w, inner_h) = place((w, h), (model_w, model_h), how)
        assert min(fit.pad_xy) >= 0
        assert fit.pad_xy[0] + inner_w <= model_w
        assert fit.pad_xy[1] + inner_h <= model_h
        assert inner_w == model_w or inner_h == model_h

    @given(side, side, resize)
    def test_the_pictures_corners_map_to_the_pasted_rectangle_and_back(self, w, h, how):
        fit, (inner_w, inner_h) = place((w, h), (320, 256), how)
        cut_x, cut_y = fit.cut_xy
        whole = boxes([cut_x, cut_y, w - cut_x, h - cut_y])
        placed = fit.to_model(whole)
        left, top = fit.pad_xy
        assert placed[0] == pytest.approx([left, top, left + inner_w, top + inner_h], abs=1e-3)
        assert fit.to_frame(placed)[0] == pytest.approx(whole[0], rel=1e-4, abs=1e-2)


class TestFormats:
    def test_no_boxes_stay_no_boxes(self):
        for convert in (cxcywh_to_xyxy, xyxy_to_cxcywh, yxyx_to_xyxy):
            assert convert(NOTHING).shape == (0, 4)
        assert clip(NOTHING, (10, 10)).shape == (0, 4)
        assert areas(NOTHING).shape == (0,)

    def test_centre_and_size_become_corners_and_come_back(self):
        assert cxcywh_to_xyxy(boxes([10, 20, 4, 8])).tolist() == [[8, 16, 12, 24]]
        assert xyxy_to_cxcywh(boxes([8, 16, 12, 24])).tolist() == [[10, 20, 4, 8]]

    def test_swapping_the_axes_twice_changes_nothing(self):
        assert yxyx_to_xyxy(boxes([1, 2, 3, 4])).tolist() == [[2, 1, 4, 3]]
        assert yxyx_to_xyxy(yxyx_to_xyxy(boxes([1, 2, 3, 4]))).tolist() == [[1, 2, 3, 4]]

    def test_clipping_keeps_the_part_inside_and_leaves_the_argument_alone(self):
        given_boxes = boxes([-5, -5, 5, 5], [90, 40, 200, 60], [300, 300, 400, 400])
        assert clip(given_boxes, (100, 50)).tolist() == [[0, 0, 5, 5], [90, 40, 100, 50], [100, 50, 100, 50]]
        assert given_boxes[0].tolist() == [-5, -5, 5, 5]

    def test_numbers_stay_float32(self):
        some = boxes([1, 2, 3, 4])
        for convert in (cxcywh_to_xyxy, xyxy_to_cxcywh, yxyx_to_xyxy, areas):
            assert convert(some).dtype == np.float32
        assert clip(some, (10, 10)).dtype == np.float32
        assert iou_matrix(some, some).dtype == np.float32


class TestIou:
    def test_of_no_boxes_is_an_empty_matrix(self):
        assert iou_matrix(NOTHING, boxes([0, 0, 1, 1])).shape == (0, 1)
        assert iou_matrix(boxes([0, 0, 1, 1]), NOTHING).shape == (1, 0)

    def test_is_one_for_itself_and_zero_for_what_only_touches(self):
        assert iou_matrix(boxes([0, 0, 2, 2]), boxes([0, 0, 2, 2], [2, 0, 4, 2], [0, 0, 1, 2])).tolist() == [[1.0, 0.0, 0.5]]

    def test_of_boxes_without_area_is_zero_without_a_warning(self):
        assert iou_matrix(boxes([1, 1, 1, 1]), boxes([1, 1, 1, 1])).tolist() == [[0.0]]

    def test_agrees_with_a_plain_loop(self):
        rng = np.random.default_rng(1)
        a, b = random_boxes(rng, 40), random_boxes(rng, 30)
        plain = [[plain_iou(p, q) for q in b.tolist()] for p in a.tolist()]
        assert iou_matrix(a, b) == pytest.approx(np.array(plain), abs=1e-5)


class TestNms:
    def test_of_nothing_is_nothing(self):
        kept = nms(NOTHING, np.zeros(0, np.float32), np.zeros(0, np.int64), 0.5)
        assert kept.shape == (0,)
        assert kept.dtype == np.int64

    def test_keeps_the_better_of_two_boxes_of_one_class_and_both_of_two(self):
        two = boxes([0, 0, 10, 10], [1, 0, 11, 10])
        scores = np.array([0.5, 0.9], np.float32)
        assert nms(two, scores, np.array([3, 3]), 0.5).tolist() == [1]
        assert nms(two, scores, np.array([3, 4]), 0.5).tolist() == [1, 0]

    def test_a_suppressed_box_suppresses_nothing(self):
        chain = boxes([0, 0, 10, 10], [4, 0, 14, 10], [8, 0, 18, 10])
        assert nms(chain, np.array([0.9, 0.8, 0.7], np.float32), np.zeros(3, np.int64), 0.4).tolist() == [0, 2]

    def test_an_overlap_equal_to_the_limit_is_kept(self):
        halves = boxes([0, 0, 4, 4], [0, 0, 4, 2])
        scores = np.array([0.9, 0.8], np.float32)
        assert nms(halves, scores, np.zeros(2, np.int64), 0.5).tolist() == [0, 1]
        assert nms(halves, scores, np.zeros(2, np.int64), 0.49).tolist() == [0]

    def test_of_equal_scores_the_earlier_row_wins(self):
        same = boxes([0, 0, 10, 10], [0, 0, 10, 10], [50, 50, 60, 60])
        assert nms(same, np.full(3, 0.5, np.float32), np.zeros(3, np.int64), 0.5).tolist() == [0, 2]

    def test_the_limit_takes_the_best_of_all(self):
        rng = np.random.default_rng(2)
        some, scores, classes = random_boxes(rng, 400), rng.random(400).astype(np.float32), rng.integers(0, 5, 400)
        everything = nms(some, scores, classes, 0.4)
        assert nms(some, scores, classes, 0.4, limit=7).tolist() == everything[:7].tolist()
        assert nms(some, scores, classes, 0.4, limit=0).tolist() == []

    def test_arguments_are_not_written_to(self):
        some = boxes([0, 0, 10, 10], [1, 0, 11, 10])
        scores, classes = np.array([0.5, 0.9], np.float32), np.zeros(2, np.int64)
        for array in (some, scores, classes):
            array.flags.writeable = False
        assert nms(some, scores, classes, 0.5).tolist() == [1]

    @settings(max_examples=60)
    @given(st.integers(0, 120), st.integers(1, 6), st.sampled_from([0.2, 0.45, 0.7, 1.0]), st.integers(0, 2**32 - 1))
    def test_agrees_with_a_plain_loop(self, count, kinds, iou, seed):
        rng = np.random.default_rng(seed)
        some, classes = random_boxes(rng, count, 60), rng.integers(0, kinds, count)
        scores = (rng.integers(0, 20, count) / 20).astype(np.float32)  # many ties
        assert nms(some, scores, classes, iou).tolist() == plain_nms(some, scores, classes, iou)

    @pytest.mark.parametrize(("kinds", "limit"), [(1, None), (12, None), (12, 600), (12, 100)])
    def test_agrees_with_a_plain_loop_where_there_are_thousands(self, kinds, limit):
        rng = np.random.default_rng(3)
        some, classes = random_boxes(rng, 1500, 250), rng.integers(0, kinds, 1500)
        scores = rng.random(1500).astype(np.float32)
        assert nms(some, scores, classes, 0.3, limit).tolist() == plain_nms(some, scores, classes, 0.3, limit)

    def test_agrees_with_opencv(self):
        rng = np.random.default_rng(4)
        some, scores = random_boxes(rng, 800, 300), (rng.permutation(800) + 1).astype(np.float32) / 800
        xywh = np.concatenate([some[:, :2], some[:, 2:] - some[:, :2]], axis=1)
        theirs = cv2.dnn.NMSBoxes(xywh.tolist(), scores.tolist(), score_threshold=0.0, nms_threshold=0.45)
        assert nms(some, scores, np.zeros(800, np.int64), 0.45).tolist() == np.array(theirs).reshape(-1).tolist()
