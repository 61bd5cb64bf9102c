"""Files that are written whole or not at all, and never through what somebody else has planted."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

import pytest

from edgeannot.base import atomicfile


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_an_empty_file_is_a_file(tmp_path: Path):
    atomicfile.write(tmp_path / "deep" / "a", b"")

    assert (tmp_path / "deep" / "a").read_bytes() == b""


@pytest.mark.parametrize("durable", [False, True])
def test_a_file_is_replaced_and_nothing_else_is_left(tmp_path: Path, durable):
    (tmp_path / "a").write_bytes(b"old and longer")

    atomicfile.write(tmp_path / "a", b"new", durable=durable)

    assert (tmp_path / "a").read_bytes() == b"new"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize(("mode", "wanted"), [(None, 0o640), (0o600, 0o600), (0o644, 0o644)])
def test_permissions_are_those_asked_for_or_those_of_the_umask(tmp_path: Path, mode, wanted):
    before = os.umask(0o027)
    try:
        atomicfile.write(tmp_path / "a", b"", mode=mode)
    finally:
        os.umask(before)

    assert mode_of(tmp_path / "a") == wanted


def test_while_it_is_written_watched_folders_pass_over_it(tmp_path: Path):
    with atomicfile.new_file(tmp_path / "a.jpg") as file:
        file.write(b"half")
        [temporary] = tmp_path.iterdir()

    assert temporary.name.startswith(".")
    assert temporary.suffix == ".tmp"


def test_a_block_that_fails_leaves_what_was_there(tmp_path: Path):
    (tmp_path / "a").write_bytes(b"old")

    with pytest.raises(TypeError), atomicfile.new_file(tmp_path / "a") as file:
        file.writelines([b"half", "no bytes"])  # type: ignore[list-item] # the failure is the point

    assert (tmp_path / "a").read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("target", ["victim", "nothing", "a"])
def test_a_link_is_replaced_and_what_it_points_to_stays(tmp_path: Path, target):
    (tmp_path / "victim").write_bytes(b"kept")
    (tmp_path / "a").symlink_to(target)

    atomicfile.write(tmp_path / "a", b"new")

    assert (tmp_path / "victim").read_bytes() == b"kept"
    assert (tmp_path / "a").read_bytes() == b"new"
    assert not (tmp_path / "a").is_symlink()


def test_a_device_is_never_replaced_also_where_a_link_leads_to_it(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "stdout").symlink_to("pipe")

    for name in ("pipe", "stdout"):
        with pytest.raises(OSError, match="no regular file"):
            atomicfile.write(tmp_path / name, b"new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pipe", "stdout"]


def test_below_the_users_folder_no_folder_is_entered_through_a_link(tmp_path: Path):
    for name in ("mine", "elsewhere"):
        (tmp_path / name).mkdir()
    (tmp_path / "mine" / "cam").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(OSError, match="cam is a link"):
        atomicfile.write(tmp_path / "mine" / "cam" / "a", b"new", below=tmp_path / "mine")
    atomicfile.write(tmp_path / "mine" / "door" / "today" / "a", b"new", below=tmp_path / "mine")

    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert (tmp_path / "mine" / "door" / "today" / "a").read_bytes() == b"new"


def test_the_users_own_folder_may_be_a_link(tmp_path: Path):
    (tmp_path / "large").mkdir()
    (tmp_path / "out").symlink_to("large")

    atomicfile.write(tmp_path / "out" / "a", b"new", below=tmp_path / "out")

    assert (tmp_path / "large" / "a").read_bytes() == b"new"


@pytest.mark.timeout(150)
@pytest.mark.parametrize("planted", ["link", "link to nothing", "pipe", "folder"])
def test_only_a_regular_file_is_appended_to(tmp_path: Path, planted):
    path = tmp_path / "lines"
    if planted == "pipe":
        os.mkfifo(path)
    elif planted == "folder":
        path.mkdir()
    else:
        (tmp_path / "victim").write_bytes(b"kept")
        path.symlink_to("victim" if planted == "link" else "nothing")

    with pytest.raises(OSError, match=r"is a link|no regular file|directory"):
        atomicfile.open_append(path)
    assert not (tmp_path / "nothing").exists()


def test_appending_goes_on_at_the_end(tmp_path: Path):
    for line in (b"1\n", b"2\n"):
        fd = atomicfile.open_append(tmp_path / "lines")
        os.write(fd, line)
        os.close(fd)

    assert (tmp_path / "lines").read_bytes() == b"1\n2\n"


def test_what_is_there_is_not_created(tmp_path: Path):
    (tmp_path / "a").symlink_to("nothing")

    with pytest.raises(FileExistsError):
        atomicfile.create(tmp_path / "a")


def test_what_a_killed_run_left_goes_once_it_is_old_and_nothing_else_does(tmp_path: Path):
    names = [".edgeannot-0123456789abcdef.tmp", ".edgeannot-fedcba9876543210.tmp", ".edgeannot-notes.tmp"]
    for name in names:
        (tmp_path / name).touch()
    for name in (names[0], names[2]):
        os.utime(tmp_path / name, (time.time() - 7200,) * 2)

    atomicfile.remove_leftovers(tmp_path)
    atomicfile.remove_leftovers(tmp_path / "nowhere")

    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names[1:])
