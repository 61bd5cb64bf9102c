"""The documented commands in a Debian that has nothing but python3, its venv, systemd and a broker: `make service-test`.

There is no index of packages: the wheels come from a folder that was filled before.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.service.container import ROOT, booted, needs_container
from tests.surroundings import asked

WHEELS = asked("WHEELS") or ""

pytestmark = [
    pytest.mark.service,
    needs_container,
    pytest.mark.skipif(not WHEELS or not Path(WHEELS).is_dir(), reason="there is no folder of wheels: `make service-test` fills it"),
]
CONFIG = """
[sources.inbox]
kind = "directory"
path = "/mnt/pictures"

[sinks.mqtt]
url = "mqtt://localhost"
"""


def service_commands():
    """The first commands of docs/service.md, "The service"."""
    section = (ROOT / "docs/service.md").read_text(encoding="utf-8").partition("\n## The service\n")[2]
    block = re.search(r"^```sh\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    assert block
    return [line.partition("  #")[0].strip() for line in block[1].splitlines()]


def offline(box, line, *before):
    return box.run(*before, "env", "PIP_NO_INDEX=1", "PIP_FIND_LINKS=/srv/wheels", "sh", "-c", f"cd /srv/edgeannot && {line}")


@pytest.fixture(scope="module")
def fresh():
    with booted(lent=False) as box:
        tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True).stdout
        (box.root / "srv/edgeannot").mkdir()
        subprocess.run(
            ["cp", "--parents", "-t", str(box.root / "srv/edgeannot"), *filter(None, tracked.decode().split("\0"))], cwd=ROOT, check=True
        )
        subprocess.run(["cp", "-r", WHEELS, str(box.root / "srv/wheels")], check=True)
        # What a person does in the editor.
        box.write("usr/local/bin/nano", f"#!/bin/sh\ncat >> \"$1\" <<'END'\n{CONFIG}END\n", 0o755)
        yield box


def test_the_documented_commands_give_a_service_and_a_picture_a_message(fresh):
    commands = service_commands()
    assert any("service install" in line for line in commands)
    for line in commands:
        print(offline(fresh, line).stdout)

    assert fresh.shown("ActiveState") == "active"
    message = fresh.heard("a.jpg")
    assert [each["label"] for each in message["detections"]] != []
    assert fresh.run("/opt/edgeannot/bin/edgeannot", "doctor", check=False).stdout


def test_a_user_installs_the_command_by_pipx(fresh):
    fresh.run("useradd", "--create-home", "anna")
    fresh.run("cp", "-r", "/srv/edgeannot", "/home/anna/checkout")
    fresh.run("chown", "-R", "anna:", "/home/anna/checkout")
    offline(fresh, "python3 -m venv /opt/pipx && /opt/pipx/bin/pip install -q pipx")
    as_anna = ("runuser", "-u", "anna", "--", "env", "HOME=/home/anna")
    offline(fresh, "/opt/pipx/bin/pipx install /home/anna/checkout", *as_anna)

    assert "person" in offline(fresh, "/home/anna/.local/bin/edgeannot run edgeannot/samples/astronaut.jpg", *as_anna).stdout
    fresh.run("chmod", "750", "/home/anna")  # as Ubuntu has it
    told = fresh.run("/home/anna/.local/bin/edgeannot", "service", "install", "--name", "second", check=False)
    assert told.returncode == 78
    assert "may not enter /home/anna" in told.stderr
