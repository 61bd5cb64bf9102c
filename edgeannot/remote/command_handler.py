"""Carry out commands: take them from the publisher's thread without blocking it, and answer each one once.

Requests to the model go to `control` and return a Future, so that `pause` or `ping` do not wait behind a picture. The result of
`detect` goes through the outbox: it may have cost a second of the board's time, and survives a broken connection there. Every other
reply bypasses the outbox: a reply to a ping of yesterday is of no use.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from edgeannot.base.errors import FrameError, LinkError
from edgeannot.base.kernel import free_memory_bytes
from edgeannot.crash_guard import AtWork, Ticket, of_content
from edgeannot.mqtt.client import size_of
from edgeannot.mqtt.options import Topics
from edgeannot.payload import Origin, encode, state_payload
from edgeannot.remote.commands import (
    OLD_NAMES,
    CommandError,
    DetectFile,
    Limits,
    Model,
    Pause,
    Ping,
    Reply,
    Request,
    Resume,
    Set,
    Snapshot,
    Teach,
    read_command,
    reply_to,
    wanted_reply,
)
from edgeannot.remote.control import Control, Defaults
from edgeannot.remote.replies import RefusedError, Replies, error_of, read_named
from edgeannot.remote.teaching import Teacher
from edgeannot.sinks.mqtt import CommandOptions
from edgeannot.storage.store import Message
from edgeannot.vision.data import Annotation

if TYPE_CHECKING:
    from paho.mqtt.client import MQTTMessage

__all__ = ["CommandHandler"]

log = logging.getLogger(__name__)

_TICK_S: Final = 1.0
"""How often the state is compared with what was published: the governor changes it, too."""

_MOST_PICTURES_QUEUED: Final = 2
"""Pictures of the largest size that may wait to be decoded; of smaller ones more."""


@dataclass(frozen=True, slots=True, eq=False)
class _Asked:
    """A request that the model works on."""

    to: Reply
    until: float
    """Monotonic seconds."""
    finish: Callable[[Any], Message]
    """Result of the future -> the reply."""


class CommandHandler:
    """Carries out commands. `take` is for the publisher's thread, `start` and `stop` for the owner."""

    def __init__(
        self,
        options: CommandOptions,
        control: Control,
        defaults: Callable[[], Defaults],
        origin: Origin,
        topics: Topics,
        send_now: Callable[[Message], None],
        keep: Callable[[Message], None],
        *,
        jpeg: Callable[[Annotation], bytes],
        teacher: Teacher,
        changed: Callable[[], None] = lambda: None,
        other_trees: tuple[str, ...] = (),
        at_work: AtWork | None = None,
    ) -> None:
        """send_now: `Publisher.send_now`. keep: puts a message into the outbox, or raises LinkError. jpeg: draws a snapshot.

        changed: called after the state changed. other_trees: see `Limits`. teacher: stopped with this.
        """
        self._options = options
        self._control = control
        self._at_work = at_work or AtWork()
        self._defaults = defaults
        self._origin = origin
        self._topics = topics
        self._send_now = send_now
        self._notify = changed
        self._teacher = teacher
        self._keep = keep
        self._answers = Replies(origin, jpeg)
        self._limits = Limits(picture_bytes=options.max_picture_mb << 20, other_trees=other_trees)
        self._changed = threading.Condition()
        self._inbox: deque[Request] = deque()
        self._inbox_bytes = 0
        self._at_hand = 0  # 1 while a request is out of the inbox and not yet asked of the model, or done
        self._asked: dict[Future[Any], _Asked] = {}
        self._answered: deque[Future[Any]] = deque()
        self._stopping = False
        self._told_state = b""
        self._complained: set[str] = set()
        self._thread = threading.Thread(target=self._run, name="commands", daemon=True)

    @property
    def topic_filter(self) -> str:
        """Return what to subscribe to."""
        return self._topics.of_device("command/+")

    @property
    def max_bytes(self) -> int:
        """Return the largest message that is kept whole; only the beginning of a larger one is kept, for the reply that refuses it."""
        return max(self._limits.picture_bytes, self._limits.json_bytes)

    def start(self) -> None:
        """Publish the state and begin to work."""
        self._publish_state()
        self._thread.start()

    def stop(self, timeout_s: float = 2.0) -> None:
        """Stop; refuse the commands that are not done by then."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        self._teacher.stop()

    def take(self, message: MQTTMessage) -> None:
        """Refuse or queue the message of a command topic. Returns at once."""
        response, correlation = wanted_reply(message)
        to = reply_to(message.topic, response, correlation, self._topics, self._limits)
        payload, (size, _) = bytes(message.payload), size_of(message)
        self._accept(read_command(message.topic, payload, retained=message.retain, to=to, limits=self._limits, size=size))

    def ask(self, command: str, payload: bytes = b"") -> Future[Message]:
        """Refuse or queue a command that came another way than over MQTT. The result is its reply, as it would be published."""
        answered: Future[Message] = Future()
        to = Reply("", command, answer=answered.set_result)
        self._accept(read_command(f"/{command}", payload, retained=False, to=to, limits=self._limits))
        return answered

    def _accept(self, made: Request | CommandError) -> None:
        refusal = self._put(made) if isinstance(made, Request) else made
        if refusal is not None:
            self._refuse(refusal)

    def _put(self, request: Request) -> CommandError | None:
        size = _size(request)
        with self._changed:
            full = len(self._inbox) + self._at_hand + len(self._asked) >= self._options.queue
            heavy = self._inbox_bytes + size > _MOST_PICTURES_QUEUED * self._limits.picture_bytes
            if full or heavy or self._stopping:
                return CommandError("busy", "the command queue is full; try again later", request.to)
            self._inbox.append(request)
            self._inbox_bytes += size
            self._changed.notify_all()
        return None

    # The thread

    def _run(self) -> None:
        stopping = False
        while not stopping:
            with self._changed:
                self._changed.wait_for(lambda: self._next() is not None or self._answered or self._stopping, _TICK_S)
                stopping = self._stopping
                request = None if stopping else self._next()
                if request is not None:
                    self._inbox.remove(request)
                    self._at_hand = 1
            try:
                self._one_turn(request)
            except Exception:
                log.exception("internal error of the command thread (please report); continuing")
        for to in [request.to for request in self._inbox] + [asked.to for asked in self._asked.values()]:
            self._refuse(CommandError("unavailable", "the daemon is stopping; ask again when it runs", to))

    def _next(self) -> Request | None:
        """Return the oldest request that can begin: pictures one after the other, as a decoded one takes up to a hundred times its size."""
        detecting = any(asked.to.command == "detect" for asked in self._asked.values())
        return next((request for request in self._inbox if not (detecting and request.to.command == "detect")), None)

    def _one_turn(self, request: Request | None) -> None:
        if request is not None:
            try:
                self._carry_out(request)
            finally:
                with self._changed:
                    self._inbox_bytes -= _size(request)
                    self._at_hand = 0
        while self._answered:
            self._finish(self._answered.popleft())
        self._give_up_late()
        self._publish_state()

    def _carry_out(self, request: Request) -> None:
        """Carry out the command and reply, or queue a request to the model; an error becomes the reply."""
        to, body = request.to, request.body
        try:
            if isinstance(body, (bytes, DetectFile)):
                self._detect(to, body)
            elif isinstance(body, Model):
                self._ask(to, self._control.ask_model(body.name), lambda to, name: self._answers.json(to, {"model": name}))
            elif isinstance(body, Snapshot):
                finish = self._drawn if body.format == "jpeg" else self._answers.result
                self._ask(to, self._control.ask_snapshot(), finish)
            elif isinstance(body, Teach):
                self._ask(to, self._teacher.teach(body), self._answers.json, self._teacher.limit_s)
            else:
                if isinstance(body, Set):
                    self._warn_of_old_names(body)
                    self._control.change(**body.changes())
                elif isinstance(body, (Pause, Resume)):
                    self._control.change(paused=isinstance(body, Pause))
                self._reply(to, self._answers.json(to, self._defaults().state(self._control.now())), quiet=isinstance(body, Ping))
        except Exception as exc:  # noqa: BLE001 - told to who asked
            self._fail(to, exc)

    def _warn_of_old_names(self, body: Set) -> None:
        for name in body.old_names:
            if name not in self._complained:
                self._complained.add(name)
                log.warning("command set: %s is now called %s; the old name still works", name, OLD_NAMES[name])

    def _detect(self, to: Reply, body: bytes | DetectFile) -> None:
        """Decode a picture and request its annotation; check the size limits before decoding."""
        from edgeannot.vision.decode import PictureLimits, decode  # noqa: PLC0415 - OpenCV, which a module with settings around it must not load

        options = self._options
        name = body.path if isinstance(body, DetectFile) else ""
        data = read_named(options.root, name, self._limits.picture_bytes) if isinstance(body, DetectFile) else body
        limits = PictureLimits(int(options.max_megapixels * 1e6), max_file_bytes=self._limits.picture_bytes, free_bytes=free_memory_bytes)
        ticket = self._begin(of_content(hashlib.blake2b(data, digest_size=16).digest()), name or "the picture of a command")
        try:
            picture = decode(data, limits, smaller=True)
            self._at_work.move(ticket, "inferring")
            whole_wh = picture.width, picture.height
            asked = self._control.ask_annotation(picture.image, "detect", name or "picture", whole_wh, picture.damage)
        except BaseException as exc:
            self._at_work.leave(ticket, survived=getattr(exc, "reason", "") != "memory")
            raise
        asked.add_done_callback(lambda _: self._at_work.leave(ticket))
        self._ask(to, asked, functools.partial(self._answers.result, path=name or None))

    def _drawn(self, to: Reply, annotation: Annotation) -> Message:
        ticket = self._begin(f"drawn {annotation.frame.identity}", annotation.frame.name, "storing")
        try:
            return self._answers.drawn(to, annotation)
        finally:
            self._at_work.leave(ticket)

    def _begin(self, crash_key: str, name: str, stage: str = "decoding") -> Ticket:
        """Wait for a picture's turn. Raises FrameError for one that the program died of, RefusedError where others go first."""
        if why := self._at_work.verdict(crash_key):
            raise FrameError(why, "deadly")
        ticket = self._at_work.enter("command", crash_key, name, self._options.timeout_s, stage=stage)
        if ticket is None:
            raise RefusedError("busy", "other pictures are processed first; try again later")
        return ticket

    def _ask(self, to: Reply, future: Future[Any], finish: Callable[[Reply, Any], Message], extra_s: float = 0.0) -> None:
        with self._changed:
            self._asked[future] = _Asked(to, time.monotonic() + self._options.timeout_s + extra_s, functools.partial(finish, to))
        future.add_done_callback(self._done)

    def _done(self, future: Future[Any]) -> None:
        """Queue the result; called by the thread that has it, mostly the inference thread."""
        with self._changed:
            self._answered.append(future)
            self._changed.notify_all()

    def _finish(self, future: Future[Any]) -> None:
        asked = self._forget(future)
        if asked is None:  # given up before
            return
        try:
            self._reply(asked.to, asked.finish(future.result()), quiet=True)  # of another model its announcement is the one line
        except Exception as exc:  # noqa: BLE001 - told to who asked
            self._fail(asked.to, exc)

    def _forget(self, future: Future[Any]) -> _Asked | None:
        with self._changed:
            return self._asked.pop(future, None)

    def _give_up_late(self) -> None:
        now = time.monotonic()
        for future, asked in list(self._asked.items()):
            if asked.until < now and self._forget(future) is not None:
                future.cancel()
                self._refuse(CommandError("timeout", f"not done within {self._options.timeout_s:g} s", asked.to))

    # Replies

    def _reply(self, to: Reply, message: Message, *, quiet: bool = False) -> None:
        if to.command == "detect":
            try:
                self._keep(message)
            except LinkError:  # a full disk, of which the store's own log speaks; this reply does not need it
                self._send_now(message)
        else:
            (to.answer or self._send_now)(message)
        log.log(logging.DEBUG if quiet else logging.INFO, "command %s: done", to.command)

    def _refuse(self, refusal: CommandError) -> None:
        (refusal.to.answer or self._send_now)(self._answers.refusal(refusal))
        # Of an unknown command not even the name gets into the log: anybody who may publish there writes it.
        command = "" if refusal.code == "unknown-command" else f" {refusal.to.command!r:.40}"
        level = logging.DEBUG if refusal.code in self._complained else logging.WARNING
        self._complained.add(refusal.code)
        log.log(level, "a command%s was refused: %s (further ones are not logged)", command, refusal.code)

    def _fail(self, to: Reply, exc: Exception) -> None:
        refusal = error_of(exc, to)
        if refusal.code == "failed":
            log.error("command %s: internal error (please report)", to.command, exc_info=exc)
        self._refuse(refusal)

    # The state

    def _publish_state(self) -> None:
        """Publish the state (retained) if it changed."""
        payload = encode(state_payload(self._origin, self._defaults().state(self._control.now())))
        if payload != self._told_state:
            self._told_state = payload
            self._send_now(Message(self._topics.of_device("state"), payload, "state", retain=True))
            self._notify()


def _size(request: Request) -> int:
    return len(request.body) if isinstance(request.body, bytes) else 0
