"""The service in a real systemd, booted in a container: `make service-test` (as root, with systemd-container and mmdebstrap)."""

from __future__ import annotations

import pytest

from tests.brokers import wait_until
from tests.service.container import UNIT, booted, needs_container, needs_python_311

pytestmark = [pytest.mark.service, needs_container, needs_python_311]
LOGIN = ("-u", "edge", "-P", "s3cret")
CONFIG = """
device = "box"
profile = "low"
model = "nanodet-g"
[sources.inbox]
kind = "directory"
path = "/mnt/pictures"
after = "delete"
[sinks.mqtt]
url = "mqtt://127.0.0.1"
username = "edge"
password_file = "mqtt-password"
[sinks.jsonl]
enabled = true
min_free_mb = 0
"""


@pytest.fixture(scope="module")
def installed():
    """The service as the documents have it installed, with a broker that wants a password."""
    with booted() as box:
        box.write("etc/mosquitto/mosquitto.conf", "listener 1883 127.0.0.1\nallow_anonymous false\npassword_file /etc/mosquitto/users\n")
        box.run("mosquitto_passwd", "-c", "-b", "/etc/mosquitto/users", "edge", "s3cret")
        box.run("chown", "mosquitto", "/etc/mosquitto/users")
        box.run("systemctl", "restart", "mosquitto")
        box.write("etc/edgeannot/edgeannot.toml", CONFIG)
        box.write("etc/edgeannot/mqtt-password", "s3cret\n", 0o600)
        box.edgeannot("service", "install", "--no-start")
        box.run("chown", "edgeannot", "/mnt/pictures")
        print(box.edgeannot("service", "install").stdout)
        yield box


def seconds(box, since, until):
    """Between two moments of the service, as systemd has them in microseconds."""
    return (int(box.shown(until)) - int(box.shown(since))) / 1e6


def test_it_is_ready_and_a_picture_yields_a_message_and_is_deleted(installed):
    assert (installed.shown("ActiveState"), installed.shown("User")) == ("active", "edgeannot")
    print(f"ready {seconds(installed, 'ExecMainStartTimestampMonotonic', 'ActiveEnterTimestampMonotonic'):.2f} s after the start")
    assert installed.heard("a.jpg", *LOGIN)["image"]["path"] == "a.jpg"
    wait_until(lambda: not (installed.root / "mnt/pictures/a.jpg").exists(), "the picture to be deleted")


def test_the_secret_is_a_credential_that_only_root_may_read(installed):
    assert "LoadCredential=mqtt-password:/etc/edgeannot/mqtt-password" in installed.run("systemctl", "cat", UNIT).stdout
    assert installed.run("runuser", "-u", "edgeannot", "--", "cat", "/etc/edgeannot/mqtt-password", check=False).returncode != 0


@pytest.mark.parametrize("state", ["active", "stopped"])
def test_doctor_finds_nothing_wrong_with_it(installed, state):
    """As root, with the service's own state folder, user and credential."""
    if state == "stopped":
        installed.run("systemctl", "stop", UNIT)
    told = installed.edgeannot("doctor", check=False)
    installed.run("systemctl", "start", UNIT)

    assert "WRONG" not in told.stdout, told.stdout
    assert told.returncode == 0
    assert "/var/lib/edgeannot can be written" in told.stdout


def test_members_of_the_group_may_read_the_results(installed):
    installed.run("useradd", "--groups", "edgeannot", "reader")
    installed.run("useradd", "stranger")
    file = "/var/lib/edgeannot/out/annotations.jsonl"
    wait_until((installed.root / file[1:]).exists, "results")

    assert installed.run("runuser", "-u", "reader", "--", "cat", file).stdout.count("\n") >= 1
    assert installed.run("runuser", "-u", "stranger", "--", "cat", file, check=False).returncode != 0


def test_the_exposure_is_small(installed):
    shown = installed.run("systemd-analyze", "security", "--no-pager", "--threshold=20", UNIT).stdout
    print(shown.splitlines()[-1])


def test_a_wrong_configuration_is_named_and_the_old_one_stays(installed):
    pid = installed.shown("MainPID")
    installed.write("etc/edgeannot/edgeannot.toml", CONFIG.replace("profile", "profil"))
    installed.run("systemctl", "reload", UNIT)
    wait_until(lambda: "the old one stays in force: profil: unknown setting" in installed.journal(), "the journal to say so", pace_s=0.3)

    assert "stays in force: profil: unknown setting" in installed.edgeannot("service", "status").stdout
    assert '"unit-reload"' in installed.edgeannot("doctor", "--json", check=False).stdout
    assert (installed.shown("MainPID"), installed.shown("ActiveState")) == (pid, "active")
    assert installed.heard("b.jpg", *LOGIN)["device"] == "box"


def test_a_good_configuration_takes_over_in_the_same_process(installed):
    pid = installed.shown("MainPID")
    installed.write("etc/edgeannot/edgeannot.toml", CONFIG.replace('"box"', '"crate"'))
    installed.run("systemctl", "reload", UNIT)
    wait_until(lambda: "starting over with it" in installed.journal(), "the journal to say so", pace_s=0.3)

    assert installed.heard("c.jpg", *LOGIN)["device"] == "crate"
    assert (installed.shown("MainPID"), installed.shown("ActiveState"), installed.shown("NRestarts")) == (pid, "active", "0")


def test_a_service_that_hangs_is_restarted_by_the_watchdog(installed):
    installed.write(f"etc/systemd/system/{UNIT}.d/60-test.conf", "[Service]\nWatchdogSec=4\nRestartSec=1\n")
    installed.run("systemctl", "daemon-reload")
    installed.run("systemctl", "restart", UNIT)
    pid = installed.shown("MainPID")
    installed.run("sh", "-c", f"kill -STOP {pid}")
    wait_until(lambda: installed.shown("NRestarts") != "0", "the restart", pace_s=0.3)
    installed.wait("ActiveState", "active")

    assert installed.shown("MainPID") != pid
    assert "Watchdog timeout" in installed.journal()


def test_it_stops_in_order_within_five_seconds(installed):
    installed.write(f"etc/systemd/system/{UNIT}.d/70-test.conf", "[Service]\nTimeoutStopSec=5\n")
    installed.run("systemctl", "daemon-reload")
    installed.run("systemctl", "stop", UNIT)

    assert (installed.shown("Result"), installed.shown("ExecMainStatus")) == ("success", "0")  # else it was killed after 5 s
    print(f"stopped in {seconds(installed, 'ActiveExitTimestampMonotonic', 'InactiveEnterTimestampMonotonic'):.2f} s")


def test_a_wrong_configuration_at_the_start_is_not_tried_again(installed):
    installed.write("etc/edgeannot/edgeannot.toml", CONFIG.replace("profile", "profil"))
    installed.run("systemctl", "start", UNIT, check=False)
    installed.wait("ActiveState", "failed")

    assert (installed.shown("ExecMainStatus"), installed.shown("NRestarts")) == ("78", "0")
    told = installed.edgeannot("doctor", check=False)
    assert told.returncode == 1
    assert "profil: unknown setting; did you mean profile?" in told.stdout
    assert "failed (exit-code, exit code 78" in told.stdout
    installed.write("etc/edgeannot/edgeannot.toml", CONFIG)


def test_a_folder_in_a_home_that_is_shut_is_named_with_advice(installed):
    installed.run("mkdir", "-p", "/home/anna/pictures")
    installed.run("chmod", "750", "/home/anna")
    path = "/home/anna/pictures"
    installed.write("etc/edgeannot/edgeannot.toml", CONFIG.replace("/mnt/pictures", path))

    told = installed.edgeannot("doctor", check=False).stdout
    assert "the service's user edgeannot may not read /home/anna" in told
    assert "setfacl" in told
    installed.write("etc/edgeannot/edgeannot.toml", CONFIG)


def test_two_instances_run_side_by_side(installed):
    for name in ("barn", "gate"):
        installed.write(f"etc/edgeannot/{name}.toml", CONFIG.replace('"box"', f'"{name}"').replace("/mnt/pictures", f"/mnt/{name}"))
        (installed.root / f"mnt/{name}").mkdir()
        installed.run("chown", "edgeannot", f"/mnt/{name}")
        installed.edgeannot("service", "install", "--name", name)
    for name in ("barn", "gate"):
        assert installed.shown("ActiveState", f"edgeannot@{name}.service") == "active"
        assert (installed.root / f"var/lib/edgeannot-{name}/state.sqlite").exists()
    text = (installed.root / "etc/edgeannot/barn.toml").read_text()
    installed.write("etc/edgeannot/barn.toml", text.replace('"mqtt-password"', '"barn-password"'))
    installed.run("systemctl", "reload", "edgeannot@barn")
    wait_until(lambda: "service install --name barn" in installed.shown("StatusText", "edgeannot@barn.service"), "the advice")
    told = installed.run("/opt/edgeannot/bin/edgeannot", "doctor", "--config", "/etc/edgeannot/barn.toml", check=False).stdout
    assert "-> correct it, then `sudo systemctl reload edgeannot@barn`" in told
    installed.edgeannot("service", "uninstall", "--name", "barn", "--purge")
    assert installed.shown("ActiveState", "edgeannot@gate.service") == "active"
    assert not (installed.root / "var/lib/edgeannot-barn").exists()


def test_it_is_removed_and_the_state_stays(installed):
    installed.edgeannot("service", "install")
    assert installed.edgeannot("service", "status").returncode == 0
    assert "nanodet-g" in installed.edgeannot("service", "logs").stdout
    installed.edgeannot("service", "uninstall")

    assert installed.shown("LoadState") == "not-found"
    assert (installed.root / "var/lib/edgeannot/state.sqlite").exists()
