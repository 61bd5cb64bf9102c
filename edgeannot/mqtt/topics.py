"""The topics of a device, and names as levels of them. No I/O."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from edgeannot.base.errors import ConfigError
from edgeannot.base.foreign import os_bytes

__all__ = ["Topics", "escape_level", "reply_trouble", "unescape_level"]

_MAX_LEVEL_BYTES: Final = 1024
# MQTT 5.0, 1.5.4 and 4.7: the separator, the wildcards and NUL never pass; control and non-characters should not; "%" is the
# mark itself; "$" opens the broker's own topics; lone surrogates stand for bytes of a file name that is not UTF-8.
_UNSAFE: Final = re.compile("[/+#%$\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")


@dataclass(frozen=True, slots=True)
class Topics:
    """The topic tree of one device, with names escaped."""

    device: str
    prefix: str = "edgeannot"
    """One or more levels, used as it is."""

    @property
    def base(self) -> str:
        """Return `edgeannot/<device>`."""
        return f"{self.prefix}/{escape_level(self.device)}"

    def of_device(self, leaf: str) -> str:
        """Return a topic of the device: status, info, telemetry."""
        return f"{self.base}/{leaf}"

    def of_source(self, source: str, leaf: str) -> str:
        """Return a topic of a source: detections, image, count."""
        return f"{self.base}/{escape_level(source)}/{leaf}"


def reply_trouble(topic: str, topics: Topics, other_trees: Sequence[str] = ("homeassistant",)) -> str:
    """Return what is wrong with an MQTT 5 response topic (4.7: no wildcards, not empty); empty if nothing is.

    other_trees: first levels of topics that a reply must not be sent to, beside our own prefix: others act on what they read there.
    """
    if not topic or any(c in topic for c in "+#\0"):
        return "cannot be published to: it is empty or contains a wildcard"
    if topic.startswith("$"):
        return "begins with $, which is reserved for the broker"
    if len(topic.encode("utf-8", "surrogatepass")) > 1024:
        return "is longer than 1024 bytes"
    if topic.startswith(f"{topics.base}/reply/"):
        return ""
    if any(topic == tree or topic.startswith(f"{tree}/") for tree in (topics.prefix, *other_trees)):
        own = f"{topics.base}/reply/..."
        return f"is among the topics of devices, where others would misread a reply; wanted {own} or another tree"
    return ""


def escape_level(word: str) -> str:
    """Return one topic level for any word: unsafe characters become %XX of their UTF-8 bytes, the empty word a lone "%".

    Raises ConfigError for a word whose escaped form is over 1024 bytes: cutting it short could give two words one topic.

    >>> escape_level("front/door #1")
    'front%2Fdoor %231'
    """
    escaped = _UNSAFE.sub(lambda match: "".join(f"%{byte:02X}" for byte in os_bytes(match[0])), word) or "%"
    if len(escaped.encode()) > _MAX_LEVEL_BYTES:
        raise ConfigError(
            f"the name {word[:40]!r}... is too long for a topic level: at most {_MAX_LEVEL_BYTES} bytes, found {len(escaped.encode())}"
        )
    return escaped


def unescape_level(level: str) -> str:
    """Return the word that `escape_level` was given.

    >>> unescape_level("front%2Fdoor %231")
    'front/door #1'
    """
    if level == "%":
        return ""
    raw = re.sub(b"%([0-9A-Fa-f]{2})", lambda match: bytes([int(match[1], 16)]), level.encode())
    return raw.decode("utf-8", "surrogateescape")
