"""Cut-outs: a folder a label, with some surroundings, a bounded number of which none is ever removed."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from edgeannot.sinks.crops import CropsOptions, CropsSink
from edgeannot.vision.news import Cut, News


def crops(context):
    return sorted(path.relative_to(context.out_dir / "crops") for path in (context.out_dir / "crops").rglob("*.jpg"))


def test_a_picture_without_objects_gives_none(annotate, context):
    assert list(CropsSink(CropsOptions(), context).write(annotate())) == []
    assert crops(context) == []


def test_each_object_lies_in_the_folder_of_its_label(annotate, context):
    rows = ("cat", 15, 0.9, (20, 20, 120, 80)), ("dog", 16, 0.6, (0, 0, 50, 40)), ("a/b", 1, 0.5, (60, 0, 90, 40))

    CropsSink(CropsOptions(), context).write(annotate(*rows))

    assert [(path.parent.name, path.name[:22], path.stem[-2:]) for path in crops(context)] == [
        ("a_b", "20260701T103105-porch-", "-2"),
        ("cat", "20260701T103105-porch-", "-0"),
        ("dog", "20260701T103105-porch-", "-1"),
    ]


def test_the_margin_is_cut_out_as_well_and_ends_at_the_picture(annotate, context):
    CropsSink(CropsOptions(margin=0.25), context).write(annotate(("cat", 15, 0.9, (20, 40, 120, 80))))

    (path,) = (context.out_dir / "crops").rglob("*.jpg")
    assert cv2.imread(str(path)).shape == (60, 145, 3)


def test_of_a_large_picture_that_was_decoded_smaller_the_same_part_is_cut_out(annotate, context):
    made = annotate(("cat", 15, 0.9, (200, 400, 1200, 800)), size_wh=(200, 100))
    image = made.frame.image.copy()
    image[40:80, 20:120] = 255

    CropsSink(CropsOptions(margin=0), context).write(replace(made, frame=replace(made.frame, image=image, whole_wh=(2000, 1000))))

    (path,) = (context.out_dir / "crops").rglob("*.jpg")
    crop = cv2.imread(str(path))
    assert crop.shape == (40, 100, 3)
    assert int(crop.min()) > 250


def test_only_the_labels_of_the_settings_and_none_too_small_to_see(annotate, context):
    rows = ("cat", 15, 0.9, (20, 20, 120, 80)), ("dog", 16, 0.6, (0, 0, 50, 40)), ("cat", 15, 0.6, (0, 0, 8, 40))

    CropsSink(CropsOptions(labels=("cat",)), context).write(annotate(*rows))

    assert len(crops(context)) == 1


def test_a_picture_that_is_done_again_is_the_same_files(annotate, context):
    sink = CropsSink(CropsOptions(), context)

    for _ in range(2):
        sink.write(annotate(("cat", 15, 0.9, (20, 20, 120, 80))))

    assert len(crops(context)) == 1


def test_with_enough_files_no_more_are_written_and_none_is_removed_also_after_a_restart(annotate, context, monkeypatch):
    now = 0.0
    monkeypatch.setattr("edgeannot.sinks.crops.time.monotonic", lambda: now)
    for number in range(3):
        sink = CropsSink(CropsOptions(max_files=2), context)
        sink.write(annotate(("cat", 15, 0.9, (20, 20, 120, 80)), name=f"{number}.jpg"))
    kept = crops(context)
    assert len(kept) == 2

    (context.out_dir / "crops" / kept[0]).unlink()
    now = 61.0
    sink.write(annotate(("cat", 15, 0.9, (20, 20, 120, 80)), name="4.jpg"))

    assert len(crops(context)) == 2
    assert kept[1] in crops(context)


def test_it_draws_nothing_on_them(annotate, context):
    CropsSink(CropsOptions(), context).write(annotate(("cat", 15, 0.9, (20, 20, 120, 80))))

    (path,) = (context.out_dir / "crops").rglob("*.jpg")
    assert np.ptp(cv2.imread(str(path))) <= 2


def test_cut_outs_of_regions_lie_in_the_folder_of_region_and_label_and_are_bounded(annotate, context):
    sink = CropsSink(CropsOptions(objects=False, max_files=2), context)
    made = annotate(("cat", 15, 0.9, (20, 20, 120, 80)))

    sink.write(made)
    for number in range(3):
        frame = replace(made.frame, identity=str(number))
        assert sink.tell(News("porch", (), None, cuts=(Cut("gate", "open" if number else "unsorted", 0.5, frame),))) == ()

    assert [path.parent.as_posix() for path in crops(context)] == ["gate/open", "gate/unsorted"]
