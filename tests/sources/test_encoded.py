"""Pictures that are text: the forms that programs publish, and texts that are none."""

from __future__ import annotations

import base64
import json

import cv2
import numpy as np
import pytest

from edgeannot.base.errors import FrameError
from edgeannot.sources.encoded import picture_in


def picture(kind, side=24):
    image = np.random.default_rng(5).integers(0, 255, (side, side, 3)).astype(np.uint8)
    return cv2.imencode(f".{kind}", image)[1].tobytes()


JPEG, PNG = picture("jpg"), picture("png")
B64 = base64.b64encode(JPEG).decode()


@pytest.mark.parametrize("payload", [b"", b"\0", b"\xff", b"\0\1\2 no text"])
def test_what_is_no_text_is_left_to_decoding(payload):
    assert picture_in(payload) is payload


@pytest.mark.parametrize("kind", ["jpg", "png", "webp", "bmp", "tiff"])
def test_the_bytes_of_a_picture_are_taken_as_they_are(kind):
    data = picture(kind)

    assert picture_in(data) is data


@pytest.mark.parametrize("before", [b"\n", b"\r\n", b"\0", b"\xef\xbb\xbf", b" \t\n" * 5, b"\x01", b"x", b"\xff"])
def test_a_stray_byte_or_blanks_before_a_picture_are_passed_over(before):
    assert picture_in(before + JPEG) == JPEG


def test_more_than_one_byte_before_a_picture_is_not_guessed_at():
    assert picture_in(b"\1\2" + JPEG) == b"\1\2" + JPEG
    with pytest.raises(FrameError, match=r"text that stands for no picture \('xBM"):
        picture_in(b"xBM is a text")


PUBLISHED = {
    # https://www.home-assistant.io/integrations/camera.mqtt: image_encoding: b64
    "base64, as a Home Assistant MQTT camera takes it": B64,
    # `mosquitto_pub -m "$(base64 photo.jpg)"`: lines of 76 characters
    "base64 of coreutils": base64.encodebytes(JPEG).decode(),
    # https://github.com/AliBigdeli/RealTime-MQTT-Camera, ESP32-Client/camera_ctrl.ino
    "an ESP32-CAM's data URL": f"data:image/jpeg;base64,{B64}",
    # https://gist.github.com/wwj718/95add9a9306cbdbe01ed02a5a869e15d
    "a data URL of a PNG": f"data:image/png;base64,{base64.b64encode(PNG).decode()}",
    # https://github.com/mqtt-tools/mqttshot
    "mqttshot": json.dumps({"text": "The car is on fire!", "image": B64, "alert": True}),
    # https://github.com/psyciknz/CameraEvents, issue 11
    "CameraEvents of Dahua cameras": json.dumps({"message": "IVS: Dahua3: CrossRegionDetection", "imagebase64": B64}),
    # https://github.com/DT42/BerryNet, the payload of berrynet/data/rgbimage
    "BerryNet": json.dumps({"timestamp": "2020-11-03T10:20:30.123456", "bytes": B64, "meta": {}}),
    # https://github.com/toanduc0671/NhanDangAnh, Baocao3/pub.py
    "a script with the key img": json.dumps({"img": base64.b64encode(PNG).decode(), "text": "a plate"}, indent=2),
    # https://nodejs.org/api/buffer.html#buftojson, what Node-RED publishes of a payload that holds a Buffer
    "a Buffer of Node.js": json.dumps({"type": "Buffer", "data": list(JPEG)}, separators=(",", ":")),
    "a Buffer inside": json.dumps({"camera": "door", "image": {"type": "Buffer", "data": list(JPEG)}}),
    "a message of Node-RED": json.dumps({"_msgid": "c1", "topic": "cam", "payload": f"data:image/jpeg;base64,{B64}"}),
    "with the encoding beside it": json.dumps({"data": B64, "encoding": "base64"}),
    "JSON that is one text": json.dumps(B64),
    "what Python shows of bytes": str(base64.b64encode(JPEG)),
    "without padding, with the URL alphabet": base64.urlsafe_b64encode(JPEG).decode().rstrip("="),
    "deep in it": json.dumps({"event": {"frames": [{"data": B64}]}}),
    "beside a thumbnail": json.dumps({"thumbnail_image": base64.b64encode(PNG).decode(), "image": B64}),
    "behind a byte order mark": "\ufeff" + json.dumps({"image": B64}) + "\n",
}


@pytest.mark.parametrize("form", PUBLISHED)
def test_published_forms_are_read(form):
    found = picture_in(PUBLISHED[form].encode())

    assert found.startswith((JPEG, PNG))
    assert cv2.imdecode(np.frombuffer(found, np.uint8), cv2.IMREAD_COLOR) is not None


@pytest.mark.parametrize(
    ("payload", "found"),
    [
        (b"online", r"text that stands for no picture \('online'\)"),
        (b"21.5", r"'21.5'"),
        (b"QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVo=", "text that stands for no picture"),
        (b"data:text/plain;base64,SGVsbG8gd29ybGQhIEhlbGxvIHdvcmxkIQ==", "text that stands for no picture"),
        (b"data:image/svg+xml,%3Csvg%3E", "text that stands for no picture"),
        (b'{"temperature": 21.5, "humidity": 40}', r"JSON without a picture \(its keys: 'temperature', 'humidity'\)"),
        (b"[]", "JSON without a picture; wanted"),
        (b'{"image": null}', r"JSON without a picture \(its keys: 'image'\)"),
        (b'{"image": "https://camera/snap.jpg"}', "JSON without a picture"),
        (b'{"image": ', "begins as JSON and is none"),
        (b"[" * 20_000, "JSON of more than 10000 values"),
        (b"[" * 9_000, "begins as JSON and is none"),
        (b'{"a":' * 9 + b"{}" + b"}" * 9, "JSON without a picture"),
        (json.dumps({"left": B64, "right": B64}).encode(), r"JSON with 2 pictures \('left', 'right'\); wanted one"),
        (json.dumps({"type": "Buffer", "data": [255, 216, 999]}).encode(), "JSON without a picture"),
        (b'{"type":"Buffer","data":[' + b"255,216,255,224," * 40 + b"9" * 50 + b"]}", "JSON without a picture"),
        (json.dumps({"type": "Buffer", "data": [1] * 20_000}).encode(), "JSON of more than 10000 values"),
        (b'{"type":"Buffer","data":[,,' + b"9" * 5000 + b"]}", "begins as JSON and is none"),
        (b'"' + b"A" * 5000 + b'"', "JSON without a picture"),
        (B64.encode() + b"!", "text that stands for no picture"),
    ],
)
def test_a_text_that_stands_for_no_picture_is_refused_with_what_was_found(payload, found):
    with pytest.raises(FrameError, match=found) as caught:
        picture_in(payload)

    assert caught.value.reason == "not-a-picture"
    assert len(str(caught.value)) < 500


LARGE = picture("jpg", 60)
PLUS = base64.b64encode(LARGE).decode()
"""With some "+" in it."""


@pytest.mark.parametrize("form", ["{}", " {}", "data:image/jpeg;base64,{}", "data:image/jpeg;base64, {}", '{{"image": "{}"}}'])
def test_base64_whose_plus_signs_became_blanks_is_read(form):
    """As a form's decoding makes them (application/x-www-form-urlencoded)."""
    assert PLUS.count("+") > 5
    assert picture_in(form.format(PLUS.replace("+", " ")).encode()) == LARGE


@pytest.mark.parametrize("between", ["\n ", "\r\n  ", " ", "\t"])
def test_blanks_between_the_lines_of_base64_mean_nothing(between):
    lines = [PLUS[i : i + 76] for i in range(0, len(PLUS), 76)]

    assert picture_in(between.join(lines).encode()) == LARGE


def test_lines_whose_plus_signs_became_blanks_are_read():
    lines = base64.encodebytes(LARGE).decode().replace("+", " ")

    assert picture_in(lines.encode()) == LARGE


def test_a_picture_of_another_kind_is_handed_on_to_be_named():
    gif = b"GIF89a" + bytes(40)

    assert picture_in(base64.b64encode(gif)) == gif


def test_the_decoded_picture_is_never_larger_than_its_message():
    for form in PUBLISHED.values():
        assert len(picture_in(form.encode())) < len(form.encode())
