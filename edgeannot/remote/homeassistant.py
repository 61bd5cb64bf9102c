"""Keeps Home Assistant's picture of this device true: announces it, adds a label when it is first seen, removes what went away.

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
from edgeannot.payload import Origin, Topics, encode
from edgeannot.remote.discovery import About, Pair, components, counted_pairs, device_id, discovery_payload, live_components
from edgeannot.sinks.base import FolderState
from edgeannot.sinks.mqtt import HomeAssistantOptions
from edgeannot.storage.store import Message
from edgeannot.vision.data import Annotation

if TYPE_CHECKING:
    from paho.mqtt.client import MQTTMessage

__all__ = ["HomeAssistant"]

log = logging.getLogger(__name__)

_BIRTH_S: Final = 5.0
"""Least seconds between two answers to Home Assistant's birth message, which anybody could send."""


class HomeAssistant:
    """See the module. A sink for the writer's thread, and two handlers for the publisher's."""

    only_files = True
    """Nothing that it fails to see costs a message."""

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
        """send_now: `Publisher.send_now`. labels: those that are looked for now, empty: all. known: what the model in force can report."""
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
        """Where the message goes, and where the broker keeps that of an earlier run."""
        return f"{self._options.prefix}/device/{device_id(self._origin.device)}/config"

    @property
    def birth_topic(self) -> str:
        """Where Home Assistant says that it is there."""
        return f"{self._options.prefix}/status"

    def announce(self) -> None:
        """Tell what there is now; what there was and is no more is removed."""
        with self._lock:
            self._announce(again=True)

    def refresh(self) -> None:
        """The same, where that has changed: something was set, or another model is in force."""
        with self._lock:
            self._announce()

    # For the publisher's thread

    def take_kept(self, message: MQTTMessage) -> None:
        """The message that the broker kept: what an earlier run announced and this one does not is removed."""
        size, is_whole = size_of(message)
        if not is_whole:
            log.warning("what the broker keeps on %s has %d bytes, and is not ours: it is passed over", self.config_topic, size)
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
        """Home Assistant started."""
        now = time.monotonic()
        if bytes(message.payload) == b"online" and not message.retain and now - self._answered >= _BIRTH_S:
            self._answered = now
            self.announce()

    # For the writer's thread: a sink

    def write(self, annotation: Annotation) -> Sequence[Message]:
        """Note the labels of one result; nothing is to be sent for it."""
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

    def folders(self) -> Sequence[FolderState]:
        """It writes no files."""
        return ()

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        """Nothing is held open."""

    # With the lock held

    def _see(self, pair: Pair) -> bool:
        """Remember a label seen; False when it is no news or there is no room."""
        if pair in self._seen or len(self._seen) >= self._options.max_labels:
            if pair not in self._seen and not self._full:
                self._full = True
                log.info("Home Assistant shows %d labels and the sum of all; max_labels allows no more", len(self._seen))
            return False
        self._seen[pair] = None
        return True

    def _pairs(self) -> list[Pair]:
        """The labels that have a sensor now."""
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
