"""The folder as cameras, copies, network shares and people treat it: every picture that stays is answered, once complete, once."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgeannot.base.places import SAMPLES
from tests.faults.stage import seeded
from tests.rights import BOUND


@pytest.mark.parametrize("pictures", [300, pytest.param(10_000, marks=pytest.mark.long)])
def test_a_burst(make_stage, pictures):
    stage = make_stage(f"folder: {pictures} pictures in one burst")
    stage.post.start()
    stage.start().wait_log("connected to")
    stage.offer(pictures)
    stage.wait_all(300)
    stage.stop()
    stage.verdict()


@pytest.mark.long
def test_slow_writers(make_stage):
    """Half a picture lies there for a while, under its own name; ten at a time."""
    stage = make_stage("folder: slow writers")
    stage.post.start()
    stage.start().wait_log("connected to")
    pause = threading.Event()

    def write():
        name, data = stage.picture()
        with (stage.inbox / name).open("wb", buffering=0) as file:
            for start in range(0, len(data), len(data) // 5):
                file.write(data[start : start + len(data) // 5])
                pause.wait(0.4)
        stage.offered[name] = data

    writers = [threading.Thread(target=write) for _ in range(10)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    stage.wait_all()
    stage.stop()
    assert stage.verdict("each answered once, when whole").repeated == 0


@pytest.mark.long
def test_one_who_opens_and_closes_for_each_piece(make_stage):
    """As `cat >>` in a script does: the kernel says "closed" five times, and four times it is half a picture."""
    stage = make_stage("folder: written in pieces, closed between")
    stage.post.start()
    stage.start().wait_log("connected to")
    pause = threading.Event()
    names = [stage.picture() for _ in range(5)]
    for part in range(4):
        for name, data in names:
            quarter = -(-len(data) // 4)
            with (stage.inbox / name).open("ab") as file:
                file.write(data[part * quarter : (part + 1) * quarter])
        pause.wait(0.5)
    stage.offered.update(names)
    stage.wait_all()
    stage.stop()
    stage.verdict("no half picture was set aside")
    assert not stage.quarantined()


def test_temporary_names_and_links(make_stage, tmp_path):
    stage = make_stage("folder: .part and rename, symbolic and hard links")
    stage.post.start()
    stage.start().wait_log("connected to")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for _ in range(20):
        name, data = stage.picture()
        (stage.inbox / f"{name}.part").write_bytes(data)
        (stage.inbox / f"{name}.part").rename(stage.inbox / name)
        stage.offered[name] = data
    for kind in (os.symlink, os.link):
        for _ in range(20):
            name, data = stage.picture()
            (elsewhere / name).write_bytes(data)
            kind(elsewhere / name, stage.inbox / name)
            stage.offered[name] = data
    (stage.inbox / "to nothing.jpg").symlink_to(tmp_path / "nothing")
    (stage.inbox / "to itself.jpg").symlink_to(stage.inbox / "to itself.jpg")
    stage.wait_all()
    stage.stop()
    stage.verdict("links to nothing and to themselves are passed over")


@pytest.mark.long
def test_a_tree_moved_in_at_once(make_stage, tmp_path):
    stage = make_stage("folder: a tree of 200 pictures moved in")
    stage.post.start()
    stage.start().wait_log("connected to")
    tree = tmp_path / "tree"
    for folder in ("a", "a/b", "a/b/c", "d/e"):
        (tree / folder).mkdir(parents=True, exist_ok=True)
        for _ in range(50):
            name, data = stage.picture()
            (tree / folder / name).write_bytes(data)
            stage.offered[f"tree/{folder}/{name}"] = data
    tree.rename(stage.inbox / "tree")
    stage.wait_all()
    stage.offer(5, "tree/a/b/c")  # and it is watched
    stage.wait_all()
    stage.stop()
    stage.verdict()


@pytest.mark.long
def test_deleted_before_they_are_read(make_stage, request):
    """Someone tidies up while the queue is long: what is gone is no error, what is left is answered."""
    chance = seeded(request.node.name)
    stage = make_stage("folder: a third deleted before it is read")
    stage.post.start()
    names = stage.offer(300)
    daemon = stage.start()
    stage.wait_arrived(5)
    gone = set(chance.sample(names, 100))
    for name in gone:
        (stage.inbox / name).unlink()
    done = stage.arrived()  # those had been read already
    for name in gone - done:
        del stage.offered[name]
    stage.wait_arrived(len(stage.offered))
    stage.stop()
    late = stage.ledger().keys() & gone
    stage.verdict(f"{len(gone) - len(gone & stage.arrived())} were gone in time", ledger=(stage.offered.keys() - gone) | late)
    assert "ERROR" not in daemon.log
    assert not stage.quarantined()


@pytest.mark.long
def test_it_vanishes_and_comes_back(make_stage, tmp_path):
    stage = make_stage("folder: renamed away and back, 3 times")
    stage.post.start()
    daemon = stage.start()
    for turn in range(3):
        stage.offer(5)
        stage.wait_all()
        stage.inbox.rename(tmp_path / "away")
        stage.wait(lambda turn=turn: daemon.log.count("waiting for it") > turn, "its absence to be noticed")
        (tmp_path / "away").rename(stage.inbox)
        stage.offer(5)
        stage.wait_all()
    stage.stop()
    assert stage.verdict("nothing is done twice").repeated == 0


@pytest.mark.long
def test_a_medium_is_taken_away_and_put_back(make_stage, tmp_path):
    """A file system mounted over the folder, unmounted and mounted again; what lies under it is another place's pictures."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a file system")
    stage = make_stage("folder: a medium mounted, taken away, put back")
    stage.post.start()
    medium = tmp_path / "medium"
    medium.mkdir()

    def mount(*words: object) -> None:
        done = subprocess.run(list(map(str, words)), capture_output=True, text=True, check=False)
        if done.returncode:
            stage.row.note = f"skipped: {done.stderr.strip()}"
            pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")

    mount("mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", medium)
    try:
        mount("mount", "--bind", medium, stage.inbox)
        # Scans are made every second: a mount over a watched folder gives no event.
        stage.start(EDGEANNOT_SOURCES__INBOX__RESCAN_S="1", EDGEANNOT_SOURCES__INBOX__KIND="directory")
        stage.offer(10)
        stage.wait_all()
        mount("umount", "-l", stage.inbox)
        name, data = stage.picture()
        (medium / name).write_bytes(data)  # the camera goes on filling the card
        stage.offered[name] = data
        mount("mount", "--bind", medium, stage.inbox)
        stage.offer(10)
        stage.wait_all()
        stage.stop()
        assert stage.verdict("nothing is done twice").repeated == 0
    finally:
        for where in (stage.inbox, medium):
            subprocess.run(["umount", "-l", str(where)], check=False, capture_output=True)


@pytest.mark.long
def test_ugly_files_among_them(make_stage):
    """Files that are no pictures are set aside with a reason, whatever is around them."""
    stage = make_stage("folder: no pictures among them")
    stage.post.start()
    stage.start().wait_log("connected to")
    stage.offer(10)
    bad = {"empty.jpg": b"", "text.jpg": b"no picture", "half.jpg": stage.jpeg[: len(stage.jpeg) // 2]}
    for name, data in bad.items():
        hidden = stage.inbox / f".{name}"
        hidden.write_bytes(data)
        os.utime(hidden, (1e9, 1e9))  # old: it is not being written any more
        hidden.rename(stage.inbox / name)
    stage.offer(10)
    stage.wait_all()
    stage.wait(lambda: len(stage.quarantined()) == len(bad), "the others to be set aside")
    stage.stop()
    stage.verdict("set aside with their reasons")
    assert {path.name.removesuffix(".reason.txt") for path in stage.quarantined()} == set(bad)


@pytest.mark.parametrize("rounds", [1, pytest.param(20, marks=pytest.mark.long)])
def test_damaged_pictures_among_good_ones(make_stage, rounds):
    """What can be read for the most part is answered and marked, the rest is set aside with its reason; no good one is lost."""
    stage = make_stage(f"folder: {7 * rounds} damaged pictures among {20 * rounds} good ones")
    stage.post.start()
    stage.start().wait_log("connected to")
    photo = (SAMPLES / "scene.jpg").read_bytes()
    png = cv2.imencode(".png", cv2.imdecode(np.frombuffer(photo, np.uint8), cv2.IMREAD_COLOR))[1].tobytes()

    def zeroed(share: float) -> bytes:
        start = int(share * len(photo))
        return photo[:start] + bytes(2000) + photo[start + 2000 :]

    marked = {"late cut": photo[: int(0.8 * len(photo))], "late zeros": zeroed(0.8)}
    bad = {"early cut": photo[: len(photo) // 5], "early zeros": zeroed(0.2), "cut png": png[: len(png) // 2], "nothing": b""}
    for number in range(rounds):
        stage.offer(10)
        for name, data in {**marked, **bad, "no end": photo[:-2]}.items():
            path = f"{name} {number}.jpg"
            if name not in bad:
                stage.offered[path] = data
            hidden = stage.inbox / f".{path}"
            hidden.write_bytes(data)
            os.utime(hidden, (1e9 + number, 1e9))  # old: it is not being written any more
            hidden.rename(stage.inbox / path)
        stage.offer(10)
    stage.wait_all()
    stage.wait(lambda: len(stage.quarantined()) == len(bad) * rounds, "the others to be set aside")
    stage.stop()
    stage.verdict("set aside with their reasons, or marked where most could be read")
    messages = map(json.loads, stage.post.payloads("detections"))
    damaged = {message["image"]["path"] for message in messages if message.get("damaged")}
    assert damaged == {f"{name} {number}.jpg" for name in marked for number in range(rounds)}
    aside = {path.name.removesuffix(".reason.txt") for path in stage.quarantined()}
    assert aside == {f"{name} {number}.jpg" for name in bad for number in range(rounds)}


@pytest.mark.long
def test_a_copy_of_a_whole_folder_while_it_runs(make_stage, tmp_path):
    """`cp -r` and `rsync`-like copies: names first, contents later, times set at the end."""
    stage = make_stage("folder: cp -r of 200 pictures, with times kept")
    stage.post.start()
    stage.start().wait_log("connected to")
    here = tmp_path / "card"
    here.mkdir()
    for number in range(200):
        name, data = stage.picture()
        (here / name).write_bytes(data)
        os.utime(here / name, (1e9 + number, 1e9 + number))
        stage.offered[f"card/{name}"] = data
    shutil.copytree(here, Path(stage.inbox, "card"))
    stage.wait_all()
    stage.stop()
    stage.verdict()


FEW_WATCHES = ("unshare", "--user", "--map-root-user", "sh", "-c", 'echo 4 > /proc/sys/user/max_inotify_watches && exec "$@"', "sh")
"""A user namespace of the daemon's own, in which there are four watches (namespaces(7), user_namespaces(7)): the machine keeps its own."""


@pytest.mark.long
def test_a_branch_that_cannot_be_watched(make_stage):
    """The watches run out on the way: what has one keeps its events, the rest is looked at, and watched as soon as it can be."""
    stage = make_stage("folder: a branch that cannot be watched")
    tried = subprocess.run([*FEW_WATCHES, "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        stage.row.note = f"skipped: {tried.stderr.strip()}"
        pytest.skip(f"no user namespace can be made here: {tried.stderr.strip()}")
    stage.post.start()
    for number in range(8):
        stage.offer(2, f"d{number}")
    daemon = stage.start(prefix=FEW_WATCHES, EDGEANNOT_SOURCES__INBOX__RESCAN_S="0", EDGEANNOT_SOURCES__INBOX__KIND="directory")
    stage.wait_all()
    for number in range(8):
        stage.offer(2, f"d{number}")
    stage.wait_all()
    assert daemon.log.count("cannot be watched for changes (No space left on device)") == 1
    assert daemon.log.count("raise fs.inotify.max_user_watches (sysctl)") == 1

    more = "echo 1000 > /proc/sys/user/max_inotify_watches"
    subprocess.run(["nsenter", "-t", str(daemon.process.pid), "-U", "--preserve-credentials", "sh", "-c", more], check=True)
    daemon.wait_log("are watched for changes again")
    for number in range(8):
        stage.offer(2, f"d{number}")
    stage.wait_all()
    stage.stop()
    assert stage.verdict("looked at until there were watches again").repeated == 0


def test_files_that_may_not_be_read(make_stage):
    """As an FTP server with the umask 077 leaves them: they stay, with a warning, and are answered once they may be read."""
    stage = make_stage("folder: files that may not be read, and later may")
    stage.post.start()
    daemon = stage.start(prefix=BOUND, EDGEANNOT_SOURCES__INBOX__RETRY_S="0.2", EDGEANNOT_SOURCES__INBOX__KIND="directory")
    daemon.wait_log("connected to")
    (stage.inbox / "shut").mkdir()
    shut = []
    for _ in range(3):
        name, data = stage.picture()
        hidden = stage.inbox / "shut" / f".{name}"
        hidden.write_bytes(data)
        hidden.chmod(0)
        shut.append(hidden.rename(stage.inbox / "shut" / name))
        stage.offered[f"shut/{name}"] = data
    stage.offer(3)
    stage.wait(lambda: daemon.log.count("cannot be read (Permission denied)") == len(shut), "a warning for each")
    stage.wait_arrived(3)
    assert all(path.exists() for path in shut)
    for path in shut:
        path.chmod(0o600)
    stage.wait_all()
    stage.stop()
    stage.verdict("none was moved")
    assert daemon.log.count("cannot be read (Permission denied)") == len(shut)
    assert not stage.quarantined()
