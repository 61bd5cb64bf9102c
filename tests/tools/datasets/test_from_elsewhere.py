"""Sets as other programs and other systems leave them: byte order marks, Windows paths, ids that went through pandas."""

from __future__ import annotations

import json

import pytest

from edgeannot.base.errors import InputError
from edgeannot_tools.datasets import find_format, load_dataset, read_labels, save_dataset
from edgeannot_tools.datasets.form import Picture

HEADER = "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside\n"
IMAGE = {"id": 1, "file_name": "a.png", "width": 64, "height": 48}
NOTE = {"id": 1, "image_id": 1, "category_id": 3, "bbox": [1, 2, 3, 4]}
CATEGORY = {"id": 3, "name": "cat"}
VOC = (
    "<annotation><filename>{}</filename><object><name>cat</name>"
    "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></object></annotation>"
)


@pytest.fixture
def folder(small, tmp_path):
    """A folder with one picture, images/a.png, and a function that writes files into it."""
    small.picture(tmp_path / "images", "a.png")

    def write(**files):
        for name, text in files.items():
            path = tmp_path / name.replace("__", "/").replace("_txt", ".txt").replace("_", ".")
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return tmp_path

    return write


def coco(images=(IMAGE,), annotations=(NOTE,), categories=(CATEGORY,)):
    return json.dumps({"images": images, "annotations": annotations, "categories": categories})


def test_a_set_in_which_nothing_is_marked_is_known_by_its_class_file(folder):
    set_folder = folder(labels__a_txt="", classes_txt="cat\n")
    assert find_format(set_folder) == "yolo"
    assert load_dataset(set_folder).object_count() == 0


def test_many_empty_label_files_do_not_hide_the_others(folder, small, tmp_path):
    set_folder = folder(labels__z_txt="0 .5 .5 .1 .1\n", classes_txt="cat\n")
    small.picture(tmp_path / "images", "z.png")
    for number in range(30):
        (set_folder / "labels" / f"background{number}.txt").touch()
        small.picture(tmp_path / "images", f"background{number}.png")
    assert load_dataset(set_folder).object_count() == 1


def test_yolo_labels_may_begin_with_a_byte_order_mark(folder):
    assert load_dataset(folder(labels__a_txt="\ufeff0 .5 .5 .1 .1\r\n", classes_txt="\ufeffcat\r\n")).object_count() == 1


@pytest.mark.parametrize("line", ["\ufeffimages/a.png\r\n", "images\\a.png\r\n", "./images/a.png"])
def test_lists_of_pictures_may_come_from_windows(line, folder):
    yolo = folder(labels__a_txt="0 .5 .5 .1 .1", train_txt=line, data_yaml="train: train.txt\nnames: [cat]\n")
    assert load_dataset(yolo).object_count() == 1
    (yolo / "data.yaml").unlink()
    darknet = folder(images__a_txt="0 .5 .5 .1 .1", obj_names="cat\r\n", obj_data="\ufefftrain = train.txt\r\nnames = obj.names\r\n")
    assert load_dataset(darknet).object_count() == 1


def test_voc_files_may_be_utf16_and_stand_beside_other_xml(folder):
    annotation = '<?xml version="1.0" encoding="utf-16"?>' + VOC.format("a.png")
    assert load_dataset(folder(a_xml="<project/>", b_xml=annotation.encode("utf-16")), "voc").object_count() == 1
    assert find_format(folder()) == "voc"


def test_a_voc_file_may_name_its_picture_with_the_path_of_another_machine(folder):
    assert load_dataset(folder(b_xml=VOC.format("C:\\me\\a.png"))).pictures[0].path is not None


@pytest.mark.parametrize("name", ["/home/me/a.png", "C:\\me\\a.png", "train2017/a.png", "../a.png"])
def test_a_coco_file_may_name_pictures_with_the_folders_of_another_machine(name, folder):
    dataset = load_dataset(folder(labels_json=coco([IMAGE | {"file_name": name}])))
    assert dataset.pictures[0].path is not None


def test_folders_are_not_left_out_where_two_pictures_could_be_meant(folder):
    images = [IMAGE | {"file_name": "one/a.png"}, IMAGE | {"id": 2, "file_name": "two/a.png"}]
    assert [problem.kind for problem in read_labels(folder(labels_json=coco(images))).errors()] == ["missing-picture"] * 2


@pytest.mark.parametrize("name", ["/a/b.png", "../../b.png", "./x/../b.png"])
def test_no_name_leads_out_of_a_written_set(name, small, tmp_path):
    picture = small.picture(tmp_path / "in", "a.png")
    assert ".." not in Picture(name, (1, 1)).name
    dataset = load_dataset(_coco_beside(tmp_path, name))
    for kind in ("yolo", "darknet", "voc", "coco", "openimages"):
        save_dataset(dataset, tmp_path / "deep" / "er" / kind, kind)
    assert {path.name for path in tmp_path.rglob("*.png") if "deep" not in path.parts} == {picture.name, "b.png"}
    assert sorted(path.name for path in (tmp_path / "deep" / "er").iterdir()) == ["coco", "darknet", "openimages", "voc", "yolo"]
    assert sorted(path.name for path in (tmp_path / "deep").iterdir()) == ["er"]


def _coco_beside(tmp_path, name):
    labels = tmp_path / "set" / "labels.json"
    labels.parent.mkdir()
    (labels.parent / "b.png").write_bytes((tmp_path / "in" / "a.png").read_bytes())
    labels.write_text(coco([IMAGE | {"file_name": name}]))
    return labels


def test_coco_ids_may_be_whole_floats(folder):
    text = coco([IMAGE | {"id": 1.0}], [NOTE | {"category_id": 3.0}], [CATEGORY | {"id": 3.0}, {"id": 90, "name": "dog"}])
    dataset = load_dataset(folder(labels_json=text))
    assert dataset.class_names == ("cat", "dog")
    assert dataset.object_count() == 1


@pytest.mark.parametrize("bbox", [None, []])
def test_a_coco_outline_without_box_gets_the_box_around_it(bbox, folder):
    note = NOTE | {"bbox": bbox, "segmentation": [[1, 1, 10, 1, 10, 12], [20, 1, 30, 1, 20, 5]]}
    assert load_dataset(folder(labels_json=coco(annotations=[note]))).pictures[0].objects[0].box == (1, 1, 30, 12)


@pytest.mark.parametrize("bbox", [[1, 1, 2, 10**400], [1, 1, 2, float("nan")], ["1", 1, 2, 2], [1, 2, 3]])
def test_a_coco_box_of_no_numbers_is_a_problem(bbox, folder):
    found = read_labels(folder(labels_json=coco(annotations=[NOTE | {"bbox": bbox}])))
    assert [problem.kind for problem in found.errors()] == ["bad-line"]


def test_pictures_of_one_coco_id_are_a_problem(folder, small, tmp_path):
    small.picture(tmp_path / "images", "b.png")
    found = read_labels(folder(labels_json=coco([IMAGE, IMAGE | {"file_name": "b.png"}])))
    assert [problem.kind for problem in found.errors()] == ["repeated-id"]


@pytest.mark.parametrize(
    "table", [coco(images=[1]), coco(categories=["cat"]), coco([IMAGE | {"id": [1]}]), coco(annotations=[NOTE | {"category_id": {}}])]
)
def test_a_coco_file_of_other_things_is_one_sentence(table, folder):
    with pytest.raises(InputError, match="wanted in `"):
        load_dataset(folder(labels_json=table))


def test_short_openimages_rows_are_problems(folder):
    found = read_labels(folder(labels_csv=f"{HEADER}a\na,x,cat\na,x,cat,1,.1,.5,.1,.5,0,0,1,0,0,,,\n"))
    assert found.dataset.object_count() == 1
    assert [problem.kind for problem in found.errors()] == ["unknown-class", "bad-line"]


@pytest.mark.parametrize("flag", ["1", "True", "true"])
def test_an_openimages_group_is_a_crowd(flag, folder):
    (picture,) = load_dataset(folder(labels_csv=f"{HEADER}a,x,cat,1,.1,.5,.1,.5,0,0,{flag},0,0\n")).pictures
    assert picture.objects[0].crowd
