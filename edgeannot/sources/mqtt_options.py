"""Settings of a source whose pictures arrive as MQTT messages."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PrivateAttr, field_validator, model_validator

from edgeannot.mqtt.options import BrokerOptions
from edgeannot.sources.contract import SourceOptions

__all__ = ["MqttSourceOptions"]


class MqttSourceOptions(SourceOptions):
    """Pictures that arrive as MQTT messages."""

    kind: Literal["mqtt"] = "mqtt"
    broker: BrokerOptions | None = None
    """[sources.NAME.broker] with url and login, as in sinks.mqtt; unset: the broker of sinks.mqtt."""
    topic: str = "edgeannot/pictures/+"
    """Topic filter of the pictures."""
    group: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_-]{1,64}$")
    """Name of a group of workers that share the pictures ($share/GROUP/FILTER); unset: this worker gets all."""
    hand_over: Literal["peers", "broker"] = "peers"
    """Who passes a gone worker's pictures on in its group: its peers, with any broker; or the broker itself, when the session ends
    (EMQX, HiveMQ; neither mosquitto nor VerneMQ)."""
    grace_s: float = Field(default=10.0, ge=0)
    """How long a worker that vanished may take to come back before its peers take over, in seconds."""
    keep_s: int = Field(default=86_400, ge=60, le=2**32 - 2)
    """How long the broker keeps pictures for this worker while it is away, in seconds (MQTT 5; with 3.1.1 the broker's own rule)."""
    window: int = Field(default=4, ge=1, le=64)
    """Pictures taken from the broker at a time (MQTT 5; with 3.1.1 the broker's own figure, 20 for mosquitto)."""
    device_level: int | None = Field(default=None, ge=0)
    """Which level of the topic names the sender, from 0; unset: that of the first +, else the user property `device`."""
    max_mb: int = Field(default=16, ge=1, le=64)
    """Larger pictures are read away without being kept, refused and answered; a bound in the broker spares the line (mosquitto:
    message_size_limit)."""
    max_megapixels: float = Field(default=100.0, gt=0)
    """Larger pictures are refused before they are decoded."""
    max_decode_mb: int = Field(default=256, gt=0)
    """Memory that decoding one picture may take: about 6 MB a megapixel, more for progressive JPEG, transparency and TIFF; never
    more than three quarters of the free memory, so that a larger JPEG is decoded at a smaller size."""
    quarantine_mb: int = Field(default=64, ge=0)
    """Megabytes of refused pictures of this source that are kept in the quarantine folder; further ones are only counted."""

    _results_prefix: str = PrivateAttr("edgeannot")

    @property
    def results_prefix(self) -> str:
        """Return what the topics of results begin with."""
        return self._results_prefix

    def beside_results(self, broker: BrokerOptions, prefix: str) -> MqttSourceOptions:
        """Complete the settings from those of the results: their broker where none is named here, and what their topics begin with."""
        complete = self.model_copy(update={"broker": self.broker or broker.model_copy(update={"client_id": None})})
        complete._results_prefix = prefix
        return complete

    @field_validator("topic")
    @classmethod
    def _is_filter(cls, topic: str) -> str:
        levels = topic.split("/")
        wild = [level for level in levels if ("#" in level or "+" in level) and level not in {"#", "+"}]
        if topic.startswith("$share/"):
            raise ValueError("wanted the filter only: set the name of the group in group")
        if not topic or "\0" in topic or wild or "#" in levels[:-1] or topic.startswith("$") or len(topic.encode()) > 1024:
            raise ValueError("wanted a topic filter such as edgeannot/pictures/+: + stands for a whole level, # for all that follow")
        return topic

    @model_validator(mode="after")
    def _level_is_there(self) -> MqttSourceOptions:
        if self.device_level is not None and self.device_level >= len(self.topic.split("/")) and not self.topic.endswith("#"):
            raise ValueError(f"device_level {self.device_level} is not in the topic {self.topic!r}: levels count from 0")
        return self
