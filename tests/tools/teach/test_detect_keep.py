"""`teach detect --keep`: one file that finds what was taught, and what its backbone found before."""

from __future__ import annotations

import re

import numpy as np
import pytest
from typer.testing import CliRunner

from edgeannot.base.errors import InputError
from edgeannot.cli.commands.models import models_app
from edgeannot.vision.cards import find_card, read_card
from edgeannot.vision.pipeline import Limits, load_pipeline
from edgeannot_tools.datasets import Dataset, save_dataset
from edgeannot_tools.evaluate.measure import read_frame
from edgeannot_tools.teach.command import teach_app
from edgeannot_tools.teach.detect.backbone import load_backbone
from tests.tools.teach.made_pictures import made_set

BACKBONE = "ssdlite-mobilenet-v2-coco"
"""At 236 and 300 pixels, its own sizes, whose cells do not divide them evenly."""


def run(*words):
    result = CliRunner().invoke(teach_app, ["detect", *map(str, words)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.output


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keep")
    save_dataset(made_set(folder / "in", pictures=6), folder / "set", "yolo")
    options = ["--name", "more", "--views", 4, "--backbone", f"{BACKBONE}@236", "--keep", "--made", 2, "--data-dir", folder / "data"]
    return folder, run(folder / "set", *options)


def seen(card, image, **limits):
    found = load_pipeline(card, limits=Limits(**limits))(image)
    return list(zip(found.labels, found.detections.scores.tolist(), found.detections.boxes.tolist(), strict=True))


def test_the_old_classes_come_first_and_the_taught_one_last(kept, models_dir):
    folder, said = kept
    card, old = read_card(folder / "data" / "models" / "more.toml"), find_card(f"{BACKBONE}@236", [models_dir])

    assert card.label_names() == (*old.label_names(), "disc")
    assert (card.head.kind, card.head.first_ids) == ("joined", (0, 80))
    assert (card.input_wh, card.input.resize, card.defaults) == (old.input_wh, old.input.resize, old.defaults)
    assert "the threshold of the classes that are kept" in said
    assert CliRunner().invoke(models_app, ["verify", "more", "--data-dir", str(folder / "data")]).exit_code == 0


@pytest.mark.runtime_long
def test_what_was_found_before_is_found_as_before(kept, models_dir):
    """To the last bit: the same layers give the same numbers."""
    folder, _ = kept
    card, old = read_card(folder / "data" / "models" / "more.toml"), find_card(f"{BACKBONE}@236", [models_dir])
    photo = read_frame(models_dir.parent / "edgeannot" / "samples" / "cat.jpg", 0, "")

    before, after = seen(old, photo, min_score=0.05), seen(card, photo, min_score=0.05)

    assert "cat" in {label for label, _, _ in before}
    assert [row for row in after if row[0] != "disc"] == before


@pytest.mark.runtime
def test_what_was_taught_is_found_at_the_common_threshold(kept):
    folder, _ = kept
    card = read_card(folder / "data" / "models" / "more.toml")
    pictures = made_set(folder / "others", pictures=14).pictures[6:]

    found = 0
    for picture in pictures:
        boxes = [np.array(box) for label, _, box in seen(card, read_frame(picture.path, 0, "")) if label == "disc"]
        found += any(np.abs(box - picture.boxes()[0]).max() < 12 for box in boxes)

    assert found >= 6


def test_a_name_that_is_taken_is_refused(tmp_path):
    data = made_set(tmp_path / "in", pictures=2)
    save_dataset(Dataset(("Cat",), data.pictures), tmp_path / "set", "yolo")

    with pytest.raises(InputError, match="ssdlite-mobilenet-v2-coco has a class called 'Cat' already; give yours another name"):
        run(tmp_path / "set", "--name", "x", "--backbone", BACKBONE, "--keep", "--made", 2, "--data-dir", tmp_path)


def test_a_size_at_which_nothing_is_found_is_refused(tmp_path):
    with pytest.raises(InputError, match=re.escape("are found at sizes from 236 to 364, not at 512")):
        run(tmp_path, "--name", "x", "--backbone", f"{BACKBONE}@512", "--keep", "--made", 2, "--data-dir", tmp_path)


def test_without_its_classes_a_backbone_is_used_at_the_nearest_even_size(models_dir):
    card = find_card(BACKBONE, [models_dir])

    assert (load_backbone(card).size, load_backbone(card, keep=True).size) == (320, 300)
    assert [load_backbone(card, keep=True).cells(tap) for tap in range(3)] == [19, 10, 5]
