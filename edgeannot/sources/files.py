"""Picture files that are named, each annotated once and in that order; nothing is remembered, moved or deleted."""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import Field

from edgeannot.base.errors import FrameError, InputError, MissingError
from edgeannot.base.foreign import valid_text
from edgeannot.sources.contract import Context, Item, Source, SourceOptions, Stop, Tick
from edgeannot.sources.turn import UNREADABLE, PictureDecoder, Turns
from edgeannot.vision.data import Failure, Frame

__all__ = ["FilesOptions", "FilesSource", "check_files"]


class FilesOptions(SourceOptions):
    """Picture files; `edgeannot run FILE ...` makes this source."""

    kind: Literal["files"] = "files"
    paths: tuple[Path, ...] = Field(min_length=1, examples=[["/srv/pictures/1.jpg"]])
    """The files, in the order in which they are annotated, at each start again."""
    max_megapixels: float = Field(default=100.0, gt=0)
    """Larger pictures are refused before they are decoded."""
    max_decode_mb: int = Field(default=256, gt=0)
    """Memory that decoding one picture may take; see the folder's."""
    max_file_mb: int = Field(default=128, gt=0)
    """Larger files are refused before they are read."""


def check_files(paths: Sequence[Path]) -> None:
    """Raise MissingError for a file that is not there, InputError for what is no file, such as a folder."""
    for path in paths:
        try:
            mode = path.stat().st_mode
        except OSError as exc:
            advice = "; a camera or a stream is named by --camera" if ":/" in str(path) else ""
            raise MissingError(f"{path} cannot be read: {exc.strerror}{advice}") from exc
        if stat.S_ISDIR(mode):
            raise InputError(f"{path} is a folder: wanted picture files; annotate a folder with --watch {path} --once")
        if not stat.S_ISREG(mode):
            raise InputError(f"{path} is no file: wanted picture files, found a pipe, a device or a socket")


def short_names(paths: Sequence[Path]) -> dict[Path, str]:
    """Return the last parts of each path, as few as tell it from files of the same name in other folders, whatever their suffixes.

    paths: absolute. Case is no difference, as not every file system has it.

    >>> short_names([Path("/a/1.jpg"), Path("/b/1.png"), Path("/b/2.jpg")]).values()
    dict_values(['a/1.jpg', 'b/1.png', '2.jpg'])
    """
    parts = dict.fromkeys(paths, 1)
    while True:
        alike: dict[tuple[str, ...], list[Path]] = defaultdict(list)
        for path, count in parts.items():
            alike[tuple(part.casefold() for part in path.with_suffix("").parts[-count:])].append(path)
        longer = [path for group in alike.values() if len({path.parent for path in group}) > 1 for path in group]
        longer = [path for path in longer if parts[path] < len(path.parts) - 1]
        if not longer:
            return {path: "/".join(path.parts[-count:]) for path, count in parts.items()}
        for path in longer:
            parts[path] += 1


class FilesSource(Source):
    """Pictures of files. `items` may be called again: it begins anew."""

    def __init__(self, name: str, options: FilesOptions, context: Context) -> None:
        self.name = name
        self._paths = [Path(os.path.abspath(path.expanduser())) for path in options.paths]  # noqa: PTH100 - resolve() would follow links
        self._names = short_names(self._paths)
        for path in self._paths:
            for folder in context.results:
                if Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder)):
                    raise InputError(f"{path} lies where results are written ({folder}) and might be replaced by one; choose another --out")
        self._seq = 0
        self._left = len(self._paths)
        self._turns = Turns(name, context.at_work, self._tick)
        self._decoder = PictureDecoder(options.max_megapixels, options.max_decode_mb, options.max_file_mb, context.free_bytes)

    def items(self, stop: Stop) -> Iterator[Item]:
        """Yield each picture, or why it is none; see `Source.items`."""
        for number, path in enumerate(self._paths):
            if stop.is_set():
                return
            self._left = len(self._paths) - number - 1
            yield from self._item(path, stop)

    def _tick(self) -> Tick:
        return Tick(self._left)

    def _item(self, path: Path, stop: Stop) -> Iterator[Item]:
        name = valid_text(self._names[path])
        began = time.perf_counter()
        try:
            data, facts = self._read(path)
            digest = hashlib.blake2b(data, digest_size=16).digest()
            key = f"{self.name}\n{path}\n{digest.hex()}"
            ticket, picture = yield from self._turns.decode(key, name, stop, lambda alone: self._decoder.decode(data, smaller=alone))
        except FrameError as exc:
            yield Failure(self.name, name, exc.reason, f"{name}: {exc}", path)
            return
        if picture is None:
            return
        seq, self._seq = self._seq, self._seq + 1
        yield Frame(
            image=picture.image,
            source=self.name,
            seq=seq,
            captured_at=datetime.fromtimestamp(max(0.0, facts.st_mtime), UTC),
            identity=f"{name}#{digest.hex()}",
            path=path,
            decode_ms=(time.perf_counter() - began) * 1e3,
            name=name,
            content_hash=digest,
            whole_wh=(picture.width, picture.height),
            damage=picture.damage,
            own_folder=False,
            ticket=ticket,
        )

    def _read(self, path: Path) -> tuple[bytes, os.stat_result]:
        """Return the bytes of a file. Raises FrameError where it cannot be read or is too large."""
        try:
            with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
                facts = os.fstat(file.fileno())
                self._decoder.check_size(facts.st_size)
                return file.read(facts.st_size + 1), facts
        except OSError as exc:
            raise FrameError(f"the file cannot be read ({exc.strerror})", UNREADABLE) from exc
