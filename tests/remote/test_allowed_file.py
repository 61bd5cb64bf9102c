"""A file that somebody else named is one under the allowed folder, or none."""

from __future__ import annotations

import os
import socket
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeannot.remote.replies import RefusedError, read_named

MOST = 1000


@contextmanager
def refused(code, words=None):
    with pytest.raises(RefusedError, match=words) as caught:
        yield
    assert caught.value.code == code


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with a picture in it, and a secret beside it."""
    (tmp_path / "secret").write_bytes(b"secret")
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    (root / "sub" / "cat.jpg").write_bytes(b"cat")
    return root


def test_nothing_is_under_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(RefusedError, match="no such file"):
        read_named(tmp_path / "none", "cat.jpg", MOST)


@pytest.mark.parametrize("name", ["sub/cat.jpg", "./sub//cat.jpg", "sub/./cat.jpg"])
def test_a_file_under_the_folder_is_read(root, name):
    assert read_named(root, name, MOST) == b"cat"


def test_a_folder_that_is_a_link_itself_and_links_that_stay_inside_are_fine(root, tmp_path):
    (tmp_path / "link").symlink_to(root)
    (root / "again.jpg").symlink_to("sub/cat.jpg")

    assert read_named(tmp_path / "link", "again.jpg", MOST) == b"cat"


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../secret", "sub/../../secret", "sub/../sub/cat.jpg", "/etc/hostname", "//etc/hostname", "sub/cat.jpg\0", "\0"]
)
def test_names_that_lead_elsewhere_are_refused_without_looking(root, name):
    with refused("not-allowed"):
        read_named(root, name, MOST)


def test_links_that_lead_out_are_refused(root, tmp_path):
    (root / "file").symlink_to("../secret")
    (root / "folder").symlink_to(tmp_path)
    (root / "proc").symlink_to("/proc/self")
    (root / "null").symlink_to("/dev/null")
    (tmp_path / "root2").mkdir()
    (tmp_path / "root2" / "secret").write_bytes(b"secret")
    (root / "beside").symlink_to("../root2")

    for name in ("file", "folder/secret", "proc/environ", "null", "beside/secret"):
        with refused("not-allowed"):
            read_named(root, name, MOST)


def test_only_regular_files_are_read_and_nothing_blocks(root, monkeypatch):
    os.mkfifo(root / "pipe")
    monkeypatch.chdir(root)  # the address of a socket has at most 107 bytes
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")

    for name in ("sub", "pipe", "socket"):
        with refused("not-allowed"):
            read_named(root, name, MOST)


def test_links_in_a_ring_end(root):
    (root / "a").symlink_to("b")
    (root / "b").symlink_to("a")

    with pytest.raises(RefusedError, match="symbolic links"):
        read_named(root, "a", MOST)


def test_a_large_file_is_refused_before_it_is_read(root):
    (root / "large").write_bytes(b"x" * (MOST + 1))

    with refused("too-large", "1001 bytes"):
        read_named(root, "large", MOST)


@pytest.fixture(scope="module")
def trap(tmp_path_factory) -> Path:
    """A folder full of ways out; every file outside of it says so."""
    base = tmp_path_factory.mktemp("trap")
    (base / "outside").write_bytes(b"outside")
    root = base / "root"
    (root / "a").mkdir(parents=True)
    (root / "a" / "b").write_bytes(b"inside")
    (root / "out").symlink_to("..")
    (root / "a" / "up").symlink_to("../..")
    (root / "a" / "abs").symlink_to(base / "outside")
    return root


WORDS = st.sampled_from(["a", "b", "out", "up", "abs", "..", ".", "", "outside", "root", "/", "etc", "passwd", "%2e%2e", "\0", "~"])


@given(st.lists(WORDS, max_size=8).map("/".join) | st.text(max_size=30))
def test_no_name_reads_anything_outside(trap, name):
    try:
        content = read_named(trap, name, MOST)
    except RefusedError:
        return
    assert content == b"inside"
