"""What is written in a format is read back as it was, and the real sets come through every format."""

from __future__ import annotations

import errno
import itertools
import json
import os
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeannot.base.errors import InputError
from edgeannot_tools.datasets import FORMATS, Dataset, LabelledObject, ReadOptions, WriteOptions, load_dataset, read_labels, save_dataset
from edgeannot_tools.datasets.form import Picture
from edgeannot_tools.datasets.pictures import place_pictures

FLAGS_OF = {
    "yolo": set(),
    "darknet": set(),
    "voc": {"difficult", "crowd", "truncated", "occluded"},
    "coco": {"difficult", "crowd", "truncated", "occluded"},
    "openimages": {"crowd", "truncated", "occluded"},
    "csv": set(),
    "labelstudio": set(),
    "cvat": {"occluded"},
}
TOLERANCE_PX = 1e-6
ALL = sorted(FORMATS)


def assert_same(found: Dataset, wanted: Dataset, kind: str) -> None:
    """Classes, pictures, splits, boxes, and the flags that the format has."""
    assert found.class_names == wanted.class_names
    key = lambda picture: (picture.split, picture.name)  # noqa: E731 - the order of a set means nothing
    assert [key(p) for p in sorted(found.pictures, key=key)] == [key(p) for p in sorted(wanted.pictures, key=key)]
    for one, other in zip(sorted(found.pictures, key=key), sorted(wanted.pictures, key=key), strict=True):
        assert one.size_wh == other.size_wh
        assert one.class_ids().tolist() == other.class_ids().tolist()
        np.testing.assert_allclose(one.boxes(), other.boxes(), rtol=0, atol=TOLERANCE_PX)
        for flag in FLAGS_OF[kind]:
            assert [getattr(thing, flag) for thing in one.objects] == [getattr(thing, flag) for thing in other.objects], flag


@pytest.mark.parametrize("kind", ALL)
def test_a_picture_without_objects_stays_one(small, kind, tmp_path):
    data = Dataset(("cat",), (small.picture(tmp_path / "in", "empty.png"),))

    save_dataset(data, tmp_path / "out", kind)

    assert_same(load_dataset(tmp_path / "out"), data, kind)


@pytest.mark.parametrize("kind", ALL)
def test_whole_and_broken_pixels_survive(small, kind, tmp_path):
    data = small.one_of_each(tmp_path / "in")

    save_dataset(data, tmp_path / "out", kind)

    assert_same(load_dataset(tmp_path / "out"), data, kind)


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("splits", [("train", "val"), ("train", "val", "test"), ("test",)], ids="+".join)
def test_splits_survive(small, kind, splits, tmp_path):
    pictures = [small.picture(tmp_path / "in", f"{split}.png", LabelledObject(0, (1, 1, 5, 5)), split=split) for split in splits]
    data = Dataset(("cat",), tuple(pictures))

    save_dataset(data, tmp_path / "out", kind)

    assert_same(load_dataset(tmp_path / "out"), data, kind)


@pytest.mark.parametrize("kind", [kind for kind in ALL if kind != "darknet"])
def test_a_picture_in_no_split_stays_in_none(small, kind, tmp_path):
    data = Dataset(
        ("cat",),
        (small.picture(tmp_path / "in", "a.png"), small.picture(tmp_path / "in", "b.png", LabelledObject(0, (1, 1, 5, 5)), split="train")),
    )

    save_dataset(data, tmp_path / "out", kind)

    assert_same(load_dataset(tmp_path / "out"), data, kind)


def boxes(size_wh: tuple[int, int]) -> st.SearchStrategy[tuple[float, float, float, float]]:
    def axis(side: int) -> st.SearchStrategy[tuple[float, float]]:
        edge = st.floats(0, side, allow_nan=False) | st.integers(0, side).map(float)
        return st.tuples(edge, edge).map(sorted).map(tuple)

    return st.tuples(axis(size_wh[0]), axis(size_wh[1])).map(lambda axes: (axes[0][0], axes[1][0], axes[0][1], axes[1][1]))


@st.composite
def labelled_pictures(draw, classes: int):
    size_wh = draw(st.tuples(st.integers(1, 4000), st.integers(1, 40)))
    thing = st.builds(
        LabelledObject, st.integers(0, classes - 1), boxes(size_wh), st.booleans(), st.booleans(), st.booleans(), st.booleans()
    )
    return size_wh, tuple(draw(st.lists(thing, max_size=4))), draw(st.sampled_from(["", "deep/", "näme with space/"]))


NAMES = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=8)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_any_chain_of_formats_keeps_classes_and_boxes(small, data, tmp_path_factory):
    """Every set that can be made survives the way through three formats in any order."""
    names = tuple(data.draw(st.lists(NAMES, min_size=1, max_size=4, unique=True)))
    drawn = data.draw(st.lists(labelled_pictures(len(names)), min_size=1, max_size=3))
    chain = data.draw(st.permutations(ALL))[:3]
    folder = tmp_path_factory.mktemp("chain")
    pictures = tuple(
        small.picture(folder / "in", f"{sub}{n}.png", *things, size_wh=size, shade=n) for n, (size, things, sub) in enumerate(drawn)
    )
    wanted = current = Dataset(names, pictures)

    for number, kind in enumerate(chain):
        save_dataset(current, folder / str(number), kind)
        current = load_dataset(folder / str(number))
        assert_same(current, wanted, "yolo")


@pytest.mark.parametrize("kind", ALL)
def test_every_flag_that_a_format_lacks_is_said(small, kind, tmp_path):
    thing = LabelledObject(0, (1, 1, 5, 5))
    for flag in {"difficult", "crowd", "truncated", "occluded"} - FLAGS_OF[kind]:
        data = Dataset(("cat",), (small.picture(tmp_path / "in", "a.png", replace(thing, **{flag: True})),))

        assert len(FORMATS[kind].losses(data)) == 1, flag


@pytest.mark.parametrize("kind", ALL)
def test_a_set_without_flags_loses_nothing(small, kind, tmp_path):
    assert FORMATS[kind].losses(small.one_of_each(tmp_path)) == []


def test_coco_files_come_back_number_by_number(data_dir, tmp_path):
    """Ids, outlines, areas, licences: reading and writing COCO gives the same tables, in another order perhaps."""
    source = data_dir / "detection" / "coco_train10_json"

    save_dataset(load_dataset(source), tmp_path / "out", "coco", WriteOptions(pictures="copy"))

    old = json.loads((source / "instances.json").read_text())
    new = json.loads((tmp_path / "out" / "annotations" / "instances.json").read_text())
    assert new.keys() == old.keys()
    for table in ("info", "licenses", "categories"):
        assert new[table] == old[table]
    for table in ("images", "annotations"):
        by_id = {entry["id"]: entry for entry in new[table]}
        assert len(by_id) == len(old[table])
        assert all(by_id[entry["id"]] == entry for entry in old[table])


def test_voc_files_come_back_word_by_word(data_dir, tmp_path):
    """Everything that an annotation says, in any order of its elements; only <folder> is that of the new place."""
    source = data_dir / "detection" / "voc50_formats" / "voc_xml"
    save_dataset(load_dataset(source), tmp_path / "out", "voc", WriteOptions(pictures="none"))

    def facts(element: ET.Element) -> tuple:
        return (
            element.tag,
            (element.text or "").strip(),
            sorted(facts(child) for child in element if child.tag not in {"folder", "occluded"}),
        )

    files = sorted(source.glob("*.xml"))
    assert len(files) == 50
    for file in files:
        assert facts(ET.parse(tmp_path / "out" / "Annotations" / file.name).getroot()) == facts(ET.parse(file).getroot())


def test_yolo_files_come_back_number_by_number(data_dir, tmp_path):
    source = data_dir / "detection" / "coco_val50" / "labels_yolo"

    save_dataset(load_dataset(source), tmp_path / "out", "yolo", WriteOptions(pictures="copy"))

    for file in source.glob("*.txt"):
        numbers = [list(map(float, line.split())) for line in file.read_text().splitlines()]
        written = [list(map(float, line.split())) for line in (tmp_path / "out" / "labels" / file.name).read_text().splitlines()]
        assert written == numbers, file.name


@pytest.mark.parametrize("kinds", [*itertools.pairwise([*ALL, ALL[0]]), *itertools.pairwise([ALL[0], *ALL[::-1]])], ids="->".join)
def test_a_real_set_survives_every_conversion(kinds, data_dir, tmp_path):
    wanted = load_dataset(data_dir / "detection" / "voc50_formats" / "voc_xml")

    for kind in kinds:
        save_dataset(
            load_dataset(tmp_path / kinds[0]) if kind != kinds[0] else wanted, tmp_path / kind, kind, WriteOptions(pictures="symlink")
        )

    assert_same(load_dataset(tmp_path / kinds[1]), wanted, "yolo")


def test_the_same_set_in_four_formats_reads_alike(data_dir):
    """YOLO, COCO and OpenImages were made from VOC's numbers without taking off the one that VOC counts from."""
    folder = data_dir / "detection" / "voc50_formats"
    voc = load_dataset(folder / "voc_xml", options=ReadOptions(voc_origin=0))
    for other in ("yolo", "coco.json", "openimages.csv"):
        found = load_dataset(folder / other)
        assert {p.name for p in found.pictures} == {p.name for p in voc.pictures}
        for one, two in zip(found.pictures, voc.pictures, strict=True):
            rows = [
                sorted((d.class_names[t.class_id], *np.round(t.box, 2).tolist()) for t in p.objects) for d, p in ((found, one), (voc, two))
            ]
            assert [row[0] for row in rows[0]] == [row[0] for row in rows[1]]
            np.testing.assert_allclose([row[1:] for row in rows[0]], [row[1:] for row in rows[1]], atol=0.02)


def test_reading_again_gives_the_same_order(small, tmp_path):
    save_dataset(small.one_of_each(tmp_path / "in"), tmp_path / "out", "yolo")

    assert read_labels(tmp_path / "out").dataset == read_labels(tmp_path / "out").dataset


def test_nothing_is_left_of_a_set_that_could_not_be_written(small, tmp_path: Path):
    data = small.one_of_each(tmp_path / "in")
    data.pictures[1].path.unlink()

    with pytest.raises(Exception, match=r"b\.png"):
        save_dataset(data, tmp_path / "out", "yolo")

    assert sorted(path.name for path in tmp_path.iterdir()) == ["in"]


def test_pictures_that_may_not_be_linked_are_said_with_what_to_do(tmp_path, monkeypatch):
    """The kernel refuses hard links to files of other users (protected_hardlinks)."""
    picture = tmp_path / "a.jpg"
    picture.write_bytes(b"")

    def refuse(*_):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(InputError, match="by hardlink \\(Operation not permitted\\); try --pictures copy"):
        place_pictures([(Picture("a.jpg", (1, 1), path=picture), tmp_path / "out" / "a.jpg")], "hardlink")
