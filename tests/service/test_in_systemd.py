"""The service in a real systemd, booted in a container: `make service-test` (as root, with systemd-container and mmdebstrap)."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.brokers import free_port, wait_until
from tests.patience import DEADLINE_S
from tests.surroundings import asked

ROOT = Path(__file__).resolve().parents[2]
BASE = asked("SERVICE_ROOT") or ""

pytestmark = [
    pytest.mark.service,
    pytest.mark.skipif(not BASE or not Path(BASE).is_dir(), reason="there is no root file system: `make service-test` makes it"),
    pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="the packages of this environment are lent to Debian's Python 3.11"),
]
UNIT = "edgeannot.service"
PORT = free_port()
CONFIG = f"""
device = "box"
profile = "low"
model = "nanodet-g"
[sources.inbox]
kind = "directory"
path = "/mnt/pictures"
after = "delete"
[sinks.mqtt]
url = "mqtt://127.0.0.1:{PORT}"
username = "edge"
password_file = "mqtt-password"
[sinks.jsonl]
enabled = true
min_free_mb = 0
"""


class Container:
    """A booted Debian, and what is done in it."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        subprocess.run(["cp", "-a", BASE, str(self.root)], check=True)
        site = next(Path(sys.prefix).glob("lib/python3*/site-packages"))
        (self.root / "usr/lib/python3/dist-packages/edgeannot.pth").write_text("/opt/src\n/opt/src/tools\n/opt/site\n")
        self.write("opt/edgeannot/bin/edgeannot", "#!/usr/bin/python3\nfrom edgeannot.cli.start import main\nmain()\n", 0o755)
        for name in ("opt/src", "opt/site", "mnt/pictures"):
            (self.root / name).mkdir(parents=True, exist_ok=True)
        self.write(
            "etc/mosquitto/mosquitto.conf", f"listener {PORT} 127.0.0.1\nallow_anonymous false\npassword_file /etc/mosquitto/users\n"
        )
        words = ["-q", "-b", "-D", str(self.root), "--register=no", "--keep-unit", "--kill-signal=SIGRTMIN+3", "--console=pipe"]
        binds = [f"--bind-ro={ROOT}:/opt/src", f"--bind-ro={site}:/opt/site"]
        with (folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                ["systemd-nspawn", *words, *binds], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self.leader = 0
        wait_until(self._booted, f"the container to boot; its log: {folder}/log")

    def _booted(self) -> bool:
        assert self.process.poll() is None, "systemd-nspawn ended"
        if not self.leader:
            found = subprocess.run(["pgrep", "-P", str(self.process.pid), "-x", "systemd"], capture_output=True, text=True, check=False)
            self.leader = int(found.stdout.split()[0]) if found.stdout.split() else 0
            return False
        return self.run("systemctl", "is-system-running", check=False).stdout.strip() in {"running", "degraded"}

    def run(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        command = ["nsenter", "-t", str(self.leader), "-a", *words]
        env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "HOME": "/root"}
        done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False, env=env)
        assert not check or done.returncode == 0, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def edgeannot(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.run("/opt/edgeannot/bin/edgeannot", *words, check=check)

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        place = self.root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
        place.chmod(mode)

    def shown(self, key: str, unit: str = UNIT) -> str:
        return self.run("systemctl", "show", "--value", "-p", key, unit).stdout.strip()

    def journal(self, unit: str = UNIT) -> str:
        return self.run("journalctl", "--no-pager", "-o", "cat", "-u", unit).stdout

    def wait(self, key: str, value: str, unit: str = UNIT) -> None:
        wait_until(lambda: self.shown(key, unit) == value, f"{unit}: {key}={value}", pace_s=0.3)

    def end(self) -> None:
        self.process.send_signal(signal.SIGRTMIN + 3)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()


@pytest.fixture(scope="module")
def box():
    with tempfile.TemporaryDirectory(prefix="edgeannot-box-") as folder:  # not one of pytest's, which keeps the last three
        made = Container(Path(folder))
        yield made
        made.end()


@pytest.fixture(scope="module")
def installed(box):
    """The service as README has it installed, with a broker that wants a password."""
    box.run("mosquitto_passwd", "-c", "-b", "/etc/mosquitto/users", "edge", "s3cret")
    box.run("chown", "mosquitto", "/etc/mosquitto/users")
    box.run("systemctl", "restart", "mosquitto")
    box.write("etc/edgeannot/edgeannot.toml", CONFIG)
    box.write("etc/edgeannot/mqtt-password", "s3cret\n", 0o600)
    box.edgeannot("service", "install", "--no-start")
    box.run("chown", "edgeannot", "/mnt/pictures")
    print(box.edgeannot("service", "install").stdout)
    return box


def heard(box, picture):
    """The message after a picture was dropped into the folder. The retained status shows that the subscription is made."""
    words = ["mosquitto_sub", "-h", "127.0.0.1", "-p", str(PORT), "-u", "edge", "-P", "s3cret"]
    topics = ["-t", "edgeannot/+/+/detections", "-t", "edgeannot/+/status"]
    command = ["nsenter", "-t", str(box.leader), "-a", *words, *topics, "-W", str(round(DEADLINE_S))]
    dropped = False
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as listener:
        for line in listener.stdout:
            message = json.loads(line)
            if "detections" in message and message["image"]["path"] == picture:
                listener.terminate()
                return message
            if not dropped:
                dropped = True
                hidden = box.root / f"mnt/pictures/.{picture}"
                shutil.copy(ROOT / "edgeannot/samples/astronaut.jpg", hidden)
                hidden.chmod(0o644)
                hidden.rename(box.root / f"mnt/pictures/{picture}")
    raise AssertionError(f"no message of {picture}: {box.journal()}")


def test_it_is_ready_and_a_picture_yields_a_message_and_is_deleted(installed):
    assert (installed.shown("ActiveState"), installed.shown("User")) == ("active", "edgeannot")
    assert heard(installed, "a.jpg")["image"]["path"] == "a.jpg"
    wait_until(lambda: not (installed.root / "mnt/pictures/a.jpg").exists(), "the picture to be deleted")


def test_the_secret_is_a_credential_that_only_root_may_read(installed):
    assert "LoadCredential=mqtt-password:/etc/edgeannot/mqtt-password" in installed.run("systemctl", "cat", UNIT).stdout
    assert installed.run("runuser", "-u", "edgeannot", "--", "cat", "/etc/edgeannot/mqtt-password", check=False).returncode != 0


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

    assert (installed.shown("MainPID"), installed.shown("ActiveState")) == (pid, "active")
    assert heard(installed, "b.jpg")["device"] == "box"


def test_a_good_configuration_takes_over_in_the_same_process(installed):
    pid = installed.shown("MainPID")
    installed.write("etc/edgeannot/edgeannot.toml", CONFIG.replace('"box"', '"crate"'))
    installed.run("systemctl", "reload", UNIT)
    wait_until(lambda: "starting over with it" in installed.journal(), "the journal to say so", pace_s=0.3)

    assert heard(installed, "c.jpg")["device"] == "crate"
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
