"""What a subscriber agrees with its broker, and what it tells the sender of a message."""

from __future__ import annotations

import math
from dataclasses import dataclass

from edgeannot.mqtt.client import Will

__all__ = ["Answer", "Goodbye", "Terms"]


@dataclass(frozen=True, slots=True)
class Terms:
    """What is agreed with the broker at each connection."""

    filters: tuple[tuple[str, int], ...] = ()
    """Topic filters to subscribe to, and the QoS for each."""
    dropped_filters: tuple[str, ...] = ()
    """Subscriptions of the session that are ended at once."""
    keep_bytes: int = 16 * 2**20
    """Of larger payloads only the beginning is kept."""
    window: int = 4
    """Messages that may be unacknowledged at a time (MQTT 5; the broker's own figure holds for 3.1.1)."""
    keep_s: int = 0
    """How long the session outlives a connection, in seconds; 0: not at all. MQTT 3.1.1 knows only "not" and "for ever"."""
    will: Will | None = None
    greeting: tuple[str, bytes] | None = None
    """Topic and payload, published retained when the subscriptions are made."""
    greet_s: float = math.inf
    """Seconds after which it is published again, and so on."""
    lasting: bool = True
    """Whether a connection that is lost is made again."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the sender of a message is told; not retained."""

    topic: str
    payload: bytes
    correlation: bytes | None = None
    """MQTT 5 correlation data."""


@dataclass(frozen=True, slots=True)
class Goodbye:
    """How the last connection is to end."""

    release: tuple[str, ...] = ()
    say: tuple[str, bytes] | None = None
    end_session: bool = False
