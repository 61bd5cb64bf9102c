"""A watched folder on a real file system with real events."""

from __future__ import annotations

import errno
import os
import threading
from datetime import UTC, datetime
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgeannot.base.errors import ConfigError, MissingError
from edgeannot.base.file_signature import ANNOTATED, FileSignature
from edgeannot.base.places import SAMPLES
from edgeannot.crash_guard import AtWork
from edgeannot.sources import Context, DirectoryOptions, open_source
from edgeannot.sources import folder as watching
from edgeannot.sources import quarantine as quarantining
from edgeannot.sources.quarantine import SET_ASIDE
from edgeannot.vision.data import Failure, FileKey, Frame
from edgeannot.vision.decode import decode
from tests.patience import DEADLINE_S

LONG_AGO = 1_600_000_000


@pytest.fixture
def inbox(tmp_path):
    folder = tmp_path / "inbox"
    folder.mkdir()
    return folder


@pytest.fixture
def open_inbox(inbox, tmp_path):
    """A function that gives the source of the inbox; the doubtful waits are short."""

    def make(context=None, **options):
        options = {"path": inbox, "settle_s": 0.2, "retry_s": 0.3} | options
        return open_source("inbox", DirectoryOptions(**options), context or Context(quarantine=tmp_path / "quarantine"))

    return make


@pytest.fixture
def photo():
    return (SAMPLES / "cat.jpg").read_bytes()


def put(path, data, age_s=None):
    """Write a file under a temporary name and rename it into place, as a careful program does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.part")
    unfinished.write_bytes(data)
    if age_s is not None:
        os.utime(unfinished, (LONG_AGO - age_s, LONG_AGO - age_s))
    unfinished.rename(path)
    return path


def test_an_empty_folder_gives_ticks_until_stopped(open_inbox, pull, stop):
    items = pull(open_inbox())

    items.idle(3)
    stop.set()

    assert items.rest() == []
    assert items.ticks[-1].waiting == 0
    assert items.ticks[-1].trouble == ""


def test_an_empty_folder_ends_at_once_with_once(open_inbox, pull):
    assert pull(open_inbox(Context(once=True))).rest() == []


def test_pictures_that_are_there_come_oldest_first_then_by_name(open_inbox, inbox, pull, jpeg):
    put(inbox / "new.jpg", jpeg(), age_s=0)
    put(inbox / "b.jpg", jpeg(), age_s=50)
    put(inbox / "deep" / "a.jpg", jpeg(), age_s=50)
    put(inbox / "oldest.jpg", jpeg(), age_s=99)

    frames = pull(open_inbox()).take(4)

    assert [f.name for f in frames] == ["oldest.jpg", "b.jpg", "deep/a.jpg", "new.jpg"]
    assert [f.seq for f in frames] == [0, 1, 2, 3]


def test_with_once_pictures_come_by_their_paths_with_numbers_by_their_size(open_inbox, inbox, pull, jpeg):
    """A run by hand over a folder is read as a list: as a file manager shows it, whatever the files' times are."""
    names = ["10.jpg", "a/1.jpg", "a/2.jpg", "a/10/x.jpg", "a b/1.jpg", "frame9.jpg", "frame09.jpg", "frame010.jpg", "frame10.jpg"]
    wanted = ["10.jpg", "a/1.jpg", "a/2.jpg", "a/10/x.jpg", "a b/1.jpg", "frame09.jpg", "frame9.jpg", "frame010.jpg", "frame10.jpg"]
    for age, name in enumerate(names):
        put(inbox / name, jpeg(), age_s=age * 7 % 5)

    assert [f.name for f in pull(open_inbox(Context(once=True))).rest()] == wanted


def test_a_frame_carries_what_is_known_of_its_file(open_inbox, inbox, pull, jpeg):
    path = put(inbox / "day 1" / "cat.jpeg", jpeg(200, size=16), age_s=0)

    (frame,) = pull(open_inbox(Context(once=True))).rest()

    assert isinstance(frame, Frame)
    assert (frame.source, frame.name, frame.path) == ("inbox", "day 1/cat.jpeg", path)
    assert frame.size_wh == (16, 16)
    assert frame.captured_at == datetime.fromtimestamp(LONG_AGO, UTC)
    assert frame.key == FileKey("day 1/cat.jpeg", FileSignature.of(path.stat()), str(inbox))
    assert frame.identity == f"day 1/cat.jpeg#{frame.content_hash.hex()}"
    assert len(frame.content_hash) == 16
    assert frame.decode_ms > 0


def test_the_identity_follows_place_and_content(open_inbox, inbox, pull, jpeg):
    for name, value in (("a.jpg", 1), ("b.jpg", 1), ("c.jpg", 99)):
        put(inbox / name, jpeg(value), age_s=5)

    a, b, c = pull(open_inbox(Context(once=True))).rest()

    assert a.content_hash == b.content_hash != c.content_hash
    assert len({a.identity, b.identity, c.identity}) == 3


def test_a_name_that_is_no_text_still_gives_a_frame(open_inbox, inbox, pull, jpeg):
    path = Path(os.fsdecode(os.fsencode(inbox) + b"/caf\xe9.jpg"))
    put(path, jpeg())

    source = open_inbox(Context(once=True))
    (frame,) = pull(source).rest()

    assert frame.name == "caf\\xe9.jpg"
    assert frame.path == path
    assert frame.key.path == os.fsdecode(b"caf\xe9.jpg")


def test_arrivals_by_rename_by_writing_and_by_links_are_taken_once_each(open_inbox, inbox, tmp_path, pull, jpeg):
    items = pull(open_inbox(rescan_s=0))
    items.idle(1)
    original = tmp_path / "elsewhere.jpg"
    original.write_bytes(jpeg())

    put(inbox / "renamed.jpg", jpeg())
    (inbox / "written.jpg").write_bytes(jpeg())
    (inbox / "linked.jpg").symlink_to(original)
    (inbox / "hard.jpg").hardlink_to(original)

    assert sorted(items.names(4)) == ["hard.jpg", "linked.jpg", "renamed.jpg", "written.jpg"]
    items.idle(2)


def test_a_slow_writer_is_waited_for(open_inbox, inbox, pull, jpeg):
    items = pull(open_inbox(rescan_s=0.1))
    items.idle(1)
    data = jpeg(size=64)

    with (inbox / "slow.jpg").open("wb", buffering=0) as file:
        for part in (data[:100], data[100:200], data[200:]):
            file.write(part)
            items.idle(2)

    assert items.names(1) == ["slow.jpg"]
    items.idle(2)


def test_a_slow_writer_that_began_before_the_start_is_waited_for(open_inbox, inbox, pull, jpeg):
    data = jpeg()
    with (inbox / "slow.jpg").open("wb", buffering=0) as file:
        file.write(data[:100])
        items = pull(open_inbox())
        items.idle(3)
        file.write(data[100:])

    assert items.names(1) == ["slow.jpg"]


def test_a_file_that_is_written_in_several_openings_is_tried_again(open_inbox, inbox, pull, jpeg):
    """Some programs create an empty file first, or append: each closing looks like the end."""
    items = pull(open_inbox(retry_s=30))
    items.idle(1)
    data = jpeg()

    (inbox / "stages.jpg").touch()
    items.idle(1)
    (inbox / "stages.jpg").write_bytes(data[:100])
    items.idle(1)
    with (inbox / "stages.jpg").open("ab") as file:
        file.write(data[100:])

    assert isinstance(items.take(1)[0], Frame)


def test_a_file_that_stays_cut_off_is_quarantined_with_the_reason(open_inbox, inbox, tmp_path, pull, jpeg):
    items = pull(open_inbox())
    items.idle(1)

    (inbox / "day" / "half.jpg").parent.mkdir()
    (inbox / "day" / "half.jpg").write_bytes(jpeg()[:200])
    (failure,) = items.take(1)

    assert isinstance(failure, Failure)
    assert (failure.source, failure.name, failure.reason) == ("inbox", "day/half.jpg", "truncated")
    assert failure.quarantined == tmp_path / "quarantine" / "day" / "half.jpg"
    assert failure.quarantined.read_bytes() == jpeg()[:200]
    assert not (inbox / "day" / "half.jpg").exists()
    note = (tmp_path / "quarantine" / "day" / "half.jpg.reason.txt").read_text().splitlines()
    assert note[0] == "day/half.jpg: the JPEG is cut off: it has no picture data"
    assert note[1] == "reason: truncated"


def test_a_picture_that_lacks_only_its_end_marker_is_read_when_it_has_not_changed_for_a_while(open_inbox, inbox, pull, photo, caplog):
    items = pull(open_inbox(retry_s=1.5, settle_s=0.1))
    items.idle(1)

    (inbox / "nearly.jpg").write_bytes(photo[:-2])
    items.idle(2)
    (frame,) = items.take(1)

    assert (frame.name, frame.damage) == ("nearly.jpg", "")
    assert np.array_equal(frame.image, decode(photo).image)
    assert caplog.text == ""


def test_a_damaged_picture_is_read_when_it_has_not_changed_for_a_while_and_marked(open_inbox, inbox, pull, photo, caplog):
    items = pull(open_inbox())
    items.idle(1)

    (inbox / "most.jpg").write_bytes(photo[: len(photo) * 8 // 10])
    (frame,) = items.take(1)

    assert frame.name == "most.jpg"
    assert "cut off" in frame.damage
    assert f"inbox: most.jpg: {frame.damage}; annotated, and marked as damaged" in caplog.text


def test_a_picture_that_was_read_too_early_comes_whole_once_it_is_there(open_inbox, inbox, pull, photo):
    items = pull(open_inbox(retry_s=30))
    items.idle(1)
    (inbox / "slow.jpg").write_bytes(photo[: len(photo) * 9 // 10])
    items.idle(3)
    (inbox / "slow.jpg").write_bytes(photo)

    (frame,) = items.take(1)

    assert frame.damage == ""


def test_of_an_old_picture_nobody_waits_for_the_rest(open_inbox, inbox, pull, photo, tmp_path):
    put(inbox / "most.jpg", photo[: len(photo) * 8 // 10], age_s=9)
    put(inbox / "little.jpg", photo[: len(photo) // 4], age_s=5)

    failure, frame = pull(open_inbox(Context(quarantine=tmp_path / "quarantine", once=True), retry_s=1000)).rest()

    assert "at most" in frame.damage
    assert (failure.reason, failure.quarantined.name) == ("truncated", "little.jpg")


def test_a_file_that_a_program_still_writes_is_not_quarantined(open_inbox, inbox, pull, jpeg):
    items = pull(open_inbox(retry_s=0.1))
    items.idle(1)

    (inbox / "a.jpg").write_bytes(jpeg()[:100])
    with (inbox / "a.jpg").open("ab", buffering=0) as file:
        items.idle(3)
        file.write(jpeg()[100:])

    assert isinstance(items.take(1)[0], Frame)


def test_text_beside_pictures_is_passed_over_but_a_picture_with_such_a_name_is_not(open_inbox, inbox, tmp_path, pull, jpeg):
    put(inbox / "labels.txt", b"0 0.5 0.5 1 1", age_s=9)
    put(inbox / "picture.txt", jpeg(), age_s=9)
    source = open_inbox(Context(quarantine=tmp_path / "quarantine", once=True))

    assert [item.name for item in pull(source).rest()] == ["picture.txt"]
    assert (inbox / "labels.txt").exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("holiday.mp4", b"\0\0\0\x20ftypisom" + bytes(99)),
        ("old.AVI", b"RIFF\x24\0\0\0AVI LIST" + bytes(99)),
        ("song.mp3", b"ID3" + bytes(99)),
        ("album.zip", b"PK\3\4" + bytes(99)),
        ("run.sh", b"#!/bin/sh\n"),
        ("photo.cr2", b"II*\0\x10\0\0\0CR\2\0" + bytes(99)),
        ("photo.dng", b"II*\0\x08\0\0\0" + bytes(99)),
    ],
)
def test_what_lies_in_an_album_and_is_no_picture_stays_where_it_is(open_inbox, inbox, tmp_path, pull, name, content):
    put(inbox / name, content, age_s=9)
    source = open_inbox(Context(quarantine=tmp_path / "quarantine", once=True))

    assert list(pull(source).rest()) == []
    assert (inbox / name).read_bytes() == content


def test_a_file_that_cannot_be_read_is_reported_and_left_when_so_asked(open_inbox, inbox, tmp_path, pull):
    put(inbox / "words.jpg", b"words", age_s=9)
    source = open_inbox(Context(quarantine=tmp_path / "quarantine", once=True), quarantine="leave")

    (failure,) = pull(source).rest()

    assert failure.quarantined is None
    assert (inbox / "words.jpg").exists()
    assert not (tmp_path / "quarantine").exists()
    assert (failure.reason, failure.key.path) == ("not-a-picture", "words.jpg")
    assert "left where it is" in failure.message


def test_a_quarantined_file_overwrites_nothing(open_inbox, inbox, tmp_path, pull):
    for content in (b"one", b"two", b"three"):
        put(inbox / "x.jpg", content, age_s=9)
        pull(open_inbox(Context(quarantine=tmp_path / "quarantine", once=True))).rest()

    found = {p.name: p.read_bytes() for p in (tmp_path / "quarantine").iterdir() if p.suffix == ".jpg"}
    assert found == {"x.jpg": b"one", "x-1.jpg": b"two", "x-2.jpg": b"three"}
    assert (tmp_path / "quarantine" / "x-2.jpg.reason.txt").exists()


def test_a_bomb_or_a_foreign_kind_is_not_retried(open_inbox, inbox, pull):
    items = pull(open_inbox(retry_s=1000))
    items.idle(1)

    put(inbox / "photo.jxl", b"\xff\x0a" + bytes(100))

    assert items.take(1)[0].reason == "unsupported"


def test_temporary_hidden_and_ignored_names_are_passed_over(open_inbox, inbox, pull, jpeg):
    for name in (".hidden.jpg", "a.jpg.part", "b.jpg~", "c.tmp", "d.jpg.crdownload", "e.filepart", ".git/x.jpg", "raw/y.jpg", "z.XMP"):
        put(inbox / name, jpeg(), age_s=9)
    put(inbox / "yes.jpg", jpeg(), age_s=9)

    frames = pull(open_inbox(Context(once=True), ignore=("raw", "*.xmp"))).rest()

    assert [f.name for f in frames] == ["yes.jpg"]


def test_a_part_file_that_is_renamed_is_taken_under_its_new_name(open_inbox, inbox, pull, jpeg):
    items = pull(open_inbox(rescan_s=0.1))
    items.idle(1)

    (inbox / "a.jpg.part").write_bytes(jpeg())
    items.idle(1)
    (inbox / "a.jpg.part").rename(inbox / "a.jpg")

    assert items.names(1) == ["a.jpg"]


@pytest.mark.parametrize("watched", ["results", "results/inbox", "linked"])
def test_what_is_written_is_never_read_back(tmp_path, watched):
    """Each copy would be annotated and copied again, for ever."""
    results = tmp_path / "results"
    (results / "inbox").mkdir(parents=True)
    (tmp_path / "linked").symlink_to(results / "inbox")

    with pytest.raises(ConfigError, match=r"is inside .*results, where results are written"):
        open_source("inbox", DirectoryOptions(path=tmp_path / watched), Context(results=(results,)))


def test_results_inside_the_watched_folder_are_not_watched_be_they_folders_or_files(open_inbox, inbox, pull, jpeg):
    put(inbox / "copies" / "inbox" / "a.jpg", jpeg(1))
    put(inbox / "lines.jsonl", b"{}")
    put(inbox / "b.jpg", jpeg(2))

    assert pull(open_inbox(Context(results=(inbox / "copies", inbox / "lines.jsonl"), once=True))).names(1) == ["b.jpg"]
    assert (inbox / "lines.jsonl").exists()


def test_own_folders_inside_the_watched_one_are_not_watched(open_inbox, inbox, pull, jpeg):
    context = Context(quarantine=inbox / "quarantine", own_folders=(inbox / "out",))
    items = pull(open_inbox(context, rescan_s=0.1, after="move", after_folder=inbox / "finished"))
    items.idle(1)

    for folder in ("out", "quarantine", "finished", "other"):
        put(inbox / folder / "a.jpg", jpeg())

    assert items.names(1) == ["other/a.jpg"]
    items.idle(2)


def test_to_watch_the_folder_that_results_go_to_is_refused(open_inbox, inbox):
    with pytest.raises(ConfigError, match="watched and written to"):
        open_inbox(Context(own_folders=(inbox,)))


def test_new_folders_are_watched_with_what_is_in_them_already(open_inbox, inbox, tmp_path, pull, jpeg):
    items = pull(open_inbox(rescan_s=0))
    items.idle(1)

    tree = tmp_path / "tree"
    for number in range(30):
        put(tree / f"d{number % 3}" / f"e{number % 5}" / f"{number}.jpg", jpeg())
    tree.rename(inbox / "tree")
    for number in range(30):
        put(inbox / f"quick{number % 4}" / "deep" / f"{number}.jpg", jpeg())
    names = items.names(60)
    put(inbox / "tree" / "d0" / "e0" / "later.jpg", jpeg())

    assert len(set(names)) == 60
    assert items.names(1) == ["tree/d0/e0/later.jpg"]


def test_a_folder_that_is_renamed_inside_is_followed(open_inbox, inbox, pull, jpeg):
    put(inbox / "before" / "deep" / "a.jpg", jpeg())
    items = pull(open_inbox(rescan_s=0))
    assert items.names(1) == ["before/deep/a.jpg"]

    (inbox / "before").rename(inbox / "behind")
    # The same file under another path is another picture to whoever names results after it.
    assert items.names(1) == ["behind/deep/a.jpg"]
    put(inbox / "behind" / "deep" / "b.jpg", jpeg())

    assert items.names(1) == ["behind/deep/b.jpg"]


def test_without_recursive_only_the_folder_itself_counts(open_inbox, inbox, pull, jpeg):
    put(inbox / "deep" / "old.jpg", jpeg(), age_s=9)
    items = pull(open_inbox(recursive=False, rescan_s=0.1))
    items.idle(1)

    put(inbox / "deep" / "new.jpg", jpeg())
    put(inbox / "newer" / "new.jpg", jpeg())
    put(inbox / "top.jpg", jpeg())

    assert items.names(1) == ["top.jpg"]
    items.idle(2)


def test_a_burst_of_two_thousand_is_taken_completely_and_once(open_inbox, inbox, pull, jpeg):
    items = pull(open_inbox(rescan_s=0.2))
    items.idle(1)
    data = jpeg()

    def write():
        for number in range(2000):
            (inbox / f"{number:04d}.jpg").write_bytes(data)

    writer = threading.Thread(target=write)
    writer.start()
    names = items.names(2000)
    writer.join()
    items.idle(2)

    assert len(set(names)) == 2000


def test_events_that_the_kernel_drops_are_made_up_for_by_a_scan(open_inbox, inbox, pull, jpeg, caplog):
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    if limit > 50_000:
        pytest.skip(f"the kernel queues {limit} events here; to overflow that takes too long")
    items = pull(open_inbox(rescan_s=0))
    items.idle(1)
    data = jpeg()
    count = limit // 2 + 100  # each gives two events

    for number in range(count):
        (inbox / str(number)).write_bytes(data)
    names = items.names(count)

    assert len(set(names)) == count
    assert "events" in caplog.text
    assert "were lost" in caplog.text


def test_a_linked_folder_is_not_entered(open_inbox, inbox, tmp_path, pull, jpeg):
    """It may lead in a circle, or out of what the user named."""
    put(tmp_path / "elsewhere" / "a.jpg", jpeg(), age_s=9)
    (inbox / "linked").symlink_to(tmp_path / "elsewhere")
    (inbox / "circle").symlink_to(inbox)
    items = pull(open_inbox(rescan_s=0.1))

    items.idle(2)


def test_a_file_that_is_overwritten_is_a_new_picture(open_inbox, inbox, pull, jpeg):
    put(inbox / "latest.jpg", jpeg(1))
    items = pull(open_inbox())
    (first,) = items.take(1)

    (inbox / "latest.jpg").write_bytes(jpeg(250))
    (second,) = items.take(1)

    assert first.name == second.name
    assert first.content_hash != second.content_hash


def test_scans_do_not_bring_back_what_was_taken(open_inbox, inbox, pull, jpeg):
    put(inbox / "a.jpg", jpeg())
    put(inbox / "b.jpg", b"no picture", age_s=9)
    items = pull(open_inbox(rescan_s=0.01, quarantine="leave"))

    assert len(items.take(2)) == 2
    items.idle(3)


def test_a_file_that_is_gone_before_its_turn_is_passed_over(open_inbox, inbox, pull, jpeg):
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        put(inbox / name, jpeg(), age_s=9)
    items = pull(open_inbox(Context(once=True)))
    items.take(1)

    (inbox / "b.jpg").unlink()

    assert [f.name for f in items.rest()] == ["c.jpg"]


def test_what_the_ledger_knows_is_not_read_again(open_inbox, inbox, pull, jpeg):
    for name in ("a.jpg", "b.jpg"):
        put(inbox / name, jpeg(), age_s=9)
    asked = []

    def outcome(source, path, signature):
        asked.append((source, path, signature))
        return ANNOTATED if path == "a.jpg" else None

    frames = pull(open_inbox(Context(once=True, outcome=outcome))).rest()

    assert [f.name for f in frames] == ["b.jpg"]
    assert ("inbox", "a.jpg", FileSignature.of((inbox / "a.jpg").stat())) in asked


def test_the_key_is_what_the_ledger_is_asked_for(open_inbox, inbox, pull, jpeg):
    put(inbox / "d" / "a.jpg", jpeg(), age_s=9)
    done = set()
    context = Context(once=True, outcome=lambda *key: ANNOTATED if key in done else None)
    source = open_inbox(context)
    (frame,) = pull(source).rest()

    done.add((source.name, frame.key.path, frame.key.signature))

    assert pull(open_inbox(context)).rest() == []


def test_finished_pictures_stay_by_default(open_inbox, inbox, pull, jpeg):
    put(inbox / "a.jpg", jpeg(), age_s=9)
    source = open_inbox(Context(once=True))
    (frame,) = pull(source).rest()

    source.finish(frame)

    assert (inbox / "a.jpg").exists()


def test_finished_pictures_are_moved_or_deleted_on_request(open_inbox, inbox, tmp_path, pull, jpeg):
    for content in (1, 99):
        put(inbox / "d" / "a.jpg", jpeg(content), age_s=9)
        source = open_inbox(Context(once=True), after="move", after_folder=tmp_path / "finished")
        source.finish(*pull(source).rest())
    put(inbox / "b.jpg", jpeg(), age_s=9)
    source = open_inbox(Context(once=True), after="delete")
    source.finish(*pull(source).rest())

    assert [p for p in inbox.rglob("*") if p.is_file()] == []
    assert (tmp_path / "finished" / "d" / "a.jpg").read_bytes() == jpeg(1)
    assert (tmp_path / "finished" / "d" / "a-1.jpg").read_bytes() == jpeg(99)


def test_a_picture_that_took_the_name_meanwhile_is_not_deleted(open_inbox, inbox, pull, jpeg):
    put(inbox / "a.jpg", jpeg(1), age_s=9)
    source = open_inbox(Context(once=True), after="delete")
    (frame,) = pull(source).rest()

    put(inbox / "a.jpg", jpeg(99))
    source.finish(frame)

    assert (inbox / "a.jpg").read_bytes() == jpeg(99)


def test_what_was_done_but_not_moved_before_a_crash_is_moved_at_the_next_start(open_inbox, inbox, tmp_path, pull, jpeg):
    put(inbox / "a.jpg", jpeg(), age_s=9)
    context = Context(once=True, outcome=lambda *_: ANNOTATED)

    assert pull(open_inbox(context, after="move", after_folder=tmp_path / "finished")).rest() == []

    assert (tmp_path / "finished" / "a.jpg").exists()


@pytest.fixture
def starts(open_inbox, pull):
    """A function that does what a start does: all there is, what the ledger (of all starts) knows being passed over."""
    ledger = {}

    def start(finish=True, **options):
        source = open_inbox(Context(once=True, quarantine=options.pop("folder", None), outcome=lambda *key: ledger.get(key)), **options)
        items = pull(source).rest()
        for item in items:
            ledger[source.name, item.key.path, item.key.signature] = item.reason if isinstance(item, Failure) else ANNOTATED
            if finish:
                source.finish(item)
        return items

    start.ledger = ledger
    return start


@pytest.mark.parametrize("after", [{"after": "delete"}, {"after": "move", "after_folder": Path("finished")}])
def test_a_damaged_file_that_was_left_where_it_is_stays_at_each_later_start(starts, inbox, tmp_path, after):
    if "after_folder" in after:
        after = after | {"after_folder": tmp_path / "finished"}
    put(inbox / "a.jpg", b"GIF89a is no picture here", age_s=9)

    (failure,) = starts(quarantine="leave", folder=tmp_path / "quarantine", **after)
    assert starts(quarantine="leave", folder=tmp_path / "quarantine", **after) == []

    assert failure.message.endswith("left where it is")
    assert (inbox / "a.jpg").exists()
    assert not (tmp_path / "finished").exists()


@pytest.mark.parametrize(("reason", "stays"), [("error", True), ("annotqted", True), *((reason, False) for reason in sorted(SET_ASIDE))])
def test_a_failure_is_set_aside_at_the_next_start_where_the_program_ended_before(starts, inbox, tmp_path, jpeg, reason, stays):
    """Not after an internal error: nothing is said of the picture, and the log said that it is left where it is. Nor by a word that
    nobody wrote: a bit of the database may flip on a worn card."""
    put(inbox / "d" / "a.jpg", jpeg(), age_s=9)
    (frame,) = starts(finish=False)
    starts.ledger["inbox", frame.key.path, frame.key.signature] = reason

    assert starts(after="delete", folder=tmp_path / "quarantine") == []

    assert (inbox / "d" / "a.jpg").exists() == stays
    assert (tmp_path / "quarantine" / "d" / "a.jpg").exists() != stays
    if not stays:
        assert f"reason: {reason}\n" in (tmp_path / "quarantine" / "d" / "a.jpg.reason.txt").read_text()


def test_a_damaged_file_that_could_only_be_copied_is_not_copied_at_each_start(starts, inbox, tmp_path, jpeg):
    put(inbox / "a.jpg", jpeg(), age_s=9)
    put(tmp_path / "quarantine" / "a.jpg", jpeg(), age_s=9)
    (frame,) = starts(finish=False)
    starts.ledger["inbox", frame.key.path, frame.key.signature] = "truncated"

    starts(after="delete", folder=tmp_path / "quarantine")

    assert (inbox / "a.jpg").exists()
    assert len(list((tmp_path / "quarantine").iterdir())) == 1


def test_a_missing_folder_is_an_error_with_once(open_inbox, inbox, pull):
    inbox.rmdir()

    with pytest.raises(MissingError, match=r"inbox .*cannot be watched: No such file"):
        pull(open_inbox(Context(once=True))).rest()


def test_a_folder_that_vanishes_and_comes_back_is_watched_again(open_inbox, inbox, pull, jpeg):
    put(inbox / "a.jpg", jpeg())
    items = pull(open_inbox(rescan_s=0))
    assert items.names(1) == ["a.jpg"]

    inbox.rename(inbox.with_name("away"))
    items.until(lambda tick: "cannot be watched: No such file or directory; waiting for it" in tick.trouble)
    inbox.mkdir()
    put(inbox / "b.jpg", jpeg())
    assert items.names(1) == ["b.jpg"]
    items.until(lambda tick: tick.trouble == "")
    put(inbox / "c.jpg", jpeg())

    assert items.names(1) == ["c.jpg"]


def test_a_folder_that_is_not_there_yet_is_waited_for(open_inbox, inbox, pull, jpeg):
    inbox.rmdir()
    items = pull(open_inbox())
    items.until(lambda tick: "No such file" in tick.trouble)

    put(inbox / "a.jpg", jpeg())

    assert items.names(1) == ["a.jpg"]


def test_a_file_that_may_not_be_read_stays_where_it_is_and_is_taken_when_it_may(
    bound_by_permissions, open_inbox, inbox, tmp_path, pull, jpeg
):
    """As an FTP server with the umask 077 leaves it, until somebody puts that right."""
    path = put(inbox / "secret.jpg", jpeg(), age_s=9)
    path.chmod(0)
    items = pull(open_inbox(rescan_s=0))
    (failure,) = items.take(1)
    items.idle(2)

    assert (failure.reason, failure.quarantined) == ("unreadable", None)
    assert "cannot be read (Permission denied); left where it is" in failure.message
    assert path.exists()
    assert not (tmp_path / "quarantine").exists()

    path.chmod(0o600)
    (frame,) = items.take(1)

    assert frame.name == "secret.jpg"


def test_a_file_that_becomes_readable_without_an_event_is_taken_by_the_next_scan_and_said_once(
    bound_by_permissions, open_inbox, inbox, pull, jpeg, monkeypatch
):
    """As on a network file system, where the rights are changed on another machine."""
    monkeypatch.setattr(watching, "ATTRIB", 0)
    monkeypatch.setattr(watching, "MASK", watching.MASK & ~watching.ATTRIB)
    path = put(inbox / "secret.jpg", jpeg(), age_s=9)
    path.chmod(0)
    items = pull(open_inbox(rescan_s=0.05))
    assert items.take(1)[0].reason == "unreadable"
    items.idle(4)
    path.chmod(0o600)

    assert items.names(1) == ["secret.jpg"]


def test_with_once_a_file_that_may_not_be_read_is_no_reason_to_wait(bound_by_permissions, open_inbox, inbox, pull, jpeg):
    put(inbox / "a.jpg", jpeg(), age_s=9).chmod(0)
    put(inbox / "b.jpg", jpeg(), age_s=5)
    found = pull(open_inbox(Context(once=True))).rest()

    assert [(item.name, isinstance(item, Failure)) for item in found] == [("a.jpg", True), ("b.jpg", False)]
    assert (inbox / "a.jpg").exists()


@pytest.mark.parametrize(
    ("call", "code"),
    [(call, errno.EIO) for call in ("open", "read", "stat")]
    + [("open", code) for code in (errno.ESTALE, errno.ETXTBSY, errno.EBUSY, errno.ENOMEM, errno.EMFILE, errno.EHOSTDOWN)],
)
def test_no_error_of_the_system_makes_a_picture_a_bad_one(open_inbox, inbox, tmp_path, pull, jpeg, monkeypatch, call, code):
    """A disk, a network or a memory that fails says nothing of what is in the file. The errors are injected: none can be had at will."""
    path = put(inbox / "a.jpg", jpeg(), age_s=9)
    real = {"open": os.open, "read": os.fdopen, "stat": Path.stat}
    broken = True

    def fail(where, *args, **kwargs):
        if broken and (call == "read" or str(where) == str(path)):
            if call == "read":
                os.close(where)
            raise OSError(code, os.strerror(code))
        return real[call](where, *args, **kwargs)

    if call == "stat":
        monkeypatch.setattr(Path, "stat", fail)
    else:
        monkeypatch.setattr(os, {"open": "open", "read": "fdopen"}[call], fail)
    items = pull(open_inbox(rescan_s=0.05))
    (failure,) = items.take(1)
    items.idle(2)
    broken = False

    assert (failure.reason, failure.quarantined) == ("unreadable", None)
    assert os.strerror(code) in failure.message
    assert items.names(1) == ["a.jpg"]
    assert not (tmp_path / "quarantine").exists()


def test_files_in_a_folder_that_may_not_be_entered_are_taken_when_it_may(bound_by_permissions, open_inbox, inbox, pull, jpeg):
    """It can be listed, but nothing in it can be looked at."""
    put(inbox / "deep" / "a.jpg", jpeg(), age_s=9)
    (inbox / "deep").chmod(0o400)
    try:
        items = pull(open_inbox(rescan_s=0))
        (failure,) = items.take(1)
        items.idle(2)
        (inbox / "deep").chmod(0o700)

        assert failure.reason == "unreadable"
        assert items.names(1) == ["deep/a.jpg"]
    finally:
        (inbox / "deep").chmod(0o700)


def test_a_folder_that_may_not_be_read_is_watched_when_it_may(bound_by_permissions, open_inbox, inbox, pull, jpeg, caplog):
    put(inbox / "deep" / "a.jpg", jpeg(), age_s=9)
    (inbox / "deep").chmod(0)
    try:
        items = pull(open_inbox(rescan_s=0))
        items.idle(2)
        assert caplog.text.count("cannot be read (Permission denied)") == 1
        (inbox / "deep").chmod(0o700)

        assert items.names(1) == ["deep/a.jpg"]
        put(inbox / "deep" / "b.jpg", jpeg())
        assert items.names(1) == ["deep/b.jpg"]
    finally:
        (inbox / "deep").chmod(0o700)


def long_tree(top, name="n" * 250, depth=17):
    """Folders in folders until a path of the innermost is longer than the kernel takes (4,095 bytes); a handle of it, to be closed."""
    handle = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(depth):
        os.mkdir(name, dir_fd=handle)
        inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=handle)
        os.close(handle)
        handle = inner
    return handle


def test_beside_a_folder_whose_path_is_too_long_the_others_keep_their_events(open_inbox, inbox, pull, jpeg, caplog):
    """Once it ended the events of the whole tree, and the advice was to raise a limit that had nothing to do with it."""
    (inbox / "short").mkdir()
    handle = long_tree(inbox)
    try:
        unfinished = os.open("a.jpg", os.O_WRONLY | os.O_CREAT, dir_fd=handle)
        os.close(unfinished)
        items = pull(open_inbox(rescan_s=0))
        items.idle(2)
        put(inbox / "short" / "b.jpg", jpeg())

        assert items.names(1) == ["short/b.jpg"]
        assert "File name too long" in caplog.text
        assert "fs.inotify" not in caplog.text
        assert max(map(len, caplog.messages)) < 1000, "nobody reads a path of 4,000 letters"
    finally:
        os.close(handle)


def test_a_picture_whose_path_is_too_long_is_said_and_not_passed_over_in_silence(open_inbox, inbox, tmp_path, pull, jpeg):
    """Its folder can be listed."""
    (tmp_path / "picture.jpg").write_bytes(jpeg())
    name = "n" * 250
    room = 4090 - len(str(inbox))
    levels = (room - 3) // 251  # what is left for the last folder's name is 1 to 251 characters, however long the way to the inbox
    last = "m" * (room - 251 * levels - 2)
    above = long_tree(inbox, name, levels)
    os.mkdir(last, dir_fd=above)
    folder = os.open(last, os.O_RDONLY, dir_fd=above)
    os.rename(tmp_path / "picture.jpg", "picture.jpg", dst_dir_fd=folder)
    for handle in (above, folder):
        os.close(handle)

    (failure,) = pull(open_inbox(Context(once=True))).rest()

    assert failure.reason == "unreadable"
    assert failure.key is None, "the next start tries it again: it may have been put right, of which neither size nor time tell"
    assert "File name too long" in failure.message


def test_a_pipe_and_a_link_to_nothing_are_passed_over(open_inbox, inbox, pull, jpeg):
    os.mkfifo(inbox / "pipe.jpg")
    (inbox / "broken.jpg").symlink_to(inbox / "nothing")
    (inbox / "loop.jpg").symlink_to(inbox / "loop.jpg")
    put(inbox / "yes.jpg", jpeg(), age_s=9)

    assert [f.name for f in pull(open_inbox(Context(once=True))).rest()] == ["yes.jpg"]


def test_a_file_whose_size_is_not_true_is_an_end_of_it(open_inbox, inbox, pull):
    """As /proc has them, and some network file systems: else it would be read again for ever, and --once would never end."""
    (inbox / "version.jpg").symlink_to("/proc/version")

    (failure,) = pull(open_inbox(Context(once=True))).rest()

    assert failure.reason == "unreadable"
    assert "the file has 0 bytes by its file system, but reading gave more" in failure.message


def test_a_file_that_stays_on_its_medium_is_said_to_be_copied(open_inbox, inbox, tmp_path, pull, monkeypatch):
    put(inbox / "a.gif", b"GIF89a", age_s=9)
    monkeypatch.setattr(Path, "rename", lambda *_: (_ for _ in ()).throw(OSError(errno.EROFS, "Read-only file system")))
    monkeypatch.setattr(quarantining, "_copy", lambda path, target: target.write_bytes(path.read_bytes()))
    monkeypatch.setattr(quarantining, "_remove", lambda *_, **__: None)

    (failure,) = pull(open_inbox(Context(once=True, quarantine=tmp_path / "away"))).rest()

    assert failure.message.endswith(f"; copied to {tmp_path / 'away' / 'a.gif'}")


def test_nothing_is_read_ahead_of_the_caller(open_inbox, inbox, pull, jpeg):
    for number in range(3):
        put(inbox / f"{number}.jpg", jpeg(), age_s=9)
    items = pull(open_inbox(Context(once=True)))
    items.take(1)

    (inbox / "2.jpg").write_bytes(jpeg(77))
    os.utime(inbox / "2.jpg", (LONG_AGO, LONG_AGO))
    second, third = items.rest()

    assert second.name == "1.jpg"
    assert third.image[0, 0, 0] == 77


def test_stop_is_noticed_while_waiting(open_inbox, stop):
    source = open_inbox()
    waiting = threading.Thread(target=lambda: list(source.items(stop)))
    waiting.start()

    stop.set()
    waiting.join(DEADLINE_S)

    assert not waiting.is_alive()


def test_move_needs_a_folder_to_move_to():
    with pytest.raises(ValueError, match="after_folder"):
        DirectoryOptions(path=Path(), after="move")


def large(extension):
    return cv2.imencode(extension, np.zeros((2000, 3000, 3), np.uint8))[1].tobytes()


def test_a_jpeg_over_the_free_memory_is_decoded_smaller_and_keeps_its_size(open_inbox, inbox, tmp_path, pull):
    put(inbox / "large.jpg", large(".jpg"), age_s=10)

    [frame] = pull(open_inbox(Context(quarantine=tmp_path / "quarantine", free_bytes=lambda: 30 << 20))).take(1)

    assert (frame.image.shape, frame.size_wh) == ((1000, 1500, 3), (3000, 2000))


def test_a_picture_over_the_free_memory_waits_until_it_is_alone_and_is_then_refused(open_inbox, inbox, tmp_path, pull, jpeg):
    put(inbox / "a.jpg", jpeg(), age_s=20)
    put(inbox / "large.png", large(".png"), age_s=10)
    context = Context(quarantine=tmp_path / "quarantine", free_bytes=lambda: 30 << 20)
    items = pull(open_inbox(context))

    [small] = items.take(1)
    items.idle(3)  # somebody else holds memory that will be free later
    context.at_work.leave(small.ticket)
    [failure] = items.take(1)

    assert (failure.reason, failure.quarantined) == ("memory", tmp_path / "quarantine" / "large.png")
    assert "would take 34 MB of memory; 30 MB are free" in failure.message


def test_a_picture_that_the_program_died_of_twice_is_quarantined_with_the_reason(open_inbox, inbox, tmp_path, pull, jpeg):
    put(inbox / "bad.jpg", jpeg(), age_s=20)
    put(inbox / "good.jpg", jpeg(1), age_s=10)
    for _ in range(2):  # two lives that end in the decoder
        context = Context(quarantine=tmp_path / "quarantine", at_work=AtWork(tmp_path))
        [frame] = pull(open_inbox(context)).take(1)
        assert frame.name == "bad.jpg"
        (tmp_path / "crash-trace.txt").write_text("Fatal Python error: Segmentation fault\n")
        left = (tmp_path / "at-work").read_bytes()
        context.at_work.close()
        (tmp_path / "at-work").write_bytes(left)

    context = Context(quarantine=tmp_path / "quarantine", at_work=AtWork(tmp_path))
    source = open_inbox(context)
    failure, frame = pull(source).take(2)
    context.at_work.close()

    assert (failure.reason, failure.quarantined.name, frame.name) == ("deadly", "bad.jpg", "good.jpg")
    assert "died 2 times while it processed this picture" in failure.message
    assert "reason: deadly" in (tmp_path / "quarantine" / "bad.jpg.reason.txt").read_text()
