"""What the device says of itself to the broker: the retained `info`, and `telemetry`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgeannot import __version__
from edgeannot.mqtt.publisher import Publisher
from edgeannot.payload import Origin, encode, info_payload, telemetry_payload
from edgeannot.storage.store import Message
from edgeannot.vision.data import ModelFacts

__all__ = ["Announcer"]


class Announcer:
    """Sends it by the publisher, or to nobody where there is none. From any thread."""

    def __init__(self, publisher: Publisher | None, origin: Origin, sources: Mapping[str, str], damaged: Sequence[str] = ()) -> None:
        """sources: name -> kind. damaged: see `info_payload`."""
        self._publisher = publisher
        self._origin = origin
        self._sources = sources
        self._damaged = damaged

    @property
    def heard(self) -> bool:
        """Whether there is a publisher at all."""
        return self._publisher is not None

    def info(self, model: ModelFacts, reasons: Sequence[str], choice: Mapping[str, Any] | None = None) -> None:
        """Tell, retained, what runs here and why; again after each change of the model. choice: see `info_payload`."""
        if self._publisher is not None:
            info = info_payload(self._origin, __version__, model, reasons, self._sources, choice, self._damaged)
            self._publisher.send_now(Message(self._publisher.topic("info"), encode(info), "info", retain=True))

    def telemetry(self, figures: Mapping[str, Any]) -> None:
        """Tell how the device is doing."""
        if self._publisher is not None:
            payload = telemetry_payload(self._origin, {**figures, "untold": self._publisher.evicted})
            self._publisher.send_now(Message(self._publisher.topic("telemetry"), encode(payload), "telemetry", qos=0))
