"""Whether the wall clock is right: a board without a battery clock starts with a time of its own."""

from __future__ import annotations

import ctypes
from pathlib import Path

__all__ = ["clock_synced"]

_TIMEX_BYTES = 512  # more than struct timex has on any architecture
_TIME_ERROR = 5  # adjtimex(2): the clock is not synchronized


def clock_synced() -> bool:
    """Whether the kernel knows the clock as synchronized (NTP, PTP), or systemd-timesyncd says that it is."""
    if Path("/run/systemd/timesync/synchronized").exists():
        return True
    buffer = ctypes.create_string_buffer(_TIMEX_BYTES)  # modes = 0: only read
    try:
        state: int = ctypes.CDLL(None, use_errno=True).adjtimex(buffer)
    except (OSError, AttributeError):  # no such call here
        return False
    return state not in {-1, _TIME_ERROR}
