"""The pictures that the model was least sure of: a bounded number, the least sure ones."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import cv2
import pytest

from edgeannot.sinks.unsure import UnsureOptions, UnsureSink


@pytest.fixture
def seen(annotate):
    """Make a picture of a file with one object of a score."""

    def make(score, number=0, **where):
        row = [("cat", 15, score, (20, 20, 120, 80))] if score is not None else []
        return annotate(*row, name=f"{number}.jpg", **{"path": Path(f"/in/{number}.jpg"), **where})

    return make


def scores(context):
    return sorted(path.name.split("-")[0] for path in (context.out_dir / "unsure").iterdir())


def test_of_sure_pictures_and_of_empty_ones_none_is_kept(seen, context):
    sink = UnsureSink(UnsureOptions(), context)

    assert list(sink.write(seen(0.5))) == list(sink.write(seen(None))) == []

    assert scores(context) == []


def test_empty_ones_are_kept_first_of_all_where_that_is_set(seen, context):
    sink = UnsureSink(UnsureOptions(empty=True, max_pictures=1), context)

    sink.write(seen(0.4, 1))
    sink.write(seen(None, 2))
    sink.write(seen(0.3, 3))

    assert scores(context) == ["none"], "no score, rather than one of 0"


def test_next_to_empty_ones_the_least_sure_are_kept(seen, context):
    for number, score in enumerate((0.4, None, 0.0002, 0.3)):
        UnsureSink(UnsureOptions(empty=True, max_pictures=2), context).write(seen(score, number))

    assert scores(context) == ["0.000", "none"]


def test_the_smallest_score_of_a_picture_counts(annotate, context):
    rows = ("cat", 15, 0.9, (20, 20, 120, 80)), ("dog", 16, 0.41, (0, 0, 50, 40))

    UnsureSink(UnsureOptions(), context).write(annotate(*rows))

    (path,) = (context.out_dir / "unsure").iterdir()
    assert path.name.startswith("0.410-20260701T103105-porch-")
    assert int(cv2.imread(str(path)).std()) == 0, "no box is drawn"


def test_the_least_sure_are_kept_also_after_a_restart(seen, context):
    for number, score in enumerate((0.45, 0.31, 0.49, 0.35, 0.40)):
        UnsureSink(UnsureOptions(max_pictures=2), context).write(seen(score, number))

    assert scores(context) == ["0.310", "0.350"]


def test_other_files_of_the_folder_are_left_alone(seen, context):
    folder = context.out_dir / "unsure"
    folder.mkdir(parents=True)
    (folder / "0.1-mine.jpg").write_bytes(b"x")

    for number in range(3):
        UnsureSink(UnsureOptions(max_pictures=1), context).write(seen(0.4, number))

    assert len(list(folder.iterdir())) == 2
    assert (folder / "0.1-mine.jpg").exists()


def test_of_a_camera_one_picture_in_a_while_and_of_each_its_own(seen, context, monkeypatch):
    now = 100.0
    monkeypatch.setattr("edgeannot.sinks.unsure.time.monotonic", lambda: now)
    sink = UnsureSink(UnsureOptions(every_s=60), context)

    sink.write(seen(0.4, 1, path=None))
    sink.write(seen(0.3, 2, path=None))
    sink.write(seen(0.2, 3, path=None, source="yard"))
    now = 160.0
    sink.write(seen(0.1, 4, path=None))

    assert scores(context) == ["0.100", "0.200", "0.400"]


def test_the_name_is_the_moment_in_utc(seen, context):
    UnsureSink(UnsureOptions(), context).write(seen(0.4))

    (path,) = (context.out_dir / "unsure").iterdir()
    assert datetime.strptime(path.name[6:21], "%Y%m%dT%H%M%S").replace(tzinfo=UTC) == datetime(2026, 7, 1, 10, 31, 5, tzinfo=UTC)
