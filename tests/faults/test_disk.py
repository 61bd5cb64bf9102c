"""The disk is full, can only be read, or gives back something else than was written: said, survived, and no picture lost."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
from pathlib import Path

import cv2
import pytest

from tests.brokers import wait_until
from tests.e2e.daemons import SAMPLES, edgeannot
from tests.faults.stage import seeded, tiny_model
from tests.patience import DEADLINE_S


def fill(disk: Path, leave_kb: int = 0) -> Path:
    """Take every last byte of it, but a few."""
    ballast = disk / "ballast"
    with ballast.open("ab", buffering=0) as file:
        with contextlib.suppress(OSError):
            while file.write(bytes(4096)):
                pass
        file.truncate(max(0, file.tell() - leave_kb * 1024))
    return ballast


def on_disk(stage, make_disk, size_kb):
    """Let the stage's state live on a small disk."""
    disk = make_disk(stage.data_dir, size_kb)
    tiny_model(stage.data_dir / "models")
    return disk


def test_named_pictures_on_a_disk_that_fills_up_are_told_and_what_is_written_is_whole(make_disk, tmp_path):
    """`run FILE --out DIR`: nobody sees the log of a service, so the exit code and a line say it."""
    disk = make_disk(tmp_path / "results", 100)
    config = tmp_path / "edgeannot.toml"
    config.write_text("".join(f"[sinks.{kind}]\nmin_free_mb = 0\n" for kind in ("images", "labels", "jsonl")))
    photos = [SAMPLES / f"{name}.jpg" for name in ("cat", "coffee", "scene")]
    done = edgeannot("run", *photos, "--profile", "low", "--data-dir", tmp_path / "data", "--config", config, "--out", disk)

    assert done.returncode == 73, done.stderr
    assert [line.split("  ")[0] for line in done.stdout.splitlines()[:3]] == [photo.name for photo in photos]
    assert "annotated pictures are in" not in done.stdout
    assert re.search(f"cannot write files to {disk}/annotated: (the disk is full|No space left on device)", done.stderr)
    for copy in (disk / "annotated").iterdir():
        assert cv2.imread(str(copy)) is not None
    assert all(json.loads(line) for line in (disk / "annotations.jsonl").read_text().splitlines())


def test_full_and_freed_again(make_stage, make_disk):
    stage = make_stage("disk: filled by others, then freed")
    disk = on_disk(stage, make_disk, 32 * 1024)
    stage.post.start()
    daemon = stage.start()
    stage.offer(10)
    stage.wait_all()
    ballast = fill(disk)
    stage.offer(200)

    def waits():
        fill(disk)  # again: where the first results were still to be removed, the daemon has just given its reserved space back
        return "trying again until it works" in daemon.log

    wait_until(waits, f"the daemon to wait for room: {daemon.log}")
    ballast.unlink()
    daemon.wait_log("the store works again")
    stage.wait_all()
    stage.stop()
    stage.verdict("waits, says so once, goes on")


@pytest.mark.long
def test_filled_by_what_waits_for_the_broker(make_stage, make_disk):
    """Nobody else helps: when the broker is there, what it takes must make room for the rest."""
    stage = make_stage("disk: filled by the outbox, broker comes back")
    disk = on_disk(stage, make_disk, 32 * 1024)
    daemon = stage.start()
    stage.offer(10)
    stage.wait(lambda: len(stage.outbox()) == 10, "the first results to wait")
    fill(disk, leave_kb=1024)
    stage.offer(1500)
    daemon.wait_log("trying again until it works")
    waiting = len(stage.outbox())
    stage.post.start()
    stage.wait_all()
    stage.stop()
    assert "the reserved space is used" in daemon.log
    stage.verdict(f"{waiting} results waited when no byte was left")


@pytest.mark.long
def test_full_at_the_start(make_stage, make_disk):
    stage = make_stage("disk: full at the start")
    disk = on_disk(stage, make_disk, 1024)
    stage.post.start()
    stage.offer(10)
    ballast = fill(disk)
    daemon = stage.start()
    assert daemon.process.wait(DEADLINE_S) == 69, daemon.log
    assert "has space" in daemon.log
    assert "Traceback" not in daemon.log
    ballast.unlink()
    stage.start()
    stage.wait_all()
    stage.stop()
    stage.verdict("ends with 69, which systemd tries again")


@pytest.mark.long
def test_once_on_a_full_disk_ends(make_stage, make_disk):
    """A run that is to end must end: with a sentence, a code, and nothing done by half."""
    stage = make_stage("disk: full during `run --once`")
    disk = on_disk(stage, make_disk, 32 * 1024)
    stage.offer(3)
    stage.start("--once", EDGEANNOT_SINKS__MQTT__ENABLED="false").process.wait(DEADLINE_S)
    ballast = fill(disk, leave_kb=256)
    stage.offer(1500)
    daemon = stage.start("--once", EDGEANNOT_SINKS__MQTT__ENABLED="false")
    assert daemon.process.wait(DEADLINE_S) == 69, daemon.log
    assert "Traceback" not in daemon.log
    last = daemon.log.splitlines()[-1]
    assert "has space" in last
    ballast.unlink()
    stage.post.start()
    again = stage.start("--once", "--again")
    assert again.process.wait(DEADLINE_S) == 0, again.log
    stage.verdict("ends by itself with 69 and a sentence")


@pytest.mark.long
def test_a_state_folder_that_can_only_be_read(make_stage, make_disk):
    stage = make_stage("disk: state folder can only be read")
    disk = on_disk(stage, make_disk, 4096)
    stage.post.start()
    stage.offer(10)
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    daemon = stage.start()
    assert daemon.process.wait(DEADLINE_S) == 78, daemon.log
    assert "cannot be written to" in daemon.log.splitlines()[-1]
    assert "Traceback" not in daemon.log
    subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
    stage.start()
    stage.wait_all()
    stage.stop()
    stage.verdict("ends with 78 and names the folder")


@pytest.mark.parametrize("variants", [2, pytest.param(20, marks=pytest.mark.long)])
def test_a_damaged_database(make_stage, variants, request):
    """Cut or scratched at random bytes: set aside and said, and no picture is lost that still lies in the folder."""
    chance = seeded(request.node.name)
    stage = make_stage(f"disk: database damaged in {variants} ways")
    post = stage.post.start()
    stage.offer(40)
    daemon = stage.start()
    stage.wait_all()
    kept = stage.folder / "kept"
    daemon.kill()  # everything is in the log
    shutil.copytree(stage.data_dir, kept / "killed", ignore=shutil.ignore_patterns("*.reserve"))
    stage.start()
    stage.offer(1)
    stage.wait_all()
    stage.stop()  # everything is in the database
    shutil.copytree(stage.data_dir, kept / "stopped")
    at_first = len(stage.offered)
    aside = redone = 0
    for number in range(variants):
        state = ("stopped", "killed")[number % 2]
        shutil.rmtree(stage.data_dir)
        shutil.copytree(kept / state, stage.data_dir)
        _damage(stage.data_dir / f"state.sqlite{'' if state == 'stopped' else chance.choice(['', '-wal', '-wal'])}", chance)
        before = sum(post.paths().values())
        said = len(daemon.log)
        stage.offer(2)
        daemon = stage.start()
        stage.wait(lambda daemon=daemon, said=said: "connected to" in daemon.log[said:], "it to be at work")
        # What was lost with the database is done again, in full; what could be read is not.
        stage.wait(lambda: len(stage.ledger()) == len(stage.offered) and not stage.outbox(), "every picture to be in the ledger")
        stage.wait_all()
        stage.stop()
        set_aside = list(stage.data_dir.glob("state.sqlite.damaged-*"))
        assert bool(set_aside) == ("is damaged" in daemon.log[said:]), daemon.log[said:]
        aside += bool(set_aside)
        redone += sum(post.paths().values()) - before - (len(stage.offered) - at_first)
    stage.verdict(f"{aside} set aside and said so; {redone} pictures of {variants * at_first} done again")


@pytest.mark.parametrize("gone", ["state.sqlite*", pytest.param("state.sqlite", marks=pytest.mark.long), "state.sqlite.lock"])
def test_the_database_is_deleted_while_it_is_in_use(make_stage, gone):
    """What waits in it for the broker, and what comes after, survives a kill."""
    stage = make_stage(f"disk: {gone} deleted while the daemon runs")
    daemon = stage.start()
    stage.offer(10)
    stage.wait(lambda: len(stage.outbox()) == 10, "the results to wait")
    for file in stage.data_dir.glob(gone):
        file.unlink()
    daemon.wait_log("was removed while in use")
    stage.offer(10)
    stage.wait(lambda: len(stage.outbox()) == 20, "all results to wait on the disk")
    daemon.kill()
    stage.post.start()
    stage.start()
    stage.wait_all()
    stage.stop()
    assert not list(stage.data_dir.glob("*.damaged-*"))
    assert not list(stage.data_dir.glob("*.anew"))
    stage.verdict("said, and written anew with all that was in it")


def _damage(path: Path, chance) -> None:
    data = bytearray(path.read_bytes())
    kind = chance.choice(["cut", "flip", "noise"])
    if kind == "cut":
        del data[chance.randrange(len(data)) :]
    elif kind == "flip":
        for _ in range(chance.randint(1, 64)):
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    else:
        start = chance.randrange(len(data))
        data[start : start + 5000] = chance.randbytes(len(data[start : start + 5000]))
    path.write_bytes(data)


@pytest.mark.long
def test_results_stop_and_messages_flow_below_the_floor(make_stage, make_disk):
    """Pictures and labels give way to messages."""
    stage = make_stage("disk: below the free floor")
    out = make_disk(stage.folder / "out", 4096)
    stage.post.start()
    floor = {f"EDGEANNOT_SINKS__{kind}__MIN_FREE_MB": "2" for kind in ("IMAGES", "LABELS", "JSONL")}
    daemon = stage.start("--out", out, **floor)
    stage.offer(10)
    stage.wait_all()
    written = len(list(out.rglob("*.txt")))
    ballast = fill(out)
    stage.offer(20)
    stage.wait_all()
    assert len(list(out.rglob("*.txt"))) == written
    assert "all else goes on" in daemon.log
    ballast.unlink()
    stage.offer(5)
    stage.wait_all()
    assert len(list(out.rglob("*.txt"))) == written + 5
    stage.stop()
    stage.verdict("20 pictures without files, all with messages")
