"""The tutorial, up to its automation, and the page about a secure broker: what they say is done, with a real mosquitto."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

from edgeannot.doctor.connections import brokers
from edgeannot.doctor.findings import Examined
from edgeannot.settings import Settings
from tests.brokers import MOSQUITTO, Broker
from tests.docs_pages import DOCS
from tests.e2e.daemons import SAMPLES, edgeannot
from tests.patience import DEADLINE_S
from tests.test_docs import blocks


def test_the_configuration_of_the_tutorial_gives_what_its_automation_waits_for(broker, make_subscriber, tmp_path):
    (text,) = blocks(DOCS / "tutorial.md", "toml")
    assert Settings(**tomllib.loads(text)).written_folders() == [], "the service has no right to write to the folder of the tutorial"
    door = tmp_path / "door"
    door.mkdir()
    shutil.copy(SAMPLES / "astronaut.jpg", door)
    config = tmp_path / "edgeannot.toml"
    config.write_text(text.replace("mqtt://localhost", broker.url).replace("/srv/door", str(door)))
    subscriber = make_subscriber(broker)

    done = edgeannot("run", "--config", config, "--data-dir", tmp_path / "data", "--once")

    assert done.returncode == 0, done.stderr
    subscriber.wait_for(lambda s: s.payloads("edgeannot/porch/door/detections"), "the picture's message")
    (result,) = [json.loads(payload) for payload in subscriber.payloads("edgeannot/porch/door/detections")]
    assert {found["label"] for found in result["detections"]} == {"person"}
    said = json.loads(subscriber.payloads("homeassistant/device/porch/config")[-1])
    (automation,) = map(yaml.safe_load, blocks(DOCS / "tutorial.md", "yaml"))
    kind, _, name = automation["triggers"][0]["entity_id"].partition(".")
    # Home Assistant makes an entity's id of the device's and the entity's names.
    made = {(each["platform"], f"{said['device']['name']} {each['name']}".replace(" ", "_")) for each in said["components"].values()}
    assert (kind, name) in made


def test_the_automation_of_the_tutorial_is_one_that_a_real_home_assistant_ran():
    (text,) = blocks(DOCS / "tutorial.md", "yaml")

    assert text in blocks(DOCS / "home-assistant.md", "yaml")


@pytest.fixture
def page(tmp_path) -> dict[str, str]:
    """The blocks of the page by the heading above them, with the paths of this test in them; commands of the same heading together."""
    found: dict[str, str] = {}
    for part in (DOCS / "secure-broker.md").read_text(encoding="utf-8").split("\n## ")[1:]:
        heading = part.partition("\n")[0]
        for language, text in re.findall(r"^```(\w+)\n(.*?)^```$", part, re.DOTALL | re.MULTILINE):
            key = heading if language != "text" else text.split()[0]  # two files of one heading
            found.setdefault(key, text.replace("/etc/mosquitto", str(tmp_path)).replace("broker.local", "localhost"))
    return found


def test_a_broker_set_up_as_the_page_says_lets_the_device_in_and_nobody_else(page, tmp_path, make_subscriber):
    if MOSQUITTO is None or not all(map(shutil.which, ("mosquitto_pub", "openssl"))):
        pytest.skip("mosquitto, its clients or openssl are not installed")
    paths = os.pathsep.join((str(Path(MOSQUITTO).parent), os.environ["PATH"]))
    for heading in ("Certificate", "Users"):
        commands = re.sub(r"^chown .*$", "", page[heading], flags=re.MULTILINE)  # root's alone, and the test's broker runs as we do
        done = subprocess.run(
            ["bash", "-e", "-c", commands],
            env={**os.environ, "PATH": paths}, capture_output=True, text=True, timeout=DEADLINE_S, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    (tmp_path / "acl").write_text(page["pattern"])
    assert [line for line in page["listener"].splitlines() if line.startswith("listener")] == ["listener 8883"]
    secure = [line for line in page["listener"].splitlines() if not line.startswith(("listener", "allow_anonymous"))]
    broker = Broker(tmp_path / "broker", *secure, anonymous=False).start()

    def findings(old: str = "", new: str = "") -> dict[str, str]:
        text = page["The device"].replace("mqtts://localhost", f"mqtts://localhost:{broker.port}").replace(old, new)
        text = text.replace('"mqtt-password"', f'"{tmp_path}/porch.password"').replace("/etc/edgeannot/ca.crt", f"{tmp_path}/tls/ca.crt")
        return {each.code: each.level for each in brokers(Examined(Settings(**tomllib.loads(text))))}

    def run(program: str, user: str, words: str) -> str:
        """What the page's own command prints, with another program, user and words in it."""
        options = page["Trying it"].partition(" -v ")[0].partition(" ")[2].replace("homeassistant", user).replace("8883", str(broker.port))
        command = ["bash", "-c", f"{program} {options} {words}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
        assert done.returncode == 0, (program, user, words, done.stderr)
        return done.stdout.strip()

    try:
        for user in ("porch", "homeassistant"):
            assert stat.S_IMODE((tmp_path / f"{user}.password").stat().st_mode) == 0o600
        run("mosquitto_pub", "homeassistant", "-t homeassistant/status -m online -r -q 1")
        assert run("mosquitto_sub", "porch", "-t homeassistant/status -C 1 -W 10") == "online"
        run("mosquitto_pub", "porch", "-t homeassistant/device/porch/config -m here -r -q 1")
        assert run("mosquitto_sub", "homeassistant", "-t homeassistant/device/porch/config -C 1 -W 10") == "here"
        assert set(findings().values()) == {"ok"}
        assert "problem" in findings('device = "porch"', 'device = "gate"').values()  # another device's topics
        assert "problem" in findings('username = "porch"', 'username = "gate"').values()
    finally:
        broker.stop()
