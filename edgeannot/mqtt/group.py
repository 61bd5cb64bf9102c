"""Who else works in a shared group, and who takes over what the broker keeps for a worker that has gone.

A broker hands each message of a shared subscription to one member. What that member had not acknowledged, and what waits in its
session, is meant to go to the others when the session ends (MQTT 5.0, 4.8.2: "should"); mosquitto 2.0.11 throws it away. So a
worker's session outlives its connection, and when the worker does not come back, one of its group connects under the gone
worker's client id and works off what the session holds. Should the worker come back meanwhile, the broker gives it its session
again and closes the peer's connection: at any moment one client has it.

Members say that they are there by a retained message each, again and again; the broker's will says that one is gone. A broker
that lost its power with a worker never sends that will, and keeps "here" of a worker that is not: then its silence says it.
Which peer inherits follows from the names alone (the highest hash of both names), so all come to the same answer without talking.
"""

from __future__ import annotations

import hashlib
import json
import math
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Literal

from edgeannot.payload import escape_level, unescape_level

__all__ = ["GREET_S", "Group", "State", "successor"]

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


@dataclass(slots=True)
class _Member:
    state: State
    since: float
    topic_filter: str
    heard_at: float
    not_before: float = 0.0
    """Earliest time of the next try to inherit from it (monotonic)."""


class Group:
    """The members of one group as the broker tells of them; may be called from any thread."""

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
        """What the client ids of a group's members begin with: nobody is led to connect under any other name."""
        return f"edgeannot-group-{group}-"

    @property
    def topics(self) -> str:
        """The filter of all members' messages."""
        return f"{self._base}/+"

    def topic(self, member: str) -> str:
        """Where a member's state is told."""
        return f"{self._base}/{escape_level(member)}"

    def payload(self, state: State) -> bytes:
        """What this worker tells of itself."""
        return json.dumps({"schema": 1, "state": state, "filter": self._filter}).encode()

    def heard(self, topic: str, payload: bytes) -> bool:
        """Take in a message if it is of this group; False where it is not. What cannot be a member is passed over."""
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
        """Whether the broker says that this worker is there; a peer may have cleared it away just as it came back."""
        with self._lock:
            mine = self._members.get(self.me)
            return mine is not None and mine.state == "here"

    def others_here(self) -> bool:
        """Whether another worker takes the same pictures."""
        with self._lock:
            return any(name != self.me for name in self._here())

    def to_take_over(self, grace_s: float) -> list[str]:
        """The gone members whose pictures are for this worker now; grace_s: how long one that vanished may take to come back."""
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
        """Do not try to inherit from this one for a while: somebody else is at it, or the broker is away."""
        with self._lock:
            if member in self._members:
                self._members[member].not_before = self._clock() + seconds

    def forget(self, member: str) -> None:
        """Its session has ended."""
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
        """Members that did not say for long that they are there, while this worker heard itself say it: else the line is to blame."""
        mine = self._members.get(self.me)
        if mine is None or self._clock() - mine.heard_at < _ECHO_S:
            return set()
        return {name for name, member in self._members.items() if member.state == "here" and mine.heard_at - member.heard_at >= _SILENT_S}


def successor(gone: str, here: Iterable[str]) -> str:
    """Which of those who are there takes over: the same answer for each who asks, and shares spread over all."""
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
