"""Keep Home Assistant's view of this device current: announce it, add a label when it is first seen, remove obsolete components.

With `labels` in the settings (or `set` by a command) each of them has a sensor a source. Without, 80 labels of a model would be 80
sensors that mostly show 0: so a label gets one when it is first seen there, up to a bound; the sum of all is always there.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Final

from edgeannot.mqtt.client import size_of
from edgeannot.mqtt.options import Topics
from edgeannot.payload import Origin, encode
from edgeannot.remote.discovery import About, Pair, components, counted_pairs, device_id, discovery_payload, live_components
from edgeannot.sinks.base import Sink
from edgeannot.sinks.mqtt import HomeAssistantOptions
from edgeannot.storage.store import Message
from edgeannot.vision.data import Annotation

if TYPE_CHECKING:
    from paho.mqtt.client import MQTTMessage

__all__ = ["HomeAssistant"]

log = logging.getLogger(__name__)

_BIRTH_S: Final = 5.0
"""Least seconds between two answers to Home Assistant's birth message, which anybody could send."""


class HomeAssistant(Sink):
    """Announces the device. A sink for the writer's thread, and two handlers for the publisher's."""

    def __init__(
        self,
        options: HomeAssistantOptions,
        about: About,
        origin: Origin,
        topics: Topics,
        send_now: Callable[[Message], None],
        *,
        labels: Callable[[], Sequence[str]],
        known: Callable[[], Iterable[str]],
    ) -> None:
        """send_now: `Publisher.send_now`. labels: the labels to report now, empty: all. known: the labels of the active model."""
        self._options = options
        self._about = about
        self._origin = origin
        self._topics = topics
        self._send_now = send_now
        self._labels = labels
        self._known = known
        self._lock = threading.Lock()
        self._seen: dict[Pair, None] = {}
        self._gone: dict[str, str] = {}
        self._shown: dict[str, str] = {}  # key -> platform, as last told
        self._told = b""
        self._basis: tuple[object, ...] = ()
        self._full = False
        self._answered = float("-inf")

    @property
    def config_topic(self) -> str:
        """Return the topic of the message, where the broker also retains that of an earlier run."""
        return f"{self._options.prefix}/device/{device_id(self._origin.device)}/config"

    @property
    def birth_topic(self) -> str:
        """Return the topic of Home Assistant's birth message."""
        return f"{self._options.prefix}/status"

    def announce(self) -> None:
        """Announce the current components and remove obsolete ones."""
        with self._lock:
            self._announce(again=True)

    def refresh(self) -> None:
        """Announce again if something changed: a setting, or the active model."""
        with self._lock:
            self._announce()

    # For the publisher's thread

    def take_kept(self, message: MQTTMessage) -> None:
        """Read the retained message of an earlier run and remove the components that this run does not announce."""
        size, is_whole = size_of(message)
        if not is_whole:
            log.warning("ignoring the retained message on %s: %d bytes, not ours", self.config_topic, size)
            return
        if not message.retain:  # our own, coming back
            return
        kept = live_components(bytes(message.payload))
        with self._lock:
            known = set(self._known())
            for source, label in counted_pairs(kept) if not self._labels() else ():
                if source in self._about.sources and (label in known or not known):
                    self._see((source, label))
            if kept != self._shown:
                self._shown = kept | self._shown
                self._announce()

    def take_birth(self, message: MQTTMessage) -> None:
        """Announce again, as Home Assistant has started."""
        now = time.monotonic()
        if bytes(message.payload) == b"online" and not message.retain and now - self._answered >= _BIRTH_S:
            self._answered = now
            self.announce()

    # For the writer's thread: a sink

    def write(self, annotation: Annotation) -> Sequence[Message]:
        """Record the labels of one result; return no messages."""
        wanted, frame = self._labels(), annotation.frame
        basis = annotation.model.sha256, tuple(wanted)
        ours = frame.source in self._about.sources and frame.sender is None  # else its counts are under another device
        fresh = {(frame.source, label) for label in annotation.labels} - self._seen.keys() if ours and not wanted else set()
        if basis != self._basis or (fresh and not self._full):
            with self._lock:
                news = [pair for pair in sorted(fresh) if self._see(pair)]
                if news or basis != self._basis:
                    self._basis = basis
                    self._announce()
        return ()

    # With the lock held

    def _see(self, pair: Pair) -> bool:
        """Record a label; return False if it is known or there is no room."""
        if pair in self._seen or len(self._seen) >= self._options.max_labels:
            if pair not in self._seen and not self._full:
                self._full = True
                log.info("Home Assistant shows %d labels and the sum of all; max_labels allows no more", len(self._seen))
            return False
        self._seen[pair] = None
        return True

    def _pairs(self) -> list[Pair]:
        """Return the labels that have a sensor now."""
        if wanted := self._labels():
            return [(source, label) for source in self._about.sources for label in wanted]
        known = set(self._known())
        return [(source, label) for source, label in self._seen if label in known or not known]

    def _announce(self, *, again: bool = False) -> None:
        found = components(self._origin.device, self._topics, self._about, self._pairs())
        self._gone |= {key: platform for key, platform in self._shown.items() if key not in found}
        self._gone = {key: platform for key, platform in self._gone.items() if key not in found}
        self._shown = {key: component["platform"] for key, component in found.items()}
        payload = encode(discovery_payload(self._origin, self._topics, self._about, found, self._gone))
        if again or payload != self._told:
            self._told = payload
            self._send_now(Message(self.config_topic, payload, "discovery", retain=True))
