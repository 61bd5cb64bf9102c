"""The Debian packages of Arm on emulated processors: probe, a picture, a message. `make arm` makes packages and root file systems.

Only what a processor computes is looked at; times mean nothing here.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.brokers import Broker, Subscriber
from tests.patience import DEADLINE_S
from tests.surroundings import asked

FOLDER = asked("ARM") or ""
BINFMT = Path("/proc/sys/fs/binfmt_misc")
LIBRARIES = "/usr/lib/arm-linux-gnueabihf"
MACHINES = {
    # Debian's name -> the emulator, the machine in an ELF header (elf(5), e_ident to e_machine), a processor, and the runtime for it
    "arm64": ("qemu-aarch64", b"\x02\x01\x01" + bytes(9) + b"\x02\x00\xb7\x00", "cortex-a72", "litert"),
    "armhf": ("qemu-arm", b"\x01\x01\x01" + bytes(9) + b"\x02\x00\x28\x00", "cortex-a7", "tflite-runtime"),
}

pytestmark = [
    pytest.mark.service,
    pytest.mark.skipif(not FOLDER or not Path(FOLDER).is_dir(), reason="there is no root file system: `make arm` makes it"),
]


@pytest.fixture(scope="module", params=MACHINES)
def board(request, tmp_path_factory):
    """A root file system with the package in it, which the kernel runs through the emulator."""
    emulator, magic, _, _ = MACHINES[request.param]
    program = shutil.which(emulator) or shutil.which(f"{emulator}-static")
    if program is None:
        pytest.skip(f"{emulator} is not here")
    root = tmp_path_factory.mktemp("board") / "root"
    subprocess.run(["cp", "-a", f"{FOLDER}/{request.param}", str(root)], check=True)
    (package,) = Path(FOLDER).glob(f"*_{request.param}.deb")
    subprocess.run(["dpkg-deb", "-x", str(package), str(root)], check=True)
    head = "".join(f"\\x{byte:02x}" for byte in b"\x7fELF" + magic)
    mask = "".join(f"\\x{byte:02x}" for byte in b"\xff" * 7 + bytes([0]) + b"\xff" * 8 + b"\xfe\xff\xff\xff")
    entry = f"edgeannot-{request.param}"
    with ExitStack() as undone:
        undone.callback(shutil.rmtree, root, ignore_errors=True)
        wanted = {root / "proc": "proc", root / "sys": "sysfs"}
        if not BINFMT.joinpath("register").exists():
            wanted[BINFMT] = "binfmt_misc"
        for place, kind in wanted.items():
            place.mkdir(exist_ok=True)
            subprocess.run(["mount", "-t", kind, *(["-o", "ro"] if kind == "sysfs" else []), kind, str(place)], check=True)
            undone.callback(subprocess.run, ["umount", str(place)], check=True)
        BINFMT.joinpath("register").write_text(f":{entry}:M::{head}:{mask}:{program}:F")
        undone.callback(BINFMT.joinpath(entry).write_text, "-1")
        yield request.param, root


def edgeannot(board, *words):
    arch, root = board
    env = {"PATH": "/usr/sbin:/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": "/root", "QEMU_CPU": MACHINES[arch][2]}
    if arch == "armhf":
        env["LD_LIBRARY_PATH"] = ":".join(f"{LIBRARIES}/{name}" for name in ("openblas-pthread", "blas", "lapack"))
    command = ["chroot", str(root), "/opt/edgeannot/bin/edgeannot", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False, env=env)
    print(done.stdout, done.stderr)
    return done


PHOTO = "/opt/edgeannot/lib/edgeannot/samples/astronaut.jpg"


def test_the_board_is_read(board):
    probed = edgeannot(board, "probe", "--json", "--no-measure")

    assert probed.returncode == 0
    read = json.loads(probed.stdout)["board"]
    assert (read["processor"]["family"], read["python"]["bits"]) == ("arm", 64 if board[0] == "arm64" else 32)
    assert read["runtime"]["name"] == MACHINES[board[0]][3]


def test_a_picture_is_annotated(board):
    assert "person" in edgeannot(board, "run", PHOTO, "--model", "nanodet-g@224", "--profile", "low").stdout


def test_a_picture_yields_a_message(board, tmp_path):
    _, root = board
    (root / "srv/inbox").mkdir(parents=True, exist_ok=True)
    shutil.copy(root / PHOTO[1:], root / "srv/inbox/a.jpg")
    broker = Broker(tmp_path).start()
    subscriber = Subscriber(broker, "edgeannot/+/+/detections")
    try:
        done = edgeannot(
            board, "run", "--watch", "/srv/inbox", "--once", "--mqtt", broker.url, "--model", "nanodet-g@224", "--profile", "low"
        )
        subscriber.wait_for(lambda one: one.payloads(), "a message")
    finally:
        subscriber.close()
        broker.stop()

    assert done.returncode == 0
    message = json.loads(subscriber.payloads()[0])
    assert message["image"]["path"] == "a.jpg"
    assert "person" in {each["label"] for each in message["detections"]}
