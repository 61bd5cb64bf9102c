"""Settings that may change while the daemon runs, and requests to the model: the one object that commands and the governor share.

A caller replaces the snapshot of the settings, or makes a request and gets a Future. The inference thread serves requests between two
pictures, so only one thread uses the model.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, TypeVar

import numpy as np

from edgeannot.base.errors import LinkError
from edgeannot.vision.data import Annotation, Frame, UInt8Array

__all__ = ["SNAPSHOT_WAIT_S", "Control", "Defaults", "RuntimeSettings"]

SNAPSHOT_WAIT_S: Final = 5.0
"""How long `ask_snapshot` waits for a new picture before it takes the last one."""

_KEPT_PIXELS: Final = 2_200_000
"""Largest picture that is kept for a snapshot, 1080p with a margin: more would be much for a board with 512 MB."""

_MOST_ASKED: Final = 16
"""Requests that may wait at a time; further ones are refused."""


@dataclass(frozen=True, slots=True)
class RuntimeSettings:
    """What may change while the daemon runs; an immutable snapshot, replaced as a whole."""

    paused: bool = False
    """A folder's files stay where they are, a camera's frames are dropped."""
    min_score: float | None = None
    """Smallest score that is reported, 0..1; None: as configured."""
    labels: tuple[str, ...] | None = None
    """Only these labels, empty: all; None: as configured."""
    interval_s: float | None = None
    """Least seconds between pictures of a live source; None: as configured."""


@dataclass(frozen=True, slots=True)
class Defaults:
    """Values in effect until a command changes them."""

    model: str
    """Full name of the model."""
    min_score: float
    labels: tuple[str, ...] = ()
    """Only these are reported; empty: all."""

    def state(self, wanted: RuntimeSettings) -> dict[str, Any]:
        """Return the values in effect with what commands have changed, as the topic `state` has them."""
        return {
            "paused": wanted.paused,
            "min_score": self.min_score if wanted.min_score is None else wanted.min_score,
            "classes": list(self.labels if wanted.labels is None else wanted.labels),
            "interval": wanted.interval_s,
            "model": self.model,
        }


Answer = TypeVar("Answer", str, Annotation)


_Load = Callable[[str, str], str]
_Annotate = Callable[[Frame], Annotation]
_Asked = tuple[Callable[[_Load, _Annotate], Any], Future[Any]]
"""What is to be done by the model, and who waits for it."""
_Snapshot = tuple[float, Future[Annotation]]
"""When the last picture will do (seconds of the clock), and who waits for one."""


class Control:
    """Shared settings and requests. Thread-safe, except for the methods of the inference thread's section."""

    def __init__(
        self,
        wake: Callable[[], None] = lambda: None,
        check: Callable[[RuntimeSettings], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
        *,
        keep_last: bool = True,
    ) -> None:
        """wake: called after a request, so that an inference thread that waits for pictures sees it. check: of a changed snapshot
        before it counts; raises ConfigError if the active model cannot apply it. keep_last: the last annotation with its
        picture, for a snapshot that no new picture comes for.
        """
        self._wake = wake
        self._check = check
        self._clock = clock
        self._keep_last = keep_last
        self._changed = threading.Condition()
        self._wanted = RuntimeSettings()
        self._asked: deque[_Asked] = deque()
        self._snapshots: deque[_Snapshot] = deque()
        self._last: Annotation | None = None
        self._seq = 0
        self._closed = False
        self._held = False
        self._models: set[Future[str]] = set()

    def now(self) -> RuntimeSettings:
        """Return the current snapshot."""
        return self._wanted

    def change(self, **changes: Any) -> RuntimeSettings:
        """Replace fields of the snapshot by values that `commands` has checked. Raises ConfigError and changes nothing if the active model
        cannot apply them."""
        with self._changed:
            wanted = replace(self._wanted, **changes)
            self._check(wanted)
            self._wanted = wanted
            self._changed.notify_all()
        self._wake()
        return wanted

    def wait_while_paused(self, timeout_s: float) -> bool:
        """Wait at most `timeout_s` for the end of a pause; return whether annotation may continue."""
        if not (self._wanted.paused or self._held):
            return True
        with self._changed:
            return self._changed.wait_for(lambda: not (self._wanted.paused or self._held), timeout_s)

    def hold(self, held: bool) -> None:
        """Pause for the daemon itself, which `now` does not show; or end that pause."""
        with self._changed:
            self._held = held
            self._changed.notify_all()

    def ask_model(self, name: str, reason: str = "asked for by a command") -> Future[str]:
        """Request another model, NAME[@SIZE]. The result is its full name; the exception, a ModelError or ConfigError,
        says why the old one is kept. reason: in words, for the log and `info`.
        """
        future: Future[str] = Future()
        self._models.add(future)
        future.add_done_callback(self._models.discard)
        return self._ask((lambda load, _: load(name, reason), future), self._asked)

    @property
    def awaits_model(self) -> bool:
        """Return whether a requested model is not active yet."""
        return bool(self._models)

    def ask_annotation(
        self, image: UInt8Array, source: str, name: str, whole_wh: tuple[int, int] | None = None, damage: str = ""
    ) -> Future[Annotation]:
        """Request the annotation of one picture out of turn. image: (H, W, 3) uint8 BGR; source, name and the others: as in `Frame`."""
        with self._changed:
            seq, self._seq = self._seq, self._seq + 1
        digest = hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16)
        identity = f"{name}@{digest.hexdigest()}"  # of the same picture the same, as of a file
        now, content = datetime.now(UTC), digest.digest()
        frame = Frame(image, source, seq, now, identity, name=name, content_hash=content, whole_wh=whole_wh, damage=damage)
        return self._ask((lambda _, annotate: annotate(frame), Future()), self._asked)

    def ask_snapshot(self) -> Future[Annotation]:
        """Request the next annotation of any source; the last one if none comes within SNAPSHOT_WAIT_S.

        The exception is a LinkError if there is neither.
        """
        return self._ask((self._clock() + SNAPSHOT_WAIT_S, Future()), self._snapshots)

    def _ask(self, request: tuple[Any, Future[Any]], waiting: deque[Any]) -> Future[Any]:
        """Queue a request, or refuse it through its future, which is returned."""
        with self._changed:
            trouble = "the daemon is stopping; ask again when it runs" if self._closed else ""
            if len(waiting) >= _MOST_ASKED:
                trouble = f"{_MOST_ASKED} requests are waiting; try again later"
            if trouble:
                request[1].set_exception(LinkError(trouble))
            else:
                waiting.append(request)
        self._wake()
        return request[1]

    # The inference thread's own

    def serve(self, load: _Load, annotate: _Annotate, heartbeat: Callable[[], None] = lambda: None) -> None:
        """Serve the requests. load: NAME[@SIZE] and reason -> the model's full name, or raises; heartbeat: called after each."""
        for _ in range(len(self._asked)):  # requests made meanwhile wait until after the next picture
            work, future = self._asked.popleft()
            _answer(future, partial(work, load, annotate))
            heartbeat()
        while self._snapshots and self._snapshots[0][0] <= self._clock():
            _answer(self._snapshots.popleft()[1], self._last_annotation)

    def saw(self, annotation: Annotation) -> None:
        """Answer the waiting snapshot requests with this annotation, and keep it for later ones."""
        height, width = annotation.frame.image.shape[:2]
        self._last = annotation if self._keep_last and height * width <= _KEPT_PIXELS else None
        while self._snapshots:
            _answer(self._snapshots.popleft()[1], lambda: annotation)

    def close(self) -> None:
        """Refuse all waiting and further requests."""
        with self._changed:
            self._closed = True
            waiting: list[tuple[Any, Future[Any]]] = [*self._asked, *self._snapshots]
            self._asked.clear()
            self._snapshots.clear()
        for _, future in waiting:
            if future.set_running_or_notify_cancel():
                future.set_exception(LinkError("the daemon is stopping; ask again when it runs"))

    def _last_annotation(self) -> Annotation:
        if self._last is None:
            raise LinkError(f"no picture came within {SNAPSHOT_WAIT_S:g} s and no earlier one is kept; try again while pictures come")
        return self._last


def _answer(future: Future[Answer], work: Callable[[], Answer]) -> None:
    """Carry out a request and set its result or error, so that no request can end the inference thread."""
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(work())
    except Exception as exc:  # noqa: BLE001 - handed to whoever asked
        future.set_exception(exc)
