"""Label files of sets that others made: values that cannot be give one printable sentence, or a problem that is listed."""

from __future__ import annotations

import json
import os

import cv2
import numpy as np
import pytest

from edgeannot.base.errors import InputError
from edgeannot_tools.datasets import FORMATS, ReadOptions, find_format, save_dataset
from edgeannot_tools.evaluate.measure import read_mapping

BIG = "9" * 5000


def kind(value):
    return f"{type(value).__name__}{len(value)}"  # pytest itself fails on some of the values as names of tests


def read(folder, form):
    classes = folder / "classes.txt" if form == "voc" else None
    return FORMATS[form].read(folder, ReadOptions(classes=classes))


def in_one_sentence(call, *words):
    with pytest.raises(InputError) as told:
        call(*words)
    assert str(told.value).isprintable()
    assert len(str(told.value)) < 600


@pytest.fixture
def folder(tmp_path):
    for name in ("images", "JPEGImages", "Annotations"):
        (tmp_path / name).mkdir()
    for name in ("a.jpg", "images/a.jpg", "JPEGImages/a.jpg"):
        cv2.imwrite(str(tmp_path / name), np.zeros((20, 20, 3), np.uint8))
    (tmp_path / "classes.txt").write_text("a\n")
    return tmp_path


@pytest.mark.parametrize(
    "text",
    [
        "", "names: " + "[" * 20_000, "{" * 20_000, "- " * 5000, f"names: [a]\nnc: {BIG}\ntrain: images", "names: [a]\ntrain: 2024-02-30",
        "names: {1.5: a, b: c}\ntrain: images", "names: [[a]]\ntrain: images", "\x1b[2J: 1", b"\xff", b"#" * (2 << 20),
        "a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\nnames: *c\ntrain: images", "names: !!python/object:os.system x",
    ],
    ids=kind,
)  # fmt: skip
def test_a_data_yaml_that_cannot_be_is_one_sentence(folder, text):
    (folder / "data.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())

    in_one_sentence(read, folder / "data.yaml", "yolo")


@pytest.mark.parametrize("text", [b"images/\xe4.jpg\n", b"\xff\xfe"], ids=kind)
@pytest.mark.parametrize("form", ["yolo", "darknet", "voc"])
def test_a_list_of_pictures_that_cannot_be_is_one_sentence(folder, form, text):
    (folder / "data.yaml").write_text("names: [a]\ntrain: list.txt\n")
    (folder / "obj.data").write_text("names = classes.txt\ntrain = list.txt\n")
    (folder / "ImageSets" / "Main").mkdir(parents=True)
    for place in (folder / "list.txt", folder / "ImageSets" / "Main" / "train.txt"):
        place.write_bytes(text)

    in_one_sentence(read, folder / "data.yaml" if form == "yolo" else folder, form)


@pytest.mark.parametrize(
    "text", ["", "[" * 100_000, '{"images":' + "[" * 100_000, "[]", BIG, '{"images": [1], "annotations": [], "categories": []}'], ids=kind
)
def test_a_coco_file_that_cannot_be_is_one_sentence(folder, text):
    (folder / "instances.json").write_text(text)

    in_one_sentence(read, folder / "instances.json", "coco")


@pytest.mark.parametrize("number", [BIG, "1e400", "inf", "nan", "²", "", "-1", "\u202e"], ids=kind)
def test_a_stated_size_that_cannot_be_is_as_if_it_were_not_stated(folder, number):
    note = f"<annotation><filename>a.jpg</filename><size><width>{number}</width><height>20</height></size></annotation>"
    (folder / "Annotations" / "a.xml").write_text(note)

    assert not [problem for problem in read(folder, "voc").problems if problem.severity == "error"]


@pytest.mark.parametrize("encoding", ["utf-7", "rot13", "x", "base64"])
def test_an_xml_in_an_encoding_that_is_none_is_a_problem_that_is_listed(folder, encoding):
    (folder / "Annotations" / "a.xml").write_text(f'<?xml version="1.0" encoding="{encoding}"?><annotation/>')

    assert [problem.kind for problem in read(folder, "voc").problems if problem.severity == "error"]


@pytest.mark.parametrize(
    "text", ["[classes]\na = 1", "x = " + "[" * 100_000, f"x = {BIG}", ".".join(["a"] * 50_000) + " = 1", "\x1b[2J"], ids=kind
)
def test_a_class_mapping_that_cannot_be_is_one_sentence(tmp_path, text):
    (tmp_path / "map.toml").write_text(text)

    in_one_sentence(read_mapping, tmp_path / "map.toml")


CSV = "filename,class,xmin,ymin,xmax,ymax,split\n"


@pytest.mark.parametrize("form", ["yolo", "voc", "coco", "openimages", "csv", "labelstudio", "cvat"])
@pytest.mark.parametrize("split", ["../../../up", "/etc/up", "..", "a/b"])
def test_a_split_that_labels_name_leads_nowhere_else(folder, form, split):
    (folder / "set.csv").write_text(f"{CSV}a.jpg,a,1,1,9,9,{split}\n")
    out = folder / "in" / "a" / "deep" / "place"

    save_dataset(read(folder, "csv").dataset, out, form)

    assert [path.name for path in (folder / "in").rglob("*") if path.is_file() and out not in path.parents] == []
    assert [path.name for path in out.rglob("a.jpg")] == ["a.jpg"]


@pytest.mark.parametrize("name", ["x.csv", "x.json", "x.xml", "b.jpg"])
def test_a_pipe_among_the_files_holds_nothing_up(folder, name):
    (folder / "set.csv").write_text(f"{CSV}a.jpg,a,1,1,9,9,\nb.jpg,a,1,1,9,9,\n")
    os.mkfifo(folder / "images" / name if name == "b.jpg" else folder / name)

    assert find_format(folder) == "csv"
    assert [picture.name for picture in read(folder, "csv").dataset.pictures if picture.path] == ["a.jpg"]


def task(label="a", x=1.0, side=20):
    box = {"x": x, "y": 1, "width": 10, "height": 10, "rectanglelabels": [label]}
    result = {"original_width": side, "original_height": 20, "value": box}
    return json.dumps([{"data": {"image": "a.jpg"}, "annotations": [{"result": [result]}]}])


@pytest.mark.parametrize("text", [task(""), task(" "), task(x=1e308, side=10**15)], ids=["empty", "blank", "far"])
def test_a_task_without_a_label_or_with_a_box_beyond_all_numbers_is_a_problem_that_is_listed(folder, text):
    (folder / "tasks.json").write_text(text)

    reading = read(folder, "labelstudio")

    assert "bad-line" in {problem.kind for problem in reading.problems}
    assert reading.dataset.object_count() == 0


def test_a_csv_file_of_a_large_set_is_read(folder):
    """Over a megabyte, with a class of its own for each of many objects: no step takes time by the square of it."""
    (folder / "classes.txt").write_text("".join(f"class number {number}\n" for number in range(30_000)))
    (folder / "set.csv").write_text(CSV + "".join(f"a.jpg,class number {number},1,1,9,9,\n" for number in range(30_000)))

    assert read(folder, "csv").dataset.object_count() == 30_000
