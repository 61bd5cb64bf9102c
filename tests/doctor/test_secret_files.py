"""The files of passwords, tokens and keys: root judges with the eyes of the service's user, another user leaves them to root."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from edgeannot.doctor import run_checks
from edgeannot.doctor.cameras import cameras
from edgeannot.doctor.connections import brokers, ports
from edgeannot.doctor.findings import Check, Who
from edgeannot.doctor.folders import secrets

NOBODY = Who("the service's user edgeannot", 65534, 65534)
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can look with the eyes of another user")


@pytest.fixture
def password():
    """A file of root's alone, in a folder that everybody may enter."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        file = Path(folder) / "mqtt-password"
        file.write_text("s3cret\n")
        file.chmod(0o600)
        yield file


def login(url, file):
    return f'[sinks.mqtt]\nurl = "{url}"\nusername = "edge"\npassword_file = "{file}"\n'


def test_where_no_file_is_named_nothing_is_said(examine):
    assert list(secrets(examine(who=NOBODY))) == []


@as_root
def test_a_password_that_the_service_may_not_read_is_named_with_what_to_do(examine, password):
    (found,) = secrets(examine(login("mqtt://localhost", password), who=NOBODY))

    assert (found.code, found.level) == ("secret-unreadable", "problem")
    assert found.found == f"the service's user edgeannot may not read {password} (sinks.mqtt.password_file)"
    assert 'set sinks.mqtt.password_file to its bare name, "mqtt-password"' in found.advice
    assert "sudo edgeannot service install" in found.advice

    password.chmod(0o644)
    assert [each.level for each in secrets(examine(login("mqtt://localhost", password), who=NOBODY))] == ["ok"]


@as_root
def test_so_are_those_of_headers_but_not_of_what_is_switched_off(examine, password):
    hook = f'[sinks.webhook]\nenabled = ENABLED\nurl = "http://h/"\nheader_files = {{ Authorization = "{password}" }}\n'
    (found,) = secrets(examine(hook.replace("ENABLED", "true"), who=NOBODY))

    assert "(sinks.webhook.header_files.Authorization)" in found.found
    assert list(secrets(examine(hook.replace("ENABLED", "false"), who=NOBODY))) == []


@as_root
def test_a_credential_is_handed_over_by_systemd(examine, password, monkeypatch):
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(password.parent))

    assert [each.level for each in secrets(examine(login("mqtt://localhost", "mqtt-password"), who=NOBODY))] == ["ok"]


def test_without_root_a_credential_of_the_service_is_no_problem(examine, broker):
    def found(text, check, installed=True):
        (one,) = [each for each in check(examine(text, installed=installed)) if "port" not in each.code]
        return one

    for text, check in (
        (login(broker.url, "mqtt-password"), brokers),
        ('[sources.front]\nkind = "camera"\nurl = "rtsp://127.0.0.1:1/"\ncredentials_file = "camera-login"\n', cameras),
        ('[page]\nenabled = true\nport = 0\ntoken_file = "page-token"\n', ports),
    ):
        told = found(text, check)
        assert (told.level, told.advice) == ("ok", "")
        assert "cannot be checked without root: `sudo edgeannot doctor`" in told.found
        assert found(text, check, installed=False).level == "problem"


@pytest.mark.usefixtures("bound_by_permissions")
def test_nor_is_a_file_that_this_user_may_not_read_where_the_service_is_installed(examine, broker, password):
    password.chmod(0)
    text = login(broker.url, password)
    (installed,) = brokers(examine(text, installed=True))
    (alone,) = run_checks(examine(text), [Check("brokers", brokers, 60)])

    assert "cannot be checked without root" in installed.found
    assert (alone.level, alone.advice) == ("problem", "let this user read it")


def test_root_is_told_where_a_missing_credential_comes_from(examine, broker):
    (found,) = brokers(examine(login(broker.url, "mqtt-password"), who=NOBODY, installed=True))

    assert found.level == "problem"
    assert "put it at /etc/edgeannot/mqtt-password and run `sudo edgeannot service install`" in found.advice
