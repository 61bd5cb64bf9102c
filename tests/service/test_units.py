"""The texts of the units and of the drop-in; `make service-test` runs them in a real systemd."""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest

from edgeannot.service.install import Place, drop_in, instance_unit, secret_files, system_unit, uninstall, user_unit
from edgeannot.settings import load_settings
from tests.patience import DEADLINE_S

needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not here")


def settings_of(tmp_path, text):
    path = tmp_path / "edgeannot.toml"
    path.write_text(f'data_dir = "/var/lib/edgeannot"\n{text}')
    return load_settings({}, path, grade=lambda: ("low", "")).settings


def dropped_in(tmp_path, text, **given):
    return drop_in(settings_of(tmp_path, text), **{"config": None, "profile": None, "command": "/bin/true", "config_set": False, **given})


def test_nothing_configured_needs_no_more_rights(tmp_path):
    assert settings_of(tmp_path, "").written_folders() == []
    assert [line for line in dropped_in(tmp_path, "").splitlines() if not line.startswith("#")] == ["[Service]"]


FOLDERS = """
[sources.inbox]
kind = "directory"
path = "/srv/my pictures"
after = "move"
after_folder = "/mnt/done"
[sources.other]
kind = "directory"
path = "/mnt/done/more"
quarantine = "leave"
[sinks.jsonl]
enabled = true
file = "/srv/results/all.jsonl"
[sinks.images]
enabled = true
"""


def test_the_folders_that_are_written_to_are_allowed_and_their_mounts_waited_for(tmp_path):
    lines = dropped_in(tmp_path, FOLDERS).splitlines()

    assert [line for line in lines if line.startswith("ReadWritePaths=")] == [
        "ReadWritePaths=-/srv/results",
        'ReadWritePaths=-"/srv/my pictures"',
        "ReadWritePaths=-/mnt/done",
    ]
    assert "RequiresMountsFor=/mnt/done/more" in lines


def test_bare_names_of_secrets_are_credentials(tmp_path):
    text = """
[sources.front]
kind = "camera"
url = "rtsp://cam"
credentials_file = "camera-login"
[sinks.mqtt]
url = "mqtts://h"
username = "u"
password_file = "mqtt-password"
ca_file = "/etc/ssl/ca.crt"
[page]
token_file = "page-token"
"""
    assert secret_files(settings_of(tmp_path, text)) == ["camera-login", "mqtt-password", "page-token"]


def test_what_is_asked_for_on_the_command_line_is_in_the_drop_in(tmp_path):
    lines = dropped_in(tmp_path, "", config=tmp_path / "x.toml", config_set=True, profile="low").splitlines()

    assert "Environment=EDGEANNOT_PROFILE=low" in lines
    assert lines[-3:-1] == ["ExecStart=", f"ExecStart=/bin/true run --config {tmp_path}/x.toml"]


def analyze(*args):
    return subprocess.run(["systemd-analyze", *args], capture_output=True, text=True, timeout=DEADLINE_S, check=False)


@needs_systemd
@pytest.mark.parametrize(("name", "make"), [("edgeannot", system_unit), ("edgeannot@", instance_unit), ("edgeannot", user_unit)])
def test_systemd_has_nothing_to_say_against_the_units(tmp_path, name, make):
    """`verify` exits with 0 for unknown keys and bad values; only what it prints shows them."""
    unit = tmp_path / f"{name}.service"
    unit.write_text(make("/bin/true"))
    shown = analyze("verify", str(unit))

    assert shown.stderr.strip() == ""


@needs_systemd
def test_the_sandbox_leaves_little_open_with_cameras_and_folders(tmp_path):
    unit = tmp_path / "edgeannot.service"
    unit.write_text(
        system_unit("/bin/true").replace("\n[Install]", f"\n{dropped_in(tmp_path, FOLDERS).partition('[Service]')[2]}\n[Install]")
    )
    done = analyze("security", "--offline=true", "--threshold=20", "--json=short", str(unit))

    assert done.returncode == 0, [row["name"] for row in json.loads(done.stdout) if row.get("exposure")]


def test_an_instance_has_its_own_state_and_configuration():
    text = instance_unit("/bin/true")

    assert "\nStateDirectory=edgeannot-%i\n" in text
    assert "\nExecStart=/bin/true run --config /etc/edgeannot/%i.toml\n" in text


def test_a_users_unit_asks_for_nothing_that_only_root_can_give():
    text = user_unit("/bin/true")

    for key in ("User=", "PrivateUsers=", "CapabilityBoundingSet=", "DevicePolicy="):
        assert f"\n{key}" not in text
    assert "\nWantedBy=default.target\n" in text
    assert "\nWatchdogSec=60\n" in text


def test_the_files_of_a_place(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))

    assert str(Place(name="barn").drop_in_file) == "/etc/systemd/system/edgeannot@barn.service.d/50-edgeannot.conf"
    assert Place(user=True).unit_file == tmp_path / "systemd/user/edgeannot.service"


def test_without_systemd_the_files_are_removed_all_the_same(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    place = Place(user=True)
    for file in (place.unit_file, place.drop_in_file):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()

    uninstall(place)

    assert not place.unit_file.exists()
    assert not place.drop_in_file.parent.exists()
