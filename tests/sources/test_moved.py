"""Files and folders that were renamed, moved or copied after they were annotated: a real ledger over a real folder."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from edgeannot.base.errors import LinkError
from edgeannot.base.file_signature import FileSignature, LedgerEntry
from edgeannot.daemon.writer import ledger_entry, prune
from edgeannot.sources import Context, DirectoryOptions, open_source
from edgeannot.storage.store import Store
from edgeannot.vision.data import Failure

THEN_NS = 1_600_000_000_123_456_789
ROUND_NS = 1_600_000_000_000_000_000


@pytest.fixture
def store(tmp_path):
    with Store.open(tmp_path / "state.sqlite") as store:
        yield store


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "in"


@pytest.fixture
def start(store, folder, pull):
    """A function that does what `run --once` does with a folder; gives the names of what was not done before."""

    def run(watched=folder, quarantine="leave"):
        context = Context(once=True, outcome=store.outcome, similar=store.similar, move=store.move)
        source = open_source("inbox", DirectoryOptions(path=watched, settle_s=0.1, retry_s=0.1, quarantine=quarantine), context)
        items = pull(source).rest()
        for item in items:
            store.commit(ledger_entry(source, item), [])
        run.done_before = source.done_before
        return [item.name for item in items]

    return run


@pytest.fixture
def put(folder, jpeg):
    """A function that puts a picture of its own into the folder."""

    def write(name, time_ns=THEN_NS, data=None):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data or jpeg(len(name) * 7 % 251))
        os.utime(path, ns=(time_ns, time_ns))
        return path

    return write


def with_other_inodes(folder):
    """Do what a move to another disk does, or a network file system between two mounts."""
    shutil.copytree(folder, folder.with_name("copied"))
    shutil.rmtree(folder)
    folder.with_name("copied").rename(folder)


def test_an_empty_ledger_knows_no_file(start, put):
    put("a.jpg")

    assert start() == ["a.jpg"]
    assert start.done_before == 0


@pytest.mark.parametrize("time_ns", [THEN_NS, ROUND_NS])
@pytest.mark.parametrize("change", ["the folder", "a folder above", "the file", "into another folder"])
def test_what_was_renamed_is_not_annotated_again(change, time_ns, start, put, folder, store):
    put("2024/may/a.jpg", time_ns)
    put("2024/b.jpg", data=b"no picture")
    start()
    move = {
        "the folder": ("2024/may", "2024/05"),
        "a folder above": ("2024", "2024 Norway"),
        "the file": ("2024/may/a.jpg", "2024/may/moose.jpg"),
        "into another folder": ("2024/may/a.jpg", "a.jpg"),
    }[change]
    (folder / move[0]).rename(folder / move[1])
    new = next(folder.rglob("*a.jpg"), None) or next(folder.rglob("moose.jpg"))

    assert [name for name in start() if not name.endswith("b.jpg")] == []
    assert start.done_before >= 1
    known = [entry for entry in store.ledger("inbox") if entry.outcome == "annotated"]
    assert [entry.path for entry in known] == [str(new.relative_to(folder))]
    assert prune(store, open_source("inbox", DirectoryOptions(path=folder)), lambda: None) == (change == "a folder above")
    assert start() == []


def test_the_watched_folder_itself_may_be_renamed(start, put, folder):
    put("2024/a.jpg")
    start()
    moved = folder.rename(folder.with_name("renamed"))

    assert start(moved) == []
    assert start(moved / "2024") == []


def test_a_folder_moved_to_another_file_system_is_known_by_its_bytes(start, put, folder, store):
    put("a.jpg")
    put("deep/b.jpg")
    start()
    with_other_inodes(folder)
    (folder / "deep").rename(folder / "other")

    assert start() == []
    assert {entry.signature for entry in store.ledger()} == {FileSignature.of(p.stat()) for p in folder.rglob("*.jpg")}
    assert start() == []


def test_a_file_system_that_stores_times_less_exactly_is_no_matter(start, put, folder):
    put("a.jpg", THEN_NS)
    start()
    with_other_inodes(folder)
    os.utime(folder / "a.jpg", ns=(THEN_NS, THEN_NS // 2_000_000_000 * 2_000_000_000))  # as FAT rounds it

    assert start() == []


@pytest.mark.parametrize("copy", [shutil.copy2, os.link])
def test_a_copy_and_a_link_are_pictures_of_their_own(copy, start, put, folder):
    path = put("a.jpg")
    start()
    copy(path, folder / "b.jpg")

    assert start() == ["b.jpg"]
    assert start() == []


def test_a_copy_of_a_folder_elsewhere_is_annotated_as_long_as_the_old_one_is_there(start, put, folder):
    put("a.jpg")
    start()
    shutil.copytree(folder, folder.with_name("copied"))

    assert start(folder.with_name("copied")) == ["a.jpg"]


def test_another_picture_at_the_old_place_does_not_hide_that_the_first_was_moved(start, put, folder):
    """As a camera keeps its last pictures: latest.jpg becomes previous.jpg."""
    put("latest.jpg")
    start()
    (folder / "latest.jpg").rename(folder / "previous.jpg")
    put("latest.jpg", THEN_NS + 10**9)

    assert start() == ["latest.jpg"]
    assert start() == []


@pytest.mark.parametrize("changed", ["bytes", "time", "size"])
def test_another_picture_is_annotated_whatever_it_has_in_common_with_one_that_is_gone(changed, start, put, folder, jpeg):
    """A file system may give the number of a file that was removed to the next one, and a program may set times to whole seconds."""
    put("a.jpg", ROUND_NS, data=jpeg(100) + b"\0\0")
    start()
    (folder / "a.jpg").unlink()
    data = {"bytes": jpeg(100) + b"\1\0", "time": jpeg(100) + b"\0\0", "size": jpeg(100) + b"\0"}[changed]
    put("b.jpg", ROUND_NS + (2_000_000_000 if changed == "time" else 0), data=data)

    assert start() == ["b.jpg"]


def test_a_file_that_was_refused_is_tried_again_at_its_new_place(start, put, folder, store):
    put("a.jpg", data=b"no picture")
    assert start() == ["a.jpg"]
    (folder / "a.jpg").rename(folder / "b.jpg")

    assert start() == ["b.jpg"]


def test_what_an_earlier_version_annotated_may_be_renamed_as_well(start, put, folder, store):
    """Its entries do not say which folder they are of."""
    path = put("a.jpg")
    store.commit(LedgerEntry("inbox", "a.jpg", FileSignature.of(path.stat()), b"its hash"), [])
    path.rename(folder / "b.jpg")

    assert start() == []


def test_a_picture_that_the_program_died_of_is_not_tried_again_under_another_name(start, put, folder, store):
    path = put("a.jpg")
    store.commit(LedgerEntry("inbox", "a.jpg", FileSignature.of(path.stat()), b"", "deadly", str(folder)), [])
    path.rename(folder / "b.jpg")

    assert start() == []


def test_a_folder_that_is_renamed_while_it_is_watched_is_not_annotated_again(store, folder, put, pull):
    put("2024/a.jpg")
    context = Context(outcome=store.outcome, similar=store.similar, move=store.move)
    source = open_source("inbox", DirectoryOptions(path=folder, settle_s=0.1), context)
    items = pull(source)
    (frame,) = items.take(1)
    store.commit(ledger_entry(source, frame), [])

    (folder / "2024").rename(folder / "2025")
    put("2025/new.jpg")

    assert items.names(1) == ["2025/new.jpg"]
    items.idle()
    assert source.done_before == 1
    assert {entry.path for entry in store.ledger()} == {"2025/a.jpg"}


def test_a_disk_that_takes_no_entries_delays_the_moves_until_the_next_start(store, folder, put, pull, start):
    put("a.jpg")
    start()
    (folder / "a.jpg").rename(folder / "b.jpg")

    def full(moves):
        raise LinkError("the disk is full")

    source = open_source(
        "inbox", DirectoryOptions(path=folder), Context(once=True, outcome=store.outcome, similar=store.similar, move=full)
    )
    assert pull(source).rest() == []

    assert start() == []
    assert [entry.path for entry in store.ledger()] == ["b.jpg"]


def test_failures_carry_the_folder_too(store, folder, put, pull):
    put("a.jpg", data=b"no picture")
    source = open_source("inbox", DirectoryOptions(path=folder, settle_s=0.1, retry_s=0.1), Context(once=True))
    (failure,) = pull(source).rest()

    assert isinstance(failure, Failure)
    assert ledger_entry(source, failure).folder == str(Path(folder))
