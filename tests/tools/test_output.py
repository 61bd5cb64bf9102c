"""What is written is there whole or not at all."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from edgeannot.base.errors import InputError
from edgeannot_tools.output import staged_folder, write_whole


def test_an_empty_folder_can_be_made(tmp_path):
    with staged_folder(tmp_path / "deep" / "out") as stage:
        assert stage.parent == tmp_path / "deep"

    assert list((tmp_path / "deep").iterdir()) == [tmp_path / "deep" / "out"]
    assert stat.S_IMODE((tmp_path / "deep" / "out").stat().st_mode) == stat.S_IMODE((tmp_path / "deep").stat().st_mode)


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit, ValueError])
def test_an_interruption_leaves_nothing(interruption, tmp_path):
    def write_half() -> None:
        with staged_folder(tmp_path / "out") as stage:
            (stage / "half").write_text("x")
            raise interruption

    with pytest.raises(interruption):
        write_half()

    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_that_is_there_is_filled(tmp_path):
    (tmp_path / "out").mkdir()

    with staged_folder(tmp_path / "out") as stage:
        (stage / "a").write_text("x")

    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a"]


def test_the_folder_that_this_process_works_in_is_refused_with_a_reason(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    with pytest.raises(InputError, match=r"\. cannot be written .*choose another path"), staged_folder(Path()):
        pass

    assert list(tmp_path.iterdir()) == []


def test_a_file_keeps_its_permissions_and_no_leftovers(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    path.chmod(0o640)

    write_whole(path, "näw")

    assert path.read_bytes() == "näw".encode()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert list(tmp_path.iterdir()) == [path]


def test_a_new_file_has_ordinary_permissions(tmp_path):
    mask = os.umask(0o022)
    try:
        write_whole(tmp_path / "a", b"x")
    finally:
        os.umask(mask)

    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o644


def test_a_place_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("x")

    with pytest.raises(InputError, match="cannot be written"):
        write_whole(tmp_path / "file" / "a.txt", "x")
    with pytest.raises(InputError, match="cannot be written"), staged_folder(tmp_path / "file" / "out"):
        pass
