"""The facts of installed models, remembered: read from the cards again only when a file changed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edgeannot.choice.candidates import facts_of, read_card_index
from edgeannot.vision.cards import ModelCard, read_cards
from tests.patience import DEADLINE_S


@pytest.fixture
def folder(tmp_path, models_dir):
    """A copy of the bundled cards and labels, without the weights."""
    made = tmp_path / "models"
    made.mkdir()
    for path in models_dir.iterdir():
        if path.suffix in {".toml", ".txt"}:
            shutil.copy(path, made)
    return made


def names(folders, cache, wrong=lambda _: None):
    return [card.name for card in read_card_index(folders, cache, wrong)]


def test_no_folder_is_no_model(tmp_path):
    assert names([tmp_path / "none"], tmp_path / "cache.json") == []


def test_the_facts_are_the_cards(folder, tmp_path):
    found = read_card_index([folder], tmp_path / "cache.json")

    assert found == [facts_of(card) for card in read_cards([folder])]
    yolo = next(card for card in found if card.name == "yolov3-tiny")
    assert yolo.sizes == (192, 224, 256, 320, 416)
    assert yolo.labels[0] == "person"
    assert {(row.size, row.dtype) for row in yolo.accuracies} >= {(192, "int8"), (416, "float32")}


def test_what_is_remembered_is_the_same_and_needs_no_card(folder, tmp_path):
    first = read_card_index([folder], tmp_path / "cache.json")
    code = (
        "import sys\nfrom pathlib import Path\nfrom edgeannot.choice.candidates import read_card_index\n"
        "cards = read_card_index([Path(sys.argv[1])], Path(sys.argv[2]))\n"
        "print(len(cards), [m for m in ('numpy', 'pydantic', 'tomllib', 'cv2') if m in sys.modules])"
    )
    args = [sys.executable, "-c", code, str(folder), str(tmp_path / "cache.json")]
    done = subprocess.run(args, capture_output=True, text=True, timeout=DEADLINE_S, check=True)

    assert done.stdout.strip() == f"{len(first)} []"
    assert read_card_index([folder], tmp_path / "cache.json") == first


def test_a_card_that_changes_comes_or_goes_is_seen(folder, tmp_path):
    cache = tmp_path / "cache.json"
    names([folder], cache)
    card = folder / "ssdlite-mobilenet-v2-coco.toml"
    card.write_text(card.read_text().replace('family = "ssd"', 'family = "yolo"'))
    assert {c.name: c.family for c in read_card_index([folder], cache)}["ssdlite-mobilenet-v2-coco"] == "yolo"

    card.unlink()
    assert "ssdlite-mobilenet-v2-coco" not in names([folder], cache)


def test_a_changed_label_file_is_seen(folder, tmp_path):
    cache = tmp_path / "cache.json"
    names([folder], cache)
    labels = folder / "yolov3-tiny.labels.txt"
    labels.write_text(labels.read_text().replace("person", "people"))

    assert next(c for c in read_card_index([folder], cache) if c.name == "yolov3-tiny").labels[0] == "people"


def test_a_wrong_card_is_told_of_at_each_reading_and_the_others_serve(folder, tmp_path):
    (folder / "broken.toml").write_text("schema = 7")
    for _ in range(2):
        progress = []
        assert "yolov3-tiny" in names([folder], tmp_path / "cache.json", progress.append)
        assert len(progress) == 1


@pytest.mark.parametrize("cards", [None, [], [{}], [7], "x"])
def test_a_cache_of_another_form_is_read_from_the_cards(folder, tmp_path, cards):
    cache = tmp_path / "cache.json"
    expected = names([folder], cache)
    remembered = json.loads(cache.read_text())
    cache.write_text(json.dumps({**remembered, "cards": cards} if cards != [] else {**remembered, "stamp": None}))

    assert names([folder], cache) == expected


@pytest.mark.parametrize("wrong", [None, "x", 7, -1, 2.5, [], [None]], ids=repr)
def test_facts_of_another_hand_are_read_from_the_cards(folder, tmp_path, wrong):
    cache = tmp_path / "cache.json"
    expected = read_card_index([folder], cache)
    remembered = json.loads(cache.read_text())
    for place in (remembered["cards"][0], remembered["cards"][0]["accuracies"][0]):
        for key, right in place.items():
            if key not in ("named_sizes", "labels", "value") and type(wrong) is not type(right):
                place[key] = wrong
                cache.write_text(json.dumps(remembered))
                assert read_card_index([folder], cache) == expected, key
                place[key] = right


def test_a_file_whose_name_is_no_text_is_no_hindrance(folder, tmp_path):
    Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.txt")).touch()
    expected = read_card_index([folder], tmp_path / "cache.json")

    assert [each.name for each in tmp_path.iterdir() if each != folder] == ["cache.json"]
    assert read_card_index([folder], tmp_path / "cache.json") == expected


@pytest.mark.parametrize("name", ["yolov3-tiny.toml", "yolov3-tiny.tflite", "yolov3-tiny.labels.txt"])
def test_a_change_of_the_card_and_of_each_of_its_files_shows_in_its_time(folder, tmp_path, name):
    """What failed is tried again then: a card and its labels may be at fault, too."""

    def changed_at():
        return next(card for card in read_card_index([folder], tmp_path / "cache.json") if card.name == "yolov3-tiny").file_time_ns

    (folder / "yolov3-tiny.tflite").touch()
    before = changed_at()
    os.utime(folder / name, ns=(before + 5, before + 5))

    assert changed_at() == before + 5


def test_a_label_file_that_is_missing_is_known_as_missing(folder, tmp_path):
    (folder / "yolov3-tiny.labels.txt").unlink()

    assert next(c for c in read_card_index([folder], tmp_path / "c.json") if c.name == "yolov3-tiny").labels is None


def test_a_variant_belongs_to_the_network_it_names(folder):
    card = next(iter(read_cards([folder])))
    twin = ModelCard.model_validate({**card.model_dump(by_alias=True), "name": "twin", "variant_of": card.name})

    assert facts_of(twin).network == facts_of(card).network == card.name
