"""The active model: its pipeline, replaced between two pictures when the model, its input size or the reporting limits change."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from edgeannot.base.errors import CardError, ConfigError, EdgeannotError, ModelError, OutputError
from edgeannot.remote.control import RuntimeSettings
from edgeannot.vision.cards import ModelCard
from edgeannot.vision.data import Annotation, Frame
from edgeannot.vision.decode import sample_photo
from edgeannot.vision.pipeline import Limits, Pipeline
from edgeannot.vision.views import Prepared

__all__ = ["ActiveModel", "Build"]

log = logging.getLogger(__name__)

_SPARE_BYTES = 24 * 2**20
"""What a model takes beside its weights: the runtime's own, and the tensors between its layers at a few hundred pixels."""
MOST_AHEAD = 5 * 2**20
"""Bytes of input tensors that are made ahead, of each of the two or three pictures of a source that wait: those of 640x640 floats."""
_PACKED = 4
"""Times the size of its file that a model takes: the file, the weights as the kernels want them, and what is between."""


Build = Callable[[ModelCard, Limits, int], Pipeline]
"""Card, limits and number of threads -> pipeline; raises ModelError or ConfigError."""


class ActiveModel:
    """The pipeline that annotates now. Call `check` and `prepare` from any thread, everything else from the inference thread only."""

    def __init__(
        self,
        first: Pipeline,
        build: Build,
        find: Callable[[str], ModelCard],
        limits: Limits,
        *,
        threads_for: Callable[[str], int],
        free_bytes: Callable[[], int | None] = lambda: None,
        others: Callable[[], Sequence[str]] = tuple,
        distrusted: Callable[[ModelCard], None] = lambda _: None,
        changed: Callable[[ActiveModel, str], None] = lambda *_: None,
    ) -> None:
        """limits: as configured. threads_for: of a model's name. free_bytes: memory that can still be taken; None: not known. others: the
        models that may replace a broken one, best first. distrusted: called with a model found to be broken.
        changed: called after each change of the model, with the reason.
        """
        self._pipeline: Pipeline | None = first
        self._preparation = first.preparation  # without the engine, which is not to be kept while memory is short
        self._build = build
        self._find = find
        self._configured = limits
        self._limits = limits
        self._threads_for = threads_for
        self._applied = RuntimeSettings()
        self._free_bytes = free_bytes
        self._others = others
        self._distrusted = distrusted
        self._broken: set[str] = set()
        """Hashes of the models found to be broken."""
        self._earlier: list[str] = []
        """Models that were active before, the last one at the end."""
        self._changed = changed
        self.card = first.card
        """Of the model in force."""
        self.facts = first.facts
        self.threads = first.engine.threads
        self.runtime = first.engine.runtime

    def prepare(self, frame: Frame) -> Frame | Prepared:
        """Return the frame prepared for the active model, or as it is: where that takes much memory, or fails, which is then told of it
        when the model comes to it. A model that replaces this one meanwhile prepares it again.
        """
        preparation = self._preparation
        if preparation.nbytes > MOST_AHEAD:
            return frame
        try:
            return preparation(frame)
        except Exception as exc:  # noqa: BLE001 - the same comes again where it has a name
            log.debug("%s: %s cannot be prepared: %s", frame.source, frame.name, exc)
            return frame

    def __call__(self, seen: Frame | Prepared) -> Annotation:
        """Return the frame's annotation by the active model. Raises OutputError if the outputs are implausible for this picture only.

        If the model fails for the bundled sample photo as well, another model replaces it and annotates the frame. Raises ModelError if
        there is none.
        """
        while True:
            try:
                return self._in_force()(seen)
            except (OutputError, ModelError) as exc:
                if self._is_sound():
                    if isinstance(exc, OutputError):
                        raise
                    raise OutputError(f"the model cannot process it ({exc})") from exc
                self._step_aside(exc)

    def self_test(self) -> None:
        """Run the model on the bundled sample photo. A model that kills the program with every picture does so here, so that no user's
        picture is suspected. Other broken models are found by their first picture.
        """
        self._is_sound()

    @property
    def min_score(self) -> float:
        """Return the smallest score that is reported now."""
        return self._in_force().min_score

    @property
    def labels(self) -> tuple[str, ...]:
        """Return the labels that are reported now; empty: all."""
        return self._in_force().labels

    def check(self, wanted: RuntimeSettings) -> None:
        """Raise ConfigError if the active model lacks a requested label."""
        _check_labels(self.card, wanted.labels or ())

    def limit(self, wanted: RuntimeSettings) -> None:
        """Apply the requested limits from the next picture on. If the model cannot, log why and keep the limits."""
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
            log.warning("%s; reporting limits unchanged", exc)
        else:
            self._limits = limits

    def use(self, name: str, reason: str) -> str:
        """Activate the model NAME[@SIZE] and return its full name. Raises ModelError or ConfigError and keeps the old one.

        The new model is loaded beside the old one, so that one always works. If memory is too short for two, the old
        one is unloaded first, and loaded again if the new one fails.
        """
        card = self._card(name)
        threads = self._threads_for(card.name)
        if (card, threads) == (self.card, self.threads):  # not only of the same name: it may have been taught again
            return card.name
        if self._room_for_two(card):
            pipeline = self._build(card, self._limits, threads)
        else:
            pipeline = self._build_alone(card, threads)
            reason += f"; {self.card.name} was unloaded before, as memory is short"
        self._earlier = [earlier for earlier in (*self._earlier, self.card.name) if earlier != card.name]
        self._pipeline, self._preparation = pipeline, pipeline.preparation
        self.card, self.facts = card, pipeline.facts
        self.threads, self.runtime = pipeline.engine.threads, pipeline.engine.runtime
        self._changed(self, reason)
        return card.name

    def _is_sound(self) -> bool:
        """Return whether the outputs of the active model are plausible for the bundled sample photo."""
        frame = Frame(sample_photo(), "self-test", 0, datetime.now(UTC), "self-test")
        try:
            self._in_force()(frame)
        except (OutputError, ModelError):
            return False
        return True

    def _step_aside(self, trouble: EdgeannotError) -> None:
        """Replace a broken model: by the last one before it, else by the next of the choice. Raises ModelError."""
        gone = self.card
        why = f"{gone.name} cannot be used: {trouble}; it also fails for the bundled sample photo"
        log.error("%s", why)
        self._set_broken(gone)
        for name in [*reversed(self._earlier), *self._others()]:
            try:
                self.use(name, why)
            except EdgeannotError as exc:
                log.warning("%s", exc)
                continue
            if self._is_sound():
                return
            self._set_broken(self.card)
        raise ModelError(f"model {gone.name}: {why}, and no other model is available; choose another model or convert this one again")

    def _set_broken(self, card: ModelCard) -> None:
        self._broken.add(card.sha256)
        self._distrusted(card)

    def _in_force(self) -> Pipeline:
        if self._pipeline is None:  # the old one was unloaded to free memory, and could not be loaded again at once
            try:
                self._pipeline = self._build(self.card, self._limits, self.threads)
            except EdgeannotError as exc:  # no fault of the settings, with which a service would not be started again
                raise RuntimeError(f"the model {self.card.name} worked before and cannot be loaded again: {exc}") from exc
        return self._pipeline

    def _card(self, name: str) -> ModelCard:
        # A name only: a card's path would let whoever may ask for a model name any file.
        if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*(@[0-9]{1,5})?", name) or name.endswith(".toml"):
            raise ModelError(f"model {name[:80]!r}: wanted a model's name or NAME@SIZE; `edgeannot models list` shows them")
        card = self._find(name)
        if card.task != self.card.task:
            raise ModelError(f"model {card.name} is for the task {card.task!r}, this daemon runs {self.card.task!r}")
        if card.sha256 in self._broken:
            raise ModelError(f"model {card.name} was found to be broken while it ran; convert it again")
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
        """Return the new pipeline, built after the old one was unloaded. If that fails, load the old one again and raise the error."""
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
            f"labels: the model {card.name} does not have {', '.join(map(repr, unknown))}; `edgeannot models show` lists its labels"
        )
