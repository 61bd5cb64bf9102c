"""The Debian package in a fresh root file system without a network: `make deb-test` builds it, and runs these."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.patience import DEADLINE_S
from tests.surroundings import asked

BASE, FOLDER = asked("SERVICE_ROOT") or "", asked("DEB") or ""

pytestmark = [
    pytest.mark.service,
    pytest.mark.skipif(not BASE or not FOLDER, reason="there is no package or no root file system: `make deb-test` makes both"),
]


@pytest.fixture(scope="module")
def root():
    with tempfile.TemporaryDirectory(prefix="edgeannot-deb-") as folder:
        subprocess.run(["cp", "-a", f"{BASE}/.", folder], check=True)
        for name in ("old", "new"):
            (package,) = Path(FOLDER, name).glob("*.deb")
            subprocess.run(["cp", str(package), f"{folder}/root/{name}.deb"], check=True)
        yield Path(folder)


def run(root, *words, check=True):
    command = ["unshare", "--net", "chroot", str(root), *words]
    env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LANG": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False, env=env)
    assert not check or done.returncode == 0, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def test_it_is_installed_without_a_network_and_annotates_a_picture(root):
    run(root, "dpkg", "-i", "/root/old.deb")

    photo = "/opt/edgeannot/lib/edgeannot/samples/astronaut.jpg"
    assert "person" in run(root, "edgeannot", "run", photo, "--model", "nanodet-g").stdout
    assert (root / "etc/systemd/system/multi-user.target.wants/edgeannot.service").is_symlink()
    assert "nothing wrong" in run(root, "edgeannot", "config", "check").stdout
    assert "edgeannot" in (root / "etc/passwd").read_text()


def test_an_upgrade_keeps_configuration_and_state_and_a_downgrade_does_too(root):
    config, state = root / "etc/edgeannot/edgeannot.toml", root / "var/lib/edgeannot/state.sqlite"
    config.write_text(config.read_text() + 'profile = "low"\n')
    state.parent.mkdir(parents=True, exist_ok=True)
    state.write_text("undelivered")

    for package in ("new", "old"):
        run(root, "dpkg", "-i", f"/root/{package}.deb")
        assert config.read_text().endswith('profile = "low"\n')
        assert state.read_text() == "undelivered"


def test_removing_keeps_them_and_purging_leaves_nothing(root):
    run(root, "dpkg", "-r", "edgeannot")
    assert (root / "var/lib/edgeannot/state.sqlite").exists()
    assert not (root / "etc/systemd/system/edgeannot.service").exists()

    run(root, "dpkg", "-P", "edgeannot")
    for left in ("var/lib/edgeannot", "etc/edgeannot", "opt/edgeannot", "usr/bin/edgeannot"):
        assert not (root / left).exists(), left
    assert "edgeannot" not in (root / "etc/passwd").read_text()
