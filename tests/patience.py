"""How long a test waits for what must come: one figure for all tests, and for the slowest machine they are to hold on."""

from __future__ import annotations

__all__ = ["DEADLINE_S"]

DEADLINE_S = 600.0
"""Seconds. It costs time only where a test fails; on a quarter of one core, with four lots of tests, all takes thirty times as long."""


class Clock:
    """A clock in seconds that stands still until a test sets `now`."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now
