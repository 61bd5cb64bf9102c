"""The daemon as a process with a real broker: what it needs, and when its messages come to a subscriber. For the benchmarks."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

from benchmarks.store.broker import DEADLINE_S, mosquitto

__all__ = ["Counter", "Run", "Subscriber", "counting_broker", "make_pictures", "run_daemon"]

COMMAND = [sys.executable, "-c", "from edgeannot.cli.start import main; main()", "run"]
SAMPLES = Path(__file__).resolve().parent.parent / "edgeannot" / "samples"


def make_pictures(folder: Path, count: int) -> None:
    """`count` JPEG files of about one megapixel, each different, cut from the sample photos."""
    folder.mkdir()
    photos = [cv2.imread(str(path)) for path in sorted(SAMPLES.glob("*.jpg"))]
    for i in range(count):
        picture = cv2.resize(photos[i % len(photos)], (1152, 864))
        picture[:8, :8] = np.random.default_rng(i).integers(0, 256, (8, 8, 3))
        cv2.imwrite(str(folder / f"{i:05}.jpg"), picture, [cv2.IMWRITE_JPEG_QUALITY, 88])


class Subscriber:
    """A client that is told of each result, in a thread of its own."""

    def __init__(self, port: int, told: Callable[[MQTTMessage], None]) -> None:
        subscribed = threading.Event()
        self._client = Client(CallbackAPIVersion.VERSION2)
        self._client.on_message = lambda _client, _data, message: told(message)
        self._client.on_connect = lambda *_: self._client.subscribe("edgeannot/+/+/detections", 1)
        self._client.on_subscribe = lambda *_: subscribed.set()
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        assert subscribed.wait(DEADLINE_S), "the benchmark's own subscriber could not subscribe"

    def close(self) -> None:
        """End it."""
        self._client.disconnect()
        self._client.loop_stop()


class Counter(Subscriber):
    """A subscriber that counts the results."""

    def __init__(self, port: int) -> None:
        self.url = f"mqtt://127.0.0.1:{port}"
        self.count = 0
        self.last_at = 0.0
        self._came = threading.Event()
        super().__init__(port, self._count)

    def _count(self, _message: MQTTMessage) -> None:
        self.count, self.last_at = self.count + 1, time.perf_counter()
        self._came.set()

    def begin(self) -> None:
        """Count from 0."""
        self.count = 0
        self._came.clear()

    def first(self) -> float:
        """Return when the first message came, by `time.perf_counter`."""
        assert self._came.wait(DEADLINE_S), "no message came"
        return self.last_at


@contextmanager
def counting_broker(folder: Path) -> Iterator[Counter]:
    """A broker of our own with a subscriber."""
    folder.mkdir()
    with mosquitto(folder) as broker:
        counter = Counter(broker.port)
        try:
            yield counter
        finally:
            counter.close()


class Run:
    """One daemon that runs, and its memory so far. It keeps its bytecode, as one that pip has installed."""

    def __init__(self, *options: str, inside: Callable[[Sequence[str]], list[str]] = list, log: Path | None = None) -> None:
        """inside: makes of a command the one that is started, such as `quota.CpuGroup.inside`. log: has what it says."""
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        with (log or Path(os.devnull)).open("wb") as file:
            self.started_at = time.perf_counter()
            self.process = subprocess.Popen(inside([*COMMAND, *options]), stdout=subprocess.DEVNULL, stderr=file, env=environment)
        self.peak_bytes = 0
        """The high-water mark of its memory, and the proportional share of its children's beside it."""
        self.anonymous_bytes = 0
        """The most memory seen that is not of a file: what a board cannot take back without swap."""
        self.file_bytes = 0
        """The most seen that is of libraries and models: pages that the kernel may drop. How many it maps at once hangs on its version."""

    def look(self) -> None:
        """Read its memory."""
        with contextlib.suppress(OSError):
            status = Path(f"/proc/{self.process.pid}/status")
            here = _kib(status, "VmHWM")
            self.anonymous_bytes = max(self.anonymous_bytes, _kib(status, "RssAnon") * 1024)
            self.file_bytes = max(self.file_bytes, _kib(status, "RssFile") * 1024)
            tasks = Path(f"/proc/{self.process.pid}/task").glob("*/children")
            children = {child for task in tasks for child in task.read_text().split()}
            shares = sum(_kib(Path(f"/proc/{child}/smaps_rollup"), "Pss") for child in children)
            self.peak_bytes = max(self.peak_bytes, (here + shares) * 1024)

    def end(self) -> None:
        """Wait for its end, reading its memory."""
        while self.process.poll() is None:
            self.look()
            time.sleep(0.01)
        assert self.process.returncode == 0, f"the daemon failed with the exit code {self.process.returncode}"

    def stop(self) -> None:
        """Have it stop."""
        self.process.send_signal(signal.SIGTERM)
        self.end()


def run_daemon(
    counter: Counter,
    pictures: Path,
    data_dir: Path,
    *options: str,
    inside: Callable[[Sequence[str]], list[str]] = list,
    log: Path | None = None,
    also: str = "",
) -> Run:
    """Start the daemon with profile low over a folder, with ledger, label files and the broker; no pictures are drawn. also: settings."""
    counter.begin()
    settings = data_dir.with_name(f"{data_dir.name}.toml")
    settings.write_text(f'out_dir = "{data_dir / "out"}"\n[sinks.labels]\nenabled = true\n{also}')
    places = ["--watch", str(pictures), "--data-dir", str(data_dir), "--mqtt", counter.url]
    return Run("--config", str(settings), "--profile", "low", *places, *options, inside=inside, log=log)


def _kib(path: Path, name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+)", path.read_text(), re.MULTILINE)
    return int(found[1]) if found else 0
