"""Cameras: a scripted capture for what a device does, a real video file, and a real HTTP stream with faults."""

from __future__ import annotations

import http.server
import itertools
import os
import shutil
import threading
import time
import urllib.parse
from datetime import UTC, datetime
from pathlib import Path

import cv2
import numpy as np
import pytest
from pydantic import ValidationError

from edgeannot.base.errors import ConfigError, LinkError, MissingError
from edgeannot.base.redaction import redacted
from edgeannot.crash_guard import AtWork
from edgeannot.sources import CameraOptions, Context, DirectoryOptions, Tick, open_source
from edgeannot.sources.camera import CameraSource
from edgeannot.sources.capture import Format, Target, TellingCapture, device_trouble, open_capture, parse_target, with_credentials
from edgeannot.vision.data import Failure, Frame
from tests.brokers import free_port
from tests.crash_guard.dying import die
from tests.patience import DEADLINE_S

# What a scripted capture does: a number is a frame of that gray, FAIL a read that fails, HANG a read that blocks until the end.
FAIL, HANG = "fail", "hang"


class ScriptedCamera:
    """Captures that play a script each, one after the other; the last one for ever. Keeps count of what was done."""

    def __init__(self, *scripts):
        self.scripts = list(scripts)
        self.opened = 0
        self.released = 0
        self.end = threading.Event()

    def open(self, target):
        self.opened += 1
        return ScriptedCapture(self, self.scripts.pop(0) if len(self.scripts) > 1 else self.scripts[0])


class ScriptedCapture:
    def __init__(self, camera, script):
        self.camera = camera
        self.script = iter(script)
        self.value = None

    def isOpened(self):  # noqa: N802 - OpenCV's name
        return True

    def grab(self):
        self.value = next(self.script, FAIL)
        if self.value == HANG:
            self.camera.end.wait(DEADLINE_S)
            return False
        return self.value != FAIL

    def retrieve(self):
        return True, np.full((4, 6, 3), self.value, np.uint8)

    def get(self, prop):
        return 0.0

    def release(self):
        self.camera.released += 1


@pytest.fixture
def quick(monkeypatch):
    """Reopening without the long waits."""
    monkeypatch.setattr("edgeannot.sources.grabber.LONGEST_WAIT_S", 0.01)


@pytest.fixture
def live(pull, quick):
    """A function that gives a Pull of a camera that plays scripts, and the camera."""
    cameras = []

    def begin(*scripts, once=False, at_work=None, **options):
        camera = ScriptedCamera(*scripts)
        cameras.append(camera)
        context = Context(once=once, max_fps=1000, at_work=at_work or AtWork())
        source = CameraSource("porch", CameraOptions(url="/dev/video0", **options), context, camera.open)
        return pull(source), camera, source

    yield begin
    for camera in cameras:
        camera.end.set()


def grays(frames):
    return [int(frame.image[0, 0, 0]) for frame in frames]


def endless():
    return (number % 250 for number in itertools.count())


def test_a_camera_that_is_not_there_gives_ticks_that_say_so(live):
    items, _camera, _ = live([FAIL])

    tick = items.until(lambda tick: "cannot be opened" in tick.trouble)

    assert "/dev/video0" in tick.trouble


class Away(TellingCapture):
    """A camera that does not open, with a reason or without."""

    answered = False

    def __init__(self, trouble):
        self.trouble = trouble

    def isOpened(self):  # noqa: N802 - OpenCV's name
        return False

    def grab(self):
        return False

    def release(self):
        pass


def test_the_reason_of_an_outage_is_told_when_it_is_known_and_then_no_other(pull, quick):
    why = [""]
    opened = []

    def away(_target):
        opened.append(why[0])
        return Away(why[0])

    items = pull(CameraSource("porch", CameraOptions(url="rtsp://127.0.0.1/x"), Context(max_fps=1000, at_work=AtWork()), away))
    items.until(lambda tick: tick.trouble.endswith("/x cannot be opened"))
    why[0] = "cannot be reached (Connection refused)"
    items.until(lambda tick: tick.trouble.endswith("/x cannot be reached (Connection refused)"))
    why[0] = "does not answer in time"
    items.until(lambda tick: why[0] in opened)
    items.idle()

    assert items.ticks[-1].trouble.endswith("/x cannot be reached (Connection refused)")


def test_a_camera_that_is_not_there_is_an_error_with_once(live):
    items, _, _ = live([FAIL], once=True)

    with pytest.raises(LinkError, match="/dev/video0 cannot be opened"):
        items.rest()


def test_a_camera_is_closed_while_a_picture_is_taken_alone_and_opened_again_after_it(live):
    at_work = AtWork()
    items, camera, source = live(endless(), at_work=at_work)
    frames = items.take(3)
    for frame in frames:
        at_work.leave(frame.ticket)

    alone = at_work.enter("inbox", "suspect", "suspect.jpg", DEADLINE_S, isolated=True)
    assert alone, "it waits until the camera is closed"
    closed = camera.released
    assert closed == camera.opened
    items.until(lambda tick: camera.opened == closed)
    at_work.leave(alone)

    assert items.take(1)
    assert source._grabber.trouble == ""


def test_a_camera_that_was_at_work_at_the_deaths_of_the_program_says_so_and_waits(live, tmp_path):
    for _ in range(5):
        die(tmp_path, "porch", "", "a frame")
    at_work = AtWork(tmp_path)
    items, camera, _ = live(endless(), at_work=at_work)

    items.until(lambda tick: "died 5 times in a row while the camera /dev/video0 was open; opening it after 32 s" in tick.trouble)
    at_work.close()

    assert camera.opened == 0


def test_once_takes_one_frame(live):
    items, camera, _ = live(endless(), once=True)

    (frame,) = items.rest()

    assert isinstance(frame, Frame)
    assert camera.released == 1


def test_a_frame_says_when_and_where_it_was_taken(live):
    before = datetime.now(UTC)
    items, _, _ = live(endless())
    first, second = items.take(2)

    assert before <= first.captured_at <= second.captured_at <= datetime.now(UTC)
    assert (first.source, first.seq, second.seq, first.path) == ("porch", 0, 1, None)
    assert first.name == f"{first.captured_at:%Y-%m-%d/%H%M%S}-000000.jpg"
    assert first.identity != second.identity
    assert first.size_wh == (6, 4)


def test_the_newest_frame_wins_and_the_others_are_counted(live):
    """The camera goes on while the caller is busy; what it took meanwhile is neither kept nor unpacked."""
    items, _camera, source = live(endless())
    items.take(1)
    counted = source.skipped
    end = time.monotonic() + DEADLINE_S
    while source.skipped < counted + 1000:
        assert time.monotonic() < end

    items.take(1)

    assert source.live
    assert source.skipped >= counted + 1000


def test_a_camera_that_fails_is_opened_again(live):
    items, camera, _ = live([1, 2, 3, FAIL], [FAIL], [FAIL], endless())

    frames = items.take(3)
    items.take(20)

    assert camera.opened == 4
    assert camera.released == 3
    assert len(frames) == 3


def test_a_first_frame_and_not_an_open_device_means_that_it_is_well(live):
    """A device that was unplugged can be opened, and gives nothing."""
    items, camera, _ = live([FAIL])

    items.until(lambda tick: camera.opened >= 5)

    assert camera.released >= 4


def test_a_read_that_never_returns_does_not_hold_up_the_caller(live, stop):
    items, _camera, _ = live([1, HANG], read_timeout_s=0.6)
    items.take(1)
    items.until(lambda tick: "gives no frame within 0.6 s" in tick.trouble)

    began = time.monotonic()
    stop.set()
    assert items.rest() == []

    assert time.monotonic() - began < DEADLINE_S / 2, "the read was waited for"


def test_a_fault_in_the_reader_reaches_the_caller(pull, quick):
    def broken(target):
        raise ZeroDivisionError

    source = CameraSource("porch", CameraOptions(url="0"), Context(), broken)

    with pytest.raises(RuntimeError, match="reader of the camera /dev/video0"):
        pull(source).rest()


def test_the_rate_is_capped(live):
    items, _, source = live(endless(), max_fps=20)
    items.take(1)

    began = time.monotonic()
    items.take(11)

    assert time.monotonic() - began >= 0.4  # two frames may be due at once where the test itself came late
    assert source.skipped > 0


def test_the_time_between_frames_may_change_at_any_moment(pull, quick):
    """An hour was wanted, and then no longer: nobody waits for the end of that hour."""
    wanted_s = {"now": 3600.0}
    camera = ScriptedCamera(endless())
    context = Context(max_fps=1000, interval_s=lambda _: wanted_s["now"])
    items = pull(CameraSource("porch", CameraOptions(url="/dev/video0"), context, camera.open))
    items.take(2)  # the first two follow each other: there was no turn before
    wanted_s["now"] = 0.001
    began = time.monotonic()
    items.take(5)

    assert time.monotonic() - began < 3600
    camera.end.set()


def test_gray_frames_become_bgr(pull, quick):
    class Gray(ScriptedCapture):
        def retrieve(self):
            return True, np.full((4, 6), 9, np.uint8)

    camera = ScriptedCamera(endless())
    source = CameraSource("porch", CameraOptions(url="0"), Context(), lambda target: Gray(camera, endless()))

    assert pull(source).take(1)[0].image.shape == (4, 6, 3)


def test_format_and_limits_reach_the_device(stop):
    targets = []

    def open_it(target):
        targets.append(target)
        return ScriptedCapture(ScriptedCamera([]), endless())

    options = CameraOptions(url="2", width=1280, height=720, fps=10, fourcc="MJPG", read_timeout_s=3)
    next(CameraSource("porch", options, Context(), open_it).items(stop))

    assert targets[0].address == "/dev/video2"
    assert (targets[0].format.fourcc, targets[0].format.width, targets[0].format.height, targets[0].format.fps) == ("MJPG", 1280, 720, 10)
    assert targets[0].read_timeout_s == 3


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("0", "device"), ("/dev/v4l/by-id/usb-cam", "device"), ("rtsp://h/s", "stream"), ("RTSPS://h", "stream"),
        ("http://h:8/x", "stream"), ("libcamera:1", "libcamera"), ("clip.mp4", "file"), ("./0", "file"),
    ],
)  # fmt: skip
def test_an_address_says_what_it_is(address, kind):
    assert parse_target(address)[0] == kind


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"url": ""}, "found nothing"),
        ({"url": "gopher://x"}, "gopher:// is not known"),
        ({"url": "0", "every_n": 2}, "every_n is for a file"),
        ({"url": "clip.mp4", "width": 3}, "width is for a device"),
        ({"url": "clip.mp4", "credentials_file": "x"}, "credentials_file is for a stream"),
        ({"url": "0", "fourcc": "MJPEG"}, "fourcc"),
        ({"url": "0", "colour": 1}, "colour"),
    ],
)
def test_settings_that_do_not_fit_are_refused(options, words):
    with pytest.raises(ValidationError, match=words):
        CameraOptions(**options)


def test_secrets_are_not_shown():
    url = "rtsp://admin:hunter2@10.0.0.7:554/live?channel=1&Password=hunter2&token=hunter2#x"

    assert redacted(url) == "rtsp://***@10.0.0.7:554/live?channel=1&Password=***&token=***#x"
    assert redacted("rtsp://10.0.0.7/live") == "rtsp://10.0.0.7/live"
    assert "hunter2" not in repr(CameraOptions(url=url))
    assert "hunter2" not in Target("stream", url).shown


def test_credentials_come_from_a_file(tmp_path, stop):
    (tmp_path / "cred").write_text("ad min:p@ss:w/rd\n")
    targets = []

    def open_it(target):
        targets.append(target)
        return ScriptedCapture(ScriptedCamera([]), endless())

    options = CameraOptions(url="rtsp://cam/live", credentials_file=tmp_path / "cred")
    next(CameraSource("porch", options, Context(), open_it).items(stop))

    assert targets[0].address == "rtsp://ad%20min:p%40ss%3Aw%2Frd@cam/live"
    assert targets[0].shown == "rtsp://***@cam/live"
    assert with_credentials("rtsp://old:one@cam:554/x", "a:b") == "rtsp://a:b@cam:554/x"


def test_a_missing_credentials_file_is_a_settings_error(tmp_path, stop):
    source = CameraSource("porch", CameraOptions(url="rtsp://cam/live", credentials_file=tmp_path / "none"), Context())

    with pytest.raises(ConfigError, match=r"sources\.porch\.credentials_file"):
        next(source.items(stop))


# Video files


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """24 frames at 12 a second; the gray of a frame is ten times its number."""
    path = tmp_path_factory.mktemp("video") / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 12, (64, 48))
    assert writer.isOpened()
    for number in range(24):
        writer.write(np.full((48, 64, 3), number * 10, np.uint8))
    writer.release()
    return path


def play(pull, path, once=False, **options):
    return pull(open_source("film", CameraOptions(url=str(path), **options), Context(once=once)))


def numbers(frames):
    return [round(int(frame.image[20, 20, 0]) / 10) for frame in frames]


def test_every_frame_of_a_video_file_is_taken_in_order(pull, video):
    source = open_source("film", CameraOptions(url=str(video)))
    frames = pull(source).rest()

    assert not source.live
    assert numbers(frames) == list(range(24))
    assert [f.name for f in frames[:2]] == ["clip/000000.jpg", "clip/000001.jpg"]
    assert len({f.identity for f in frames}) == 24
    assert frames[0].path == video


def test_each_nth_frame_or_a_number_a_second_is_taken_on_request(pull, video):
    assert numbers(play(pull, video, every_n=5).rest()) == [0, 5, 10, 15, 20]
    assert numbers(play(pull, video, max_fps=4).rest()) == [0, 3, 6, 9, 12, 15, 18, 21]
    assert numbers(play(pull, video, max_fps=5).rest()) == [0, 3, 5, 8, 10, 12, 15, 17, 20, 22]
    assert len(play(pull, video, max_fps=100).rest()) == 24


def test_a_video_file_plays_at_its_own_pace_on_request(pull, video):
    began = time.monotonic()
    frames = play(pull, video, realtime=True).rest()

    assert time.monotonic() - began >= 23 / 12
    assert numbers(frames) == sorted(set(numbers(frames)))
    assert numbers(frames)[0] == 0


def test_what_comes_too_late_in_real_time_is_skipped_and_counted(pull, video, monkeypatch):
    """The caller needs a second for each frame, by a clock of the test's."""
    now = [0.0]
    monkeypatch.setattr("edgeannot.sources.camera.time.monotonic", lambda: now[0])
    source = open_source("film", CameraOptions(url=str(video), realtime=True))
    seen = []
    for item in source.items(Waiting(now)):
        if not isinstance(item, Tick):
            seen += numbers([item])
            now[0] += 1.0

    assert seen == [0, 11, 23]
    assert source.skipped == 21


class Waiting:
    """A stop signal that is never set; waiting for it passes the time of the test's clock."""

    def __init__(self, now):
        self._now = now

    def is_set(self):
        return False

    def wait(self, timeout=None):
        self._now[0] += timeout
        return False


def test_a_video_file_ends_at_a_frame_that_the_program_died_of_twice(pull, video, tmp_path):
    facts = video.stat()
    for _ in range(2):
        die(tmp_path, "film", f"film\n{video.name}@{facts.st_size}-{facts.st_mtime_ns}#7", "clip/000007.jpg")
    at_work = AtWork(tmp_path)

    *frames, failure = pull(open_source("film", CameraOptions(url=str(video)), Context(at_work=at_work))).rest()
    at_work.close()

    assert numbers(frames) == [*range(7)]
    assert (failure.reason, failure.path) == ("deadly", video)
    assert "playback ends there, the file is left where it is" in failure.message


def test_a_video_file_is_played_again_on_request(pull, video):
    frames = play(pull, video, loop=True).take(50)

    assert numbers(frames) == [*range(24), *range(24), 0, 1]
    assert len({f.identity for f in frames}) == 50


def test_a_video_file_plays_again_with_the_same_identities(pull, video):
    first, second = play(pull, video).rest(), play(pull, video, once=True).rest()

    assert [f.identity for f in first] == [f.identity for f in second]


def test_a_missing_video_file_is_an_error(pull, tmp_path):
    with pytest.raises(MissingError, match=r"none\.mp4 \(sources\.film\.url\) cannot be read"):
        play(pull, tmp_path / "none.mp4").rest()


def test_a_video_whose_name_is_no_text_plays_too(pull, video, tmp_path):
    """OpenCV ends the process with a segmentation fault when it is given such a name."""
    path = Path(shutil.copyfile(video, tmp_path / "v\udcff.avi"))

    frames = play(pull, path).rest()

    assert numbers(frames) == list(range(24))
    with pytest.raises(ValueError, match="wanted an address in UTF-8"):
        parse_target("rtsp://camera/\udcff")


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_file_is_no_video(pull, tmp_path, make):
    """Opening a pipe without a writer would never come back."""
    make(tmp_path / "v.mp4")

    with pytest.raises(MissingError, match=r"wanted a file, found a (named pipe|folder)"):
        play(pull, tmp_path / "v.mp4").rest()


@pytest.mark.parametrize("content", [b"", b"not a video", b"\0\0\0\x18ftypmp42" + bytes(3000)])
def test_a_file_that_is_no_video_is_one_failure(pull, tmp_path, content):
    (tmp_path / "x.mp4").write_bytes(content)

    (failure,) = play(pull, tmp_path / "x.mp4").rest()

    assert isinstance(failure, Failure)
    assert failure.reason == "unreadable"
    assert "x.mp4: the video cannot be read" in failure.message


def test_a_real_recording_plays_to_its_end(pull, data_dir):
    path = data_dir / "videos" / "car-detection.mp4"
    frames = play(pull, path, every_n=50).rest()

    assert len(frames) > 3
    assert all(f.image.std() > 10 for f in frames)


# An HTTP stream


@pytest.fixture
def mjpeg_server():
    """A camera's HTTP stream on this machine; /?close_after=N ends, /?stall_after=N freezes it after N frames."""
    over = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *args):
            pass

        def do_GET(self):
            query = dict(urllib.parse.parse_qsl(urllib.parse.urlparse(self.path).query))
            self.server.requests += 1
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            for number in itertools.count():
                if number == int(query.get("stall_after", -1)):
                    over.wait(DEADLINE_S)
                if number == int(query.get("close_after", -1)) or over.wait(0.02):
                    return
                image = np.full((120, 160, 3), number * 7 % 250, np.uint8)
                jpeg = cv2.imencode(".jpg", image)[1].tobytes()
                head = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(jpeg)
                try:
                    self.wfile.write(head + jpeg + b"\r\n")
                except OSError:
                    return

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.requests = 0
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield server
    over.set()
    server.shutdown()
    thread.join()
    server.server_close()


def address(server, query=""):
    return f"http://127.0.0.1:{server.server_address[1]}/stream.mjpg{query}"


def stream(pull, url, **options):
    options = CameraOptions(url=url, open_timeout_s=5, read_timeout_s=1, **options)
    return pull(open_source("net", options, Context(max_fps=100)))


def test_frames_come_from_an_http_stream(pull, mjpeg_server):
    frames = stream(pull, address(mjpeg_server)).take(5)

    assert [f.size_wh for f in frames] == [(160, 120)] * 5
    assert len(set(grays(frames))) > 1


def test_a_stream_that_closes_is_opened_again(pull, mjpeg_server, quick):
    stream(pull, address(mjpeg_server, "?close_after=30")).take(60)

    assert mjpeg_server.requests >= 3, "the first one only asks what it is"


def test_a_stream_that_freezes_is_noticed_and_opened_again(pull, mjpeg_server, quick):
    items = stream(pull, address(mjpeg_server, "?stall_after=40"))
    items.take(1)

    end = time.monotonic() + DEADLINE_S
    while mjpeg_server.requests < 3:  # the first one only asks what it is
        assert time.monotonic() < end
        next(items.items)

    assert items.take(1)


def test_a_server_that_is_not_there_fails_at_once():
    with_limits = Target("stream", f"http://127.0.0.1:{free_port()}/none", open_timeout_s=DEADLINE_S, read_timeout_s=1)

    began = time.monotonic()
    capture = open_capture(with_limits)

    assert not capture.isOpened()
    assert time.monotonic() - began < DEADLINE_S / 2, "the time allowed for opening was waited out"
    capture.release()


def test_open_source_gives_the_kind_that_was_asked_for(tmp_path):
    assert open_source("a", DirectoryOptions(path=tmp_path)).live is False
    assert open_source("b", CameraOptions(url="0")).live is True
    assert open_source("c", CameraOptions(url="clip.mp4")).live is False


def test_a_device_that_is_not_there_is_told_with_those_that_are(tmp_path):
    for name in ("video10", "video2", "v4l-subdev0"):
        (tmp_path / name).touch()
    absent = Target("device", str(tmp_path / "video7"))

    assert device_trouble(absent, tmp_path) == f"it is not there; video devices here: {tmp_path}/video2, {tmp_path}/video10"
    assert device_trouble(absent, tmp_path / "elsewhere") == "it is not there; video devices here: none"
    assert device_trouble(Target("device", str(tmp_path / "video2")), tmp_path) == ""
    assert device_trouble(Target("stream", "rtsp://camera.local/"), tmp_path) == ""


class FakeDevice:
    """OpenCV's capture of a device that has some formats, and begins with the first of them."""

    def __init__(self, *formats):
        self.formats = formats
        self.format = formats[0]
        self.asked = []

    def set(self, prop, value):
        self.asked.append(prop)
        if prop == cv2.CAP_PROP_FOURCC:
            wanted = "".join(chr(int(value) >> shift & 0xFF) for shift in (0, 8, 16, 24))
            self.format = wanted if wanted in self.formats else self.format
        return True


@pytest.mark.parametrize(
    ("formats", "wanted", "given"),
    [(("YUYV",), None, "YUYV"), (("YUYV", "MJPG"), None, "MJPG"), (("MJPG", "YUYV"), "YUYV", "YUYV")],
)
def test_mjpg_is_asked_for_first_unless_the_settings_ask_for_another_format(monkeypatch, formats, wanted, given):
    device = FakeDevice(*formats)
    monkeypatch.setattr(cv2, "VideoCapture", lambda *_: device)

    open_capture(Target("device", "/dev/video0", format=Format(wanted, 1280, 720, 30)))

    assert device.format == given
    assert device.asked[0] == cv2.CAP_PROP_FOURCC, "it decides which sizes and rates there are"
