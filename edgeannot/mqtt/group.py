"""The workers of a group, and which of them takes over the session of a worker that has gone.

A broker hands each message of a shared subscription to one member. What that member had not acknowledged, and what waits in its
session, is meant to go to the others when the session ends (MQTT 5.0, 4.8.2: "should"); mosquitto 2.0.11 throws it away. So a
worker's session outlives its connection, and when the worker does not come back, one of its group connects under the gone
worker's client id and works off what the session holds. Should the worker come back meanwhile, the broker gives it its session
again and closes the peer's connection: at any moment one client has it.

Members say that they are there by a retained message each, again and again; the broker's will says that one is gone. A broker
that lost its power with a worker never sends that will, and keeps "here" of a worker that is not: then its silence says it.
Which peer takes over follows from the names alone (the highest hash of both names), so all come to the same answer without talking.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Literal

from edgeannot.base.connections.backoff import backoff_s
from edgeannot.mqtt.options import escape_level, unescape_level
from edgeannot.mqtt.subscriber import Subscriber
from edgeannot.storage.store import Message

__all__ = ["GREET_S", "Group", "SessionTakeover", "State", "successor"]

log = logging.getLogger(__name__)

State = Literal["here", "leaving", "away"]
"""there; stopped in order, so that its share is free at once; gone without a word, and may be back in a moment."""

GREET_S: Final = 20.0
"""Time between two words of a member that it is there."""
_SILENT_S: Final = 3 * GREET_S
"""Silence after which a member counts as gone whatever the broker keeps of it."""
_ECHO_S: Final = 1.0
"""Time for what the broker keeps of the others to come, once this worker has heard itself."""
_MOST_MEMBERS: Final = 1000
_MOST_BYTES: Final = 4096
_PARTING_S: Final = 0.5
"""Time for one that is leaving to hang up by itself."""
_STATES: Final[frozenset[str]] = frozenset({"here", "leaving", "away"})
_QUIET_S = 0.5
"""How long nothing has to come until a session is asked whether it is empty: what it holds comes at once when the window has room."""
_ANNOUNCE_S = 30.0
"""Least time between two words of this worker that it is there, where the broker does not seem to know."""
_AGAIN_S = 10.0
"""Longest time until the next try at a session that somebody else took."""
_AT_ONCE = 2
"""Sessions worked off at a time: each brings a window of pictures."""


@dataclass(slots=True)
class _Member:
    state: State
    since: float
    topic_filter: str
    heard_at: float
    not_before: float = 0.0
    """Earliest time of the next try to take over its session (monotonic)."""


class Group:
    """The members of one group, by their retained messages. Thread-safe."""

    def __init__(self, prefix: str, group: str, me: str, topic_filter: str, clock: Callable[[], float] = time.monotonic) -> None:
        """me: this worker's client id; those of all members begin with `member_prefix(group)`."""
        self.group = group
        self.me = me
        self._base = f"{prefix}/groups/{group}"
        self._ids = self.member_prefix(group)
        self._filter = topic_filter
        self._clock = clock
        self._lock = threading.Lock()
        self._members: dict[str, _Member] = {}

    @staticmethod
    def member_prefix(group: str) -> str:
        """Return the prefix of the client ids of a group's members: a session takeover uses no other client id."""
        return f"edgeannot-group-{group}-"

    @property
    def topics(self) -> str:
        """Return the filter of all members' messages."""
        return f"{self._base}/+"

    def topic(self, member: str) -> str:
        """Return the topic of a member's state."""
        return f"{self._base}/{escape_level(member)}"

    def message(self, state: State) -> Message:
        """Return this worker's own state message."""
        payload = json.dumps({"schema": 1, "state": state, "filter": self._filter}).encode()
        return Message(self.topic(self.me), payload, "group", retain=True)

    def heard(self, topic: str, payload: bytes) -> bool:
        """Process a message of this group; return False for any other. Invalid members are ignored."""
        if not topic.startswith(f"{self._base}/"):
            return False
        member = unescape_level(topic.removeprefix(f"{self._base}/"))
        told = _state_in(payload)
        with self._lock:
            known = self._members.get(member)
            if told is None or not member.startswith(self._ids):
                self._members.pop(member, None)
            elif known is not None and known.state == told[0]:
                known.heard_at = self._clock()
            elif known is not None or len(self._members) < _MOST_MEMBERS:
                self._members[member] = _Member(told[0], self._clock(), told[1], self._clock())
        return True

    @property
    def knows_me(self) -> bool:
        """Return whether the broker retains this worker's state; a peer may have cleared it just as the worker came back."""
        with self._lock:
            mine = self._members.get(self.me)
            return mine is not None and mine.state == "here"

    def others_here(self) -> bool:
        """Return whether another worker takes the same pictures."""
        with self._lock:
            return any(name != self.me for name in self._here())

    def to_take_over(self, grace_s: float) -> list[str]:
        """Return the gone members whose pictures are for this worker now; grace_s: how long one that vanished may take to come back."""
        now = self._clock()
        with self._lock:
            here, silent = self._here(), self._silent()
            waits = {"here": math.inf, "leaving": min(grace_s, _PARTING_S), "away": grace_s}
            gone = [
                name
                for name, member in self._members.items()
                if name != self.me
                and member.topic_filter == self._filter
                and (name in silent or now - member.since >= waits[member.state])
                and now >= member.not_before
            ]
        return [name for name in gone if here and successor(name, here) == self.me]

    def postpone(self, member: str, seconds: float) -> None:
        """Delay the takeover of this member's session: another peer has it, or the broker is not reachable."""
        with self._lock:
            if member in self._members:
                self._members[member].not_before = self._clock() + seconds

    def forget(self, member: str) -> None:
        """Remove a member whose session has ended."""
        with self._lock:
            self._members.pop(member, None)

    def _here(self) -> list[str]:
        silent = self._silent()
        return [
            name
            for name, member in self._members.items()
            if member.state == "here" and member.topic_filter == self._filter and name not in silent
        ]

    def _silent(self) -> set[str]:
        """Return the members without a state message for long, while this worker received its own: else the connection is the cause."""
        mine = self._members.get(self.me)
        if mine is None or self._clock() - mine.heard_at < _ECHO_S:
            return set()
        return {name for name, member in self._members.items() if member.state == "here" and mine.heard_at - member.heard_at >= _SILENT_S}


class SessionTakeover:
    """Processes the sessions of members that have gone; for the thread that pulls the pictures."""

    def __init__(self, group: Group, grace_s: float, open_subscriber: Callable[[str], Subscriber]) -> None:
        """open_subscriber: makes, without starting it, the subscriber of a member's session."""
        self._group = group
        self._grace_s = grace_s
        self._open = open_subscriber
        self._subscribers: dict[str, Subscriber] = {}
        self._announce_at = 0.0

    @property
    def busy(self) -> bool:
        """Return whether a session is being taken over or is about to be."""
        return bool(self._subscribers) or bool(self._group.to_take_over(self._grace_s))

    def look_after(self, own: Subscriber) -> None:
        """Take over the sessions that fall to this worker, and end empty ones. `own`: the worker's own subscriber."""
        for member, subscriber in list(self._subscribers.items()):
            self._check(member, subscriber)
        if not own.online:
            return
        now = time.monotonic()
        if not self._group.knows_me and now >= self._announce_at and now - own.busy_at > _QUIET_S:
            self._announce_at = now + _ANNOUNCE_S
            own.send_now(self._group.message("here"))
        for member in self._group.to_take_over(self._grace_s):
            if member not in self._subscribers and len(self._subscribers) < _AT_ONCE:
                log.info("%s is gone: taking over its session", member)
                self._subscribers[member] = self._open(member)
                self._subscribers[member].start()

    def close(self) -> None:
        """Release the sessions; another member will take them."""
        for subscriber in self._subscribers.values():
            subscriber.close(timeout_s=0.0)
        for subscriber in self._subscribers.values():  # all say goodbye at the same time
            subscriber.close()
        self._subscribers.clear()

    def _check(self, member: str, subscriber: Subscriber) -> None:
        if subscriber.over:
            del self._subscribers[member]
            log.info("takeover of the session of %s postponed (%s)", member, subscriber.trouble)
            self._group.postpone(member, backoff_s(1, _AGAIN_S, _AGAIN_S))
        elif time.monotonic() - subscriber.busy_at >= _QUIET_S and subscriber.is_drained():
            subscriber.close(end_session=True, last_message=Message(self._group.topic(member), b"", "group", retain=True))
            del self._subscribers[member]
            self._group.forget(member)
            log.info("the session of %s is empty now", member)


def successor(gone: str, here: Iterable[str]) -> str:
    """Return the member that takes over: every member computes the same answer, and sessions spread over all."""
    return max(here, key=lambda name: hashlib.sha256(f"{gone}\n{name}".encode("utf-8", "surrogatepass")).digest())


def _state_in(payload: bytes) -> tuple[State, str] | None:
    if len(payload) > _MOST_BYTES:
        return None
    try:
        told = json.loads(payload)
        state, topic_filter = told["state"], told["filter"]
        return (state, topic_filter) if state in _STATES and isinstance(topic_filter, str) else None
    except (ValueError, KeyError, TypeError, RecursionError):  # a state may be a list, which no set can be asked for
        return None
