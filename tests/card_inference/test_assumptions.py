"""For each assumption that `models add` prints: a network for which it is wrong, the printed sentence, and its option that makes it right.

The networks are made by our own writer.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgeannot.card_inference import RANGES, Proposal, interpretation, parse_anchors, parse_range
from edgeannot.card_inference.interpretation import ASSUMPTIONS, Assumption
from edgeannot.cli.commands.models import _setting
from tests.card_inference.made import CELLS, SIZE, STRIDES, Propose, annotated, head_of, picked_apart, raw_numbers, rows_model, scores
from tests.card_inference.test_ssd_kinds import efficientdet
from tests.tflite_maker import Maker, cell_table, schema


@dataclass(frozen=True)
class Case:
    """A model, what the user says of it, the options that the sentence names, and how it shows that the card is right."""

    raw: Callable[[], bytes]
    options: str
    right: Callable[[Proposal], bool]
    names: tuple[str, ...] = ()
    hints: tuple[tuple[str, Any], ...] = ()
    names_after: tuple[str, ...] = ()


def field(name: str, value: object) -> Callable[[Proposal], bool]:
    return lambda proposal: head_of(proposal)[name] == value


def of_maker(*values: NDArray[np.float32], activations: str = "") -> bytes:
    """A graph whose outputs hold the values; for each letter in `activations` a sigmoid (g) or softmax (s) behind it."""
    maker = Maker()
    x = maker.input((1, SIZE, SIZE, 3))
    made = [maker.stirred(x, value, name=f"out{i}") for i, value in enumerate(values)]
    does = {"g": maker.logistic, "s": maker.softmax}
    return maker.outputs(*(does[how](y) if how in does else y for y, how in zip(made, activations.ljust(len(made)), strict=True)))


def joined(*parts: NDArray[np.float32], sigmoids: tuple[int, ...] = (), softmaxes: tuple[int, ...] = ()) -> bytes:
    """One output that the graph joins along the last axis, some parts behind an activation."""
    maker = Maker()
    x = maker.input((1, SIZE, SIZE, 3))
    made = [maker.stirred(x, part) for part in parts]
    for i in range(len(made)):
        made[i] = maker.logistic(made[i]) if i in sigmoids else maker.softmax(made[i]) if i in softmaxes else made[i]
    return maker.outputs(maker.concat(made))


def columns(table: NDArray[np.float32]) -> bytes:
    return rows_model(cell_table(SIZE, STRIDES), table, columns=True)


def one_good(low: float, high: float, good: float) -> NDArray[np.float32]:
    """Scores of a class for each cell, one of them outside of the range of the others."""
    table = np.random.default_rng(1).uniform(low, high, (CELLS, 1)).astype(np.float32)
    table[100] = good
    return table


def strides_of_pico() -> bytes:
    sizes = [SIZE // stride for stride in (8, 16, 32)] + [2]
    return of_maker(*(raw_numbers(1, n, n, width) for n in sizes for width in (32, 3)), activations=" g" * 4)


def picked_rows() -> bytes:
    rng = np.random.default_rng(4)
    corner = rng.uniform(0, 0.5, (1, 300, 2))
    best = np.sort(rng.uniform(0, 0.4, (1, 300, 1)), axis=1)[:, ::-1]
    maker = Maker()
    x = maker.input((1, SIZE, SIZE, 3))
    values = maker.stirred(x, np.concatenate([corner, corner + 0.3, best], axis=2), 1e-5)
    return maker.outputs(maker.concat([values, maker.constant(rng.integers(0, 7, (1, 300, 1)))]))


def queries(none_leads: bool = False) -> bytes:
    """Boxes and five class scores of a transformer's queries. none_leads: most say "no object", which is their last column."""
    maker = Maker()
    x = maker.input((1, SIZE, SIZE, 3))
    top = maker.op(
        "TOPK_V2", [maker.stirred(x, np.zeros((1, 400))), maker.constant(300, "int32")], (1, 300), (1, 300), options=schema.TopKV2OptionsT()
    )
    maker.retype(top + 1, "int32")
    rng = np.random.default_rng(6)
    boxes = np.concatenate([rng.uniform(0.05, 0.95, (1, 300, 2)), rng.uniform(0.02, 0.4, (1, 300, 2))], axis=2)
    logits = raw_numbers(1, 300, 5) + np.array([-2, -2, -2, -2, 6], np.float32) if none_leads else 3 * raw_numbers(1, 300, 5)
    return maker.outputs(maker.stirred(x, logits, name="logits"), maker.stirred(x, boxes, name="boxes"))


def ssd(size: int = 300, count: int = 1917) -> bytes:
    maker = Maker()
    x = maker.input((1, size, size, 3))
    boxes, logits = maker.stirred(x, raw_numbers(1, count, 4), name="boxes"), maker.stirred(x, 3 * raw_numbers(1, count, 5), name="classes")
    return maker.outputs(boxes, logits)


def ssd_with_corners() -> bytes:
    boxes = cell_table(SIZE, STRIDES) / SIZE
    corners = np.concatenate([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], axis=1)
    maker = Maker()
    x = maker.input((1, SIZE, SIZE, 3))
    found = maker.logistic(maker.stirred(x, raw_numbers(1, CELLS, 1)))
    return maker.outputs(maker.stirred(x, raw_numbers(1, CELLS, 4)), found, maker.constant(corners[None], name="anchors"))


def centroids() -> bytes:
    return of_maker(raw_numbers(1, 12, 12, 3) + np.array([4, 0, 0], np.float32), activations="s")


def fastest_det() -> bytes:
    return joined(*(raw_numbers(1, 6, 6, width) for width in (1, 4, 3)), sigmoids=(0,), softmaxes=(2,))


CASES = {
    "INPUT_NUMBERS": Case(lambda: columns(scores(CELLS, 3)), "--input-range 0..255", lambda p: p.card.input.std == (1.0,)),
    "COLOR_ORDER": Case(
        lambda: rows_model(cell_table(SIZE, STRIDES), scores(CELLS, 3)), "--color RGB", lambda p: p.card.input.color == "RGB", ("a", "b")
    ),
    # A score from -3 to 1, made without a sigmoid.
    "LOGITS": Case(
        lambda: columns(one_good(-3, -1, 0.9)),
        "--set head.activation=none",
        lambda p: annotated(p).detections.scores == pytest.approx([0.9], abs=0.01),
    ),
    "SOFTMAX": Case(lambda: of_maker(raw_numbers(1, 3)), "--set head.activation=sigmoid", field("activation", "sigmoid"), ("a", "b", "c")),
    # Logits of which the graph has cut off all below 0.
    "PERCENTAGES": Case(
        lambda: columns(one_good(0, 0, 12)),
        "--set head.activation=sigmoid",
        lambda p: float(annotated(p).detections.scores.max(initial=0)) > 0.99,
    ),
    "CORNER_POINTS": Case(
        lambda: joined(raw_numbers(1, CELLS + 4, 5), raw_numbers(1, CELLS + 4, 32), sigmoids=(0,)),
        "--set head.center=0.5",
        field("center", 0.5),
    ),
    "MIDDLE_POINTS": Case(
        strides_of_pico, "--set head.center=0 --color BGR", lambda p: head_of(p)["center"] == 0 and p.card.input.color == "BGR"
    ),
    "X_FIRST": Case(picked_rows, "--set head.box_form=yxyx", field("box_form", "yxyx")),
    "Y_FIRST": Case(partial(picked_apart, 10, counted=True), "--set head.box_form=xyxy", field("box_form", "xyxy")),
    "CLASS_SIGMOIDS": Case(queries, "--set head.activation=softmax", field("activation", "softmax")),
    "NO_OBJECT": Case(
        lambda: queries(none_leads=True),
        "--set head.activation=sigmoid",
        lambda p: head_of(p)["background"] is None and p.card.task == "detect",
    ),
    "QUERY_ORDER": Case(queries, "--set head.box_form=cycxhw", field("box_form", "cycxhw")),
    "SEVENTEEN_BINS": Case(
        lambda: of_maker(*(raw_numbers(1, n, n, width) for n in (12, 6, 3) for width in (68, 80)), activations=" g" * 3),
        "--set head.center=0.5 --input-range 0..1 --resize letterbox",
        lambda p: (head_of(p)["center"], p.card.input.std, p.card.input.resize) == (0.5, (255.0,), "letterbox"),
    ),
    "SECOND_OF_TWO": Case(
        lambda: of_maker(*[np.concatenate([cell_table(SIZE, STRIDES), scores(CELLS, 5)], axis=1).T[None]] * 2),
        "--set head.output=out0",
        field("output", "out0"),
    ),
    "CORNER_OFFSETS": Case(ssd_with_corners, "--set head.code=xywh", field("code", "xywh")),
    "CENTRE_OFFSETS": Case(ssd, "--set head.code=xywh", field("code", "xywh")),
    "NINE_BOXES": Case(
        lambda: efficientdet(320, 5, joined=True),
        "--set head.octaves.anchor_scale=4",
        lambda p: head_of(p)["octaves"]["anchor_scale"] == 4,
    ),
    "BACKGROUND": Case(ssd, "--labels", field("background", None), names_after=tuple("abcde")),
    "OBJECTNESS": Case(lambda: columns(scores(CELLS, 3)), "--set head.objectness=true", field("objectness", True)),
    "GRID_SIZES": Case(
        lambda: of_maker(3 * raw_numbers(1, 3, 3, 21), 3 * raw_numbers(1, 6, 6, 21)),
        "--set head.size=square --set head.xy_scale=2",
        lambda p: (head_of(p)["size"], head_of(p)["xy_scale"]) == ("square", 2),
        ("a", "b"),
        (("anchors", parse_anchors("1,2 3,4 5,6 10,12 14,16 18,20")),),
    ),
    "CELL_SCORE": Case(centroids, "--min-score 0.3", lambda p: p.card.defaults.min_score == 0.3),
    "SQUEEZED": Case(centroids, "--resize letterbox", lambda p: p.card.input.resize == "letterbox"),
    "SCORE_POWERS": Case(
        fastest_det,
        "--set head.objectness_power=1 --set head.class_power=1",
        lambda p: (head_of(p)["objectness_power"], head_of(p)["class_power"]) == (1, 1),
    ),
}


def test_there_is_a_case_for_each_assumption() -> None:
    assert {name for name, value in vars(interpretation).items() if isinstance(value, Assumption)} == set(CASES)
    assert len(ASSUMPTIONS) == len(CASES)


def is_of(sentence: str, assumption: Assumption) -> bool:
    """Tell whether a sentence was made of an assumption."""
    wanted = "".join(".+" if part.startswith("{") else re.escape(part) for part in re.split(r"(\{\w+\})", assumption.says))
    return re.fullmatch(rf"{wanted} \(--.+\)", sentence) is not None


def hints_of(options: str) -> dict[str, Any]:
    """Options as they are typed, as hints."""
    given = dict(re.findall(r"(--(?!set)[a-z-]+) (\S+)", options))
    hints: dict[str, Any] = {"extra": dict(_setting(text) for text in re.findall(r"--set (\S+)", options))}
    if "--input-range" in given:
        hints["input_range"] = parse_range(given["--input-range"], RANGES)
    if "--min-score" in given:
        hints["min_score"] = float(given["--min-score"])
    return hints | {name: given[f"--{name}"] for name in ("color", "resize") if f"--{name}" in given}


@pytest.mark.parametrize("name", CASES)
def test_a_wrong_assumption_is_seen_and_its_option_makes_it_right(propose_raw: Propose, name: str) -> None:
    case, assumption = CASES[name], getattr(interpretation, name)
    raw, said = case.raw(), dict(case.hints)
    before = propose_raw(raw, names=case.names, **said)
    printed = [sentence for sentence in before.assumptions if is_of(sentence, assumption)]
    after = propose_raw(raw, names=case.names_after or case.names, **said, **hints_of(case.options))

    assert len(printed) == 1, before.assumptions
    for option in re.findall(r"--set [\w.]+(?==)|--(?!set)[a-z-]+", case.options):
        assert option in printed[0]
    assert not case.right(before)
    assert case.right(after)
    assert printed[0] not in after.assumptions
