"""Working off the sessions of group members that have gone; see `peers` for who does it and why."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable

from edgeannot.mqtt.group import Peers
from edgeannot.mqtt.subscriber import Mailbox

__all__ = ["Inheritance"]

log = logging.getLogger(__name__)

_QUIET_S = 0.5
"""How long nothing has to come until a session is asked whether it is empty: what it holds comes at once when the window has room."""
_ANNOUNCE_S = 30.0
"""Least time between two words of this worker that it is there, where the broker does not seem to know."""
_AGAIN_S = 5.0
"""Least time until the next try at a session that somebody else took."""
_AT_ONCE = 2
"""Sessions worked off at a time: each brings a window of pictures."""


class Inheritance:
    """For the thread that pulls the pictures."""

    def __init__(self, peers: Peers, grace_s: float, open_mailbox: Callable[[str], Mailbox]) -> None:
        """open_mailbox: makes, without starting it, the mailbox of a member's session."""
        self._peers = peers
        self._grace_s = grace_s
        self._open = open_mailbox
        self._mailboxes: dict[str, Mailbox] = {}
        self._announce_at = 0.0

    @property
    def busy(self) -> bool:
        """Whether a session is being worked off or is to be."""
        return bool(self._mailboxes) or bool(self._peers.to_inherit(self._grace_s))

    def look_after(self, own: Mailbox) -> None:
        """Take over sessions that are this worker's to take, and end those that are empty. `own`: the worker's own mailbox."""
        for member, mailbox in list(self._mailboxes.items()):
            self._check(member, mailbox)
        if not own.online:
            return
        now = time.monotonic()
        if not self._peers.knows_me and now >= self._announce_at and now - own.busy_at > _QUIET_S:
            self._announce_at = now + _ANNOUNCE_S
            own.say(self._peers.topic(self._peers.me), self._peers.payload("here"))
        for member in self._peers.to_inherit(self._grace_s):
            if member not in self._mailboxes and len(self._mailboxes) < _AT_ONCE:
                log.info("%s is gone: taking over what the broker keeps for it", member)
                self._mailboxes[member] = self._open(member)
                self._mailboxes[member].start()

    def close(self) -> None:
        """Let go of the sessions; another peer will take them."""
        for mailbox in self._mailboxes.values():
            mailbox.close(timeout_s=0.0)
        for mailbox in self._mailboxes.values():  # all say goodbye at the same time
            mailbox.close()
        self._mailboxes.clear()

    def _check(self, member: str, mailbox: Mailbox) -> None:
        if mailbox.over:
            del self._mailboxes[member]
            log.info("what the broker keeps for %s is for later (%s)", member, mailbox.trouble)
            self._peers.put_off(member, _AGAIN_S * random.uniform(1.0, 2.0))  # noqa: S311 - no secret
        elif time.monotonic() - mailbox.busy_at >= _QUIET_S and mailbox.is_drained():
            mailbox.close(end_session=True, say=(self._peers.topic(member), b""))
            del self._mailboxes[member]
            self._peers.forget(member)
            log.info("nothing is left of what the broker kept for %s", member)
