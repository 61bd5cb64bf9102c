"""Names and whole files: what every file sink relies on."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeannot.sinks.files import OutputFolder, companion_name, picture_name
from edgeannot.vision.data import Frame


def test_a_camera_frame_without_a_name_is_called_by_its_time(annotate):
    assert picture_name(annotate(name="", seq=12).frame) == PurePosixPath("porch/2026-07-01/103105-000012.jpg")


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "a/../../b", "..", ".", "a\0b", "./x"])
def test_no_name_leads_out_of_the_folder(annotate, name):
    found = picture_name(annotate(name=name).frame)

    assert found.parts[0] == "porch"
    assert len(found.parts) > 1
    assert ".." not in found.parts
    assert "\0" not in str(found)


@pytest.mark.parametrize("source", ["..", ".", "", "a/b"])
def test_a_source_is_one_folder_level(annotate, source):
    found = picture_name(annotate(name="a.jpg", source=source).frame)

    assert len(found.parts) == 2
    assert found.parts[0] not in {"", ".", ".."}


def test_a_full_disk_is_called_full_where_no_room_has_to_be_left(tmp_path, monkeypatch, caplog):
    out = OutputFolder(tmp_path)
    monkeypatch.setattr(out, "has_room", lambda size: False)

    assert out.write(PurePosixPath("a.jpg"), b"x") is None
    assert "the disk is full" in caplog.text
    assert OutputFolder(tmp_path, min_free_bytes=3 << 20).no_room == "less than 3 MB are free"


def test_a_picture_that_was_named_has_no_level_for_its_source(annotate):
    frame = replace(annotate(name="a/../b/../1.jpg").frame, own_folder=False)

    assert picture_name(frame) == PurePosixPath("a/b/1.jpg")
    assert picture_name(replace(frame, name="..")).parts[-1] not in {"", ".."}


@given(st.binary(min_size=1, max_size=255).filter(lambda raw: b"/" not in raw and b"\0" not in raw))
def test_any_name_that_a_file_can_have_can_be_written(tmp_path_factory, raw):
    annotation_name = os.fsdecode(raw)
    frame = Frame(None, "s", 0, None, "", None, 0.0, annotation_name if annotation_name.strip(".") else "x")  # type: ignore[arg-type] # only the name is read
    folder = tmp_path_factory.mktemp("names")

    path = OutputFolder(folder).write(companion_name(frame, ".json"), b"{}")

    assert path.read_bytes() == b"{}"
    assert path.parent.parent == folder


def test_long_names_stay_different(annotate):
    names = {companion_name(annotate(name="x" * 250 + str(number)).frame, ".txt") for number in range(10)}

    assert len(names) == 10


def test_a_companion_takes_the_stem_unless_a_sibling_would_take_it_too(annotate, tmp_path: Path):
    for name in ("alone.jpg", "twin.jpg", "twin.png"):
        (tmp_path / name).touch()

    def companion(name: str) -> str:
        return companion_name(annotate(name=name, path=tmp_path / name).frame, ".txt").name

    assert companion("alone.jpg") == "alone.txt"
    assert companion("twin.jpg") == "twin.jpg.txt"
    assert companion("twin.png") == "twin.png.txt"


def test_a_name_as_long_as_it_may_be_has_companions_too(annotate, tmp_path: Path):
    path = tmp_path / ("x" * 251 + ".jpg")
    path.touch()

    written = OutputFolder(tmp_path / "out").write(companion_name(annotate(name=path.name, path=path).frame, ".txt"), b"")

    assert written is not None
    assert written.exists()


def test_a_write_that_fails_leaves_nothing_behind(tmp_path: Path):
    (tmp_path / "name").mkdir()

    assert OutputFolder(tmp_path).write(PurePosixPath("name"), b"data") is None
    assert [path.name for path in tmp_path.iterdir()] == ["name"]


def test_a_folder_that_heals_is_written_to_again_and_says_so(tmp_path: Path, caplog):
    out = OutputFolder(tmp_path / "out")
    (tmp_path / "out/level").write_text("a file where a folder must be")

    assert out.write(PurePosixPath("level/a.txt"), b"1") is None
    (tmp_path / "out/level").unlink()
    assert out.write(PurePosixPath("level/a.txt"), b"1") == tmp_path / "out/level/a.txt"

    assert out.skipped == 1
    assert [record.message.split()[0] for record in caplog.records] == ["cannot", "writing"]


def test_a_folder_that_somebody_removed_is_made_again(tmp_path: Path):
    out = OutputFolder(tmp_path / "results" / "labels" / "yolo", min_free_bytes=1)
    shutil.rmtree(tmp_path / "results")

    assert out.write(PurePosixPath("porch/a.txt"), b"1") == tmp_path / "results/labels/yolo/porch/a.txt"


def test_a_folder_on_a_medium_that_was_taken_away_is_not_made_again_elsewhere(tmp_path: Path, monkeypatch):
    out = OutputFolder(tmp_path / "medium" / "labels")
    shutil.rmtree(tmp_path / "medium")
    monkeypatch.setattr(out, "_device", -1)  # as if the medium had been another device than what lies below it

    assert out.write(PurePosixPath("porch/a.txt"), b"1") is None
    assert not (tmp_path / "medium").exists()


def test_what_was_written_last_is_brought_to_the_disk_with_its_name(tmp_path: Path, monkeypatch):
    synced = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (synced.append(Path(f"/proc/self/fd/{fd}").readlink()), real(fd)))
    out = OutputFolder(tmp_path)
    out.flush()
    out.write(PurePosixPath("a.txt"), b"1")
    out.flush()
    out.flush()

    assert synced == [tmp_path / "a.txt", tmp_path]
