"""A split is the same everywhere, spreads the classes and keeps copies together."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeannot.base.errors import InputError
from edgeannot_tools.datasets import Dataset, LabelledObject, Picture, load_dataset
from edgeannot_tools.datasets.checks import split_dataset

SHARES = {"train": 0.7, "val": 0.2, "test": 0.1}


def many(n: int, classes: int = 3) -> Dataset:
    """n pictures without files, each with one or two objects of neighbouring classes."""
    thing = lambda c: LabelledObject(c % classes, (0, 0, 5, 5))  # noqa: E731 - used twice below
    pictures = tuple(Picture(f"{i:03}.jpg", (10, 10), (thing(i), thing(i + 1)) if i % 2 else (thing(i),)) for i in range(n))
    return Dataset(tuple("abcdefgh"[:classes]), pictures)


def where(dataset: Dataset) -> dict[str, str]:
    return {picture.name: picture.split for picture in dataset.pictures}


def test_too_few_pictures_for_the_parts_is_an_error():
    with pytest.raises(InputError, match="1 different pictures cannot be split into 3 parts"):
        split_dataset(many(1), SHARES)


@pytest.mark.parametrize("shares", [{"train": 0.5}, {"train": 0.9, "val": 0.2}, {"train": 1.5, "val": -0.5}])
def test_shares_that_do_not_add_up_are_an_error(shares):
    with pytest.raises(InputError, match="add up to 1"):
        split_dataset(many(10), shares)


def test_every_part_gets_its_share_of_pictures_and_classes():
    split = split_dataset(many(200), SHARES)

    assert Counter(where(split).values()) == {"train": 140, "val": 40, "test": 20}
    for class_id in range(3):
        parts = Counter(picture.split for picture in split.pictures if class_id in picture.class_ids())
        total = sum(parts.values())
        assert {part: round(count / total, 1) for part, count in parts.items()} == SHARES


def test_no_part_that_was_asked_for_is_empty():
    assert set(where(split_dataset(many(4), {"train": 0.9, "val": 0.05, "test": 0.05})).values()) == {"train", "val", "test"}


def test_a_part_of_no_share_does_not_exist():
    assert set(where(split_dataset(many(10), {"train": 0.8, "val": 0.2, "test": 0.0})).values()) == {"train", "val"}


def test_the_seed_decides_and_the_order_of_reading_does_not():
    data = many(60)
    shuffled = list(data.pictures)
    random.Random(1).shuffle(shuffled)

    assert where(split_dataset(data, SHARES, 5)) == where(split_dataset(replace(data, pictures=tuple(shuffled)), SHARES, 5))
    assert where(split_dataset(data, SHARES, 5)) != where(split_dataset(data, SHARES, 6))


def test_this_split_never_changes():
    """A set that was split last year must split the same today."""
    parts = where(split_dataset(many(10), {"train": 0.6, "val": 0.4}, seed=1))

    assert sorted(name for name, part in parts.items() if part == "val") == ["002.jpg", "003.jpg", "005.jpg", "007.jpg"]


@settings(max_examples=30)
@given(st.integers(2, 40), st.integers(0, 1000))
def test_every_picture_is_in_one_part_with_its_objects(n, seed):
    data = many(n)

    split = split_dataset(data, {"train": 0.5, "val": 0.5}, seed)

    assert sorted(where(split)) == sorted(where(data))
    assert {p.name: p.objects for p in split.pictures} == {p.name: p.objects for p in data.pictures}


def test_copies_of_a_picture_stay_together(small, tmp_path):
    thing = LabelledObject(0, (1, 1, 9, 9))
    pictures = [small.picture(tmp_path, f"{shade}-{copy}.png", thing, shade=shade) for shade in range(6) for copy in range(3)]

    for seed in range(5):
        split = where(split_dataset(Dataset(("cat",), tuple(pictures)), {"train": 0.5, "val": 0.5}, seed))
        assert all(len({split[f"{shade}-{copy}.png"] for copy in range(3)}) == 1 for shade in range(6))
        assert set(split.values()) == {"train", "val"}


def test_a_real_set_keeps_its_common_classes_in_every_part(data_dir):
    data = load_dataset(data_dir / "detection" / "voc50_formats" / "voc_xml")

    split = split_dataset(data, SHARES)

    assert Counter(where(split).values()) == {"train": 35, "val": 10, "test": 5}
    person = data.class_names.index("person")
    parts = Counter(picture.split for picture in split.pictures if person in picture.class_ids())
    assert all(parts[part] >= 2 for part in SHARES)
