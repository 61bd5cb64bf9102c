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

__all__ = ["one_thread", "threads_setting"]

Setting = tuple[Callable[[], int], Callable[[int], None]]
PREFIXES, SUFFIXES = ("", "scipy_"), ("", "64_")
"""What builds put around the names of OpenBLAS's functions; numpy's wheels have both."""


@contextmanager
def one_thread() -> Iterator[None]:
    """Let numpy's matrix products run in the calling thread alone; no change where numpy came with another library than OpenBLAS."""
    setting = threads_setting()
    if setting is None:
        yield
        return
    get, put = setting
    before = get()
    put(1)
    try:
        yield
    finally:
        put(before)


@cache
def threads_setting() -> Setting | None:
    """Return what gets and what sets the number of threads of the OpenBLAS that is loaded; None where there is none."""
    lines = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace").splitlines()
    for path in dict.fromkeys(line.split(maxsplit=5)[-1] for line in lines if "openblas" in line):
        library = ctypes.CDLL(path)
        for prefix in PREFIXES:
            for suffix in SUFFIXES:
                names = [f"{prefix}openblas_{verb}_num_threads{suffix}" for verb in ("get", "set")]
                if all(hasattr(library, name) for name in names):
                    get, put = (getattr(library, name) for name in names)
                    return get, put
    return None
