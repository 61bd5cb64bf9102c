"""How a broker is named in the settings, and what is refused there."""

from __future__ import annotations

import subprocess
import sys

import pytest
from pydantic import ValidationError

from edgeannot.broker import Address, BrokerOptions, new_client, redact
from edgeannot.errors import ConfigError


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("mqtt://broker", "mqtt://broker:1883"),
        ("broker:1884", "mqtt://broker:1884"),
        ("mqtts://broker/", "mqtts://broker:8883"),
        ("ws://broker", "ws://broker:80/mqtt"),
        ("wss://broker:444/path", "wss://broker:444/path"),
        ("mqtt://[::1]:1883", "mqtt://[::1]:1883"),
        ("mqtt://user@broker", "mqtt://broker:1883"),
    ],
)
def test_urls_name_a_broker(url, shown):
    assert str(Address.parse(url)) == shown


def test_a_user_may_stand_in_the_url():
    assert BrokerOptions(url="mqtt://my%20self@broker").address.username == "my self"


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"url": "http://broker"}, "wanted mqtt://"),
        ({"url": "mqtt://"}, "wanted a host"),
        ({"url": "mqtt://broker/topic"}, "a path is for ws"),
        ({"url": "mqtt://broker:port"}, "ort"),
        ({"url": "mqtt://user:secret@broker"}, "password_file"),
        ({"ca_file": "/ca.crt"}, "wanted a URL that begins with mqtts"),
        ({"url": "mqtts://b", "cert_file": "/c"}, "both or neither"),
        ({"password_file": "/p"}, "needs a username"),
        ({"url": "mqtt://a@b", "username": "c"}, "wanted one"),
        ({"protocol": "4"}, "'5' or '3.1.1'"),
        ({"hostname": "b"}, "Extra inputs"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings, reason):
    with pytest.raises(ValidationError, match=reason) as caught:
        BrokerOptions(**settings)
    assert "secret" not in str(caught.value)


def test_a_password_is_not_shown():
    assert redact("mqtt://user:secret@broker:1883") == "mqtt://user:***@broker:1883"
    assert redact("mqtt://broker") == "mqtt://broker"


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"url": "mqtts://b", "ca_file": "gone.crt"}, "ca_file gone.crt"),
        ({"url": "mqtts://b", "cert_file": "gone.crt", "key_file": "gone.key"}, "cert_file gone.crt"),
        ({"username": "u", "password_file": "gone"}, "password_file gone"),
    ],
)
def test_a_missing_file_is_a_configuration_error_that_names_it(settings, named, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    with pytest.raises(ConfigError, match=named):
        new_client(BrokerOptions(**settings), "id")


def test_a_file_that_holds_no_certificate_is_a_configuration_error(tmp_path):
    (tmp_path / "ca.crt").write_text("not a certificate")

    with pytest.raises(ConfigError, match="PEM"):
        new_client(BrokerOptions(url="mqtts://b", ca_file=tmp_path / "ca.crt"), "id")


def test_reading_the_options_loads_neither_opencv_nor_paho():
    code = "import sys, edgeannot.sinks; print(sorted({'cv2', 'paho', 'ssl', 'tflite_runtime', 'ai_edge_litert'} & sys.modules.keys()))"

    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert found.stdout.strip() == "[]"
