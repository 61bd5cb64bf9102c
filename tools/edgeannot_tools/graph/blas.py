"""How many threads numpy's matrix products take.

OpenBLAS, which numpy's wheels bring, has a thread a core, and they wait for each other without giving the core away. For products as
small as those of one layer this costs more than it brings: on two idle cores 64 products of (1024, 25) take six times as long with
two threads as with one, and on busy ones minutes go by for what takes seconds.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

__all__ = ["one_thread", "threads_settings"]

Setting = tuple[Callable[[], int], Callable[[int], None]]
PREFIXES, SUFFIXES = ("", "scipy_"), ("", "64_")
"""What builds put around the names of OpenBLAS's functions; numpy's wheels have both."""


@contextmanager
def one_thread() -> Iterator[None]:
    """Let numpy's matrix products run in the calling thread alone; no change where numpy came with another library than OpenBLAS."""
    before = [(put, get()) for get, put in threads_settings()]
    for put, _ in before:
        put(1)
    try:
        yield
    finally:
        for put, count in before:
            put(count)


def threads_settings() -> tuple[Setting, ...]:
    """Return what gets and what sets the number of threads of each OpenBLAS that is loaded: OpenCV's wheels bring one of their own."""
    lines = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace").splitlines()
    paths = {line.split(maxsplit=5)[-1] for line in lines if "openblas" in line}
    return tuple(setting for path in sorted(paths) if (setting := _setting_of(path)) is not None)


@cache
def _setting_of(path: str) -> Setting | None:
    library = ctypes.CDLL(path)
    for prefix in PREFIXES:
        for suffix in SUFFIXES:
            names = [f"{prefix}openblas_{verb}_num_threads{suffix}" for verb in ("get", "set")]
            if all(hasattr(library, name) for name in names):
                get, put = (getattr(library, name) for name in names)
                return get, put
    return None
