"""The documented commands in a Debian that has nothing but python3, its venv, systemd and a broker: `make service-test`.

There is no index of packages: the wheels come from a folder that was filled before.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.service.container import ROOT, Container, booted, needs_container
from tests.surroundings import asked
from tests.test_docs import README, blocks

WHEELS = asked("WHEELS") or ""
BASES = {"Debian 12": asked("SERVICE_ROOT") or "", "Debian 13": asked("SERVICE_ROOT_13") or ""}

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
    return box.run(*before, "env", "PIP_NO_INDEX=1", "PIP_FIND_LINKS=/srv/wheels", "USER=root", "sh", "-ec", f"cd /srv/edgeannot\n{line}")


@contextmanager
def fresh_box(config: str, base: str = BASES["Debian 12"]) -> Iterator[Container]:
    """A container with a checkout and the wheels. config: what a person writes in the editor. base: a root file system."""
    with booted(lent=False, base=base) as box:
        tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True).stdout
        (box.root / "srv/edgeannot").mkdir()
        subprocess.run(
            ["cp", "--parents", "-t", str(box.root / "srv/edgeannot"), *filter(None, tracked.decode().split("\0"))], cwd=ROOT, check=True
        )
        subprocess.run(["cp", "-r", WHEELS, str(box.root / "srv/wheels")], check=True)
        box.write("usr/local/bin/nano", f"#!/bin/sh\ncat >> \"$1\" <<'END'\n{config}END\n", 0o755)
        box.write("usr/local/bin/sudo", '#!/bin/sh\nexec "$@"\n', 0o755)  # who runs the commands here is root
        yield box


@pytest.fixture(scope="module", params=BASES)
def fresh(request):
    if not Path(BASES[request.param], "etc").is_dir():
        pytest.skip(f"there is no root file system of {request.param}: `make service-test` makes it")
    with fresh_box(CONFIG, BASES[request.param]) as box:
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


STEP_3 = """
{listen} > /tmp/heard 2>&1 &
listener=$!
until grep -q listening /tmp/heard; do sleep 0.2; done
( {watch} ) > /tmp/said 2>&1 &
daemon=$!
until grep -q "is online" /tmp/heard; do sleep 0.2; done
{put}
until grep -q person /tmp/heard; do sleep 0.2; done
kill $daemon $listener
wait
"""
"""Two terminals, and what is done beside them."""


def test_the_commands_of_the_tutorial_lead_to_a_message_of_the_service():
    """All but those of apt and git, whose work is done: there is no network here."""
    tutorial = ROOT / "docs/tutorial.md"
    install, first, listen, watch, put, configure, check, service, look, password = blocks(tutorial, "sh")
    (config,) = blocks(tutorial, "toml")
    with fresh_box(config) as box:
        offline(box, "\n".join(line for line in install.splitlines() if not re.match(r"sudo apt |git ", line)))
        printed = offline(box, first).stdout
        assert "cat.jpg  cat 0.9" in printed
        daemon = watch.strip().replace("edgeannot run", "exec edgeannot run")
        offline(box, STEP_3.format(listen=listen.strip(), watch=daemon, put=put.strip()))
        offline(box, configure)
        assert "nothing wrong" in offline(box, check).stdout
        offline(box, service)
        discovery, detections, count = offline(box, f"{look}wait").stdout.splitlines()
        box.write("usr/local/bin/nano", '#!/bin/sh\necho secret >> "$1"\n', 0o755)
        named = r"""sed -i '/^url/a username = "porch"\npassword_file = "mqtt-password"' /etc/edgeannot/edgeannot.toml"""
        offline(box, f"{named}\n{password}\nsystemctl is-active edgeannot && edgeannot doctor")

    assert json.loads(discovery)["device"]["name"] == "porch"
    topic, _, message = detections.partition(" ")
    assert topic == "edgeannot/porch/door/detections"
    assert {each["label"] for each in json.loads(message)["detections"]} == {"person"}
    assert json.loads(count.partition(" ")[2])["labels"] == {"person": 1}


def test_the_two_commands_of_the_readme_print_what_it_says(fresh):
    (commands,) = blocks(README, "sh")
    (printed,) = blocks(README, "text")

    said = offline(fresh, commands).stdout
    for line in printed.splitlines():
        assert re.search("^" + re.escape(line).replace("…", "[0-9]+"), said, re.MULTILINE), said


PAGES_OF_MESSAGES = """
test -e /usr/local/bin/edgeannot || ( {install} )
echo "127.0.0.1 broker.local" >> /etc/hosts
mkdir -p /srv/messages/inbox
cp edgeannot/samples/astronaut.jpg /srv/messages/photo.jpg
cp edgeannot/samples/cat.jpg /srv/messages
cd /srv/messages
export EDGEANNOT_SINKS__MQTT__COMMANDS__ENABLED=true
edgeannot run --watch inbox --device porch --mqtt mqtt://broker.local --data-dir porch > porch.log 2>&1 &
porch=$!
edgeannot run --config worker.toml --data-dir worker > worker.log 2>&1 &
worker=$!
until grep -q "connected to" porch.log && grep -q "connected to" worker.log; do sleep 0.2; done
{commands}
wait $!
{listen} > heard 2>&1 &
listener=$!
until grep -q listening heard; do sleep 0.2; done
{send}
{publish}
{publish_named}
until test "$(grep -c "pictures  #" heard)" -ge 3; do sleep 0.2; done
kill $porch $worker $listener
wait
"""


def test_the_commands_of_the_pages_of_messages_and_of_fleets_are_answered(fresh):
    (commands,) = blocks(ROOT / "docs/messages.md", "sh")
    talk, publish, publish_named = blocks(ROOT / "docs/fleet.md", "sh")
    listen, send = talk.splitlines()
    config = blocks(ROOT / "docs/fleet.md", "toml")[0].replace("mqtts://", "mqtt://")
    fresh.write("srv/messages/worker.toml", re.sub(r"^(username|password_file) = .*$", "", config, flags=re.MULTILINE))  # no login here

    install = " && ".join(service_commands()[:2])
    lines = {"commands": commands, "listen": listen, "send": send, "publish": publish, "publish_named": publish_named}
    script = PAGES_OF_MESSAGES.format(install=install, **lines)
    answers = [json.loads(line) for line in offline(fresh, script).stdout.splitlines() if line.startswith("{")]
    assert [answer["ok"] for answer in answers] == [True, True]
    assert {each["label"] for each in answers[1]["result"]["detections"]} == {"cat"}
