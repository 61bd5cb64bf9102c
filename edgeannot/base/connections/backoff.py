"""How long to wait before something that failed is tried again: the one rule of this program."""

from __future__ import annotations

import random
from collections.abc import Callable

__all__ = ["backoff_s"]


def backoff_s(failures: int, first_s: float, longest_s: float, jitter: Callable[[], float] = random.random) -> float:
    """Return the wait after so many failures in a row: `first_s` after the first, doubled after each, at most `longest_s`.

    jitter: from 0 to 1; takes off up to a half, so that a fleet that lost its broker together does not come back together.

    >>> [backoff_s(failures, 1.0, 30.0, jitter=lambda: 0.0) for failures in (1, 2, 5, 6)]
    [1.0, 2.0, 16.0, 30.0]
    """
    return min(longest_s, first_s * 2.0 ** min(max(failures - 1, 0), 30)) * (1.0 - jitter() / 2)
