"""The figures on the live page, made of what the daemon's parts say of themselves."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from edgeannot import __version__
from edgeannot.base.errors import LinkError
from edgeannot.base.foreign import valid_text
from edgeannot.base.places import model_folders
from edgeannot.base.redaction import redacted
from edgeannot.choice.candidates import read_card_index
from edgeannot.daemon.active_model import ActiveModel
from edgeannot.daemon.governor_loop import GovernorLoop
from edgeannot.daemon.scenes import tracking_options
from edgeannot.daemon.supervisor import Announcer
from edgeannot.daemon.worker_pool import WorkerPool
from edgeannot.mqtt.options import Address
from edgeannot.mqtt.publisher import Publisher
from edgeannot.payload import Origin, rfc3339
from edgeannot.remote.control import Control
from edgeannot.scene.tracking import open_events
from edgeannot.settings import Loaded
from edgeannot.sources import SourceOptions
from edgeannot.storage.store import Store

__all__ = ["Shown"]

_MODELS_S: Final = 30.0
"""How long the list of installed models is taken to be true."""
_MOST_EVENTS: Final = 50


@dataclass(eq=False)
class Shown:
    """The parts that the page shows. `figures` is for one thread."""

    loaded: Loaded
    origin: Origin
    options: Mapping[str, SourceOptions]
    pool: WorkerPool
    active_model: ActiveModel
    governor_loop: GovernorLoop
    control: Control
    publisher: Publisher | None
    announcer: Announcer
    store: Store

    def __post_init__(self) -> None:
        self._models: list[str] = []
        self._models_at = -_MODELS_S

    def figures(self) -> dict[str, Any]:
        """Return everything but the pictures, ready for JSON."""
        try:
            figures = self.pool.figures()
        except LinkError:  # the disk is not available: counts and times are told all the same
            figures = self.pool.telemetry.snapshot()
        settings, governor = self.loaded.settings, self.governor_loop.figures()
        return {
            "device": valid_text(self.origin.device),
            "version": __version__,
            "now": rfc3339(datetime.now(UTC)),
            "paused": self.control.now().paused,
            "pictures": figures["pictures"],
            "rejected": sum(figures["rejected"].values()),
            "fps": figures["fps"],
            "ms": figures["timing_ms"].get("total", {}),
            "rss_bytes": figures["rss_bytes"],
            "temperature_c": figures["cpu_temperature_c"],
            "sources": self._sources(figures.get("sources", {})),
            "broker": self._broker(figures.get("sinks", {}).get("mqtt", {})),
            "model": {
                "name": self.active_model.card.name,
                "runtime": self.active_model.runtime,
                "threads": self.active_model.threads,
                "reasons": [valid_text(redacted(reason)) for reason in self.announcer.reasons],
            },
            "governor": governor.get("governor", {}),
            "models": self._choices() if settings.page.controls else [],
            "controls": settings.page.controls,
            "locked": settings.page.token_file is not None,
            "events": self._events() if any(map(tracking_options, self.options.values())) else None,
        }

    def _sources(self, figures: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
        return [
            {
                "name": valid_text(name),
                "kind": options.kind,
                "pictures": figures.get(name, {}).get("pictures", 0),
                "fps": figures.get(name, {}).get("fps", 0.0),
                "trouble": figures.get(name, {}).get("trouble", ""),
            }
            for name, options in self.options.items()
        ]

    def _broker(self, queue: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the broker's address, whether it is there, and what waits for it; None where results go to none."""
        if self.publisher is None:
            return None
        address = str(Address.parse(self.loaded.settings.sinks.mqtt.url))
        return {"address": redacted(address), "state": self.publisher.state, "waiting": queue.get("rows"), "dropped": queue.get("dropped")}

    def _choices(self) -> list[str]:
        """Return the names of the models that a command may switch to."""
        if time.monotonic() - self._models_at >= _MODELS_S:
            self._models_at = time.monotonic()
            folder, task = self.loaded.settings.data_dir, self.active_model.card.task
            index = read_card_index(model_folders(folder), folder / "cache" / "models.json")
            self._models = [card.name_at(size) for card in index if card.task == task for size in card.sizes]
        return self._models

    def _events(self) -> list[dict[str, Any]]:
        """Return what is open in front of the sources, the longest first."""
        found = []
        for name, options in self.options.items():
            try:
                state = self.store.scene(name) if tracking_options(options) is not None else None
            except LinkError:  # as above
                continue
            found += [(event.began_s, name, event) for event in open_events(state)]
        found.sort(key=lambda each: each[0])
        return [
            {
                "source": valid_text(name),
                "label": valid_text(event.label),
                "track": event.track_id,
                "since": rfc3339(datetime.fromtimestamp(began_s, UTC)),
                "still": event.still,
            }
            for began_s, name, event in found[:_MOST_EVENTS]
        ]
