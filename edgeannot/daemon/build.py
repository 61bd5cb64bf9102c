"""Settings -> collaborators: which model, its pipeline, the sources. Wrong settings are found here, before a thread starts."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from edgeannot.base.errors import ConfigError
from edgeannot.base.kernel import free_memory_bytes
from edgeannot.base.places import model_folders
from edgeannot.base.systemd import write_advice
from edgeannot.choice.decision import budget_of
from edgeannot.crash_guard import AtWork
from edgeannot.daemon.active_model import Build
from edgeannot.daemon.governor import Bounds
from edgeannot.payload import encode, refused_payload
from edgeannot.settings import Loaded, Settings
from edgeannot.sources import CameraOptions, Context, DirectoryOptions, MqttSourceOptions, Source, SourceOptions, open_source
from edgeannot.sources.files import FilesOptions, check_files
from edgeannot.storage.store import Store
from edgeannot.vision.cards import ModelCard, find_card
from edgeannot.vision.pipeline import Limits, Pipeline, load_pipeline

__all__ = [
    "bounds_of",
    "configured_limits",
    "find_any",
    "make_folder",
    "open_sources",
    "pipeline_builder",
    "source_options",
    "with_files",
]

log = logging.getLogger(__name__)


def find_any(settings: Settings) -> Callable[[str], ModelCard]:
    """Return the function that finds the card of NAME[@SIZE]. It raises ModelError."""
    return lambda name: find_card(name, model_folders(settings.data_dir))


def configured_limits(settings: Settings) -> Limits:
    """Return the reporting limits of the settings."""
    return Limits(settings.min_score, settings.iou, labels=settings.labels)


def pipeline_builder(loaded: Loaded, try_first: Callable[[ModelCard], None]) -> Build:
    """Return the function that builds a pipeline from a card under these settings, for the first model and each later one.

    try_first: called before a model is loaded; raises ModelError for one that must not be loaded.
    """

    def build(card: ModelCard, limits: Limits, threads: int) -> Pipeline:
        try_first(card)
        return load_pipeline(card, threads=threads, runtime=loaded.settings.runtime, profile=loaded.profile, limits=limits)

    return build


def bounds_of(loaded: Loaded, sources: Iterable[Source], *, pinned: bool) -> Bounds:
    """Return the governor's bounds. Latency counts if the user gave a budget, or if a camera's frames would be missed.

    Files wait: without a budget no model is too slow for a folder, and none is if the user set the model. A second stage may be.
    """
    settings = loaded.settings
    budget_ms, staged = budget_of(loaded.profile, settings.max_ms, settings.min_fps).ms, bool(settings.classify)
    rate_helps = False
    if settings.max_ms is not None or settings.min_fps is not None:
        rate_helps = settings.min_fps is None
    elif (pinned and not staged) or not any(source.live for source in sources):
        return Bounds(second_stage=staged)
    else:
        rates = [options.max_fps or settings.max_fps for options in settings.sources.values() if isinstance(options, CameraOptions)]
        budget_ms = max(budget_ms, 1000 / max(rates, default=settings.max_fps))
    if pinned:
        log.info("the model is set by the user: only the rate can be lowered to keep %.0f ms a picture", budget_ms)
    return Bounds(budget_ms, rate_helps=rate_helps, second_stage=staged)


def source_options(settings: Settings) -> dict[str, SourceOptions]:
    """Return the options of the sources by name: an inbox in the data directory where the settings name none."""
    if settings.sources:
        return dict(settings.sources)
    inbox = settings.data_dir / "inbox"
    make_folder(inbox)
    log.info("watching %s: put pictures there, or set a folder with --watch DIR or in the configuration file ([sources.NAME])", inbox)
    return {"inbox": DirectoryOptions(path=inbox)}


def with_files(loaded: Loaded, files: Sequence[Path]) -> Loaded:
    """Return the settings with these picture files as the only source. Raises MissingError or InputError for what is no file."""
    check_files(files)
    return loaded.model_copy(
        update={"settings": loaded.settings.model_copy(update={"sources": {"files": FilesOptions(paths=tuple(files))}})}
    )


def open_sources(
    settings: Settings,
    options: Mapping[str, SourceOptions],
    store: Store,
    at_work: AtWork,
    interval_s: Callable[[float], float],
    *,
    once: bool,
    again: bool,
) -> dict[str, Source]:
    """Open the sources and return them by name. at_work, interval_s: see `Context`."""
    context = Context(
        quarantine=settings.data_dir / "quarantine",
        own_folders=(settings.data_dir, settings.out_folder),
        results=settings.sinks.written_paths(settings.out_folder),
        once=once,
        max_fps=settings.max_fps,
        interval_s=interval_s,
        at_work=at_work,
        free_bytes=free_memory_bytes,
        device=settings.device,
        refusal=lambda *told: encode(refused_payload(settings.device, *told)),
    )
    if not again:
        context = replace(context, outcome=store.outcome, similar=store.similar, move=store.move)
    mqtt = settings.sinks.mqtt
    return {
        name: open_source(name, each.beside_results(mqtt, mqtt.prefix) if isinstance(each, MqttSourceOptions) else each, context)
        for name, each in options.items()
    }


def make_folder(folder: Path) -> None:
    """Create a folder and its parents. Raises ConfigError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise ConfigError(
            f"the folder {folder} cannot be created ({exc.strerror}); {write_advice(folder, exc)}choose another with --data-dir or data_dir"
        ) from exc
