"""The picture in a message: its bytes as they are, or as text, in the forms that programs publish.

* base64 (RFC 4648, also with line ends, without padding, or with the URL alphabet), as a Home Assistant camera with
  `image_encoding: b64` takes it
* a data URL (RFC 2397) with base64, as browsers and Node-RED have it
* the same after a form's decoding, which makes blanks of its "+"
* either of them as a value in JSON, under any key: `image` of mqttshot, `imagebase64` of CameraEvents, `bytes` of BerryNet
* the JSON that Node.js makes of a Buffer: {"type": "Buffer", "data": [255, 216, ...]}

A text is taken for a picture only where the bytes that it stands for begin as one. A message over the limit never comes here, and none of
these forms stands for more bytes than it has.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from edgeannot.base.errors import FrameError
from edgeannot.base.foreign import parse_json, printable
from edgeannot.vision.picture_header import begins_as_picture

__all__ = ["picture_in"]

_WANTED: Final = "wanted the bytes of a picture, or the same as base64, as a data URL, or as one of these in JSON"
_BLANKS: Final = b" \t\r\n\0"
_BOM: Final = b"\xef\xbb\xbf"
_MOST_BLANKS: Final = 64
"""Before a picture."""
_ALPHABET: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_= \t\r\n"
_LEAST_BASE64: Final = 24
"""Characters, those of the 16 bytes by which a picture is known."""
_DATA_URL: Final = re.compile(rb"data:([^,;]*)((?:;[^,;]*)*),", re.IGNORECASE)
_BUFFER: Final = re.compile(rb'\{\s*"type"\s*:\s*"Buffer"\s*,\s*"data"\s*:\s*\[([0-9,\s]*)\]\s*\}')
_LARGE_NUMBER: Final = re.compile(rb"[0-9]{4}")
_MOST_VALUES: Final = 10_000
"""In JSON, where each takes far more memory than text: a picture is one of them."""
_MOST_DEPTH: Final = 8
_NAMES: Final = ("image", "picture", "photo", "snapshot", "frame")
"""Keys by which the picture is known where JSON holds several, such as a thumbnail."""


def picture_in(payload: bytes) -> bytes:
    """Return the bytes of the picture in a message; what is no text is returned as it is, and decoding says what it is.

    Raises FrameError, not-a-picture, for a text that stands for no picture, with what was found.
    """
    if begins_as_picture(payload[:16]):
        return payload
    head = payload[:_MOST_BLANKS]
    start = len(head) - len(head.lstrip(_BLANKS + _BOM))
    if begins_as_picture(payload[start : start + 16]):
        return payload[start:]
    if _is_surely_picture(payload[1:17]):
        return payload[1:]
    text = payload.strip(_BLANKS + _BOM)
    if not text or any(byte < 0x20 and byte not in _BLANKS for byte in text[:256]) or not _is_utf8(text, 256):
        return payload
    return _of_text(text)


def _of_text(text: bytes) -> bytes:
    if text[:1] in b'{["':
        return _of_json(text)
    found = _of_encoded(text)
    if found is None:
        raise FrameError(f"the message is text that stands for no picture ({_shown(text)}); {_WANTED}", "not-a-picture")
    return found


def _of_encoded(text: bytes) -> bytes | None:
    """Return the bytes of base64 or of a data URL; None where they are no picture."""
    if text[:2] in (b"b'", b'b"') and text[-1:] == text[1:2]:  # what Python shows of bytes, which str() makes by mistake
        text = text[2:-1]
    if (url := _DATA_URL.match(text[:200])) is not None:
        if b"base64" not in url[2].lower():
            return None
        text = text[url.end() :]
    if len(text) < _LEAST_BASE64 or text[:256].translate(None, _ALPHABET):
        return None
    if not _is_known(_from_base64(text[:256])) or text.translate(None, _ALPHABET):
        return None
    return _from_base64(text)


def _from_base64(text: bytes) -> bytes:
    """Return the bytes of base64, up to the last group that is whole."""
    if b" " in text and b"+" not in text and b"-" not in text:  # the decoding of a form makes blanks of "+"
        lines = text.strip().splitlines()
        folded = all(line[:1] in _BLANKS for line in lines[1:])  # then it is no sign that one begins with a blank
        text = b"".join(line.strip(_BLANKS) if folded else line for line in lines).replace(b" ", b"+")
    plain = text.translate(bytes.maketrans(b"-_", b"+/"), b" \t\r\n=")
    plain = plain[: len(plain) - (len(plain) % 4 == 1)]
    return binascii.a2b_base64(plain + b"=" * (-len(plain) % 4))


def _of_json(text: bytes) -> bytes:
    """Return the picture in JSON."""
    buffers = _BUFFER.findall(text)
    if len(buffers) == 1 and (data := _from_numbers(buffers[0])) is not None:
        return data
    if sum(map(text.count, (b",", b":", b"[", b"{"))) > _MOST_VALUES:
        raise FrameError(f"the message is JSON of more than {_MOST_VALUES} values, which is no picture; {_WANTED}", "not-a-picture")
    value = parse_json(text, "the message", error=None)
    if value is None:
        raise FrameError(f"the message begins as JSON and is none ({_shown(text)}); {_WANTED}", "not-a-picture")
    found = {key: data for key, each in _texts(value) if (data := _of_encoded(each.encode("utf-8", "replace"))) is not None}
    named = [key for name in _NAMES for key in found if name in key.lower() and "thumb" not in key.lower()]
    if len(found) == 1 or named:
        return found[named[0]] if named else next(iter(found.values()))
    keys = ", ".join(repr(printable(key))[:40] for key in (found or (value if isinstance(value, dict) else ())))[:200]
    if found:
        raise FrameError(f"the message is JSON with {len(found)} pictures ({keys}); wanted one, or one with the key image", "not-a-picture")
    raise FrameError(f"the message is JSON without a picture{f' (its keys: {keys})' if keys else ''}; {_WANTED}", "not-a-picture")


def _texts(value: Any, key: str = "", depth: int = 0) -> Iterator[tuple[str, str]]:
    """Yield each text in JSON with its key, one in a list with the key of the list."""
    if isinstance(value, str):
        yield key, value
    elif depth < _MOST_DEPTH and isinstance(value, dict):
        for inner, each in value.items():
            yield from _texts(each, f"{key}.{inner}" if key else inner, depth + 1)
    elif depth < _MOST_DEPTH and isinstance(value, list):
        for number, each in enumerate(value):
            yield from _texts(each, f"{key}[{number}]", depth + 1)


def _from_numbers(text: bytes) -> bytes | None:
    """Return the bytes that a JSON list of numbers stands for; None where they are no picture."""
    if _LARGE_NUMBER.search(text):  # it would be taken for another one
        return None
    if not re.fullmatch(rb"\s*[0-9]{1,3}\s*(?:,\s*[0-9]{1,3}\s*)*", text[: text.find(b",", 200)] if len(text) > 200 else text):
        return None
    try:
        numbers = np.fromstring(text.decode("ascii"), dtype=np.int32, sep=",")
    except (ValueError, DeprecationWarning):
        return None
    if numbers.size == 0 or numbers.max() > 255:
        return None
    data = numbers.astype(np.uint8).tobytes()
    return data if _is_known(data[:16]) else None


def _is_surely_picture(head: bytes) -> bool:
    """Return whether bytes that have another before them are those of a picture: two letters, as of BMP, do not say so."""
    return head.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"II*\0", b"MM\0*")) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")


def _is_known(head: bytes) -> bool:
    """Return whether these are the first bytes of a picture, be it of a kind that is not read everywhere (GIF, HEIC): decoding names it."""
    return (begins_as_picture(head) and (head[:2] != b"BM" or head[6:10] == bytes(4))) or head.startswith(b"GIF8") or head[4:8] == b"ftyp"


def _is_utf8(text: bytes, most: int) -> bool:
    """Return whether the first so many bytes are UTF-8, where the last letter may be cut."""
    try:
        text[:most].decode("utf-8")
    except UnicodeDecodeError as exc:
        return len(text) > most and exc.start >= most - 3
    return True


def _shown(text: bytes) -> str:
    return repr(printable(text[:40].decode("utf-8", "replace")))
