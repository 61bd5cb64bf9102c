"""Files as the labelling tools write them: CSV, CVAT and Label Studio."""

from __future__ import annotations

import json
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from edgeannot.base.errors import InputError
from edgeannot_tools.datasets import load_dataset, read_labels, save_dataset

CSV = "filename,width,height,class,xmin,ymin,xmax,ymax\n"


@pytest.fixture
def folder(tmp_path, small):
    """Write a label file beside two pictures."""

    def write(name: str, text: str):
        for each in ("a.png", "b.png"):
            small.picture(tmp_path / "set" / "images", each)
        (tmp_path / "set" / name).write_text(text)
        return tmp_path / "set"

    return write


def task(value, *, kind="annotations", image="/data/upload/3/0a1b2c3d-a.png", **more):
    result = {"type": "rectanglelabels", "original_width": 64, "original_height": 48, "value": value}
    return {"data": {"image": image}, kind: [{"result": [result], **more}]}


BOX = {"x": 25, "y": 50, "width": 50, "height": 25, "rotation": 0, "rectanglelabels": ["cat"]}


def cvat(inside: str, meta: str = "") -> str:
    return f'<?xml version="1.0"?><annotations><version>1.1</version>{meta}{inside}</annotations>'


# -- CSV -------------------------------------------------------------------------------------------------------------------------


def test_a_csv_of_no_rows_has_no_picture(folder):
    with pytest.raises(InputError, match="no object names a class"):
        load_dataset(folder("a.csv", CSV))


@pytest.mark.parametrize(
    "text",
    [
        CSV + "a.png,64,48,cat,16,24,48,36\nb.png,64,48,,,,,\n",
        "image;label;x1;y1;x2;y2\na.png;cat;16;24;48;36\nb.png;;;;;\n",
        "\ufeffPath,Class,XMin,YMin,XMax,YMax\nC:\\pics\\a.png,cat,16,24,48,36\nb.png,,,,,\n",
    ],
    ids=["tensorflow", "other-names", "windows"],
)
def test_csv_files_of_several_programs_read_alike(text, folder):
    dataset = load_dataset(folder("a.csv", text))

    assert dataset.class_names == ("cat",)
    assert sorted(len(picture.objects) for picture in dataset.pictures) == [0, 1]
    assert next(picture for picture in dataset.pictures if picture.objects).objects[0].box == (16, 24, 48, 36)


@pytest.mark.parametrize("cell", ["", "wide", "1e400", "nan"])
def test_a_csv_row_without_numbers_is_a_problem_with_its_line(cell, folder):
    found = read_labels(folder("a.csv", CSV + f"a.png,64,48,cat,1,2,{cell},9\nb.png,64,48,dog,1,2,3,4\n"))

    assert [(problem.kind, problem.where.rpartition(", ")[2]) for problem in found.errors()] == [("bad-line", "line 2")]


# -- CVAT ------------------------------------------------------------------------------------------------------------------------


def test_cvat_labels_keep_the_order_of_the_task(folder):
    meta = "<meta><task><labels><label><name>dog</name></label><label><name>cat</name></label></labels></task></meta>"
    box = '<box label="cat" source="manual" occluded="1" xtl="16.00" ytl="24.00" xbr="48.00" ybr="36.00" z_order="0"></box>'
    text = cvat(f'<image id="0" name="a.png" width="64" height="48">{box}</image><image id="1" name="b.png" width="64" height="48"/>', meta)

    dataset = load_dataset(folder("annotations.xml", text))

    assert dataset.class_names == ("dog", "cat")
    thing = dataset.pictures[0].objects[0]
    assert (thing.class_id, thing.box, thing.occluded) == (1, (16, 24, 48, 36), True)


@pytest.mark.parametrize(
    "shape",
    [
        '<polygon label="cat" points="1,2;3,4;5,6"/>',
        '<box label="cat" xtl="1" ytl="2" xbr="9" ybr="9" rotation="30"/>',
        '<box label="cat" xtl="1" ytl="2" xbr="far" ybr="9"/>',
    ],
)
def test_a_cvat_shape_that_is_no_upright_box_is_a_problem(shape, folder):
    good = '<box label="cat" xtl="1" ytl="2" xbr="9" ybr="9"/>'
    found = read_labels(folder("annotations.xml", cvat(f'<image id="0" name="a.png" width="64" height="48">{shape}{good}</image>')))

    assert [problem.kind for problem in found.errors()] == ["bad-line"]
    assert found.dataset.object_count() == 1


def test_tracks_of_a_video_are_refused_with_what_to_export(folder):
    with pytest.raises(InputError, match=r'export the task from CVAT as "CVAT for images 1\.1"'):
        load_dataset(folder("annotations.xml", cvat('<track id="0" label="cat"/>')))


def test_cvat_and_voc_are_told_apart(small, tmp_path):
    for kind in ("cvat", "voc"):
        save_dataset(small.one_of_each(tmp_path / "in"), tmp_path / kind, kind)
        assert load_dataset(tmp_path / kind).object_count() == 3
    assert ET.parse(tmp_path / "cvat" / "annotations.xml").getroot().tag == "annotations"


# -- Label Studio ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "image", ["/data/upload/3/0a1b2c3d-a.png", "/data/local-files/?d=images/a.png", "https://host/pics/a.png?x=1", "s3://bucket/deep/a.png"]
)
def test_label_studio_pictures_are_found_by_what_is_left_of_their_address(image, folder):
    dataset = load_dataset(folder("export.json", json.dumps([task(BOX, image=image)])))

    np.testing.assert_allclose(dataset.pictures[0].boxes(), [(16, 24, 48, 36)])


def test_what_a_person_marked_comes_before_what_a_model_found(folder):
    person = task(BOX)
    person["predictions"] = [{"result": []}]
    cancelled = task(BOX | {"rectanglelabels": ["dog"]}, image="b.png", was_cancelled=True)
    cancelled["predictions"] = task(BOX)["annotations"]

    dataset = load_dataset(folder("export.json", json.dumps([person, cancelled])))

    assert dataset.class_names == ("cat",)
    assert [len(picture.objects) for picture in dataset.pictures] == [1, 1]


@pytest.mark.parametrize(
    "value",
    [BOX | {"rotation": 12}, BOX | {"x": "left"}, BOX | {"rectanglelabels": []}, {"points": [[1, 2]], "polygonlabels": ["cat"]}],
    ids=["rotated", "no-number", "no-label", "polygon"],
)
def test_a_label_studio_result_that_is_no_upright_box_is_a_problem(value, folder):
    found = read_labels(folder("export.json", json.dumps([task(value), task(BOX, image="b.png")])))

    assert [problem.kind for problem in found.errors()] == ["bad-line"]
    assert found.dataset.object_count() == 1


@pytest.mark.parametrize("broken", [[None], [{"data": None, "annotations": []}], [{"data": {"text": "no picture"}, "annotations": [3]}]])
def test_a_label_studio_task_without_a_picture_is_a_problem(broken, folder):
    found = read_labels(folder("export.json", json.dumps([*broken, task(BOX)])))

    assert [problem.kind for problem in found.errors()] == ["bad-line"]
