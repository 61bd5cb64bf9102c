"""Settings -> collaborators: which model, its pipeline, the sources. Wrong settings are found here, before a thread starts."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgeannot.base.errors import ConfigError, ModelError
from edgeannot.base.kernel.control_groups import free_memory_bytes
from edgeannot.base.places import model_folders
from edgeannot.base.systemd import write_advice
from edgeannot.choice.decision import budget_of
from edgeannot.crash_guard import AtWork
from edgeannot.daemon.active_model import Build
from edgeannot.daemon.governor import Bounds
from edgeannot.scene.motion import MotionGate
from edgeannot.scene.motion_options import MotionOptions
from edgeannot.scene.region_state import Region, Regions
from edgeannot.scene.second_stage import SecondStage
from edgeannot.scene.tracking import Tracking
from edgeannot.scene.tracking_options import TrackingOptions
from edgeannot.settings import Loaded, Settings
from edgeannot.sources import CameraOptions, Context, DirectoryOptions, MqttSourceOptions, Source, SourceOptions, open_source
from edgeannot.sources.files import FilesOptions, check_files
from edgeannot.storage.store import Store
from edgeannot.vision.cards import ModelCard, find_card
from edgeannot.vision.pipeline import Limits, Pipeline, load_pipeline

__all__ = [
    "Scenes",
    "bounds_of",
    "classifiers",
    "configured_limits",
    "find_any",
    "lost_after_s",
    "make_folder",
    "motion_gate",
    "open_sources",
    "pipeline_builder",
    "regions",
    "scenes_of",
    "second_stage",
    "source_options",
    "tracking_options",
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
    if settings.max_ms is not None or settings.min_fps is not None:
        return Bounds(budget_ms, rate_helps=settings.min_fps is None, second_stage=staged)
    if (pinned and not staged) or not any(source.live for source in sources):
        return Bounds(second_stage=staged)
    rates = [options.max_fps or settings.max_fps for options in settings.sources.values() if isinstance(options, CameraOptions)]
    return Bounds(max(budget_ms, 1000 / max(rates, default=settings.max_fps)), rate_helps=False, second_stage=staged)


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
    )
    if not again:
        context = replace(context, outcome=store.outcome, similar=store.similar, move=store.move)
    mqtt = settings.sinks.mqtt
    return {
        name: open_source(name, each.beside_results(mqtt, mqtt.prefix) if isinstance(each, MqttSourceOptions) else each, context)
        for name, each in options.items()
    }


def motion_gate(options: SourceOptions) -> MotionGate | None:
    """Return the motion gate of a source that has one."""
    motion = getattr(options, "motion", None)
    return MotionGate(motion) if isinstance(motion, MotionOptions) and motion.enabled else None


def tracking_options(options: SourceOptions) -> TrackingOptions | None:
    """Return the options of a source's tracking; None where it has none."""
    tracking = getattr(options, "tracking", None)
    return tracking if isinstance(tracking, TrackingOptions) and tracking.enabled else None


def classifiers(loaded: Loaded, build: Build) -> Callable[[str, str], Pipeline]:
    """Return the function that loads a classifier by its name, each once. It takes the name and the section of the settings that has it.

    It raises ConfigError where there is none of that name.
    """
    settings = loaded.settings
    made: dict[str, Pipeline] = {}

    def load(name: str, where: str) -> Pipeline:
        if name not in made:
            try:
                card = find_any(settings)(name)
            except ModelError as exc:
                raise ConfigError(f"{where}.model: {exc}") from exc
            if card.task != "classify":
                raise ConfigError(f"{where}.model: wanted a classifier, found {name}, whose task is {card.task!r}")
            made[name] = build(card, Limits(), settings.threads or 1)
        return made[name]

    return load


def second_stage(settings: Settings, load: Callable[[str, str], Pipeline], known: Mapping[int, str]) -> SecondStage | None:
    """Return the second stage of the settings; None without one. known: labels of the active model, none where it has no names."""
    for label in settings.classify:
        if known and label not in known.values():
            log.warning("classify.%s: the active model reports no such label; it is for models that do", label)
    stages = {label: (each, load(each.model, f"classify.{label}")) for label, each in settings.classify.items()}
    return SecondStage(stages) if stages else None


@dataclass(frozen=True, slots=True)
class Scenes:
    """What looks at the results of a source over time, by the names of the sources that have it."""

    tracking: Mapping[str, Tracking]
    regions: Mapping[str, Regions]
    lost_after_s: Mapping[str, Sequence[float]]
    """Of each source."""
    second_stage: SecondStage | None


def scenes_of(loaded: Loaded, build: Build, store: Store, options: Mapping[str, SourceOptions], known: Mapping[int, str]) -> Scenes:
    """Return them by the settings, as they were stored. known: labels of the active model. Raises ConfigError or ModelError."""
    settings, load = loaded.settings, classifiers(loaded, build)
    tracked = {name: tracking for name, each in options.items() if (tracking := tracking_options(each)) is not None}
    return Scenes(
        {name: Tracking(name, each, store.scene(name)) for name, each in tracked.items()},
        regions(settings, load, store, options),
        {name: lost_after_s(name, each, settings) for name, each in options.items()},
        second_stage(settings, load, known),
    )


def lost_after_s(name: str, options: SourceOptions, settings: Settings) -> list[float]:
    """Return after how many seconds somebody wants to know that this source is away, in ascending order."""
    tracked = tracking_options(options)
    times = {each.unknown_s for each in settings.states.values() if each.source == name}
    return sorted(times | (set() if tracked is None else {tracked.lost_s}))


def regions(settings: Settings, load: Callable[[str, str], Pipeline], store: Store, sources: Iterable[str]) -> dict[str, Regions]:
    """Return the regions whose states are wanted, by their sources. Raises ConfigError for one of a source that is not there."""
    names, found = list(sources), defaultdict[str, list[Region]](list)
    for name, each in settings.states.items():
        if each.source not in names:
            raise ConfigError(f"states.{name}.source: wanted one of the sources, {', '.join(names)}; found {each.source!r}")
        model = None if each.model is None else load(each.model, f"states.{name}")
        found[each.source].append(Region(name, each, model, store.scene(f"{each.source}/{name}")))
    return {source: Regions(source, several) for source, several in found.items()}


def make_folder(folder: Path) -> None:
    """Create a folder and its parents. Raises ConfigError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise ConfigError(
            f"the folder {folder} cannot be created ({exc.strerror}); {write_advice(folder, exc)}choose another with --data-dir or data_dir"
        ) from exc
