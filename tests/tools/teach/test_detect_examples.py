"""How many views are made of which picture."""

from __future__ import annotations

import numpy as np
import pytest

from edgeannot.vision.cards import read_card
from edgeannot_tools.teach.detect.backbone import Backbone, Tap, load_backbone
from edgeannot_tools.teach.detect.examples import EMPTY_VIEWS, MOST_BYTES, make_examples, views_for
from edgeannot_tools.teach.detect.pictures import LabelledPicture, made_pictures
from tests.tools.teach.made_pictures import made_set


def pictures(folder, shown, empty=0):
    return [LabelledPicture(picture) for picture in made_set(folder, pictures=shown, empty=empty).pictures]


@pytest.mark.parametrize(("shown", "views"), [(0, 48), (2, 48), (8, 30), (12, 24)])
def test_few_pictures_have_more_views(shown, views, tmp_path):
    small = Backbone(None, 320, (Tap("map", 64, 16, 0.02, 0),))

    assert views_for(small, pictures(tmp_path, shown)) == views


def test_the_features_stay_within_the_memory_for_them(tmp_path):
    large = Backbone(None, 320, (Tap("map", 16, 8192, 0.02, 0),))
    items = pictures(tmp_path, 4, empty=3)

    views = views_for(large, items)

    one = 20 * 20 * 8192
    empty = 3 * (1 + EMPTY_VIEWS)
    assert one * (4 * (1 + views) + empty) <= MOST_BYTES < one * (4 * (2 + views) + empty)


def test_a_picture_without_objects_has_fewer_views(tmp_path, models_dir):
    backbone = load_backbone(read_card(models_dir / "yolov3-tiny.toml"), 64)
    items = [*pictures(tmp_path, 2, empty=1), *made_pictures(1)]

    examples, again = (make_examples(backbone, items, 3, threads=threads) for threads in (1, 2))

    assert examples.picture.tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3]
    assert examples.whole.tolist() == [0, 4, 8, 12]
    assert [len(marked.boxes) for marked in examples.marked][::4] == [1, 1, 0, 0]
    assert all(np.array_equal(one, two) for one, two in zip(examples.maps, again.maps, strict=True))


def test_what_is_too_much_for_memory_is_on_the_disk(tmp_path, models_dir, monkeypatch):
    """The largest map first; both hold the same."""
    backbone = load_backbone(read_card(models_dir / "ssdlite-mobilenet-v2-coco.toml"), 128)
    items = pictures(tmp_path, 2)
    in_memory = make_examples(backbone, items, 1).maps
    largest = max(store.nbytes for store in in_memory)
    monkeypatch.setattr("edgeannot_tools.teach.detect.examples.MOST_BYTES", sum(store.nbytes for store in in_memory) - 1)

    spilled = make_examples(backbone, items, 1, scratch=tmp_path).maps

    on_disk = [isinstance(store, np.memmap) or isinstance(store.base, np.memmap) for store in spilled]
    assert on_disk == [store.nbytes == largest for store in in_memory]
    assert all(np.array_equal(one, two) for one, two in zip(in_memory, spilled, strict=True))
