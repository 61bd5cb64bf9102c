"""A picture that kills the program: set aside after two deaths, and nothing else is lost, whatever was processed beside it.

The deaths are real ones, in the place of the decoder: by a wild pointer, or (as root, where memory can be limited) by the kernel, as
memory runs out. Who keeps the service starts it again at once, as systemd does after its RestartSec.
"""

from __future__ import annotations

import http.server
import json
import os
import signal
import sys
import threading
import time
import uuid
from pathlib import Path

import cv2
import numpy as np
import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edgeannot.base.kernel import group_folders
from edgeannot.crash_guard.record import Record, RunState, boot_id
from tests.brokers import wait_until
from tests.e2e.fleet import Fleet
from tests.faults.stage import DEADLINE_S

MARK = b"this picture kills"
"""Behind the end of a JPEG: no part of the picture, but what the decoder of these tests looks for."""

POISONED = f"""
import ctypes, os, threading, simplejpeg
def die():
    hog, death = [], os.environ.get("DEATH")
    while death == "oom":
        hog.append(b"x" * 2**22)
    if death == "wait":
        threading.Event().wait()
    ctypes.string_at(0)
decode = simplejpeg.decode_jpeg
def decode_jpeg(data, **options):
    if data[-{len(MARK)}:] == {MARK!r}:
        die()
    return decode(data, **options)
simplejpeg.decode_jpeg = decode_jpeg
from edgeannot.vision.preprocess import ToTensor
to_tensor = ToTensor.__call__
def __call__(self, image):
    if image.shape == (48, 64, 3) and image.mean() > 200:
        die()
    return to_tensor(self, image)
ToTensor.__call__ = __call__
from edgeannot.cli.start import main
main()
"""
"""The real command with a decoder that dies of marked pictures, and a model that dies of white frames of a camera."""

COMMAND = [sys.executable, "-c", POISONED]

DYING = [sys.executable, "-c", """
import ctypes
from edgeannot.vision.engine import Engine
Engine.run = lambda self, tensor: ctypes.string_at(0)
from edgeannot.cli.start import main
main()
"""]  # fmt: skip
"""The real command with a runtime that dies of every picture."""


class Keeper(threading.Thread):
    """Starts a daemon again whenever it dies."""

    def __init__(self, start, most=20):
        """start: starts it. most: deaths after which it is given up."""
        super().__init__(name="keeper", daemon=True)
        self._begin = start
        self._most = most
        self._over = threading.Event()
        self.daemon_now = start()
        self.deaths: list[int] = []
        self.start()

    def run(self):
        while len(self.deaths) < self._most:
            code = self.daemon_now.process.wait()
            if self._over.is_set():
                return
            self.deaths.append(code)
            self.daemon_now = self._begin()

    def end(self):
        """Stop the daemon in order."""
        self._over.set()
        code = self.daemon_now.stop()
        self.join(DEADLINE_S)
        return code


def poison(stage, name="000003-poison.jpg"):
    """Put a picture into the folder that kills the program when it is decoded."""
    (stage.inbox / f".{name}").write_bytes(stage.jpeg + MARK)
    (stage.inbox / f".{name}").rename(stage.inbox / name)
    return name


def recorded(daemon):
    """What this life has put into the record: its head, and the names of the pictures being processed."""
    if not (daemon.data_dir / "at-work").exists():
        return RunState(), []
    record = Record(daemon.data_dir / "at-work")
    try:
        head, notes = record.read()
        return head, [note.name for note in notes] if head.pid == daemon.process.pid else []
    finally:
        os.close(record._fd)


def wait_answered(stage, keeper, most_deaths=10):
    """Until every offered picture is answered, whoever dies meanwhile."""

    def holds():
        assert len(keeper.deaths) < most_deaths, f"it died {len(keeper.deaths)} times: {stage.daemons[-1].log[-2000:]}"
        return len(stage.arrived()) >= len(stage.offered)

    wait_until(holds, f"all pictures to be answered: {stage.daemons[-1].log[-2000:]}", DEADLINE_S, 0.05)


def one_file(stage, prefix=(), **environment):
    """A folder with a picture in it that kills; the signals that it died of."""
    stage.post.start()
    stage.offer(5)
    name = poison(stage)
    stage.offer(10)
    keeper = Keeper(lambda: stage.start(command=COMMAND, prefix=prefix, **environment))
    wait_answered(stage, keeper)
    wait_until(stage.quarantined, "it to be set aside", DEADLINE_S)
    assert keeper.end() == 0
    assert [path.name for path in stage.quarantined()] == [f"{name}.reason.txt"]
    assert "reason: deadly" in stage.quarantined()[0].read_text()
    assert f"processed {name}" in stage.daemons[-1].log
    stage.verdict(f"{len(keeper.deaths)} deaths, then it is set aside and said so")
    return keeper.deaths


def test_a_file_that_kills_is_set_aside_after_two_deaths(make_stage):
    assert one_file(make_stage("poison: a file in the folder")) == [-11, -11]


@pytest.fixture
def small_memory(tmp_path):
    """A control group of 256 MB; what is to be run before a command so that it runs in there."""
    found = next(iter(group_folders(Path("/"), "memory")), None)
    if found is None:
        pytest.skip("no control group for memory")
    version, folder = found
    group = folder / f"edgeannot-test-{os.getpid()}"
    limit = group / ("memory.max" if version == 2 else "memory.limit_in_bytes")
    try:
        group.mkdir()
    except OSError as exc:
        pytest.skip(f"a control group cannot be made: {exc.strerror}")
    try:
        limit.write_text(str(256 << 20))
    except OSError as exc:
        group.rmdir()
        pytest.skip(f"memory cannot be limited: {exc.strerror}")
    yield ["/bin/sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "sh"]
    wait_until(lambda: not (group / "cgroup.procs").read_text().strip(), "the group to be empty")
    group.rmdir()


@pytest.mark.long
def test_a_file_that_takes_all_the_memory_is_set_aside_after_two_deaths(make_stage, small_memory):
    assert one_file(make_stage("poison: a file that takes all of 256 MB"), prefix=small_memory, DEATH="oom") == [-9, -9]


@pytest.mark.long
def test_a_picture_of_42_megapixels_is_annotated_in_256_mb(make_stage, small_memory):
    stage = make_stage("poison: 42 megapixels in 256 MB")
    stage.post.start()
    stage.offer(3)
    gray = np.random.default_rng(1).integers(0, 255, (750, 700, 3), np.uint8)
    large = cv2.imencode(".jpg", cv2.resize(gray, (7000, 6000)), [cv2.IMWRITE_JPEG_QUALITY, 80])[1].tobytes()
    (stage.inbox / ".large.jpg").write_bytes(large)
    (stage.inbox / ".large.jpg").rename(stage.inbox / "large.jpg")
    stage.offered["large.jpg"] = large
    stage.offer(10)
    stage.start(prefix=small_memory)
    stage.wait_all()
    stage.stop()
    told = next(m for m in map(json.loads, stage.post.payloads("detections")) if m["image"]["path"] == "large.jpg")
    assert (told["image"]["width"], told["image"]["height"]) == (7000, 6000)
    # The tiny model finds a cat from 0.1 to 0.5 of the width of every picture, and from 0.1 to 0.6 of its height.
    box = told["detections"][0]["box"]
    assert [round(box["x1"] / 70), round(box["y1"] / 60), round(box["x2"] / 70), round(box["y2"] / 60)] == [10, 10, 50, 60]
    stage.verdict(f"a JPEG of {len(large) / 1e6:.1f} MB, decoded smaller")


@pytest.mark.parametrize("cuts", [3, pytest.param(10, marks=pytest.mark.long)])
def test_a_picture_at_work_at_each_power_cut_is_not_set_aside(make_stage, cuts):
    stage = make_stage(f"poison: {cuts} power cuts with the same picture in flight")
    stage.post.start()
    name = poison(stage)
    stage.offered[name] = b""
    stage.offer(2)
    for _ in range(cuts):
        daemon = stage.start(command=COMMAND)
        assert daemon.process.wait(DEADLINE_S) == -11
        assert name in recorded(daemon)[1]
        record = stage.data_dir / "at-work"
        noted, boot = record.read_bytes(), boot_id().encode()
        assert len(boot) == 36
        assert noted.count(boot) == 1
        record.write_bytes(noted.replace(boot, str(uuid.uuid4()).encode()))  # as if another boot followed
    stage.start()
    stage.wait_all()
    stage.stop()
    assert "while it processed" not in stage.daemons[-1].log
    assert stage.verdict("not set aside").quarantined == 0


def test_no_picture_is_set_aside_where_the_program_dies_of_every_picture(make_stage):
    stage = make_stage("poison: a runtime that dies of every picture, 6 times")
    stage.post.start()
    stage.offer(2)
    for _ in range(6):
        assert stage.start(command=DYING).process.wait(DEADLINE_S) == -11
    stage.start()
    stage.wait_all()
    stage.stop()
    assert stage.verdict("not set aside").quarantined == 0


@pytest.mark.parametrize("kills", [3, pytest.param(10, marks=pytest.mark.long)])
def test_a_picture_at_work_at_each_kill_from_outside_is_not_set_aside(make_stage, kills):
    stage = make_stage(f"poison: kill -9 {kills} times with the same picture in flight")
    stage.post.start()
    name = poison(stage)
    stage.offered[name] = b""
    stage.offer(2)
    for _ in range(kills):
        daemon = stage.start(command=COMMAND, DEATH="wait")
        wait_until(lambda daemon=daemon: name in recorded(daemon)[1], "it to be processed", DEADLINE_S)
        daemon.kill()
    stage.start()
    stage.wait_all()
    stage.stop()
    assert "while it processed" not in stage.daemons[-1].log
    assert stage.verdict("not set aside").quarantined == 0


def hung(stage, *, until, **environment):
    """Two lives with a picture that is never done, ended by SIGABRT as the watchdog of systemd does it."""
    stage.post.start()
    stage.offer(3)
    name = poison(stage)
    stage.offer(3)
    for _ in range(2):
        daemon = stage.start(command=COMMAND, DEATH="wait", **environment)
        wait_until(lambda daemon=daemon: name in recorded(daemon)[1] and until(recorded(daemon)[0]), "it to be processed", DEADLINE_S)
        daemon.process.send_signal(signal.SIGABRT)
        assert daemon.process.wait(DEADLINE_S) == -signal.SIGABRT
    return name


def test_a_picture_that_hangs_until_the_watchdog_ends_the_program_is_set_aside(make_stage):
    stage = make_stage("poison: a file that hangs, with a watchdog")
    watchdog = {"WATCHDOG_USEC": "6000000"}
    name = hung(stage, until=lambda head: head.stalled == "read inbox", **watchdog)
    stage.start(command=COMMAND, DEATH="wait", **watchdog)
    stage.wait_all()
    stage.stop()
    assert [path.name for path in stage.quarantined()] == [f"{name}.reason.txt"]
    assert "it hung while decoding until the watchdog ended it" in stage.quarantined()[0].read_text()
    stage.verdict("2 deaths, then it is set aside and said so")


def test_an_abort_by_hand_makes_no_picture_suspected(make_stage):
    stage = make_stage("poison: kill -ABRT twice with the same picture in flight")
    stage.offered[hung(stage, until=lambda _: True)] = b""
    stage.start()
    stage.wait_all()
    stage.stop()
    assert stage.verdict("not set aside").quarantined == 0


def test_a_message_that_kills_costs_each_worker_of_a_group_two_lives_at_most(tmp_path, make_row, make_post, make_subscriber):
    row = make_row("poison: a message in a group of three")
    broker = make_post().broker
    broker.start()
    names = ("one", "two", "three")
    fleet = Fleet(Path(tmp_path), broker, command=COMMAND)
    keepers = {}

    def launch(name):
        fleet.launch(name)
        return fleet.workers[name]

    try:
        fleet.start(*names)
        reader = make_subscriber(broker, "edgeannot/door/pictures/refused")
        for worker in fleet.workers.values():
            assert worker.stop() == 0
        keepers = {name: Keeper(lambda name=name: launch(name)) for name in names}
        sent = fleet.send(6, "door")
        properties = Properties(PacketTypes.PUBLISH)
        properties.UserProperty = [("id", "poison")]
        picture = (tmp_path / "sent-door").glob("*.jpg").__next__().read_bytes() + MARK
        client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        client.connect("127.0.0.1", broker.port)
        client.loop_start()
        client.publish("edgeannot/pictures/door", picture, 1, properties=properties).wait_for_publish(DEADLINE_S)
        client.disconnect()
        client.loop_stop()
        sent |= fleet.send(24, "yard")
        # Nine starts of the command, which a slow machine does one after the other: how long it took stands in the row.
        began = time.monotonic()
        fleet.collector.wait(len(sent), 2 * DEADLINE_S)
        seconds = time.monotonic() - began
        wait_until(lambda: list(Path(tmp_path).glob("*/data/quarantine/**/*.reason.txt")), "it to be set aside", DEADLINE_S)
        # Each life is connected once: who died last is to be back before it is told to stop.
        up = lambda: all(fleet.workers[name].log.count("connected to") >= 2 + len(keeper.deaths) for name, keeper in keepers.items())  # noqa: E731
        wait_until(up, "all workers to be back", DEADLINE_S)
        deaths = {name: list(keeper.deaths) for name, keeper in keepers.items()}
    finally:
        ends = [keeper.end() for keeper in keepers.values()]
        refused = [json.loads(payload) for payload in reader.payloads()]
        tally = fleet.tally(sent)
        notes = list(Path(tmp_path).glob("*/data/quarantine/**/*.reason.txt"))
        logs = {name: worker.log for name, worker in fleet.workers.items()}
        fleet.end()
    assert max(map(len, deaths.values())) == 2, deaths
    assert {code for codes in deaths.values() for code in codes} == {-11}
    assert ends == [0, 0, 0]
    # Once, as a rule. A session that changes hands can bring a message again (QoS 1), and then it is refused again, with the same id.
    assert {(told["sender"]["id"], told["error"]["code"]) for told in refused} == {("poison", "deadly")}
    assert all("died 2 times while it processed this picture" in told["error"]["message"] for told in refused)
    assert all("reason: deadly" in note.read_text() for note in notes), logs
    row.sent, row.received, row.lost, row.repeated, row.quarantined = tally.sent, tally.received, tally.lost, tally.repeated, len(notes)
    row.note = f"deaths by worker { ({name: len(codes) for name, codes in deaths.items()}) }, all others answered after {seconds:.0f} s"
    assert tally.lost == 0


class Stream:
    """A camera over HTTP whose frames are dark, or white, which kills."""

    def __init__(self):
        self.white = False
        stream = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
                self.end_headers()
                pace = threading.Event()
                try:
                    while True:
                        frame = np.full((48, 64, 3), 255 if stream.white else 20, np.uint8)
                        data = cv2.imencode(".jpg", frame)[1].tobytes()
                        self.wfile.write(b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%s\r\n" % (len(data), data))
                        pace.wait(0.05)
                except OSError:
                    return

            def log_message(self, *_):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/stream"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()


def test_a_camera_whose_frames_kill_costs_the_folder_beside_it_no_picture(make_stage):
    stage = make_stage("poison: a camera's frames")
    stage.post.start()
    stream = Stream()
    keeper = None
    try:
        keeper = Keeper(lambda: stage.start("--camera", stream.url, command=COMMAND))
        stage.wait(lambda: any(b'"camera"' in payload for payload in stage.post.payloads("detections")), "frames of the camera")
        stream.white = True
        wait_until(lambda: stage.offer(1) and len(keeper.deaths) >= 3, f"three deaths: {keeper.daemon_now.log[-2000:]}", DEADLINE_S, 0.05)
        wait_answered(stage, keeper)  # each time the camera is opened later
        assert set(keeper.deaths) == {-11}
        wait_until(lambda: "opening it after 8 s" in keeper.daemon_now.log, "the pause to be said", DEADLINE_S)
        log = keeper.daemon_now.log
        assert "died 3 times in a row while the camera" in log
        stream.white = False
        keeper.end()
    finally:
        if keeper is not None:
            keeper.end()
        stream.close()
    assert stage.verdict(f"{len(keeper.deaths)} deaths, with longer and longer pauses for the camera").quarantined == 0
