"""From an unknown .tflite to a card: small made-up models of each kind seen in the field, and the real ones of the test data."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from edgeannot.base.errors import CardError, InputError, ModelError
from edgeannot.card_inference import (
    RANGES,
    AmbiguousModelError,
    Hints,
    parse_anchors,
    parse_range,
    propose,
    read_cfg,
    read_labels,
)
from edgeannot.tflite.file import parse_tflite
from edgeannot.tflite.trace import makers, pieces
from edgeannot.vision.engine import installed_runtimes
from tests.card_inference.made import CELLS, SIZE, STRIDES, Propose, head_of, picked_apart, raw_numbers, rows_model, scores
from tests.made_networks import bins_joined_network
from tests.tflite_maker import Maker, cell_table, schema, with_files

# -- rows: YOLOv5 to v11, YOLOX ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("units", ["normalized", "pixels"])
@pytest.mark.parametrize("torch_order", [False, True])
def test_three_anchors_a_cell_read_as_v5_with_objectness(propose_raw: Propose, units: str, torch_order: bool) -> None:
    if torch_order:
        boxes = np.concatenate([np.tile(cell_table(SIZE, (stride,)), (3, 1)) for stride in STRIDES])
    else:
        boxes = cell_table(SIZE, STRIDES, 3)
    raw = rows_model(boxes / (SIZE if units == "normalized" else 1), scores(3 * CELLS, 3))
    proposal = propose_raw(raw, names=["cat", "dog"])
    card, head = proposal.card, head_of(proposal)

    assert head == {
        **head,
        "kind": "yolo-rows",
        "layout": "rows",
        "objectness": True,
        "box_units": units,
        "box_form": "cxcywh",
        "activation": "none",
    }
    assert (card.input.resize, card.input.color, card.input.mean, card.input.std) == ("letterbox", "RGB", (0.0,), (255.0,))
    assert (card.name, card.family, card.task) == ("my-model-1", "yolo", "detect")


@pytest.mark.parametrize("units", ["normalized", "pixels"])
@pytest.mark.parametrize("classes", [1, 3, 85])
def test_one_candidate_a_column_reads_as_v8_without_objectness(propose_raw: Propose, units: str, classes: int) -> None:
    boxes = cell_table(SIZE, STRIDES) / (SIZE if units == "normalized" else 1)
    head = head_of(propose_raw(rows_model(boxes, scores(CELLS, classes), columns=True)))

    assert (head["kind"], head["layout"], head["objectness"], head["box_units"]) == ("yolo-rows", "columns", False, units)


def test_an_nchw_input_is_read_from_its_shape(propose_raw: Propose) -> None:
    """LiteRT's own exporter keeps PyTorch's layout and gives pixels."""
    proposal = propose_raw(rows_model(cell_table(SIZE, STRIDES), scores(CELLS, 3), columns=True, shape=(1, 3, SIZE, SIZE)))
    card = proposal.card

    assert (card.input.layout, card.input.width, card.input.height) == ("NCHW", SIZE, SIZE)
    assert head_of(proposal)["box_units"] == "pixels"


def test_corners_instead_of_centres_are_noticed(propose_raw: Propose) -> None:
    boxes = cell_table(SIZE, STRIDES)
    corners = np.concatenate([boxes[:, :2] - 8, boxes[:, :2] + 8], axis=1)

    assert head_of(propose_raw(rows_model(corners, scores(CELLS, 3), columns=True)))["box_form"] == "xyxy"


def test_rows_with_one_anchor_are_ambiguous_until_the_labels_tell(propose_raw: Propose) -> None:
    """7 columns: 3 classes (a transposed v8), or objectness and 2 classes (YOLOX, decoded)."""
    raw = rows_model(cell_table(SIZE, STRIDES), scores(CELLS, 3))

    with pytest.raises(AmbiguousModelError, match=r"YOLOv8 kind.*YOLOX kind.*--labels") as caught:
        propose_raw(raw)
    assert any("--labels" in choice for choice in caught.value.choices)
    assert head_of(propose_raw(raw, names=["a", "b", "c"]))["objectness"] is False
    yolox = propose_raw(raw, names=["a", "b"])
    assert head_of(yolox)["objectness"] is True
    assert (yolox.card.input.resize, yolox.card.input.color, yolox.card.input.std) == ("letterbox-top-left", "BGR", (1.0,))


def test_the_flag_that_an_ambiguity_names_settles_it(propose_raw: Propose) -> None:
    raw = rows_model(cell_table(SIZE, STRIDES) / SIZE, scores(CELLS, 3))

    with pytest.raises(AmbiguousModelError, match=r"--set head\.objectness"):
        propose_raw(raw)
    assert head_of(propose_raw(raw, extra={"head.objectness": True}))["objectness"] is True
    assert head_of(propose_raw(raw, extra={"head.objectness": False}))["objectness"] is False


def test_one_number_after_the_box_is_a_score(propose_raw: Propose) -> None:
    assert head_of(propose_raw(rows_model(cell_table(SIZE, STRIDES) / SIZE, scores(CELLS, 1))))["objectness"] is False


def test_logits_get_their_sigmoid(propose_raw: Propose) -> None:
    logits = np.random.default_rng(1).uniform(-9, 3, (CELLS, 3)).astype(np.float32)

    assert head_of(propose_raw(rows_model(cell_table(SIZE, STRIDES), logits, columns=True)))["activation"] == "sigmoid"


def test_mask_numbers_of_a_segmenter_are_set_aside(propose_raw: Propose) -> None:
    maker = Maker()
    x = maker.input((1, SIZE, SIZE, 3))
    masks = np.random.default_rng(2).normal(0, 1, (CELLS, 32)).astype(np.float32)
    table = np.concatenate([cell_table(SIZE, STRIDES) / SIZE, scores(CELLS, 2), masks], axis=1)
    raw = maker.outputs(maker.stirred(x, table.T[None]), maker.stirred(x, np.zeros((1, SIZE // 4, SIZE // 4, 32)), name="protos"))
    proposal = propose_raw(raw, names=["a", "b"])

    assert (head_of(proposal)["extra_columns"], head_of(proposal)["objectness"], head_of(proposal)["activation"]) == (32, False, "none")


def test_keypoint_numbers_of_a_pose_model_are_set_aside_by_its_notes(propose_raw: Propose) -> None:
    table = np.concatenate([scores(CELLS, 1), 100 * scores(CELLS, 51)], axis=1)
    raw = rows_model(cell_table(SIZE, STRIDES) / SIZE, table, columns=True)
    notes = {"task": "pose", "kpt_shape": [17, 3], "names": {"0": "person"}, "stride": 32, "imgsz": [SIZE, SIZE]}
    proposal = propose_raw(with_files(raw, {"metadata.json": json.dumps(notes)}))

    assert (head_of(proposal)["extra_columns"], head_of(proposal)["objectness"]) == (51, False)
    assert proposal.card.label_names() == ("person",)


def test_boxes_in_pixels_that_share_an_int8_scale_with_scores_are_refused(propose_raw: Propose) -> None:
    raw = rows_model(cell_table(SIZE, STRIDES), scores(CELLS, 3), columns=True, dtype="int8")

    with pytest.raises(ModelError, match=r"steps|coarse"):
        propose_raw(raw)


def joined(maker: Maker, x: int, parts: Sequence[tuple[NDArray[np.float32], bool]], axis: int) -> int:
    """Columns joined by the graph itself, those marked behind a sigmoid."""
    made = [maker.stirred(x, values) for values, _ in parts]
    return maker.concat([maker.logistic(y) if sigmoid else y for y, (_, sigmoid) in zip(made, parts, strict=True)], axis)


def test_numbers_that_do_not_follow_their_cells_read_as_yolox_before_decoding(propose_raw: Propose) -> None:
    maker = Maker()
    x = maker.input((1, 3, SIZE, SIZE))
    y = joined(maker, x, [(raw_numbers(1, CELLS, 4), False), (raw_numbers(1, CELLS, 1), True), (raw_numbers(1, CELLS, 3), True)], 2)
    proposal = propose_raw(maker.outputs(y))

    assert (proposal.card.head.kind, head_of(proposal)["strides"], head_of(proposal)["activation"]) == ("yolox", STRIDES, "none")
    assert (proposal.card.input.color, proposal.card.input.resize, proposal.card.input.layout) == ("BGR", "letterbox-top-left", "NCHW")
    assert any("--color" in assumption for assumption in proposal.assumptions)


@pytest.mark.parametrize(("color", "mean"), [("BGR", (103.53, 116.28, 123.675)), ("RGB", (123.675, 116.28, 103.53))])
def test_numbers_for_each_colour_stand_in_the_order_of_the_colours(
    propose_raw: Propose, color: Literal["RGB", "BGR"], mean: tuple[float, ...]
) -> None:
    card = propose_raw(bins_joined_network(8, 3).to_bytes(), names="abc", color=color).card

    assert (card.input.color, card.input.mean) == (color, mean)


def test_scores_joined_with_distance_bins_read_as_nanodet_plus(propose_raw: Propose) -> None:
    strides, cells = (8, 16, 32, 64), CELLS + 4
    maker = Maker()
    x = maker.input((1, SIZE, SIZE, 3))
    y = joined(maker, x, [(raw_numbers(1, cells, 5), True), (raw_numbers(1, cells, 32), False)], 2)
    head = head_of(propose_raw(maker.outputs(y)))

    assert (head["kind"], head["joined"], head["bins"], head["strides"], head["activation"]) == ("dfl", "scores-first", 8, strides, "none")
    assert head["center"] == 0.0


@pytest.mark.parametrize(("bins", "classes", "family"), [(8, 5, "nanodet"), (11, 80, "nanodet"), (16, 5, "yolo"), (17, 5, "yolo")])
def test_a_nanodet_has_its_own_family(propose_raw: Propose, bins: int, classes: int, family: str) -> None:
    """By which the choice orders models without measurements; v8 and DAMO-YOLO have bins as well, and are YOLOs."""
    maker = Maker()
    x = maker.input((1, SIZE, SIZE, 3))
    together = maker.outputs(joined(maker, x, [(raw_numbers(1, CELLS, classes), True), (raw_numbers(1, CELLS, 4 * bins), False)], 2))

    for raw in (together, bins_model(bins, classes, sigmoid=True)):
        assert propose_raw(raw).card.family == family


def test_three_strides_joined_with_bins_read_as_the_first_nanodet(propose_raw: Propose) -> None:
    """NanoDet-Plus has a fourth stride and its points at the cells' corners; the first NanoDet has them in the middle."""
    maker = Maker()
    x = maker.input((1, SIZE, SIZE, 3))
    proposal = propose_raw(maker.outputs(joined(maker, x, [(raw_numbers(1, CELLS, 5), True), (raw_numbers(1, CELLS, 32), False)], 2)))

    assert (head_of(proposal)["joined"], head_of(proposal)["center"]) == ("scores-first", 0.5)


def test_a_column_of_ones_is_yolov6s_objectness_and_not_yoloxs(propose_raw: Propose) -> None:
    others = np.concatenate([np.ones((CELLS, 1)), scores(CELLS, 2)], axis=1)
    proposal = propose_raw(rows_model(cell_table(SIZE, STRIDES), others), names=["a", "b"])

    assert head_of(proposal)["objectness"] is True
    assert (proposal.card.input.resize, proposal.card.input.color, proposal.card.input.std) == ("letterbox", "RGB", (255.0,))


def test_keypoints_of_a_body_are_known_by_their_number_when_the_labels_say_so(propose_raw: Propose) -> None:
    raw = rows_model(cell_table(SIZE, STRIDES) / SIZE, np.concatenate([scores(CELLS, 1), scores(CELLS, 51)], axis=1), columns=True)

    assert head_of(propose_raw(raw, names=["person"]))["extra_columns"] == 51
    assert head_of(propose_raw(raw))["extra_columns"] == 0


def test_twelve_boxes_three_objectness_and_a_softmax_read_as_yolo_fastestv2(propose_raw: Propose) -> None:
    cells = 36 + 9
    maker = Maker()
    x = maker.input((1, SIZE, SIZE, 3))
    y = joined(maker, x, [(raw_numbers(1, cells, 12), True), (raw_numbers(1, cells, 3), True)], 2)
    raw = maker.outputs(maker.concat([y, maker.softmax(maker.stirred(x, raw_numbers(1, cells, 4)))]))
    with pytest.raises(AmbiguousModelError, match="--anchors yolo-fastestv2"):
        propose_raw(raw)
    head = head_of(propose_raw(raw, anchors=parse_anchors("yolo-fastestv2")))

    assert (head["kind"], head["strides"], head["activation"], head["class_activation"]) == ("yolo-fastestv2", (16, 32), "none", "none")
    assert head["anchors"][1][2] == (279.92, 258.87)


# -- end to end ----------------------------------------------------------------------------------------------------------------


def end_to_end_table(units: str) -> NDArray[np.float32]:
    rng = np.random.default_rng(4)
    corner = rng.uniform(0, 0.5, (300, 2))
    table = np.concatenate(
        [
            corner,
            corner + rng.uniform(0.1, 0.5, (300, 2)),
            np.sort(rng.uniform(0, 0.4, (300, 1)), axis=0)[::-1],
            rng.integers(0, 7, (300, 1)),
        ],
        axis=1,
    )
    table[:, :4] *= SIZE if units == "pixels" else 1
    return table.astype(np.float32)[None]


@pytest.mark.parametrize("units", ["normalized", "pixels"])
@pytest.mark.parametrize("shape", [(1, SIZE, SIZE, 3), (1, 3, SIZE, SIZE)])
def test_rows_of_corners_score_and_class_read_as_end_to_end(propose_raw: Propose, units: str, shape: tuple[int, ...]) -> None:
    maker = Maker()
    x = maker.input(shape)
    table = end_to_end_table(units)
    y = maker.concat([maker.stirred(x, table[..., :5], 1e-5), maker.constant(table[..., 5:])])
    head = head_of(propose_raw(maker.outputs(y)))

    assert (head["kind"], head["box_units"], head["extra_columns"]) == ("end-to-end", units, 0)


def test_end_to_end_rows_without_the_axis_of_a_batch_are_read(propose_raw: Propose) -> None:
    maker = Maker()
    x = maker.input((1, SIZE, SIZE, 3))
    table = end_to_end_table("pixels")[0]
    proposal = propose_raw(maker.outputs(maker.concat([maker.stirred(x, table[:, :5], 1e-5), maker.constant(table[:, 5:])])))

    assert head_of(proposal)["kind"] == "end-to-end"
    assert any("head.box_form" in assumption for assumption in proposal.assumptions)


def test_end_to_end_rows_of_centre_and_size_are_not_taken_for_corners(propose_raw: Propose) -> None:
    maker = Maker()
    x = maker.input((1, SIZE, SIZE, 3))
    table = end_to_end_table("normalized")
    table[..., :4] = np.concatenate([(table[..., :2] + table[..., 2:4]) / 2, table[..., 2:4] - table[..., :2]], axis=2)
    y = maker.concat([maker.stirred(x, table[..., :5], 1e-5), maker.constant(table[..., 5:])])

    assert head_of(propose_raw(maker.outputs(y)))["box_form"] == "cxcywh"


def test_rows_that_are_no_boxes_are_not_taken_for_end_to_end(propose_raw: Propose) -> None:
    maker = Maker()
    x = maker.input((1, SIZE, SIZE, 3))
    table = end_to_end_table("normalized")
    table[..., 2:4] = -table[..., 2:4]
    y = maker.concat([maker.stirred(x, table[..., :5], 1e-5), maker.constant(table[..., 5:])])

    with pytest.raises(ModelError):
        propose_raw(maker.outputs(y))


def test_a_best_score_and_its_class_id_at_each_cell_still_need_suppression(propose_raw: Propose) -> None:
    """The graph has picked the class: the last column counts classes and is no score."""
    boxes = cell_table(SIZE, STRIDES)
    corners = np.concatenate([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2, scores(CELLS, 1)], axis=1)
    maker = Maker()
    x = maker.input((1, SIZE, SIZE, 3))
    ids = maker.constant((np.arange(CELLS) % 5)[None, :, None])
    proposal = propose_raw(maker.outputs(maker.concat([maker.stirred(x, corners[None]), ids])), names=list("abcde"))

    assert head_of(proposal) == {**head_of(proposal), "kind": "end-to-end", "box_units": "pixels", "box_form": "xyxy", "suppressed": False}
    assert proposal.card.input.resize == "letterbox"


def test_end_to_end_columns_that_share_a_coarse_step_are_refused(propose_raw: Propose) -> None:
    """Class ids to 79 and boxes in 0..1 in one int8 tensor: a step is a third of the picture."""
    maker = Maker()
    x = maker.input((1, SIZE, SIZE, 3))
    table = end_to_end_table("normalized")
    table[..., 5] = np.round(table[..., 5] * 11)
    y = maker.concat([maker.stirred(x, table[..., :5], 1e-5), maker.constant(table[..., 5:])])

    with pytest.raises(ModelError, match=r"steps of 31"):
        propose_raw(maker.outputs(maker.quantized(y, "int8", 0.31, -128)))


@pytest.mark.parametrize(("shape", "units"), [((1, SIZE, SIZE, 3), "normalized"), ((1, 3, SIZE, SIZE), "pixels")])
def test_an_end_to_end_model_that_finds_nothing_goes_by_its_exporter(propose_raw: Propose, shape: tuple[int, ...], units: str) -> None:
    """With suppression in the graph all rows are zero where nothing is found."""
    maker = Maker()
    x = maker.input(shape)
    y = maker.concat([maker.stirred(x, np.zeros((1, 300, 4)), 0.0), maker.constant(np.zeros((1, 300, 2)))])
    raw = maker.outputs(y)
    notes = {"task": "detect", "names": ["a"], "args": {"nms": True}}

    assert head_of(propose_raw(with_files(raw, {"metadata.json": json.dumps(notes)})))["box_units"] == units
    with pytest.raises(AmbiguousModelError, match="--box-units"):
        propose_raw(raw)


# -- grids -----------------------------------------------------------------------------------------------------------------


def maps_model(shapes: Sequence[Sequence[int]], *, activation: str = "", sigmoid: bool = False, size: int = SIZE) -> bytes:
    maker = Maker()
    x = maker.input((1, size, size, 3))
    for _ in range(4 if activation else 0):
        x = maker.op(activation, [x], (1, size, size, 3), options=schema.LeakyReluOptionsT() if activation == "LEAKY_RELU" else None)
    outputs = [maker.stirred(x, 3 * raw_numbers(*shape), name=f"map{i}") for i, shape in enumerate(shapes)]
    return maker.outputs(*(maker.logistic(y) for y in outputs) if sigmoid else outputs)


ANCHORS = "1,2 3,4 5,6 10,12 14,16 18,20"


@pytest.mark.parametrize(
    ("shapes", "layout"),
    [
        ([(1, 3, 3, 21), (1, 6, 6, 21)], "NHWC"),
        ([(1, 6, 6, 21), (1, 3, 3, 21)], "NHWC"),
        ([(1, 21, 3, 3), (1, 21, 6, 6)], "NCHW"),
        ([(1, 3, 3, 3, 7), (1, 6, 6, 3, 7)], "NHWC"),
        ([(1, 3, 6, 6, 7), (1, 3, 3, 3, 7)], "NAHWC"),
    ],
)
def test_grids_take_large_anchors_on_the_coarse_map_in_every_layout(
    propose_raw: Propose, shapes: list[tuple[int, ...]], layout: str
) -> None:
    head = head_of(propose_raw(maps_model(shapes), anchors=parse_anchors(ANCHORS), names=["a", "b"]))
    coarse = next(i for i, shape in enumerate(shapes) if 6 not in shape)
    by_output = {grid["output"]: grid["anchors"] for grid in head["grids"]}

    assert (head["kind"], head["layout"], head["size"], head["activation"]) == ("yolo-grid", layout, "exp", "sigmoid")
    assert by_output[f"map{coarse}"] == ((10.0, 12.0), (14.0, 16.0), (18.0, 20.0))


def test_grids_without_anchors_are_ambiguous_and_name_the_flags(propose_raw: Propose) -> None:
    with pytest.raises(AmbiguousModelError, match=r"does not hold the anchors.*--anchors.*--cfg.*yolov3-tiny"):
        propose_raw(maps_model([(1, 3, 3, 21), (1, 6, 6, 21)]), names=["a", "b"])


def test_a_wrong_number_of_anchors_is_refused_with_what_would_fit(propose_raw: Propose) -> None:
    with pytest.raises(InputError, match=r"6 \(2 classes\)"):
        propose_raw(maps_model([(1, 3, 3, 21), (1, 6, 6, 21)]), anchors=parse_anchors("1,2 3,4 5,6"))


def test_the_number_of_labels_tells_how_many_anchors_a_cell_has(propose_raw: Propose) -> None:
    """42 channels: 3 x (5 + 9), 2 x (5 + 16), 6 x (5 + 2)."""
    raw = maps_model([(1, 3, 3, 42), (1, 6, 6, 42)])
    with pytest.raises(AmbiguousModelError, match="6 anchors a cell and 2 classes"):
        propose_raw(raw, names=["a", "b"])
    with pytest.raises(AmbiguousModelError, match="3 anchors a cell and 9 classes"):
        propose_raw(raw)


def test_a_network_of_silu_reads_as_v5_before_its_decoder(propose_raw: Propose) -> None:
    shapes = [(1, 12, 12, 21), (1, 6, 6, 21), (1, 3, 3, 21)]
    anchors = parse_anchors("yolov5")

    assert head_of(propose_raw(maps_model(shapes, activation="LEAKY_RELU"), anchors=parse_anchors("yolov3")))["size"] == "exp"
    v5 = head_of(propose_raw(maps_model(shapes, activation="LEAKY_RELU"), anchors=anchors))
    assert (v5["size"], v5["xy_scale"]) == ("square", 2.0)
    unnamed = parse_anchors(" ".join(f"{w},{h}" for w, h in anchors.pairs))
    assert head_of(propose_raw(maps_model(shapes, activation="LOGISTIC"), anchors=unnamed))["size"] == "square"


def test_a_cfg_gives_anchors_masks_and_scales(propose_raw: Propose, tmp_path: Path) -> None:
    cfg = tmp_path / "net.cfg"
    cfg.write_text(
        "[net]\nwidth=96\n[convolutional]\nfilters=21\n"
        "[yolo]\nmask = 3,4,5\nanchors = 1,2, 3,4, 5,6, 10,12, 14,16, 18,20\nclasses=2\nscale_x_y = 1.05\n"
        "[route]\nlayers=-4\n[yolo]\nmask = 1,2,3 # as trained\nanchors = 1,2, 3,4, 5,6, 10,12, 14,16, 18,20\nclasses=2\nscale_x_y=1.1\n"
    )
    head = head_of(propose_raw(maps_model([(1, 3, 3, 21), (1, 6, 6, 21)]), cfg=read_cfg(cfg)))

    grids = {grid["output"]: (grid["anchors"], grid["xy_scale"]) for grid in head["grids"]}
    assert grids["map1"] == (((3.0, 4.0), (5.0, 6.0), (10.0, 12.0)), 1.1)
    assert grids["map0"] == (((10.0, 12.0), (14.0, 16.0), (18.0, 20.0)), 1.05)


def test_one_coarse_map_with_five_anchors_reads_as_v2(propose_raw: Propose) -> None:
    head = head_of(propose_raw(maps_model([(1, 3, 3, 125)]), anchors=parse_anchors("yolov2-voc")))

    assert (head["anchor_units"], head["class_activation"], len(head["grids"][0]["anchors"])) == ("cells", "softmax", 5)


# -- one map -----------------------------------------------------------------------------------------------------------------


def centre_map(maker: Maker, x: int, cells: int = 12, columns: int = 3, lean: float = 6.0) -> int:
    """Numbers of a softmax, (1, cells, cells, columns), that lean towards column 0, the background."""
    numbers = raw_numbers(1, cells, cells, columns)
    numbers[..., 0] += lean
    return maker.stirred(x, numbers)


def fomo_model(cells: int = 12, columns: int = 3, lean: float = 6.0, *, chw: bool = False) -> bytes:
    maker = Maker()
    x = maker.input((1, SIZE, SIZE, 3))
    y = maker.softmax(centre_map(maker, x, cells, columns, lean), name="map")
    if chw:
        y = maker.op("TRANSPOSE", [y, maker.constant([0, 3, 1, 2], "int32")], (1, columns, cells, cells), tensor_name="map")
    return maker.outputs(y)


@pytest.mark.parametrize("chw", [False, True])
def test_shares_of_classes_at_each_cell_read_as_fomo(propose_raw: Propose, chw: bool) -> None:
    proposal = propose_raw(fomo_model(chw=chw), names=["nut", "bolt"])
    card, head = proposal.card, head_of(proposal)

    layout = "channels-first" if chw else "channels-last"
    assert head == {"kind": "fomo", "output": "map", "layout": layout, "background": 0, "activation": "none"}
    assert card.label_names() == ("background", "nut", "bolt")
    assert (card.input.resize, card.input.color, card.input.std, card.defaults.min_score) == ("stretch", "RGB", (255.0,), 0.5)
    assert any("--min-score" in assumption for assumption in proposal.assumptions)
    assert any("--resize" in assumption for assumption in proposal.assumptions)


def test_fomos_assumptions_go_when_the_user_has_said_them(propose_raw: Propose) -> None:
    proposal = propose_raw(fomo_model(), min_score=0.4, resize="letterbox", input_range=RANGES["0..1"])

    assert proposal.assumptions == ()
    assert (proposal.card.defaults.min_score, proposal.card.input.resize) == (0.4, "letterbox")


def test_fomos_labels_may_begin_with_the_background(propose_raw: Propose) -> None:
    assert propose_raw(fomo_model(), names=["background", "nut", "bolt"]).card.label_names() == ("background", "nut", "bolt")
    assert propose_raw(fomo_model()).card.label_names() == ("background", "1", "2")
    with pytest.raises(CardError, match=r"3 columns.*wanted 2 names, found 3 lines, the first is 'nut'"):
        propose_raw(fomo_model(), names=["nut", "bolt", "screw"])


def test_fomos_logits_are_read_when_asked_for(propose_raw: Propose) -> None:
    maker = Maker()
    raw = maker.outputs(centre_map(maker, maker.input((1, SIZE, SIZE, 3))))
    with pytest.raises(ModelError, match="maps that fit no known detector"):
        propose_raw(raw)

    assert (head_of(propose_raw(raw, head="fomo"))["activation"], head_of(propose_raw(raw, head="fomo"))["background"]) == ("softmax", 0)


def test_a_map_that_is_objects_all_over_is_hardly_fomos(propose_raw: Propose) -> None:
    with pytest.raises(AmbiguousModelError, match=r"9\d% of the cells.*segmentation.*--head fomo"):
        propose_raw(fomo_model(lean=-3.0))
    assert head_of(propose_raw(fomo_model(lean=-3.0), head="fomo"))["kind"] == "fomo"


@pytest.mark.parametrize("head", [None, "fomo"])
def test_a_map_without_a_class_is_refused(propose_raw: Propose, head: str | None) -> None:
    maker = Maker()
    raw = maker.outputs(maker.stirred(maker.input((1, SIZE, SIZE, 3)), np.zeros((1, 12, 12, 0), np.float32)))

    with pytest.raises(ModelError, match="without any number"):
        propose_raw(raw, head=head)


@pytest.mark.parametrize(
    "shapes", [[(1, 0)], [(0, 6)], [(1, 0, 1)], [(1, 0, 6)], [(1, 0, 85)], [(1, 0, 4), (1, 0, 3)], [(1, 0, 4), (1, 0), (1, 0)]]
)
def test_outputs_without_a_row_are_refused(propose_raw: Propose, shapes: list[tuple[int, ...]]) -> None:
    """Suppression in the graph leaves such outputs where it finds nothing."""
    maker = Maker()
    x = maker.input((1, SIZE, SIZE, 3))
    raw = maker.outputs(*(maker.stirred(x, np.zeros(shape, np.float32)) for shape in shapes))

    with pytest.raises(ModelError, match="without any number; export it again with a fixed number of results"):
        propose_raw(raw)


def test_a_fine_map_of_classes_is_a_segmentation(propose_raw: Propose) -> None:
    with pytest.raises(ModelError, match="segmentation"):
        propose_raw(fomo_model(cells=24))


def test_one_cell_of_classes_is_a_classifier(propose_raw: Propose) -> None:
    """Also where the input is so small that one cell is a stride's whole map."""
    maker = Maker()
    x = maker.input((1, 64, 64, 3))

    assert head_of(propose_raw(maker.outputs(maker.softmax(centre_map(maker, x, 1, 5)))))["kind"] == "classify"


def fastestdet_parts(maker: Maker, x: int, cells: int = 6, classes: int = 3) -> list[int]:
    sizes = [maker.stirred(x, raw_numbers(1, cells, cells, n), name=f"part{n}") for n in (1, 4, classes)]
    return [maker.logistic(sizes[0]), sizes[1], maker.softmax(sizes[2])]


@pytest.mark.parametrize("chw", [False, True])
@pytest.mark.parametrize("classes", [1, 3, 25])
def test_objectness_box_and_shares_of_classes_on_one_map_read_as_fastestdet(propose_raw: Propose, classes: int, chw: bool) -> None:
    """30 channels are 5 x (5 + 1) as well, and 6 may be the map's side: what the graph joins decides."""
    maker = Maker()
    x = maker.input((1, SIZE, SIZE, 3))
    y = maker.concat(fastestdet_parts(maker, x, classes=classes), name="map")
    if chw:
        y = maker.op("TRANSPOSE", [y, maker.constant([0, 3, 1, 2], "int32")], (1, 5 + classes, 6, 6), tensor_name="map")
    proposal = propose_raw(maker.outputs(y), names=[f"class{i}" for i in range(classes)])
    card, head = proposal.card, head_of(proposal)

    layout = "channels-first" if chw else "channels-last"
    assert head == {**head, "kind": "fastestdet", "stride": 16, "layout": layout, "activation": "none", "class_activation": "none"}
    assert (card.input.resize, card.input.color, card.input.std) == ("stretch", "BGR", (255.0,))
    assert any("--set head.objectness_power=1" in assumption for assumption in proposal.assumptions)


def test_fastestdet_is_known_by_its_numbers_where_the_graph_does_not_show_the_parts(propose_raw: Propose) -> None:
    table = raw_numbers(1, 6, 6, 8)
    table[..., 0] = 0.3
    table[..., 5:] = [0.2, 0.3, 0.5]
    maker = Maker()
    head = head_of(propose_raw(maker.outputs(maker.stirred(maker.input((1, SIZE, SIZE, 3)), table, 1e-5))))

    assert (head["kind"], head["activation"], head["class_activation"]) == ("fastestdet", "none", "none")


def test_fastestdet_before_its_activations_is_read_when_asked_for(propose_raw: Propose) -> None:
    maker = Maker()
    raw = maker.outputs(maker.stirred(maker.input((1, SIZE, SIZE, 3)), 9 * raw_numbers(1, 6, 6, 85)))
    with pytest.raises(AmbiguousModelError, match="--anchors"):
        propose_raw(raw)
    head = head_of(propose_raw(raw, head="fastestdet"))

    assert (head["kind"], head["activation"], head["class_activation"]) == ("fastestdet", "sigmoid", "softmax")


# -- distances ---------------------------------------------------------------------------------------------------------------


def test_box_bins_and_scores_in_outputs_of_their_own_read_as_dfl(propose_raw: Propose) -> None:
    """Any order of outputs; a third output a stride with the scores' sum, as Rockchip's exporter adds it."""
    maker = Maker()
    x = maker.input((1, SIZE, SIZE, 3))
    outputs = []
    for stride in (32, 8, 16):
        n = SIZE // stride
        outputs += [
            maker.logistic(maker.stirred(x, raw_numbers(1, n, n, 5)), f"cls{stride}"),
            maker.stirred(x, raw_numbers(1, n, n, 64), name=f"box{stride}"),
            maker.stirred(x, np.full((1, n, n, 1), 0.5), name=f"sum{stride}"),
        ]
    head = head_of(propose_raw(maker.outputs(*outputs)))

    assert (head["kind"], head["bins"], head["strides"], head["activation"]) == ("dfl", 16, STRIDES, "none")
    assert head["boxes"] == ("box8", "box16", "box32")
    assert head["scores"] == ("cls8", "cls16", "cls32")
    assert head["score_sums"] == ("sum8", "sum16", "sum32")


@pytest.mark.parametrize("joined_in_graph", [True, False])
def test_maps_that_join_box_objectness_and_scores_read_as_yolox(propose_raw: Propose, joined_in_graph: bool) -> None:
    """By how the graph joins the columns, or by the labels; not as a grid of one anchor a cell."""
    maker = Maker()
    x = maker.input((1, SIZE, SIZE, 3))
    outputs = []
    for cells in (12, 6, 3):
        if joined_in_graph:
            parts = [(raw_numbers(1, cells, cells, width), width != 4) for width in (4, 1, 3)]
            outputs.append(joined(maker, x, parts, 3))
        else:
            outputs.append(maker.stirred(x, raw_numbers(1, cells, cells, 8)))
    head = head_of(propose_raw(maker.outputs(*outputs), names=["a", "b", "c"]))

    assert (head["kind"], head["strides"]) == ("yolox", STRIDES)


def test_maps_that_join_bins_and_scores_read_as_dfl(propose_raw: Propose) -> None:
    maker = Maker()
    x = maker.input((1, SIZE, SIZE, 3))
    outputs = [
        joined(maker, x, [(raw_numbers(1, SIZE // s, SIZE // s, 64), False), (raw_numbers(1, SIZE // s, SIZE // s, 4), False)], 3)
        for s in STRIDES
    ]
    head = head_of(propose_raw(maker.outputs(*outputs)))

    assert (head["kind"], head["joined"], head["bins"], head["activation"]) == ("dfl", "boxes-first", 16, "sigmoid")
    assert head["boxes"] == (0, 1, 2)  # the names repeat, so positions say which


def bins_model(bins: int, classes: int, *, sigmoid: bool = False, strides: Sequence[int] = STRIDES, names: str = "") -> bytes:
    """A box map and a score map a stride, the scores first."""
    maker = Maker()
    x = maker.input((1, SIZE, SIZE, 3))
    outputs = []
    for stride in strides:
        n = SIZE // stride
        scores = maker.stirred(x, raw_numbers(1, n, n, classes), name=f"{names and 'cls'}{stride}a")
        boxes = maker.stirred(x, raw_numbers(1, n, n, 4 * bins), name=f"{names and 'reg'}{stride}b")
        outputs += [maker.logistic(scores, f"{stride}a") if sigmoid else scores, boxes]
    return maker.outputs(*outputs)


@pytest.mark.parametrize(("bins", "classes"), [(11, 80), (17, 80), (7, 80), (16, 20), (13, 5), (8, 1), (33, 2)])
def test_any_number_of_bins_is_read_beside_scores_behind_a_sigmoid(propose_raw: Propose, bins: int, classes: int) -> None:
    """Also where both could be bins by their number: distances do not come out of a sigmoid."""
    head = head_of(propose_raw(bins_model(bins, classes, sigmoid=True)))

    assert (head["kind"], head["bins"], head["boxes"], head["activation"]) == ("dfl", bins, ("8b", "16b", "32b"), "none")


def test_labels_tell_bins_from_classes(propose_raw: Propose) -> None:
    """48 and 80 channels: 12 bins and 80 classes, or 20 bins and 48 classes."""
    raw = bins_model(12, 80)
    with pytest.raises(AmbiguousModelError, match=r"12 bins and 80 classes, or 20 bins and 48 classes.*--labels.*--set head\.bins=12"):
        propose_raw(raw)

    assert head_of(propose_raw(raw, names=[str(i) for i in range(80)]))["bins"] == 12
    assert head_of(propose_raw(raw, names=[str(i) for i in range(48)]))["bins"] == 20
    assert head_of(propose_raw(raw, extra={"head.bins": 20}))["bins"] == 20
    assert head_of(propose_raw(bins_model(12, 80, names="yes")))["bins"] == 12


def test_a_number_of_bins_that_does_not_fit_is_refused(propose_raw: Propose) -> None:
    with pytest.raises(InputError, match=r"head\.bins=9: possible are 12 \(80 classes\), 20 \(48 classes\)"):
        propose_raw(bins_model(12, 80), extra={"head.bins": 9})


def test_the_published_number_of_bins_wins_without_labels(propose_raw: Propose) -> None:
    """44 channels and 80, both raw: NanoDet-g's 11 bins, rather than 20 of no known model."""
    proposal = propose_raw(bins_model(11, 80))

    assert (head_of(proposal)["bins"], head_of(proposal)["center"], head_of(proposal)["activation"]) == (11, 0.5, "sigmoid")
    assert (proposal.card.input.color, proposal.card.input.resize) == ("BGR", "stretch")


def test_seventeen_bins_read_as_damo_yolo_and_say_so(propose_raw: Propose) -> None:
    proposal = propose_raw(bins_model(17, 80, sigmoid=True))

    assert (head_of(proposal)["center"], proposal.card.input.std, proposal.card.input.color) == (0.0, (1.0,), "RGB")
    assert any("--set head.center=0.5" in assumption for assumption in proposal.assumptions)


@pytest.mark.parametrize("first", ["boxes", "scores"])
@pytest.mark.parametrize(("bins", "classes"), [(11, 80), (17, 3), (10, 80)])
def test_bins_that_the_graph_joins_with_scores_are_counted_there(propose_raw: Propose, bins: int, classes: int, first: str) -> None:
    maker = Maker()
    x = maker.input((1, SIZE, SIZE, 3))
    parts = [(raw_numbers(1, CELLS, 4 * bins), False), (raw_numbers(1, CELLS, classes), True)]
    head = head_of(propose_raw(maker.outputs(joined(maker, x, parts if first == "boxes" else parts[::-1], 2))))

    assert (head["kind"], head["bins"], head["joined"], head["activation"]) == ("dfl", bins, f"{first}-first", "none")


@pytest.mark.parametrize("first", ["boxes", "scores"])
@pytest.mark.parametrize("maps", [False, True])
def test_bins_in_one_piece_with_scores_are_counted_by_the_labels(propose_raw: Propose, maps: bool, first: str) -> None:
    """Which part comes first is seen where the scores went through a sigmoid."""
    rng = np.random.default_rng(3)
    maker = Maker()
    x = maker.input((1, SIZE, SIZE, 3))
    outputs = []
    for shape in [(1, n, n) for n in (12, 6, 3)] if maps else [(1, CELLS)]:
        parts = [rng.normal(0, 3, (*shape, 44)), rng.uniform(0.01, 0.4, (*shape, 7))]
        outputs.append(maker.stirred(x, np.concatenate(parts if first == "boxes" else parts[::-1], axis=-1)))
    head = head_of(propose_raw(maker.outputs(*outputs), names=list("abcdefg")))

    assert (head["kind"], head["bins"], head["joined"], head["activation"]) == ("dfl", 11, f"{first}-first", "none")


def test_boxes_of_several_anchors_are_no_bins(propose_raw: Propose) -> None:
    """An SSD's layers: 6 anchors with 4 numbers each beside 6 with 5 classes each. The user may know better."""
    with pytest.raises(ModelError):
        propose_raw(bins_model(6, 30, sigmoid=True))
    assert head_of(propose_raw(bins_model(6, 30, sigmoid=True), extra={"head.bins": 6}))["bins"] == 6


def test_mask_numbers_are_not_counted_as_bins(propose_raw: Propose) -> None:
    """A YOLOv8-seg cut before its decoding: 64 + 4 + 32 columns would be 24 bins."""
    maker = Maker()
    x = maker.input((1, SIZE, SIZE, 3))
    raw = maker.outputs(maker.stirred(x, raw_numbers(1, CELLS, 100)), maker.stirred(x, np.zeros((1, SIZE // 4, SIZE // 4, 32))))

    with pytest.raises(ModelError):
        propose_raw(raw, names=list("abcd"))


# -- SSD -------------------------------------------------------------------------------------------------------------------


def postprocess_model(
    order: Sequence[int], names: Sequence[str], *, columns: int = 4, classes: int = 3, size: int = 64, dtype: str = "uint8"
) -> bytes:
    """The operator over 30 anchors; `order` lists the operator's outputs as the graph lists them."""
    maker = Maker()
    x = maker.input((1, size, size, 3), dtype, 1 / 128 if dtype == "uint8" else 0.0, 128 if dtype == "uint8" else 0)
    rng = np.random.default_rng(9)
    anchors = np.concatenate([rng.uniform(0.2, 0.8, (30, 2)), rng.uniform(0.1, 0.3, (30, 2))], axis=1)
    boxes = maker.stirred(x, rng.normal(0, 1, (1, 30, 4)))
    predictions = maker.logistic(maker.stirred(x, rng.normal(-1, 2, (1, 30, columns))))
    options = {
        "max_detections": 10, "max_classes_per_detection": 1, "nms_score_threshold": 1e-8, "nms_iou_threshold": 0.6, "num_classes": classes,
        "y_scale": 10.0, "x_scale": 10.0, "h_scale": 5.0, "w_scale": 5.0, "use_regular_nms": False,
    }  # fmt: skip
    made = maker.custom(
        "TFLite_Detection_PostProcess", [boxes, predictions, maker.constant(anchors, name="anchors")], [(), (), (), ()], options, names
    )
    return maker.outputs(*(made[i] for i in order))


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (2, 0, 3, 1), (1, 3, 0, 2)])
def test_the_postprocess_operators_own_list_says_which_output_is_which(propose_raw: Propose, order: tuple[int, ...]) -> None:
    """Names may say anything: here they are those of TF2, whose numbers count the other way."""
    names = ["StatefulPartitionedCall:3", "StatefulPartitionedCall:2", "StatefulPartitionedCall:1", "StatefulPartitionedCall:0"]
    head = head_of(propose_raw(postprocess_model(order, names), names=["a", "b", "c"]))

    assert [head[role] for role in ("boxes", "classes", "scores", "count")] == names


@pytest.mark.parametrize(
    ("lines", "offset"),
    [(["a", "b", "c"], 0), (["???", "a", "b", "c"], 1), (["background", "a", "b", "c"], 1), (["0 a", "1 b", "2 c"], 0)],
)
def test_labels_with_and_without_a_first_line_for_nothing_fit_the_operators_classes(
    propose_raw: Propose, lines: list[str], offset: int
) -> None:
    card = propose_raw(postprocess_model((0, 1, 2, 3), ["b", "c", "s", "n"]), names=lines).card

    assert card.labels.offset == offset
    assert card.label_names()[offset:] == ("a", "b", "c")


@pytest.mark.parametrize("lines", [["a", "b"], ["a", "b", "c", "d"], ["???", "a", "b"]])
def test_labels_of_another_model_are_refused_with_both_counts(propose_raw: Propose, lines: list[str]) -> None:
    with pytest.raises(CardError, match=rf"3 classes.*{len(lines)} lines"):
        propose_raw(postprocess_model((0, 1, 2, 3), ["b", "c", "s", "n"]), names=lines)


def test_a_label_offset_that_is_given_counts(propose_raw: Propose) -> None:
    raw = postprocess_model((0, 1, 2, 3), ["b", "c", "s", "n"])

    assert propose_raw(raw, names=["x", "a", "b", "c"], label_offset=1).card.labels.offset == 1
    with pytest.raises(CardError, match="label-offset 2"):
        propose_raw(raw, names=["x", "a", "b", "c"], label_offset=2)


def test_float_ssd_input_is_assumed_minus_one_to_one_and_said_so(propose_raw: Propose) -> None:
    proposal = propose_raw(postprocess_model((0, 1, 2, 3), ["b", "c", "s", "n"], dtype="float32"))

    assert (proposal.card.input.mean, proposal.card.input.std, proposal.card.input.resize) == ((127.5,), (127.5,), "stretch")
    assert any("--input-range" in assumption for assumption in proposal.assumptions)
    assert (
        propose_raw(
            postprocess_model((0, 1, 2, 3), ["b", "c", "s", "n"], dtype="float32"), input_range=parse_range("0..255", RANGES)
        ).assumptions
        == ()
    )


def raw_ssd(
    count: int, columns: int, size: int, *, width: int = 4, softmax: bool = False, anchors: NDArray[np.float32] | None = None
) -> bytes:
    maker = Maker()
    x = maker.input((1, size, size, 3))
    boxes = maker.stirred(x, raw_numbers(1, count, width), name="box_encodings")
    logits = maker.stirred(x, raw_numbers(1, count, columns) * 3, name="class_predictions")
    outputs = [maker.softmax(logits, "class_probabilities") if softmax else logits, boxes]
    if anchors is not None:
        outputs.append(maker.constant(anchors[None], name="anchors"))
    return maker.outputs(*outputs)


@pytest.mark.parametrize(("names", "background"), [(["a", "b", "c"], 0), (["???", "a", "b", "c"], 0), (["a", "b", "c", "d"], None)])
def test_raw_ssd_with_the_published_number_of_anchors_is_read(propose_raw: Propose, names: list[str], background: int | None) -> None:
    proposal = propose_raw(raw_ssd(1917, 4, 300), names=names)
    head = head_of(proposal)

    assert (head["kind"], head["background"], head["activation"], head["code"]) == ("ssd-anchors", background, "sigmoid", "yxhw")
    assert head["scaled"]["reduce_lowest"] is True
    assert proposal.card.label_names()[1 if background == 0 else 0] == "a"


def test_raw_ssd_of_another_rule_is_ambiguous(propose_raw: Propose) -> None:
    with pytest.raises(AmbiguousModelError, match=r"100 anchors.*--set head.scaled"):
        propose_raw(raw_ssd(100, 4, 300))


def test_raw_ssd_takes_a_rule_as_given(propose_raw: Propose) -> None:
    """12 x 12 cells of stride 8 with two boxes, then 6 x 6 of stride 16."""
    rule = {"strides": [8, 16], "aspect_ratios": [1.0], "interpolated_aspect_ratio": 1.0}
    head = head_of(propose_raw(raw_ssd(2 * (144 + 36), 4, SIZE), extra={"head.scaled": rule}))

    assert (head["kind"], head["scaled"]["strides"], head["scaled"]["aspect_ratios"]) == ("ssd-anchors", (8, 16), (1.0,))


def test_outputs_that_look_alike_are_told_apart_by_their_names_in_the_card(propose_raw: Propose) -> None:
    """Raw offsets and four class scores, by names that say nothing."""
    maker = Maker()
    x = maker.input((1, 300, 300, 3))
    raw = maker.outputs(*(maker.stirred(x, 3 * raw_numbers(1, 1917, 4), name=name) for name in ("a", "b")))

    with pytest.raises(AmbiguousModelError, match=r"--set head\.boxes"):
        propose_raw(raw)
    for boxes, found in (("a", "b"), ("b", "a")):
        head = head_of(propose_raw(raw, extra={"head.boxes": [boxes], "head.scores": [found]}))
        assert (head["kind"], head["boxes"], head["scores"]) == ("ssd-anchors", (boxes,), (found,))


def test_an_output_that_never_changes_holds_the_anchors(propose_raw: Propose) -> None:
    boxes = cell_table(SIZE, STRIDES) / SIZE
    corners = np.concatenate([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], axis=1)
    head = head_of(propose_raw(raw_ssd(CELLS, 2, SIZE, softmax=True, anchors=corners), names=["person"]))

    assert (head["anchor_tensor"], head["anchor_form"], head["code"], head["background"], head["activation"]) == (
        "anchors",
        "xyxy",
        "corners",
        0,
        "none",
    )


@pytest.mark.parametrize(("order", "form", "code"), [([1, 0, 3, 2], "cycxhw", "yxhw"), ([0, 1, 2, 3], "cxcywh", "xywh")])
def test_anchors_of_centre_and_size_say_what_comes_first(propose_raw: Propose, order: list[int], form: str, code: str) -> None:
    head = head_of(propose_raw(raw_ssd(CELLS, 3, SIZE, anchors=cell_table(SIZE, STRIDES)[:, order] / SIZE)))

    assert (head["anchor_form"], head["code"], head["scales"]) == (form, code, (10.0, 10.0, 5.0, 5.0))


def test_anchors_in_pixels_are_refused(propose_raw: Propose) -> None:
    with pytest.raises(ModelError, match=r"anchors.*shares of the picture"):
        propose_raw(raw_ssd(CELLS, 3, SIZE, anchors=cell_table(SIZE, STRIDES)))


@pytest.mark.parametrize(
    ("size", "count", "width", "strides"),
    [
        (128, 896, 16, (8, 16, 16, 16)),
        (256, 896, 16, (16, 32, 32, 32)),
        (192, 2304, 16, (4,)),
        (192, 2016, 18, (8, 16, 16, 16)),
        (224, 2254, 12, (8, 16, 32, 32, 32)),
    ],
)
def test_blazeface_and_kin_are_known_by_their_number_of_anchors(
    propose_raw: Propose, size: int, count: int, width: int, strides: tuple[int, ...]
) -> None:
    proposal = propose_raw(raw_ssd(count, 1, size, width=width), names=["face"])
    head = head_of(proposal)

    assert (head["kind"], head["code"], head["exponential"], head["extra_columns"]) == ("ssd-anchors", "xywh", False, width - 4)
    assert (head["scaled"]["strides"], head["scaled"]["unit_size"], head["scales"]) == (strides, True, (float(size),) * 4)
    assert proposal.card.input.resize == "letterbox"
    assert proposal.card.input.mean == ((0.0,) if width == 18 else (127.5,))


def test_blazeface_scores_that_went_through_a_sigmoid_get_no_second_one(propose_raw: Propose) -> None:
    maker = Maker()
    x = maker.input((1, 128, 128, 3))
    found = maker.logistic(maker.stirred(x, raw_numbers(1, 896, 1)))

    assert head_of(propose_raw(maker.outputs(found, maker.stirred(x, raw_numbers(1, 896, 16)))))["activation"] == "none"


@pytest.mark.parametrize("columns", [False, True])
@pytest.mark.parametrize("units", ["normalized", "pixels"])
def test_decoded_boxes_and_scores_in_two_outputs_read_as_split(propose_raw: Propose, columns: bool, units: str) -> None:
    """v8 cut before its last concatenation, so that each part quantizes with its own scale."""
    maker = Maker()
    x = maker.input((1, SIZE, SIZE, 3))
    boxes, values = cell_table(SIZE, STRIDES)[None] / (SIZE if units == "normalized" else 1), scores(CELLS, 3)[None]
    turned = (boxes.transpose(0, 2, 1), values.transpose(0, 2, 1)) if columns else (boxes, values)
    head = head_of(propose_raw(maker.outputs(maker.stirred(x, turned[1], name="scores"), maker.stirred(x, turned[0], name="boxes"))))

    layout = "columns" if columns else "rows"
    assert head == {
        **head,
        "kind": "split",
        "boxes": "boxes",
        "scores": "scores",
        "box_layout": layout,
        "score_layout": layout,
        "box_units": units,
        "box_form": "cxcywh",
        "activation": "none",
    }


def test_quantized_scores_that_are_nearly_all_zero_are_no_rows_of_objects(propose_raw: Propose) -> None:
    """A step of 1/256 makes whole columns zero: they are no class ids."""
    maker = Maker()
    x = maker.input((1, SIZE, SIZE, 3))
    found = maker.quantized(maker.stirred(x, np.zeros((1, 7, CELLS)), name="probabilities"), "uint8", 1 / 256, 0, name="scores")
    boxes = maker.quantized(maker.stirred(x, cell_table(SIZE, STRIDES).T[None] / SIZE), "uint8", 1.3 / 255, 30, name="boxes")

    assert head_of(propose_raw(maker.outputs(boxes, found)))["kind"] == "split"


@pytest.mark.parametrize(("silu", "resize"), [(True, "letterbox"), (False, "stretch")])
def test_three_anchors_a_cell_in_two_outputs_stretch_as_darknet_does_but_not_in_a_network_of_silu(
    propose_raw: Propose, silu: bool, resize: str
) -> None:
    maker = Maker()
    x = maker.input((1, SIZE, SIZE, 3))
    for _ in range(4 if silu else 0):
        x = maker.logistic(x)
    boxes, found = cell_table(SIZE, STRIDES, 3)[None] / SIZE, scores(3 * CELLS, 3)[None]

    proposal = propose_raw(maker.outputs(maker.stirred(x, boxes), maker.stirred(x, found)))
    assert (head_of(proposal)["kind"], proposal.card.input.resize) == ("split", resize)


def test_decoded_corners_over_priors_of_any_rule_read_as_split(propose_raw: Propose) -> None:
    """UltraFace and PyTorch's SSD: softmax scores with a background, boxes as corners in 0..1."""
    rng = np.random.default_rng(8)
    centres = np.concatenate(
        [np.repeat(cell_table(64, (stride,))[:, :2] / 64, count, axis=0) for stride, count in ((8, 3), (16, 2), (32, 3))]
    )
    sizes = rng.uniform(0.05, 0.3, centres.shape)
    corners = np.concatenate([centres - sizes, centres + sizes], axis=1).astype(np.float32)
    maker = Maker()
    x = maker.input((1, 64, 64, 3))
    found = maker.softmax(maker.stirred(x, raw_numbers(1, len(corners), 2)))
    proposal = propose_raw(maker.outputs(found, maker.stirred(x, corners[None], name="boxes")), names=["face"])

    assert head_of(proposal) == {**head_of(proposal), "kind": "split", "box_form": "xyxy", "box_units": "normalized"}
    assert proposal.card.label_names() == ("background", "face")


def test_a_background_column_of_decoded_corners_is_known_by_the_labels(propose_raw: Propose) -> None:
    """TensorFlow's SSD without its post-process operator: 1 + C sigmoids."""
    centres = np.concatenate([np.repeat(cell_table(64, (stride,))[:, :2] / 64, count, axis=0) for stride, count in ((8, 3), (16, 2))])
    corners = np.concatenate([centres - 0.1, centres + 0.1], axis=1)[:, [1, 0, 3, 2]]
    maker = Maker()
    x = maker.input((1, 64, 64, 3))
    found = maker.logistic(maker.stirred(x, 3 * raw_numbers(1, len(corners), 4)))
    proposal = propose_raw(maker.outputs(maker.stirred(x, corners[None], name="boxes"), found), names=["a", "b", "c"])

    assert proposal.card.label_names() == ("background", "a", "b", "c")


def test_corners_of_queries_are_x_first_and_class_ids_are_no_scores(propose_raw: Propose) -> None:
    maker = Maker()
    x = maker.input((1, SIZE, SIZE, 3))
    centres = queries(maker, x)
    corners = np.concatenate([centres[..., :2] - centres[..., 2:] / 2, centres[..., :2] + centres[..., 2:] / 2], axis=2)
    boxes = maker.stirred(x, corners, name="boxes")
    assert head_of(propose_raw(maker.outputs(boxes, maker.stirred(x, scores(300, 5)[None]))))["box_form"] == "xyxy"

    ids = maker.constant((np.arange(300) % 5)[None, :, None])
    with pytest.raises(ModelError, match="in an order that is not known"):
        propose_raw(maker.outputs(maker.concat([boxes, ids, maker.stirred(x, scores(300, 1)[None])])))


def queries(maker: Maker, x: int) -> NDArray[np.float32]:
    """(1, 300, 4) boxes of a transformer's queries, in no order, beside the operator that picks them."""
    best = maker.stirred(x, np.zeros((1, 400)))
    top = maker.op("TOPK_V2", [best, maker.constant(300, "int32")], (1, 300), (1, 300), options=schema.TopKV2OptionsT())
    maker.retype(top + 1, "int32")
    rng = np.random.default_rng(6)
    return np.concatenate([rng.uniform(0.05, 0.95, (1, 300, 2)), rng.uniform(0.02, 0.4, (1, 300, 2))], axis=2).astype(np.float32)


@pytest.mark.parametrize("turned", [False, True])
def test_boxes_and_scores_of_queries_read_as_rt_detr_in_one_output_or_two(propose_raw: Propose, turned: bool) -> None:
    """Whichever of x and y happens to be the busier: queries have no order."""
    maker = Maker()
    x = maker.input((1, SIZE, SIZE, 3))
    table = queries(maker, x)[:, :: -1 if turned else 1]
    one = propose_raw(maker.outputs(maker.stirred(x, np.concatenate([table, scores(300, 5)[None]], axis=2))), names=list("abcde"))
    maker = Maker()
    x = maker.input((1, SIZE, SIZE, 3))
    table = queries(maker, x)[..., [1, 0, 3, 2] if turned else [0, 1, 2, 3]]
    logits = maker.stirred(x, 3 * raw_numbers(1, 300, 5), name="logits")
    two = propose_raw(maker.outputs(logits, maker.stirred(x, table, name="boxes")), names=list("abcde"))

    assert head_of(one) == {**head_of(one), "kind": "yolo-rows", "objectness": False, "box_units": "normalized", "box_form": "cxcywh"}
    assert head_of(two) == {**head_of(two), "kind": "split", "box_units": "normalized", "box_form": "cxcywh", "activation": "sigmoid"}
    for proposal in (one, two):
        assert (proposal.card.input.resize, proposal.card.input.mean, proposal.card.input.std) == ("stretch", (0.0,), (255.0,))
        assert any("--input-range" in assumption for assumption in proposal.assumptions)


def test_boxes_with_class_ids_picked_in_the_graph_read_as_split(propose_raw: Propose) -> None:
    boxes = cell_table(SIZE, STRIDES)
    corners = np.concatenate([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], axis=1)
    maker = Maker()
    x = maker.input((1, 3, SIZE, SIZE))
    ids = maker.constant(np.arange(CELLS)[None] % 5, name="class_idx")
    outputs = [maker.stirred(x, corners[None], name="boxes"), maker.stirred(x, scores(1, CELLS), name="scores"), ids]
    head = head_of(propose_raw(maker.outputs(*outputs)))

    assert head == {
        **head,
        "kind": "split",
        "boxes": "boxes",
        "scores": "scores",
        "classes": "class_idx",
        "box_form": "xyxy",
        "box_units": "pixels",
        "suppressed": False,
    }


def test_peaks_picked_in_the_graph_read_as_tensorflows_centernet(propose_raw: Propose) -> None:
    """Four outputs without the SSD operator; corners are y first, which nothing in the file says."""
    proposal = propose_raw(picked_apart(10, counted=True))

    assert head_of(proposal) == {**head_of(proposal), "kind": "split", "box_form": "yxyx", "suppressed": True, "scores": "topk_v2"}
    assert any("head.box_form" in assumption for assumption in proposal.assumptions)


def test_boxes_picked_without_a_count_are_x_first(propose_raw: Propose) -> None:
    """YOLOv10, YOLO26 and RT-DETR with an output each for boxes, scores and classes; TensorFlow's exporter always writes a count."""
    proposal = propose_raw(picked_apart(20, counted=False))

    assert head_of(proposal) == {**head_of(proposal), "kind": "split", "box_form": "xyxy", "suppressed": True}
    assert (proposal.card.input.resize, proposal.card.input.std) == ("letterbox", (255.0,))
    assert any("head.box_form" in assumption for assumption in proposal.assumptions)


@pytest.mark.parametrize(("columns", "names", "background"), [(4, ["a", "b", "c"], 0), (3, ["a", "b", "c"], None)])
def test_an_ssd_before_its_layers_are_joined_is_read_layer_by_layer(
    propose_raw: Propose, columns: int, names: list[str], background: int | None
) -> None:
    maker = Maker()
    x = maker.input((1, 300, 300, 3))
    outputs = []
    for size, per_cell in ((10, 6), (19, 3), (5, 6), (3, 6), (1, 6), (2, 6)):
        outputs += [
            maker.stirred(x, raw_numbers(1, size, size, per_cell * 4), name=f"box{size}"),
            maker.stirred(x, 3 * raw_numbers(1, size, size, per_cell * columns), name=f"class{size}"),
        ]
    head = head_of(propose_raw(maker.outputs(*outputs), names=names))

    assert (head["kind"], head["background"], head["activation"]) == ("ssd-anchors", background, "sigmoid")
    assert head["boxes"] == ("box19", "box10", "box5", "box3", "box2", "box1")
    assert head["scores"] == ("class19", "class10", "class5", "class3", "class2", "class1")


# -- one vector ---------------------------------------------------------------------------------------------------------------


def classifier(
    columns: int,
    *,
    softmax: bool = True,
    dtype: str = "float32",
    scale: float = 0.0,
    zero_point: int = 0,
    out: str = "float32",
    shape: Sequence[int] = (1, 32, 32, 3),
    name: str = "Identity",
) -> bytes:
    maker = Maker()
    x = maker.input(shape, dtype, scale, zero_point)
    y = maker.stirred(x, 5 * raw_numbers(1, columns), name="x")
    y = maker.softmax(y, name) if softmax else maker.rename(y, name)
    if out != "float32":
        y = maker.quantized(y, out, 1 / 256, 0 if out == "uint8" else -128)
    return maker.outputs(y)


@pytest.mark.parametrize("out", ["float32", "uint8", "int8"])
def test_a_softmax_over_one_vector_reads_as_a_classifier(propose_raw: Propose, out: str) -> None:
    proposal = propose_raw(classifier(5, out=out), names=list("abcde"))

    assert (proposal.card.task, head_of(proposal)["activation"], proposal.card.labels.offset) == ("classify", "none", 0)
    assert proposal.card.defaults.min_score == 0.1


def test_logits_read_as_a_classifier_when_the_labels_fit_and_else_are_ambiguous(propose_raw: Propose) -> None:
    raw = classifier(5, softmax=False)

    assert head_of(propose_raw(raw, names=list("abcde")))["activation"] == "softmax"
    assert propose_raw(raw, task="embed").card.head.kind == "embed"
    assert head_of(propose_raw(raw, task="classify"))["activation"] == "softmax"
    with pytest.raises(AmbiguousModelError, match=r"--task classify or --task embed"):
        propose_raw(raw)


def test_a_pooled_vector_reads_as_an_embedding(propose_raw: Propose) -> None:
    maker = Maker()
    x = maker.input((1, 32, 32, 3))
    options = schema.ReducerOptionsT()
    options.keepDims = True
    pooled = maker.op("MEAN", [x, maker.constant([1, 2], "int32")], (1, 1, 1, 3), options=options)

    assert propose_raw(maker.outputs(pooled)).card.task == "embed"


def test_a_thousand_names_for_a_thousand_and_one_classes_skip_the_background(propose_raw: Propose) -> None:
    proposal = propose_raw(classifier(1001), names=[f"thing {i}" for i in range(1000)])

    assert proposal.card.label_names()[:2] == ("background", "thing 0")
    assert (len(proposal.card.label_names()), proposal.card.labels.offset) == (1001, 0)


def test_a_vector_that_may_be_anything_is_asked_about_and_landmarks_are_named(propose_raw: Propose) -> None:
    """A hand's 21 points in space, as MediaPipe's landmark model gives them."""
    maker = Maker()
    raw = maker.outputs(maker.stirred(maker.input((1, SIZE, SIZE, 3)), 50 + 20 * raw_numbers(1, 63)))

    with pytest.raises(AmbiguousModelError, match="63 classes, or an embedding; points, a box or other measurements would be no model"):
        propose_raw(raw)


def test_one_sigmoid_reads_as_a_classifier_of_one_class(propose_raw: Propose) -> None:
    maker = Maker()
    x = maker.input((1, 32, 32, 3))
    proposal = propose_raw(maker.outputs(maker.logistic(maker.stirred(x, [[0.5]]))), names=["dog"])

    assert (proposal.card.task, proposal.card.label_names()) == ("classify", ("dog",))


# -- the input ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "scale", "zero_point", "mean", "std"),
    [
        ("uint8", 1 / 255, 0, 0.0, 255.0),
        ("int8", 1 / 255, -128, 0.0, 255.0),
        ("uint8", 1 / 128, 128, 128.0, 128.0),
        ("uint8", 0.007843137718737125, 127, 127.0, 127.5),
        ("int8", 1 / 127.5, -1, 127.0, 127.5),
        ("uint8", 1.0, 0, 0.0, 1.0),
        ("int8", 1.0, -128, 0.0, 1.0),
    ],
)
def test_quantized_inputs_take_the_pictures_bytes_as_their_steps(
    propose_raw: Propose, dtype: str, scale: float, zero_point: int, mean: float, std: float
) -> None:
    proposal = propose_raw(classifier(5, dtype=dtype, scale=scale, zero_point=zero_point))

    assert (proposal.card.input.mean, proposal.card.input.std) == ((mean,), (pytest.approx(std, rel=1e-5),))
    assert proposal.assumptions == ()


def test_a_16_bit_input_and_a_range_of_its_own_are_left_to_convention_and_said(propose_raw: Propose) -> None:
    wide = propose_raw(classifier(5, dtype="int16", scale=1 / 32767))
    odd = propose_raw(classifier(5, dtype="int8", scale=0.05, zero_point=0))

    assert any("--input-range" in assumption for assumption in wide.assumptions)
    assert any("--input-range" in assumption for assumption in odd.assumptions)


@pytest.mark.parametrize(
    ("steps", "wanted"),
    [
        ([("MUL", 1 / 255)], "0..255"),
        ([("SUB", 127.5), ("MUL", 1 / 127.5)], "0..255"),
        ([("MUL", 2.0), ("SUB", 1.0)], "0..1"),
        ([("MUL", 0.5), ("ADD", 0.5)], "-1..1"),
        ([("SUB", 117.0)], "0..255"),
    ],
)
def test_normalisation_inside_the_graph_says_what_comes_in(propose_raw: Propose, steps: list[tuple[str, float]], wanted: str) -> None:
    maker = Maker()
    x = maker.input((1, 32, 32, 3))
    for name, number in steps:
        x = maker.op(name, [x, maker.constant(number)], (1, 32, 32, 3), options=getattr(schema, f"{name.title()}OptionsT")())
    proposal = propose_raw(maker.outputs(maker.softmax(maker.stirred(x, raw_numbers(1, 5)))))

    assert (proposal.card.input.mean, proposal.card.input.std) == RANGES[wanted]
    assert proposal.assumptions == ()


def test_a_graph_that_turns_the_channels_and_takes_their_mean_off_wants_bytes(propose_raw: Propose) -> None:
    """Keras' preprocessing of ResNet and VGG, inside the model."""
    maker = Maker()
    x = maker.input((1, 32, 32, 3))
    x = maker.op("REVERSE_V2", [x, maker.constant([3], "int32")], (1, 32, 32, 3), options=schema.ReverseV2OptionsT())
    x = maker.op("SUB", [x, maker.constant([103.939, 116.779, 123.68])], (1, 32, 32, 3), options=schema.SubOptionsT())
    proposal = propose_raw(maker.outputs(maker.softmax(maker.stirred(x, raw_numbers(1, 5)))))

    assert (proposal.card.input.mean, proposal.card.input.std, proposal.card.input.color) == (*RANGES["0..255"], "RGB")


@pytest.mark.parametrize(("size", "wanted"), [(0.01, "0..255"), (1.0, "-1..1")])
def test_tiny_weights_of_the_first_layer_say_that_bytes_come_in(propose_raw: Propose, size: float, wanted: str) -> None:
    maker = Maker()
    x = maker.input((1, 32, 32, 3))
    options = schema.Conv2DOptionsT()
    options.strideH = options.strideW = 2
    weights, bias = maker.constant(size * raw_numbers(8, 3, 3, 3) / 5), maker.constant(np.zeros(8))
    y = maker.op("CONV_2D", [x, weights, bias], (1, 16, 16, 8), options=options)
    proposal = propose_raw(maker.outputs(maker.softmax(maker.stirred(y, raw_numbers(1, 5)))))

    assert (proposal.card.input.mean, proposal.card.input.std) == RANGES[wanted]
    assert any("--input-range" in assumption for assumption in proposal.assumptions)


def test_a_gray_input_is_gray(propose_raw: Propose) -> None:
    card = propose_raw(classifier(5, shape=(1, 32, 32, 1))).card

    assert (card.input.channels, card.input.color, len(card.input.mean)) == (1, "GRAY", 1)


def test_flags_win_over_what_was_found(propose_raw: Propose) -> None:
    raw = rows_model(cell_table(SIZE, STRIDES), scores(CELLS, 3), columns=True)
    proposal = propose_raw(
        raw,
        name="mine",
        color="BGR",
        resize="stretch",
        input_range=parse_range("127/128", RANGES),
        box_units="normalized",
        min_score=0.5,
        extra={"head.extra_columns": 1, "defaults.iou": 0.6},
    )
    card = proposal.card

    assert (card.name, card.input.color, card.input.resize, card.input.mean, card.input.std) == (
        "mine",
        "BGR",
        "stretch",
        (127.0,),
        (128.0,),
    )
    assert (head_of(proposal)["box_units"], head_of(proposal)["extra_columns"]) == ("normalized", 1)
    assert (card.defaults.min_score, card.defaults.iou) == (0.5, 0.6)


def test_a_field_that_a_card_does_not_have_is_refused(propose_raw: Propose) -> None:
    with pytest.raises(CardError, match=r"head\.yolo-rows\.colour|head.*colour"):
        propose_raw(rows_model(cell_table(SIZE, STRIDES), scores(CELLS, 3), columns=True), extra={"head.colour": 1})


def test_a_head_that_does_not_fit_or_exist_is_refused(propose_raw: Propose) -> None:
    raw = rows_model(cell_table(SIZE, STRIDES), scores(CELLS, 3), columns=True)

    with pytest.raises(ModelError, match=r"does not fit --head classify.*yolo-rows"):
        propose_raw(raw, head="classify")
    with pytest.raises(InputError, match=r"wanted one of .*yolo-rows"):
        propose_raw(raw, head="yolov8")


# -- what cannot be used ---------------------------------------------------------------------------------------------------


def with_custom(name: str) -> bytes:
    maker = Maker()
    x = maker.input((1, 32, 32, 3))
    return maker.outputs(*maker.custom(name, [x], [(1, 5)]))


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("edgetpu-custom-op", "Edge TPU"),
        ("ethos-u", "Ethos-U"),
        ("FlexCombinedNonMaxSuppression", "CombinedNonMaxSuppression"),
        ("MyOwnOp", "'MyOwnOp'"),
    ],
)
def test_operators_that_no_runtime_here_has_are_named(propose_raw: Propose, name: str, says: str) -> None:
    with pytest.raises(ModelError, match=says):
        propose_raw(with_custom(name))


def test_two_inputs_are_refused_by_name(propose_raw: Propose) -> None:
    maker = Maker()
    a, b = maker.input((1, 32, 32, 3), name="left"), maker.input((1, 32, 32, 3), name="right")
    with pytest.raises(ModelError, match=r"found 2: 'left'.*'right'"):
        propose_raw(maker.outputs(maker.op("ADD", [a, b], (1, 32, 32, 3), options=schema.AddOptionsT())))


@pytest.mark.parametrize(
    ("shape", "says"),
    [
        ((1, 128), "picture"),
        ((4, 32, 32, 3), "batch"),
        ((1, 1, 1, 3), "not fixed"),
        ((1, 32, 1 << 20, 3), "at most 16384 pixels a side"),
        ((1, 32, 32, 7), "channels"),
    ],
)
def test_inputs_that_are_no_single_picture_are_refused(propose_raw: Propose, shape: tuple[int, ...], says: str) -> None:
    maker = Maker()
    with pytest.raises(ModelError, match=says):
        propose_raw(maker.outputs(maker.logistic(maker.input(shape))))


@pytest.mark.parametrize(
    ("shapes", "says"),
    [
        ([(1, 32, 32, 21)], "segmentation"),
        ([(1, 32, 32)], "segmentation"),
        ([(1, 2100, 24), (1, 2100, 30)], "fit no known kind"),
        ([(1, 1, 17, 3)], "keypoints"),
        ([(1, 9, 9, 17), (1, 9, 9, 34), (1, 9, 9, 64)], "keypoints"),
        ([(1, 4, 4, 9), (1, 4, 4, 2), (1, 4, 4, 2)], "heat maps"),
        ([(1, 63), (1, 1), (1, 1)], "landmarks"),
        ([(1, 100, 7)], "in an order that is not known"),
    ],
)
def test_models_of_another_task_are_refused_with_what_they_seem_to_be(
    propose_raw: Propose, shapes: list[tuple[int, ...]], says: str
) -> None:
    maker = Maker()
    x = maker.input((1, 32, 32, 3))
    with pytest.raises(ModelError, match=says):
        propose_raw(maker.outputs(*(maker.stirred(x, raw_numbers(*shape)) for shape in shapes)))


def test_a_number_of_results_that_changes_with_the_picture_is_refused(propose_raw: Propose) -> None:
    maker = Maker()
    x = maker.input((1, 8, 8, 3))
    bright = maker.op("GREATER", [x, maker.constant(128 / 255)], (1, 8, 8, 3), dtype="bool")
    found = maker.op("WHERE", [bright], (1, 4), options=schema.WhereOptionsT(), dtype="int64")
    with pytest.raises(ModelError, match="changes its shape"):
        propose_raw(maker.outputs(found))


# -- words of flags ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "10", "10,14 23", "a,b", "yolov99"])
def test_anchors_that_are_no_pairs_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="--anchors"):
        parse_anchors(text)


@pytest.mark.parametrize("text", ["10,14 23,27", "10,14,23,27", "[(10, 14), (23, 27)]", "[[10,14],[23,27]]", "10x14 23x27"])
def test_anchors_are_read_in_the_ways_people_write_them(text: str) -> None:
    assert parse_anchors(text).pairs == ((10.0, 14.0), (23.0, 27.0))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("0..1", ((0.0,), (255.0,))),
        ("-1..1", ((127.5,), (127.5,))),
        ("127/128", ((127.0,), (128.0,))),
        ("1,2,3/4,5,6", ((1.0, 2.0, 3.0), (4.0, 5.0, 6.0))),
    ],
)
def test_input_ranges_are_read(text: str, wanted: Any) -> None:
    assert parse_range(text, RANGES) == wanted


@pytest.mark.parametrize("text", ["", "0-1", "127", "1,2/3", "0/0"])
def test_other_input_ranges_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="--input-range"):
        parse_range(text, RANGES)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("cat\ndog\n\n\n", ("cat", "dog")),
        ("\ufeffcat\r\ndog", ("cat", "dog")),
        ("0 cat\n1 dog\n", ("cat", "dog")),
        ("0: cat\n2: dog\n", ("cat", "???", "dog")),
        ("1 cat\n2 dog\n", ("cat", "dog")),
        ("1. cat\n2. dog\n", ("cat", "dog")),
        ("0) cat\n1) dog\n", ("cat", "dog")),
        ("3 wheels\ncar\n", ("3 wheels", "car")),
    ],
)
def test_label_files_are_read_in_the_ways_people_write_them(tmp_path: Path, text: str, names: tuple[str, ...]) -> None:
    path = tmp_path / "labels.txt"
    path.write_text(text, encoding="utf-8")

    assert read_labels(path) == names


@pytest.mark.parametrize(
    ("name", "text", "names"),
    [
        ("data.yaml", "path: x\nnc: 2\nnames: ['cat', \"dog\"]\n", ("cat", "dog")),
        ("data.yaml", "names:\n  0: cat  # first\n  1: big dog\ntrain: x\n", ("cat", "big dog")),
        ("data.yml", "names:\n- cat\n- dog\nnc: 2\n", ("cat", "dog")),
        ("map.pbtxt", "item {\n id: 1\n name: 'cat'\n}\nitem { id: 3 name: '/m/1' display_name: \"dog\" }", ("???", "cat", "???", "dog")),
        ("names.json", '{"names": {"0": "cat", "1": "dog"}}', ("cat", "dog")),
        ("data.yaml", "names: ['cat', \"dog, big\"]\n", ("cat", "dog, big")),
        ("data.yaml", "names: {0: cat, 2: 'dog, big'}\n", ("cat", "???", "dog, big")),
        ("names.json", '["cat", "dog"]', ("cat", "dog")),
        ("names.json", '{"id2label": {"0": "cat", "1": "dog"}}', ("cat", "dog")),
        ("names.json", '{"0": ["n02123045", "cat"], "1": ["n02084071", "dog"]}', ("cat", "dog")),
    ],
)
def test_lists_of_names_from_training_tools_are_read(tmp_path: Path, name: str, text: str, names: tuple[str, ...]) -> None:
    (tmp_path / name).write_text(text)

    assert read_labels(tmp_path / name) == names


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
def test_a_mark_at_the_start_says_how_a_label_file_is_encoded(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "labels.txt").write_bytes("Käfer\r\ncat\r\n".encode(encoding))

    assert read_labels(tmp_path / "labels.txt") == ("Käfer", "cat")


@pytest.mark.parametrize("encoding", ["utf-16-le", "latin-1"])
def test_label_files_of_another_encoding_are_refused_with_what_to_do(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "labels.txt").write_bytes("Käfer\r\ncat\r\n".encode(encoding))

    with pytest.raises(InputError, match="save it as UTF-8"):
        read_labels(tmp_path / "labels.txt")


@pytest.mark.parametrize(
    ("name", "text"), [("labels.txt", ""), ("labels.txt", "\n\n"), ("data.yaml", "nc: 3\n"), ("names.json", "{"), ("x.pbtxt", "item {}")]
)
def test_files_without_names_are_refused(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)

    with pytest.raises(InputError, match="no names"):
        read_labels(tmp_path / name)


# -- real models --------------------------------------------------------------------------------------------------------------

ULTRALYTICS_INPUT = {"resize": "letterbox", "color": "RGB", "mean": (0.0,), "std": (255.0,)}
REAL: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    # name -> (what a user would say, what the head must be, what the input must be)
    "ssd_mnv1_coco_quant_pp": (
        {"labels": "labels_coco90_zero_based.txt"},
        {"kind": "ssd-postprocess", "scores": "TFLite_Detection_PostProcess:2"},
        {"resize": "stretch", "mean": (128.0,), "std": (128.0,)},
    ),
    "ssd_mnv2_fpnlite320_coco_tf2_f32io": (
        {"labels": "ssd_mnv2_fpnlite320_coco_tf2_f32io.labels.txt"},
        {
            "kind": "ssd-postprocess",
            "boxes": "StatefulPartitionedCall:3",
            "classes": "StatefulPartitionedCall:2",
            "scores": "StatefulPartitionedCall:1",
        },
        {"resize": "stretch", "mean": (127.5,), "std": (127.5,)},
    ),
    "yolov5n_640_uint8": (
        {"labels": "labels_coco80.txt"},
        {"kind": "yolo-rows", "layout": "rows", "objectness": True, "box_units": "normalized", "activation": "none"},
        ULTRALYTICS_INPUT,
    ),
    "yolov5n_640_fp16": (
        {"labels": "labels_coco80.txt"},
        {"kind": "yolo-rows", "layout": "rows", "objectness": True, "box_units": "normalized", "activation": "none"},
        ULTRALYTICS_INPUT,
    ),
    "yolov8n_640_int8w_f32io": (
        {"labels": "labels_coco80.txt"},
        {"kind": "yolo-rows", "layout": "columns", "objectness": False, "box_units": "normalized", "activation": "none"},
        ULTRALYTICS_INPUT,
    ),
    "yolov8n_224_int8io": (
        {},
        {"kind": "yolo-rows", "layout": "columns", "objectness": False, "box_units": "normalized", "activation": "none"},
        ULTRALYTICS_INPUT,
    ),
    "yolo26n_320_e2e_f32io": ({}, {"kind": "end-to-end", "box_units": "normalized"}, ULTRALYTICS_INPUT),
    "yolofastest_voc320_2heads_f32io": (
        {"labels": "labels_voc20.txt", "anchors": "26,48 67,84 72,175 189,126 137,236 265,259"},
        {"kind": "yolo-grid", "size": "exp", "activation": "sigmoid", "layout": "NHWC"},
        {"resize": "stretch", "color": "RGB", "mean": (0.0,), "std": (255.0,)},
    ),
    "nanodet_m320_6outs_int8w": (
        {"labels": "labels_coco80.txt"},
        {
            "kind": "dfl",
            "bins": 8,
            "center": 0.5,
            "activation": "none",
            "boxes": ("Identity_4", "Identity_2", "Identity"),
            "scores": ("Identity_5", "Identity_3", "Identity_1"),
        },
        {"resize": "stretch", "color": "BGR", "mean": (103.53, 116.28, 123.675)},
    ),
    "yolox_nano_mask3_nchw_fp16": (
        {},
        {"kind": "yolox", "activation": "none", "strides": (8, 16, 32)},
        {"resize": "letterbox-top-left", "color": "BGR", "layout": "NCHW", "std": (1.0,)},
    ),
    "st_ssd_mnv1_025_person224_raw_anchors": (
        {"names": ["person"]},
        {
            "kind": "ssd-anchors",
            "anchor_tensor": "StatefulPartitionedCall:0",
            "boxes": ("StatefulPartitionedCall:1",),
            "code": "corners",
            "background": 0,
            "activation": "none",
        },
        {"resize": "stretch", "mean": (127.0,), "std": (127.5,)},
    ),
    "blazeface_front_f32": (
        {"names": ["face"]},
        {"kind": "ssd-anchors", "boxes": ("regressors",), "activation": "sigmoid", "exponential": False},
        {"resize": "letterbox", "mean": (127.5,), "std": (127.5,)},
    ),
    "mobilenet_v2_1.0_224_quant": (
        {},
        {"kind": "classify", "activation": "none"},
        {"resize": "stretch", "mean": (128.0,), "std": (128.0,)},
    ),
    "mobilenet_v1_0.25_128_quant": (
        {"labels": "labels_imagenet1001.txt"},
        {"kind": "classify", "activation": "none"},
        {"resize": "stretch", "mean": (128.0,), "std": (128.0,)},
    ),
    "mobilenet_v1_1.0_224_embedding_quant": ({}, {"kind": "embed"}, {"resize": "stretch", "mean": (128.0,), "std": (128.0,)}),
}
CLASS_COUNTS = {"labels_coco90_zero_based.txt": 90, "labels_coco80.txt": 80, "labels_voc20.txt": 20, "labels_imagenet1001.txt": 1001}


@pytest.mark.runtime
@pytest.mark.parametrize("name", REAL)
def test_real_models_get_the_right_card_from_what_a_user_would_say(data_dir: Path, tmp_path: Path, name: str) -> None:
    if name == "nanodet_m320_6outs_int8w" and installed_runtimes()[0] == "tflite-runtime":
        pytest.skip("tflite-runtime 2.14 computes NaN in this network's weight-quantized layers on x86")
    said, head, given = REAL[name]
    hints: dict[str, Any] = {}
    if "labels" in said:
        hints["labels"] = data_dir / "models" / said["labels"]
    if "names" in said:
        hints["labels"] = tmp_path / "labels.txt"
        hints["labels"].write_text("\n".join(said["names"]))
    if "anchors" in said:
        hints["anchors"] = parse_anchors(said["anchors"])
    proposal = propose(data_dir / "models" / f"{name}.tflite", Hints(**hints))
    found_head, found_input = head_of(proposal), proposal.card.input.model_dump()

    assert {key: found_head[key] for key in head} == head
    assert {key: found_input[key] for key in given} == given
    assert len(proposal.card.label_names()) >= CLASS_COUNTS.get(said.get("labels", ""), 0)
    assert proposal.evidence


def test_the_compiled_model_is_refused_with_the_reason(data_dir: Path) -> None:
    with pytest.raises(ModelError, match="Edge TPU"):
        propose(data_dir / "models" / "NEG_edgetpu_compiled.tflite")


def test_a_join_of_nothing_and_a_join_of_other_ranks_have_no_pieces() -> None:
    maker = Maker()
    x = maker.input((1, 4, 4, 3))
    nothing = maker.op("CONCATENATION", [], (1, 6), options=schema.ConcatenationOptionsT())
    moved = maker.op("RESHAPE", [], (1, 6), options=schema.ReshapeOptionsT())
    options = schema.ConcatenationOptionsT()
    options.axis = 3
    uneven = maker.op("CONCATENATION", [x, maker.constant([1.0, 2.0])], (1, 4, 4, 6), options=options)
    graph = parse_tflite(maker.outputs(nothing, moved, uneven)).graph

    assert [pieces(graph, tensor, 6)[0].made_by for tensor in (nothing, moved, uneven)] == ["", "", ""]
    assert [operator.name for operator in makers(graph, moved)] == []


def test_a_file_of_the_longest_name_gets_a_name_that_its_card_can_have(tmp_path: Path) -> None:
    path = tmp_path / ("m" * 248 + ".tflite")
    path.write_bytes(rows_model(cell_table(SIZE, STRIDES), scores(CELLS, 3), columns=True))

    assert propose(path).card.name == "m" * 200
