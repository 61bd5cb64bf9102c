"""A V4L2 device that is unplugged and plugged in again, in a virtual machine with the kernel's test driver vivid: `make camera-test`.

No container can load vivid: the machine is QEMU's, emulated, so that it runs where there is no KVM. vivid has uncompressed formats only.
tests/sources/test_camera.py shows with a fake that a device which has MJPG gives it.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.patience import DEADLINE_S
from tests.surroundings import asked

HERE, REPOSITORY = Path(__file__).resolve().parent, Path(__file__).resolve().parents[2]
BASE = asked("CAMERA_ROOT") or ""

UNIT = """
[Unit]
After=systemd-udevd.service
[Service]
Type=oneshot
Environment=PYTHONPATH=/opt/site
ExecStart=/usr/bin/python3 /opt/in_machine.py
ExecStopPost=/usr/bin/systemctl poweroff --force --force
StandardOutput=file:/dev/ttyS0
StandardError=file:/dev/ttyS0
[Install]
WantedBy=multi-user.target
"""

pytestmark = [
    pytest.mark.camera,
    pytest.mark.skipif(not BASE or not Path(BASE).is_dir(), reason="there is no system for the machine: `make camera-test` makes it"),
]


@pytest.fixture(scope="module")
def facts(tmp_path_factory):
    """What the machine told, by name, in order."""
    root, folder = Path(BASE), tmp_path_factory.mktemp("machine")
    site = root / "opt/site"
    shutil.rmtree(site / "edgeannot", ignore_errors=True)
    shutil.copytree(REPOSITORY / "edgeannot", site / "edgeannot", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(HERE / "in_machine.py", root / "opt/in_machine.py")
    (root / "etc/systemd/system/camera-test.service").write_text(UNIT)
    for words in (("enable", "camera-test.service"), ("mask", "serial-getty@ttyS0.service")):
        subprocess.run(["systemctl", f"--root={root}", *words], check=True, capture_output=True)
    disk = folder / "disk.ext4"
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", str(root), "-L", "root", str(disk), "3000M"], check=True)
    kernel, initrd = (next(root.glob(f"boot/{name}-*")) for name in ("vmlinuz", "initrd.img"))
    done = subprocess.run(
        [
            "qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "1024", "-nographic", "-nic", "none",
            "-no-reboot", "-kernel", str(kernel), "-initrd", str(initrd), "-append",
            "root=/dev/vda rw console=ttyS0 panic=-1 quiet no_timer_check",
            "-drive", f"file={disk},if=virtio,format=raw", "-snapshot",
        ],
        stdin=subprocess.DEVNULL, capture_output=True, timeout=3 * DEADLINE_S, check=False,
    )  # fmt: skip
    disk.unlink()
    text = done.stdout.decode("utf-8", "replace")
    print(text)
    lines = [line[line.index("FACT ") + 5 :].strip() for line in text.splitlines() if "FACT {" in line]
    found: dict[str, list[dict]] = {}
    for fact in map(json.loads, lines):
        found.setdefault(fact.pop("name"), []).append(fact)
    assert "done" in found, text[-3000:]
    return found


def test_a_device_is_found_by_its_name_whatever_its_number_is(facts):
    (device,), (again,) = facts["device"], facts["plugged in"]

    assert (device["device"], again["device"]) == ("/dev/video3", "/dev/video7")
    assert again["shape"] == [360, 640, 3]


def test_opencv_reads_nothing_for_ever_at_once_where_the_device_is_gone(facts):
    """What the source is built for: no error and no wait, so that who reads on is busy for nothing."""
    (unplugged,), (opened,) = facts["bare unplugged"], facts["bare open"]

    assert opened == {"opened": True, "fine": True}
    assert not any(fine for fine, _ in unplugged["reads"])


def test_the_format_that_was_asked_for_is_given_and_told(facts):
    said = [fact["line"] for fact in facts["log"]]

    assert [fact["shape"] for fact in facts["frame"]] == [[180, 320, 3], [360, 640, 3]]
    assert any("gives 320x180 YUYV at 10/s" in line for line in said), said


def test_a_device_without_mjpg_is_used_with_what_it_has(facts):
    assert "MJPG" not in facts["device"][0]["formats"]
    assert facts["frame"][1]["shape"] == [360, 640, 3]


def test_a_device_that_is_unplugged_is_told_and_used_again_when_it_is_back(facts):
    (unplugged,), (away,) = facts["unplugged"], facts["away"]

    assert "usb-Test_Vivid-video-index0 gives no more frames" in unplugged["trouble"]
    assert "usb-Test_Vivid-video-index0" in away["trouble"]
    assert facts["plugged in"]
