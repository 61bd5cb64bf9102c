"""Files leave a folder without anything being overwritten or half there."""

from __future__ import annotations

import errno
import os
import resource
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from edgeannot.sources import quarantine as quarantining
from edgeannot.sources.quarantine import move_aside, quarantine

FACTS = {"reason": "damaged", "message": "a.jpg: no good"}


@pytest.fixture
def away(tmp_path):
    return tmp_path / "away"


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "in" / "a.jpg"
    path.parent.mkdir()
    path.write_bytes(b"content")
    return path


def test_the_reason_lies_beside_the_file(picture, away):
    place = quarantine(picture, Path("d/a.jpg"), away, **FACTS)

    assert place == away / "d" / "a.jpg"
    assert place.read_bytes() == b"content"
    note, _, when = (away / "d" / "a.jpg.reason.txt").read_text().rpartition("at: ")
    assert note == f"a.jpg: no good\nreason: damaged\nfrom: {picture}\n"
    assert datetime.now(UTC) - datetime.fromisoformat(when.strip()) < timedelta(minutes=1)
    assert not picture.exists()


def test_neither_a_file_nor_a_note_is_overwritten(picture, away):
    away.mkdir()
    (away / "a.jpg").write_bytes(b"first")
    (away / "a-1.jpg.reason.txt").write_text("of a file that somebody took away")

    assert quarantine(picture, Path("a.jpg"), away, **FACTS) == away / "a-2.jpg"
    assert (away / "a.jpg").read_bytes() == b"first"
    assert not (away / "a.jpg.reason.txt").exists()


def test_a_file_that_cannot_be_moved_leaves_no_note(away, tmp_path):
    with pytest.raises(FileNotFoundError):
        quarantine(tmp_path / "none.jpg", Path("none.jpg"), away, **FACTS)

    assert list(away.iterdir()) == []


def test_a_link_is_moved_and_still_points_to_its_file(tmp_path, away):
    (tmp_path / "in").mkdir()
    (tmp_path / "original").write_bytes(b"content")
    link = tmp_path / "in" / "a.jpg"
    link.symlink_to("../original")

    place = quarantine(link, Path("a.jpg"), away, **FACTS)

    assert place.is_symlink()
    assert place.read_bytes() == b"content"
    assert not link.is_symlink()
    assert (tmp_path / "original").exists()


def test_to_another_file_system_a_file_is_copied_and_then_removed(picture, away, monkeypatch):
    """Renaming across devices fails with EXDEV; it is made to fail here, as a test has one file system."""
    rename = Path.rename

    def refuse(path, target):
        if path == picture:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        return rename(path, target)

    monkeypatch.setattr(quarantining.Path, "rename", refuse)

    place = move_aside(picture, Path("a.jpg"), away)

    assert place.read_bytes() == b"content"
    assert not picture.exists()
    assert [p.name for p in away.iterdir()] == ["a.jpg"]


def test_a_medium_that_takes_no_permissions_and_no_times_takes_the_file(picture, away, monkeypatch):
    """A USB stick or a network share that somebody else has mounted: who may write files may still not change their facts."""

    def other_file_system(self, target):
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    def refuse(*_, **__):
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(quarantining.Path, "rename", other_file_system)
    monkeypatch.setattr(quarantining.os, "fchmod", refuse)
    monkeypatch.setattr(quarantining.os, "utime", refuse)

    assert move_aside(picture, Path("a.jpg"), away).read_bytes() == b"content"
    assert not picture.exists()


def test_a_picture_that_cannot_go_leaves_no_copy(picture, away, monkeypatch):
    """A read-only mount: each start would add a copy. The quarantine's one copy is wanted, with its reason."""

    def refuse(path, *_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    rename, unlink = Path.rename, Path.unlink
    monkeypatch.setattr(quarantining.Path, "rename", lambda path, target: refuse(path) if path == picture else rename(path, target))
    monkeypatch.setattr(quarantining.Path, "unlink", lambda path, **options: refuse(path) if path == picture else unlink(path, **options))

    with pytest.raises(OSError, match="Read-only"):
        move_aside(picture, Path("a.jpg"), away)
    assert picture.exists()
    assert list(away.iterdir()) == []
    assert quarantine(picture, Path("a.jpg"), away, **FACTS).read_bytes() == b"content"


def test_a_large_file_is_not_copied_to_another_file_system_but_left(picture, away, monkeypatch):
    """A film of 8 GB on a USB disk may not fill the card that the state is on; a hole of 1 TB would be copied for hours."""

    def other_file_system(self, target):
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    os.truncate(picture, 200 * 2**20)
    monkeypatch.setattr(Path, "rename", other_file_system)

    with pytest.raises(OSError, match="too large to be copied"):
        quarantine(picture, Path("a.jpg"), away, **FACTS)
    assert picture.exists()
    assert list(away.iterdir()) == []


def test_no_name_makes_lines_of_its_own_in_the_reason(tmp_path, away):
    name = "a\nreason: none\x1b[2J\udcff é.jpg"
    (tmp_path / name).write_bytes(b"content")

    place = quarantine(tmp_path / name, Path("a.jpg"), away, reason="damaged", message=f"{name}: no good")

    note = place.with_name("a.jpg.reason.txt").read_bytes()
    assert b"\x1b" not in note
    assert [line.split(b":")[0] for line in note.splitlines()] == [b"a\\nreason", b"reason", b"from", b"at"]
    assert b"\xff \xc3\xa9.jpg" in note


def test_a_name_of_full_length_finds_room_for_its_note(tmp_path, away):
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / ("n" * 251 + ".jpg")
    path.write_bytes(b"content")

    place = quarantine(path, Path(path.name), away, **FACTS)

    assert place.read_bytes() == b"content"
    assert place.suffix == ".jpg"


def test_a_full_disk_leaves_no_empty_reason_behind(tmp_path):
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"bad")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        with pytest.raises(OSError, match="too large"):
            quarantine(bad, Path("bad.jpg"), tmp_path / "quarantine", reason="damaged", message="it is")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert bad.exists()
    assert list((tmp_path / "quarantine").iterdir()) == []
