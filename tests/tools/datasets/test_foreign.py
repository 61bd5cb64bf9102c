"""Label files of sets that others made: values that cannot be give one printable sentence, or a problem that is listed."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from edgeannot.base.errors import InputError
from edgeannot_tools.datasets import FORMATS, ReadOptions
from edgeannot_tools.evaluate.class_matching import read_mapping

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
