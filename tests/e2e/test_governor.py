"""The governor at work: CPU time is taken away from the running daemon and given back."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import cv2
import pytest

from edgeannot.base.places import bundled_folder
from edgeannot.vision.cards import find_card
from edgeannot.vision.data import Frame
from edgeannot.vision.pipeline import load_pipeline
from tests.brokers import Subscriber
from tests.e2e.daemons import SAMPLES, Daemon

MODEL = "ssdlite-mobilenet-v2-coco@300"
PERIOD_US = 100_000


class Quota:
    """A control group of our own for the CPU, version 1 or 2."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._old = (folder / "cpu.cfs_quota_us").exists()

    def add(self, pid: int) -> None:
        (self._folder / "cgroup.procs").write_text(str(pid))

    def limit(self, cores: float) -> None:
        if self._old:
            (self._folder / "cpu.cfs_period_us").write_text(str(PERIOD_US))
        self._write(str(int(cores * PERIOD_US)))

    def lift(self) -> None:
        self._write("-1" if self._old else "max")

    def _write(self, quota: str) -> None:
        if self._old:
            (self._folder / "cpu.cfs_quota_us").write_text(quota)
        else:
            (self._folder / "cpu.max").write_text(f"{quota} {PERIOD_US}")


@pytest.fixture
def quota():
    """A group that nobody is in yet; the test is skipped where none can be made."""
    for parent, file in ((Path("/sys/fs/cgroup/cpu"), "cpu.cfs_quota_us"), (Path("/sys/fs/cgroup"), "cpu.max")):
        folder = parent / f"edgeannot-test-{os.getpid()}"
        try:
            folder.mkdir()
        except OSError:
            continue
        if (folder / file).exists():
            break
        folder.rmdir()
    else:
        pytest.skip("no control group for the CPU can be made here: needs root, and the cpu controller in version 1 or 2")
    yield Quota(folder)
    folder.rmdir()  # the daemon that was in it is gone


class Feeder:
    """Keeps a few pictures waiting in a folder whose pictures are deleted when they are done."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        photos, count = sorted(SAMPLES.glob("*.jpg")), 0
        while not self._stop.wait(0.02):
            if sum(1 for _ in self.folder.glob("*.jpg")) < 4:
                hidden = self.folder / f".{count}"
                shutil.copyfile(photos[count % len(photos)], hidden)
                hidden.rename(self.folder / f"{count:06}.jpg")
                count += 1

    def close(self) -> None:
        self._stop.set()
        self._thread.join()


def cpu_ms() -> float:
    """CPU time of one picture by the model, best of a few."""
    run = load_pipeline(find_card(MODEL, [bundled_folder()]))
    frame = Frame(cv2.imread(str(SAMPLES / "scene.jpg")), "x", 0, datetime.now(UTC), "x")
    times = []
    for _ in range(6):
        begun = time.process_time()
        run(frame)
        times.append((time.process_time() - begun) * 1e3)
    return min(times)


def governor(subscriber):
    """What the newest telemetry says of the governor; empty before the first."""
    telemetry = [json.loads(m.payload) for m in list(subscriber.messages) if m.topic.endswith("/telemetry")]
    return telemetry[-1]["governor"] if telemetry else {}


def models(subscriber):
    return [json.loads(m.payload)["model"]["name"] for m in list(subscriber.messages) if m.topic.endswith("/info")]


def test_it_steps_down_under_a_quota_and_up_again_when_it_is_lifted(tmp_path, broker, quota):
    """At a fortieth of a core one picture takes forty times its CPU time, and fifteen times that is allowed: others may take most of
    the machine meanwhile.
    """
    picture_ms = cpu_ms()
    budget_ms = 15 * picture_ms
    inbox = tmp_path / "in"
    inbox.mkdir()
    with ExitStack() as stack:
        subscriber = Subscriber(broker)
        stack.callback(subscriber.close)
        daemon = Daemon(
            tmp_path / "daemon", "--profile", "mid", "--watch", inbox, "--mqtt", broker.url,
            EDGEANNOT_MAX_MS=str(budget_ms), EDGEANNOT_SOURCES__INBOX__AFTER="delete",
        )  # fmt: skip
        stack.callback(daemon.kill)
        quota.add(daemon.process.pid)
        feeder = Feeder(inbox)
        stack.callback(feeder.close)
        subscriber.wait_for(lambda s: sum(m.topic.endswith("/detections") for m in s.messages) >= 20, "results")
        assert not governor(subscriber), daemon.log  # nothing happened yet

        quota.limit(1 / 40)
        subscriber.wait_for(lambda s: governor(s).get("step", 0) > 0, f"a step down: {daemon.log}")
        assert "over the budget" in governor(subscriber)["reason"]
        assert "governor: step down" in daemon.log
        subscriber.wait_for(lambda s: len(set(models(s))) >= 2, f"info is told again with each model: {daemon.log}")

        lowest = governor(subscriber)["step"]
        quota.lift()
        # How far up depends on what else the machine does.
        subscriber.wait_for(lambda s: governor(s)["step"] < lowest, f"a step up: {daemon.log}")
        assert "governor: step up" in daemon.log
        assert daemon.stop() == 0
