"""A folder of pictures: those that are there, oldest first (with `once` by their paths), then those that arrive.

Each is taken once, and only when it is complete.

The caller pulls, so nothing is read ahead and nothing is skipped. Events come from inotify; a scan at start, after lost events and
every now and then covers what inotify does not see (network file systems, a folder that went away and came back).
"""

from __future__ import annotations

import contextlib
import logging
import os
import stat
import time
from collections.abc import Generator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from edgeannot.base.errors import MODEL_OUTPUT, ConfigError, FrameError
from edgeannot.base.file_signature import FileSignature
from edgeannot.base.foreign import valid_text
from edgeannot.sources.backlog import GONE, OLD_S, Backlog, brief, held_for_writing, why
from edgeannot.sources.contract import Context, Item, Source, Stop, Tick
from edgeannot.sources.directory_options import DirectoryOptions
from edgeannot.sources.folder import IDLE_S, Folder
from edgeannot.sources.moved import MovedFiles, content_hash
from edgeannot.sources.quarantine import FinishedFiles
from edgeannot.sources.turn import DEADLY, UNREADABLE, PictureDecoder, Turns
from edgeannot.vision.data import Failure, FileKey, Frame
from edgeannot.vision.picture_header import begins_as_picture

if TYPE_CHECKING:
    from edgeannot.vision.decode import Picture

__all__ = ["DirectorySource"]

FINAL_REASONS = frozenset({"too-large", "unsupported", "memory", DEADLY})
"""Failures that more bytes cannot cure; after any other the file may still be growing."""
DAMAGED = frozenset({"truncated", "damaged"})
"""Failures of a picture of which most may be there; it is read when the file does not grow any more."""

SIDE_SUFFIXES = frozenset(
    (  # noqa: SIM905 - a list of sixty lines says no more
        # text and data
        ".csv .db .dop .html .ini .json .jsonl .log .md .names .pdf .pp3 .sqlite .sqlite-shm .sqlite-wal .toml .txt .xml .xmp .yaml .yml "
        # documents, programs, archives
        ".bat .doc .docx .exe .js .odt .py .sh .xls .xlsx .7z .bz2 .gz .rar .tar .tgz .xz .zip "
        # sound and moving pictures
        ".aac .flac .m4a .mp3 .ogg .wav .3gp .avi .m4v .mkv .mov .mp4 .mpg .mts .webm .wmv"
    ).split()
)
"""Files that people and programs keep beside pictures. One that is indeed no picture is passed over without a word."""
RAW_SUFFIXES = frozenset({".arw", ".cr2", ".cr3", ".dng", ".nef", ".orf", ".raf", ".rw2"})
"""What cameras keep beside their JPEG. Some begin as a TIFF does, which holds a thumbnail only: passed over likewise."""

log = logging.getLogger(__name__)


class DirectorySource(Source):
    """Pictures of a folder. `items` may be called again after it ended; no picture is yielded twice."""

    def __init__(self, name: str, options: DirectoryOptions, context: Context) -> None:
        self.name = name
        self._options = options
        self.removes_input = options.after != "keep"
        self._context = context
        self._root = os.path.abspath(options.path.expanduser())  # noqa: PTH100 - the base of string paths
        self._backlog = Backlog(
            self._root,
            recursive=options.recursive,
            ignore=options.ignore,
            own=self._own_folders(),
            settle_s=options.settle_s,
            by_path=context.once,
        )
        quarantine = context.quarantine if options.quarantine == "move" else None
        self._finished = FinishedFiles(f"sources.{name}", Path(self._root), options.after, options.after_folder, quarantine)
        self._finished.check()
        self._folder = Folder(f"sources.{name}", self._backlog, recursive=options.recursive, rescan_s=options.rescan_s, once=context.once)
        self._moved = MovedFiles(name, self._root, context)
        self._failing: dict[str, tuple[FileSignature, float]] = {}
        self._seq = 0
        self._turns = Turns(name, context.at_work, self._tick)
        self._decoder = PictureDecoder(options.max_megapixels, options.max_decode_mb, options.max_file_mb, context.free_bytes)

    def items(self, stop: Stop) -> Iterator[Item]:
        """Yield pictures, see `Source.items`. Raises MissingError with `once` if the folder is missing."""
        try:
            spoke = time.monotonic()
            while not stop.is_set():
                if self._folder.scan_due:
                    for _ in self._folder.scan(stop):
                        yield self._tick()
                self._folder.listen(stop)
                self._backlog.settle()
                name = self._backlog.next()
                if name is None and self._context.once and not self._backlog:
                    return
                item = (yield from self._take(name, stop)) if name is not None else self._tick()
                if item is None and time.monotonic() - spoke > IDLE_S:  # a long row of files that are done already
                    item = self._tick()
                if item is not None:
                    self._moved.tell()
                    yield item
                    item = None  # not held while the next is decoded
                    spoke = time.monotonic()
        finally:
            self._moved.tell()
            self._folder.close()

    def _tick(self) -> Tick:
        return Tick(len(self._backlog), self._folder.trouble)

    def is_gone(self, path: str) -> bool:
        """Return whether the file is gone; one that cannot be checked counts as there."""
        try:
            os.lstat(f"{self._root}/{path}")
        except (FileNotFoundError, NotADirectoryError):
            return True
        except OSError:
            return False
        return False

    def finish(self, item: Frame | Failure) -> None:
        """Keep, move or delete the picture's file, unless another picture took its name in the meantime; a failure's has its place, but
        for a picture that was read and of which the model then made nothing plausible.
        """
        if item.path is None or item.key is None:
            return
        if isinstance(item, Frame):
            self._finished.clear_away(item.path, item.key.signature)
        elif item.reason == MODEL_OUTPUT:
            with contextlib.suppress(OSError):  # it has gone meanwhile
                if FileSignature.of(item.path.stat()) == item.key.signature:
                    self._finished.set_aside(item.path, item.key.path, FrameError(item.message, item.reason))

    def _own_folders(self) -> frozenset[str]:
        """Return the program's own folders that lie inside the watched one, relative to it."""
        root = os.path.realpath(self._root)
        context = self._context
        folders = [f for f in (*context.own_folders, *context.results, context.quarantine, self._options.after_folder) if f is not None]
        inside = []
        for folder in context.results:
            if Path(root).is_relative_to(os.path.realpath(folder)):  # each result would be a picture to annotate, for ever
                raise ConfigError(
                    f"sources.{self.name}: the watched folder {self._root} is inside {folder}, where results are written; choose another"
                )
        for folder in folders:
            relative = os.path.relpath(os.path.realpath(folder.expanduser()), root)
            if relative == ".":
                raise ConfigError(
                    f"sources.{self.name}: the folder {self._root} is watched and written to; "
                    "choose another one for results, quarantine or finished pictures"
                )
            if relative.split("/")[0] != "..":
                inside.append(relative)
        return frozenset(inside)

    # One file

    def _take(self, name: str, stop: Stop) -> Generator[Tick, None, Frame | Failure | None]:
        """Yield Ticks while other pictures go first; return the picture of a file, or None if it is done, gone or not ready."""
        path = Path(self._root, name)
        began = time.perf_counter()
        try:
            facts = path.stat()
        except OSError as exc:
            if exc.errno not in GONE:
                return self._withhold(path, name, f"the file cannot be accessed ({why(exc)})")
            log.debug("%s was removed before it was read", path)
            self._let_go(name)
            return None
        signature = self._undone(path, name, facts)
        if signature is None:
            return None
        shown, digest = valid_text(name), b""

        rests = _is_old(signature)

        def decode(isolated: bool) -> Picture | None:
            nonlocal digest
            data = self._read(path, signature)
            digest = content_hash(data or b"").digest()
            return self._decoder.decode(data, smaller=isolated, whole=not rests) if data is not None else None

        crash_key = f"{self.name}\n{name}\n{signature.size} {signature.mtime_ns} {signature.inode}"
        while True:
            try:
                ticket, picture = yield from self._turns.decode(crash_key, shown, stop, decode)
                break
            except FrameError as exc:
                if rests or exc.reason not in DAMAGED or not self._given_up(path, name, signature):
                    return self._fail(path, name, signature, exc)
                rests = True  # it will not become better: what there is of it counts
        if picture is None:
            self._backlog.look_again(name, signature)
            return None
        self._backlog.mark_seen(name, signature)
        self._let_go(name)
        self._seq += 1
        return Frame(
            image=picture.image,
            source=self.name,
            seq=self._seq - 1,
            captured_at=_moment(signature.mtime_ns),
            identity=f"{shown}#{digest.hex()}",
            path=path,
            decode_ms=(time.perf_counter() - began) * 1e3,
            name=shown,
            key=FileKey(name, signature, self._root),
            content_hash=digest,
            whole_wh=(picture.width, picture.height),
            damage=picture.damage,
            ticket=ticket,
        )

    def _undone(self, path: Path, name: str, facts: os.stat_result) -> FileSignature | None:
        """Return the signature of a file that is to be read now; None where it is no picture or is done."""
        signature = FileSignature.of(facts)
        if not stat.S_ISREG(facts.st_mode) or self._backlog.is_seen(name, signature):
            return None
        outcome = self._context.outcome(self.name, name, signature) or self._moved.outcome(name, signature)
        if outcome is not None:
            self.done_before += 1
            self._backlog.mark_seen(name, signature)
            self._finished.catch_up(path, name, signature, outcome)
            return None
        if _is_beside(path):
            self._backlog.mark_seen(name, signature)
            return None
        return signature

    def _read(self, path: Path, signature: FileSignature) -> bytes | None:
        """Return the file's bytes; None when it changed meanwhile or is gone. Raises FrameError: UNREADABLE where it is not given."""
        self._decoder.check_size(signature.size)
        try:
            with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
                data = file.read(signature.size + 1)
                same = FileSignature.of(os.fstat(file.fileno())) == signature
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise FrameError(f"the file cannot be read ({why(exc)})", UNREADABLE) from exc
        if same and len(data) != signature.size:  # /proc and some network file systems
            found = f"more than {signature.size}" if len(data) > signature.size else f"{len(data)}"
            raise FrameError(f"the file has {signature.size} bytes by its file system, but reading gave {found}", UNREADABLE)
        return data if same else None

    def _fail(self, path: Path, name: str, signature: FileSignature, exc: FrameError) -> Failure | None:
        """Return the Failure of a file that cannot be read, moved to quarantine; None while it may still be growing."""
        if exc.reason not in FINAL_REASONS and not self._given_up(path, name, signature):
            self._backlog.look_again(name, signature, min(self._options.retry_s, self._options.settle_s))
            return None
        if exc.reason == UNREADABLE:
            return self._withhold(path, name, str(exc))
        self._let_go(name)
        self._backlog.mark_seen(name, signature)
        moved = self._finished.set_aside(path, name, exc)
        how = "copied" if os.path.lexists(path) else "moved"  # a read-only medium keeps its files
        where = f"{how} to {moved}" if moved else "left where it is"
        message = f"{valid_text(name)}: {exc}; {where}"
        return Failure(self.name, valid_text(name), exc.reason, message, path, moved, FileKey(name, signature, self._root))

    def _withhold(self, path: Path, name: str, reason: str) -> Failure | None:
        """Return the Failure of a file that the system does not let us read now; it stays and is tried again.

        None if that was reported before.
        """
        self._failing.pop(name, None)
        if not self._backlog.withhold(name, reason):
            return None
        message = f"{brief(valid_text(name))}: {reason}; left where it is, tried again when it can be read"
        # Without a key: permissions and disks are put right without a trace in the signature, so the next start tries again.
        return Failure(self.name, valid_text(name), UNREADABLE, message, path)

    def _let_go(self, name: str) -> None:
        self._failing.pop(name, None)
        self._backlog.release(name)

    def _given_up(self, path: Path, name: str, signature: FileSignature) -> bool:
        """Return whether a file that cannot be read will not become better: it has not changed for a while and nobody writes to it."""
        now = time.monotonic()
        known, since = self._failing.get(name, (None, now))
        if known != signature:
            since = now
        self._failing[name] = (signature, since)
        if _is_old(signature):
            return True
        patience_s = OLD_S if held_for_writing(str(path)) else self._options.retry_s
        return now - since >= patience_s


def _is_old(signature: FileSignature) -> bool:
    """Return whether the file has not changed for so long that it will not grow any more."""
    return time.time() - signature.mtime_ns / 1e9 > OLD_S


def _moment(mtime_ns: int) -> datetime:
    """Return a file's time as UTC; now, where a file system gives a time outside the calendar."""
    try:
        return datetime.fromtimestamp(mtime_ns / 1e9, UTC)
    except (ValueError, OverflowError, OSError):
        return datetime.now(UTC)


def _is_beside(path: Path) -> bool:
    """Return whether this is a label file, a video, a raw file or the like, by its name and its first bytes."""
    if path.suffix.lower() in RAW_SUFFIXES:
        return True
    if path.suffix.lower() not in SIDE_SUFFIXES:
        return False
    try:
        with path.open("rb") as file:
            return not begins_as_picture(file.read(16))
    except OSError:
        return False  # reading it will say what is wrong
