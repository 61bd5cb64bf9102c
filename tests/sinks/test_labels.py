"""Label files, read back as training tools read them."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeannot.sinks.labels import LabelsOptions, LabelsSink, coco_json, voc_pixels, voc_xml, yolo_txt

CAT = ("cat", 15, 0.91, (20.0, 10.0, 120.0, 60.0))
DOG = ("dog", 16, 0.5, (0.0, 0.0, 200.0, 100.0))


def test_no_object_is_an_empty_yolo_file(annotate):
    assert yolo_txt(annotate()) == b""


def test_yolo_lines_are_class_and_centre_and_size_in_parts(annotate):
    assert yolo_txt(annotate(CAT, DOG)).decode().splitlines() == [
        "15 0.350000 0.350000 0.500000 0.500000",
        "16 0.500000 0.500000 1.000000 1.000000",
    ]
    assert yolo_txt(annotate(CAT), scores=True).decode() == "15 0.350000 0.350000 0.500000 0.500000 0.9100\n"


def test_voc_without_objects_still_names_the_picture_and_its_size(annotate):
    root = ET.fromstring(voc_xml(annotate(name="a/b.png")))

    assert (root.findtext("folder"), root.findtext("filename")) == ("porch/a", "b.png")
    assert [root.findtext(f"size/{tag}") for tag in ("width", "height", "depth")] == ["200", "100", "3"]
    assert root.findall("object") == []


def testvoc_pixels_count_from_one_and_include_the_far_edge(annotate):
    """A box over the whole 200 x 100 picture is 1..200 and 1..100, as in the VOC devkit."""
    root = ET.fromstring(voc_xml(annotate(DOG, CAT)))

    def corners(place: int) -> list[str | None]:
        return [root.findall("object")[place].findtext(f"bndbox/{tag}") for tag in ("xmin", "ymin", "xmax", "ymax")]

    assert corners(0) == ["1", "1", "200", "100"]
    assert corners(1) == ["21", "11", "120", "60"]


@given(st.tuples(*[st.floats(0, 200, width=32)] * 2), st.tuples(*[st.floats(0, 100, width=32)] * 2))
def test_voc_boxes_are_never_empty_and_never_outside(xs, ys):
    xmin, ymin, xmax, ymax = voc_pixels((min(xs), min(ys), max(xs), max(ys)), (200, 100))

    assert 1 <= xmin <= xmax <= 200
    assert 1 <= ymin <= ymax <= 100


def test_words_with_markup_and_control_characters_stay_readable_xml(annotate):
    root = ET.fromstring(voc_xml(annotate(("<b>&\x01", 0, 0.5, (0, 0, 10, 10)), name="caf\udce9.jpg")))

    assert root.findtext("object/name") == "<b>&\ufffd"
    assert root.findtext("filename") == "caf\\xe9.jpg"


def test_a_coco_file_is_a_data_set_of_one_picture(annotate):
    document = json.loads(coco_json(annotate(CAT, DOG, ("cat", 15, 0.4, (1, 2, 3, 5)))))
    [image] = document["images"]

    assert (image["file_name"], image["width"], image["height"]) == ("porch/cat_dog.jpg", 200, 100)
    assert [row["bbox"] for row in document["annotations"]] == [[20, 10, 100, 50], [0, 0, 200, 100], [1, 2, 2, 3]]
    assert {row["image_id"] for row in document["annotations"]} == {image["id"]}
    assert document["annotations"][2]["segmentation"] == [[1, 2, 1, 5, 3, 5, 3, 2]], "readers make no mask of an empty list"
    assert document["licenses"] == []
    assert document["categories"] == [{"id": 15, "name": "cat"}, {"id": 16, "name": "dog"}]


def test_coco_ids_of_many_pictures_do_not_meet(annotate):
    documents = [json.loads(coco_json(annotate(CAT, DOG, name=f"{number}.jpg"))) for number in range(200)]
    ids = [row["id"] for document in documents for row in document["images"] + document["annotations"]]

    assert len(set(ids)) == 600
    assert max(ids) < 2**53


def test_one_format_lies_in_the_folder_and_several_in_folders_of_their_own(annotate, context):
    LabelsSink(LabelsOptions(), context).write(annotate(CAT))
    LabelsSink(LabelsOptions(folder="all", formats=("yolo", "voc", "coco")), context).write(annotate(CAT))

    def files(folder: str) -> list[str]:
        root = context.out_dir / folder
        return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())

    assert files("labels") == ["classes.txt", "porch/cat_dog.txt", "porch/classes.txt"]
    assert files("all") == [
        "coco/porch/cat_dog.json",
        "voc/porch/cat_dog.xml",
        "yolo/classes.txt",
        "yolo/porch/cat_dog.txt",
        "yolo/porch/classes.txt",
    ]


def test_line_n_of_the_class_list_is_class_n(context):
    LabelsSink(LabelsOptions(), context)

    lines = (context.out_dir / "labels/classes.txt").read_text().splitlines()
    assert {number: name for number, name in enumerate(lines) if name != "-"} == {0: "person", 15: "cat", 16: "dog"}


def class_lines(context):
    return (context.out_dir / "labels/classes.txt").read_text().splitlines()


def test_the_class_list_beside_label_files_knows_every_class_of_theirs(annotate, context):
    sink = LabelsSink(LabelsOptions(), replace(context, class_names={15: "cat"}))
    lists = [context.out_dir / "labels" / folder / "classes.txt" for folder in ("", "porch", "porch/deep")]

    for name, thing in (("a.png", CAT), ("deep/b.png", CAT), ("c.png", ("yak", 3, 0.5, (0.0, 0.0, 9.0, 9.0)))):
        sink.write(annotate(thing, name=name))

    assert len({path.read_text() for path in lists}) == 1
    assert lists[1].read_text().splitlines()[15] == "cat"
    assert "yak" in lists[2].read_text().splitlines()


def test_a_model_that_numbers_its_classes_in_another_way_takes_the_numbers_of_the_folder(annotate, context):
    """Label files hold numbers only: with two meanings in one folder they would be wrong without anybody noticing."""
    sink = LabelsSink(LabelsOptions(), context)
    sink.write(annotate(("cat", 15, 0.9, (0, 0, 200, 100)), name="a.jpg"))
    sink.write(annotate(("cat", 3, 0.9, (0, 0, 200, 100)), ("bird", 0, 0.9, (0, 0, 200, 100)), name="b.jpg"))

    numbers = [line.split()[0] for line in (context.out_dir / "labels/porch/b.txt").read_text().splitlines()]
    assert numbers == ["15", "17"]
    assert class_lines(context)[15:] == ["cat", "dog", "bird"]


def test_the_numbers_of_a_folder_outlive_a_restart_with_another_model(annotate, context):
    LabelsSink(LabelsOptions(), context)
    other = replace(context, class_names={0: "dog", 1: "person", 2: "bird"})
    sink = LabelsSink(LabelsOptions(), other)
    sink.write(annotate(("dog", 0, 0.9, (0, 0, 200, 100)), ("bird", 2, 0.9, (0, 0, 200, 100))))

    numbers = [line.split()[0] for line in (context.out_dir / "labels/porch/cat_dog.txt").read_text().splitlines()]
    assert numbers == ["16", "2"]
    assert [class_lines(context)[i] for i in (0, 2, 16)] == ["person", "bird", "dog"]


def test_a_model_without_names_keeps_its_numbers(annotate, context):
    sink = LabelsSink(LabelsOptions(), replace(context, class_names={}))
    sink.write(annotate(("7", 7, 0.9, (0, 0, 200, 100))))

    assert (context.out_dir / "labels/porch/cat_dog.txt").read_text().startswith("7 ")
    assert not (context.out_dir / "labels/classes.txt").exists()


def test_a_name_that_a_model_has_twice_keeps_both_numbers(context):
    twice = replace(context, class_names={0: "crane", 1: "ship", 2: "crane"})
    for _ in range(2):
        LabelsSink(LabelsOptions(), twice)

    assert class_lines(context) == ["crane", "ship", "crane"]


def test_a_yolo_line_read_back_is_the_box(annotate):
    [line] = yolo_txt(annotate(CAT)).decode().splitlines()
    cx, cy, w, h = (float(word) for word in line.split()[1:])
    corners = np.array([(cx - w / 2) * 200, (cy - h / 2) * 100, (cx + w / 2) * 200, (cy + h / 2) * 100])

    assert corners == pytest.approx(CAT[3], abs=1e-3)
