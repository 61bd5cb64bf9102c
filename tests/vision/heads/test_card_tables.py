"""The `[head]` table of a card, read by pydantic into the dataclasses of this package."""

from __future__ import annotations

import tomllib
from dataclasses import fields, is_dataclass
from typing import Annotated, Any

import pytest
from pydantic import PlainValidator, TypeAdapter, ValidationError

from edgeannot.vision.cards import read_head
from edgeannot.vision.heads import Head
from tests.vision.heads.examples import EXAMPLES

HEAD = TypeAdapter(Annotated[Head, PlainValidator(read_head)])


def table_of(value: Any) -> Any:
    """What a card would say: TOML has tables, arrays, strings, numbers and booleans, and no way to say None."""
    if is_dataclass(value):
        return {f.name: table_of(getattr(value, f.name)) for f in fields(value) if getattr(value, f.name) is not None}
    return [table_of(v) for v in value] if isinstance(value, tuple) else value


@pytest.mark.parametrize("name", EXAMPLES)
def test_each_kind_is_read_back_from_its_table(name):
    head = EXAMPLES[name].head
    assert HEAD.validate_python(table_of(head)) == head


def test_grids_are_an_array_of_tables():
    text = """
        kind = "yolo-grid"
        xy_scale = 1.05
        [[grids]]
        output = "Identity"
        anchors = [[81, 82], [135, 169], [344, 319]]
        [[grids]]
        output = 1
        anchors = [[23, 27], [37, 58], [81, 82.5]]
    """
    head = HEAD.validate_python(tomllib.loads(text))
    assert [grid.output for grid in head.grids] == ["Identity", 1]
    assert head.grids[1].anchors == ((23.0, 27.0), (37.0, 58.0), (81.0, 82.5))


def test_an_anchor_rule_is_a_table_of_its_own():
    text = """
        kind = "ssd-anchors"
        boxes = ["raw_outputs/box_encodings"]
        scores = ["raw_outputs/class_predictions"]
        activation = "sigmoid"
        background = 0
        [scaled]
        strides = [16, 32, 64, 128, 256, 512]
        reduce_lowest = true
    """
    head = HEAD.validate_python(tomllib.loads(text))
    assert head.scaled.strides == (16, 32, 64, 128, 256, 512)
    assert head.scaled.reduce_lowest is True
    assert head.scaled.reference_size == 0  # cards from before there was one have anchors as before
    assert HEAD.validate_python(tomllib.loads(f"{text}\nreference_size = 300")).scaled.reference_size == 300
    with pytest.raises(ValidationError, match="a reference size from 0"):
        HEAD.validate_python(tomllib.loads(f"{text}\nreference_size = -1"))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({}, "kind"),
        ({"kind": "yolo-v99"}, "yolo-v99"),
        ({"kind": "classify", "topk": 3}, "topk"),
        ({"kind": "classify", "activation": "tanh"}, "activation"),
        ({"kind": "yolo-rows", "output": 0, "layout": "rows", "objectness": True}, "box_units"),
        ({"kind": "yolo-grid", "grids": [{"output": 0, "anchors": [[1, 2, 3]]}]}, "anchors"),
        ({"kind": "yolo-grid", "grids": [{"output": 0, "anchor": [[1, 2]]}]}, "anchor"),
        ({"kind": "ssd-anchors", "boxes": [0], "scores": [1], "activation": "sigmoid", "scaled": {"stride": [8]}}, "scaled"),
        ({"kind": "joined", "first_ids": [0]}, "parts"),
        (
            {"kind": "joined", "parts": [{"kind": "joined", "parts": [], "first_ids": []}], "first_ids": [0]},
            "parts of other kinds than joined",
        ),
        ({"kind": "joined", "parts": [{"kind": "classify", "topk": 3}], "first_ids": [0]}, "topk"),
    ],
)
def test_a_table_that_is_wrong_is_refused_and_the_field_named(table, message):
    with pytest.raises(ValidationError, match=message):
        HEAD.validate_python(table)
