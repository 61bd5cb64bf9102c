"""Each kind's arithmetic on one or two rows whose result can be worked out by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from edgeannot.base.errors import CardError
from edgeannot.vision.data import Outputs
from edgeannot.vision.heads.classify import Classify
from edgeannot.vision.heads.dfl import Dfl
from edgeannot.vision.heads.end_to_end import EndToEnd
from edgeannot.vision.heads.fastestdet import FastestDet
from edgeannot.vision.heads.fomo import Fomo
from edgeannot.vision.heads.joined import Joined
from edgeannot.vision.heads.split import Split
from edgeannot.vision.heads.ssd_anchors import AnchorLayer, OctaveAnchors, ScaledAnchors, SsdAnchors
from edgeannot.vision.heads.ssd_postprocess import SsdPostprocess
from edgeannot.vision.heads.yolo_fastestv2 import YoloFastestV2
from edgeannot.vision.heads.yolo_grid import Grid, YoloGrid
from edgeannot.vision.heads.yolo_rows import YoloRows
from edgeannot.vision.heads.yolox import Yolox
from tests.vision.heads.examples import outputs, quantized, spec, specs

WH = (64, 32)


def near(*numbers):
    return pytest.approx(numbers, rel=1e-5, abs=1e-4)


def logit(p):
    return math.log(p / (1 - p))


def only(found):
    """Class, score and box of the one detection there is."""
    assert len(found) == 1
    return int(found.classes[0]), float(found.scores[0]), found.boxes[0].tolist()


class TestSsdPostprocess:
    head = SsdPostprocess(boxes=0, classes=1, scores=2, count=3)

    def test_boxes_are_y_first_and_may_reach_outside(self):
        found = self.head.decode(outputs([[[-0.25, 0.5, 1.0, 1.25]]], [[7]], [[0.75]], [1]), WH, 0.3)
        assert only(found) == (7, 0.75, [32, -8, 80, 32])

    def test_rows_after_the_count_are_padding(self):
        boxes = np.tile(np.array([0.0, 0.0, 0.5, 0.5]), (1, 3, 1))
        given = (boxes, [[1, 2, 3]], [[0.9, 0.8, 0.7]])
        assert self.head.decode(outputs(*given, [2]), WH, 0.3).classes.tolist() == [1, 2]
        assert len(self.head.decode(outputs(*given, [25]), WH, 0.3)) == 3  # a count beyond the slots happens
        assert len(self.head.decode(outputs(*given, [-1]), WH, 0.3)) == 0

    def test_without_a_count_empty_slots_are_known_by_their_score(self):
        head = SsdPostprocess(boxes=0, classes=1, scores=2)
        boxes = np.tile(np.array([0.0, 0.0, 0.5, 0.5]), (1, 2, 1))
        assert head.decode(outputs(boxes, [[4, 0]], [[0.9, 0.0]]), WH, 0.0).classes.tolist() == [4]

    def test_no_second_suppression_is_asked_for(self):
        assert self.head.suppress is False

    def test_scores_and_boxes_that_do_not_belong_together_are_refused(self):
        with pytest.raises(CardError, match=r"head.scores: output 'out2' has shape \(1, 20\), wanted \(1, 10\) as there are 10 boxes"):
            self.head.check(specs((1, 10, 4), (1, 10), (1, 20), (1,)), WH)


class TestSsdAnchors:
    layer = (AnchorLayer(stride=32, sizes=((16.0, 8.0),)),)  # two anchors, centres (16, 16) and (48, 16)

    def decode(self, box, **fields):
        head = SsdAnchors(boxes=(0,), scores=(1,), activation="none", layers=self.layer, **fields)
        assert head.check(specs((1, 2, len(box)), (1, 2, 1)), WH) == 1
        return only(head.decode(outputs([[[0] * len(box), box]], [[[0.0], [0.9]]]), WH, 0.3))[2]

    def test_offsets_y_first_move_the_centre_in_anchor_sizes_and_scale_by_exp(self):
        # centre x = 48 + 5/10 * 16, y = 16 + 10/10 * 8; width = 16 * e^(5/5), height = 8.
        half = 8 * math.e
        assert self.decode([10, 5, 0, 5]) == near(56 - half, 20, 56 + half, 28)

    def test_offsets_x_first(self):
        half = 8 * math.e
        assert self.decode([5, 10, 5, 0], code="xywh") == near(56 - half, 20, 56 + half, 28)

    def test_corner_offsets_move_corners_in_anchor_sizes(self):
        assert self.decode([0.5, -0.5, 0.25, 1], code="corners", scales=(1, 1, 1, 1)) == near(48, 8, 60, 28)

    def test_blazeface_offsets_are_pixels_and_keypoints_are_passed_over(self):
        head = SsdAnchors(
            boxes=(0,),
            scores=(1,),
            activation="sigmoid",
            scaled=ScaledAnchors(strides=(32,), aspect_ratios=(1.0,), interpolated_aspect_ratio=0, unit_size=True),
            code="xywh",
            scales=(64, 64, 64, 64),
            exponential=False,
            extra_columns=2,
        )
        assert head.check(specs((1, 4, 6), (1, 4, 1)), (64, 64)) == 1
        boxes, scores = np.full((1, 4, 6), 99.0), np.full((1, 4, 1), -9.0)
        boxes[0, 3], scores[0, 3] = (2, -4, 20, 30, 7, 7), logit(0.8)
        class_id, score, box = only(head.decode(outputs(boxes, scores), (64, 64), 0.3))
        assert (class_id, box) == (0, near(50 - 10, 44 - 15, 50 + 10, 44 + 15))
        assert score == pytest.approx(0.8)

    def test_anchors_may_be_an_output(self):
        head = SsdAnchors(boxes=(0,), scores=(1,), anchor_tensor=2, activation="none", background=0, code="corners", scales=(1, 1, 1, 1))
        given = ([[[0.5, 0, 0, 0.5]]], [[[0.2, 0.8]]], [[[0.25, 0.25, 0.75, 0.5]]])
        assert only(head.decode(outputs(*given), WH, 0.3)) == (1, pytest.approx(0.8), near(32, 8, 48, 20))

    def test_the_background_never_wins_and_counts_in_a_softmax(self):
        head = SsdAnchors(boxes=(0,), scores=(1,), activation="softmax", background=1, layers=self.layer)
        numbers = np.log([[[0.1, 0.55, 0.35], [0.2, 0.75, 0.05]]])
        class_id, score, _ = only(head.decode(outputs(np.zeros((1, 2, 4)), numbers), WH, 0.3))
        assert (class_id, score) == (2, pytest.approx(0.35))

    def test_anchors_that_do_not_fit_the_rows_are_refused_with_both_numbers(self):
        head = SsdAnchors(
            boxes=(0,), scores=(1,), activation="sigmoid", scaled=ScaledAnchors(strides=(16, 32, 64, 128, 256, 512), reduce_lowest=True)
        )
        with pytest.raises(CardError, match=r"the outputs have 1900 rows, the anchors are 1917"):
            head.check(specs((1, 1900, 4), (1, 1900, 91)), (300, 300))

    @pytest.mark.parametrize("rules", [{}, {"octaves": OctaveAnchors(), "anchor_tensor": 2}])
    def test_exactly_one_source_of_anchors_is_wanted(self, rules):
        head = SsdAnchors(boxes=(0,), scores=(1,), activation="sigmoid", **rules)
        with pytest.raises(CardError, match="exactly one of scaled, octaves, layers and anchor_tensor"):
            head.check(specs((1, 2, 4), (1, 2, 3), (1, 2, 4)), WH)

    def test_a_background_beyond_the_columns_is_refused(self):
        head = SsdAnchors(boxes=(0,), scores=(1,), activation="softmax", background=3, layers=self.layer)
        with pytest.raises(CardError, match="one of 3 columns beside another, found 3"):
            head.check(specs((1, 2, 4), (1, 2, 3)), WH)


class TestYoloGrid:
    grid = (Grid(output=0, anchors=((10.0, 20.0), (30.0, 12.0))),)

    def decode(self, row, anchor=1, x=3, y=1, **fields):
        """The box from one cell of a 4 x 2 map of stride 16, every other cell saying no."""
        table = np.full((2, 4, 2, 7), -20.0)
        if fields.get("activation") == "none":
            table[:] = 0
        table[y, x, anchor] = row
        head = YoloGrid(grids=self.grid, **fields)
        layout = fields.get("layout", "NHWC")
        array = {
            "NHWC": table.reshape(1, 2, 4, 14),
            "NCHW": table.transpose(2, 3, 0, 1).reshape(1, 14, 2, 4),
            "NAHWC": table.transpose(2, 0, 1, 3)[None],
        }[layout]
        assert head.check(specs(array.shape), WH) == 2
        return only(head.decode(outputs(array), WH, 0.3))

    row = (logit(0.25), logit(0.5), math.log(2), 0.0, logit(0.9), logit(0.1), logit(0.8))

    @pytest.mark.parametrize("layout", ["NHWC", "NCHW", "NAHWC"])
    def test_v3_in_each_layout(self, layout):
        # centre x = (3 + 0.25) * 16, y = (1 + 0.5) * 16; size = 2 * 30, 1 * 12; score = 0.9 * 0.8.
        assert self.decode(self.row, layout=layout) == (1, pytest.approx(0.72), near(22, 18, 82, 30))

    def test_v4_stretches_the_centre_beyond_its_cell(self):
        # 0.25 * 1.2 - 0.1 = 0.2
        assert self.decode(self.row, xy_scale=1.2)[2] == near(3.2 * 16 - 30, 18, 3.2 * 16 + 30, 30)

    def test_a_map_may_have_a_stretch_of_its_own(self):
        grids = (Grid(output=0, anchors=((16.0, 16.0),), xy_scale=1.2), Grid(output=1, anchors=((16.0, 16.0),)))
        rows = [np.full((1, 1, 2, 6), logit(0.25)), np.full((1, 1, 2, 6), logit(0.25))]
        for row in rows:
            row[..., 2:4], row[..., 4:] = 0, -9
            row[0, 0, 1, 4:] = 9
        found = YoloGrid(grids=grids, xy_scale=1.1).decode(outputs(*rows), WH, 0.3)
        assert ((found.boxes[:, 0] + found.boxes[:, 2]) / 2).tolist() == near(1.2 * 32, (1 + 0.25 * 1.1 - 0.05) * 32)

    def test_v5_squares_the_doubled_size(self):
        # centre x = 2 * 0.25 - 0.5 + 3; width = (2 * 0.5)^2 * 30; height = (2 * 0.75)^2 * 12.
        row = (logit(0.25), logit(0.5), logit(0.5), logit(0.75), logit(0.9), logit(0.1), logit(0.8))
        assert self.decode(row, size="square", xy_scale=2) == (1, pytest.approx(0.72), near(48 - 15, 24 - 13.5, 48 + 15, 24 + 13.5))

    def test_scaled_v4_has_activated_its_numbers(self):
        row = (0.25, 0.5, 0.5, 0.75, 0.9, 0.1, 0.8)
        found = self.decode(row, size="square", xy_scale=2, activation="none", class_activation="none")
        assert found == (1, pytest.approx(0.72), near(48 - 15, 24 - 13.5, 48 + 15, 24 + 13.5))

    def test_v2_has_anchors_in_cells_and_classes_that_share_one(self):
        row = (logit(0.25), logit(0.5), math.log(0.1), math.log(0.1), logit(0.9), math.log(3), 0.0)
        class_id, score, box = self.decode(row, class_activation="softmax", anchor_units="cells")
        assert (class_id, score) == (0, pytest.approx(0.9 * 0.75))
        assert box == near(52 - 24, 24 - 9.6, 52 + 24, 24 + 9.6)

    def test_an_enormous_size_is_only_large(self):
        _, _, box = self.decode((0, 0, 1e6, 1e6, 9, 9, -9))
        assert np.isfinite(box).all()

    @pytest.mark.parametrize(
        ("shape", "message"),
        [((1, 2, 4, 15), "as there are 2 anchors"), ((1, 2, 2, 14), "one stride for the input of 64x32, found 2x2"), ((1, 14), "wanted")],
    )
    def test_a_map_that_does_not_fit_is_refused(self, shape, message):
        with pytest.raises(CardError, match=message):
            YoloGrid(grids=self.grid).check(specs(shape), WH)

    def test_cells_may_reach_over_the_edge_of_the_input(self):
        """A stride of 16 gives 4 x 2 cells of 60 x 30 pixels, as the network pads: the last begins at 48, not at 45."""
        table = np.full((1, 2, 4, 14), -20.0)
        table[0, 1, 3, :7] = 0, 0, 0, 0, 9, 9, -9
        head = YoloGrid(grids=self.grid)
        assert head.check(specs(table.shape), (60, 30)) == 2
        assert only(head.decode(outputs(table), (60, 30), 0.3))[2] == near(56 - 5, 24 - 10, 56 + 5, 24 + 10)
        with pytest.raises(CardError, match="one stride for the input of 61x70, found 4x2"):
            YoloGrid(grids=self.grid).check(specs((1, 2, 4, 14)), (61, 70))

    def test_maps_with_different_class_counts_are_refused(self):
        grids = (*self.grid, Grid(output=1, anchors=((1.0, 1.0),)))
        with pytest.raises(CardError, match=r"same number of classes in every map, found \[2, 9\]"):
            YoloGrid(grids=grids).check(specs((1, 2, 4, 14), (1, 4, 8, 14)), WH)


def test_yolo_fastestv2_shares_a_cells_classes_among_its_anchors():
    head = YoloFastestV2(outputs=(0,), strides=(16, 32), anchors=(((10, 20), (30, 12)), ((40, 40), (50, 20))))
    table = np.zeros((8 + 2, 2 * 5 + 2))
    # Second cell of the coarse grid: both anchors, objectness 0.9 and 0.1, class 1 with 0.8.
    table[9] = (0.5, 0.5, 0.5, 0.5, 0.25, 0.75, 0.5, 1.0, 0.1, 0.9, 0.2, 0.8)
    assert head.check(specs(table.shape), WH) == 2
    assert only(head.decode(outputs(table), WH, 0.3)) == (1, pytest.approx(0.72), near(32 - 25, 32 - 40, 32 + 25, 32 + 40))


class TestYoloRows:
    def test_v5_multiplies_objectness_and_class(self):
        head = YoloRows(output=0, layout="rows", objectness=True, box_units="normalized")
        rows = [[[0.5, 0.5, 0.25, 0.5, 0.9, 0.1, 0.8], [0.5, 0.5, 0.25, 0.5, 0.2, 1.0, 1.0]]]
        assert only(head.decode(outputs(rows), WH, 0.3)) == (1, pytest.approx(0.72), [24, 8, 40, 24])

    def test_v8_is_transposed_and_has_no_objectness(self):
        head = YoloRows(output=0, layout="columns", objectness=False, box_units="pixels")
        columns = np.array([[32, 16, 16, 16, 0.1, 0.8], [32, 16, 16, 16, 0.2, 0.1]]).T[None]
        assert head.check(specs(columns.shape), WH) == 2
        assert only(head.decode(outputs(columns), WH, 0.3)) == (1, pytest.approx(0.8), [24, 8, 40, 24])

    def test_one_best_class_a_candidate(self):
        head = YoloRows(output=0, layout="rows", objectness=False, box_units="pixels", box_form="xyxy")
        assert only(head.decode(outputs([[[1, 2, 3, 4, 0.7, 0.7]]]), WH, 0.3)) == (0, pytest.approx(0.7), [1, 2, 3, 4])

    def test_mask_numbers_at_the_end_are_no_classes(self):
        head = YoloRows(output=0, layout="rows", objectness=False, box_units="pixels", box_form="xyxy", extra_columns=2)
        assert head.check(specs((1, 1, 8)), WH) == 2
        assert only(head.decode(outputs([[[1, 2, 3, 4, 0.7, 0.2, 55, 55]]]), WH, 0.3))[0] == 0

    def test_an_angle_behind_the_classes_gives_the_upright_box_around_the_turned_one(self):
        head = YoloRows(output=0, layout="rows", objectness=False, box_units="pixels", rotated=True)
        assert head.check(specs((1, 1, 7)), WH) == 2
        assert only(head.decode(outputs([[[32, 16, 16, 8, 0.1, 0.8, math.pi / 2]]]), WH, 0.3)) == (
            1,
            pytest.approx(0.8),
            near(28, 8, 36, 24),
        )
        half = 12 / math.sqrt(2)
        turned = near(32 - half, 16 - half, 32 + half, 16 + half)
        assert only(head.decode(outputs([[[32, 16, 16, 8, 0.1, 0.8, -math.pi / 4]]]), WH, 0.3)) == (1, pytest.approx(0.8), turned)

    def test_percentages_are_hundredths(self):
        head = YoloRows(output=0, layout="rows", objectness=True, box_units="pixels", activation="percent")
        rows = [[[32, 16, 16, 16, 90, 10, 80], [32, 16, 16, 16, 20, 100, 100]]]
        assert only(head.decode(outputs(rows), WH, 0.3)) == (1, pytest.approx(0.72), [24, 8, 40, 24])
        stored = Outputs([quantized(np.array(rows, np.float32), np.int8, 0.5, -128)])
        assert len(head.decode(stored, WH, 0.73)) == 0
        assert only(head.decode(stored, WH, 0.7)) == (1, pytest.approx(0.72), [24, 8, 40, 24])

    def test_too_few_columns_are_refused(self):
        with pytest.raises(CardError, match=r"shape \(1, 5, 30\), wanted \(1, N, 5 \+ C\)|shape \(1, 30, 5\), wanted \(1, N, 5 \+ C\)"):
            YoloRows(output=0, layout="rows", objectness=True, box_units="pixels").check(specs((1, 30, 5)), WH)

    def test_a_normalized_box_in_coarse_steps_is_refused_with_the_step(self):
        head = YoloRows(output=0, layout="rows", objectness=True, box_units="normalized", activation="sigmoid")
        with pytest.raises(CardError, match=r"steps of 3.1% of the picture, too coarse for boxes"):
            head.check((spec((1, 30, 8), 0, np.int8, 0.031, 0),), WH)

    def test_scores_that_share_their_steps_with_pixels_are_refused(self):
        head = YoloRows(output=0, layout="columns", objectness=False, box_units="pixels")
        with pytest.raises(CardError, match=r"steps of 1.9, too coarse for scores"):
            head.check((spec((1, 84, 8400), 0, np.int8, 1.9, -128),), (640, 640))


def test_yolox_rows_are_offsets_from_the_cells_of_all_strides_in_order():
    head = Yolox(outputs=(0,), strides=(16, 32))
    table = np.zeros((1, 10, 7))
    table[0, 7] = (0.5, -0.5, math.log(2), 0.0, 0.9, 0.1, 0.8)  # last cell of the fine grid: (3, 1)
    table[0, 9] = (0.5, 0.5, 0.0, 0.0, 0.9, 0.8, 0.1)  # last cell of the coarse one: (1, 0)
    assert head.check(specs(table.shape), WH) == 2
    found = head.decode(outputs(table), WH, 0.3)
    assert found.classes.tolist() == [1, 0]
    assert found.boxes.tolist() == [near(56 - 16, 8 - 8, 56 + 16, 8 + 8), near(48 - 16, 16 - 16, 48 + 16, 16 + 16)]


def test_yolox_with_another_number_of_rows_is_refused_with_both_numbers():
    with pytest.raises(
        CardError, match=r"shape \(1, 2100, 8\), wanted 3549 cells \(52x52 \+ 26x26 \+ 13x13 for stride 8, 16, 32 on 416x416.*found 2100"
    ):
        Yolox(outputs=(0,)).check(specs((1, 2100, 8)), (416, 416))


class TestSplit:
    def test_boxes_and_scores_in_columns(self):
        head = Split(boxes=0, scores=1, box_layout="columns", score_layout="columns", box_units="normalized", box_form="cxcywh")
        assert head.check(specs((1, 4, 2), (1, 3, 2)), WH) == 3
        boxes, scores = [[[0, 0.5], [0, 0.5], [0, 0.25], [0, 0.5]]], [[[0, 0.1], [0, 0.2], [0, 0.9]]]
        assert only(head.decode(outputs(boxes, scores), WH, 0.3)) == (2, pytest.approx(0.9), [24, 8, 40, 24])

    def test_class_ids_picked_by_the_graph(self):
        head = Split(boxes=0, scores=1, classes=2, box_layout="rows", box_units="pixels", box_form="xyxy")
        assert head.check(specs((1, 2, 4), (1, 2), (1, 2)), WH) is None
        found = head.decode(outputs([[[1, 2, 3, 4], [5, 6, 7, 8]]], [[0.2, 0.6]], [[3, 17]]), WH, 0.3)
        assert only(found) == (17, pytest.approx(0.6), [5, 6, 7, 8])

    def test_boxes_with_y_first(self):
        head = Split(boxes=0, scores=1, box_layout="rows", box_units="normalized", box_form="yxyx")
        assert only(head.decode(outputs([[[0.25, 0.5, 0.5, 1.0]]], [[[0.9]]]), WH, 0.3))[2] == [32, 8, 64, 16]

    def test_suppression_is_asked_for_unless_the_graph_has_done_it(self):
        fields = {"boxes": 0, "scores": 1, "box_layout": "rows", "box_units": "pixels", "box_form": "xyxy"}
        assert Split(**fields).suppress is True
        assert Split(**fields, suppressed=True).suppress is False

    def test_no_rows_at_all_are_no_objects(self):
        head = Split(boxes=0, scores=1, classes=2, box_layout="rows", box_units="pixels", box_form="xyxy", suppressed=True)
        assert len(head.decode(outputs(np.zeros((1, 0, 4)), np.zeros((1, 0)), np.zeros((1, 0))), WH, 0.3)) == 0

    def test_scores_in_the_other_layout_are_refused(self):
        head = Split(boxes=0, scores=1, box_layout="rows", score_layout="rows", box_units="pixels", box_form="xyxy")
        with pytest.raises(
            CardError, match=r"head.scores: .*\(1, 3, 30\), wanted \(1, 30, C\) as there are 30 boxes; correct head.score_layout"
        ):
            head.check(specs((1, 30, 4), (1, 3, 30)), WH)


class TestDfl:
    def one_cell(self, bins, distances):
        """Bin numbers whose softmax has its whole weight on the given bins."""
        numbers = np.full((4, bins), -50.0)
        numbers[np.arange(4), distances] = 50.0
        return numbers.reshape(-1)

    def test_distances_are_the_mean_bin_in_strides_from_the_cells_centre(self):
        head = Dfl(strides=(16,), boxes=(0,), scores=(1,), activation="sigmoid")
        boxes, scores = np.zeros((1, 2, 4, 64)), np.full((1, 2, 4, 2), -9.0)
        boxes[0, 1, 2], scores[0, 1, 2] = self.one_cell(16, [1, 0, 2, 1]), (-9.0, logit(0.8))
        assert head.check(specs(boxes.shape, scores.shape), WH) == 2
        # centre (2.5, 1.5) * 16 = (40, 24)
        assert only(head.decode(outputs(boxes, scores), WH, 0.3)) == (1, pytest.approx(0.8), near(40 - 16, 24, 40 + 32, 24 + 16))

    def test_equal_bins_give_the_middle(self):
        head = Dfl(strides=(32,), boxes=(0,), scores=(1,), bins=8, activation="none")
        assert only(head.decode(outputs(np.zeros((1, 2, 32)), [[[0.0], [0.9]]]), WH, 0.3))[2] == near(
            48 - 112, 16 - 112, 48 + 112, 16 + 112
        )

    def test_one_bin_is_the_distance_itself(self):
        head = Dfl(strides=(32,), boxes=(0,), scores=(1,), bins=1, activation="none", center=0.0)
        assert only(head.decode(outputs([[[9, 9, 9, 9], [0.5, 0.0, 0.25, 1.0]]], [[[0.0], [0.9]]]), WH, 0.3))[2] == near(16, 0, 40, 32)

    def test_score_sums_only_save_work(self):
        head = Dfl(strides=(32,), boxes=(0,), scores=(1,), score_sums=(2,), bins=1, activation="none")
        given = ([[[1, 1, 1, 1], [1, 1, 1, 1]]], [[[0.9, 0.05], [0.9, 0.0]]], [[[0.95], [0.0]]])
        found = head.decode(outputs(*given), WH, 0.3)
        assert len(found) == 1  # the second sum rejects its cell, as the model says that nothing is there

    def test_a_wrong_number_of_bins_is_refused(self):
        head = Dfl(strides=(16,), boxes=(0,), scores=(1,), bins=8, activation="none")
        with pytest.raises(CardError, match=r"wanted 32 channels \(4 sides x 8 bins\), found 64; correct head.bins"):
            head.check(specs((1, 2, 4, 64), (1, 2, 4, 2)), WH)

    def test_a_transposed_grid_is_refused(self):
        head = Dfl(strides=(16,), boxes=(0,), scores=(1,), activation="none")
        with pytest.raises(CardError, match=r"width x height \(4, 2\)"):
            head.check(specs((1, 4, 2, 64), (1, 4, 2, 2)), WH)


class TestEndToEnd:
    def test_rows_are_objects(self):
        head = EndToEnd(output=0, box_units="normalized")
        found = head.decode(outputs([[[0.25, 0.25, 0.5, 0.5, 0.8, 17], [0, 0, 1, 1, 0.1, 3]]]), WH, 0.3)
        assert only(found) == (17, pytest.approx(0.8), [16, 8, 32, 16])
        assert head.suppress is False

    def test_rows_of_candidates_are_centre_and_size_and_still_to_be_suppressed(self):
        head = EndToEnd(output=0, box_units="normalized", box_form="cxcywh", suppressed=False)
        found = head.decode(outputs([[[0.375, 0.375, 0.25, 0.25, 0.8, 17]]]), WH, 0.3)
        assert only(found) == (17, pytest.approx(0.8), [16, 8, 32, 16])
        assert head.suppress is True

    def test_the_seventh_number_may_be_an_angle(self):
        head = EndToEnd(output=0, box_units="pixels", box_form="cxcywh", rotated=True)
        assert only(head.decode(outputs([[[32, 16, 16, 8, 0.8, 17, math.pi / 2]]]), WH, 0.3)) == (
            17,
            pytest.approx(0.8),
            near(28, 8, 36, 24),
        )

    def test_one_step_for_boxes_and_classes_is_refused(self):
        with pytest.raises(CardError, match=r"steps of 31\.0% of the picture"):
            EndToEnd(output=0, box_units="normalized").check((spec((1, 300, 6), 0, np.int8, 0.31, -128),), WH)


class TestClassify:
    def test_the_best_classes_come_first_and_cover_the_picture(self):
        found = Classify(output=0, top_k=2).decode(outputs([[0.1, 0.5, 0.05, 0.35]]), WH, 0.2)
        assert found.classes.tolist() == [1, 3]
        assert found.boxes.tolist() == [[0, 0, 64, 32]] * 2

    def test_logits_become_probabilities(self):
        found = Classify(output=0, activation="softmax").decode(outputs(np.log([[0.2, 0.7, 0.1]])), WH, 0.15)
        assert found.scores.tolist() == near(0.7, 0.2)

    def test_of_equal_scores_the_lower_class_comes_first(self):
        assert Classify(output=0, top_k=2).decode(outputs([[0.3, 0.3, 0.3]]), WH, 0.0).classes.tolist() == [0, 1]

    def test_a_map_is_no_classifier(self):
        with pytest.raises(CardError, match=r"shape \(1, 7, 7, 1024\), wanted \(1, C\)"):
            Classify(output=0).check(specs((1, 7, 7, 1024)), WH)


class TestFomo:
    head = Fomo(output=0, background=0)

    @staticmethod
    def objects(grid, head=Fomo(output=0, background=0), minimum=0.5):  # noqa: B008 - a frozen value
        """Boxes by class, of a map that is drawn: a digit is a cell of that class with 0.6, one with a star behind it 0.9."""
        cells = [row.split() for row in grid]
        scores = np.full((1, len(cells), len(cells[0]), 4), 0.01)
        for y, row in enumerate(cells):
            for x, cell in enumerate(row):
                if cell != ".":
                    scores[0, y, x, int(cell[0])] = 0.9 if "*" in cell else 0.6
        found = head.decode(outputs(scores), (8 * len(cells[0]), 8 * len(cells)), minimum)
        rows = zip(found.classes, found.scores, found.boxes, strict=True)
        return sorted((int(c), round(float(s), 2), tuple(int(n) for n in box)) for c, s, box in rows)

    def test_an_empty_map_has_no_objects(self):
        assert self.objects([". . .", ". . ."]) == []

    def test_the_background_is_never_an_object(self):
        assert self.objects(["0* 0*", "0* 0*"]) == []

    def test_a_cell_is_a_box_of_its_part_of_the_input(self):
        assert self.objects([". . .", ". . 2"]) == [(2, 0.6, (16, 8, 24, 16))]

    def test_cells_that_touch_at_a_side_or_a_corner_are_one_object_with_the_best_cells_score(self):
        assert self.objects(["1 . . .", ". 1* . .", ". . . 1", ". . . 1"]) == [(1, 0.6, (24, 16, 32, 32)), (1, 0.9, (0, 0, 16, 16))]

    def test_cells_of_two_classes_that_touch_are_two_objects(self):
        assert self.objects(["1 2", "1 ."]) == [(1, 0.6, (0, 0, 8, 16)), (2, 0.6, (8, 0, 16, 8))]

    def test_the_ends_of_a_row_and_the_next_are_no_neighbours(self):
        assert len(self.objects([". . . 1", "1 . . ."])) == 2

    def test_a_blob_of_any_shape_is_one_object(self):
        spiral = ["1 1 1 1 1 1 1", ". . . . . . 1", "1 1 1 1 1 . 1", "1 . . . 1 . 1", "1 . 1 1 1 . 1", "1 . . . . . 1", "1 1 1 1 1 1 1*"]
        assert self.objects(spiral) == [(1, 0.9, (0, 0, 56, 56))]

    def test_a_higher_minimum_leaves_cells_out(self):
        assert self.objects(["1 1* 1"], minimum=0.8) == [(1, 0.9, (8, 0, 16, 8))]
        assert self.objects(["1 1* 1"], minimum=0.95) == []

    def test_with_a_minimum_of_nothing_each_cell_stands_for_itself(self):
        assert len(self.objects(["1 1* 1"], minimum=0.0)) == 3 * 3

    def test_blobs_are_those_of_a_walk_from_cell_to_cell(self):
        """Against a plain flood fill, on maps of every density."""
        for seed in range(30):
            rng = np.random.default_rng(seed)
            taken = rng.random((9, 13)) < seed / 30
            scores = np.stack([1.0 - taken, taken * 0.9], axis=2)[None]
            found = self.head.decode(outputs(scores), (13, 9), 0.5)
            assert sorted(map(tuple, found.boxes.astype(int).tolist())) == sorted(walked(taken))

    def test_a_map_larger_than_the_input_is_refused(self):
        with pytest.raises(CardError, match=r"at most the input's 64x32.*head\.layout"):
            Fomo(output=0, layout="channels-first").check(specs((1, 4, 8, 100)), WH)

    def test_a_background_that_is_no_column_is_refused(self):
        with pytest.raises(CardError, match=r"head\.background: wanted one of 3 columns"):
            Fomo(output=0, background=3).check(specs((1, 4, 8, 3)), WH)


def walked(taken):
    """Boxes of the blobs of a map, by a walk over neighbours."""
    left, boxes = set(map(tuple, np.argwhere(taken).tolist())), []
    while left:
        waiting = [left.pop()]
        blob = list(waiting)
        while waiting:
            y, x = waiting.pop()
            near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= near
            waiting += near
            blob += near
        rows, columns = zip(*blob, strict=True)
        boxes.append((min(columns), min(rows), max(columns) + 1, max(rows) + 1))
    return boxes


class TestFastestDet:
    def test_the_centre_is_a_tanh_from_the_cell_and_the_size_a_share_of_the_input(self):
        table = np.zeros((1, 2, 4, 7), np.float32)
        table[0, 1, 2] = [0.81, math.atanh(0.5), math.atanh(-0.25), logit(0.25), logit(0.5), 0.2, 0.64]
        found = FastestDet(output=0).decode(outputs(table), WH, 0.3)

        class_id, score, box = only(found)
        assert (class_id, score) == (1, pytest.approx(0.81**0.6 * 0.64**0.4, abs=1e-6))
        assert box == near(40 - 8, 12 - 8, 40 + 8, 12 + 8)  # centre (2.5 / 4 * 64, 0.75 / 2 * 32), size (16, 16)

    def test_powers_of_one_multiply(self):
        table = np.zeros((1, 7, 2, 4), np.float32)
        table[0, :, 0, 0] = [0.5, 0, 0, 0, 0, 0.9, 0.1]
        head = FastestDet(output=0, layout="channels-first", objectness_power=1, class_power=1)

        assert only(head.decode(outputs(table), WH, 0.4))[1] == pytest.approx(0.45)
        assert len(head.decode(outputs(table), WH, 0.46)) == 0

    def test_a_cell_that_just_reaches_the_minimum_is_found(self):
        for objectness in np.linspace(0.05, 1, 40, dtype=np.float32):
            table = np.zeros((1, 2, 4, 6), np.float32)
            table[0, 0, 0] = [objectness, 0, 0, 0, 0, 1]
            exact = float((np.array([objectness]) ** np.float32(0.6))[0])  # an array's power rounds otherwise than a number's
            assert len(FastestDet(output=0).decode(outputs(table), WH, exact)) == 1

    def test_powers_that_leave_nothing_are_refused(self):
        with pytest.raises(CardError, match="powers over 0"):
            FastestDet(output=0, objectness_power=0).check(specs((1, 2, 4, 7)), WH)


class TestSplitOfQueries:
    """DETR: a softmax over the classes and a column for no object."""

    head = Split(boxes=0, scores=1, box_layout="rows", box_units="normalized", box_form="cxcywh", activation="softmax", background=2)

    def test_the_column_for_no_object_takes_its_share_and_never_wins(self):
        logits = [[[math.log(3), math.log(1), math.log(4)], [0, 0, 9]]]
        found = self.head.decode(outputs([[[0.5, 0.25, 0.5, 0.25]] * 2], logits), WH, 0.3)

        class_id, score, box = only(found)
        assert (class_id, score) == (0, pytest.approx(3 / 8))
        assert box == near(16, 4, 48, 12)

    def test_the_last_column_for_no_object_is_no_class_and_the_first_one_keeps_its_number(self):
        shapes = specs((1, 5, 4), (1, 5, 3))
        assert self.head.check(shapes, WH) == 2
        assert replace(self.head, background=0).check(shapes, WH) == 3

    def test_a_background_that_is_no_column_is_refused(self):
        with pytest.raises(CardError, match=r"head\.background: wanted one of 3 columns"):
            replace(self.head, background=3).check(specs((1, 5, 4), (1, 5, 3)), WH)

    def test_y_may_come_first(self):
        head = replace(self.head, box_form="cycxhw", background=0)
        found = head.decode(outputs([[[0.25, 0.5, 0.25, 0.5]]], [[[0, 5, 0]]]), WH, 0.3)

        assert only(found)[0] == 1
        assert only(found)[2] == near(16, 4, 48, 12)

    def test_only_what_gives_each_object_once_is_not_suppressed(self):
        assert self.head.suppress is True
        assert replace(self.head, suppressed=True).suppress is False
        rows = YoloRows(output=0, layout="rows", objectness=False, box_units="normalized")
        assert (rows.suppress, replace(rows, suppressed=True).suppress) == (True, False)


class TestJoined:
    first = YoloGrid(grids=(Grid(output=0, anchors=((16, 16),)),))
    second = YoloGrid(grids=(Grid(output=1, anchors=((16, 16),)),))
    head = Joined(parts=(first, second), first_ids=(0, 2))

    def test_the_classes_of_a_part_follow_those_of_the_part_before(self):
        nothing = np.full((1, 2, 4, 7), -9.0)
        one = nothing.copy()
        one[0, 0, 0] = [0, 0, 0, 0, 9, -9, 9]

        assert len(self.head.decode(outputs(nothing, nothing), WH, 0.3)) == 0
        assert only(self.head.decode(outputs(one, nothing), WH, 0.3))[0] == 1
        class_id, score, box = only(self.head.decode(outputs(nothing, one), WH, 0.3))
        assert class_id == 3
        assert (score, box) == only(self.first.decode(outputs(one), WH, 0.3))[1:]

    @pytest.mark.parametrize(
        ("changed", "said"),
        [
            ({"parts": (), "first_ids": ()}, "wanted one id for each of the 0 parts"),
            ({"first_ids": (0,)}, "wanted one id for each of the 2 parts, found 1"),
            ({"first_ids": (0, 5)}, r"first_ids\[1\]: wanted 2, as so many classes come before, found 5"),
            ({"parts": (first, Classify(output=1))}, r"parts\[1\]: wanted a head that finds objects, found 'classify'"),
            ({"parts": (first, SsdPostprocess(boxes=2, classes=3, scores=4, count=5))}, "does not tell how many classes it has"),
        ],
    )
    def test_parts_that_do_not_belong_together_are_refused(self, changed, said):
        shapes = [(1, 2, 4, 7), (1, 2, 4, 7), (1, 6, 4), (1, 6), (1, 6), (1,)]

        with pytest.raises(CardError, match=said):
            replace(self.head, **changed).check(specs(*shapes), WH)
