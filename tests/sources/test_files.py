"""Picture files that are named."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from edgeannot.base.errors import InputError, MissingError
from edgeannot.sources import Context, FilesOptions, open_source
from edgeannot.sources.files import check_files, short_names
from edgeannot.vision.data import Failure, Frame


@pytest.fixture
def annotate(pull):
    def begin(*paths, **options):
        return pull(open_source("files", FilesOptions(paths=paths, **options), Context(once=True))).rest()

    return begin


def test_no_files_are_no_source():
    with pytest.raises(ValidationError, match="at least 1 item"):
        FilesOptions(paths=())


def test_files_come_in_the_order_in_which_they_are_named_under_their_names(annotate, tmp_path, jpeg):
    for folder in ("b", "a"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "1.jpg").write_bytes(jpeg(size=16))
    frames = annotate(tmp_path / "b/1.jpg", tmp_path / "a/1.jpg", tmp_path / "b/1.jpg")

    assert [frame.name for frame in frames] == ["b/1.jpg", "a/1.jpg", "b/1.jpg"]
    assert [frame.seq for frame in frames] == [0, 1, 2]
    assert all(isinstance(frame, Frame) and frame.key is None for frame in frames)
    assert frames[0].size_wh == (16, 16)
    assert frames[0].path == tmp_path / "b/1.jpg"


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["/x/deep/1.jpg", "/y/2.jpg"], ["1.jpg", "2.jpg"]),
        (["/a/x/1.jpg", "/b/x/1.jpg", "/b/2.jpg"], ["a/x/1.jpg", "b/x/1.jpg", "2.jpg"]),
        (["/a/cat.jpg", "/b/cat.png"], ["a/cat.jpg", "b/cat.png"]),  # both would have the label file cat.txt
        (["/a/cat.jpg", "/a/cat.png"], ["cat.jpg", "cat.png"]),  # these have not, as the sinks see them side by side
        (["/a/1.jpg", "/b/1.JPG"], ["a/1.jpg", "b/1.JPG"]),
        (["/1.jpg", "/a/1.jpg"], ["1.jpg", "a/1.jpg"]),
        (["/A/1.jpg", "/a/1.jpg"], ["A/1.jpg", "a/1.jpg"]),
    ],
)
def test_names_are_as_short_as_files_of_one_name_allow(paths, names):
    assert list(short_names([Path(path) for path in paths]).values()) == names


def test_a_picture_among_the_results_is_refused_before_anything_begins(tmp_path, jpeg):
    (tmp_path / "annotated").mkdir()
    (tmp_path / "annotated/1.jpg").write_bytes(jpeg())
    (tmp_path / "link.jpg").symlink_to("annotated/1.jpg")
    for name in ("annotated/1.jpg", "link.jpg"):
        with pytest.raises(InputError, match=r"lies where results are written .*choose another --out"):
            open_source("files", FilesOptions(paths=(tmp_path / name,)), Context(once=True, results=(tmp_path / "annotated",)))


def test_a_name_without_a_folder_is_that_of_the_current_one(annotate, tmp_path, jpeg, monkeypatch):
    (tmp_path / "1.jpg").write_bytes(jpeg())
    monkeypatch.chdir(tmp_path)

    assert [frame.name for frame in annotate("1.jpg")] == ["1.jpg"]


@pytest.mark.parametrize(
    ("data", "reason"), [(b"", "empty"), (b"no picture", "not-a-picture"), (None, "unreadable"), (bytes(2 << 20), "too-large")]
)
def test_what_is_no_picture_is_a_failure_and_stays(annotate, tmp_path, jpeg, data, reason):
    path = tmp_path / "a.jpg"
    if data is not None:
        path.write_bytes(data)
    (tmp_path / "b.jpg").write_bytes(jpeg())
    failure, frame = annotate(path, tmp_path / "b.jpg", max_file_mb=1)

    assert isinstance(failure, Failure)
    assert (failure.name, failure.reason, failure.quarantined, failure.key) == ("a.jpg", reason, None, None)
    assert frame.name == "b.jpg"
    assert path.exists() == (data is not None)


def test_what_becomes_of_a_file_after_the_start_costs_that_file_only(pull, tmp_path, jpeg):
    paths = [tmp_path / f"{number}.jpg" for number in range(7)]
    for path in paths:
        path.write_bytes(jpeg())
    items = pull(open_source("files", FilesOptions(paths=tuple(paths)), Context(once=True)))
    items.take(1)
    paths[1].rename(tmp_path / "elsewhere.jpg")
    for path in paths[2:6]:
        path.unlink()
    os.mkfifo(paths[2])  # nobody writes to it: a reader would wait for ever
    paths[3].mkdir()
    paths[4].symlink_to("/dev/zero")
    paths[5].write_bytes(b"")
    *failures, last = items.take(6)

    assert [failure.reason for failure in failures] == ["unreadable", "empty", "unreadable", "truncated", "empty"]
    assert last.name == "6.jpg"


def test_a_file_that_cannot_be_annotated_at_all_is_told_before_anything_begins(tmp_path, jpeg):
    (tmp_path / "a.jpg").write_bytes(jpeg())
    os.mkfifo(tmp_path / "pipe")
    check_files([tmp_path / "a.jpg"])

    with pytest.raises(MissingError, match=r"b\.jpg cannot be read: No such file"):
        check_files([tmp_path / "a.jpg", tmp_path / "b.jpg"])
    with pytest.raises(MissingError, match="a camera or a stream is named by --camera"):
        check_files([Path("rtsp://camera/stream")])
    with pytest.raises(InputError, match="is a folder: wanted picture files"):
        check_files([tmp_path])
    with pytest.raises(InputError, match="is no file: wanted picture files, found a pipe"):
        check_files([tmp_path / "pipe"])
