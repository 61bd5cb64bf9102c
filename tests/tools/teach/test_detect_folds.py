"""The folds of a set: nothing is left empty, and what is nearly the same stays together."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from edgeannot_tools.teach.detect.held_out import find_alike, make_folds
from edgeannot_tools.teach.detect.pictures import LabelledPicture
from edgeannot_tools.teach.near_duplicates import difference_hash
from tests.tools.teach.made_pictures import made_set


def labelled(folder, pictures, empty=0):
    return [LabelledPicture(picture) for picture in made_set(folder, pictures=pictures, empty=empty).pictures]


def again(folder, item, name, change=lambda image: image):
    """The picture once more, under another name."""
    image = change(cv2.imread(str(item.path)))
    cv2.imwrite(str(folder / name), image)
    return LabelledPicture(replace(item.picture, name=name, path=folder / name))


def alike(items, vectors):
    """The groups of pictures of which a network says so, and the notes."""
    hashes = np.stack([np.stack(difference_hash(cv2.imread(str(item.path)))) for item in items])
    return find_alike(items, hashes, np.array(vectors, np.float32))


def test_no_fold_is_left_empty_and_classes_are_spread(tmp_path):
    items = labelled(tmp_path, 7, empty=5)

    folds = make_folds(items, np.arange(12))

    assert set(folds[:7]) == set(folds[7:]) == {0, 1, 2, 3, 4}
    assert set(make_folds(items[:2], np.arange(2))) == {0, 1}
    assert np.array_equal(folds, make_folds(items, np.arange(12)))


def test_a_group_is_in_one_fold(tmp_path):
    items = labelled(tmp_path, 8)

    folds = make_folds(items, np.array([0, 0, 0, 3, 4, 5, 6, 3]))

    assert folds[0] == folds[1] == folds[2]
    assert folds[3] == folds[7]
    assert set(folds) == {0, 1, 2, 3, 4}


def test_different_pictures_are_groups_of_their_own(tmp_path):
    groups, notes = alike(labelled(tmp_path, 4), np.eye(4))

    assert groups.tolist() == [0, 1, 2, 3]
    assert notes == ()


def test_copies_and_nearly_the_same_are_one_group(tmp_path):
    items = labelled(tmp_path, 5)
    items += [again(tmp_path, items[0], "copy.png"), again(tmp_path, items[1], "mirror.png", lambda image: image[:, ::-1])]

    groups, notes = alike(items, np.eye(5)[[0, 1, 2, 3, 4, 0, 1]])

    assert groups.tolist() == [0, 1, 2, 3, 4, 0, 1]
    assert notes == ("4 pictures are nearly the same as others: they stay in one fold each",)


def test_of_one_scene_only_copies_stay_together(tmp_path):
    """A camera on the wall: all that differs between its pictures is what moved."""
    (first,) = labelled(tmp_path, 1)
    items = [first, again(tmp_path, first, "copy.png")]
    items += [again(tmp_path, first, f"{n}.png", lambda image, n=n: np.clip(image + np.uint8(n), 0, 255)) for n in (1, 2, 3)]
    items[1].path.write_bytes(first.path.read_bytes())

    groups, notes = alike(items, np.ones((5, 3)))

    assert groups.tolist() == [0, 0, 2, 3, 4]
    assert notes == ("5 of 5 pictures with objects show nearly the same: the figures hold for this scene alone",)
