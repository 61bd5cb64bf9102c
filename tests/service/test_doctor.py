"""Set-ups that are really broken: `edgeannot doctor` names each with the cure. `make service-test` breaks them in a booted Debian.

tests/doctor/test_set_ups.py has the whole table, where some of these are injected, as they need root. A camera that another program has
open is another character device, as there are no cameras.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from tests.brokers import wait_until
from tests.faults.test_clock import LIBRARIES
from tests.patience import DEADLINE_S
from tests.service.container import ROOT, booted, needs_container, needs_python_311

pytestmark = pytest.mark.service
DOCTOR = ("/opt/edgeannot/bin/edgeannot", "doctor", "--json")
SOUND = """
profile = "low"
model = "nanodet-g"
[sources.inbox]
kind = "directory"
path = "/mnt/pictures"
[sinks.mqtt]
enabled = false
"""


@pytest.fixture(scope="module")
def box():
    with booted() as made:
        made.write("etc/edgeannot/edgeannot.toml", SOUND)
        made.edgeannot("service", "install", "--no-start")
        yield made


@needs_container
@needs_python_311
def test_nothing_is_wrong_before_the_first_start(box):
    """Neither with the state folder, which systemd makes, nor with what differs from host to host."""
    found = wrong(box.run(*DOCTOR, check=False))

    assert [each for each in found.values() if each["level"] == "problem"] == []


def wrong(done):
    """What is not well, by its code."""
    assert done.stdout, done.stderr
    found = {each["code"]: each for each in json.loads(done.stdout) if each["level"] != "ok"}
    for each in found.values():
        print(f"| {each['checked']} | {each['code']} | {each['found']} | {each['advice']} |")
    return found


def told(box, config, *before):
    box.write("etc/edgeannot/edgeannot.toml", config)
    return wrong(box.run(*before, *DOCTOR, check=False))


@needs_container
@needs_python_311
def test_disks_folders_and_devices(box):
    for line in (
        "mkdir /mnt/full /mnt/ro /mnt/shut && chmod 700 /mnt/shut",
        "mount -t tmpfs -o size=100k,mode=777 tmpfs /mnt/full",
        "cat /dev/zero > /mnt/full/zeros || test -s /mnt/full/zeros",
        "mount -t tmpfs -o ro tmpfs /mnt/ro",
        "ln -s full /dev/video7",
        "systemd-run --unit=holder sh -c 'exec 3>/dev/full; echo held; exec sleep infinity'",
    ):
        box.run("sh", "-c", line)
    wait_until(lambda: "held" in box.journal("holder"), "the device to be in use", pace_s=0.3)
    found = told(
        box,
        f'data_dir = "/mnt/full"\n{SOUND}[sinks.jsonl]\nenabled = true\nfile = "/mnt/ro/all.jsonl"\n'
        '[sources.shut]\nkind = "directory"\npath = "/mnt/shut"\n'
        '[sources.front]\nkind = "camera"\nurl = "/dev/video7"\n[sources.gone]\nkind = "camera"\nurl = "/dev/video97"\n',
    )

    assert "larger disk" in found["state-full"]["advice"]
    assert "remount,rw" in found["results-read-only"]["advice"]
    assert "chmod o+rx /mnt/shut" in found["watched-unreadable"]["advice"]
    assert "is in use by sleep (process " in found["camera-busy"]["found"]
    assert "/dev/v4l/by-id" in found["camera-gone"]["advice"]


@needs_container
@needs_python_311
def test_a_folder_of_another_machine(box):
    """By SSH, as file systems in the kernel such as NFS need a module."""
    if not (box.root / "usr/bin/sshfs").exists():
        pytest.skip("the root file system is older than this test: remove .cache/service-root")
    box.write("etc/systemd/system/sftp.socket", "[Socket]\nListenStream=127.0.0.1:2000\nAccept=yes\n")
    program = "ExecStart=/usr/lib/openssh/sftp-server\nStandardInput=socket\nStandardOutput=socket\n"
    box.write("etc/systemd/system/sftp@.service", f"[Service]\n{program}")
    box.run("systemctl", "daemon-reload")
    box.run("systemctl", "start", "sftp.socket")
    box.run("sh", "-c", "mkdir /srv/nas /mnt/nas && { test -e /dev/fuse || mknod /dev/fuse c 10 229; }")
    box.run("sshfs", "-o", "directport=2000,allow_other", "127.0.0.1:/srv/nas", "/mnt/nas")
    found = told(box, SOUND.replace("/mnt/pictures", "/mnt/nas"))

    assert "on a network file system (fuse.sshfs)" in found["watched-network"]["found"]
    assert "rescan_s" in found["watched-network"]["advice"]


@needs_container
@needs_python_311
@pytest.mark.skipif(not LIBRARIES, reason="libfaketime is not installed (Debian package faketime)")
def test_a_clock_in_1970(box):
    """Only this finding is looked at: sleeping fails now and then under libfaketime, which then breaks another check."""
    shutil.copy(LIBRARIES[0], box.root / "opt/faketime.so")
    faked = ("LD_PRELOAD=/opt/faketime.so", "FAKETIME=@1970-01-02 00:00:00", "DONT_FAKE_MONOTONIC=1", "FAKETIME_DONT_FAKE_MONOTONIC=1")
    found = told(box, SOUND, "env", *faked)

    assert "1970-01-02" in found["clock-wrong"]["found"]
    assert "timedatectl set-ntp true" in found["clock-wrong"]["advice"]


@needs_container
@needs_python_311
@pytest.mark.skipif(int(np.__version__.partition(".")[0]) < 2, reason="this environment has numpy 1")
def test_numpy_2_beside_tflite_runtime(box):
    """Both real: the older runtime is lent from the second environment."""
    site = ROOT / ".venv-tflite/lib/python3.11/site-packages"
    if not site.is_dir():
        pytest.skip("tflite-runtime is not here: `make env-tflite` has it")
    for folder in site.glob("tflite_runtime*"):
        shutil.copytree(folder, box.root / "opt/older" / folder.name)
    found = told(box, SOUND, "env", "PYTHONPATH=/opt/older", "EDGEANNOT_RUNTIME=tflite-runtime")

    assert f"numpy {np.__version__} is installed" in found["runtime-numpy"]["found"]
    assert "numpy<2" in found["runtime-numpy"]["advice"]
    assert "mend the runtime" in found["models-untried"]["advice"]
    assert "model-run" not in found


def test_watches_that_are_used_up(tmp_path):
    """In a user namespace of its own, whose limit is nobody else's."""
    (tmp_path / "in").mkdir()
    config = tmp_path / "edgeannot.toml"
    config.write_text(SOUND.replace("/mnt/pictures", f"{tmp_path}/in"))
    alone = ["unshare", "--user", "--map-root-user", "sh", "-c", 'echo 0 > /proc/sys/user/max_inotify_watches && exec "$@"', "sh"]
    if subprocess.run([*alone, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no user namespace with limits of its own can be made here")
    command = [*alone, sys.executable, "-m", "edgeannot", "doctor", "--json", "--config", str(config)]
    found = wrong(subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False))

    assert "gives this user no watch" in found["inotify-limit"]["found"]
    assert "sysctl -w fs.inotify.max_user_watches=" in found["inotify-limit"]["advice"]
