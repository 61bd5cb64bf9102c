"""Metadata of a picture received as a message: sender, time, and the identity by which a repeat is recognized.

Pure functions of a topic, its user properties and the payload. A camera too small for MQTT 5 says nothing but its topic; then the
topic names it, and the time of arrival stands for the time of the picture.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from edgeannot.base.errors import FrameError
from edgeannot.mqtt.options import unescape_level
from edgeannot.vision.data import Sender

__all__ = ["Arrival", "matches", "named_level", "read_arrival"]

_MAX_WORD_BYTES = 256
"""Of a sender's name and id: they become topic levels, file names and lines of a log."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A picture that came as a message, before anything of it is decoded."""

    sender: Sender
    captured_at: datetime
    """UTC."""
    content_hash: bytes
    """BLAKE2b, 16 bytes, of the payload."""
    identity: str
    """The same whichever worker gets the message, and however often."""
    complaint: str = ""
    """What is wrong with the time that the sender gave; empty where it is fine or gave none."""


def read_arrival(topic: str, payload: bytes, properties: Mapping[str, str], level: int | None, arrived_at: datetime) -> Arrival:
    """Return the metadata of the message's picture.

    level: the place of the topic level that names the sender, from 0; None: the user property `device` does, and without it the
    topic's last level. Raises FrameError "sender" where the name or the id is too long to be used.
    """
    levels = topic.split("/")
    if level is not None and level < len(levels):
        device = unescape_level(levels[level])
    else:
        device = properties.get("device") or unescape_level(levels[-1])
    picture_id = properties.get("id") or None
    for what, word in (("name", device), ("id", picture_id or "")):
        size = len(word.encode("utf-8", "surrogatepass"))
        if size > _MAX_WORD_BYTES:
            raise FrameError(f"the sender's {what} has {size} bytes, allowed are {_MAX_WORD_BYTES}", "sender")
    given = properties.get("captured_at", "").strip()
    moment = _moment(given)
    digest = hashlib.blake2b(payload, digest_size=16).digest()
    # The topic and the sender's own words come first: two cameras may send the same test picture, and one may send it twice.
    own = f"id {picture_id}" if picture_id else f"at {given}" if given else ""
    identity = f"{topic}\n{len(own)} {own}\n{digest.hex()}"
    wrong = f"captured_at is {given[:40]!r}, wanted RFC 3339 with a time zone or Unix seconds" if given and moment is None else ""
    sender = Sender(device, topic, picture_id, dated=moment is not None)
    return Arrival(sender, moment or arrived_at, digest, identity, wrong)


def named_level(topic_filter: str) -> int | None:
    """Return the place of the first `+` in a topic filter, from 0: the level that differs from sender to sender.

    >>> named_level("edgeannot/pictures/+")
    2
    """
    levels = topic_filter.split("/")
    return levels.index("+") if "+" in levels else None


def matches(topic_filter: str, topic: str) -> bool:
    """Return whether a topic belongs to a filter (MQTT 5.0, 4.7); topics of the broker's own ($SYS) are not considered.

    >>> matches("edgeannot/+/image/#", "edgeannot/porch/image")
    True
    """
    wanted, found = topic_filter.split("/"), topic.split("/")
    for place, level in enumerate(wanted):
        if level == "#":
            return True
        if place >= len(found) or level not in ("+", found[place]):
            return False
    return len(wanted) == len(found)


def _moment(text: str) -> datetime | None:
    """Return a moment in RFC 3339 with a time zone, or in Unix seconds; None where the text is neither."""
    try:
        seconds = float(text)
        return datetime.fromtimestamp(seconds, UTC) if math.isfinite(seconds) else None
    except (ValueError, OverflowError, OSError):
        pass
    try:
        moment = datetime.fromisoformat(text)
        return moment.astimezone(UTC) if moment.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None
