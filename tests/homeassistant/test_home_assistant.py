"""The documented automations in a real Home Assistant, which hears of a real daemon by MQTT discovery (`make homeassistant-test`)."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.brokers import Broker, free_port, wait_until
from tests.docs_pages import DOCS
from tests.e2e.daemons import SAMPLES, Daemon
from tests.faults.blinking import lamp_model, play
from tests.surroundings import asked

pytestmark = pytest.mark.homeassistant

PYTHON = asked("HOMEASSISTANT")
"""The Python that has Home Assistant."""
DRIVER = Path(__file__).with_name("driver.py")
PERSON = SAMPLES / "scene.jpg"
AUTOMATIONS = re.findall(r"```yaml\n(.*?)```", (DOCS / "home-assistant.md").read_text(encoding="utf-8"), re.DOTALL)

SETTINGS = """
device = "porch"
model = "yolov3-tiny@416"

[sources.door]
kind = "directory"
path = "{inbox}"
settle_s = 0.1

[sinks.mqtt]
url = "{url}"
images = true

[sinks.mqtt.home_assistant]
enabled = true
off_delay_s = 2

[sinks.mqtt.commands]
enabled = true
"""


class Home:
    """A Home Assistant, and what it said so far."""

    def __init__(self, folder: Path, broker: Broker) -> None:
        folder.mkdir()
        indented = ["- " + text.replace("\n", "\n  ").rstrip() for text in AUTOMATIONS]
        (folder / "automations.yaml").write_text("\n".join(indented) + "\n")
        (folder / "configuration.yaml").write_text(
            f"http:\n  server_host: 127.0.0.1\n  server_port: {free_port()}\nautomation: !include automations.yaml\n"
        )
        self.said: list[dict] = []
        self.log = folder / "home-assistant.err"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [PYTHON, str(DRIVER), str(folder), str(broker.port)], stdout=subprocess.PIPE, stderr=log, stdin=subprocess.DEVNULL
            )
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self.process.stdout:
            self.said.append(json.loads(line))

    def state(self, entity: str) -> str | None:
        return next((said["is"] for said in reversed(self.said) if said.get("state") == entity), None)

    def states(self, entity: str) -> list[str]:
        return [said["is"] for said in self.said if said.get("state") == entity]

    def notes(self) -> list[str]:
        return [said["notify"] for said in self.said if "notify" in said]

    def wait(self, condition, what: str) -> None:
        def holds() -> bool:
            assert self.process.poll() is None, self.log.read_text()
            return condition()

        wait_until(holds, what)

    def end(self) -> None:
        self.process.terminate()
        self.process.wait(60)
        self.process.stdout.close()


@pytest.fixture
def home_at(tmp_path: Path) -> Iterator[object]:
    """Start one at a broker."""
    homes: list[Home] = []

    def start(broker: Broker) -> Home:
        assert PYTHON, "run `make homeassistant-test`, which installs it"
        homes.append(Home(tmp_path / f"home{len(homes)}", broker))
        return homes[-1]

    yield start
    for home in homes:
        home.end()


@pytest.fixture
def porch(tmp_path: Path, broker: Broker) -> Iterator[Path]:
    """The folder of a daemon whose device is `porch` and whose source is `door`, as on the page; one picture with a person is done."""
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    (tmp_path / "edgeannot.toml").write_text(SETTINGS.format(inbox=inbox, url=broker.url))
    arrives(inbox, "before.jpg")
    daemon = Daemon(tmp_path / "daemon", "--config", tmp_path / "edgeannot.toml")
    yield inbox
    daemon.process.terminate()
    daemon.process.wait(60)


def arrives(inbox: Path, name: str) -> None:
    shutil.copyfile(PERSON, inbox / f".{name}")
    (inbox / f".{name}").rename(inbox / name)


def test_the_picture_taken_before_home_assistant_heard_of_it_is_there(broker, porch, make_subscriber, home_at):
    results = make_subscriber(broker, "edgeannot/porch/door/image")
    wait_until(lambda: results.messages, "the first picture at the broker")
    home = home_at(broker)

    home.wait(lambda: (home.state("image.porch_door_picture") or "").startswith("20"), "the picture")
    home.wait(lambda: home.state("sensor.porch_door_person") not in (None, "unavailable", "unknown"), "the count")
    assert set(home.states("event.porch_door_seen")) <= {"unavailable", "unknown"}, "nothing new was seen"
    assert home.notes() == []


def test_the_documented_automations_fire_for_each_picture_and_once_for_each_coming(broker, porch, home_at):
    home = home_at(broker)
    seen, person = "event.porch_door_seen", "binary_sensor.porch_door_person_seen"
    home.wait(lambda: home.state(person) is not None and home.state("sensor.porch_door_person") not in (None, "unavailable"), "discovery")
    before = len(at_the_door(home))

    for number in range(2):  # the same is seen again: a count that stays as it is
        arrives(porch, f"{number}.jpg")
        home.wait(lambda number=number: len(at_the_door(home)) == before + number + 1, f"the event of picture {number}")
    home.wait(lambda: home.state(person) == "off", "the label to go off by itself, as no empty picture ever comes")
    arrives(porch, "2.jpg")
    home.wait(lambda: len(at_the_door(home)) == before + 3, "the event of the last picture")
    home.wait(lambda: home.notes().count("Somebody is at the door") == comings(home, person), "a message for each coming")

    assert comings(home, person) >= 2
    assert set(at_the_door(home)) == {f"{total(home, seen)} at the door"}


def test_tracked_objects_their_second_label_and_the_state_of_a_region_are_there_and_no_event_of_a_picture(broker, tmp_path, home_at):
    """Objects come and go; where they are tracked, the event entity tells of them alone."""
    models = tmp_path / "daemon/data/models"
    settings = play(tmp_path, models)
    lamp_model(models)
    settings.write_text(
        settings.read_text().replace("loop = true", "loop = true\nrealtime = true")
        + '[classify.cat]\nmodel = "lamp"\n[states.lamp]\nsource = "yard"\nregion = [0.0, 0.0, 0.5, 0.5]\nmodel = "lamp"\n'
        + "[sinks.mqtt.home_assistant]\nenabled = true\n"
    )
    home = home_at(broker)
    daemon = Daemon(tmp_path / "daemon", "--config", settings, "--model", "tiny", "--device", "porch", "--mqtt", broker.url)
    try:
        home.wait(lambda: {"appeared", "left"} <= {each["event_type"] for each in happened(home)}, "an object that came and left")
        home.wait(lambda: {"on", "off"} <= set(home.states("sensor.porch_yard_lamp")), "both states of the region")
        home.wait(lambda: any(each["sub_label"] == "on" for each in happened(home)), "the label of the second stage")
    finally:
        daemon.process.terminate()
        daemon.process.wait(60)

    assert {each["event_type"] for each in happened(home)} <= {"appeared", "still", "moved", "left"}
    assert {said["state"] for said in home.said if str(said.get("state", "")).startswith("event.")} == {"event.porch_yard_seen"}


def happened(home: Home) -> list[dict]:
    """What the event entity said, without the times at which nothing had happened yet."""
    said = [one["attributes"] for one in home.said if one.get("state") == "event.porch_yard_seen"]
    return [attributes for attributes in said if attributes.get("event_type")]


def at_the_door(home: Home) -> list[str]:
    return [note for note in home.notes() if re.fullmatch("[0-9]+ at the door", note)]


def total(home: Home, entity: str) -> int:
    return next(said["attributes"]["total"] for said in reversed(home.said) if said.get("state") == entity)


def comings(home: Home, entity: str) -> int:
    """How often it went on."""
    states = home.states(entity)
    return sum(now == "on" != before for before, now in zip(["", *states], states, strict=False))
