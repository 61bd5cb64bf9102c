"""Each format as others write it: layouts in the wild, and one clear sentence for what cannot be read."""

from __future__ import annotations

import json
from typing import get_args

import numpy as np
import pytest
import yaml

from edgeannot.base.errors import InputError, MissingError
from edgeannot_tools.datasets import (
    FORMATS,
    Dataset,
    LabelledObject,
    PictureMode,
    ReadOptions,
    WriteOptions,
    find_format,
    load_dataset,
    save_dataset,
)
from edgeannot_tools.datasets.command import Kind

THING = LabelledObject(0, (16, 12, 48, 36))
LINE = "0 0.5 0.5 0.5 0.5\n"


def boxes(dataset: Dataset) -> list[tuple[str, str, tuple[float, ...]]]:
    return [(picture.split, picture.name, thing.box) for picture in dataset.pictures for thing in picture.objects]


def write(path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_the_commands_offer_every_format():
    assert list(get_args(Kind)) == list(FORMATS)


def test_an_empty_folder_and_no_folder_are_errors(tmp_path):
    with pytest.raises(InputError, match="holds no labels that are known here; known formats are: yolo, darknet, voc, coco, openimages"):
        load_dataset(tmp_path)
    with pytest.raises(MissingError, match="there is no such file or folder"):
        load_dataset(tmp_path / "none")
    with pytest.raises(InputError, match="no format 'pascal'"):
        load_dataset(tmp_path, "pascal")


def test_several_formats_in_one_folder_are_named_not_guessed(small, tmp_path):
    save_dataset(small.one_of_each(tmp_path / "in"), tmp_path / "set", "coco")
    save_dataset(small.one_of_each(tmp_path / "in"), tmp_path / "set" / "more", "voc", WriteOptions(PictureMode.NONE))

    with pytest.raises(InputError, match=r"several formats \(voc, coco\); say which with --format"):
        find_format(tmp_path / "set")
    assert len(load_dataset(tmp_path / "set", "coco").pictures) == 3


def test_labels_beside_pictures_with_a_class_file_are_yolo(small, tmp_path):
    small.picture(tmp_path, "a.png")
    write(tmp_path / "a.txt", LINE)
    write(tmp_path / "classes.txt", "cat\n")

    assert boxes(load_dataset(tmp_path)) == [("", "a.png", THING.box)]


def test_yolo_without_class_names_is_an_error(small, tmp_path):
    small.picture(tmp_path, "a.png")
    write(tmp_path / "a.txt", LINE)

    with pytest.raises(MissingError, match="give them with --classes"):
        load_dataset(tmp_path)
    write(tmp_path.parent / "mine.txt", "cat\n")
    assert load_dataset(tmp_path, options=ReadOptions(classes=tmp_path.parent / "mine.txt")).class_names == ("cat",)


@pytest.mark.parametrize(
    ("text", "message"), [("cat\n\ndog\n", "line 2: the line is blank"), ("cat\ncat\n", "line 2: class 'cat' is there twice")]
)
def test_a_class_file_with_holes_is_refused(text, message, small, tmp_path):
    small.picture(tmp_path, "a.png")
    write(tmp_path / "a.txt", LINE)
    write(tmp_path / "classes.txt", text)

    with pytest.raises(InputError, match=message):
        load_dataset(tmp_path)


def test_two_label_files_for_one_picture_are_not_chosen_between(small, tmp_path):
    small.picture(tmp_path / "images", "a.png")
    for name in ("labels", "other"):
        write(tmp_path / name / "a.txt", LINE)
    write(tmp_path / "classes.txt", "cat\n")

    with pytest.raises(InputError, match=r"a\.png has two label files"):
        load_dataset(tmp_path)
    assert len(load_dataset(tmp_path / "labels").pictures) == 1


@pytest.mark.parametrize("names", [["cat"], {0: "cat"}], ids=["list", "table"])
def test_roboflow_puts_labels_beside_images_in_each_split(names, small, tmp_path):
    """Its data.yaml says ../train/images, which is one level too high."""
    for split in ("train", "valid"):
        small.picture(tmp_path / split / "images", "a.png", shade=len(split))
        write(tmp_path / split / "labels" / "a.txt", LINE)
    write(tmp_path / "data.yaml", yaml.safe_dump({"train": "../train/images", "val": "../valid/images", "nc": 1, "names": names}))

    assert boxes(load_dataset(tmp_path)) == [("train", "a.png", THING.box), ("val", "a.png", THING.box)]


def test_ultralytics_names_one_folder_for_all(small, tmp_path):
    small.picture(tmp_path / "images" / "train2017", "a.png")
    write(tmp_path / "labels" / "train2017" / "a.txt", LINE)
    write(
        tmp_path / "coco128.yaml",
        "path: ../somewhere\ntrain: images/train2017\nval: images/train2017\ntest:\nnames:\n  0: cat\ndownload: https://x/y\n",
    )

    assert boxes(load_dataset(tmp_path)) == [("", "a.png", THING.box)]


def test_a_list_of_pictures_in_data_yaml_is_read(small, tmp_path):
    small.picture(tmp_path / "images", "deep/a.png")
    write(tmp_path / "labels" / "deep" / "a.txt", LINE)
    write(tmp_path / "train.txt", "./images/deep/a.png\n")
    write(tmp_path / "data.yaml", "train: train.txt\nval: gone\nnames: [cat]\n")

    with pytest.raises(InputError, match="`val: gone` is not there"):
        load_dataset(tmp_path)
    write(tmp_path / "data.yaml", "train: train.txt\nnames: [cat]\n")
    assert [row[1:] for row in boxes(load_dataset(tmp_path))] == [("deep/a.png", THING.box)]


@pytest.mark.parametrize("text", ["names: [cat, cat]\ntrain: x\n", "names: {1: cat}\ntrain: x\n", "names: [cat]\n", "names: [\n"])
def test_a_data_yaml_that_cannot_be_used_is_an_error(text, tmp_path):
    write(tmp_path / "data.yaml", text)

    with pytest.raises(InputError, match=r"data\.yaml"):
        load_dataset(tmp_path / "data.yaml")


def test_cvat_writes_darknet_with_train_txt_alone(small, tmp_path):
    small.picture(tmp_path / "obj_train_data", "a.png")
    write(tmp_path / "obj_train_data" / "a.txt", LINE)
    write(tmp_path / "obj.names", "cat\n")
    write(tmp_path / "obj.data", "classes = 1\ntrain = data/train.txt\nnames = data/obj.names\nbackup = backup/\n")
    write(tmp_path / "train.txt", "data/obj_train_data/a.png\n")

    assert find_format(tmp_path) == "darknet"
    assert boxes(load_dataset(tmp_path)) == [("train", "a.png", THING.box)]


def test_an_outline_becomes_a_box_and_stays_an_outline_in_coco(small, tmp_path):
    small.picture(tmp_path / "in", "a.png")
    write(tmp_path / "in" / "a.txt", "0 0.25 0.25 0.75 0.25 0.75 0.75 0.25 0.75\n")
    write(tmp_path / "in" / "classes.txt", "cat\n")

    data = load_dataset(tmp_path / "in")
    save_dataset(data, tmp_path / "out", "coco")

    assert boxes(data) == [("", "a.png", THING.box)]
    table = json.loads((tmp_path / "out" / "annotations" / "instances.json").read_text())
    assert table["annotations"][0]["segmentation"] == [[16, 12, 48, 12, 48, 36, 16, 36]]
    assert "1 object outlined by a mask" in FORMATS["yolo"].losses(data)[0]


def test_a_box_alone_has_itself_as_its_outline_in_coco_and_is_no_mask_elsewhere(small, tmp_path):
    data = Dataset(("cat",), (small.picture(tmp_path / "in", "a.png", LabelledObject(0, (16.1, 12.2, 48.3, 36))),))
    save_dataset(data, tmp_path / "out", "coco")

    table = json.loads((tmp_path / "out" / "annotations" / "instances.json").read_text())
    np.testing.assert_allclose(table["annotations"][0]["segmentation"], [[16.1, 12.2, 16.1, 36, 48.3, 36, 48.3, 12.2]])
    assert (type(table["info"]), table["licenses"]) == (dict, [])
    assert [FORMATS[kind].losses(load_dataset(tmp_path / "out")) for kind in ("yolo", "voc", "openimages")] == [[], [], []]


VOC = """<annotation><filename>a.png</filename><size><width>64</width><height>48</height></size><object><name>cat</name>
<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part>
<bndbox><xmax>48</xmax><xmin>17</xmin><ymax>36.0</ymax><ymin>13</ymin></bndbox></object></annotation>"""


def test_voc_counts_from_one_to_the_last_pixel(small, tmp_path):
    """Parts have boxes and names of their own, flags may be absent, and the order of the ends is free."""
    small.picture(tmp_path / "JPEGImages", "a.png")
    write(tmp_path / "Annotations" / "a.xml", VOC)

    data = load_dataset(tmp_path)
    zero = load_dataset(tmp_path, options=ReadOptions(voc_origin=0))

    assert boxes(data) == [("", "a.png", (16, 12, 48, 36))]
    assert boxes(zero) == [("", "a.png", (17, 13, 48, 36))]


def test_voc_pixels_are_written_whole_on_request(small, tmp_path):
    data = Dataset(("cat",), (small.picture(tmp_path / "in", "a.png", LabelledObject(0, (15.6, 12.2, 47.5, 36.0))),))

    save_dataset(data, tmp_path / "whole", "voc", WriteOptions(whole_pixels=True))
    save_dataset(data, tmp_path / "exact", "voc")

    text = (tmp_path / "whole" / "Annotations" / "a.xml").read_text()
    assert all(end in text for end in ("<xmin>17<", "<ymin>13<", "<xmax>48<", "<ymax>36<"))
    assert "<xmin>16.6<" in (tmp_path / "exact" / "Annotations" / "a.xml").read_text()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<annotation><object>", "not valid XML"),
        (VOC.replace("<name>cat</name>", ""), "no <name>"),
        (VOC.replace("<xmax>48</xmax>", "<xmax>wide</xmax>"), "wanted numbers in xmin, ymin, xmax, ymax"),
        (VOC.replace("<xmax>48</xmax>", "<xmax>nan</xmax>"), "wanted finite numbers"),
        (VOC.replace("bndbox", "robndbox"), "no <bndbox>"),
    ],
)
def test_a_broken_annotation_is_named(text, message, small, tmp_path):
    small.picture(tmp_path, "a.png")
    write(tmp_path / "a.xml", text)
    write(tmp_path / "b.xml", VOC)

    with pytest.raises(InputError, match=message):
        load_dataset(tmp_path)


def coco(**changes) -> dict:
    return {
        "images": [{"id": 5, "file_name": "a.png", "width": 64, "height": 48}],
        "annotations": [{"id": 9, "image_id": 5, "category_id": 18, "bbox": [16, 12, 32, 24], "iscrowd": 0, "area": 7.5}],
        "categories": [{"id": 44, "name": "bottle"}, {"id": 18, "name": "dog"}],
        **changes,
    }


def test_coco_ids_with_holes_become_dense_in_their_order(small, tmp_path):
    small.picture(tmp_path / "images", "a.png")
    write(tmp_path / "annotations" / "instances_val2017.json", json.dumps(coco()))
    write(tmp_path / "annotations" / "captions_val2017.json", json.dumps({"images": [], "annotations": []}))

    data = load_dataset(tmp_path)

    assert data.class_names == ("dog", "bottle")
    assert boxes(data) == [("val2017", "a.png", (16, 12, 48, 36))]


def test_a_changed_box_gets_an_area_of_its_own(small, tmp_path):
    """The area belongs to the outline of the old box; it must not stand beside a new one."""
    small.picture(tmp_path / "images", "a.png")
    write(tmp_path / "labels.json", json.dumps(coco()))
    data = load_dataset(tmp_path / "labels.json")
    moved = Dataset(
        data.class_names,
        tuple(
            type(p)(p.name, p.size_wh, tuple(LabelledObject(t.class_id, (0, 0, 10, 10), extra=t.extra) for t in p.objects), p.path)
            for p in data.pictures
        ),
        data.extra,
    )

    save_dataset(data, tmp_path / "same", "coco")
    save_dataset(moved, tmp_path / "moved", "coco")

    read = lambda name: json.loads((tmp_path / name / "annotations" / "instances.json").read_text())["annotations"][0]  # noqa: E731 - two uses
    assert (read("same")["area"], read("same")["id"], read("same")["category_id"]) == (7.5, 9, 18)
    assert (read("moved")["area"], read("moved")["bbox"]) == (100, [0, 0, 10, 10])


def test_roboflow_coco_has_a_file_in_each_split(small, tmp_path):
    for split in ("train", "valid"):
        small.picture(tmp_path / split, "a.png")
        write(tmp_path / split / "_annotations.coco.json", json.dumps(coco()))

    assert [row[:2] for row in boxes(load_dataset(tmp_path))] == [("train", "a.png"), ("val", "a.png")]


@pytest.mark.parametrize("change", [{"categories": None}, {"categories": [{"name": "dog"}]}, {"images": {}}])
def test_a_json_file_that_is_not_coco_is_an_error(change, tmp_path):
    write(tmp_path / "labels.json", json.dumps(coco(**change)))

    with pytest.raises(InputError, match=r"labels\.json"):
        load_dataset(tmp_path / "labels.json")


def test_several_coco_files_of_no_split_are_not_chosen_between(tmp_path):
    for name in ("one.json", "two.json"):
        write(tmp_path / name, json.dumps(coco()))

    with pytest.raises(InputError, match=r"several COCO files \(one\.json, two\.json\)"):
        load_dataset(tmp_path)


HEADER = "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside\n"


@pytest.mark.parametrize(
    "text",
    [
        HEADER + "a,xclick,/m/cat,1,0.25,0.75,0.25,0.75,-1,1,1,0,0\n",
        HEADER + 'a,xclick,/m/cat,1,"0,25","0,75","0,25","0,75",-1,1,1,0,0\n',
        (HEADER + "a,xclick,/m/cat,1,0.25,0.75,0.25,0.75,-1,1,1,0,0\n").replace(",", ";").replace("0.", "0,"),
    ],
    ids=["points", "quoted commas", "semicolons"],
)
def test_openimages_reads_the_decimals_of_every_country(text, small, tmp_path):
    small.picture(tmp_path / "images", "a.png")
    small.picture(tmp_path / "images", "none.png", shade=2)
    write(tmp_path / "train-annotations-bbox.csv", text)
    write(tmp_path / "class-descriptions-boxable.csv", "/m/cat,Cat\n/m/dog,Dog\n")

    data = load_dataset(tmp_path)
    save_dataset(data, tmp_path / "out", "openimages")

    assert data.class_names == ("Cat", "Dog")
    assert boxes(data) == [("train", "a.png", THING.box)]
    thing = data.pictures[0].objects[0]
    assert (thing.crowd, thing.truncated, thing.occluded) == (True, True, False)
    assert [picture.name for picture in data.pictures] == ["a.png", "none.png"]
    written = (tmp_path / "out" / "train-annotations-bbox.csv").read_text()
    assert written == HEADER + "a,xclick,/m/cat,1,0.25,0.75,0.25,0.75,-1,1,1,0,0\n"


def test_openimages_in_pixels_or_without_numbers_is_an_error(small, tmp_path):
    small.picture(tmp_path, "a.png")
    for row, message in (("a,,cat,1,16,48,12,36,,,,,", "look like pixels"), ("a,,cat,1,,0.5,0.1,0.2,,,,,", "wanted numbers in XMin")):
        write(tmp_path / "boxes.csv", HEADER + row + "\n")
        with pytest.raises(InputError, match=message):
            load_dataset(tmp_path)


def test_a_picture_turned_by_its_exif_note_has_the_size_that_people_see(data_dir):
    """Readers give boxes in the upright picture, which is what the daemon looks at."""
    from edgeannot_tools.datasets.pictures import read_size

    assert read_size(data_dir / "ugly" / "orient_test_6.jpg") == (50, 100)


def test_an_output_folder_with_something_in_it_is_left_alone(small, tmp_path):
    write(tmp_path / "out" / "mine.txt", "x")

    with pytest.raises(InputError, match="is not an empty folder"):
        save_dataset(small.one_of_each(tmp_path / "in"), tmp_path / "out", "yolo")

    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]


def test_pictures_that_would_overwrite_each_other_are_refused(small, tmp_path):
    pictures = (small.picture(tmp_path / "in", "a.png"), small.picture(tmp_path / "in", "a.jpg", shade=1))

    with pytest.raises(InputError, match=r"in/a\.png and .*in/a\.jpg would both be written as label file '/a\.txt'"):
        save_dataset(Dataset(("cat",), pictures), tmp_path / "out", "yolo")


@pytest.mark.parametrize("mode", list(PictureMode))
def test_pictures_get_where_they_are_wanted(mode, small, tmp_path):
    data = small.one_of_each(tmp_path / "in")

    save_dataset(data, tmp_path / "out", "yolo", WriteOptions(mode))

    target = tmp_path / "out" / "images" / "a.png"
    assert target.exists() == (mode != PictureMode.NONE)
    assert target.is_symlink() == (mode == PictureMode.SYMLINK)
    if mode == PictureMode.HARDLINK:
        assert target.samefile(data.pictures[0].path)
