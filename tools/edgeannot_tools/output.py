"""What the tools put out: files and folders, whole or not at all; and the console of their commands, which signals end cleanly.

Everything is written under another name first, then renamed.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text
from typer.core import TyperCommand

from edgeannot.base import atomicfile
from edgeannot.base.errors import InputError, UsageError
from edgeannot.base.foreign import printable
from edgeannot.base.streams import own_escapes

__all__ = [
    "Command",
    "open_console",
    "plain_table",
    "print_note",
    "require_png",
    "require_writable",
    "staged_folder",
    "track",
    "waiting",
    "write_together",
    "write_whole",
]


def require_writable(path: Path) -> None:
    """Raise InputError if a file cannot be written there; call it before the work."""
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if path.is_dir():
        raise InputError(f"{path} cannot be written: it is a folder; give the name of a file")
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        problem = "may not be written" if folder.is_dir() else "is a file"
        raise InputError(f"{path} cannot be written: {folder} {problem}; choose another path")


def require_png(path: Path, option: str) -> None:
    """Raise UsageError if the name of a picture to be written ends in something else than .png, which is what is in it."""
    if path.suffix.lower() != ".png":
        raise UsageError(f"{option}: wanted a name that ends in .png, found {path.name}")


def write_whole(path: Path, content: bytes | str) -> None:
    """Write the file so that a reader, or a power cut, meets the old content or the new, never a part. Text becomes UTF-8.

    Raises InputError when it cannot be written.
    """
    data = content.encode() if isinstance(content, str) else content
    try:
        atomicfile.write(path, data, mode=path.stat().st_mode & 0o777 if path.exists() else None, durable=True)
    except OSError as exc:
        raise InputError(f"{path} cannot be written ({exc.strerror}); choose another path or free space") from exc


def write_together(files: Mapping[Path, bytes]) -> None:
    """Write all of the files or none: each under another name in its folder first, then all are renamed, in their order.

    All may read them, as the daemon may run as another user. Raises InputError where one cannot be written.
    """
    target = next(iter(files))
    try:
        with ExitStack() as stack:  # leaves the last first
            for target, data in reversed(list(files.items())):
                file = stack.enter_context(atomicfile.new_file(target, mode=0o644, durable=True))
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
    except OSError as exc:
        raise InputError(f"{target} cannot be written ({exc.strerror}); choose another path with --out, or free space") from exc


@contextmanager
def staged_folder(target: Path) -> Iterator[Path]:
    """Return a folder to fill, which becomes `target` when the block ends well and disappears when it does not.

    Raises InputError when `target` holds something already: nothing of the user's is overwritten or mixed with new files; and when it
    cannot be written.
    """
    if target.is_file() or (target.is_dir() and any(target.iterdir())):
        raise InputError(f"{target} is there already and is not an empty folder; remove it, or name another output folder")
    try:
        stage = target.parent / f".{target.name}.{secrets.token_hex(4)}.partial"  # with_name refuses "."
        stage.mkdir(parents=True)
        try:
            yield stage
            stage.replace(target)
        except BaseException:
            shutil.rmtree(stage, ignore_errors=True)
            raise
    except OSError as exc:
        raise InputError(f"{target} cannot be written ({exc.strerror}); choose another path or free space") from exc


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


def plain_table(title: str | None = None, caption: str | None = None, *, words: Iterable[str] = (), numbers: Iterable[str] = ()) -> Table:
    """Return an empty table in the one style of all commands: a bold head, no lines, so that it can be copied and is narrow.

    words, numbers: its columns, those of words to the left.
    """
    left: Any = "left"
    whole = None if title is None else Text(title, no_wrap=True, overflow="ignore")  # a narrow table does not fold its title
    table = Table(
        title=whole, title_justify=left, title_style="", caption=caption, caption_justify=left, caption_style="",
        box=None, pad_edge=False, padding=(0, 2, 0, 0),
    )  # fmt: skip
    for column in words:
        table.add_column(column, overflow="fold")
    for column in numbers:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def print_note(console: Console, sentence: str) -> None:
    """Print a highlighted note."""
    console.print(Text.assemble(("note:", "yellow"), " ", sentence), soft_wrap=True)


T = TypeVar("T")


def track(items: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
    """Yield the same items, with a progress bar on standard error if that is a terminal."""
    if not sys.stderr.isatty():
        yield from items
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415 - only a terminal needs it

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
    with Console(file=own_escapes(sys.stderr), markup=False, emoji=False).status(printable(what)):
        yield
