"""The live page of a real daemon in a real Chromium, on a phone and on a desktop, light and dark (`make page-test`).

The pictures of it go to `.cache/page/`; `docs/live-page.jpg` is the one with many pictures, on a desktop.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.brokers import free_port
from tests.e2e.daemons import COMMAND, ROOT, SAMPLES, Daemon, copy_samples
from tests.patience import DEADLINE_S
from tests.surroundings import asked

pytestmark = pytest.mark.page

PYTHON = asked("PAGE_DRIVER")
"""The Python that has playwright and axe-core."""
DRIVER = Path(__file__).with_name("driver.py")
CHROMIUM = shutil.which("chromium")
PICTURES = ROOT / ".cache" / "page"
TOKEN = "a-token-of-this-test-only"

SETTINGS = """
device = "porch-pi"
model = "{model}"

[page]
enabled = true
port = {port}
{page}

[sources.inbox]
kind = "directory"
path = "{inbox}"
settle_s = 0.1

[sinks.mqtt]
enabled = {mqtt}
url = "mqtt://127.0.0.1:1"
"""
HALL = """
[sources.hall]
kind = "camera"
url = "{film}"
realtime = true
loop = true

[sources.hall.tracking]
enabled = true
still_s = 1.5
"""


class Shown:
    """A daemon with the page, and what a browser sees of it."""

    def __init__(
        self, folder: Path, model: str = "ssdlite-mobilenet-v2-coco@300", mqtt: bool = False, page: str = "", more: str = ""
    ) -> None:
        self.port = free_port()
        self.inbox = folder / "inbox"
        self.inbox.mkdir(parents=True)
        settings = folder / "edgeannot.toml"
        text = SETTINGS.format(model=model, port=self.port, page=page, inbox=self.inbox, mqtt=str(mqtt).lower())
        settings.write_text(text + more)
        self.folder = folder
        self.settings = settings

    def start(self) -> None:
        self.daemon = Daemon(self.folder, "--config", self.settings)
        self.daemon.wait_log("live page on")

    def driver(self, scene: str) -> subprocess.Popen[str]:
        PICTURES.mkdir(parents=True, exist_ok=True)
        command = [PYTHON, DRIVER, CHROMIUM, f"http://127.0.0.1:{self.port}/", PICTURES, scene, TOKEN]
        return subprocess.Popen([str(each) for each in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def look(self, scene: str) -> None:
        """Look at the page, and find nothing wrong with it."""
        said, errors = self.driver(scene).communicate(timeout=DEADLINE_S)
        assert said, f"{errors[-3000:]}\n{self.daemon.log}"
        fine(json.loads(said.splitlines()[-1]), 4)


def fine(found: dict, looks: int) -> None:
    """Nothing that axe-core finds, no word in the console, nothing wider than the window or cut off, nobody else asked."""
    assert len(found) == looks
    for look, each in found.items():
        assert {name: what for name, what in each.items() if what} == {}, look


@pytest.fixture
def shown(tmp_path):
    """Makes a daemon with the page, which ends with the test."""
    if CHROMIUM is None:
        pytest.skip("no chromium here (apt-get install chromium)")
    made: list[Shown] = []

    def make(**options) -> Shown:
        made.append(Shown(tmp_path / "daemon", **options))
        return made[-1]

    yield make
    for each in made:
        each.daemon.kill()


def test_with_nothing(shown):
    page = shown()
    page.start()
    page.look("nothing")


def test_with_one_picture(shown):
    page = shown()
    shutil.copy(SAMPLES / "scene.jpg", page.inbox)
    page.start()
    page.look("one")


def test_with_many_pictures(shown):
    page = shown()
    copy_samples(page.inbox, 12)
    page.start()
    page.look("many")


def test_with_the_broker_away(shown):
    page = shown(mqtt=True)
    copy_samples(page.inbox)
    page.start()
    page.look("away")


def test_paused_by_the_keyboard(shown):
    page = shown()
    copy_samples(page.inbox)
    page.start()
    page.look("paused")

    assert page.daemon.log.count("command pause: done") == page.daemon.log.count("command resume: done") == 4


def test_snapshot_and_model(shown):
    page = shown()
    shutil.copy(SAMPLES / "scene.jpg", page.inbox)
    page.start()
    page.look("snapshot")


def test_names_of_files_and_labels_stay_text(shown):
    page = shown(model="hostile@320")
    models = page.folder / "data" / "models"
    models.mkdir(parents=True)
    card = (ROOT / "models" / "nanodet-g.toml").read_text()
    (models / "hostile.toml").write_text(card.replace('name = "nanodet-g"', 'name = "hostile"'))
    shutil.copy(ROOT / "models" / "nanodet-g.tflite", models)
    labels = (ROOT / "models" / "nanodet-g.labels.txt").read_text()
    (models / "nanodet-g.labels.txt").write_text(labels.replace("person\n", "<script>alert(1)</script>\n"))
    shutil.copy(SAMPLES / "astronaut.jpg", page.inbox / "<img src=x onerror=alert(1)>.\u202ejpg")
    page.start()
    page.look("hostile")


def test_open_events_of_a_tracked_source(shown, tmp_path):
    """A film in which somebody stands for six seconds, and then is gone for as long."""
    film = tmp_path / "hall.avi"
    person = cv2.imread(str(SAMPLES / "astronaut.jpg"))
    height, width = person.shape[:2]
    writer = cv2.VideoWriter(str(film), cv2.VideoWriter.fourcc(*"MJPG"), 5, (width, height))
    for number in range(60):
        writer.write(person if number < 30 else np.full_like(person, 96))
    writer.release()
    page = shown(more=HALL.format(film=film))
    page.start()
    page.look("events")


def test_a_login(shown):
    page = shown(page=f'token_file = "{PICTURES / "token"}"')
    PICTURES.mkdir(parents=True, exist_ok=True)
    (PICTURES / "token").write_text(TOKEN)
    page.start()
    page.look("login")

    assert TOKEN not in page.daemon.log


def test_the_daemon_ends(shown):
    page = shown()
    page.start()
    browser = page.driver("gone")
    assert browser.stdout is not None
    assert browser.stdout.readline() == "looking\n"
    page.daemon.stop()
    said, errors = browser.communicate(timeout=DEADLINE_S)
    assert said, errors[-3000:]
    (found,) = json.loads(said.splitlines()[-1]).values()
    assert found["axe"] == found["wide"] == found["cut"] == []


def test_on_request_another_daemon_s_page_is_named(shown):
    """Of two daemons on one port the second says so in one sentence."""
    page = shown()
    page.start()
    done = subprocess.run(
        [*COMMAND, "run", "--config", str(page.settings), "--data-dir", str(page.folder / "other")],
        capture_output=True, text=True, timeout=DEADLINE_S, env=dict(os.environ), check=False,
    )  # fmt: skip

    assert done.returncode == 78
    assert f"[page]: wanted to listen on 127.0.0.1 port {page.port}" in done.stderr
