"""The MQTT messages of each picture, for the outbox; `edgeannot.mqtt.publisher` sends them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import Field, field_validator

from edgeannot.base.options import Options
from edgeannot.mqtt.options import BrokerOptions, Topics
from edgeannot.payload import count_payload, detections_payload, encode, event_payload, region_payload
from edgeannot.sinks.base import Sink, SinkContext, SinkOptions
from edgeannot.storage.store import Caps, Message
from edgeannot.vision.data import Annotation, Sender
from edgeannot.vision.news import Event, News

__all__ = ["CommandOptions", "HomeAssistantOptions", "MqttOptions", "MqttSink"]


def _topic_levels(text: str) -> str:
    """Return what topics may begin with, as it is. Raises ValueError for what is none."""
    if not text or text.startswith(("/", "$")) or text.endswith("/") or any(c in text for c in "+#\0") or len(text.encode()) > 1024:
        raise ValueError("wanted topic levels such as site/edgeannot: no + # or NUL, no / at the ends, no $ at the beginning")
    return text


class CommandOptions(Options):
    """Commands over MQTT; whoever may publish on the broker's command topics may give them."""

    enabled: bool = False
    """Whether commands are taken."""
    root: Path | None = None
    """Folder whose pictures `detect` may name; unset: none, a picture has to come in the message itself."""
    teach_root: Path | None = None
    """Folder whose labelled sets `teach` may name; unset: none, nothing is taught by command."""
    teach_minutes: float = Field(default=30.0, gt=0, le=1440)
    """How long `teach` may take, in minutes."""
    teach_nice: int = Field(default=10, ge=0, le=19)
    """Niceness of the process that teaches: at 10 it has a tenth of a core that the daemon fills, at 19 a hundredth."""
    max_picture_mb: int = Field(default=8, ge=1, le=256)
    """Largest picture of `detect` in megabytes; anything else may have 4 KB."""
    max_megapixels: float = Field(default=12.5, gt=0)
    """Larger pictures are refused before they are decoded."""
    queue: int = Field(default=8, ge=1, le=16)
    """Commands that may wait or be under way; further ones are answered `busy`."""
    timeout_s: float = Field(default=60.0, gt=0)
    """How long a command may take, in seconds."""

    @field_validator("root", "teach_root", mode="before")
    @classmethod
    def _somewhere(cls, folder: object) -> object:
        if folder == "" or "\0" in str(folder):
            raise ValueError("wanted a folder")
        return folder


class HomeAssistantOptions(Options):
    """Home Assistant's MQTT discovery: the device shows up there by itself."""

    enabled: bool = False
    """Whether the device is announced."""
    prefix: str = "homeassistant"
    """Home Assistant's discovery prefix."""
    max_labels: int = Field(default=20, ge=0, le=200)
    """Labels that get a sensor of their own, in the order they are seen; those in `labels` all do."""

    off_delay_s: int = Field(default=30, ge=1, le=86400)
    """How long in seconds a label counts as seen after the last picture that shows it."""

    _is_topic = field_validator("prefix")(_topic_levels)


class MqttOptions(BrokerOptions, SinkOptions):
    """Results over MQTT."""

    enabled: bool = True
    """Whether results are kept for a broker and sent to it."""
    prefix: str = "edgeannot"
    """First level or levels of every topic. The device's name follows."""
    qos: int = Field(default=1, ge=0, le=2)
    """Quality of service of results: 1 arrives at least once, a repeat with the same id."""
    expiry_s: int | None = Field(default=None, ge=1)
    """How long in seconds the broker keeps a result for a subscriber that is away (MQTT 5); unset: for ever."""
    counts: bool = True
    """Also publish, retained, how many of each label the newest picture shows."""
    images: bool = False
    """Also publish the annotated picture as JPEG."""
    image_quality: int = Field(default=80, ge=1, le=100)
    """JPEG quality of those pictures."""
    image_max_side: int = Field(default=1280, ge=16)
    """Longest side in pixels of those pictures; larger ones are made smaller."""
    image_expiry_s: int | None = Field(default=3600, ge=1)
    """How long in seconds the broker keeps such a picture for a subscriber that is away (MQTT 5); unset: for ever."""
    window: int = Field(default=64, ge=1, le=1000)
    """Messages that may be on their way without an acknowledgement."""
    keep_messages: int = Field(default=1_000_000, ge=1)
    """Unsent messages kept for a broker that is away; over that the oldest are dropped, annotated images first, and counted."""
    keep_mb: int = Field(default=256, ge=1)
    """The same in megabytes."""
    keep_image_mb: int = Field(default=64, ge=0)
    """Megabytes of that which annotated images may take."""
    commands: CommandOptions = CommandOptions()
    """[sinks.mqtt.commands]: commands and replies."""
    home_assistant: HomeAssistantOptions = HomeAssistantOptions()
    """[sinks.mqtt.home_assistant]: discovery by Home Assistant."""

    _is_topic = field_validator("prefix")(_topic_levels)

    @property
    def caps(self) -> Caps:
        """Return what the outbox may hold."""
        return Caps(self.keep_messages, self.keep_mb * 2**20, self.keep_image_mb * 2**20)


class MqttSink(Sink):
    """Makes the messages of one picture: detections, and where asked for its counts and the annotated picture."""

    only_files = False

    def __init__(self, options: MqttOptions, context: SinkContext) -> None:
        self._options = options
        self._origin = context.origin
        self._topics = Topics(context.origin.device, options.prefix)

    def write(self, annotation: Annotation) -> Sequence[Message]:
        """Return the messages, to go into the outbox."""
        options, source = self._options, annotation.frame.source
        topics = self._topics_of(annotation.frame.sender)
        payload = detections_payload(annotation, self._origin)
        topic = topics.of_source(source, "detections")
        messages = [Message(topic, encode(payload), "detections", options.qos, expiry_s=options.expiry_s)]
        if options.counts:
            counts = encode(count_payload(annotation, self._origin))
            messages.append(Message(topics.of_source(source, "count"), counts, "count", options.qos, retain=True))
        if options.images:
            messages.append(self._image(annotation, payload["id"], payload["captured_at"]))
        return messages

    def tell(self, news: News) -> Sequence[Message]:
        """Return a message for each event, its picture where it has one, and a retained message for each region with another state."""
        options, topic = self._options, self._topics.of_source(news.source, "events")
        payloads = [event_payload(event, news.source, self._origin) for event in news.events]
        events = [Message(topic, encode(payload), "event", options.qos, expiry_s=options.expiry_s) for payload in payloads]
        regions = [(f"state/{region.name}", region_payload(region, news.source, self._origin)) for region in news.regions]
        states = [
            Message(self._topics.of_source(news.source, leaf), encode(payload), "state", options.qos, retain=True)
            for leaf, payload in regions
        ]
        return [
            *events,
            *(self._picture(event, news.source, told["id"]) for event, told in zip(news.events, payloads, strict=True) if event.picture),
            *states,
        ]

    def _picture(self, event: Event, source: str, event_id: str) -> Message:
        from edgeannot.vision.draw import jpeg  # noqa: PLC0415 - loads OpenCV, which reading the settings must not

        options, picture = self._options, event.picture
        assert picture is not None  # noqa: S101 - asked before
        return Message(
            self._topics.of_source(source, "image"),
            jpeg(picture.image, options.image_quality),
            "image",
            options.qos,
            retain=options.home_assistant.enabled,
            content_type="image/jpeg",
            expiry_s=options.image_expiry_s,
            properties=(("id", event_id), ("event", event.kind), ("track_id", str(event.track_id))),
        )

    def _topics_of(self, sender: Sender | None) -> Topics:
        """Return the topics of who took the picture: those of a camera are the same whichever worker annotates for it."""
        return self._topics if sender is None else Topics(sender.device, self._options.prefix)

    def _image(self, annotation: Annotation, message_id: str, captured_at: str) -> Message:
        from edgeannot.vision.draw import annotated_jpeg  # noqa: PLC0415 - loads OpenCV, which reading the settings must not

        options = self._options
        return Message(
            self._topics_of(annotation.frame.sender).of_source(annotation.frame.source, "image"),
            annotated_jpeg(annotation, options.image_quality, options.image_max_side),
            "image",
            options.qos,
            # Home Assistant asks for it only once it has been told of it, which is after the first picture.
            retain=options.home_assistant.enabled,
            content_type="image/jpeg",
            expiry_s=options.image_expiry_s,
            # The picture cannot say which result it belongs to; on MQTT 5 its properties can.
            properties=(("id", message_id), ("captured_at", captured_at)),
        )
