"""The contract with Picamera2, against a FAKE of its module: no Raspberry Pi was at hand. It has the part that is used, by its manual."""

from __future__ import annotations

import sys

import pytest

from edgeannot.sources import CameraOptions, Context, open_source
from edgeannot.sources.capture import Format, Target, parse_target
from edgeannot.sources.libcamera import LibcameraCapture

FAKE = """
import numpy as np

OUT = []


class Request:
    def __init__(self, size, value):
        self.size, self.value = size, value
        OUT.append(self)

    def make_array(self, name):
        assert name == "main" and self in OUT, "a frame of a request that was given back"
        return np.full((self.size[1], self.size[0], 3), self.value, np.uint8)

    def release(self):
        OUT.remove(self)


class Picamera2:
    found = [{"Model": "imx708"}]
    trouble = None
    last = None

    def __init__(self, number):
        if self.trouble:
            raise RuntimeError(self.trouble)
        type(self).last = self
        self.running, self.open, self.count = False, True, 0

    @classmethod
    def global_camera_info(cls):
        return cls.found

    def create_video_configuration(self, main, controls, queue):
        return {"main": main, "controls": controls, "queue": queue}

    def configure(self, configuration):
        assert not self.running
        self.configuration = configuration

    def camera_configuration(self):
        return self.configuration

    def start(self):
        self.running = True

    def capture_request(self):
        if not self.running:
            raise RuntimeError("the camera is not running")
        assert len(OUT) < 2, "the camera has no buffer left"
        self.count += 1
        return Request(self.configuration["main"]["size"], self.count)

    def stop(self):
        self.running = False

    def close(self):
        self.open = False
"""


@pytest.fixture
def picamera2(tmp_path, monkeypatch):
    """The fake module, in this process and in those that it starts."""
    (tmp_path / "picamera2.py").write_text(FAKE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.delitem(sys.modules, "picamera2", raising=False)
    import picamera2

    yield picamera2
    sys.modules.pop("picamera2", None)


def capture(address="libcamera:0", **wanted):
    return LibcameraCapture(Target("libcamera", address, format=Format(**wanted)))


def test_without_picamera2_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "picamera2", None)
    camera = capture()

    assert not camera.isOpened()
    assert not camera.grab()
    assert camera.trouble.startswith("needs Picamera2")


def test_a_camera_that_is_not_there_names_those_that_are(picamera2):
    assert capture("libcamera:1").trouble == "is not there; libcamera finds imx708"


def test_a_camera_in_use_is_told(picamera2, monkeypatch):
    monkeypatch.setattr(picamera2.Picamera2, "trouble", "Device or resource busy")

    assert "Device or resource busy" in capture().trouble


def test_it_is_asked_for_blue_green_red_in_the_size_and_rate_of_the_settings(picamera2):
    camera = capture(width=640, height=480, fps=10)

    assert picamera2.Picamera2.last.configuration == {
        "main": {"size": (640, 480), "format": "RGB888"}, "controls": {"FrameRate": 10}, "queue": False,
    }  # fmt: skip
    assert camera.facts == "640x480 at 10/s of imx708"


def test_frames_that_nobody_wants_are_given_back_undecoded(picamera2):
    camera = capture()
    assert camera.retrieve() == (False, None)
    for _ in range(5):
        assert camera.grab()
    fine, image = camera.retrieve()

    assert fine
    assert image.shape == (720, 1280, 3)
    assert int(image[0, 0, 0]) == 5
    assert picamera2.OUT == []


def test_a_camera_that_stopped_gives_no_more_and_is_closed(picamera2):
    camera = capture()
    fake = picamera2.Picamera2.last
    camera.grab()
    fake.stop()
    assert not camera.grab()
    camera.release()

    assert not fake.open
    assert picamera2.OUT == []


def test_the_source_reads_it_in_a_child_process(picamera2, pull):
    assert parse_target("libcamera:0") == ("libcamera", "libcamera:0")
    items = pull(open_source("porch", CameraOptions(url="libcamera:0", width=64, height=48), Context(max_fps=100)))

    frames = items.take(2)

    assert [frame.size_wh for frame in frames] == [(64, 48)] * 2
    assert picamera2.Picamera2.last is None, "not in this process"


def test_the_source_says_why_it_does_not_open(picamera2, pull):
    items = pull(open_source("porch", CameraOptions(url="libcamera:3"), Context()))

    items.until(lambda tick: tick.trouble == "the camera libcamera:3 is not there; libcamera finds imx708")


@pytest.mark.parametrize("wrong", [{"fourcc": "MJPG"}, {"transport": "udp"}, {"frames": "key"}])
def test_settings_of_other_cameras_are_refused(wrong):
    with pytest.raises(ValueError, match=r"libcamera:0 is a (libcamera camera|libcamera)"):
        CameraOptions(url="libcamera:0", **wrong)
