"""What the kernel's events mean."""

from __future__ import annotations

import os
import subprocess
from contextlib import closing
from pathlib import Path

import pytest
from inotify_simple import Event

from edgeannot.sources.folder import MASK, OVERFLOW, Change, TreeWatch


def changes(watch):
    return [(c.what, Path(c.path).name) for c in watch.read(0.2)]


def test_nothing_happens_in_an_empty_folder(tmp_path):
    with closing(TreeWatch(str(tmp_path))) as watch:
        assert watch.read(0) == []


def test_a_written_file_is_created_then_complete(tmp_path):
    with closing(TreeWatch(str(tmp_path))) as watch:
        (tmp_path / "a").write_bytes(b"x")

        assert changes(watch) == [("created", "a"), ("complete", "a")]


def test_a_file_that_is_moved_in_is_complete_and_a_link_is_only_created(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "a").write_bytes(b"x")
    with closing(TreeWatch(str(tmp_path / "in"))) as watch:
        (tmp_path / "in" / "link").hardlink_to(tmp_path / "a")
        (tmp_path / "a").rename(tmp_path / "in" / "b")

        assert changes(watch) == [("created", "link"), ("complete", "b")]


def test_a_new_folder_is_told_and_a_watch_on_one_that_is_gone_is_none(tmp_path):
    with closing(TreeWatch(str(tmp_path))) as watch:
        (tmp_path / "d").mkdir()

        assert changes(watch) == [("folder", "d")]
        assert watch.add(str(tmp_path / "d"))
        assert not watch.add(str(tmp_path / "none"))
        assert len(watch._paths) == 2


def test_a_folder_that_is_moved_away_takes_its_watches_with_it(tmp_path):
    (tmp_path / "in" / "d" / "e").mkdir(parents=True)
    with closing(TreeWatch(str(tmp_path / "in"))) as watch:
        watch.add(str(tmp_path / "in" / "d"))
        watch.add(str(tmp_path / "in" / "d" / "e"))
        (tmp_path / "in" / "d").rename(tmp_path / "out")
        watch.read(0.2)
        (tmp_path / "out" / "e" / "file").write_bytes(b"x")

        assert changes(watch) == []
        assert len(watch._paths) == 1


def test_the_end_of_the_root_is_told(tmp_path):
    (tmp_path / "in").mkdir()
    with closing(TreeWatch(str(tmp_path / "in"))) as watch:
        (tmp_path / "in").rmdir()

        assert ("gone", "in") in changes(watch)


def test_an_overflow_is_told_although_it_belongs_to_no_watch(tmp_path):
    with closing(TreeWatch(str(tmp_path))) as watch:
        assert watch.interpret([Event(-1, OVERFLOW, 0, "")]) == [Change("overflow", str(tmp_path))]


def test_an_event_of_a_watch_that_is_no_longer_known_is_passed_over(tmp_path):
    with closing(TreeWatch(str(tmp_path))) as watch:
        assert watch.interpret([Event(4711, MASK, 0, "x")]) == []


def test_changed_rights_are_told_of_files_of_folders_and_of_the_root(tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "folder").mkdir()
    with closing(TreeWatch(str(tmp_path))) as watch:
        for path in (tmp_path / "file", tmp_path / "folder", tmp_path):
            path.chmod(0o700)

        assert [(c.what, c.path) for c in watch.read(0.2)] == [
            ("changed", str(tmp_path / "file")),
            ("folder changed", str(tmp_path / "folder")),
            ("folder changed", str(tmp_path)),
        ]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a file system")
def test_a_folder_that_a_medium_is_taken_from_is_there_again_with_what_lay_below(tmp_path):
    (tmp_path / "card").mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(tmp_path / "card")], check=False, capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    with closing(TreeWatch(str(tmp_path))) as watch:
        watch.add(str(tmp_path / "card"))
        subprocess.run(["umount", str(tmp_path / "card")], check=True)

        assert changes(watch) == [("folder", "card")]
