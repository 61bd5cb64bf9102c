"""What an error says where a systemd service is in its own sandbox's way."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import pytest

from edgeannot.base.errors import ConfigError
from edgeannot.base.redaction import redacted
from edgeannot.base.systemd import (
    Notifier,
    Unit,
    clock_synced,
    credential,
    is_read_only,
    is_service,
    may_write,
    read_advice,
    unit_in,
    write_advice,
)
from edgeannot.mqtt.client import new_client
from edgeannot.mqtt.options import BrokerOptions
from edgeannot.sources import CameraOptions

SERVICE = ("NOTIFY_SOCKET", "INVOCATION_ID", "SYSTEMD_EXEC_PID", "CREDENTIALS_DIRECTORY")


@pytest.fixture(autouse=True)
def at_a_terminal(monkeypatch):
    for name in SERVICE:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def in_a_service(at_a_terminal, monkeypatch):
    monkeypatch.setenv("INVOCATION_ID", "0" * 32)


def test_no_file_is_no_credential():
    assert credential(None) is None


def test_a_bare_name_is_a_credential_where_there_is_one(tmp_path, monkeypatch):
    (tmp_path / "mqtt").write_text("secret")
    assert credential(Path("mqtt")) == Path("mqtt")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))

    assert credential(Path("mqtt")) == tmp_path / "mqtt"
    assert credential(Path("other")) == Path("other")
    assert credential(tmp_path / "mqtt") == tmp_path / "mqtt"
    assert CameraOptions(url="rtsp://h/", credentials_file="mqtt").credentials_file == tmp_path / "mqtt"


@pytest.mark.parametrize("name", ["NOTIFY_SOCKET", "INVOCATION_ID"])
def test_systemd_is_told_by_what_it_gives(monkeypatch, name):
    assert not is_service()
    monkeypatch.setenv(name, "x")

    assert is_service()
    monkeypatch.setenv("SYSTEMD_EXEC_PID", str(os.getpid()))
    assert is_service()


def test_a_command_at_the_terminal_of_a_desktop_is_no_service(monkeypatch):
    """The terminal's program is one, and all that is started in it has its variables."""
    monkeypatch.setenv("INVOCATION_ID", "x")
    monkeypatch.setenv("SYSTEMD_EXEC_PID", str(os.getppid()))

    assert not is_service()


@pytest.mark.parametrize(
    ("group", "unit", "install", "edit"),
    [
        ("", Unit(), "`sudo edgeannot service install`", "sudo systemctl edit edgeannot"),
        ("0::/system.slice/other.service\n", Unit(), "`sudo edgeannot service install`", "sudo systemctl edit edgeannot"),
        (
            "2:cpu:/\n1:name=systemd:/system.slice/system-edgeannot.slice/edgeannot@front-door.service\n",
            Unit("front-door"),
            "`sudo edgeannot service install --name front-door`",
            "sudo systemctl edit edgeannot@front-door",
        ),
        (
            "0::/user.slice/user-1000.slice/user@1000.service/app.slice/edgeannot.service\n",
            Unit(user=True),
            "`edgeannot service install --user`",
            "systemctl --user edit edgeannot",
        ),
    ],
)
def test_advice_names_the_commands_of_the_service_as_it_was_installed(group, unit, install, edit):
    assert unit_in(group) == unit
    assert (unit.install, unit.systemctl("edit")) == (install, edit)


@pytest.mark.usefixtures("in_a_service")
def test_a_service_of_a_user_reads_and_writes_what_its_user_may(tmp_path, monkeypatch):
    """No manager of a user runs here: where the kernel names its group is said in its place."""
    monkeypatch.setattr("edgeannot.base.systemd.read", lambda _: "0::/user.slice/user@1000.service/app.slice/edgeannot.service\n")

    assert read_advice("password_file", Path("mqtt"), FileNotFoundError()) == "; set password_file to its full path"
    assert read_advice("password_file", Path("/etc/mqtt"), PermissionError()) == "; let this user read it"
    assert write_advice(tmp_path) == "let this user write there, or "


def secret(tmp_path):
    """A file that only root, or its owner by changing it, may read."""
    path = tmp_path / "mqtt-password"
    path.write_text("hunter2")
    path.chmod(0)
    return path


def broker_error(**options):
    with pytest.raises(ConfigError) as caught:
        new_client(BrokerOptions(url="mqtts://localhost", **options), "x")
    return str(caught.value)


@pytest.mark.usefixtures("bound_by_permissions", "in_a_service")
def test_a_password_that_only_root_may_read_says_how_the_service_gets_it(tmp_path):
    path = secret(tmp_path)
    said = broker_error(username="porch", password_file=path)

    assert said.startswith(f"password_file {path} cannot be read (Permission denied); ")
    assert 'move it into /etc/edgeannot, set password_file = "mqtt-password", and run' in said
    assert said.endswith("run `sudo edgeannot service install` again, which passes it on")
    assert "hunter2" not in said
    assert redacted(said) == said, "the name and the place of a secret are none"


@pytest.mark.usefixtures("bound_by_permissions", "in_a_service")
@pytest.mark.parametrize("setting", ["ca_file", "key_file"])
def test_likewise_of_keys_and_certificates(tmp_path, certificates, setting):
    options = {"cert_file": certificates / "client.crt"} if setting == "key_file" else {}
    path = secret(tmp_path)
    said = broker_error(**options, **{setting: path})

    assert f'move it into /etc/edgeannot, set {setting} = "mqtt-password", and run `sudo edgeannot service install` again' in said


@pytest.mark.usefixtures("in_a_service")
def test_a_credential_that_the_unit_does_not_give_is_said():
    said = broker_error(username="porch", password_file="mqtt")

    assert (
        "the service has no credential of that name: put the file at /etc/edgeannot/mqtt and run `sudo edgeannot service install`" in said
    )
    lies_there = read_advice("password_file", Path("/etc/edgeannot/mqtt"), PermissionError())
    assert lies_there.startswith('; the service runs as a user of its own: set password_file = "mqtt", and run')


@pytest.mark.usefixtures("bound_by_permissions")
def test_without_systemd_nothing_of_it_is_named(tmp_path):
    assert broker_error(username="porch", password_file=secret(tmp_path)).endswith("(Permission denied); let this user read it")
    assert read_advice("password_file", Path("mqtt"), FileNotFoundError()) == ""


@pytest.mark.usefixtures("bound_by_permissions")
def test_whether_a_folder_may_be_written_to_is_told_of_those_that_are_not_there_yet_too(tmp_path):
    assert may_write(tmp_path)
    assert may_write(tmp_path / "a" / "b")
    (tmp_path / "file").touch()
    assert not may_write(tmp_path / "file")
    tmp_path.chmod(0o500)
    try:
        assert not may_write(tmp_path)
        assert not may_write(tmp_path / "a" / "b")
        assert not is_read_only(tmp_path)
    finally:
        tmp_path.chmod(0o700)


def test_the_advice_to_write_is_for_rights_and_mounts_only(tmp_path, monkeypatch):
    assert write_advice(tmp_path) == "let this user write there, or "
    assert write_advice(tmp_path, NotADirectoryError(20, "Not a directory")) == ""
    monkeypatch.setenv("INVOCATION_ID", "x")

    said = write_advice(tmp_path, PermissionError(13, "Permission denied"))
    assert said.startswith(
        f"let the service's user write there (`sudo setfacl -m u:edgeannot:rwx {tmp_path}`, or SupplementaryGroups= with"
    )
    assert "ReadWritePaths" not in said, "the drop-in has it, else the folder would be mounted read-only"
    assert write_advice(tmp_path / "none").startswith(f"make {tmp_path / 'none'}, let the service's user")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a file system")
def test_a_folder_that_is_mounted_read_only_is_told_from_one_without_rights(tmp_path, monkeypatch):
    """As ProtectSystem=strict mounts everything; root may not write there either."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(folder)], check=False, capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    try:
        assert (may_write(folder), is_read_only(folder), write_advice(folder)) == (False, True, "mount it for writing, or ")
        monkeypatch.setenv("INVOCATION_ID", "x")
        wanted = (
            f"run `sudo edgeannot service install` again or add ReadWritePaths={folder} to the unit "
            "(sudo systemctl edit edgeannot), and let"
        )
        assert write_advice(folder).startswith(wanted)
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_without_systemd_nothing_happens():
    notifier = Notifier({})
    notifier.send(READY="1")

    assert notifier.watchdog_s is None


def test_fields_arrive_as_lines_of_one_datagram(tmp_path):
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(address)
        systemd.settimeout(10)
        Notifier({"NOTIFY_SOCKET": address}).send(READY="1", STATUS="waiting")

        assert systemd.recv(1024) == b"READY=1\nSTATUS=waiting"


def test_a_deaf_systemd_is_no_reason_to_stop(tmp_path):
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")}).send(WATCHDOG="1")


def test_the_watchdog_counts_only_for_the_process_it_was_set_for():
    assert Notifier({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())}).watchdog_s == 3.0
    assert Notifier({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}).watchdog_s is None


def test_the_c_library_is_not_opened_anew_for_each_message(monkeypatch):
    before = clock_synced()
    monkeypatch.setattr("ctypes.CDLL", lambda *_, **__: pytest.fail("opened again"))

    assert clock_synced() is before
