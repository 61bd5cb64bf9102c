"""Sets that a detector is taught with: what is refused, in one sentence, and what is noted."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgeannot.base.errors import InputError, MissingError
from edgeannot_tools.datasets import Dataset, LabelledObject, save_dataset
from edgeannot_tools.teach.detect.pictures import read_teaching_set, teaching_set
from tests.tools.teach.made_pictures import made_set, write_picture


def marked_anew(data: Dataset, number: int, *objects: LabelledObject) -> Dataset:
    pictures = list(data.pictures)
    pictures[number] = replace(pictures[number], objects=objects)
    return Dataset(data.class_names, tuple(pictures))


def test_a_set_without_objects_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"^no object is marked in any picture"):
        teaching_set(made_set(tmp_path, pictures=0, empty=3))


def test_one_picture_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"^only one picture has objects; .* at least two"):
        teaching_set(made_set(tmp_path, pictures=1, empty=2))


def test_copies_of_one_picture_are_one_picture(tmp_path):
    data = made_set(tmp_path, pictures=1)
    copy = tmp_path / "copy.png"
    copy.write_bytes((tmp_path / "p0.png").read_bytes())

    with pytest.raises(InputError, match=r"^only one picture has objects"):
        teaching_set(Dataset(data.class_names, (*data.pictures, replace(data.pictures[0], name="copy.png", path=copy))))


def test_a_box_outside_of_its_picture_is_refused(tmp_path):
    data = marked_anew(made_set(tmp_path), 2, LabelledObject(0, (150, 10, 190, 50)))

    with pytest.raises(InputError, match=r"p2.png: the box 150, 10, 190, 50 lies outside of the picture \(160x128\)"):
        teaching_set(data)


def test_a_box_that_ends_before_it_begins_is_refused(tmp_path):
    data = marked_anew(made_set(tmp_path), 2, LabelledObject(0, (50, 10, 20, 50)))

    with pytest.raises(InputError, match=r"p2.png, object 1 \(disc\): the box 50, 10, 20, 50 ends before it begins"):
        teaching_set(data)


def test_a_box_without_area_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"p2.png, object 1 \(disc\): the box 20, 10, 20, 50 has no area; remove it"):
        teaching_set(marked_anew(made_set(tmp_path), 2, LabelledObject(0, (20, 10, 20, 50))))


def test_a_copy_in_a_set_is_noted(tmp_path):
    data = made_set(tmp_path)
    copy = tmp_path / "copy.png"
    copy.write_bytes((tmp_path / "p0.png").read_bytes())
    copied = replace(data.pictures[0], name="copy.png", path=copy)

    def noted(*pictures):
        return [note for note in teaching_set(Dataset(data.class_names, pictures)).notes if "copy.png" in note]

    (same,) = noted(*data.pictures, copied)
    (other,) = noted(*data.pictures, replace(copied, objects=(LabelledObject(0, (1, 2, 30, 40)),)))
    assert "the same picture is there again" in same
    assert "other labels" in other


def test_a_file_that_is_no_picture_is_named(tmp_path):
    save_dataset(made_set(tmp_path / "in"), tmp_path / "set", "yolo")
    next((tmp_path / "set").rglob("p2.png")).write_bytes(b"no picture")

    with pytest.raises(InputError, match=r"p2.png: the file does not begin like a picture; replace or remove it"):
        read_teaching_set(tmp_path / "set")


def test_a_box_that_reaches_over_the_edge_is_clipped_and_noted(tmp_path):
    to_teach = teaching_set(marked_anew(made_set(tmp_path), 2, LabelledObject(0, (-4, 10, 40, 50))))

    assert to_teach.pictures[2].picture.objects[0].box == (0, 10, 40, 50)
    assert to_teach.notes == ("clipped to their pictures: 1 box",)


def test_a_box_that_is_there_twice_counts_once(tmp_path):
    thing = LabelledObject(0, (10, 10, 40, 50))

    assert len(teaching_set(marked_anew(made_set(tmp_path), 2, thing, thing)).pictures[2].picture.objects) == 1


def test_classes_without_objects_are_left_out(tmp_path):
    data = made_set(tmp_path)

    to_teach = teaching_set(
        Dataset(
            ("nothing", "disc"),
            tuple(replace(picture, objects=tuple(replace(thing, class_id=1) for thing in picture.objects)) for picture in data.pictures),
        )
    )

    assert to_teach.labels == ("disc",)
    assert {thing.class_id for item in to_teach.pictures for thing in item.picture.objects} == {0}


def test_few_pictures_of_a_class_are_noted(tmp_path):
    assert any(
        note.startswith("few pictures: bar (1)")
        for note in teaching_set(
            marked_anew(Dataset(("disc", "bar"), made_set(tmp_path).pictures), 3, LabelledObject(1, (10, 10, 40, 40)))
        ).notes
    )


def test_an_unreadable_picture_is_named(tmp_path):
    to_teach = teaching_set(made_set(tmp_path))
    (tmp_path / "p3.png").write_bytes(b"no picture")

    with pytest.raises(InputError, match=r"p3\.png: .*; replace or remove the picture$"):
        to_teach.pictures[3].load()


def test_background_is_a_folder_with_pictures(tmp_path):
    save_dataset(made_set(tmp_path / "in"), tmp_path / "set", "yolo")
    (tmp_path / "empty").mkdir()
    write_picture(tmp_path / "street" / "deep" / "a.png", 99, things=0)

    with pytest.raises(MissingError, match="no folder of background pictures"):
        read_teaching_set(tmp_path / "set", background=tmp_path / "none")
    with pytest.raises(InputError, match="has no pictures; give --background"):
        read_teaching_set(tmp_path / "set", background=tmp_path / "empty")
    to_teach = read_teaching_set(tmp_path / "set", background=tmp_path / "street")
    assert [item.picture.name for item in to_teach.pictures if item.background] == ["deep/a.png"]


@pytest.mark.parametrize("kind", ["yolo", "voc", "coco"])
def test_every_format_is_read(kind, tmp_path):
    save_dataset(made_set(tmp_path / "in", kinds=2), tmp_path / "set", kind)

    to_teach = read_teaching_set(tmp_path / "set")

    assert sorted(to_teach.labels) == ["bar", "disc"]
    assert sum(len(item.picture.objects) for item in to_teach.pictures) == 8
