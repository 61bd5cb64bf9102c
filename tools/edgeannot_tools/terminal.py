"""The console of the tools' commands, and their handling of signals."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn, TypeVar

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text
from typer.core import TyperCommand

from edgeannot.base.foreign import printable
from edgeannot.base.streams import own_escapes

__all__ = ["Command", "open_console", "plain_table", "print_note", "track", "waiting"]

PIPE_COLUMNS = 160
"""Wide enough for whole paths and tensor names; rich would take 80, which cuts them to pieces."""


class Command(TyperCommand):
    """A command that SIGTERM and SIGHUP end like Ctrl-C: incomplete files are removed first, the exit code is 128 + signal."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        with _ended_by_signals():
            return super().invoke(ctx)


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """While the block lasts these signals raise SystemExit, so that it is left through every `finally`; ignored ones stay ignored."""

    def end(number: int, _: object) -> NoReturn:
        signal.signal(number, signal.SIG_IGN)  # a second one would interrupt the removing
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():  # Python sets handlers nowhere else
        yield
        return
    replaced = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) is signal.SIG_DFL]
    for number in replaced:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in replaced:
            signal.signal(number, signal.SIG_DFL)


class _Console(Console):
    """A console that replaces control characters in the printed texts."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Return the segments with printable texts."""
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else printable(text, lines=True), style, control)


def open_console() -> Console:
    """Return the console of standard output. It prints names and paths literally: `[v2]` is not markup, `:dog:` not an emoji."""
    file = own_escapes(sys.stdout)
    console = _Console(file=file, markup=False, emoji=False, highlight=False)
    return console if console.is_terminal else _Console(file=file, width=PIPE_COLUMNS, markup=False, emoji=False, highlight=False)


def plain_table(title: str | None = None, caption: str | None = None) -> Table:
    """Return an empty table in the one style of all commands: a bold head, no lines, so that it can be copied and is narrow."""
    left: Any = "left"
    whole = None if title is None else Text(title, no_wrap=True, overflow="ignore")  # a narrow table does not fold its title
    return Table(
        title=whole, title_justify=left, title_style="", caption=caption, caption_justify=left, caption_style="",
        box=None, pad_edge=False, padding=(0, 2, 0, 0),
    )  # fmt: skip


def print_note(console: Console, sentence: str) -> None:
    """Print a highlighted note."""
    console.print(Text.assemble(("note:", "yellow"), " ", sentence), soft_wrap=True)


T = TypeVar("T")


def track(items: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
    """Yield the same items, with a progress bar on standard error if that is a terminal."""
    if not sys.stderr.isatty():
        yield from items
        return
    from rich.console import Console  # noqa: PLC0415 - only a terminal needs it
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415 - as above

    console = Console(file=own_escapes(sys.stderr), markup=False, emoji=False)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        yield from progress.track(items, total=total, description=printable(what))


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Show a spinner on standard error, if that is a terminal, during a step of unknown length."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console  # noqa: PLC0415 - only a terminal needs it

    with Console(file=own_escapes(sys.stderr), markup=False, emoji=False).status(printable(what)):
        yield
