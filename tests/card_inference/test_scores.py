"""Numbers that are not in 0..1 are not therefore logits: percentages, keypoints, masks and angles beside class scores.

The networks are made by our own writer, after the published export code of each family.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from math import pi
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgeannot.base.errors import ModelError
from edgeannot.card_inference import AmbiguousModelError, Hints, propose
from tests.card_inference.made import CELLS, SIZE, STRIDES, Propose, annotated, head_of, raw_numbers, rows_model, scores
from tests.tflite_maker import Maker, cell_table, with_files


def joined_rows(parts: Sequence[NDArray[np.float32]], made_by_sigmoid: int) -> bytes:
    """(1, columns, cells) that the graph joins from parts (cells, n), one of them behind a sigmoid."""
    maker = Maker()
    x = maker.input((1, SIZE, SIZE, 3))
    made = [maker.stirred(x, part.T[None]) for part in parts]
    made[made_by_sigmoid] = maker.logistic(made[made_by_sigmoid])
    return maker.outputs(maker.concat(made, 1))


def keypoints(points: int, numbers: int, anchors: int = 1) -> NDArray[np.float32]:
    """(N, points * numbers): x and y about each cell in pixels, and perhaps a visibility; from -13 to beyond the picture."""
    rng = np.random.default_rng(points)
    cells = cell_table(SIZE, STRIDES, anchors)[:, :2]
    each = [cells + rng.uniform(-12, 12, 2).astype(np.float32) for _ in range(points)]
    if numbers == 3:
        each = [np.concatenate([xy, scores(len(cells), 1)], axis=1) for xy in each]
    return np.concatenate(each, axis=1)


# -- keypoints -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("points", "numbers", "classes", "columns"),
    [(17, 3, 1, True), (17, 3, 2, False), (17, 2, 1, False), (21, 3, 1, True), (5, 3, 2, True), (4, 2, 3, True), (1, 2, 1, True)],
)
def test_keypoints_are_known_by_following_their_cells(propose_raw: Propose, points: int, numbers: int, classes: int, columns: bool) -> None:
    """Ultralytics' pose head joins box, class scores and decoded keypoints; without its metadata nothing else tells."""
    table = np.concatenate([scores(CELLS, classes), keypoints(points, numbers) / SIZE], axis=1)
    raw = rows_model(cell_table(SIZE, STRIDES) / SIZE, table, columns=columns)
    proposal = propose_raw(raw, extra={} if columns or classes == 1 else {"head.objectness": False})

    assert (head_of(proposal)["extra_columns"], head_of(proposal)["activation"]) == (points * numbers, "none")
    assert (proposal.card.input.resize, proposal.card.input.color, proposal.card.input.std) == ("letterbox", "RGB", (255.0,))
    assert any("keypoints" in line for line in proposal.evidence)


def test_keypoints_behind_an_objectness_are_known_as_well(propose_raw: Propose) -> None:
    """YOLOv7-pose: three anchors a cell, box, objectness, one class, 17 points."""
    boxes = cell_table(SIZE, STRIDES, 3)
    proposal = propose_raw(rows_model(boxes, np.concatenate([scores(3 * CELLS, 3), keypoints(17, 3, 3)], axis=1)))

    assert (head_of(proposal)["extra_columns"], head_of(proposal)["objectness"]) == (51, True)


def test_keypoints_in_an_output_of_their_own_are_no_classes(propose_raw: Propose) -> None:
    maker = Maker()
    x = maker.input((1, SIZE, SIZE, 3))
    parts = {"boxes": cell_table(SIZE, STRIDES) / SIZE, "scores": scores(CELLS, 1), "points": keypoints(17, 3) / SIZE}
    proposal = propose_raw(maker.outputs(*(maker.stirred(x, part[None], name=name) for name, part in parts.items())), names=["person"])

    assert (proposal.card.head.kind, head_of(proposal)["scores"], head_of(proposal)["objectness"]) == ("split", "scores", None)


# -- masks ---------------------------------------------------------------------------------------------------------------------


def masks() -> NDArray[np.float32]:
    return np.random.default_rng(2).normal(0, 1, (CELLS, 32)).astype(np.float32)


def test_masks_are_known_by_how_the_graph_joins_them(propose_raw: Propose) -> None:
    """A segmenter whose prototypes were cut off: the class scores end in a sigmoid, the coefficients do not."""
    raw = joined_rows([cell_table(SIZE, STRIDES) / SIZE, 3 * raw_numbers(CELLS, 2) - 4, masks()], 1)

    assert (head_of(propose_raw(raw))["extra_columns"], head_of(propose_raw(raw))["activation"]) == (32, "none")


def test_masks_that_nothing_tells_from_classes_are_asked_about(propose_raw: Propose) -> None:
    raw = rows_model(cell_table(SIZE, STRIDES) / SIZE, np.concatenate([scores(CELLS, 2), masks()], axis=1), columns=True)

    with pytest.raises(AmbiguousModelError, match=r"34 numbers after the box.*first 2 may be class scores.*--labels FILE") as caught:
        propose_raw(raw)
    assert "--set head.extra_columns=32" in caught.value.choices
    by_flag, by_labels = propose_raw(raw, extra={"head.extra_columns": 32}), propose_raw(raw, names=["a", "b"])
    assert head_of(by_flag) == head_of(by_labels) == {**head_of(by_flag), "extra_columns": 32, "objectness": False, "activation": "none"}


# -- oriented boxes --------------------------------------------------------------------------------------------------------------


def oriented(classes: int = 2, angle: float | None = None) -> NDArray[np.float32]:
    """Class scores, and the angle of each box: (sigmoid(x) - 0.25) * pi."""
    angles = np.random.default_rng(5).uniform(-pi / 4, 3 * pi / 4, (CELLS, 1)) if angle is None else np.full((CELLS, 1), angle)
    return np.concatenate([scores(CELLS, classes), angles], axis=1).astype(np.float32)


@pytest.mark.parametrize("classes", [1, 2, 15])
def test_an_angle_behind_the_classes_makes_upright_boxes_around_the_rotated(propose_raw: Propose, classes: int) -> None:
    proposal = propose_raw(rows_model(cell_table(SIZE, STRIDES) / SIZE, oriented(classes), columns=True))

    assert head_of(proposal) == {**head_of(proposal), "rotated": True, "extra_columns": 0, "objectness": False, "activation": "none"}
    assert any("angle" in line for line in proposal.evidence)


def test_a_box_of_20_by_10_pixels_that_stands_on_its_side_is_10_by_20(propose_raw: Propose) -> None:
    boxes = cell_table(SIZE, STRIDES)
    boxes[:, 2:] = 20, 10
    table = oriented(2, pi / 2)
    table[:, :2] = 0
    table[70, 1] = 0.9
    notes = {"metadata.json": json.dumps({"task": "obb", "names": ["ship", "plane"]})}
    found = annotated(propose_raw(with_files(rows_model(boxes / SIZE, table, columns=True), notes)))

    x, y = boxes[70, :2]
    assert found.labels == ("plane",)
    assert found.detections.boxes == pytest.approx(np.array([[x - 5, y - 10, x + 5, y + 10]]), abs=0.1)


def test_oriented_boxes_without_suppression_to_do_have_their_angle_last(propose_raw: Propose) -> None:
    rng = np.random.default_rng(4)
    best = np.sort(rng.uniform(0, 0.4, (300, 1)), axis=0)[::-1]
    table = np.concatenate([rng.uniform(0.3, 0.7, (300, 2)), rng.uniform(0.05, 0.2, (300, 2)), best], axis=1)[None]
    maker = Maker()
    x = maker.input((1, SIZE, SIZE, 3))
    ids, angles = maker.constant(rng.integers(0, 7, (1, 300, 1))), maker.constant(rng.uniform(-0.7, 2.3, (1, 300, 1)))
    proposal = propose_raw(maker.outputs(maker.concat([maker.stirred(x, table, 1e-5), ids, angles])))

    assert head_of(proposal) == {**head_of(proposal), "kind": "end-to-end", "rotated": True, "extra_columns": 0, "box_form": "cxcywh"}


# -- percentages -----------------------------------------------------------------------------------------------------------------


def percentages(dtype: str = "float32") -> bytes:
    """Seeed's YOLOv5 for microcontrollers: boxes in pixels, objectness and class in percent, all with one step."""
    boxes = cell_table(SIZE, STRIDES, 3)
    table = np.zeros((3 * CELLS, 2), np.float32)
    table[:, 1] = 1
    table[200] = 90, 100
    return rows_model(boxes, table, dtype=dtype)


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_percentages_become_scores_and_are_said(propose_raw: Propose, dtype: str) -> None:
    proposal = propose_raw(percentages(dtype), names=["face"])
    found = annotated(proposal)

    assert head_of(proposal) == {**head_of(proposal), "activation": "percent", "objectness": True}
    assert any("percentages (--set head.activation" in assumption for assumption in proposal.assumptions)
    assert found.labels == ("face",)
    assert found.detections.scores == pytest.approx([0.9], abs=0.02)


def test_scores_whose_step_is_too_coarse_are_refused_unless_they_are_percentages(propose_raw: Propose) -> None:
    """A sample run without an object leaves both open: scores that quantization has lost, or percentages that are all 0."""
    raw = rows_model(cell_table(SIZE, STRIDES), scores(CELLS, 3), columns=True, dtype="int8")

    with pytest.raises(ModelError, match=r"steps of 0\.\d+, too coarse.*--set head\.activation=percent"):
        propose_raw(raw)
    assert head_of(propose_raw(raw, extra={"head.activation": "percent"}))["activation"] == "percent"


# -- what is none of these ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("low", "high"),
    [(-13, 266), (0, 3), (0.5, 90), (-0.4, 1.3), (-4000, 10)],
    ids=["pixels", "positive", "most of them large", "near 0..1", "far out"],
)
def test_numbers_like_no_scores_are_asked_about_and_each_option_settles_it(propose_raw: Propose, low: float, high: float) -> None:
    table = np.random.default_rng(1).uniform(low, high, (CELLS, 3)).astype(np.float32)
    raw = rows_model(cell_table(SIZE, STRIDES), table, columns=True)

    with pytest.raises(AmbiguousModelError, match="neither probabilities nor logits") as caught:
        propose_raw(raw)
    assert len(caught.value.choices) == 3
    for choice in caught.value.choices:
        key, value = choice.removeprefix("--set ").split("=")
        assert head_of(propose_raw(raw, extra={key: value}))["activation"] == value


def test_logits_are_said_to_be_assumed(propose_raw: Propose) -> None:
    logits = np.random.default_rng(1).uniform(-9, 3, (CELLS, 3)).astype(np.float32)
    proposal = propose_raw(rows_model(cell_table(SIZE, STRIDES), logits, columns=True))

    assert head_of(proposal)["activation"] == "sigmoid"
    assert any("head.activation" in assumption for assumption in proposal.assumptions)


# -- real files ------------------------------------------------------------------------------------------------------------------


def without_metadata(path: Path, into: Path) -> Path:
    """The file without the archive that is appended to it."""
    with zipfile.ZipFile(path) as archive:
        start = min(info.header_offset for info in archive.infolist())
    into.write_bytes(path.read_bytes()[:start])
    return into


TIMES = [pytest.param(1), pytest.param(10, marks=pytest.mark.long)]


def field_file(data_dir: Path, name: str) -> Path:
    path = data_dir / "field" / name
    if not path.is_file():
        pytest.skip(f"the test data has no field/{name}")
    return path


@pytest.mark.runtime
@pytest.mark.usefixtures("own_process")
@pytest.mark.parametrize("times", TIMES)
@pytest.mark.parametrize("cut", [False, True], ids=["with its metadata", "without"])
def test_a_pose_file_finds_persons_only(data_dir: Path, tmp_path: Path, times: int, cut: bool) -> None:
    path = field_file(data_dir, "y11pose_full_integer_quant.tflite")
    path = without_metadata(path, tmp_path / "pose.tflite") if cut else path
    for _ in range(times):
        card = propose(path, Hints()).card
        assert head_of_card(card) == {"objectness": False, "extra_columns": 51, "activation": "none", "box_units": "normalized"}
        assert (card.input.color, card.input.resize) == ("RGB", "letterbox")


@pytest.mark.runtime
@pytest.mark.usefixtures("own_process")
@pytest.mark.parametrize("times", TIMES)
def test_a_segmentation_file_leaves_its_masks_aside(data_dir: Path, times: int) -> None:
    for _ in range(times):
        assert head_of_card(propose(field_file(data_dir, "y8nseg.tflite"), Hints()).card)["extra_columns"] == 32


@pytest.mark.runtime
@pytest.mark.usefixtures("own_process")
@pytest.mark.parametrize("times", TIMES)
def test_a_file_that_gives_other_numbers_from_load_to_load_is_refused(data_dir: Path, times: int) -> None:
    """tflite-runtime does not take the file at all."""
    for _ in range(times):
        with pytest.raises(ModelError, match=r"not finite|other numbers|same|differ|change|refuses this model"):
            propose(field_file(data_dir, "y11seg.tflite"), Hints())


def head_of_card(card: Any) -> dict[str, Any]:
    head = card.head
    return {key: getattr(head, key) for key in ("objectness", "extra_columns", "activation", "box_units")}
