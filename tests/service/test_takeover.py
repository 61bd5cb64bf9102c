"""State of an earlier release, whose unit had systemd make a user at each start (DynamicUser=), is taken over with what it has not sent."""

from __future__ import annotations

import json
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from tests.brokers import wait_until
from tests.patience import DEADLINE_S
from tests.service.container import ROOT, UNIT, booted, needs_container, needs_python_311
from tests.surroundings import asked

pytestmark = [pytest.mark.service, needs_container, needs_python_311]
KEEPER = (
    "mosquitto_sub",
    "-h",
    "127.0.0.1",
    "-V",
    "5",
    "-i",
    "keeper",
    "-c",
    "-x",
    "3600",
    "-q",
    "1",
    "-t",
    "edgeannot/+/+/detections",
)
"""A subscriber whom the broker keeps messages for."""


@pytest.fixture
def earlier():
    """That release with a picture's result unsent, as the broker is down."""
    with booted() as box:
        box.write(
            "etc/mosquitto/mosquitto.conf",
            "listener 1883 127.0.0.1\nallow_anonymous true\npersistence true\npersistence_location /var/lib/mosquitto/\n",
        )
        box.run("systemctl", "restart", "mosquitto")
        box.run(*KEEPER, "-E")
        box.run("systemctl", "stop", "mosquitto")
        box.write(
            "etc/edgeannot/edgeannot.toml",
            'profile = "low"\nmodel = "nanodet-g"\n[sources.inbox]\nkind = "directory"\npath = "/mnt/pictures"\n'
            '[sinks.mqtt]\nurl = "mqtt://127.0.0.1"\n',
        )
        present = (ROOT / "systemd" / UNIT).read_text()
        box.write(f"etc/systemd/system/{UNIT}", present.replace("User=edgeannot\nGroup=edgeannot\n", "DynamicUser=yes\n"))
        box.run("systemctl", "daemon-reload")
        box.run("systemctl", "enable", "--now", UNIT)
        box.drop("a.jpg")
        wait_until(lambda: unsent(box, "var/lib/private/edgeannot"), "a result in the outbox", pace_s=0.3)
        yield box


def unsent(box, folder):
    file = box.root / folder / "state.sqlite"
    if not file.exists():
        return []
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as db:
        return db.execute("SELECT payload FROM outbox ORDER BY id").fetchall()


@pytest.mark.parametrize("how", ["service install", "Debian package"])
def test_undelivered_results_are_sent_after_the_upgrade(earlier, how):
    """It runs during the upgrade, so its user is known to the system, though no file has it."""
    before = unsent(earlier, "var/lib/private/edgeannot")
    assert (earlier.root / "var/lib/edgeannot").is_symlink()
    if how == "service install":
        earlier.edgeannot("service", "install")
    else:
        folder = asked("DEB") or pytest.skip("there is no package: `make deb-test` makes it")
        (package,) = Path(folder, "old").glob("*.deb")
        subprocess.run(["cp", str(package), str(earlier.root / "root/edgeannot.deb")], check=True)
        print(earlier.run("dpkg", "-i", "/root/edgeannot.deb"))

    assert (earlier.shown("ActiveState"), earlier.shown("DynamicUser"), earlier.shown("NRestarts")) == ("active", "no", "0")
    assert not (earlier.root / "var/lib/edgeannot").is_symlink()
    assert earlier.run("stat", "-c", "%U:%G %a", "/var/lib/edgeannot/state.sqlite").stdout.startswith("edgeannot:edgeannot ")
    assert not (earlier.root / "var/lib/private/edgeannot").exists()
    assert unsent(earlier, "var/lib/edgeannot") == before
    earlier.run("systemctl", "start", "mosquitto")
    message = json.loads(earlier.run(*KEEPER, "-C", "1", "-W", str(round(DEADLINE_S))).stdout)
    assert message["image"]["path"] == "a.jpg"


def test_what_is_removed_with_its_state_is_gone_from_both_places(earlier):
    earlier.edgeannot("service", "uninstall", "--purge")

    for place in ("var/lib/edgeannot", "var/lib/private/edgeannot"):
        assert not (earlier.root / place).exists(), place
        assert not (earlier.root / place).is_symlink(), place
