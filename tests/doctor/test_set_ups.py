"""The table of broken set-ups: each is named, with what to do; healthy ones give no finding.

`pytest tests/doctor/test_set_ups.py -s` prints it. What only root can break is injected here: a full or read-only disk, a network file
system, a limit of the kernel, packages, the clock. tests/service/test_doctor.py breaks it in earnest.
"""

from __future__ import annotations

import shutil
import subprocess

import pytest

from edgeannot.doctor import CHECKS
from edgeannot.doctor.cameras import cameras
from edgeannot.doctor.connections import brokers
from edgeannot.doctor.folders import results, state, watched
from edgeannot.doctor.machine import clock, configuration, packages
from edgeannot.doctor.models import models
from edgeannot.settings import find_problems
from tests.brokers import MOSQUITTO, free_port
from tests.web import web_site


def shown(what, findings):
    """The findings that are no "ok"; printed as lines of the table."""
    wrong = [each for each in findings if each.level != "ok"]
    for each in wrong:
        print(f"| {what} | {each.code} | {each.found} | {each.advice} |")
    return wrong


def only(what, findings):
    """The one finding."""
    (one,) = shown(what, findings)
    return one


def mqtt(url, more=""):
    return f'[sinks.mqtt]\nurl = "{url}"\nconnect_timeout_s = 5\n{more}'


# The brokers


@pytest.fixture
def locked(make_broker, tmp_path):
    """A broker that lets in edge with s3cret only."""
    (tmp_path / "passwords").write_text("edge:s3cret\n")
    subprocess.run(["mosquitto_passwd", "-U", str(tmp_path / "passwords")], check=True)
    return make_broker(f"password_file {tmp_path}/passwords", anonymous=False).start()


def test_a_wrong_password(examine, locked, tmp_path):
    (tmp_path / "password").write_text("wrong\n")
    found = only("wrong password", brokers(examine(mqtt(locked.url, f'username = "edge"\npassword_file = "{tmp_path}/password"'))))

    assert (found.code, found.level) == ("broker-login", "problem")
    assert "mosquitto_passwd" in found.advice
    assert "wrong" not in found.found


def test_a_closed_port(examine):
    found = only("port closed", brokers(examine(mqtt(f"mqtt://127.0.0.1:{free_port()}"))))

    assert found.code == "broker-port"
    assert "start the broker" in found.advice


def test_an_unknown_name(examine):
    found = only("DNS name unknown", brokers(examine(mqtt("mqtt://no-such-broker.invalid"))))

    assert found.code == "broker-dns"
    assert "address in numbers" in found.advice


def tls(make_broker, certificates, name):
    return make_broker(f"certfile {certificates}/{name}.crt", f"keyfile {certificates}/{name}.key", f"cafile {certificates}/ca.crt")


@pytest.mark.parametrize(
    ("name", "code", "cure"),
    [("expired", "broker-certificate-expired", "renew it"), ("elsewhere", "broker-certificate-host", "subjectAltName")],
)
def test_a_wrong_certificate(examine, make_broker, certificates, name, code, cure):
    broker = tls(make_broker, certificates, name).start()
    found = only(f"certificate: {name}", brokers(examine(mqtt(f"mqtts://localhost:{broker.port}", f'ca_file = "{certificates}/ca.crt"'))))

    assert found.code == code
    assert cure in found.advice


def test_a_certificate_of_an_unknown_authority(examine, make_broker, certificates):
    broker = tls(make_broker, certificates, "server").start()
    found = only("authority unknown", brokers(examine(mqtt(f"mqtts://localhost:{broker.port}", f'ca_file = "{certificates}/other.crt"'))))

    assert found.code == "broker-certificate-untrusted"
    assert "ca_file" in found.advice


def test_a_missing_file_of_authorities(examine):
    found = only("CA file missing", brokers(examine(mqtt("mqtts://localhost", 'ca_file = "/nonexistent/ca.crt"'))))

    assert found.code == "broker-ca-file"
    assert "/nonexistent/ca.crt" in found.found


@pytest.mark.parametrize("limit", ["max_packet_size 20000", "message_size_limit 20000"])
def test_a_limit_below_the_size_of_a_picture(examine, make_broker, limit):
    broker = make_broker(limit).start()
    found = only("packet limit", brokers(examine(mqtt(broker.url, "images = true"))))

    assert found.code == "broker-packet-limit"
    assert "max_packet_size" in found.advice


# Cameras


def device(tmp_path):
    """A path that counts as a device's, with a plain file behind it."""
    (tmp_path / "video0").touch()
    return tmp_path / "video0", f'[sources.front]\nkind = "camera"\nurl = "/dev/..{tmp_path}/video0"\n'


@pytest.mark.usefixtures("bound_by_permissions")
def test_a_user_who_is_not_in_the_group_of_the_camera(examine, tmp_path):
    path, text = device(tmp_path)
    path.chmod(0)
    found = only("user not in video", cameras(examine(text)))

    assert found.code == "camera-group"
    assert "usermod -aG" in found.advice
    assert "SupplementaryGroups=" in found.advice


def test_a_camera_in_use(examine, tmp_path):
    """The device is another one, as there are no cameras here; the program that has it open is real."""
    (tmp_path / "video0").symlink_to("/dev/full")
    text = f'[sources.front]\nkind = "camera"\nurl = "/dev/..{tmp_path}/video0"\n'
    command = ["sh", "-c", "exec 3>/dev/full; echo open; read line"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"open\n"
        found = only("camera busy", cameras(examine(text)))
        holder.stdin.close()

    assert found.code == "camera-busy"
    assert f"sh (process {holder.pid})" in found.found
    assert "serves one program" in found.advice


def test_a_camera_that_is_gone(examine):
    found = only("camera gone", cameras(examine('[sources.front]\nkind = "camera"\nurl = "/dev/video97"\n')))

    assert found.code == "camera-gone"
    assert "/dev/v4l/by-id" in found.advice


def test_an_address_at_which_a_camera_has_nothing(examine):
    with web_site() as site:
        url = f"http://127.0.0.1:{site.port}/snapshot"
        found = only("path of a camera", cameras(examine(f'[sources.front]\nkind = "camera"\nurl = "{url}"\n')))

    assert (found.code, found.found, found.advice) == ("camera-no-frame", f"{url} answers 404 Not Found", "check the address")


# Folders


def folder(path, more=""):
    path.mkdir(exist_ok=True)
    return f'[sources.inbox]\nkind = "directory"\npath = "{path}"\n{more}'


@pytest.mark.usefixtures("bound_by_permissions")
def test_a_watched_folder_that_may_not_be_read(examine, tmp_path):
    text = folder(tmp_path / "in")
    (tmp_path / "in").chmod(0)
    found = only("watched folder unreadable", watched(examine(text)))
    (tmp_path / "in").chmod(0o700)

    assert found.code == "watched-unreadable"
    assert f"chmod o+rx {tmp_path}/in" in found.advice


def machine(tmp_path, **files):
    for name, text in files.items():
        path = tmp_path / "root" / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "root"


def test_a_watched_folder_on_a_network_file_system(examine, tmp_path):
    text = folder(tmp_path / "in")
    mounts = f"1 0 0:1 / / rw - ext4 /dev/sda1 rw\n2 1 0:9 / {tmp_path}/in rw shared:1 - nfs4 nas:/pictures rw\n"
    found = only("network file system", watched(examine(text, root=machine(tmp_path, proc__self__mountinfo=mounts))))

    assert (found.code, found.level) == ("watched-network", "warning")
    assert "rescan_s" in found.advice


def test_an_output_folder_that_is_read_only(examine, tmp_path):
    text = f'out_dir = "{tmp_path}/out"\n[sinks.jsonl]\nenabled = true\n'
    found = only("output read-only", results(examine(text, read_only=lambda _: True)))

    assert found.code == "results-read-only"
    assert "remount,rw" in found.advice


def test_a_full_disk(examine):
    found = only("disk full", state(examine(free_bytes=lambda _: 0)))

    assert found.code == "state-full"
    assert "larger disk" in found.advice


def test_a_limit_of_watches(examine, tmp_path):
    text = folder(tmp_path / "in")
    for number in range(5):
        (tmp_path / "in" / str(number)).mkdir()
    found = only("inotify limit", watched(examine(text, root=machine(tmp_path, proc__sys__fs__inotify__max_user_watches="3\n"))))

    assert found.code == "inotify-limit"
    assert "sysctl -w fs.inotify.max_user_watches=8192" in found.advice


# Configuration, software, models, clock


@pytest.mark.parametrize(
    ("what", "text", "said"),
    [
        ("unknown key", "min_scor = 0.5", "did you mean min_score?"),
        ("wrong type", 'threads = "2"', "wanted a whole number, found '2'"),
    ],
)
def test_a_wrong_configuration(examine, tmp_path, what, text, said):
    path = tmp_path / "wrong.toml"
    path.write_text(text)
    examined = examine()
    found = only(what, configuration(type(examined)(None, path)))

    assert found.code == "configuration-wrong"
    assert said in found.found
    assert "line 1" in found.found
    assert [said in str(problem) for problem in find_problems({}, path)] == [True]


def test_numpy_2_beside_tflite_runtime(examine):
    there = {"tflite-runtime": "2.14.0", "numpy": "2.1.0"}
    found = only("numpy 2", packages(examine(version_of=lambda name: there.get(name, "" if name == "ai-edge-litert" else "1.0"))))

    assert found.code == "runtime-numpy"
    assert "numpy<2" in found.advice


def test_a_model_that_was_damaged(examine, tmp_path, models_dir):
    own = tmp_path / "data" / "models"
    own.mkdir(parents=True)
    for path in models_dir.glob("nanodet-g*"):
        shutil.copy(path, own)
    weights = next(own.glob("*.tflite"))
    data = bytearray(weights.read_bytes())
    data[len(data) // 2] ^= 0xFF
    weights.write_bytes(data)

    first = next(iter(models(examine())))
    only("model damaged", [first])

    assert (first.code, first.level) == ("model-file", "problem")
    assert "models pull" in first.advice


def test_a_clock_in_1970(examine):
    found = only("clock in 1970", clock(examine(now=lambda: 3600.0)))

    assert found.code == "clock-wrong"
    assert "timedatectl set-ntp true" in found.advice


# Healthy ones

LOOKED_AT = ("configuration", "python", "packages", "libc", "state", "results", "watched", "cameras", "brokers")
"""The rest is this machine's own: its clock, heat and processor."""


def all_of(examined):
    return shown("healthy", [finding for check in CHECKS if check.name in LOOKED_AT for finding in check.run(examined)])


def video(path):
    import cv2
    import numpy as np

    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 5, (64, 48))
    for value in (0, 90, 180):
        writer.write(np.full((48, 64, 3), value, np.uint8))
    writer.release()
    return f'[sources.film]\nkind = "camera"\nurl = "{path}"\n'


def test_nothing_configured_is_healthy(examine):
    assert all_of(examine()) == []


def test_a_folder_with_results_is_healthy(examine, tmp_path):
    text = (
        folder(tmp_path / "in", 'after = "delete"\n')
        + f'[sinks.jsonl]\nenabled = true\nfile = "{tmp_path}/results/all.jsonl"\nmin_free_mb = 0\n'
    )
    assert all_of(examine(text, root=machine(tmp_path))) == []  # other tests may have this machine's watches


def test_a_video_file_is_healthy(examine, tmp_path):
    assert all_of(examine(video(tmp_path / "film.avi"))) == []


def test_a_broker_with_pictures_is_healthy(examine, broker):
    assert all_of(examine(mqtt(broker.url, "images = true"))) == []


@pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")
def test_a_broker_with_tls_and_login_is_healthy(examine, make_broker, certificates, locked, tmp_path):
    broker = make_broker(
        f"certfile {certificates}/server.crt", f"keyfile {certificates}/server.key", f"password_file {tmp_path}/passwords", anonymous=False
    ).start()
    (tmp_path / "password").write_text("s3cret\n")
    login = f'ca_file = "{certificates}/ca.crt"\nusername = "edge"\npassword_file = "{tmp_path}/password"\n'

    assert [
        each for each in all_of(examine(mqtt(f"mqtts://localhost:{broker.port}", login))) if each.code != "broker-certificate-ends"
    ] == []
