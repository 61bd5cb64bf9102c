"""Pictures of nothing that are made, and how many of them a set gets."""

from __future__ import annotations

import numpy as np

from edgeannot_tools.datasets import save_dataset
from edgeannot_tools.teach.detect.made_background import SIZE_WH, made_background
from edgeannot_tools.teach.detect.pictures import made_pictures, read_teaching_set
from tests.tools.teach.made_pictures import made_set, write_picture


def test_no_picture_is_made_where_none_is_wanted():
    assert made_pictures(0) == made_pictures(-3) == []


def test_a_made_picture_is_the_same_each_time_and_like_no_other():
    pictures = [made_background(number) for number in range(6)]

    assert np.array_equal(made_background(2), pictures[2])
    for number, picture in enumerate(pictures):
        assert (picture.shape, picture.dtype) == ((SIZE_WH[1], SIZE_WH[0], 3), np.uint8)
        assert picture.std() > 5
        assert all(np.abs(picture.astype(int) - other).mean() > 5 for other in pictures[:number])


def test_as_many_are_made_as_the_background_lacks(tmp_path):
    save_dataset(made_set(tmp_path / "in", pictures=2), tmp_path / "set", "yolo")
    for number in range(3):
        write_picture(tmp_path / "street" / f"{number}.png", 50 + number, things=0)

    def made(**words):
        return [item.made for item in read_teaching_set(tmp_path / "set", **words).pictures if item.background]

    assert made() == []
    assert made(made=2) == [0, 1]
    assert made(background=tmp_path / "street", made=5) == [None, None, None, 0, 1]
    assert made(background=tmp_path / "street", made=2) == [None, None, None]


def test_a_made_picture_is_loaded_without_a_file():
    (item,) = made_pictures(1)
    image, marked = item.load()

    assert image.shape == (SIZE_WH[1], SIZE_WH[0], 3)
    assert len(marked.boxes) == 0
