"""The pipeline in force, which may become another between two pictures: another model or input size, other limits of what is reported."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from edgeannot.base.errors import CardError, ConfigError, EdgeannotError, MissingError, ModelError, OutputError
from edgeannot.remote.control import RuntimeSettings
from edgeannot.vision.cards import ModelCard
from edgeannot.vision.data import Annotation, Frame
from edgeannot.vision.decode import sample_photo
from edgeannot.vision.pipeline import Limits, Pipeline

__all__ = ["ActiveModel", "Build"]

log = logging.getLogger(__name__)

_SPARE_BYTES = 24 * 2**20
"""What a model takes beside its weights: the runtime's own, and the tensors between its layers at a few hundred pixels."""
_PACKED = 4
"""Times the size of its file that a model takes: the file, the weights as the kernels want them, and what is between."""


Build = Callable[[ModelCard, Limits, int], Pipeline]
"""Card, limits and number of threads -> pipeline; raises ModelError or ConfigError."""


class ActiveModel:
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
        others: Callable[[], Sequence[str]] = tuple,
        distrusted: Callable[[ModelCard], None] = lambda _: None,
        changed: Callable[[ActiveModel, str], None] = lambda *_: None,
    ) -> None:
        """limits: as configured. threads_for: of a model's name. free_bytes: memory that can still be taken; None: not known. others: the
        models that may follow one that is broken, best first. distrusted: told of a model that was found to be broken.
        changed: told when another model is in force, and why it is.
        """
        self._pipeline: Pipeline | None = first
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
        """Hashes of the models that were found to be broken."""
        self._earlier: list[str] = []
        """Models that were in force before, the last one at the end."""
        self._changed = changed
        self.card = first.card
        """Of the model in force."""
        self.facts = first.facts
        self.threads = first.engine.threads
        self.runtime = first.engine.runtime

    def __call__(self, frame: Frame) -> Annotation:
        """The frame's annotation by the model in force. Raises OutputError where the outputs are implausible for this picture only.

        Where it fails for the bundled sample photo as well, another model comes into force and annotates the frame. Raises ModelError where
        there is none.
        """
        try:
            return self._in_force()(frame)
        except (OutputError, ModelError) as exc:
            if not self._is_sound():
                self._step_aside(exc)
                return self._annotated_as_told(frame)
            raise _as_output_error(exc) from exc

    def self_test(self) -> None:
        """Run the model on the picture that ships with the program: where the program dies of every picture, it dies here, and none
        is suspected. A model that is broken otherwise is found by its first picture.
        """
        self._is_sound()

    def check(self, wanted: RuntimeSettings) -> None:
        """Raises ConfigError where the model in force does not know the labels asked for."""
        _check_labels(self.card, wanted.labels or ())

    def limit(self, wanted: RuntimeSettings) -> None:
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
            log.info("memory is short: %s is unloaded before %s is loaded", self.card.name, card.name)
            pipeline = self._build_alone(card, threads)
        self._earlier = [*(earlier for earlier in self._earlier if earlier != card.name), self.card.name]
        self._pipeline = pipeline
        self.card, self.facts = card, pipeline.facts
        self.threads, self.runtime = pipeline.engine.threads, pipeline.engine.runtime
        self._changed(self, reason)
        return card.name

    def _is_sound(self) -> bool:
        """Whether the outputs of the model in force are plausible for a picture that ships with the program."""
        frame = Frame(sample_photo(), "self-test", 0, datetime.now(UTC), "self-test")
        try:
            self._in_force()(frame)
        except (OutputError, ModelError):
            return False
        return True

    def _step_aside(self, trouble: EdgeannotError) -> None:
        """Put another model in force in place of one that is broken: the last one before it, else the next. Raises ModelError."""
        gone = self.card
        why = f"{gone.name} cannot be used: {trouble}, and it fails for the bundled sample photo, too"
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
        raise ModelError(f"model {gone.name}: {why}, and no other model may run; take another, or convert this one again")

    def _set_broken(self, card: ModelCard) -> None:
        self._broken.add(card.sha256)
        self._distrusted(card)

    def _annotated_as_told(self, frame: Frame) -> Annotation:
        """By a model that is sound: what it cannot do with this frame is the frame's fault."""
        try:
            return self._in_force()(frame)
        except ModelError as exc:
            raise _as_output_error(exc) from exc

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
        if card.sha256 in self._broken:
            raise ModelError(f"model {card.name}: it was found to be broken while it ran, and is not taken again; convert it again")
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


def _as_output_error(error: EdgeannotError) -> OutputError:
    """What a sound model could not do with one picture."""
    return error if isinstance(error, OutputError) else OutputError(f"the model cannot be run on it ({error})")


def _check_labels(card: ModelCard, labels: tuple[str, ...]) -> None:
    names = card.label_names()
    if unknown := sorted(set(labels) - set(names)):
        raise ConfigError(
            f"labels: the model {card.name} knows no {', '.join(map(repr, unknown))}; `edgeannot models show` says what it knows"
        )
