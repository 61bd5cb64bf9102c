"""What refusals, label files and names say: only what leads on, and pages that exist."""

from __future__ import annotations

import ast
import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer

from edgeannot.base.errors import CardError, ModelError
from edgeannot.card_inference import AmbiguousModelError, read_labels
from edgeannot.card_inference.interpretation import Assumption
from edgeannot.cli.commands.models import models_app
from edgeannot.vision.heads import HEADS
from edgeannot.vision.heads.ssd_anchors import SsdAnchors
from tests.card_inference.made import CELLS, SIZE, STRIDES, Propose, head_of, raw_numbers, rows_model, scores
from tests.tflite_maker import Maker, cell_table, with_files

ROOT = Path(__file__).resolve().parents[2]
CODE = sorted((ROOT / "edgeannot/card_inference").glob("*.py")) + [
    ROOT / "edgeannot" / name for name in ("library/modelstore.py", "cli/commands/models.py", "vision/heads/_tensors.py")
]


def sentences() -> list[tuple[str, str]]:
    """(file, text) of every text in the code that speaks to the user, the places of f-strings as `{}`, docstrings left out."""
    found = []
    for path in CODE:
        tree = ast.parse(path.read_text())
        docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        inner = {id(value) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for value in node.values}
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                parts = (str(v.value) if isinstance(v, ast.Constant) else "{}" for v in node.values)
                found.append((path.name, "".join(parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs | inner:
                found.append((path.name, node.value))
    return found


def test_every_option_that_a_sentence_names_is_one_of_models_add() -> None:
    command: Any = typer.main.get_command(models_app)
    options = {flag for parameter in command.commands["add"].params for flag in parameter.opts}
    own = [(name, re.sub(r"`edgeannot run[^`]*`", "", text)) for name, text in sentences()]  # that command has options of its own
    named = {(name, flag) for name, text in own for flag in re.findall(r"(?<![\w-])--[a-z][a-z-]*", text)}

    assert len(named) > 20
    assert {item for item in named if item[1] not in options} == set()


def test_every_field_that_a_sentence_says_to_set_is_one_of_a_head_or_card() -> None:
    known = {field.name for kind in HEADS.known.values() for field in fields(kind)} | {"{}"}
    named = {(name, key) for name, text in sentences() for key in re.findall(r"--set '?head\.([a-z_{}]+)", text)}

    assert len(named) > 10
    assert {item for item in named if item[1] not in known} == set()


def test_every_page_that_a_sentence_names_is_there_with_its_heading() -> None:
    named = {match for _, text in sentences() for match in re.findall(r"(docs/[a-z-]+\.md), ([A-Z][\w ]+)", text)}

    assert named
    for page, heading in named:
        assert re.search(rf"^#+ {heading}$", (ROOT / page).read_text(), re.MULTILINE), f"{page} has no {heading}"


# -- label files -------------------------------------------------------------------------------------------------------------------


def three_classes() -> bytes:
    return rows_model(cell_table(SIZE, STRIDES) / SIZE, scores(CELLS, 3), columns=True)


def test_a_first_line_for_nothing_among_as_many_lines_as_classes_is_explained_and_the_way_out_works(propose_raw: Propose) -> None:
    names = ["-", "a", "b"]
    with pytest.raises(CardError, match=r"3 classes.*3 lines.*'-'.*stands for no object.*leaves 2 names.*--label-offset 0") as caught:
        propose_raw(three_classes(), names=names)
    assert "--set labels.ignore=[]" in str(caught.value)

    card = propose_raw(three_classes(), names=names, label_offset=0, extra={"labels.ignore": []}).card
    assert (card.label_names(), card.labels.ignore) == (("-", "a", "b"), ())


@pytest.mark.parametrize(("lines", "says", "offset"), [(["a"], "2 too few", False), (["a", "b", "c", "d", "e"], "2 too many", True)])
def test_a_refused_label_file_says_how_many_lines_are_wrong(propose_raw: Propose, lines: list[str], says: str, offset: bool) -> None:
    """An offset is no way out where lines lack."""
    with pytest.raises(CardError, match=says) as caught:
        propose_raw(three_classes(), names=lines)
    assert ("--label-offset" in str(caught.value)) == offset


def test_counts_in_a_sentence_have_their_number(propose_raw: Propose) -> None:
    proposal = propose_raw(rows_model(cell_table(SIZE, STRIDES) / SIZE, scores(CELLS, 1), columns=True), names=["cat"])

    assert any("has 1 line for 1 class: line = class" in line for line in proposal.evidence)


# -- names ---------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("b'QR_Code'\nb'Bar code'\n", ("QR_Code", "Bar code")),
        ("'cat',\n\"dog\"\n", ("cat", "dog")),
        ("0 b'cat'\n1 b'dog'\n", ("cat", "dog")),
        ("driver's seat\n'tis\n", ("driver's seat", "'tis")),
    ],
)
def test_names_lose_what_a_program_has_left_around_them(tmp_path: Path, text: str, names: tuple[str, ...]) -> None:
    (tmp_path / "labels.txt").write_text(text)

    assert read_labels(tmp_path / "labels.txt") == names


def test_names_that_a_program_has_left_as_bytes_in_the_file_are_plain(propose_raw: Propose) -> None:
    raw = three_classes()

    assert propose_raw(with_files(raw, {"labels.txt": "b'a'\nb'b'\nb'c'\n"})).card.label_names() == ("a", "b", "c")
    notes = json.dumps({"task": "detect", "names": {"0": "b'a'", "1": "b", "2": "c"}})
    assert propose_raw(with_files(raw, {"metadata.json": notes})).card.label_names() == ("a", "b", "c")


def blaze() -> bytes:
    maker = Maker()
    x = maker.input((1, 128, 128, 3))
    return maker.outputs(maker.stirred(x, raw_numbers(1, 896, 16)), maker.stirred(x, raw_numbers(1, 896, 1)))


@pytest.mark.parametrize("thing", ["face", "object"])
def test_one_class_without_a_name_gets_one_and_it_is_said_but_no_question_comes_of_it(propose_raw: Propose, thing: str) -> None:
    """Six keypoints and the anchors of BlazeFace say that it finds faces. A name changes no box, so it is no assumption."""
    raw = blaze() if thing == "face" else rows_model(cell_table(SIZE, STRIDES) / SIZE, scores(CELLS, 1), columns=True)
    proposal = propose_raw(raw)

    assert (proposal.card.label_names(), proposal.named) == ((thing,), False)
    assert any(f"no name for it, so it is called {thing} (--labels FILE)" in line for line in proposal.evidence)
    assert not any("--labels" in assumption for assumption in proposal.assumptions)
    assert propose_raw(raw, names=["mask"]).card.label_names() == ("mask",)


def test_the_17_points_of_a_body_belong_to_a_person(propose_raw: Propose) -> None:
    cells = cell_table(SIZE, STRIDES)[:, :2]
    points = np.concatenate([np.concatenate([cells + 3 * i, scores(CELLS, 1)], axis=1) for i in range(17)], axis=1)
    proposal = propose_raw(rows_model(cell_table(SIZE, STRIDES), np.concatenate([scores(CELLS, 1), points], axis=1), columns=True))

    assert proposal.card.label_names() == ("person",)


# -- refusals ------------------------------------------------------------------------------------------------------------------------


def test_anchors_by_hand_say_what_else_is_assumed_of_the_offsets(propose_raw: Propose) -> None:
    maker = Maker()
    x = maker.input((1, SIZE, SIZE, 1))
    count = 2 * (144 + 36)
    boxes, found = maker.stirred(x, raw_numbers(1, count, 4), name="boxes"), maker.stirred(x, 3 * raw_numbers(1, count, 2), name="scores")
    raw = maker.outputs(boxes, found)
    rule = {"strides": [8, 16], "aspect_ratios": [1.0], "interpolated_aspect_ratio": 1.0}

    with pytest.raises(AmbiguousModelError, match=r"360 anchors.*--set head\.scaled.*--set head\.code"):
        propose_raw(raw)
    proposal = propose_raw(raw, extra={"head.scaled": rule})
    assert any("--set head.code=xywh" in assumption and "head.scales" in assumption for assumption in proposal.assumptions)
    assert head_of(propose_raw(raw, extra={"head.scaled": rule, "head.code": "xywh"}))["code"] == "xywh"


def test_outputs_that_look_alike_are_told_apart_by_either_choice_as_it_stands(propose_raw: Propose) -> None:
    maker = Maker()
    x = maker.input((1, 300, 300, 3))
    raw = maker.outputs(*(maker.stirred(x, 3 * raw_numbers(1, 1917, 4), name=name) for name in ("a", "b")))

    with pytest.raises(AmbiguousModelError) as caught:
        propose_raw(raw)
    for choice, boxes in zip(caught.value.choices, ((0,), (1,)), strict=True):
        said = dict(re.findall(r"--set (head\.\w+)=(\d)", choice))
        head = propose_raw(raw, extra={key: int(value) for key, value in said.items()}).card.head
        assert isinstance(head, SsdAnchors)
        assert head.boxes == boxes


def parts(*, strides: tuple[int, ...] = STRIDES, bins: int = 8, classes: int = 80) -> list[tuple[str, int, int]]:
    """(what, stride, channels) of the outputs of a detector with distances in bins, a stride after the other."""
    return [part for stride in strides for part in (("box", stride, 4 * bins), ("score", stride, classes))]


def with_outputs(kept: list[tuple[str, int, int]], *, size: int = 320, rows: bool = True) -> bytes:
    """A network that gives these outputs only, as rows of cells or as maps; scores come out of a sigmoid."""
    maker = Maker()
    x = maker.input((1, size, size, 3))
    made = []
    for what, stride, channels in kept:
        side = size // stride
        shape = (1, side * side, channels) if rows else (1, side, side, channels)
        y = maker.stirred(x, raw_numbers(*shape), name=f"{what}{stride}")
        made.append(maker.logistic(y, f"{what}{stride}") if what == "score" else y)
    return maker.outputs(*made)


@pytest.mark.parametrize("rows", [True, False])
@pytest.mark.parametrize(("bins", "classes"), [(8, 80), (16, 3)])
@pytest.mark.parametrize(
    ("kept", "says"),
    [
        ((0, 2, 4), "no class scores for the strides 8, 16 and 32"),
        ((1, 3, 5), "class scores for the strides 8, 16 and 32, but no boxes"),
        ((0, 1), "nothing but stride 8"),
        ((0, 1, 2), "no class scores for stride 16"),
        ((0, 1, 2, 3, 4), "no class scores for stride 32"),
        ((0, 1, 2, 3, 5), "no boxes for stride 32"),
        ((3, 0), "no class scores for stride 8 and no boxes for stride 16"),
    ],
)
def test_outputs_that_were_cut_off_are_named(
    propose_raw: Propose, kept: tuple[int, ...], says: str, bins: int, classes: int, rows: bool
) -> None:
    """As of NanoDet's six outputs, of which an exporter or a splitter left some behind."""
    whole = parts(bins=bins, classes=classes)

    with pytest.raises(ModelError, match=rf"{says}.*export it with all of its outputs") as caught:
        propose_raw(with_outputs([whole[i] for i in kept], rows=rows))
    assert "nearly as large as the picture" not in str(caught.value)


def test_all_outputs_or_others_are_not_said_to_be_cut_off(propose_raw: Propose) -> None:
    assert propose_raw(with_outputs(parts())).card.head.kind == "dfl"
    for others in ([("mask", 4, 32)], [("mask", 8, 21)], [("a", 8, 5), ("b", 16, 7)], [("depth", 8, 64)]):
        with pytest.raises(ModelError) as caught:
            propose_raw(with_outputs(others, rows=False))
        assert "all of its outputs" not in str(caught.value)


def test_rows_of_cells_are_no_map_as_large_as_the_picture(propose_raw: Propose) -> None:
    """100 cells of 80 numbers are not 100 by 80 pixels of a square picture."""
    with pytest.raises(ModelError) as caught:
        propose_raw(with_outputs([("score", 32, 80)]))
    assert "nearly as large" not in str(caught.value)
    maker = Maker()
    with pytest.raises(ModelError, match="nearly as large as the picture"):
        propose_raw(maker.outputs(maker.stirred(maker.input((1, 320, 320, 3)), raw_numbers(1, 160, 160))))


def test_every_assumption_names_an_option() -> None:
    assert all("--" in assumption.value[1] for assumption in Assumption)
