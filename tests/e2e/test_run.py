"""The whole product: pictures in, annotated copies, label files and MQTT messages out."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import sqlite3
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import jsonschema
import numpy as np
import pytest

from edgeannot.base.foreign import number_of
from tests.brokers import Subscriber, free_port, wait_until
from tests.e2e.daemons import COMMAND, ROOT, SAMPLES, Daemon, copy_samples, edgeannot
from tests.patience import DEADLINE_S
from tests.rights import BOUND

SCHEMA = json.loads((ROOT / "edgeannot/schema/detections-1.json").read_text())


@pytest.fixture
def daemons(tmp_path):
    """Starts daemons and ends those that a failed test left."""
    started = []

    def start(*args, **environment):
        started.append(Daemon(tmp_path / "daemon", *args, **environment))
        return started[-1]

    yield start
    for daemon in started:
        daemon.kill()


def detections(subscriber):
    return [json.loads(m.payload) for m in list(subscriber.messages) if m.topic.endswith("/detections")]


def paths(subscriber):
    return [message["image"]["path"] for message in detections(subscriber)]


def nobody():
    return f"mqtt://127.0.0.1:{free_port()}"


def test_an_empty_folder_is_nothing_to_do(tmp_path):
    (tmp_path / "in").mkdir()
    done = edgeannot("run", "--once", "--watch", tmp_path / "in", "--data-dir", tmp_path / "data")

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("0 pictures annotated, in ")


@pytest.mark.runtime_long
@pytest.mark.parametrize("profile", ["low", "mid", "high", "auto"])
def test_each_profile_finds_the_people_in_the_sample_photos(tmp_path, profile):
    copy_samples(tmp_path / "in")
    done = edgeannot("run", "--once", "--profile", profile, "--watch", tmp_path / "in", "--data-dir", tmp_path / "data")

    assert done.returncode == 0, done.stderr
    found = {line.split("  ")[0]: line for line in done.stdout.splitlines()}
    assert "person" in found["000-scene.jpg"].lower()
    assert "person" in found["000-cameraman.jpg"].lower()


@pytest.mark.runtime
def test_results_lie_beside_each_other_as_pictures_labels_and_lines(tmp_path):
    names = copy_samples(tmp_path / "in")
    done = edgeannot(
        "run", "--once", "--watch", tmp_path / "in", "--out", tmp_path / "out", "--data-dir", tmp_path / "data", "--profile", "low"
    )

    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (tmp_path / "out/annotations.jsonl").read_text().splitlines()]
    assert sorted(line["image"]["path"] for line in lines) == names
    for line in lines:
        jsonschema.validate(line, SCHEMA)
        name = line["image"]["path"]
        before, after = cv2.imread(str(tmp_path / "in" / name)), cv2.imread(str(tmp_path / "out/annotated/inbox" / name))
        assert before.shape == after.shape
        assert (before != after).any() == bool(line["detections"])
        labels = (tmp_path / "out/labels/inbox" / name).with_suffix(".txt").read_text().splitlines()
        assert len(labels) == len(line["detections"])


def test_without_a_broker_the_messages_are_kept_and_a_later_run_delivers_them(tmp_path, broker):
    names = copy_samples(tmp_path / "in")
    run = ("run", "--once", "--profile", "low", "--watch", tmp_path / "in", "--data-dir", tmp_path / "data", "--mqtt")
    away = edgeannot(*run, nobody())

    assert away.returncode == 69
    assert " kept in" in away.stderr
    subscriber = Subscriber(broker)
    there = edgeannot(*run, broker.url)
    assert there.returncode == 0, there.stderr
    assert there.stdout.startswith("0 pictures annotated")
    assert f"{len(names)} already done by an earlier run (to repeat: --again)" in there.stdout
    subscriber.wait_for(lambda s: len(paths(s)) >= len(names), "all messages")
    assert sorted(paths(subscriber)) == names
    subscriber.close()


@pytest.mark.runtime
def test_one_valid_message_a_picture_over_a_late_and_restarted_broker(tmp_path, broker, daemons):
    """The broker comes after the daemon and is killed in the middle: each picture's message arrives, and each is valid."""
    broker.stop()
    names = copy_samples(tmp_path / "in", copies=6)
    daemon = daemons("--profile", "low", "--watch", tmp_path / "in", "--mqtt", broker.url)
    daemon.wait_log("waiting, trying again")
    broker.start()
    subscriber = Subscriber(broker)
    subscriber.wait_for(lambda s: len(set(paths(s))) >= len(names), "the messages that had waited")
    broker.kill()
    more = copy_samples(tmp_path / "in" / "later")
    broker.start()
    again = Subscriber(broker)
    again.wait_for(lambda s: len(set(paths(s))) >= len(more), "the messages of the time without a broker")

    assert daemon.stop() == 0
    received = detections(subscriber) + detections(again)
    for message in received:
        jsonschema.validate(message, SCHEMA)
    assert {m["image"]["path"] for m in received} == {*names, *(f"later/{name}" for name in more)}
    ids = {}
    for message in received:
        assert ids.setdefault(message["id"], message["image"]["path"]) == message["image"]["path"]
    assert len(ids) == len(names) + len(more)
    again.close()
    subscriber.close()


def test_status_and_info_are_retained_and_the_last_will_speaks_for_a_killed_daemon(tmp_path, broker, daemons):
    (tmp_path / "in").mkdir()
    args = ("--profile", "low", "--watch", tmp_path / "in", "--mqtt", broker.url, "--device", "porch")
    daemon = daemons(*args)
    daemon.wait_log("connected to")
    subscriber = Subscriber(broker, "edgeannot/porch/#")

    def states(s):
        return [json.loads(p)["state"] for p in s.payloads("edgeannot/porch/status")]

    subscriber.wait_for(lambda s: "online" in states(s) and s.payloads("edgeannot/porch/info"), "status and info")
    info = json.loads(subscriber.payloads("edgeannot/porch/info")[0])
    assert info["model"]["name"] == "nanodet-g@224"
    assert any("nanodet before ssd before yolo" in reason for reason in info["reasons"])
    daemon.kill()
    subscriber.wait_for(lambda s: states(s)[-1] == "offline", "the last will")
    second = daemons(*args)
    subscriber.wait_for(lambda s: states(s)[-1] == "online", "the second start")
    assert second.stop() == 0
    subscriber.wait_for(lambda s: states(s)[-1] == "stopping", "the farewell")
    subscriber.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_stop_in_the_middle_it_ends_in_order_and_goes_on_where_it_was(tmp_path, daemons, number):
    names = copy_samples(tmp_path / "in", copies=20)
    daemon = daemons("--profile", "low", "--watch", tmp_path / "in", "--out", tmp_path / "out", "--mqtt", nobody())
    lines = tmp_path / "out/annotations.jsonl"
    wait_until(lambda: lines.exists() and lines.read_text().count("\n") >= 3, "three pictures", DEADLINE_S)
    daemon.process.send_signal(number)

    assert daemon.process.wait(DEADLINE_S) == 0
    assert "Traceback" not in daemon.log
    done = lines.read_text().count("\n")
    assert 3 <= done < len(names)
    with sqlite3.connect(daemon.data_dir / "state.sqlite") as database:
        assert database.execute("SELECT count(*) FROM ledger").fetchone() == (done,)
        assert database.execute("SELECT count(*) FROM outbox WHERE kind = 'detections'").fetchone() == (done,)
    database.close()
    rest = edgeannot("run", "--once", "--profile", "low", "--watch", tmp_path / "in", "--data-dir", daemon.data_dir)
    assert number_of(len(names) - done, "picture") + " annotated" in rest.stdout


@pytest.mark.runtime_long
def test_killed_in_the_middle_nothing_is_lost_and_a_repeat_has_the_same_id(tmp_path, broker, daemons):
    names = copy_samples(tmp_path / "in", copies=10)
    subscriber = Subscriber(broker)
    args = ("--profile", "low", "--watch", tmp_path / "in", "--mqtt", broker.url)
    for seen in (5, 20):
        daemon = daemons(*args)
        subscriber.wait_for(lambda s, seen=seen: len(paths(s)) >= seen, f"{seen} messages")
        daemon.kill()
    daemons(*args)

    subscriber.wait_for(lambda s: len(set(paths(s))) == len(names), "every picture's message")
    assert len({message["id"] for message in detections(subscriber)}) == len(names)
    subscriber.close()


def test_a_folder_that_was_renamed_between_two_runs_is_not_annotated_again_but_a_copy_is(tmp_path):
    names = copy_samples(tmp_path / "in/porch")
    run = ("run", "--once", "--profile", "low", "--watch", tmp_path / "in", "--data-dir", tmp_path / "data")
    assert f"{number_of(len(names), 'picture')} annotated" in edgeannot(*run).stdout

    (tmp_path / "in/porch").rename(tmp_path / "in/front door")
    assert "0 pictures annotated" in edgeannot(*run).stdout

    (tmp_path / "in/copy").mkdir()
    shutil.copyfile(tmp_path / "in/front door" / names[0], tmp_path / "in/copy" / names[0])
    assert "1 picture annotated" in edgeannot(*run).stdout


def test_without_a_source_it_makes_an_inbox_and_says_where(tmp_path, daemons):
    daemon = daemons("--profile", "low", "--out", tmp_path / "out", "--mqtt", nobody())
    daemon.wait_log(f"watching {daemon.data_dir}/inbox: put pictures there")
    copy_samples(daemon.data_dir / "inbox")
    wait_until(lambda: len(list((tmp_path / "out").glob("annotated/inbox/*.jpg"))) == len(list(SAMPLES.glob("*.jpg"))), "annotated copies")

    assert daemon.stop() == 0


def test_without_a_terminal_a_hang_up_reads_the_configuration_again_also_where_no_systemd_is(tmp_path, daemons):
    """As a container, a supervisor of another kind or a boot script starts it."""
    config, folder = tmp_path / "edgeannot.toml", tmp_path / "in"
    config.write_text(f'[sources.first]\nkind = "directory"\npath = "{folder}"\n')
    folder.mkdir()
    daemon = daemons("--profile", "low", "--config", config, "--mqtt", nobody(), prefix=["setsid"])
    daemon.wait_log("messages waiting")
    config.write_text("nonsense = 1\n")
    daemon.process.send_signal(signal.SIGHUP)
    daemon.wait_log("the new configuration is wrong, and the old one stays in force: nonsense")
    config.write_text("")
    daemon.process.send_signal(signal.SIGHUP)
    daemon.wait_log(f"watching {daemon.data_dir}/inbox")

    assert daemon.stop() == 0


def test_a_configuration_that_is_read_again_leaves_no_model_of_the_run_before_in_memory(tmp_path, daemons):
    config, folder = tmp_path / "edgeannot.toml", tmp_path / "in"
    config.write_text(f'[sources.first]\nkind = "directory"\npath = "{folder}"\n')
    copy_samples(folder)
    collects_nothing_by_itself = "import gc, runpy; gc.disable(); runpy.run_module('edgeannot', run_name='__main__')"
    command, out = [sys.executable, "-c", collects_nothing_by_itself], tmp_path / "out"
    daemon = daemons("--profile", "low", "--config", config, "--out", out, "--mqtt", nobody(), prefix=["setsid"], command=command)
    wait_until(lambda: list(out.glob("annotated/first/*.jpg")), "an annotated copy")
    config.write_text("")
    daemon.process.send_signal(signal.SIGHUP)
    daemon.wait_log(f"watching {daemon.data_dir}/inbox")
    copy_samples(daemon.data_dir / "inbox")
    wait_until(lambda: list(out.glob("annotated/inbox/*.jpg")), "an annotated copy by the next run")

    mapped = Path(f"/proc/{daemon.process.pid}/maps").read_text().splitlines()
    assert len({line.split()[4] for line in mapped if ".tflite" in line}) == 1, "inodes of models"
    assert daemon.stop() == 0


def test_the_end_of_its_terminal_ends_it_also_where_systemd_started_the_terminal(tmp_path, daemons):
    (tmp_path / "in").mkdir()
    terminal, end = os.openpty()
    takes_it = "import os, sys; os.setsid(); os.open(sys.argv[1], os.O_RDWR); os.execvp(sys.argv[2], sys.argv[2:])"
    prefix = [sys.executable, "-c", takes_it, os.ttyname(end)]
    daemon = daemons("--profile", "low", "--watch", tmp_path / "in", "--mqtt", nobody(), prefix=prefix, INVOCATION_ID="0" * 32)
    daemon.wait_log("messages waiting")
    os.close(end)
    os.close(terminal)

    assert daemon.process.wait(DEADLINE_S) == 0, daemon.log


def test_systemd_hears_ready_signs_of_life_and_stopping(tmp_path, daemons):
    (tmp_path / "in").mkdir()
    address = f"@edgeannot-{os.getpid()}"  # no path, which may be longer than an address
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(address.replace("@", "\0"))
        systemd.settimeout(DEADLINE_S)
        daemon = daemons("--profile", "low", "--watch", tmp_path / "in", "--mqtt", nobody(), NOTIFY_SOCKET=address, WATCHDOG_USEC="2000000")

        def hear(field):
            while field not in (said := systemd.recv(4096).decode()).splitlines():
                pass
            return said

        hear("READY=1")
        assert "STATUS=" in hear("WATCHDOG=1")
        daemon.process.send_signal(signal.SIGTERM)
        hear("STOPPING=1")
        assert daemon.process.wait(DEADLINE_S) == 0


def test_a_second_daemon_on_the_same_state_is_refused(tmp_path, daemons):
    (tmp_path / "in").mkdir()
    daemon = daemons("--profile", "low", "--watch", tmp_path / "in", "--mqtt", nobody())
    daemon.wait_log("nanodet-g@224")
    wait_until((daemon.data_dir / "state.sqlite.lock").exists, "the first daemon's lock")
    second = edgeannot("run", "--once", "--watch", tmp_path / "in", "--data-dir", daemon.data_dir)

    assert second.returncode == 78
    assert "Traceback" not in second.stderr


def test_a_damaged_file_that_is_left_where_it_is_is_there_after_a_second_start(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/damaged.gif").write_bytes(b"GIF89a and no more")
    settings = tmp_path / "edgeannot.toml"
    settings.write_text(
        f'profile = "low"\n[sources.in]\nkind = "directory"\npath = "{tmp_path}/in"\nafter = "delete"\nquarantine = "leave"\n'
    )
    for _ in range(2):
        done = edgeannot("run", "--once", "--config", settings, "--data-dir", tmp_path / "data")

        assert done.returncode == 0, done.stderr
        assert (tmp_path / "in/damaged.gif").exists()


def test_a_damaged_picture_is_annotated_and_marked_where_most_of_it_can_be_read_else_set_aside(tmp_path):
    photo = (SAMPLES / "cat.jpg").read_bytes()
    (tmp_path / "in").mkdir()
    for name, data in {
        "sound": photo,
        "nearly": photo[:-2],
        "most": photo[: len(photo) * 8 // 10],
        "little": photo[: len(photo) // 5],
    }.items():
        (tmp_path / "in" / f"{name}.jpg").write_bytes(data)
        os.utime(tmp_path / "in" / f"{name}.jpg", (1.7e9, 1.7e9))

    folders = ("--watch", tmp_path / "in", "--out", tmp_path / "out", "--data-dir", tmp_path / "data")
    done = edgeannot("run", "--once", "--profile", "low", *folders)

    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (tmp_path / "out/annotations.jsonl").read_text().splitlines()]
    assert {line["image"]["path"]: line.get("damaged") for line in lines} == {"sound.jpg": None, "nearly.jpg": None, "most.jpg": True}
    assert "most.jpg: the JPEG is cut off" in done.stderr
    assert (tmp_path / "data/quarantine/little.jpg").exists()


@pytest.mark.runtime_long
def test_a_video_file_is_annotated_in_the_order_of_its_frames(tmp_path, data_dir):
    """Every tenth frame: all of them take a minute where the runtime has no fast int8."""
    video = data_dir / "videos" / "bottle-detection.mp4"
    run = ("run", "--once", "--profile", "low", "--camera", video, "--out", tmp_path / "out", "--data-dir", tmp_path / "data")
    done = edgeannot(*run, timeout_s=DEADLINE_S, EDGEANNOT_SOURCES__CAMERA__EVERY_N="10")

    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (tmp_path / "out/annotations.jsonl").read_text().splitlines()]
    assert [line["seq"] for line in lines] == list(range(len(lines)))
    assert any(d["label"] == "bottle" for line in lines for d in line["detections"])


def test_ugly_pictures_are_annotated_or_set_aside_with_a_reason(tmp_path, data_dir):
    """Every file ends one way or the other, the exit code is 0 and memory stays under 400 MB."""
    inbox = tmp_path / "in"
    inbox.mkdir()
    names = sorted(path.name for path in (data_dir / "ugly").iterdir())
    for name in names:
        (inbox / name).write_bytes((data_dir / "ugly" / name).read_bytes())
    daemon = Daemon(tmp_path / "daemon", "--once", "--profile", "low", "--watch", inbox, "--out", tmp_path / "out", "--mqtt", nobody())
    peak_kb = daemon.watch_to_the_end()

    assert daemon.process.returncode == 69, daemon.log  # the broker is away, everything else is done
    assert peak_kb * 1024 < 400e6
    annotated = {json.loads(line)["image"]["path"] for line in (tmp_path / "out/annotations.jsonl").read_text().splitlines()}
    reasons = {path.name.removesuffix(".reason.txt"): path.read_text() for path in (daemon.data_dir / "quarantine").rglob("*.reason.txt")}
    assert annotated | set(reasons) == set(names)
    assert not annotated & set(reasons)
    assert all(len(reason.strip()) > 10 for reason in reasons.values())
    assert len(annotated) > 25


def test_named_files_are_annotated_and_told_line_by_line_in_their_order(tmp_path):
    names = copy_samples(tmp_path / "in")
    files = [tmp_path / "in" / name for name in reversed(names)]
    done = edgeannot("run", *files, "--profile", "low", "--data-dir", tmp_path / "data", "--out", tmp_path / "out")

    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split("  ")[0] for line in lines[: len(names)]] == names[::-1]
    assert "person" in next(line for line in lines if line.startswith("000-scene.jpg"))
    assert lines[len(names)].startswith(f"{len(names)} pictures annotated, in ")
    assert lines[-1] == f"annotated pictures are in {tmp_path / 'out/annotated'}"
    assert sorted(path.name for path in (tmp_path / "out/annotated").iterdir()) == names
    assert {path.name for path in (tmp_path / "out/labels").iterdir()} == {"classes.txt", *(f"{name[:-4]}.txt" for name in names)}


def test_a_named_file_that_may_not_be_read_is_told_and_the_others_are_annotated(tmp_path):
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes((SAMPLES / "cat.jpg").read_bytes())
    (tmp_path / "a.jpg").chmod(0)
    words = ["run", tmp_path / "a.jpg", tmp_path / "b.jpg", "--profile", "low", "--data-dir", tmp_path / "data"]
    done = subprocess.run(
        [*BOUND, *COMMAND, *map(str, words)], capture_output=True, text=True, timeout=DEADLINE_S, env=dict(os.environ), check=False
    )

    assert done.returncode == 65, done.stderr
    assert [line.split("  ")[0] for line in done.stdout.splitlines()[:2]] == ["a.jpg", "b.jpg"]
    assert "a.jpg  unreadable: the file cannot be read (Permission denied)" in done.stdout
    assert "1 picture annotated, 1 not annotated" in done.stdout


def test_two_named_files_of_one_name_have_results_of_their_own(tmp_path):
    photos = [path for path in sorted(SAMPLES.glob("*.jpg")) if path.name in {"astronaut.jpg", "cat.jpg"}]
    for folder, photo in zip(("one", "two"), photos, strict=True):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "photo.jpg").write_bytes(photo.read_bytes())
    files = [tmp_path / folder / "photo.jpg" for folder in ("one", "two")]
    done = edgeannot("run", *files, "--profile", "low", "--data-dir", tmp_path / "data", "--out", tmp_path / "out")

    assert done.returncode == 0, done.stderr
    copies = [tmp_path / "out/annotated" / folder / "photo.jpg" for folder in ("one", "two")]
    assert copies[0].read_bytes() != copies[1].read_bytes()
    assert [(tmp_path / "out/labels" / folder / "photo.txt").exists() for folder in ("one", "two")] == [True, True]
    assert [json.loads(line)["image"]["path"] for line in (tmp_path / "out/annotations.jsonl").read_text().splitlines()] == [
        "one/photo.jpg",
        "two/photo.jpg",
    ]


def test_results_beside_the_picture_leave_it_as_it_is_and_are_not_annotated_themselves(tmp_path):
    (tmp_path / "photo.jpg").write_bytes(before := (SAMPLES / "cat.jpg").read_bytes())
    options = ("--profile", "low", "--data-dir", tmp_path / "data", "--out", tmp_path)

    assert edgeannot("run", tmp_path / "photo.jpg", *options).returncode == 0
    assert (tmp_path / "photo.jpg").read_bytes() == before
    made = (tmp_path / "annotated/photo.jpg").read_bytes()
    again = edgeannot("run", tmp_path / "annotated/photo.jpg", *options)
    assert again.returncode == 65
    assert "lies where results are written" in again.stderr
    assert (tmp_path / "annotated/photo.jpg").read_bytes() == made


def test_results_that_find_no_room_are_told_and_end_with_73(tmp_path):
    """A limit of the file system's kind that holds for root as well: more free space is demanded than any disk has."""
    config = tmp_path / "edgeannot.toml"
    config.write_text("[sinks.images]\nmin_free_mb = 1000000000\n")
    done = edgeannot(
        "run", SAMPLES / "cat.jpg", "--profile", "low", "--data-dir", tmp_path / "data", "--out", tmp_path / "out", "--config", config
    )

    assert done.returncode == 73
    assert done.stdout.startswith("cat.jpg  cat")
    assert "annotated pictures are in" not in done.stdout
    assert f"cannot write files to {tmp_path / 'out/annotated'}: less than 1000000000 MB are free" in done.stderr
    assert (tmp_path / "out/labels/cat.txt").exists()


@pytest.mark.runtime_long
def test_a_single_picture_needs_nothing_and_leaves_nothing_but_its_line(tmp_path):
    """Also beside a service that runs, and whatever its configuration says of sources and sinks."""
    copy_samples(tmp_path / "in")
    config = tmp_path / "edgeannot.toml"
    config.write_text(
        f'[sources.inbox]\nkind = "directory"\npath = "{tmp_path / "in"}"\n[sinks.jsonl]\nenabled = true\n'
        f'[sinks.mqtt]\nurl = "{nobody()}"\n'
    )
    run = ("run", tmp_path / "in/000-cat.jpg", "--profile", "low", "--data-dir", tmp_path / "data", "--config", config)
    first, second = edgeannot(*run), edgeannot(*run)

    for done in (first, second):
        assert done.returncode == 0, done.stderr
        assert [line.split("  ")[0] for line in done.stdout.splitlines()][:-1] == ["000-cat.jpg"]
        assert done.stdout.splitlines()[-1].startswith("1 picture annotated, in ")
    assert not (tmp_path / "data/state.sqlite").exists()
    assert not (tmp_path / "data/out").exists()


def test_a_file_that_is_no_picture_is_told_and_the_others_are_annotated(tmp_path):
    copy_samples(tmp_path / "in")
    (tmp_path / "in/notes.txt").write_text("no picture")
    files = (tmp_path / "in/notes.txt", tmp_path / "in/000-cat.jpg")
    done = edgeannot("run", *files, "--profile", "low", "--data-dir", tmp_path / "data")

    assert done.returncode == 65
    assert "notes.txt  not-a-picture: the file begins with" in done.stdout
    assert "000-cat.jpg  cat" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("1 picture annotated, 1 not annotated, in ")
    assert (tmp_path / "in/notes.txt").exists()


@pytest.mark.parametrize("command", ["run", "datasets check"])
def test_what_libpng_says_of_a_picture_is_not_among_our_words(command, tmp_path):
    """A colour profile that is none is a warning of libpng, pixels with a wrong check sum are an error; it writes both past Python."""
    photo = cv2.imencode(".png", np.random.default_rng(3).integers(0, 255, (48, 48, 3)).astype(np.uint8))[1].tobytes()
    profile = b"iCCPx\0\0" + zlib.compress(b"no profile" * 20)
    chunk = struct.pack(">I", len(profile) - 4) + profile + struct.pack(">I", zlib.crc32(profile))
    (tmp_path / "images").mkdir()
    (tmp_path / "images/odd.png").write_bytes(photo[:33] + chunk + photo[33:])
    (tmp_path / "images/bad.png").write_bytes(photo[:-60] + bytes(20) + photo[-40:])
    (tmp_path / "labels").mkdir()
    for name in ("odd", "bad"):
        (tmp_path / f"labels/{name}.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    (tmp_path / "classes.txt").write_text("cat\n")
    pictures = [tmp_path / "images/odd.png", tmp_path / "images/bad.png"]
    words = ["run", *pictures, "--profile", "low", "--data-dir", tmp_path / "data"] if command == "run" else ["datasets", "check", tmp_path]
    done = edgeannot(*words)

    assert done.returncode == 65, done.stdout + done.stderr
    assert "damaged" in done.stdout
    assert done.stderr == ""
