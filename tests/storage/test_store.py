"""The ledger and the outbox: one transaction a picture, whatever happens to the process, the disk or the file."""

from __future__ import annotations

import errno
import json
import os
import random
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from edgeannot.base.errors import ConfigError, EdgeannotError, LinkError
from edgeannot.base.file_signature import FileSignature, LedgerEntry
from edgeannot.storage.database import MIGRATIONS
from edgeannot.storage.store import Caps, Message, Store
from tests.patience import DEADLINE_S


def entry(path: str = "a.jpg", **changes) -> LedgerEntry:
    return replace(LedgerEntry("porch", path, FileSignature(10, 20, 30), b"hash of " + os.fsencode(path)), **changes)


def message(text: str = "{}", topic: str = "t/detections", **changes) -> Message:
    return replace(Message(topic, text.encode()), **changes)


def texts(store: Store) -> list[str]:
    return [m.payload.decode() for m in store.queue("mqtt").next_messages(0, 10_000)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "state.sqlite"


def test_a_new_store_is_empty(path):
    with Store.open(path) as store:
        assert store.ledger() == []
        assert store.queue("mqtt").next_messages(0, 10) == []
        assert (store.pending().rows, store.pending().bytes, store.pending().dropped) == (0, 0, 0)
        assert store.outcome("porch", "a.jpg", FileSignature(1, 2, 3)) is None
        assert store.queue("mqtt").wait_empty(0)


def test_a_picture_is_done_and_its_messages_wait_also_after_a_restart(path):
    whole = message("1", qos=2, content_type="image/jpeg", expiry_s=60, properties=(("id", "x\ty\nz"), ("é", "")), correlation=b"\0\xff")
    with Store.open(path) as store:
        store.commit(entry(), [whole, message("2")])
    with Store.open(path) as store:
        assert store.ledger() == [entry()]
        assert store.queue("mqtt").next_messages(0, 1) == [replace(whole, id=1)]
        assert texts(store) == ["1", "2"]
        assert (store.pending().rows, store.pending().bytes) == (2, 2)


@pytest.mark.parametrize("changed", [FileSignature(11, 20, 30), FileSignature(10, 21, 30), FileSignature(10, 20, 31)])
def test_a_file_that_changed_is_not_done(path, changed):
    with Store.open(path) as store:
        store.commit(entry(), [])

        assert store.outcome("porch", "a.jpg", FileSignature(10, 20, 30)) == "annotated"
        assert store.outcome("porch", "a.jpg", changed) is None
        assert store.outcome("door", "a.jpg", FileSignature(10, 20, 30)) is None


@pytest.mark.parametrize("facts", [{"st_ino": 2**64 - 1}, {"st_mtime_ns": 10**19}, {"st_mtime_ns": -(10**19)}])
def test_numbers_beyond_those_of_the_database_are_a_signature_too(path, facts):
    """Some file systems number their files by 64-bit hashes; a clock that was wrong may have left times far off."""
    stat = SimpleNamespace(**({"st_size": 10, "st_mtime_ns": 20, "st_ino": 30} | facts))
    signature = FileSignature.of(stat)
    with Store.open(path) as store:
        store.commit(entry(signature=signature), [])

        assert store.outcome("porch", "a.jpg", signature) == "annotated"
        assert store.outcome("porch", "a.jpg", FileSignature(10, 20, 30)) is None


def test_a_file_done_again_has_one_entry(path):
    with Store.open(path) as store:
        store.commit(entry(), [])
        store.commit(entry(signature=FileSignature(1, 1, 1), outcome="truncated"), [])

        assert store.ledger("porch") == [entry(signature=FileSignature(1, 1, 1), outcome="truncated")]
        assert store.ledger("door") == []


def test_names_that_are_no_utf8_are_names(path):
    with Store.open(path) as store:
        store.commit(entry("caf\udce9.jpg"), [])

        assert store.outcome("porch", "caf\udce9.jpg", FileSignature(10, 20, 30)) == "annotated"
        assert [e.path for e in store.ledger()] == ["caf\udce9.jpg"]


def test_files_that_went_away_are_forgotten(path):
    with Store.open(path) as store:
        for name in ("a", "b", "c"):
            store.commit(entry(name), [])
        store.forget("porch", ["a", "c", "never there"])

        assert [e.path for e in store.ledger()] == ["b"]


def test_the_ledger_can_be_read_in_pieces(path):
    names = [os.fsdecode(name) for name in (b"a", b"b/c", b"\xff")]
    with Store.open(path) as store:
        assert store.ledger_paths("porch") == []
        for name in names:
            store.commit(entry(name), [])
        store.commit(entry("other", source="door"), [])

        assert store.ledger_paths("porch", limit=2) == names[:2]
        assert store.ledger_paths("porch", after=names[1], limit=2) == names[2:]


def test_messages_come_in_order_and_go_when_deleted(path):
    with Store.open(path) as store:
        for number in range(5):
            store.commit(None, [message(str(number))])
        first, second = store.queue("mqtt").next_messages(0, 2)

        assert [m.payload for m in (first, second)] == [b"0", b"1"]
        assert [m.payload for m in store.queue("mqtt").next_messages(second.id, 2)] == [b"2", b"3"]
        store.queue("mqtt").delete([first.id, second.id, 999])
        assert texts(store) == ["2", "3", "4"]
        assert store.pending().rows == 3


def test_ids_are_never_used_again_while_the_store_is_open(path):
    """A sender remembers how far it came by an id: a new message must not hide behind it."""
    with Store.open(path) as store:
        store.commit(None, [message("1")])
        [sent] = store.queue("mqtt").next_messages(0, 1)
        store.queue("mqtt").delete([sent.id])
        store.commit(None, [message("2")])

        assert [m.payload for m in store.queue("mqtt").next_messages(sent.id, 1)] == [b"2"]


def test_reading_ahead_is_bounded_by_bytes(path):
    with Store.open(path) as store:
        store.commit(None, [message("x" * 100) for _ in range(10)])

        assert len(store.queue("mqtt").next_messages(0, 10, max_bytes=250)) == 3
        assert len(store.queue("mqtt").next_messages(0, 10, max_bytes=1)) == 1


def test_topics_can_be_left_out(path):
    with Store.open(path) as store:
        store.commit(None, [message("1", "a"), message("2", "b"), message("3", "c")])

        assert [m.payload for m in store.queue("mqtt").next_messages(0, 10, skip_topics={"a", "c"})] == [b"2"]


def test_a_retained_message_replaces_the_unsent_one_on_its_topic(path):
    with Store.open(path) as store:
        for text in ("1 cat", "2 cats"):
            store.commit(None, [message(text, "t/count", retain=True), message("x")])

        assert texts(store) == ["x", "2 cats", "x"]
        assert [m.payload for m in store.queue("mqtt").retained()] == [b"2 cats"]
        assert store.pending().dropped == 0


def test_a_retained_message_that_says_nothing_new_is_not_stored(path):
    with Store.open(path) as store:
        store.commit(None, [message("1 cat", "t/count", retain=True)])
        store.queue("mqtt").delete([m.id for m in store.queue("mqtt").next_messages(0, 10)])
        store.commit(None, [message("1 cat", "t/count", retain=True)])

        assert texts(store) == []


def test_over_the_cap_of_rows_the_oldest_go_and_are_counted_for_good(path):
    with Store.open(path) as store:
        store.queue("mqtt", Caps(rows=3))
        for number in range(5):
            store.commit(entry(str(number)), [message(str(number))])

        assert texts(store) == ["2", "3", "4"]
        assert store.pending().dropped == 2
        assert len(store.ledger()) == 5
    with Store.open(path) as store:
        store.queue("mqtt", Caps(rows=2))
        assert store.pending().dropped == 2
        store.commit(None, [message("5")])
        assert texts(store) == ["4", "5"]
        assert store.pending().dropped == 4


def test_over_the_cap_of_bytes_pictures_go_first(path):
    with Store.open(path) as store:
        store.queue("mqtt", Caps(bytes=250, image_bytes=10_000))
        store.commit(None, [message("a" * 50), message("b" * 100, kind="image")])
        store.commit(None, [message("c" * 50), message("d" * 100, kind="image")])

        assert [text[0] for text in texts(store)] == ["a", "c", "d"]
        assert (store.pending().bytes, store.pending().image_bytes, store.pending().dropped) == (200, 100, 1)


def test_pictures_have_a_cap_of_their_own(path):
    with Store.open(path) as store:
        store.queue("mqtt", Caps(image_bytes=150))
        for text in "abc":
            store.commit(None, [message(text * 100, kind="image"), message(text)])

        assert [text[0] for text in texts(store)] == ["a", "b", "c", "c"]


def test_retained_messages_stay_over_the_cap(path):
    with Store.open(path) as store:
        store.queue("mqtt", Caps(rows=1))
        store.commit(None, [message("1", "a/count", retain=True), message("2", "b/count", retain=True), message("3")])

        assert texts(store) == ["1", "2"]


def test_retained_messages_of_ever_new_topics_are_bounded_in_memory_and_on_the_disk(path, monkeypatch):
    monkeypatch.setattr("edgeannot.storage.store._MOST_TOPICS", 20)
    monkeypatch.setattr("edgeannot.storage.tables._MOST_RETAINED", 30)
    with Store.open(path) as store:
        store.queue("mqtt", Caps(rows=10))
        for number in range(100):
            store.commit(None, [message("count", topic=f"camera{number}/count", retain=True)])

        assert [m.topic for m in store.queue("mqtt").retained()] == [f"camera{number}/count" for number in range(80, 100)]
        assert (store.pending().rows, store.pending().dropped) == (30, 70)


def test_refused_messages_are_counted_apart(path):
    with Store.open(path) as store:
        store.commit(None, [message("1"), message("2")])
        store.queue("mqtt").delete([1], refused=True)

        assert (store.pending().refused, store.pending().dropped, store.pending().rows) == (1, 0, 1)


def test_a_commit_that_fails_writes_nothing_and_can_be_repeated(path):
    """A disk without room (here: a limit on the size of files) is an error that passes, not one that loses."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Store.open(path) as store:
        store.commit(entry("before"), [message("before")])
        resource.setrlimit(resource.RLIMIT_FSIZE, (64 * 1024, hard))
        try:
            with pytest.raises(LinkError, match="has space"):
                store.commit(entry("big"), [message("x" * 200_000)])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

        assert [e.path for e in store.ledger()] == ["before"]
        assert (store.pending().rows, store.pending().bytes) == (1, 6)
        store.commit(entry("big"), [message("x" * 200_000)])
        assert store.pending().rows == 2


def test_a_second_daemon_is_refused_and_told_who_is_there(path):
    with Store.open(path), pytest.raises(ConfigError, match=f"in use by another edgeannot .process {os.getpid()}."):
        Store.open(path)
    Store.open(path).close()


def test_a_folder_that_cannot_be_written_to_is_a_configuration_error(tmp_path):
    (tmp_path / "file").touch()

    with pytest.raises(ConfigError, match="cannot be written to"):
        Store.open(tmp_path / "file" / "state.sqlite")


def test_a_database_of_a_newer_version_is_left_alone(path):
    Store.open(path).close()
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE news (id INTEGER PRIMARY KEY)")
        db.execute("PRAGMA user_version = 99")
    db.close()

    with pytest.raises(ConfigError, match="version 99"):
        Store.open(path)
    with pytest.raises(ConfigError, match="version 99"):
        Store.open(path)  # and the lock was let go of


def old_database(path: Path, version: int) -> None:
    """One that an earlier program left behind: a file done, a message waiting, a count."""
    path.parent.mkdir(parents=True)
    with sqlite3.connect(path) as db:
        for script in MIGRATIONS[:version]:
            db.executescript(script)
        db.execute(
            "INSERT INTO ledger (source, path, size, mtime_ns, inode, content_hash, outcome, done_at)"
            " VALUES ('porch', x'612e6a7067', 10, 20, 30, x'00', 'annotated', 1)"
        )
        key = "topic" if version < 3 else "key"
        columns = f"id, kind, {key}, payload, qos, retain, content_type, expiry_s, properties"
        db.execute(f"INSERT INTO outbox ({columns}) VALUES (7, 'image', 't', x'ffd8', 1, 0, 'image/jpeg', 60, '[[\"id\", \"a\"]]')")
        db.execute("INSERT INTO counters VALUES (?, 3)", ("dropped" if version < 3 else "mqtt.dropped",))
        db.execute(f"PRAGMA user_version = {version}")
    db.close()


def test_the_state_of_a_scene_is_stored_with_its_messages_or_not_at_all(tmp_path):
    with Store.open(tmp_path / "state.sqlite") as store:
        assert store.scene("yard") is None
        store.commit(None, [message("a")], [("yard", b"one")])
        store.commit(None, [message("b")], [("door", b"other"), ("door/gate", b"open")])
        with pytest.raises(AttributeError):
            store.commit(None, [message("c"), None], [("yard", b"two")])
    with Store.open(tmp_path / "state.sqlite") as store:
        assert [store.scene(key) for key in ("yard", "door", "door/gate")] == [b"one", b"other", b"open"]


@pytest.mark.parametrize("version", range(1, len(MIGRATIONS)))
def test_a_database_of_an_older_version_is_brought_up_with_all_that_is_in_it(path, version, caplog):
    old_database(path, version)
    with Store.open(path) as store:
        assert store.outcome("porch", "a.jpg", FileSignature(10, 20, 30)) == "annotated"
        [waiting] = store.queue("mqtt").next_messages(0, 10)
        assert waiting == Message("t", b"\xff\xd8", "image", content_type="image/jpeg", expiry_s=60, properties=(("id", "a"),), id=7)
        assert store.pending().dropped == 3
        store.commit(entry("b"), [message("new", correlation=b"c")])
    with Store.open(path) as store:
        assert [m.id for m in store.queue("mqtt").next_messages(0, 10)] == [7, 8]
        assert len(store.ledger()) == 2
    assert store.damaged() == []
    assert caplog.records == []


OLD_STATE = Path(__file__).with_name("state-018ea29.sqlite")
"""Written by commit 018ea29, of before sinks had queues of their own: 40 pictures; 25 results, the newest count and 5 images wait.

git archive 018ea29 edgeannot | tar -x -C OLD && PYTHONPATH=OLD python3 - <<'END'
from pathlib import Path
from edgeannot.delivery.store import Caps, LedgerEntry, Message, Signature, Store
with Store.open(Path("state-018ea29.sqlite"), caps=Caps(image_bytes=100)) as store:
    for n in range(40):
        topic, name = "edgeannot/pi/porch", f"{n:02}.jpg"
        image = Message(f"{topic}/image", b"\\xff\\xd8" * 10, "image", content_type="image/jpeg", expiry_s=3600, properties=(("id", name),))
        made = [Message(f"{topic}/detections", b'{"id":"%d"}' % n), Message(f"{topic}/count", b'{"total":%d}' % n, "count", retain=True)]
        store.commit(LedgerEntry("porch", name, Signature(n, n, n), b""), [*made, image])
    store.delete([m.id for m in store.next_messages(0, 1000) if m.kind == "detections"][:15])
END
"""


def test_what_waited_in_a_database_of_before_there_were_queues_waits_in_that_of_mqtt(path):
    path.parent.mkdir()
    shutil.copy(OLD_STATE, path)
    with sqlite3.connect(path) as db:
        before = db.execute("SELECT id, topic, payload FROM outbox ORDER BY id").fetchall()
        assert db.execute("SELECT * FROM counters").fetchall() == [("dropped", 35)]
    db.close()
    with Store.open(path) as store:
        waiting = store.queue("mqtt").next_messages(0, 1000)
        assert [(m.id, m.topic, m.payload) for m in waiting] == before
        assert [m.payload for m in waiting if m.kind == "detections"] == [b'{"id":"%d"}' % n for n in range(15, 40)]
        assert [m.payload for m in waiting if m.retain] == [b'{"total":39}']
        assert {(m.content_type, m.expiry_s, m.properties[0][0]) for m in waiting if m.kind == "image"} == {("image/jpeg", 3600, "id")}
        assert (store.pending().rows, store.pending().dropped) == (31, 35)
        assert len(store.ledger()) == 40
        assert store.queue("webhook").pending().rows == 0

        store.commit(entry("new.jpg"), [message("new"), message("new", sink="webhook")])
        assert store.queue("mqtt").next_messages(before[-1][0], 9)[0].payload == b"new"
        store.queue("mqtt").delete([m.id for m in waiting])
    with Store.open(path) as store:
        assert (store.queue("mqtt").pending().rows, store.queue("webhook").pending().rows) == (1, 1)


def test_a_sink_that_is_away_delays_and_drops_nothing_of_another(path):
    with Store.open(path) as store:
        away, well = store.queue("webhook", Caps(rows=5)), store.queue("mqtt", Caps(rows=5))
        woken = []
        well.add_listener(lambda: woken.append("mqtt"))
        for number in range(20):
            store.commit(None, [message(f"w{number}", sink="webhook")])
            if number % 5 == 0:
                store.commit(None, [message(f"m{number}"), message("same", retain=True), message("same", retain=True, sink="webhook")])

        assert [m.payload for m in well.next_messages(0, 99)] == [b"m0", b"same", b"m5", b"m10", b"m15"]
        assert [m.payload for m in away.next_messages(0, 99)] == [b"same", b"w16", b"w17", b"w18", b"w19"]
        assert (well.pending().dropped, away.pending().dropped, store.pending().dropped) == (0, 16, 16)
        assert woken == ["mqtt"] * 4

        away.delete([m.id for m in well.next_messages(0, 99)], refused=True)
        assert (well.pending().rows, away.pending().refused) == (5, 0), "a queue deletes its own only"
        well.delete([m.id for m in well.next_messages(0, 99)])
        assert well.wait_empty(0)
        assert not away.wait_empty(0)
    with Store.open(path) as store:
        assert (store.queue("webhook").pending().rows, store.queue("webhook").pending().dropped) == (5, 16)
        assert store.pending_by_sink().keys() == {"mqtt", "webhook"}


def test_an_upgrade_that_is_cut_short_is_done_at_the_next_start(path):
    old_database(path, 1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size, hard))
    try:
        with pytest.raises(LinkError, match="has space"):
            Store.open(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    with Store.open(path) as store:
        assert (len(store.ledger()), store.pending().rows) == (1, 1)


def test_damaged_databases_are_named_and_only_the_last_few_are_kept(path, caplog):
    with Store.open(path) as store:
        assert store.damaged() == []
    for _ in range(5):
        path.write_bytes(b"something else entirely" * 1000)
        with Store.open(path) as store:
            newest = store.damaged()[-1]
    with Store.open(path) as store:
        assert len(store.damaged()) == 3
        assert store.damaged()[-1] == newest
    assert caplog.text.count(": only the last 3 damaged databases are kept") == 2


def test_a_schema_that_was_scratched_is_damage_too(path, caplog):
    """SQLite finds nothing wrong with a table of another name."""
    Store.open(path).close()
    db = sqlite3.connect(path)
    db.execute("ALTER TABLE counters RENAME TO cpunters")
    db.close()

    with Store.open(path) as store:
        store.commit(entry(), [message()])
        assert len(store.damaged()) == 1


def test_a_ledger_whose_order_was_scratched_is_damage_too(path, caplog):
    """SQLite's quick check passes over it, and a file beside the scratched one would be done and entered a second time."""
    with Store.open(path) as store:
        for number in range(50):
            store.commit(entry(f"{number:03}.jpg"), [])
    whole = path.read_bytes()
    assert whole.count(b"020.jpg") >= 1
    path.write_bytes(whole.replace(b"020.jpg", b"\xf020.jpg"))

    with Store.open(path) as store:
        assert store.ledger() == []
        assert len(store.damaged()) == 1


def test_dropping_is_said_when_it_begins_and_when_it_is_over(path, caplog):
    with Store.open(path) as store:
        store.queue("mqtt", Caps(rows=3))
        for number in range(6):
            store.commit(entry(str(number)), [message(str(number))])
        assert [record.message[:40] for record in caplog.records] == ["the queue of mqtt is full (3 messages, 0"]
        store.queue("mqtt").delete([m.id for m in store.queue("mqtt").next_messages(0, 10)])
        store.commit(entry("7"), [message("7")])

    assert len(caplog.records) == 2
    assert "has room again; 3 messages dropped" in caplog.records[1].message


def test_what_was_not_committed_is_not_counted_as_dropped(path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Store.open(path) as store:
        store.queue("mqtt", Caps(rows=1))
        store.commit(entry("before"), [message("before")])
        resource.setrlimit(resource.RLIMIT_FSIZE, (64 * 1024, hard))
        try:
            with pytest.raises(LinkError):
                store.commit(entry("big"), [message("x" * 200_000)])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert store.pending().dropped == 0
        assert texts(store) == ["before"]


def size_on_disk(path: Path) -> int:
    return sum(file.stat().st_size for tail in ("", "-wal") if (file := Path(f"{path}{tail}")).exists())


def test_a_store_that_is_emptied_again_and_again_does_not_grow(path):
    sizes = []
    with Store.open(path) as store:
        for _ in range(6):
            for _ in range(20):
                store.commit(None, [message("x" * 100_000) for _ in range(5)])
            while batch := store.queue("mqtt").next_messages(0, 100):
                store.queue("mqtt").delete([m.id for m in batch])
            sizes.append(size_on_disk(path))

    assert max(sizes) <= sizes[0] + 5 * 2**20, "free pages are used again, and the log is cut back to 4 MB"


def test_a_file_that_an_outage_left_large_and_empty_is_given_back_at_the_next_start(path):
    with Store.open(path) as store:
        store.commit(entry(), [])
        for _ in range(30):
            store.commit(None, [message("x" * 1_000_000)])
        for waiting in store.queue("mqtt").next_messages(0, 100, max_bytes=10**9):
            store.queue("mqtt").delete([waiting.id])
    assert size_on_disk(path) > 25_000_000

    with Store.open(path) as store:
        assert store.ledger() == [entry()]
        assert size_on_disk(path) < 100_000


@pytest.mark.parametrize("damage", ["not a database", "zeros in the middle", "cut in half", "tables of another program"])
def test_a_damaged_database_is_set_aside_with_a_line_in_the_log(path, damage, caplog):
    with Store.open(path) as store:
        for number in range(200):
            store.commit(entry(str(number)), [message("x" * 100)])
    whole = path.read_bytes()
    if damage == "not a database":
        path.write_bytes(b"something else entirely" * 1000)
    elif damage == "zeros in the middle":
        path.write_bytes(whole[:2000] + bytes(20_000) + whole[22_000:])
    elif damage == "cut in half":
        path.write_bytes(whole[: len(whole) // 2])
    else:
        path.unlink()
        db = sqlite3.connect(path)
        db.execute("CREATE TABLE ledger (x)")
        db.close()

    with Store.open(path) as store:
        assert store.ledger() == []
        store.commit(entry(), [message()])
    assert len(list(path.parent.glob("state.sqlite.damaged-*"))) >= 1
    assert ["set aside" in record.message and record.levelname == "ERROR" for record in caplog.records] == [True]
    with Store.open(path) as store:
        assert len(store.ledger()) == 1


def test_a_database_cut_or_scratched_anywhere_never_stops_the_daemon(path, tmp_path):
    with Store.open(path) as store:
        for number in range(100):
            store.commit(entry(str(number)), [message("x" * 200)])
        for tail in ("", "-wal", "-shm"):  # as a power cut leaves it: the log not yet written back
            shutil.copy(f"{path}{tail}", tmp_path / f"copy{tail}")
    chance = random.Random(5)
    for round_ in range(60):
        there = tmp_path / f"round{round_}" / "state.sqlite"
        there.parent.mkdir()
        for tail in ("", "-wal"):
            data = bytearray((tmp_path / f"copy{tail}").read_bytes())
            if chance.random() < 0.5:
                del data[chance.randrange(len(data) + 1) :]
            elif data:
                data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
            Path(f"{there}{tail}").write_bytes(data)

        with Store.open(there) as store:
            known = {e.path for e in store.ledger()}
            assert known <= {str(number) for number in range(100)}
            assert store.pending().rows == len(known), "a picture and its message live and die together"
            store.commit(entry("new"), [message()])


def test_no_bit_of_the_header_stops_the_daemon(path, tmp_path):
    """Some are taken for a file of the future, or for one that must not be written to."""
    with Store.open(path) as store:
        store.commit(entry(), [message()])
    whole = path.read_bytes()
    there = tmp_path / "scratched" / "state.sqlite"
    risky = [*range(18, 20), *range(60, 64)]  # who may write, and the version
    for bit in [8 * byte + number for byte in range(100) for number in (range(8) if byte in risky else [byte % 8])]:
        shutil.rmtree(there.parent, ignore_errors=True)
        there.parent.mkdir()
        there.write_bytes(whole[: bit // 8] + bytes([whole[bit // 8] ^ 1 << bit % 8]) + whole[bit // 8 + 1 :])

        with Store.open(there) as store:
            assert store.damaged() or store.ledger() == [entry()], f"bit {bit} of the header"
            store.commit(entry("new"), [message()])


def test_a_name_in_the_schema_that_is_no_text_is_damage(path, caplog):
    """SQLite repeats it in its message, which Python then cannot read."""
    with Store.open(path) as store:
        store.commit(entry(), [message()])
    whole = path.read_bytes()
    assert whole.count(b"tablecounters") == whole.count(b"CREATE TABLE counters (name ") == 1
    scratched = whole.replace(b"tablecounters", b"table\xc5ounters").replace(b"CREATE TABLE counters (", b"CREATE TABLE counters x")
    path.write_bytes(scratched)

    with Store.open(path) as store:
        store.commit(entry(), [message()])
    assert "set aside as" in caplog.text


@pytest.mark.parametrize(
    "scratch",
    [
        "UPDATE outbox SET key = CAST(x'c5c5' AS TEXT)",
        "UPDATE outbox SET payload = 'text'",
        "UPDATE outbox SET properties = '[[1]'",
        "UPDATE outbox SET properties = '[[1, 2]]'",
        "UPDATE outbox SET qos = 3",
        "UPDATE outbox SET expiry_s = 'never'",
        "UPDATE ledger SET path = 7",
        "UPDATE ledger SET outcome = CAST(x'61c56e' AS TEXT)",
        "UPDATE counters SET value = 'many'",
    ],
)
def test_values_that_no_store_wrote_are_damage(path, scratch, caplog):
    """What cannot be read would stand in the way of all that is to be sent after it, at each connection."""
    with Store.open(path) as store:
        store.commit(entry(), [message(), message()])
        store.queue("mqtt").delete([1], refused=True)
    with sqlite3.connect(path) as db:
        assert db.execute(scratch).rowcount == 1
    db.close()

    with Store.open(path) as store:
        assert store.queue("mqtt").next_messages(0, 10) == []
        store.commit(entry(), [message()])
    assert "set aside as" in caplog.text


WRITER = """
import sys
from pathlib import Path
from edgeannot.base.file_signature import FileSignature
from edgeannot.base.file_signature import LedgerEntry
from edgeannot.storage.store import Message, Store
store = Store.open(Path(sys.argv[1]))
done = {e.path for e in store.ledger()}
for number in range(100_000):
    name = str(number)
    if name not in done:
        store.commit(LedgerEntry("porch", name, FileSignature(number, 0, 0), b""), [Message("t", name.encode())] * 2)
        print(name, flush=True)
"""


def test_kill_9_between_and_in_commits_loses_nothing(path):
    """Whatever the writer said is done is in the ledger with its messages, and nothing is there by half."""
    chance = random.Random(1)
    said: list[str] = []
    for _ in range(8):
        with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            said += [process.stdout.readline().strip() for _ in range(chance.randrange(1, 120))]
            process.send_signal(signal.SIGKILL)
            said += process.stdout.read().split()

    with Store.open(path) as store:
        ledger = [e.path for e in store.ledger()]
        sent = texts(store)
        assert len(ledger) == len(set(ledger))
        assert set(said) <= set(ledger)
        assert len(said) == len(set(said)), "no picture was done twice"
        assert sorted(sent) == sorted(ledger * 2), "each picture has its two messages, once"


def test_one_thread_commits_while_another_sends(path):
    got: list[str] = []
    with Store.open(path) as store:
        woken = threading.Event()
        store.queue("mqtt").add_listener(woken.set)

        def send() -> None:
            while len(got) < 500:
                assert woken.wait(DEADLINE_S)
                woken.clear()
                while batch := store.queue("mqtt").next_messages(0, 64):
                    got.extend(m.payload.decode() for m in batch)
                    store.queue("mqtt").delete([m.id for m in batch])

        sender = threading.Thread(target=send)
        sender.start()
        for number in range(500):
            store.commit(entry(str(number)), [message(str(number))])
        assert store.queue("mqtt").wait_empty(DEADLINE_S)
        sender.join(DEADLINE_S)

    assert got == [str(number) for number in range(500)]


def test_a_store_that_is_not_empty_is_waited_for_only_so_long(path):
    with Store.open(path) as store:
        store.commit(None, [message()])

        assert not store.queue("mqtt").wait_empty(0.01)


def test_bringing_commits_to_the_disk_is_bounded_in_number(path, monkeypatch):
    """Few fsyncs: none of ours for a hundred pictures in a moment, one a picture only where that is asked for."""
    calls: list[int] = []
    real = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda fd: (calls.append(fd), real(fd))[1])
    with Store.open(path, sync_s=60) as store:
        for number in range(100):
            store.commit(entry(str(number)), [])
        assert calls == []
        store.sync()
        store.sync()
        assert len(calls) == 1
    with Store.open(path, sync_s=0) as store:
        for number in range(10):
            store.commit(entry(str(number)), [])
        assert len(calls) == 11


def test_that_messages_were_sent_is_brought_to_the_disk_too(path, monkeypatch):
    """After a power cut they would all be sent again, where no picture followed."""
    calls = []
    monkeypatch.setattr(os, "fdatasync", calls.append)
    with Store.open(path, sync_s=60) as store:
        queue = store.queue("mqtt")
        store.commit(entry(), [message("1")])
        store.sync()
        queue.delete([m.id for m in queue.next_messages(0, 10)])
        store.sync()
        store.sync()

        assert len(calls) == 2


def test_damage_while_running_is_an_error_of_ours(path):
    with Store.open(path) as store:
        store.commit(entry(), [message()])
        store._db.execute("DROP TABLE outbox")

        with pytest.raises(EdgeannotError, match="next start checks it"):
            store.commit(entry("b"), [message()])
        assert [e.path for e in store.ledger()] == ["a.jpg"]


class StoreModel(RuleBasedStateMachine):
    """The store against plain lists: any order of commits, failed commits, deletions, refusals, restarts and crashes gives the same."""

    CAPS = Caps(rows=6, bytes=60, image_bytes=20)

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "0" / "state.sqlite"
        self._open()
        self.done: dict[str, LedgerEntry] = {}
        self.outbox: list[Message] = []
        self.told: dict[str, bytes] = {}
        """What was last said on each retained topic since the start."""
        self.dropped = self.refused = 0

    def _open(self) -> None:
        self.store = Store.open(self.path)
        self.store.queue("mqtt", self.CAPS)

    def teardown(self) -> None:
        self.store.close()
        self.folder.cleanup()

    @rule(
        name=st.sampled_from("abc"),
        mtime=st.integers(0, 3),
        sizes=st.lists(st.tuples(st.sampled_from(["detections", "image"]), st.integers(0, 30)), max_size=3),
        counts=st.lists(
            st.tuples(st.sampled_from(["t/count", "u/count"]), st.sampled_from(["1", "2"])), max_size=2, unique_by=lambda c: c[0]
        ),
    )
    def commit(self, name, mtime, sizes, counts):
        done = entry(name, signature=FileSignature(1, mtime, 1))
        messages = [message("x" * size, kind=kind) for kind, size in sizes]
        retained = [message(text, topic, kind="count", retain=True) for topic, text in counts]
        self.store.commit(done, [*messages, *retained])
        self.done[name] = done
        self.outbox += messages
        for new in retained:
            if self.told.get(new.topic) != new.payload:
                self.outbox = [m for m in self.outbox if m.topic != new.topic] + [new]
                self.told[new.topic] = new.payload
        self._drop_over_caps()

    def _drop_over_caps(self):
        def drop(chosen) -> bool:
            gone = next((i for i, m in enumerate(self.outbox) if chosen(m)), None)
            if gone is not None:
                del self.outbox[gone]
                self.dropped += 1
            return gone is not None

        def is_image(m):
            return m.kind == "image"

        while sum(len(m.payload) for m in self.outbox if is_image(m)) > self.CAPS.image_bytes:
            drop(is_image)
        while len(self.outbox) > self.CAPS.rows or sum(len(m.payload) for m in self.outbox) > self.CAPS.bytes:
            if not drop(is_image) and not drop(lambda m: not m.retain):
                break

    @rule(name=st.sampled_from("abc"))
    def commit_on_a_full_disk(self, name):
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
        try:
            with pytest.raises(LinkError):
                self.store.commit(entry(name), [message("never"), message("never", "t/count", retain=True)])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    @rule(count=st.integers(0, 3), refused=st.booleans())
    def send(self, count, refused):
        ids = [m.id for m in self.store.queue("mqtt").next_messages(0, count)] if count else []
        self.store.queue("mqtt").delete([*ids, 10**9], refused=refused)
        self.refused += len(ids) if refused else 0
        del self.outbox[:count]

    @rule(names=st.sets(st.sampled_from("abcd")))
    def forget(self, names):
        self.store.forget("porch", sorted(names))
        self.done = {name: done for name, done in self.done.items() if name not in names}

    @precondition(lambda self: self.done)
    @rule()
    def restart(self):
        self.store.close()
        self._open()
        self.told.clear()

    @precondition(lambda self: self.done)
    @rule()
    def crash(self):
        """What a killed process leaves: its files as they are, the log not written back."""
        after = Path(self.folder.name) / str(int(self.path.parent.name) + 1) / "state.sqlite"
        after.parent.mkdir()
        for tail in ("", "-wal", "-shm", ".lock", ".reserve"):
            if (file := Path(f"{self.path}{tail}")).exists():
                shutil.copy(file, f"{after}{tail}")
        self.store.close()
        self.path = after
        self._open()
        self.told.clear()

    @invariant()
    def agrees(self):
        assert {e.path: e for e in self.store.ledger()} == self.done
        assert [(m.kind, m.payload) for m in self.store.queue("mqtt").next_messages(0, 100)] == [(m.kind, m.payload) for m in self.outbox]
        pending = self.store.pending()
        assert (pending.rows, pending.bytes) == (len(self.outbox), sum(len(m.payload) for m in self.outbox))
        assert (pending.dropped, pending.refused) == (self.dropped, self.refused)
        assert json.dumps(pending.image_bytes) == str(sum(len(m.payload) for m in self.outbox if m.kind == "image"))


StoreModel.TestCase.settings = settings(max_examples=30, stateful_step_count=20)
TestStoreModel = StoreModel.TestCase


@pytest.fixture
def failing_disk(monkeypatch):
    """A switch: while it is set, nothing can be brought to the disk."""
    fails = threading.Event()
    real = os.fdatasync

    def fdatasync(fd):
        if fails.is_set():
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(fd)

    monkeypatch.setattr(os, "fdatasync", fdatasync)
    return fails


def test_a_disk_that_fails_is_said_once_and_once_when_it_is_well_again(path, failing_disk, caplog):
    caplog.set_level("INFO")
    with Store.open(path, sync_s=0) as store:
        failing_disk.set()
        for number in range(3):
            store.commit(entry(str(number)), [])
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        failing_disk.clear()
        for number in range(3):
            store.commit(entry(str(number)), [])

    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


def test_nobody_is_told_that_his_commits_are_on_the_disk_while_they_are_on_their_way(path, monkeypatch):
    going, go = threading.Event(), threading.Event()
    real = os.fdatasync

    def slow(fd):
        going.set()
        assert go.wait(DEADLINE_S)
        real(fd)

    with Store.open(path, sync_s=60) as store:
        monkeypatch.setattr(os, "fdatasync", slow)
        store.commit(entry(), [])
        first, second = (threading.Thread(target=store.sync) for _ in range(2))
        first.start()
        assert going.wait(DEADLINE_S)
        second.start()
        second.join(0.2)
        told_early = not second.is_alive()
        go.set()
        first.join(DEADLINE_S)
        second.join(DEADLINE_S)

    assert not told_early


def test_a_store_on_a_disk_that_fails_is_closed_nevertheless(path, failing_disk, caplog):
    store = Store.open(path, sync_s=60)
    store.commit(entry(), [])
    failing_disk.set()
    store.close()

    assert "cannot be synced to disk" in caplog.text
    Store.open(path).close()


@pytest.mark.parametrize("there", [False, True])
def test_a_full_disk_at_the_start_is_worth_another_try(path, there):
    """systemd does not try again after an error of the configuration, and the disk may be tidied up meanwhile."""
    if there:
        Store.open(path).close()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        with pytest.raises(LinkError, match="has space"):
            Store.open(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    Store.open(path).close()


def test_a_disk_that_is_full_but_for_the_room_a_killed_run_held_back_is_no_obstacle(path, monkeypatch):
    Store.open(path).close()
    reserve = path.with_name("state.sqlite.reserve")
    reserve.write_bytes(b"held")
    real = sqlite3.connect

    def connect(*args, **options):
        if reserve.exists():
            raise full
        return real(*args, **options)

    full = sqlite3.OperationalError("database or disk is full")
    full.sqlite_errorcode = sqlite3.SQLITE_FULL
    monkeypatch.setattr(sqlite3, "connect", connect)

    with Store.open(path) as store:
        store.commit(entry(), [])


@pytest.mark.parametrize("gone", ["everything", "state.sqlite", "state.sqlite-wal", "state.sqlite.lock"])
def test_files_removed_while_in_use_are_written_anew_and_that_is_said(path, gone, caplog):
    """SQLite goes on with what it has open: all of that would be gone with the process, and nobody would know."""
    with Store.open(path, sync_s=0) as store:
        store.commit(entry(), [message("1"), message("2")])
        store.queue("mqtt").delete([1])
        if gone == "everything":
            shutil.rmtree(path.parent)
        else:
            path.with_name(gone).unlink()
        store.commit(entry("b"), [message("3")])

        assert len([r for r in caplog.records if "was removed while in use" in r.message]) == 1 + (gone == "everything")
        assert texts(store) == ["2", "3"]
        store.commit(entry("c"), [message("4")])
        with pytest.raises(ConfigError, match="in use by another edgeannot"):
            Store.open(path)
    with Store.open(path) as store:
        assert [e.path for e in store.ledger()] == ["a.jpg", "b", "c"]
        assert [(m.id, m.payload) for m in store.queue("mqtt").next_messages(0, 9)] == [(2, b"2"), (3, b"3"), (4, b"4")]
        assert store.damaged() == []
    assert "damaged" not in caplog.text


def test_a_file_put_in_the_place_of_the_database_is_set_aside(path, caplog):
    with Store.open(path, sync_s=0) as store:
        store.commit(entry(), [message("1")])
        path.unlink()
        path.write_bytes(b"of somebody else")
        store.commit(entry("b"), [message("2")])

        assert texts(store) == ["1", "2"]
        [aside] = store.damaged()
        assert path.with_name(aside).read_bytes() == b"of somebody else"
    assert "was removed while in use" in caplog.text


def test_a_removed_database_that_cannot_be_written_anew_is_said_and_tried_again(path, caplog):
    """Until then nothing is refused: what is open takes it."""
    with Store.open(path, sync_s=0) as store:
        store.commit(entry(), [message("1")])
        path.unlink()
        path.with_name("state.sqlite.anew").mkdir()
        for number in range(3):
            store.commit(entry(str(number)), [message()])
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert "cannot be restored" in caplog.text
        path.with_name("state.sqlite.anew").rmdir()
        store.commit(entry("last"), [])
    with Store.open(path) as store:
        assert len(store.ledger()) == 5


def test_where_another_daemon_took_the_lock_that_was_removed_this_one_ends(path):
    with Store.open(path, sync_s=0) as store:
        store.commit(entry(), [message("1")])
        shutil.rmtree(path.parent)
        with Store.open(path), pytest.raises(ConfigError, match="in use by another edgeannot"):
            store.commit(entry("b"), [])


def test_room_is_held_back_while_the_store_is_open(path):
    reserve = path.with_name("state.sqlite.reserve")
    with Store.open(path):
        assert reserve.stat().st_blocks * 512 >= 8 * 2**20
    assert not reserve.exists()


def test_a_full_disk_can_be_emptied_with_the_room_held_back(path, monkeypatch):
    """The first deletion finds no room, as on a disk that others filled; with the reserve given up there is some."""
    with Store.open(path) as store:
        store.commit(None, [message("x" * 100_000) for _ in range(20)])
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        give = store._reserve.give

        def give_room():
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            return give()

        monkeypatch.setattr(store._reserve, "give", give_room)
        resource.setrlimit(resource.RLIMIT_FSIZE, (64 * 1024, hard))
        try:
            store.queue("mqtt").delete([1])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert store.pending().rows == 19
        assert not store._reserve.held

        monkeypatch.setattr(store._reserve, "has_room", lambda *_: False)
        with pytest.raises(LinkError, match="results wait until"):
            store.commit(entry(), [message("more")])
        store.queue("mqtt").delete(range(1, 21))
        store.commit(entry(), [message("more")])
        assert texts(store) == ["more"]


def test_files_of_one_size_and_time_are_similar_and_those_of_one_inode_alone_where_there_are_any(path):
    with Store.open(path) as store:
        assert store.similar("porch", FileSignature(10, 20, 30)) == []
        for name, signature in {"a": (10, 20, 30), "b": (10, 20, 31), "c": (11, 20, 30), "d": (10, 21, 30)}.items():
            store.commit(entry(name, signature=FileSignature(*signature), folder="/in"), [])
        store.commit(entry("other", source="door"), [])

        assert [e.path for e in store.similar("porch", FileSignature(10, 20, 30))] == ["a"]
        assert [e.path for e in store.similar("porch", FileSignature(10, 20, 99))] == ["a", "b"]
        assert store.similar("porch", FileSignature(10, 20, 30)) == [entry("a", folder="/in")]


@pytest.mark.parametrize(
    ("stored_ns", "round_ns"), [(3_999_999_999, 2 * 10**9), (5_123_456_789, 5 * 10**9), (5_123_456_789, 5_123_456_700)]
)
def test_times_that_another_file_system_rounded_are_similar(path, stored_ns, round_ns):
    with Store.open(path) as store:
        store.commit(entry(signature=FileSignature(10, stored_ns, 30)), [])

        assert [e.path for e in store.similar("porch", FileSignature(10, round_ns, 99))] == ["a.jpg"]
        assert store.similar("porch", FileSignature(10, stored_ns + 1, 99)) == []
        assert store.similar("porch", FileSignature(10, round_ns + 2 * 10**9, 99)) == []


def test_so_many_files_of_one_size_and_time_are_not_all_read(path):
    with Store.open(path) as store:
        for number in range(100):
            store.commit(entry(f"{number}", signature=FileSignature(10, 20, number)), [])

        assert len(store.similar("porch", FileSignature(10, 20, 999))) == 64
        assert [e.path for e in store.similar("porch", FileSignature(10, 20, 99))] == ["99"]


def test_an_entry_moves_but_not_one_that_another_file_has_taken_meanwhile(path):
    with Store.open(path) as store:
        for name in ("a", "b"):
            store.commit(entry(name), [])
        store.commit(entry("b", signature=FileSignature(1, 1, 1)), [])
        store.move([(entry(name), entry(f"new {name}", folder="/in")) for name in ("a", "b")])

        assert [(e.path, e.folder) for e in store.ledger()] == [("b", ""), ("new a", "/in"), ("new b", "/in")]
