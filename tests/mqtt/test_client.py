"""How a broker is named in the settings, and what is refused there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from edgeannot.base.errors import ConfigError, LinkError
from edgeannot.mqtt.client import is_topic, new_client, publish_all
from edgeannot.mqtt.options import Address, BrokerOptions
from edgeannot.storage.store import Message


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
        ({"url": "mqtt://broker?tls=true"}, "found \\? or #"),
        ({"url": "mqtt://broker:port"}, "wanted a port from 1 to 65535, found something else"),
        ({"url": "mqtt://user:secret#1@broker"}, "found \\? or #"),
        ({"url": "mqtt://user:1/secret@broker"}, "a path is for ws"),
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


def test_a_bare_name_is_a_systemd_credential_where_there_is_one(tmp_path, monkeypatch):
    """LoadCredential=mqtt:/etc/edgeannot/mqtt puts it into a folder of the service alone."""
    (tmp_path / "mqtt").write_text("secret\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    options = BrokerOptions(username="u", password_file="mqtt")

    assert options.password_file == tmp_path / "mqtt"
    assert new_client(options, "id").password == "secret"
    assert BrokerOptions(username="u", password_file="other").password_file == Path("other")
    assert BrokerOptions(username="u", password_file="./a/mqtt").password_file == Path("a/mqtt")
    monkeypatch.delenv("CREDENTIALS_DIRECTORY")
    assert BrokerOptions(username="u", password_file="mqtt").password_file == Path("mqtt")


@pytest.mark.parametrize("name", ["a", "a/b", "ä/€"])
def test_topics_that_can_be_published_to(name):
    assert is_topic(name)


@pytest.mark.parametrize("name", ["", "a/+", "#", "a\0b", "x" * 65536, "\udce9"])
def test_topics_that_cannot(name):
    assert not is_topic(name)


def test_a_file_that_holds_no_certificate_is_a_configuration_error(tmp_path):
    (tmp_path / "ca.crt").write_text("not a certificate")

    with pytest.raises(ConfigError, match="PEM"):
        new_client(BrokerOptions(url="mqtts://b", ca_file=tmp_path / "ca.crt"), "id")


def test_reading_the_options_loads_neither_opencv_nor_paho():
    code = "import sys, edgeannot.sinks; print(sorted({'cv2', 'paho', 'ssl', 'tflite_runtime', 'ai_edge_litert'} & sys.modules.keys()))"

    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert found.stdout.strip() == "[]"


def test_messages_are_given_back_in_order_as_the_broker_takes_them(broker, make_subscriber):
    subscriber = make_subscriber(broker, "camera/#")
    messages = [Message("camera/1", b"%d" % number, content_type="image/jpeg") for number in range(50)]

    sent = list(publish_all(BrokerOptions(url=broker.url), "sender", messages, window=4))

    assert sent == messages
    subscriber.wait_for(lambda s: s.payloads("camera/1") == [message.payload for message in messages], "all of them")


def test_a_broker_that_is_away_or_refuses_ends_the_sending_with_its_meaning(make_broker):
    away, closed = make_broker(), make_broker(anonymous=False).start()

    with pytest.raises(LinkError, match="no connection to"):
        list(publish_all(BrokerOptions(url=away.url), "sender", [Message("t", b"")]))
    with pytest.raises(LinkError, match="not authorised"):
        list(publish_all(BrokerOptions(url=closed.url), "sender", [Message("t", b"")]))


def test_a_message_that_is_refused_ends_the_sending(make_broker, tmp_path):
    (tmp_path / "acl").write_text("topic write open\n")
    broker = make_broker(f"acl_file {tmp_path}/acl").start()
    sending = publish_all(BrokerOptions(url=broker.url), "sender", [Message("open", b""), Message("shut", b"")], window=1)

    assert next(sending).topic == "open"
    with pytest.raises(LinkError, match="does not let us write there"):
        next(sending)
