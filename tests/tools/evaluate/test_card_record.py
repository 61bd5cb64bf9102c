"""Figures go into a card and nothing else in it changes."""

from __future__ import annotations

import math

import pytest

from edgeannot.base.errors import CardError
from edgeannot.vision.cards import Measured, read_card
from edgeannot_tools.evaluate.command import record_measured

CARD = """\
# what this model is good for
schema = 1
name = "tiny"   # a name
file = "tiny.tflite"
sha256 = "{sha}"
task = "detect"
family = "ssd"

[input]
width = 300
height = 300

[head]
kind = "ssd-postprocess"
boxes = 0
classes = 1
scores = 2
""".format(sha="0" * 64)

ROW = Measured(dataset="coco_val50", size=300, numbers="int8", pictures=50, map50=0.4, map50_95=0.25, mean_iou=0.76)


@pytest.fixture
def card(tmp_path):
    path = tmp_path / "tiny.toml"
    path.write_text(CARD)
    return path


def test_the_rest_of_the_card_stays_as_it_was(card):
    record_measured(card, ROW)

    assert card.read_text().startswith(CARD)
    assert read_card(card).measured == (ROW,)


def test_the_same_measurement_again_takes_the_place_of_the_first(card):
    record_measured(card, ROW)
    record_measured(card, ROW.model_copy(update={"dataset": "other"}))
    better = ROW.model_copy(update={"map50": 0.5, "pictures": 49})
    record_measured(card, better)

    assert read_card(card).measured == (better, ROW.model_copy(update={"dataset": "other"}))


def test_a_margin_does_not_stay_with_another_figure(card):
    record_measured(card, ROW.model_copy(update={"map50_margin": 0.05}))
    assert read_card(card).measured[0].map50_margin == 0.05
    record_measured(card, ROW)

    assert read_card(card).measured == (ROW,), "as one of a version without margins"


def test_comments_between_rows_survive(card):
    row = '\n[[measured]]  # by hand\ndataset = "mine"\nsize = 300\nnumbers = "int8"\npictures = 3\n'
    card.write_text(CARD + row + '\n[labels]  # after it\nnames = ["cat"]\n')

    record_measured(card, ROW)

    text = card.read_text()
    assert "# by hand" in text
    assert "# after it" in text
    assert [row.dataset for row in read_card(card).measured] == ["mine", "coco_val50"]


def test_an_inline_list_becomes_tables(card):
    card.write_text("measured = []\n" + CARD)

    record_measured(card, ROW)

    assert read_card(card).measured == (ROW,)


def test_a_figure_that_does_not_exist_is_left_out(card):
    record_measured(card, ROW.model_copy(update={"mean_iou": math.nan}))

    assert read_card(card).measured[0].mean_iou is None


def test_a_file_that_is_no_card_stays_as_it_was(tmp_path):
    path = tmp_path / "other.toml"
    path.write_text("a = 1\n")

    with pytest.raises(CardError):
        record_measured(path, ROW)

    assert path.read_text() == "a = 1\n"
    assert [file.name for file in tmp_path.iterdir()] == ["other.toml"]


def test_a_missing_card_is_an_error(tmp_path):
    with pytest.raises(CardError, match="cannot be read"):
        record_measured(tmp_path / "none.toml", ROW)
