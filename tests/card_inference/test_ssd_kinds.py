"""SSDs whose anchors a file states itself, or that a family publishes: MediaPipe's notes, BlazeFace before its join, EfficientDet.

No public file of EfficientDet's raw form, or of the palm and pose detectors before their join, is at hand: those are made here in the
shapes that the export code of AutoML's `efficientdet` and MediaPipe's models give.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict
from itertools import permutations

import numpy as np
import pytest

from edgeannot.base.errors import ModelError
from edgeannot.card_inference import AmbiguousModelError
from edgeannot.cli.commands.models import _setting
from edgeannot.vision.heads._anchors import OctaveAnchors, make_anchors
from edgeannot.vision.heads.ssd_anchors import AnchorLayer
from tests.card_inference.made import Propose, head_of, raw_numbers
from tests.metadata_maker import detector_metadata, tflite_metadata
from tests.tflite_maker import Maker, with_files

MODEL_MAKER = OctaveAnchors(anchor_scale=3, scales_per_octave=3, aspect_ratios=(0.5, 1, 2), order="scales")
LAYERS = (AnchorLayer(stride=16, sizes=((20, 10), (30, 30))), AnchorLayer(stride=32, sizes=((60, 40),)))
"""Of no published rule: 36 cells of two boxes and 9 of one at 96 pixels."""


# -- MediaPipe's notes ---------------------------------------------------------------------------------------------------------


def noted(
    notes: bytes | None,
    *,
    rows: int,
    size: int = 96,
    width: int = 4,
    columns: int = 3,
    swapped: bool = False,
    labels: str = "background\ncat\ndog",
    roles: tuple[str, str] = ("location", "score"),
    activation: bool = True,
    threshold: float | None = None,
) -> bytes:
    """A detector with raw outputs as the model maker exports it: boxes, then scores through a sigmoid."""
    maker = Maker()
    x = maker.input((1, size, size, 3))
    boxes = maker.stirred(x, raw_numbers(1, rows, width), name="Identity")
    scores = maker.stirred(x, raw_numbers(1, rows, columns), name="Identity_1")
    outputs = [boxes, maker.logistic(scores, "Identity_1") if activation else scores]
    if swapped:
        outputs, roles = outputs[::-1], roles[::-1]
    maker.metadata("TFLITE_METADATA", tflite_metadata(notes, outputs=roles, threshold=threshold))
    return with_files(maker.outputs(*outputs), {"names.txt": labels} if labels else {})


def test_damaged_notes_leave_the_question_and_say_why(propose_raw: Propose) -> None:
    good = detector_metadata(make_anchors(LAYERS, (96, 96)), classes=3)

    with pytest.raises(AmbiguousModelError, match=r"DETECTOR_METADATA is damaged and left out.*--set head\.scaled"):
        propose_raw(noted(good[:40], rows=81))


def test_anchors_of_a_published_rule_become_that_rule(propose_raw: Propose) -> None:
    anchors = make_anchors(MODEL_MAKER, (256, 256))
    proposal = propose_raw(noted(detector_metadata(anchors, classes=3), rows=len(anchors), size=256))
    head = head_of(proposal)

    assert (head["kind"], head["background"], head["activation"], head["code"]) == ("ssd-anchors", 0, "none", "yxhw")
    assert (head["scales"], head["exponential"], head["layers"]) == ((1.0,) * 4, True, ())
    assert head["octaves"]["anchor_scale"] == 3.0
    assert proposal.card.label_names() == ("background", "cat", "dog")
    assert (proposal.card.input.resize, proposal.card.input.mean, proposal.card.input.std) == ("stretch", (127.0,), (128.0,))


def test_anchors_of_no_published_rule_become_layers_of_cells(propose_raw: Propose) -> None:
    notes = detector_metadata(make_anchors(LAYERS, (96, 96)), classes=3, scales_xywh=(10, 10, 5, 5))
    head = head_of(propose_raw(noted(notes, rows=81)))

    assert [(layer["stride"], layer["sizes"]) for layer in head["layers"]] == [(layer.stride, layer.sizes) for layer in LAYERS]
    assert head["scales"] == (10.0, 10.0, 5.0, 5.0)


def test_what_the_notes_say_of_decoding_is_taken(propose_raw: Propose) -> None:
    """As MediaPipe's face detectors are decoded: sizes are shares, keypoints follow, one score that needs a sigmoid."""
    notes = detector_metadata(
        make_anchors(LAYERS, (96, 96)), classes=1, numbers=16, scales_xywh=(96, 95, 94, 93), exponential=False, sigmoid=True
    )
    head = head_of(propose_raw(noted(notes, rows=81, width=16, columns=1, labels="face", activation=False)))

    assert (head["extra_columns"], head["exponential"], head["activation"]) == (12, False, "sigmoid")
    assert (head["scales"], head["background"]) == ((95.0, 96.0, 93.0, 94.0), None)


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("activation", [False, True])
def test_four_class_scores_are_told_from_boxes_by_their_sigmoid_or_their_role(
    propose_raw: Propose, swapped: bool, activation: bool
) -> None:
    notes = detector_metadata(make_anchors(LAYERS, (96, 96)), classes=4, sigmoid=not activation)
    raw = noted(notes, rows=81, columns=4, swapped=swapped, labels="background\na\nb\nc", activation=activation)
    head = head_of(propose_raw(raw))

    assert (head["boxes"], head["scores"]) == (("Identity",), ("Identity_1",)) if activation else ((0,), (1,))


def test_labels_without_a_background_leave_no_column_out(propose_raw: Propose) -> None:
    notes = detector_metadata(make_anchors(LAYERS, (96, 96)), classes=3)

    assert head_of(propose_raw(noted(notes, rows=81, labels="ant\ncat\ndog")))["background"] is None


def test_notes_of_another_network_are_passed_over(propose_raw: Propose) -> None:
    """300 pixels have 1917 anchors by a published rule; the notes speak of 81."""
    notes = detector_metadata(make_anchors(LAYERS, (96, 96)), classes=3)

    assert head_of(propose_raw(noted(notes, rows=1917, size=300)))["scaled"]["reduce_lowest"] is True


def test_anchors_anywhere_are_refused(propose_raw: Propose) -> None:
    anchors = np.random.default_rng(4).uniform(0.1, 0.9, (81, 4))

    with pytest.raises(ModelError, match="81 anchors in its DETECTOR_METADATA lie on no grids of cells"):
        propose_raw(noted(detector_metadata(anchors, classes=3), rows=81))


def test_a_score_threshold_of_the_maker_becomes_the_default(propose_raw: Propose) -> None:
    notes = detector_metadata(make_anchors(LAYERS, (96, 96)), classes=3)
    proposal = propose_raw(noted(notes, rows=81, threshold=0.45))

    assert proposal.card.defaults.min_score == 0.45
    assert any("threshold" in line for line in proposal.evidence)
    assert propose_raw(noted(notes, rows=81, threshold=0.45), min_score=0.2).card.defaults.min_score == 0.2
    assert propose_raw(noted(notes, rows=81)).card.defaults.min_score == 0.3


# -- BlazeFace and its kin before their layers are joined ----------------------------------------------------------------------

KINDS = [
    # size, numbers a box, (cells a side, boxes a cell) of each layer, strides of the rule
    (128, 16, ((16, 2), (8, 6)), (8, 16, 16, 16)),
    (256, 16, ((16, 2), (8, 6)), (16, 32, 32, 32)),
    (192, 18, ((24, 2), (12, 6)), (8, 16, 16, 16)),
    (224, 12, ((28, 2), (14, 2), (7, 6)), (8, 16, 32, 32, 32)),
]


def apart(size: int, width: int, layers: Sequence[tuple[int, int]], order: Sequence[int], *, maps: bool) -> bytes:
    """Boxes and scores of each layer as outputs of their own, in some order: as rows, or as the maps they come from."""
    maker = Maker()
    x = maker.input((1, size, size, 3))
    outputs = []
    for i, (side, per_cell) in enumerate(layers):
        for name, columns in (("box", width), ("score", 1)):
            shape = (1, side, side, per_cell * columns) if maps else (1, side * side * per_cell, columns)
            outputs.append(maker.stirred(x, raw_numbers(*shape), name=f"{name}{i}"))
    return maker.outputs(*(outputs[i] for i in order))


@pytest.mark.parametrize("maps", [False, True])
@pytest.mark.parametrize(("size", "width", "layers", "strides"), KINDS)
def test_layers_of_blazeface_and_kin_are_read_as_if_they_were_joined(
    propose_raw: Propose, size: int, width: int, layers: Sequence[tuple[int, int]], strides: tuple[int, ...], maps: bool
) -> None:
    proposal = propose_raw(apart(size, width, layers, range(2 * len(layers)), maps=maps), names=["it"])
    head = head_of(proposal)

    assert (head["kind"], head["code"], head["exponential"], head["extra_columns"]) == ("ssd-anchors", "xywh", False, width - 4)
    assert head["boxes"] == tuple(f"box{i}" for i in range(len(layers)))
    assert head["scores"] == tuple(f"score{i}" for i in range(len(layers)))
    assert (head["scaled"]["strides"], head["scaled"]["unit_size"], head["activation"]) == (strides, True, "sigmoid")
    assert proposal.card.input.mean == ((0.0,) if width == 18 else (127.5,))


@pytest.mark.parametrize("maps", [False, True])
@pytest.mark.parametrize(("size", "width", "layers", "strides"), KINDS)
def test_scores_of_that_family_below_zero_are_logits_and_no_assumption(
    propose_raw: Propose, size: int, width: int, layers: Sequence[tuple[int, int]], strides: tuple[int, ...], maps: bool
) -> None:
    proposal = propose_raw(apart(size, width, layers, range(2 * len(layers)), maps=maps))

    assert any("scores are logits, which go through a sigmoid" in line for line in proposal.evidence)
    assert not any("head.activation" in assumption for assumption in proposal.assumptions)


def test_scores_of_that_family_that_may_be_probabilities_are_an_assumption(propose_raw: Propose) -> None:
    """A graph may give probabilities without an operator that says so."""
    maker = Maker()
    x = maker.input((1, 128, 128, 3))
    scores = maker.stirred(x, np.random.default_rng(1).uniform(0.01, 0.2, (1, 896, 1)))
    proposal = propose_raw(maker.outputs(maker.stirred(x, raw_numbers(1, 896, 16)), scores))

    assert any("head.activation=none" in assumption for assumption in proposal.assumptions)


def test_a_sigmoid_that_the_notes_state_is_no_assumption(propose_raw: Propose) -> None:
    notes = detector_metadata(make_anchors(LAYERS, (96, 96)), classes=3, sigmoid=True)
    proposal = propose_raw(noted(notes, rows=81, activation=False))

    assert head_of(proposal)["activation"] == "sigmoid"
    assert proposal.assumptions == ()


@pytest.mark.parametrize("order", list(permutations(range(4)))[::5])
def test_the_order_of_the_outputs_does_not_matter(propose_raw: Propose, order: Sequence[int]) -> None:
    head = head_of(propose_raw(apart(128, 16, ((16, 2), (8, 6)), order, maps=False)))

    assert (head["boxes"], head["scores"]) == (("box0", "box1"), ("score0", "score1"))


def test_layers_whose_boxes_have_other_numbers_are_no_blazeface(propose_raw: Propose) -> None:
    maker = Maker()
    x = maker.input((1, 128, 128, 3))
    shapes = ((512, 16), (512, 1), (384, 18), (384, 1))

    with pytest.raises(ModelError, match="no known kind"):
        propose_raw(maker.outputs(*(maker.stirred(x, raw_numbers(1, *shape), name=f"x{i}") for i, shape in enumerate(shapes))))


# -- SSDs whose layers are outputs of their own ---------------------------------------------------------------------------


def layers_of_four(*, first: str = "box", sigmoid: bool = False, named: bool = True) -> bytes:
    """An SSD before its join with as many scores as box numbers, a layer after the other. first: what comes first in each layer."""
    maker = Maker()
    x = maker.input((1, 300, 300, 3))
    outputs = []
    for size, per_cell in ((19, 3), (10, 6), (5, 6), (3, 6), (2, 6), (1, 6)):
        for part in ("box", "class") if first == "box" else ("class", "box"):
            name = f"{part}{size}" if named else f"out{len(outputs)}"
            y = maker.stirred(x, 3 * raw_numbers(1, size, size, per_cell * 4), name=name)
            outputs.append(maker.logistic(y, name) if sigmoid and part == "class" else y)
    return maker.outputs(*outputs)


@pytest.mark.parametrize("first", ["box", "class"])
@pytest.mark.parametrize(("sigmoid", "named"), [(True, False), (False, True), (True, True)])
def test_layers_with_four_score_columns_are_told_apart_by_a_sigmoid_or_a_name(
    propose_raw: Propose, first: str, sigmoid: bool, named: bool
) -> None:
    head = head_of(propose_raw(layers_of_four(first=first, sigmoid=sigmoid, named=named), names=["a", "b", "c"]))
    even, odd = (tuple(outs) for outs in ([f"out{i}" for i in range(0, 12, 2)], [f"out{i}" for i in range(1, 12, 2)]))
    boxes = tuple(f"box{size}" for size in (19, 10, 5, 3, 2, 1)) if named else even if first == "box" else odd

    assert (head["kind"], head["boxes"], head["activation"]) == ("ssd-anchors", boxes, "none" if sigmoid else "sigmoid")
    assert set(head["scores"]).isdisjoint(boxes)
    assert len(head["scores"]) == 6


def test_layers_with_four_score_columns_and_no_sign_are_asked_about_and_either_answer_works(propose_raw: Propose) -> None:
    raw = layers_of_four(named=False)
    with pytest.raises(AmbiguousModelError, match="look alike") as caught:
        propose_raw(raw)

    for choice, first in zip(caught.value.choices, (0, 1), strict=True):
        said = dict(_setting(text) for text in re.findall(r"--set (\S+)", choice))
        head = head_of(propose_raw(raw, extra=said))
        assert (head["boxes"], head["scores"]) == (tuple(range(first, 12, 2)), tuple(range(1 - first, 12, 2)))
        assert head_of(propose_raw(raw, extra={"head.boxes": said["head.boxes"]}))["scores"] == tuple(
            f"out{i}" for i in range(1 - first, 12, 2)
        )


# -- EfficientDet before its post-processing -----------------------------------------------------------------------------------


def efficientdet(size: int, classes: int, *, joined: bool) -> bytes:
    """Class logits and box offsets: each over all anchors, or in one map a level, as AutoML's `model_inspect.py` exports them."""
    maker = Maker()
    x = maker.input((1, size, size, 3))
    sides = [-(-size // stride) for stride in (8, 16, 32, 64, 128)]
    if joined:
        rows = 9 * sum(side * side for side in sides)
        return maker.outputs(
            maker.stirred(x, raw_numbers(1, rows, classes) - 3, name="class"), maker.stirred(x, raw_numbers(1, rows, 4), name="box")
        )
    outputs = [maker.stirred(x, raw_numbers(1, side, side, 9 * classes) - 3, name=f"class{side}") for side in sides]
    return maker.outputs(*outputs, *(maker.stirred(x, raw_numbers(1, side, side, 36), name=f"box{side}") for side in sides))


@pytest.mark.parametrize("joined", [False, True])
@pytest.mark.parametrize(("size", "scale"), [(320, 3.0), (512, 4.0)])
@pytest.mark.parametrize("names", [(), ("ant", "bee", "cat", "dog", "elk")])
def test_raw_efficientdet_has_no_background_and_offsets_as_they_are(
    propose_raw: Propose, size: int, scale: float, names: Sequence[str], joined: bool
) -> None:
    proposal = propose_raw(efficientdet(size, 5, joined=joined), names=names)
    head = head_of(proposal)

    assert (head["kind"], head["background"], head["activation"], head["code"]) == ("ssd-anchors", None, "sigmoid", "yxhw")
    assert head["scales"] == (1.0, 1.0, 1.0, 1.0)
    octaves = head["octaves"]
    assert (octaves["anchor_scale"], octaves["even"], octaves["order"], octaves["scales_per_octave"]) == (scale, True, "scales", 3)
    assert head["boxes"] == (("box",) if joined else tuple(f"box{-(-size // stride)}" for stride in (8, 16, 32, 64, 128)))
    assert any("head.octaves" in assumption for assumption in proposal.assumptions)


def test_a_rule_of_its_own_keeps_what_else_the_family_has(propose_raw: Propose) -> None:
    rule = {"anchor_scale": 5, "scales_per_octave": 3, "order": "scales", "even": True}
    head = head_of(propose_raw(efficientdet(320, 5, joined=True), extra={"head.octaves": rule}))

    assert (head["octaves"]["anchor_scale"], head["octaves"]["even"], head["scales"], head["background"]) == (5, True, (1.0,) * 4, None)


@pytest.mark.parametrize(("size", "top"), [(256, 7), (320, 6)])
def test_a_model_makers_network_whose_notes_were_lost_keeps_its_rule(propose_raw: Propose, size: int, top: int) -> None:
    rule = OctaveAnchors(anchor_scale=3, scales_per_octave=3, aspect_ratios=(0.5, 1, 2), order="scales", max_level=top)
    rows = len(make_anchors(rule, (size, size)))
    head = head_of(propose_raw(noted(None, rows=rows, size=size)))

    assert head["octaves"] == asdict(rule)
    assert (head["scales"], head["background"]) == ((1.0,) * 4, 0)
