"""Scans and events of a folder where the kernel helps little or not at all."""

from __future__ import annotations

import errno
import logging
import os

import pytest

from edgeannot.sources.backlog import Backlog
from edgeannot.sources.folder import Folder


class SilentWatch:
    """A watch on a network folder: it can be set, and says nothing."""

    def __init__(self, root):
        self.folders = [root]
        self.closed = False

    def add(self, folder):
        self.folders.append(folder)
        return True

    def read(self, timeout_s):
        return []

    def close(self):
        self.closed = True


def names(backlog):
    found = []
    while (name := backlog.next()) is not None:
        found.append(name)
    return found


def old_file(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    os.utime(path, (1_600_000_000, 1_600_000_000))


def test_an_empty_folder_gives_nothing(tmp_path, stop):
    backlog = Backlog(str(tmp_path))

    list(Folder("sources.x", backlog, open_watch=SilentWatch).scan(stop))

    assert len(backlog) == 0
    assert not backlog.ready


def test_what_came_without_an_event_is_found_by_the_next_scan(tmp_path, stop):
    backlog = Backlog(str(tmp_path))
    folder = Folder("sources.x", backlog, rescan_s=1e-9, open_watch=SilentWatch)
    list(folder.scan(stop))

    old_file(tmp_path / "deep" / "a.jpg")
    folder.listen(stop)
    assert names(backlog) == []
    while not folder.scan_due:
        folder.listen(stop)
    list(folder.scan(stop))

    assert names(backlog) == ["deep/a.jpg"]


def test_each_folder_gets_a_watch_before_it_is_read(tmp_path, stop):
    """What comes between the two would be lost otherwise."""
    watches = []

    class Late(SilentWatch):
        def __init__(self, root):
            super().__init__(root)
            watches.append(self)

        def add(self, folder):
            old_file(tmp_path / "a" / "late.jpg")
            return super().add(folder)

    (tmp_path / "a" / "b").mkdir(parents=True)
    backlog = Backlog(str(tmp_path))
    folder = Folder("sources.x", backlog, open_watch=Late)
    list(folder.scan(stop))
    folder.close()

    assert set(watches[0].folders) == {str(tmp_path), str(tmp_path / "a"), str(tmp_path / "a" / "b")}
    assert names(backlog) == ["a/late.jpg"]
    assert watches[0].closed


CAUSES = [
    (errno.ENOSPC, "raise fs.inotify.max_user_watches"),
    (errno.EMFILE, "raise fs.inotify.max_user_instances"),
    (errno.ESTALE, ""),
    (errno.EIO, ""),
]


def advice(text):
    """The settings of the kernel that a log names."""
    return [f"raise {word.rstrip(';,.')}" for word in text.split() if word.startswith("fs.inotify.")]


@pytest.mark.parametrize(("code", "wanted"), CAUSES)
def test_without_a_watch_the_folder_is_scanned_instead_until_it_has_one_and_the_log_says_so_once(
    tmp_path, stop, caplog, monkeypatch, code, wanted
):
    monkeypatch.setattr("edgeannot.sources.folder.POLL_S", 0.0)
    monkeypatch.setattr("edgeannot.sources.folder.SCAN_SHARE", 0)
    refused = True

    def open_watch(root):
        if refused:
            raise OSError(code, os.strerror(code))
        return SilentWatch(root)

    backlog = Backlog(str(tmp_path))
    folder = Folder("sources.x", backlog, rescan_s=0, open_watch=open_watch)
    with caplog.at_level(logging.INFO):
        list(folder.scan(stop))
        old_file(tmp_path / "a.jpg")
        list(folder.scan(stop))
        assert names(backlog) == ["a.jpg"]
        assert advice(caplog.text) == ([wanted] if wanted else [])
        assert caplog.text.count(os.strerror(code)) == 1

        refused = False
        list(folder.scan(stop))

    assert not folder.scan_due, "events come again"
    assert "are watched for changes again" in caplog.messages[-1]


@pytest.mark.parametrize(("code", "wanted"), CAUSES)
def test_a_branch_without_a_watch_is_scanned_by_itself_and_the_rest_keeps_its_events(tmp_path, stop, caplog, monkeypatch, code, wanted):
    monkeypatch.setattr("edgeannot.sources.folder.POLL_S", 0.0)
    monkeypatch.setattr("edgeannot.sources.folder.SCAN_SHARE", 0)
    refused = True
    opened = []

    class Partly(SilentWatch):
        def __init__(self, root):
            super().__init__(root)
            opened.append(self)

        def add(self, folder):
            if refused and "blind" in folder:
                raise OSError(code, os.strerror(code))
            return super().add(folder)

    for name in ("blind/deep/a.jpg", "blind/deeper/b.jpg", "seen/c.jpg"):
        old_file(tmp_path / name)
    backlog = Backlog(str(tmp_path))
    folder = Folder("sources.x", backlog, rescan_s=0, open_watch=Partly)
    with caplog.at_level(logging.INFO):
        list(folder.scan(stop))
        assert sorted(names(backlog)) == ["blind/deep/a.jpg", "blind/deeper/b.jpg", "seen/c.jpg"]
        old_file(tmp_path / "blind" / "deep" / "new.jpg")
        old_file(tmp_path / "seen" / "new.jpg")
        assert folder.scan_due
        list(folder.scan(stop))

        assert "blind/deep/new.jpg" in (found := names(backlog))
        assert "seen/new.jpg" not in found, "the kernel tells of it: it is not looked for"
        assert not opened[0].closed
        assert advice(caplog.text) == ([wanted] if wanted else [])
        assert caplog.text.count(os.strerror(code)) == 1

        refused = False
        list(folder.scan(stop))

    assert {f"{tmp_path}/blind", f"{tmp_path}/blind/deep", f"{tmp_path}/blind/deeper"} <= set(opened[0].folders)
    assert not folder.scan_due
    assert "are watched for changes again" in caplog.messages[-1]


def test_a_folder_that_another_is_put_in_place_of_gets_a_new_watch(tmp_path, stop):
    roots = []

    class Watch(SilentWatch):
        def __init__(self, root):
            super().__init__(root)
            roots.append(root)

    watched = tmp_path / "watched"
    watched.mkdir()
    folder = Folder("sources.x", Backlog(str(watched)), open_watch=Watch)
    list(folder.scan(stop))
    list(folder.scan(stop))
    assert len(roots) == 1

    watched.rename(tmp_path / "former")
    watched.mkdir()
    list(folder.scan(stop))

    assert len(roots) == 2
