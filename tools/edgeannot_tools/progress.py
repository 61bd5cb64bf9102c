"""Progress of long work: a bar on a person's terminal, nothing in a pipe or a log."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from edgeannot.base.foreign import printable
from edgeannot.base.streams import own_escapes

__all__ = ["track", "waiting"]

T = TypeVar("T")


def track(items: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
    """The same items one by one, with a bar on standard error while they last when that is a terminal."""
    if not sys.stderr.isatty():
        yield from items
        return
    from rich.console import Console  # noqa: PLC0415 - only a terminal needs it
    from rich.progress import track as rich_track  # noqa: PLC0415 - as above

    console = Console(file=own_escapes(sys.stderr), markup=False, emoji=False)
    yield from rich_track(items, description=printable(what), total=total, console=console, transient=True)


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """A moving line on standard error, where that is a terminal, while a step of unknown length lasts."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console  # noqa: PLC0415 - only a terminal needs it

    with Console(file=own_escapes(sys.stderr), markup=False, emoji=False).status(printable(what)):
        yield
