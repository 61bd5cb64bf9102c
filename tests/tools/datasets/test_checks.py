"""Each thing that breaks training is found, and nothing is found in a sound set."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from edgeannot_tools.datasets import Dataset, LabelledObject, Reading, ReadOptions, read_labels, save_dataset
from edgeannot_tools.datasets.checks import check


def kinds(reading: Reading, **options) -> list[tuple[str, str]]:
    return [(problem.kind, problem.severity) for problem in check(reading, **options)]


def of(*pictures, names=("cat",)) -> Reading:
    return Reading(Dataset(names, pictures))


def test_a_set_without_pictures_has_unused_classes_only():
    assert kinds(of()) == [("unused-class", "warning")]


def test_unused_classes_are_one_problem(small, tmp_path):
    names = ("cat", *(f"class{number}" for number in range(1, 80)))
    [problem] = check(of(small.picture(tmp_path, "a.png", LabelledObject(0, (1, 1, 9, 9))), names=names))

    assert f"{problem.where}: {problem.message}".startswith("class names: 79 of 80 are not used: class1, class2, class3, ")


def test_a_sound_set_has_no_problem(small, tmp_path):
    assert check(Reading(small.one_of_each(tmp_path))) == []


@pytest.mark.parametrize(
    ("box", "kind"),
    [
        ((10, 10, 10, 20), "zero-area"),
        ((10, 20, 20, 20), "zero-area"),
        ((20, 10, 10, 20), "inside-out"),
        ((-1, 10, 10, 20), "outside"),
        ((10, 10, 65, 20), "outside"),
        ((10, 10, 20, 48.5), "outside"),
    ],
)
def test_a_box_that_cannot_be_is_an_error(box, kind, small, tmp_path):
    assert kinds(of(small.picture(tmp_path, "a.png", LabelledObject(0, box)))) == [(kind, "error")]


def test_a_box_of_less_than_two_pixels_is_worth_a_look(small, tmp_path):
    assert kinds(of(small.picture(tmp_path, "a.png", LabelledObject(0, (10, 10, 11, 20))))) == [("tiny", "warning")]


@pytest.mark.parametrize("box", [(-0.01, 0, 64.01, 48), (0, 0, 64, 48)])
def test_rounding_at_the_edge_is_forgiven(box, small, tmp_path):
    assert kinds(of(small.picture(tmp_path, "a.png", LabelledObject(0, box)))) == []


def test_a_box_that_is_there_twice_is_an_error(small, tmp_path):
    thing = LabelledObject(0, (1, 1, 9, 9))

    assert kinds(of(small.picture(tmp_path, "a.png", thing, thing))) == [("repeated-box", "error")]
    assert kinds(of(small.picture(tmp_path, "a.png", thing, replace(thing, class_id=1)), names=("cat", "dog"))) == []


def test_names_that_differ_in_case_only_are_worth_a_look(small, tmp_path):
    things = [LabelledObject(n, (1, 1, 9, 9)) for n in range(2)]

    assert kinds(of(small.picture(tmp_path, "a.png", *things), names=("Dog", "dog"))) == [("alike-classes", "warning")]


def test_two_pictures_of_one_label_file_are_an_error(small, tmp_path):
    thing = LabelledObject(0, (1, 1, 9, 9))
    pictures = [small.picture(tmp_path, "a.png", thing), small.picture(tmp_path, "a.jpeg", shade=2)]

    assert kinds(of(*pictures)) == [("same-name", "error")]


def test_a_copy_is_worth_a_look_and_an_error_with_other_labels_or_in_another_split(small, tmp_path):
    thing, other = LabelledObject(0, (1, 1, 9, 9)), LabelledObject(0, (2, 2, 9, 9))
    first = small.picture(tmp_path, "a.png", thing)

    assert kinds(of(first, small.picture(tmp_path, "b.png", thing))) == [("copy", "warning")]
    assert kinds(of(first, small.picture(tmp_path, "b.png", other))) == [("contradiction", "error")]
    split = [replace(first, split="train"), small.picture(tmp_path, "b.png", thing, split="val")]
    assert kinds(of(*split)) == [("leak", "error")]


def test_a_picture_that_is_cut_off_is_an_error_found_by_reading_it(small, tmp_path):
    picture = small.picture(tmp_path, "a.png", LabelledObject(0, (1, 1, 9, 9)), size_wh=(640, 480))
    picture.path.write_bytes(picture.path.read_bytes()[:-30])

    assert kinds(of(picture)) == [("unreadable-picture", "error")]
    assert kinds(of(picture), decode=False) == []


@pytest.fixture
def yolo(small, tmp_path):
    save_dataset(small.one_of_each(tmp_path / "in"), tmp_path / "set", "yolo")
    return tmp_path / "set"


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("2 0.5 0.5 0.1 0.1", "unknown-class"),
        ("-1 0.5 0.5 0.1 0.1", "unknown-class"),
        ("0.5 0.5 0.5 0.1 0.1", "unknown-class"),
        ("0 0.5 0.5 0.1", "bad-line"),
        ("0 0.5 0.5 0.1 nan", "bad-line"),
        ("cat 0.5 0.5 0.1 0.1", "bad-line"),
        ("0 0.5 0.5 0.1 0.1 0.93", "bad-line"),
        ("0 32 24 10 10", "not-relative"),
        ("0 0.99 0.5 0.1 0.1", "outside"),
        ("0 0.5 0.5 0 0.1", "zero-area"),
    ],
)
def test_a_wrong_line_is_named_by_file_and_number(line, kind, yolo):
    (yolo / "labels" / "c.txt").write_text(f"1 0.5 0.5 0.2 0.2\n\n{line}\n")

    problems = [problem for problem in check(read_labels(yolo)) if problem.severity == "error"]

    assert [problem.kind for problem in problems] == [kind]
    if kind not in {"outside", "zero-area"}:
        assert problems[0].where == f"{yolo / 'labels' / 'c.txt'}:3"


def test_missing_files_are_found(yolo):
    (yolo / "labels" / "a.txt").unlink()
    (yolo / "images" / "b.png").unlink()

    for options in (ReadOptions(), ReadOptions(images=yolo / "images")):
        found = kinds(read_labels(yolo, options=options))
        assert ("missing-label", "warning") in found
        assert ("missing-picture", "error") in found


def test_voc_counted_from_zero_is_recognised(small, tmp_path):
    """x1 = 0 in a VOC file is one pixel outside of the picture: it was not written by VOC's rule."""
    data = Dataset(("cat",), (small.picture(tmp_path / "in", "a.png", LabelledObject(0, (0, 0, 64, 48))),))
    save_dataset(data, tmp_path / "set", "voc")
    for file in (tmp_path / "set" / "Annotations").glob("*.xml"):
        file.write_text(file.read_text().replace("<xmin>1<", "<xmin>0<").replace("<ymin>1<", "<ymin>0<"))

    found = kinds(read_labels(tmp_path / "set"))

    assert found == [("off-by-one", "error"), ("outside", "error")]
    assert kinds(read_labels(tmp_path / "set", options=ReadOptions(voc_origin=0))) == []


def test_a_size_that_is_not_the_pictures_is_an_error(small, tmp_path):
    save_dataset(small.one_of_each(tmp_path / "in"), tmp_path / "voc", "voc")
    file = tmp_path / "voc" / "Annotations" / "a.xml"
    file.write_text(file.read_text().replace("<width>64<", "<width>48<").replace("<height>48<", "<height>64<"))
    save_dataset(small.one_of_each(tmp_path / "in"), tmp_path / "coco", "coco")
    labels = tmp_path / "coco" / "annotations" / "instances.json"
    table = json.loads(labels.read_text())
    table["images"][0]["width"] = 63
    labels.write_text(json.dumps(table))

    assert kinds(read_labels(tmp_path / "voc")) == [("wrong-size", "error")]
    assert kinds(read_labels(tmp_path / "coco")) == [("wrong-size", "error")]


def test_coco_references_to_nothing_are_errors(small, tmp_path):
    save_dataset(small.one_of_each(tmp_path / "in"), tmp_path / "set", "coco")
    labels = tmp_path / "set" / "annotations" / "instances.json"
    table = json.loads(labels.read_text())
    table["annotations"][0]["category_id"] = 99
    table["annotations"][1]["image_id"] = 99
    table["annotations"][2] |= {"bbox": [1, 2, 3], "segmentation": []}
    table["categories"].append({"id": 7, "name": "cat"})
    labels.write_text(json.dumps(table))

    found = kinds(read_labels(tmp_path / "set"))

    assert {("unknown-class", "error"), ("missing-picture", "error"), ("bad-line", "error"), ("repeated-class", "warning")} <= set(found)


def test_errors_come_first(small, tmp_path):
    data = of(small.picture(tmp_path, "a.png", LabelledObject(0, (10, 10, 10, 20)), LabelledObject(0, (1, 1, 2, 9))))

    assert [severity for _, severity in kinds(data)] == ["error", "warning"]


def test_the_real_sets_are_sound_but_for_one_known_pair(data_dir):
    """raccoon-11 and raccoon-116 are the same picture with boxes that differ by some pixels."""
    folder = data_dir / "detection"
    for name in (
        "coco_val50/labels_yolo",
        "coco_val50/instances.json",
        "coco_train10_json",
        "voc50_formats/voc_xml",
        "voc50_formats/openimages.csv",
    ):
        assert [problem for problem in check(read_labels(folder / name)) if problem.severity == "error"] == [], name
    errors = [problem for problem in check(read_labels(folder / "raccoon40")) if problem.severity == "error"]
    assert [problem.kind for problem in errors] == ["contradiction"]
    assert "raccoon-11" in errors[0].where
