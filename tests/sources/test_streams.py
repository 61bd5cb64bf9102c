"""Streams that go wrong: killed, frozen, silent, full of garbage, of another size, refused; and what reads them hangs or dies."""

from __future__ import annotations

import contextlib
import http.server
import itertools
import os
import random
import signal
import socket
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgeannot.base.redaction import redacted
from edgeannot.sources import CameraOptions, Context, Tick, open_source
from edgeannot.sources.capture import Target, open_capture
from edgeannot.sources.capture_process import CameraProcess
from edgeannot.sources.key_frames import KeyFrames
from tests.patience import DEADLINE_S
from tests.sources.rtsp import RtspServer


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Reopening without the long waits."""
    monkeypatch.setattr("edgeannot.sources.grabber.LONGEST_WAIT_S", 0.05)


@pytest.fixture
def rtsp_server():
    """A function that starts an RTSP server; all are killed at the end."""
    servers = []

    def start(login=""):
        servers.append(RtspServer(login))
        return servers[-1]

    yield start
    for server in servers:
        server.kill()


@pytest.fixture
def stream(pull):
    def begin(url, **options):
        options = {"open_timeout_s": 5, "read_timeout_s": 1, **options}
        return pull(open_source("net", CameraOptions(url=url, **options), Context(max_fps=100)))

    return begin


def pull_until(items, condition):
    """Pull until the condition holds; what was said of trouble meanwhile, without repeats, and the last frame."""
    said, frame = [], None
    end = time.monotonic() + DEADLINE_S
    while not condition(said, frame):
        assert time.monotonic() < end, said
        item = next(items.items)
        if not isinstance(item, Tick):
            frame = item
        elif said[-1:] != [item.trouble]:
            said.append(item.trouble)
    return said, frame


def in_trouble(said, frame):
    return bool(said and said[-1])


def has_frame(said, frame):
    return frame is not None


def children():
    """Process ids of this process's children."""
    found = []
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):
            found += map(int, (task / "children").read_text().split())
    return found


def open_files():
    return list(Path("/proc/self/fd").iterdir())


def readers():
    """Process ids of the children that hold cameras open."""
    return [pid for pid in children() if b"capture_child" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def test_nothing_at_an_address_is_told_with_its_reason(stream):
    with socket.socket() as bound:  # it does not listen
        bound.bind(("127.0.0.1", 0))
        items = stream(f"rtsp://127.0.0.1:{bound.getsockname()[1]}/test")
        said, _ = pull_until(items, in_trouble)

    assert said[-1].endswith("/test cannot be reached (Connection refused)"), "at the first try"


def test_a_server_that_was_killed_is_told_once_and_used_again_when_it_is_back(stream, rtsp_server):
    server = rtsp_server()
    items = stream(server.url)
    assert [f.size_wh for f in items.take(3)] == [(320, 240)] * 3

    items.ticks.clear()
    server.kill()
    first, _ = pull_until(items, in_trouble)
    items.idle(4)  # it is tried again meanwhile
    server.start()
    then, frame = pull_until(items, has_frame)

    assert frame.size_wh == (320, 240)
    assert {tick.trouble for tick in items.ticks} | {text for text in (*first, *then) if text} == {first[-1]}


def test_a_server_that_froze_is_noticed_and_used_again_when_it_goes_on(stream, rtsp_server):
    server = rtsp_server()
    items = stream(server.url)
    items.take(3)

    server.freeze()
    said, _ = pull_until(items, in_trouble)
    server.thaw()
    _, frame = pull_until(items, has_frame)

    assert "gives no" in said[-1]
    assert frame is not None


def test_a_login_that_is_refused_is_told_once_and_the_camera_left_alone(stream, rtsp_server, tmp_path):
    server = rtsp_server(login="cam:right-password")
    (tmp_path / "login").write_text("cam:wrong-password")
    items = stream(server.url, credentials_file=tmp_path / "login")

    wanted = f"the camera rtsp://***@127.0.0.1:{server.port}/test refuses the login (401); check user and password"

    pull_until(items, lambda said, frame: said[-1:] == [wanted])


def test_a_login_is_in_no_command_line_and_in_no_environment(stream, rtsp_server, tmp_path):
    server = rtsp_server(login="cam:right-password")
    (tmp_path / "login").write_text("cam:right-password")
    items = stream(server.url, credentials_file=tmp_path / "login")
    items.take(1)

    (reader,) = readers()
    for name in ("cmdline", "environ"):
        assert b"right-password" not in Path(f"/proc/{reader}/{name}").read_bytes()
    assert "right-password" not in redacted("right-password")


def test_a_login_that_is_wanted_is_told(stream, rtsp_server):
    server = rtsp_server(login="cam:right-password")

    wanted = "wants a login (401); set credentials_file to a file with user:password"

    pull_until(stream(server.url), lambda said, frame: "".join(said[-1:]).endswith(wanted))


@pytest.fixture
def tcp_server():
    """A function that serves every connection with another function; the port."""
    servers, held = {}, []

    def start(serve):
        listening = socket.create_server(("127.0.0.1", 0))

        def run():
            with contextlib.suppress(OSError):
                while True:
                    held.append(listening.accept()[0])
                    threading.Thread(target=quietly, args=(serve, held[-1]), daemon=True).start()

        def quietly(serve, connection):
            with contextlib.suppress(OSError):
                serve(connection)

        servers[listening] = threading.Thread(target=run, daemon=True)
        servers[listening].start()
        return listening.getsockname()[1]

    yield start
    for listening, accepting in servers.items():
        listening.shutdown(socket.SHUT_RDWR)
        accepting.join(DEADLINE_S)  # a connection that it took just now is held, and closed below
        listening.close()
    for connection in held:
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
        connection.close()


@pytest.mark.parametrize("scheme", ["rtsp", "http", "tcp"])
def test_a_server_that_never_answers_is_noticed(stream, tcp_server, scheme):
    port = tcp_server(lambda connection: connection.recv(1000))

    said, _ = pull_until(stream(f"{scheme}://127.0.0.1:{port}/test", open_timeout_s=1), in_trouble)

    assert f"127.0.0.1:{port}/test" in said[-1]


@pytest.mark.parametrize("scheme", ["rtsp", "http", "tcp"])
def test_garbage_is_noticed(stream, tcp_server, scheme):
    def garbage(connection):
        numbers = random.Random(1)
        while True:
            connection.sendall(numbers.randbytes(10_000))

    port = tcp_server(garbage)

    said, _ = pull_until(stream(f"{scheme}://127.0.0.1:{port}/test", open_timeout_s=1), in_trouble)

    assert f"127.0.0.1:{port}/test" in said[-1]


@pytest.fixture
def mjpeg():
    """A function that serves an endless HTTP stream of pictures; its address."""
    servers = []

    def start(pictures):
        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *args):
                pass

            def do_GET(self):
                self.send_response(200)
                self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
                self.end_headers()
                with contextlib.suppress(OSError):
                    for image in pictures():
                        jpeg = cv2.imencode(".jpg", image)[1].tobytes()
                        self.wfile.write(b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(jpeg) + jpeg + b"\r\n")
                        if ended.wait(0.02):
                            return

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        servers.append((server, thread))
        return f"http://127.0.0.1:{server.server_address[1]}/stream"

    ended = threading.Event()
    yield start
    ended.set()
    for server, thread in servers:
        server.shutdown()
        thread.join()
        server.server_close()


def endless(width=160, height=120):
    return (np.full((height, width, 3), number % 250, np.uint8) for number in itertools.count())


def test_a_stream_that_changes_its_size_goes_on(stream, mjpeg):
    url = mjpeg(lambda: itertools.chain(itertools.islice(endless(), 60), endless(640, 480)))
    items = stream(url)
    assert items.take(1)[0].size_wh == (160, 120)

    _, frame = pull_until(items, lambda said, frame: frame is not None and frame.size_wh == (640, 480))

    assert frame.image.shape == (480, 640, 3)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_reader_that_dies_or_hangs_is_replaced(stream, mjpeg, monkeypatch, number):
    for wait in ("FIRST_WAIT_S", "LONGEST_WAIT_S"):  # long enough to be told: an outage of half a second is not
        monkeypatch.setattr(f"edgeannot.sources.grabber.{wait}", 2.0)
    items = stream(mjpeg(endless))
    items.take(1)
    (reader,) = readers()

    os.kill(reader, number)
    said, _ = pull_until(items, in_trouble)
    _, frame = pull_until(items, has_frame)

    assert frame is not None
    assert reader not in readers()
    assert ("died of SIGKILL" if number == signal.SIGKILL else "gives no frame within 1 s") in said[-1]


def test_a_source_that_ends_leaves_no_process_and_no_open_file(stream, mjpeg, stop):
    url = mjpeg(endless)
    before = len(open_files())
    for _ in range(5):
        items = stream(url)
        items.take(2)
        items.items.close()

    end = time.monotonic() + DEADLINE_S
    while readers() or len(open_files()) > before + 2:  # of the server's own connections
        assert time.monotonic() < end
        time.sleep(0.01)


def test_opening_again_uses_the_same_process(mjpeg):
    target = Target("stream", mjpeg(endless), DEADLINE_S, DEADLINE_S)
    process = CameraProcess()
    seen = set()
    for _ in range(4):
        capture = process.open(target)
        assert capture.grab()
        assert capture.retrieve()[1].shape == (120, 160, 3)
        seen |= set(readers())
        capture.release()
    process.close()

    assert len(seen) == 1
    assert not readers()


def test_of_an_rtsp_stream_only_the_key_frames_are_taken(rtsp_server):
    target = Target("stream", rtsp_server().url, DEADLINE_S, DEADLINE_S, frames="key")
    process = CameraProcess()
    capture = process.open(target)
    for _ in range(3):
        assert capture.grab()
        fine, image = capture.retrieve()
        assert fine
        assert image.shape == (240, 320, 3)
        assert image.std() > 20, "it is the test picture, not a gray one of a decoder that lacks what comes before"
    process.close()


def test_of_a_video_file_only_the_key_frames_are_taken(data_dir):
    path = data_dir / "videos" / "car-detection.mp4"
    every = open_capture(Target("file", str(path)))
    count = sum(1 for _ in iter(every.grab, False))
    keys = open_capture(Target("file", str(path), frames="key"))
    assert isinstance(keys, KeyFrames)
    images = [keys.retrieve()[1] for _ in iter(keys.grab, False)]

    assert 2 <= len(images) < count / 5
    first = open_capture(Target("file", str(path)))
    assert first.grab()
    np.testing.assert_array_equal(images[0], first.retrieve()[1])
