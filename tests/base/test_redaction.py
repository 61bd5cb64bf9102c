"""Secrets in what is printed: by how they are written, and by having been read."""

from __future__ import annotations

import pytest

from edgeannot.base import redaction
from edgeannot.base.redaction import learn, learn_secret, redacted


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch):
    monkeypatch.setattr(redaction._Known, "secrets", frozenset())
    monkeypatch.setattr(redaction._Known, "pattern", None)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no secret in it",
        "rtsp://cam.local:554/stream?channel=1",
        "rtsp://cam.local:554: connection refused",
        "rtsp://[fe80::1]:554/x",
        "mqtt://localhost",
        "Broker, e.g. mqtt://localhost or mqtts://user@host:8883.",
        "wanted mqtt://[user@]host[:port] (ws:// and wss:// may have a path), found ? or # in it",
        "model yolov3-tiny@320: wanted 320, found 416",
        "https://host/models/yolov3-tiny@320.tflite",
        'password_file = "/etc/edgeannot/mqtt"',
        "sinks.mqtt.password: unknown setting; did you mean password_file?",
        'File "/x/y.py", line 3, in <module>\n    @app.command()',
        '{"schema": 1, "detections": [{"label": "cat", "score": 0.5}]}',
    ],
)
def test_what_is_no_secret_stays_as_it_is(text):
    assert redacted(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("rtsp://bob:hunter2@h", "rtsp://***@h"),
        ("rtsp://hunter2@h/x", "rtsp://***@h/x"),
        ("rtsp:/bob:hunter2@h", "rtsp:/***@h"),
        ("rtsp//bob:hunter2@h/x", "rtsp//***@h/x"),
        ("rtsp:bob:hunter2@h", "***@h"),
        ("bob:hunter2@h", "***@h"),
        ("url=bob:hunter2@h", "url=***@h"),
        ("--camera=rtsp:/bob:hunter2@h", "--camera=rtsp:/***@h"),
        ("rtsp://bob:hun/ter2#?hunter2@h/x", "rtsp://***@h/x"),
        ("rtsp://bob:hunter2", "rtsp://bob:***"),
        ("rtsp://bob:12hunter2/x", "rtsp://bob:***/x"),
        ("['rtsp://bob:hunter2@h', 'http://bob:hunter2@i']", "['rtsp://***@h', 'http://***@i']"),
        ('{"url": "rtsp://bob:hunter2@h"', '{"url": "rtsp://***@h"'),
        ("rtsp://cam/x?user=bob&pwd=hunter2&channel=1", "rtsp://cam/x?user=***&pwd=***&channel=1"),
        ("http://cam/x?api_key=hunter2#top", "http://cam/x?api_key=***#top"),
        ("password=hunter2", "password=***"),
        ('password = "hunter2"\nport = 1', 'password = "***"\nport = 1'),
        ("pwd: 'hun\"ter2'", "pwd: '***'"),
        ('{"password": "hun\\"ter2", "port": 1}', '{"password": "***", "port": 1}'),
        ("{'token': 'hunter2'}", "{'token': '***'}"),
        ('"{\\"password\\": \\"hunter2\\"}"', '"{\\"password\\": \\"***\\"}"'),
    ],
)
def test_a_secret_is_told_by_how_it_is_written(text, shown):
    assert redacted(text) == shown
    assert redacted(shown) == shown


def test_what_was_read_is_hidden_however_it_is_printed():
    learn_secret("hun ter'2\"ü/\n")

    for text in ("hun ter'2\"ü/", repr("hun ter'2\"ü/"), "hun%20ter%272%22%C3%BC%2F", r"hun ter'2\"\u00fc/"):
        assert "ter" not in redacted(f"cannot open {text} here"), text


def test_the_password_of_a_setting_is_known_with_blanks_and_quotes_in_it():
    learn([{"sources": {"door": {"url": "rtsp://bob:hun 'ter2@h"}, "list": ["x:/bob:second 'one@h"]}}, 3, None])

    assert redacted("hun 'ter2 and second 'one") == "*** and ***"


def test_a_short_secret_is_not_replaced_inside_of_words():
    learn_secret("edge")
    learn_secret("abc")

    assert redacted("edgeannot: edge of abc") == "edgeannot: *** of abc"


def test_a_text_that_is_made_to_be_slow_is_not():
    """Twice the text takes about twice the time; where looking is quadratic, this does not end within the time limit."""
    for text in ("@" + "a" * 10**6, "a" * 10**6 + "@", "?" * 10**6 + "=", "password='" * 10**5, ":/" * 10**6 + "@", "?key" * 10**5 + "="):
        redacted(text)


def test_a_secret_parameter_of_an_address_is_hidden_where_a_server_repeats_it():
    learn(["http://cam/capture?user=admin&password=hunter2&channel=main%20stream&api_key=abc%2Fdef"])

    assert redacted("answers 500 no hunter2 for admin on main stream") == "answers 500 no *** for admin on main stream"
    assert redacted("abc/def or abc%2Fdef") == "*** or ***"
