"""Working off the sessions of group members that have gone; see `group` for who does it and why."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from edgeannot.base.backoff import backoff_s
from edgeannot.mqtt.group import Group
from edgeannot.mqtt.subscriber import Subscriber

__all__ = ["SessionTakeover"]

log = logging.getLogger(__name__)

_QUIET_S = 0.5
"""How long nothing has to come until a session is asked whether it is empty: what it holds comes at once when the window has room."""
_ANNOUNCE_S = 30.0
"""Least time between two words of this worker that it is there, where the broker does not seem to know."""
_AGAIN_S = 10.0
"""Longest time until the next try at a session that somebody else took."""
_AT_ONCE = 2
"""Sessions worked off at a time: each brings a window of pictures."""


class SessionTakeover:
    """For the thread that pulls the pictures."""

    def __init__(self, group: Group, grace_s: float, open_subscriber: Callable[[str], Subscriber]) -> None:
        """open_subscriber: makes, without starting it, the subscriber of a member's session."""
        self._group = group
        self._grace_s = grace_s
        self._open = open_subscriber
        self._subscribers: dict[str, Subscriber] = {}
        self._announce_at = 0.0

    @property
    def busy(self) -> bool:
        """Whether a session is being worked off or is to be."""
        return bool(self._subscribers) or bool(self._group.to_take_over(self._grace_s))

    def look_after(self, own: Subscriber) -> None:
        """Take over sessions that are this worker's to take, and end those that are empty. `own`: the worker's own subscriber."""
        for member, subscriber in list(self._subscribers.items()):
            self._check(member, subscriber)
        if not own.online:
            return
        now = time.monotonic()
        if not self._group.knows_me and now >= self._announce_at and now - own.busy_at > _QUIET_S:
            self._announce_at = now + _ANNOUNCE_S
            own.say(self._group.topic(self._group.me), self._group.payload("here"))
        for member in self._group.to_take_over(self._grace_s):
            if member not in self._subscribers and len(self._subscribers) < _AT_ONCE:
                log.info("%s is gone: taking over what the broker keeps for it", member)
                self._subscribers[member] = self._open(member)
                self._subscribers[member].start()

    def close(self) -> None:
        """Let go of the sessions; another peer will take them."""
        for subscriber in self._subscribers.values():
            subscriber.close(timeout_s=0.0)
        for subscriber in self._subscribers.values():  # all say goodbye at the same time
            subscriber.close()
        self._subscribers.clear()

    def _check(self, member: str, subscriber: Subscriber) -> None:
        if subscriber.over:
            del self._subscribers[member]
            log.info("what the broker keeps for %s is for later (%s)", member, subscriber.trouble)
            self._group.postpone(member, backoff_s(1, _AGAIN_S, _AGAIN_S))
        elif time.monotonic() - subscriber.busy_at >= _QUIET_S and subscriber.is_drained():
            subscriber.close(end_session=True, say=(self._group.topic(member), b""))
            del self._subscribers[member]
            self._group.forget(member)
            log.info("nothing is left of what the broker kept for %s", member)
