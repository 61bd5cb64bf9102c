"""Annotated copies: names that follow the picture's, whole files only."""

from __future__ import annotations

import cv2
import pytest

from edgeannot.base.errors import ConfigError
from edgeannot.sinks.images import ImagesOptions, ImagesSink


def test_a_copy_lies_where_the_picture_lay_in_its_source(annotate, context):
    sink = ImagesSink(ImagesOptions(), context)

    messages = sink.write(annotate(("cat", 15, 0.9, (20, 20, 120, 80)), name="2026/july/cat.jpg"))

    copy = cv2.imread(str(context.out_dir / "annotated/porch/2026/july/cat.jpg"))
    assert list(messages) == []
    assert copy.shape == (100, 200, 3)
    assert int(copy.std()) > 5, "a box was drawn on the grey picture"


def test_a_picture_without_objects_is_copied_unless_told_otherwise(annotate, context):
    ImagesSink(ImagesOptions(), context).write(annotate(name="a.jpg"))
    ImagesSink(ImagesOptions(empty=False), context).write(annotate(name="b.jpg"))

    assert [path.name for path in (context.out_dir / "annotated/porch").iterdir()] == ["a.jpg"]


def test_pictures_of_other_formats_keep_their_names_apart(annotate, context):
    sink = ImagesSink(ImagesOptions(), context)

    for name in ("a.jpg", "a.png", "a.JPEG"):
        sink.write(annotate(name=name))

    assert sorted(path.name for path in (context.out_dir / "annotated/porch").iterdir()) == ["a.JPEG", "a.jpg", "a.png.jpg"]


def test_a_full_disk_costs_the_copy_and_is_said_once(annotate, context, caplog):
    sink = ImagesSink(ImagesOptions(min_free_mb=10**9), context)

    sink.write(annotate(name="a.jpg"))
    sink.write(annotate(name="b.jpg"))

    assert list((context.out_dir / "annotated").rglob("*.jpg")) == []
    assert len([record for record in caplog.records if "cannot write files" in record.message]) == 1


def test_a_folder_that_cannot_be_made_is_a_configuration_error(context):
    context.out_dir.mkdir()
    (context.out_dir / "annotated").write_text("a file is in the way")

    with pytest.raises(ConfigError, match="cannot be created"):
        ImagesSink(ImagesOptions(), context)
