"""Settings -> what looks at the results of a source over time: motion gate, tracking, second stage, states of regions."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from edgeannot.base.errors import ConfigError, ModelError
from edgeannot.daemon.active_model import Build
from edgeannot.daemon.build import find_any
from edgeannot.scene.motion import MotionGate
from edgeannot.scene.motion_options import MotionOptions
from edgeannot.scene.region_state import Region, Regions
from edgeannot.scene.second_stage import SecondStage
from edgeannot.scene.tracking import Tracking
from edgeannot.scene.tracking_options import TrackingOptions
from edgeannot.settings import Loaded, Settings
from edgeannot.sources import SourceOptions
from edgeannot.storage.store import Store
from edgeannot.vision.pipeline import Limits, Pipeline

__all__ = ["Scenes", "classifiers", "lost_after_s", "motion_gate", "regions", "scenes_of", "second_stage", "tracking_options"]

log = logging.getLogger(__name__)


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
