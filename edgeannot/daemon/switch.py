"""The pipeline in force, which may become another between two pictures: another model or input size, other limits of what is reported."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from dataclasses import replace

from edgeannot.cards import ModelCard
from edgeannot.control import Wanted
from edgeannot.data import Annotation, Frame
from edgeannot.errors import CardError, ConfigError, EdgeannotError, MissingError, ModelError
from edgeannot.pipeline import Limits, Pipeline

__all__ = ["Build", "Switch"]

log = logging.getLogger(__name__)

_SPARE_BYTES = 24 * 2**20
"""What a model takes beside its weights: the runtime's own, and the tensors between its layers at a few hundred pixels."""
_PACKED = 4
"""Times the size of its file that a model takes: the file, the weights as the kernels want them, and what is between."""


Build = Callable[[ModelCard, Limits, int], Pipeline]
"""Card, limits and number of threads -> pipeline; raises ModelError or ConfigError."""


class Switch:
    """See the module. `check` may be called from any thread, everything else is the inference thread's."""

    def __init__(
        self,
        first: Pipeline,
        build: Build,
        find: Callable[[str], ModelCard],
        limits: Limits,
        *,
        threads_for: Callable[[str], int],
        free_bytes: Callable[[], int | None] = lambda: None,
    ) -> None:
        """limits: as configured. threads_for: of a model's name. free_bytes: memory that can still be taken; None: not known."""
        self._pipeline: Pipeline | None = first
        self._build = build
        self._find = find
        self._configured = limits
        self._limits = limits
        self._threads_for = threads_for
        self._applied = Wanted()
        self._free_bytes = free_bytes
        self.changed: Callable[[str], None] = lambda _: None
        """Told when another model is in force, and why it is."""
        self.card = first.card
        """Of the model in force."""
        self.facts = first.facts
        self.threads = first.engine.threads
        self.runtime = first.engine.runtime

    def __call__(self, frame: Frame) -> Annotation:
        """The frame's annotation by the model in force."""
        return self._in_force()(frame)

    def check(self, wanted: Wanted) -> None:
        """Raises ConfigError where the model in force does not know the labels asked for."""
        _check_labels(self.card, wanted.labels or ())

    def limit(self, wanted: Wanted) -> None:
        """Report from the next picture on what is wanted. What the model cannot do is logged, and the limits stay as they are."""
        if wanted is self._applied:
            return
        self._applied = wanted
        limits = replace(
            self._configured,
            min_score=self._configured.min_score if wanted.min_score is None else wanted.min_score,
            labels=self._configured.labels if wanted.labels is None else wanted.labels,
        )
        if limits == self._limits:
            return
        try:
            self._pipeline = self._in_force().limited(limits)
        except ConfigError as exc:  # the model changed since the labels were checked
            log.warning("%s; what is reported stays as it was", exc)
        else:
            self._limits = limits

    def use(self, name: str, reason: str) -> str:
        """Put the model NAME[@SIZE] in force; its full name. Raises ModelError or ConfigError, and the old one stays.

        The new one is loaded beside the old, so that there is always one that works; where memory is too short for two, the old
        one goes first and comes back when the new one fails.
        """
        card = self._card(name)
        threads = self._threads_for(card.name)
        if (card.name, threads) == (self.card.name, self.threads):
            return card.name
        if self._room_for_two(card):
            pipeline = self._build(card, self._limits, threads)
        else:
            log.info("memory is short: %s goes before %s is loaded", self.card.name, card.name)
            pipeline = self._build_alone(card, threads)
        self._pipeline = pipeline
        self.card, self.facts = card, pipeline.facts
        self.threads, self.runtime = pipeline.engine.threads, pipeline.engine.runtime
        self.changed(reason)
        return card.name

    def _in_force(self) -> Pipeline:
        if self._pipeline is None:  # the old one went to make room, and could not be loaded again at once
            try:
                self._pipeline = self._build(self.card, self._limits, self.threads)
            except EdgeannotError as exc:  # no fault of the settings, with which a service would not be started again
                raise RuntimeError(f"the model {self.card.name}, which worked before, cannot be loaded again: {exc}") from exc
        return self._pipeline

    def _card(self, name: str) -> ModelCard:
        # A name only: a card's path would let whoever may ask for a model name any file.
        if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*(@[0-9]{1,5})?", name) or name.endswith(".toml"):
            raise ModelError(f"model {name[:80]!r}: wanted a model's name, also NAME@SIZE; `edgeannot models list` shows what there is")
        try:
            card = self._find(name)
        except MissingError as exc:
            raise ModelError(str(exc)) from exc
        if card.task != self.card.task:
            raise ModelError(f"model {card.name} is for the task {card.task!r}, this daemon does {self.card.task!r}")
        _check_labels(card, self._limits.labels)
        return card

    def _room_for_two(self, card: ModelCard) -> bool:
        free = self._free_bytes()
        try:
            size = card.model_path.stat().st_size
        except OSError as exc:
            raise CardError(f"card {card.name}: the model file {card.model_path} cannot be read ({exc.strerror}); put it there") from exc
        return free is None or free >= _PACKED * size + _SPARE_BYTES

    def _build_alone(self, card: ModelCard, threads: int) -> Pipeline:
        """The new pipeline, the old one let go of first; where that fails the old one is built again before the error is raised."""
        self._pipeline = None
        try:
            return self._build(card, self._limits, threads)
        except EdgeannotError:
            self._in_force()
            raise


def _check_labels(card: ModelCard, labels: tuple[str, ...]) -> None:
    names = card.label_names()
    if unknown := sorted(set(labels) - set(names)):
        raise ConfigError(
            f"labels: the model {card.name} knows no {', '.join(map(repr, unknown))}; `edgeannot models show` says what it knows"
        )
