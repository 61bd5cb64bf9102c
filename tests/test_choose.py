"""The choice of a model: the profile's family first, only cards that can do what is asked."""

import pytest

from edgeannot.cards import ModelCard
from edgeannot.choose import choose
from edgeannot.errors import ConfigError


def card(name, family, labels=("person",), sizes=(), task="detect"):
    return ModelCard.model_validate(
        {
            "schema": 1,
            "name": name,
            "file": "x.tflite",
            "sha256": "0" * 64,
            "task": task,
            "family": family,
            "input": {"width": 416, "height": 416, "sizes": sizes},
            "head": {"kind": "yolo-grid", "grids": [{"output": 0, "anchors": [[1, 2]]}]},
            "labels": {"names": labels},
        }
    )


YOLO = card("yolo", "yolo", ("person", "dog"), (192, 224, 320, 416))
SSD = card("ssd", "ssd", ("person", "mug"))


def test_no_model_at_all_is_an_error_that_says_how_to_add_one():
    with pytest.raises(ConfigError, match="edgeannot models add"):
        choose("low", [])


@pytest.mark.parametrize(("profile", "name"), [("low", "yolo@224"), ("mid", "yolo@320"), ("high", "ssd")])
def test_a_weak_board_gets_a_small_yolo_and_a_good_one_the_ssd(profile, name):
    assert choose(profile, [SSD, YOLO]).card.name == name


def test_labels_that_only_one_model_knows_decide():
    assert choose("low", [SSD, YOLO], labels=("mug",)).card.name == "ssd"


def test_labels_that_no_model_knows_are_an_error():
    with pytest.raises(ConfigError, match="zebra"):
        choose("low", [SSD, YOLO], labels=("zebra",))


def test_the_task_is_respected():
    assert choose("low", [YOLO, card("net", "mobilenet", task="classify")], task="classify").card.name == "net"


def test_the_reasons_are_words():
    assert choose("low", [SSD, YOLO]).reasons[0] == "yolo before ssd"


def test_a_card_without_its_label_file_is_no_obstacle_where_no_label_is_asked_for():
    lost = YOLO.model_copy(update={"name": "zlost", "labels": YOLO.labels.model_copy(update={"file": "/nonexistent", "names": ()})})

    assert choose("low", [YOLO, lost]).card.name == "yolo@224"
