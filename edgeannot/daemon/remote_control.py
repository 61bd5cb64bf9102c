"""Commands, over MQTT and from the live page, and Home Assistant. Builds them from the settings."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from edgeannot import __version__
from edgeannot.base.errors import CardError
from edgeannot.crash_guard import AtWork
from edgeannot.daemon.scenes import tracking_options
from edgeannot.mqtt.options import Topics
from edgeannot.mqtt.publisher import Publisher
from edgeannot.payload import Origin
from edgeannot.probe.limits import hottest_c
from edgeannot.remote.control import Control, Defaults
from edgeannot.settings import Settings
from edgeannot.sinks import Sink
from edgeannot.storage.store import Store
from edgeannot.vision.cards import ModelCard
from edgeannot.vision.data import Annotation

if TYPE_CHECKING:
    from edgeannot.remote.command_handler import CommandHandler
    from edgeannot.remote.homeassistant import HomeAssistant

__all__ = ["Remote"]


class Remote:
    """Commands and Home Assistant. Create it before the publisher starts, start its handler after that, stop it before the publisher."""

    def __init__(
        self,
        settings: Settings,
        publisher: Publisher | None,
        store: Store,
        origin: Origin,
        control: Control,
        at_work: AtWork,
        card: Callable[[], ModelCard],
        sources: tuple[str, ...],
    ) -> None:
        """publisher: None without a broker. card: of the active model. sources: those whose results go to this device's own topics."""
        self._settings = settings
        self._origin = origin
        self._control = control
        self._at_work = at_work
        self._card = card
        self._topics = Topics(origin.device, settings.sinks.mqtt.prefix)
        self.sinks: list[Sink] = []
        """To be added to those of the settings."""
        mqtt = settings.sinks.mqtt
        self._assistant = self._announce(publisher, sources) if publisher is not None and mqtt.home_assistant.enabled else None
        if self._assistant is not None:
            self.sinks.append(self._assistant)
        heard = publisher if mqtt.commands.enabled else None
        self.handler = self._take_commands(heard, store) if heard is not None or settings.page.has_controls else None
        """Carries out commands; None where none can come."""

    def _take_commands(self, publisher: Publisher | None, store: Store) -> CommandHandler:
        from edgeannot.remote.command_handler import CommandHandler  # noqa: PLC0415 - a start without commands does not wait for it
        from edgeannot.remote.teaching import Teacher  # noqa: PLC0415 - as above

        settings, mqtt = self._settings, self._settings.sinks.mqtt

        def defaults() -> Defaults:
            card = self._card()
            return Defaults(card.name, card.defaults.min_score if settings.min_score is None else settings.min_score, settings.labels)

        handler = CommandHandler(
            mqtt.commands,
            self._control,
            defaults,
            self._origin,
            self._topics,
            publisher.send_now if publisher is not None else lambda _: None,
            lambda message: store.commit(None, (message,)),
            jpeg=self._jpeg,
            teacher=Teacher(mqtt.commands, settings.data_dir, {"EDGEANNOT_RUNTIME": settings.runtime}),
            changed=self._assistant.refresh if self._assistant is not None else lambda: None,
            other_trees=(mqtt.home_assistant.prefix,),
            at_work=self._at_work,
        )
        if publisher is not None:
            publisher.subscribe(handler.topic_filter, handler.take, max_bytes=handler.max_bytes, as_published=True)
        return handler

    def _announce(self, publisher: Publisher, sources: tuple[str, ...]) -> HomeAssistant:
        from edgeannot.remote.discovery import About  # noqa: PLC0415 - as above
        from edgeannot.remote.homeassistant import HomeAssistant  # noqa: PLC0415

        mqtt = self._settings.sinks.mqtt
        tracked = {name: found for name, each in self._settings.sources.items() if (found := tracking_options(each)) is not None}
        about = About(
            __version__, sources, mqtt.counts, mqtt.images or any(each.pictures for each in tracked.values()),
            mqtt.commands.enabled, hottest_c() is not None, mqtt.home_assistant.off_delay_s, tuple(tracked),
            tuple((each.source, name) for name, each in self._settings.states.items() if each.model is not None),
        )  # fmt: skip
        assistant = HomeAssistant(
            mqtt.home_assistant,
            about,
            self._origin,
            self._topics,
            publisher.send_now,
            labels=self._labels,
            known=lambda: _known(self._card()),
        )
        publisher.subscribe(assistant.config_topic, assistant.take_kept)
        publisher.subscribe(assistant.birth_topic, assistant.take_birth)
        assistant.announce()
        return assistant

    def _labels(self) -> tuple[str, ...]:
        wanted = self._control.now().labels
        return self._settings.labels if wanted is None else wanted

    def _jpeg(self, annotation: Annotation) -> bytes:
        from edgeannot.vision.draw import annotated_jpeg  # noqa: PLC0415 - OpenCV, only when a picture is drawn

        mqtt = self._settings.sinks.mqtt
        return annotated_jpeg(annotation, mqtt.image_quality, mqtt.image_max_side)


def _known(card: ModelCard) -> set[str]:
    """Return the labels of the model; empty if its label file cannot be read any more."""
    try:
        return set(card.label_names()) - set(card.labels.ignore)
    except CardError:
        return set()
